import { resolveProfile } from '../../bits/errata.ts'
import { U64_MAX } from '../../bits/u64.ts'
import { HW_ERRATA } from '../../hw/errata.ts'
import type { IodaPlatformName } from '../../hw/ioda-platform.ts'
import { describeMachine } from '../description.ts'
import type { PowernvDescription, PowernvInput } from '../powernv/description.ts'
import { ERRATA } from '../registry.ts'
import type { Tally } from './tally.ts'

/** Groups that a machine is given; a host has a few dozen. */
const GROUPS_MAX = 256
/** Memory of the modelled host: what is never used costs nothing. */
export const HOST_RAM_BYTES = 1n << 36n
/** That of the emulated host (QEMU's powernv machine, `-m 2G`): how long the kernel's own windows are comes of it. */
const EMULATED_RAM_BYTES = 1n << 31n
/** RLIMIT_MEMLOCK that a kernel gives its first process (Linux v6.12 include/asm-generic/resource.h, MLOCK_LIMIT). */
export const MEMLOCK_BYTES = 8n << 20n
/** The process that all others come from. */
export const FIRST_PROCESS = 'init'
/** Whose errata a log has that names no kernel. */
export const DEFAULT_KERNEL = 'linux-6.12.95'
/** What QEMU's bare-metal machine does otherwise than the hardware that it stands for. */
const EMULATED = HW_ERRATA.map(({ id }) => id)

const EDU = { vendorId: 0x1234n, deviceId: 0x11e8n } as const
/** What a host bridge is, by the device number of its root port (vendor 0x1014). */
const BRIDGES: ReadonlyMap<bigint, IodaPlatformName> = new Map([
  [0x03dcn, 'PHB3'],
  [0x04c1n, 'PHB4'],
  [0x0652n, 'PHB5'],
])
const IBM = 0x1014n
const ADDRESS = /^([0-9a-f]{4,8}):([0-9a-f]{2}):([01][0-9a-f])\.([0-7])$/
const RELEASE = /^(\d{1,4}(?:\.\d{1,4}){1,3})/

/** A device as a mark names it. */
export interface ListedDevice {
  readonly line: number
  readonly address: string
  readonly vendorId: bigint
  readonly deviceId: bigint
  /** Undefined for a device of no IOMMU group. */
  readonly group: bigint | undefined
}

interface Place {
  readonly domain: number
  readonly bus: number
  readonly slot: number
  readonly function: number
}

/** The device that the emulated machine has where a log names none. */
const ASSUMED: ListedDevice = { line: 0, address: '0001:01:00.0', group: 0n, ...EDU }

/** Its number, where it is one that a group can have. */
const groupOf = ({ group = -1n }: ListedDevice): number | undefined =>
  group >= 0n && group < 0x8000_0000n ? Number(group) : undefined

const isEdu = (d: ListedDevice): boolean => d.vendorId === EDU.vendorId && d.deviceId === EDU.deviceId

function placeOf(address: string): Place | undefined {
  const [all, ...parts] = ADDRESS.exec(address) ?? []
  if (all === undefined) return undefined
  const [domain = 0, bus = 0, slot = 0, fn = 0] = parts.map((p) => Number.parseInt(p, 16))
  return { domain, bus, slot, function: fn }
}

/** What is known of the host when its first command comes. */
export interface ListedHost {
  readonly description: PowernvDescription
  /** Addresses of the devices that the model has. */
  readonly modelled: ReadonlySet<string>
  /** Addresses of devices that are there, and that the model does not have. */
  readonly others: ReadonlySet<string>
  /** Errata of a profile, of the log's kernel where none is given. */
  readonly profile: string
}

/** Collects what a transcript says of its host before the first command. */
export class HostList {
  readonly #devices: ListedDevice[] = []
  readonly #platforms = new Map<number, IodaPlatformName>()
  #release: { readonly text: string; readonly line: number } | undefined

  addKernel(text: string, line: number): void {
    this.#release ??= { text, line }
  }

  addDevice(device: ListedDevice): void {
    const platform = device.vendorId === IBM ? BRIDGES.get(device.deviceId) : undefined
    const place = placeOf(device.address)
    if (platform !== undefined && place !== undefined) this.#platforms.set(place.domain, platform)
    if (device.group !== undefined && this.#devices.length < 2 * GROUPS_MAX) this.#devices.push(device)
  }

  /** The host as the model makes it; what had to be assumed goes to the tally, with `line` where no other is. */
  describe(given: string | undefined, line: number, tally: Tally): ListedHost {
    const profile = given ?? this.#kernelProfile(line, tally)
    const listed = this.#devices.length > 0 ? this.#devices : [ASSUMED]
    if (this.#devices.length === 0) {
      tally.assume(
        line,
        `group 0 holds ${ASSUMED.address}, an edu device of QEMU: the log does not list devices`,
      )
    }
    const emulated = listed.find(isEdu)
    // What the user says comes last, so that an erratum of the host can be taken off.
    const errata = emulated === undefined ? profile : `${EMULATED.join(',')},${profile}`
    if (emulated !== undefined) {
      const { address, line: at } = emulated
      const quirks = HW_ERRATA.filter(({ id }) => resolveProfile(ERRATA, errata).has(id))
      const words = quirks.map(({ id, title }) => `${title} (${id}), `).join('')
      const what = `the host is QEMU's powernv machine, as ${address} is its edu device: ${words}edu forms addresses of 64 bits`
      tally.assume(at || line, what)
    }
    const machine: PowernvInput = {
      kind: 'powernv',
      profile: errata,
      ramBytes: emulated === undefined ? HOST_RAM_BYTES : EMULATED_RAM_BYTES,
      hostPageShift: this.#pageShift(line, tally),
      processes: [{ name: FIRST_PROCESS, memlockBytes: MEMLOCK_BYTES, hasIpcLock: true }],
      phbs: this.#phbs(listed, tally),
    }
    const has = (wanted: boolean) => new Set(listed.filter((d) => isEdu(d) === wanted).map((d) => d.address))
    return { description: describeMachine(machine), modelled: has(true), others: has(false), profile }
  }

  #kernelProfile(line: number, tally: Tally): string {
    const version = RELEASE.exec(this.#release?.text ?? '')?.[1]
    if (version !== undefined) return `linux-${version}`
    tally.assume(line, `the kernel is ${DEFAULT_KERNEL}: the log does not name it`)
    return DEFAULT_KERNEL
  }

  #pageShift(line: number, tally: Tally): 12 | 16 {
    const { text = '', line: at = line } = this.#release ?? {}
    if (text.includes('64k')) return 16
    // Debian's flavour without a suffix.
    if (text.endsWith('-powerpc64le')) return 12
    tally.assume(at, 'the kernel has system pages of 64 KiB: its release does not say')
    return 16
  }

  /** One PHB for each PCI domain, one PE for each group. */
  #phbs(devices: readonly ListedDevice[], tally: Tally): NonNullable<PowernvInput['phbs']> {
    const groups = new Map<number, { readonly place: Place; readonly devices: [ListedDevice, Place][] }>()
    const addresses = new Set<string>()
    for (const device of devices) {
      const place = placeOf(device.address)
      const number = groupOf(device)
      const group = groups.get(number ?? -1)
      const isElsewhere =
        group === undefined
          ? [...groups.values()].some((g) => isSameBus(g.place, place))
          : !isSameBus(group.place, place)
      const isLeftOut =
        place === undefined ||
        number === undefined ||
        groups.size >= GROUPS_MAX ||
        addresses.has(device.address)
      if (isLeftOut || isElsewhere) {
        tally.assume(
          device.line,
          `${device.address} of group ${device.group} is left out: a group is one PCI bus`,
        )
        continue
      }
      addresses.add(device.address)
      if (group === undefined) groups.set(number, { place, devices: [[device, place]] })
      else group.devices.push([device, place])
    }
    const domains = [...new Set([...groups.values()].map((g) => g.place.domain))]
    return domains.map((domain) => ({
      domain,
      name: `phb${domain}`,
      platform: this.#platforms.get(domain),
      pes: [...groups]
        .filter(([, g]) => g.place.domain === domain)
        .map(([group, g]) => ({
          group,
          bus: g.place.bus,
          devices: g.devices
            .filter(([d]) => isEdu(d))
            .map(([d, { slot, function: fn }]) => ({
              name: d.address,
              kind: 'edu' as const,
              slot,
              function: fn,
              dmaMask: U64_MAX,
            })),
        })),
    }))
  }
}

const isSameBus = (a: Place, b: Place | undefined): boolean => a.domain === b?.domain && a.bus === b.bus
