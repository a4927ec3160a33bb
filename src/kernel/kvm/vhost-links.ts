import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'
import type { AddressSpace } from '../../memory/address-space.ts'
import { TCE_PERM } from '../../table/tce-entry.ts'
import type { LinkedVhost, VhostLinkPort } from '../ports.ts'
import type { VhostRemedy } from '../vhost-remedy.ts'
import type { GuestTceTable } from './guest-tce-table.ts'
import type { KvmVm } from './kvm-vm.ts'

interface Link {
  readonly mm: AddressSpace
  readonly device: LinkedVhost
  /** The table that the device translates through. */
  readonly liobn: number
}

const hashOf = (links: readonly Link[]): number =>
  links.length === 0 ? 0 : keyOf(...links.flatMap(({ device, liobn }) => [device.name, liobn | 0]))

/**
 * The vhost devices that KVM has been told of, and what it does for them when a hypercall has written entries of a table:
 * nothing as kernels have it (erratum B8), or what one of the remedies would (`VHOST_REMEDIES`).
 */
export class VhostLinks {
  readonly remedy: VhostRemedy
  readonly #leavesAll: boolean
  readonly #leavesZero: boolean
  readonly #links: Held<readonly Link[]>

  constructor(journal: Journal, remedy: VhostRemedy) {
    this.remedy = remedy
    this.#leavesAll = remedy === 'h-too-hard'
    this.#leavesZero = remedy === 'stuff-too-hard'
    this.#links = new Held<readonly Link[]>(journal, 'kvm vhost links', [], hashOf)
  }

  /** Where the process with an address space tells of its devices. */
  portOf(mm: AddressSpace): VhostLinkPort {
    const links = this.#links
    const others = (device: LinkedVhost, liobn: number) =>
      links.value.filter((l) => l.device !== device || l.liobn !== liobn)
    return {
      opened: (device, liobn) => links.set([...others(device, liobn), { mm, device, liobn }]),
      closed: (device, liobn) => links.set(others(device, liobn)),
    }
  }

  /** Whether H_PUT_TCE of a value, given as its lower lane, is left to user space. */
  leavesPut(lo: number): boolean {
    return this.#leavesAll && (lo & TCE_PERM) === 0
  }

  /** The same for the first TCEs of a list: two lanes each, high first. */
  leavesList(list: Int32Array, count: number): boolean {
    if (!this.#leavesAll) return false
    for (let i = 0; i < count; i++) if (((list[i * 2 + 1] as number) & TCE_PERM) === 0) return true
    return false
  }

  /** The same for H_STUFF_TCE, whose value has no permissions. */
  leavesStuff(hi: number, lo: number): boolean {
    return this.#leavesAll || (this.#leavesZero && (hi | lo) === 0)
  }

  /** A hypercall of a VM has written entries [first, first + count) of the table of a LIOBN, from the window's start on. */
  wrote(vm: KvmVm, liobnHi: number, liobnLo: number, first: number, count: number): void {
    if (this.#links.value.length === 0) return
    const table = vm.tables.find((t) => t.liobnHi === liobnHi && t.liobnLo === liobnLo)
    if (table === undefined) return
    const { remedy } = this
    const own = this.#links.value.filter((l) => l.mm === vm.mm)
    const behind = own.filter((l) => l.liobn === liobnLo >>> 0)
    const shift = BigInt(table.pageShift)
    const iova = BigInt(table.offset + first) << shift
    const bytes = BigInt(count) << shift
    if (remedy === 'kill-hook') for (const { device } of behind) device.forget(iova, bytes)
    if (remedy !== 'mm-list' && remedy !== 'eventfd') return
    if (!takesBack(table, first, count)) return
    if (remedy === 'eventfd') for (const { device } of behind) device.signal(liobnLo >>> 0)
    else for (const device of new Set(own.map((l) => l.device))) device.forget(iova, bytes)
  }
}

/** Whether one of some entries lets no device through now. */
function takesBack(table: GuestTceTable, first: number, count: number): boolean {
  for (let entry = first; entry < first + count; entry++) {
    table.load(entry)
    if ((table.lo & TCE_PERM) === 0) return true
  }
  return false
}
