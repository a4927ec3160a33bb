import { hex } from '../../bits/u64.ts'
import type { Because } from './fault-log.ts'
import { TracedPages } from './traced-pages.ts'

const DEVICES_MAX = 8192
const LINES_OF_DEVICE_MAX = 4
const REGIONS_MAX = 512
/** Firmware keeps its own memory right behind what it leaves to the kernel: tables, and buffers of devices. */
const TAIL_BYTES = 64n << 20n

/** Memory that a log tells of. */
export interface Region {
  readonly first: bigint
  readonly last: bigint
  readonly line: number
  /** `usable RAM`, `reserved for a device by the firmware`, ... */
  readonly text: string
  /** The firmware says that a device goes on using it (RMRR). */
  readonly isOfDevice?: boolean
}

/** Without the segment where that is 0: faults name devices in either way. */
export const shortDevice = (device: string): string => device.replace(/^0{4,8}:/, '')

/** What a log says of its machine: devices, and memory. Bounded: what comes later is not kept. */
export class MachineFacts {
  readonly #devices = new Map<string, Because[]>()
  readonly #regions: Region[] = []
  readonly #zones: Region[] = []
  /** What the kernel's own trace in the log says of bus addresses. */
  readonly pages = new TracedPages()

  /** How many devices the log names in lines of their own. */
  get devices(): number {
    return this.#devices.size
  }

  device(device: string, line: number, text: string): void {
    const name = shortDevice(device)
    const known = this.#devices.get(name)
    if (known !== undefined) {
      if (known.length < LINES_OF_DEVICE_MAX) known.push({ line, text })
    } else if (this.#devices.size < DEVICES_MAX) this.#devices.set(name, [{ line, text }])
  }

  /** Lines that tell what a device is; none where the log does not name it. */
  linesOf(device: string): readonly Because[] {
    return this.#devices.get(shortDevice(device)) ?? []
  }

  region(region: Region): void {
    if (this.#regions.length < REGIONS_MAX) this.#regions.push(region)
  }

  /** Memory that the kernel uses. */
  zone(zone: Region): void {
    if (this.#zones.length < REGIONS_MAX) this.#zones.push(zone)
  }

  /** Whether an address lies right behind memory that the kernel uses: it is the firmware's. */
  behindKernel(address: bigint): Because | undefined {
    if (this.#zones.some(({ first, last }) => address >= first && address <= last)) return undefined
    const zone = this.#zones.find(({ last }) => address > last && address - last <= TAIL_BYTES)
    if (zone === undefined) return undefined
    const text = `as a physical address, ${hex(address)} lies right behind the memory that the kernel uses (to ${hex(zone.last)}): it is the firmware's`
    return { line: zone.line, text }
  }

  /** Regions that hold an address, those of devices first. */
  regionsAt(address: bigint): readonly Region[] {
    const holding = this.#regions.filter(({ first, last }) => address >= first && address <= last)
    return [...holding.filter((r) => r.isOfDevice === true), ...holding.filter((r) => r.isOfDevice !== true)]
  }
}
