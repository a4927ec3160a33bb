import type { Because } from './fault-log.ts'

const DEVICES_MAX = 8192
const LINES_OF_DEVICE_MAX = 4
const REGIONS_MAX = 512

/** Memory that a log tells of. */
export interface Region {
  readonly first: bigint
  readonly last: bigint
  readonly line: number
  /** `usable RAM`, `reserved for a device by the firmware`, ... */
  readonly text: string
}

/** Without the segment where that is 0: faults name devices in either way. */
export const shortDevice = (device: string): string => device.replace(/^0{4,8}:/, '')

/** What a log says of its machine: devices, and memory. Bounded: what comes later is not kept. */
export class MachineFacts {
  readonly #devices = new Map<string, Because[]>()
  readonly #regions: Region[] = []

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

  /** Regions that hold an address, in the order of the log. */
  regionsAt(address: bigint): readonly Region[] {
    return this.#regions.filter(({ first, last }) => address >= first && address <= last)
  }
}
