import { type Erratum, resolveProfile } from '../../src/bits/errata.ts'
import { wordOf } from '../../src/bits/u64.ts'
import { updateErrata } from '../../src/kernel/kvm/entry-updates.ts'
import { KVM_ERRATA } from '../../src/kernel/kvm/errata.ts'
import { TableUpdates } from '../../src/kernel/kvm/table-updates.ts'
import { PreregisteredMemory } from '../../src/kernel/prereg/preregistered-memory.ts'
import type { MultiLevelTable } from '../../src/table/multi-level-table.ts'
import { UNLIMITED } from './host.ts'
import { makePhb, openWindow } from './ioda.ts'
import { mapAt } from './prereg.ts'

/** Where the vectors have guest RAM in the VMM, and in the host. */
export const U = 0x7000_0000_0000n
export const H = 0x10_0000_0000n
/** log2 of the guest's page in setup S1. */
export const GUEST_SHIFT = 24
export const S1 = { pageShift: GUEST_SHIFT, offset: 0x8_0000_0000n, entries: 0x400n }
/** it_offset of the hardware table of S1. */
export const OFFSET = 0x800_0000_0000
export const GIB16 = 1n << 34n
const PAGE = 0x1_0000n

export interface S1Options {
  readonly profile?: string
  readonly levels?: number
  readonly isReal?: boolean
  /** Bytes of guest RAM that are registered. */
  readonly registered?: bigint
  readonly errata?: readonly Erratum[]
}

/**
 * Setup S1 of the vectors on a PHB3: 16 GiB of guest RAM, registered, and a hardware table of 64 KiB pages with 2^18
 * entries at bus address 1 << 59, for a guest with pages of 16 MiB.
 */
export function setUpS1(options: S1Options = {}) {
  const { profile = 'intended', levels = 1, isReal = false, registered = GIB16 } = options
  const made = makePhb({ platform: 'PHB3', frames: 2 ** 21 })
  const { host, processes } = made
  // Guest RAM begins at H.
  host.frames.allocate(host.frames.owner('kernel'), 20)
  const qemu = processes.spawn('qemu', UNLIMITED)
  mapAt(qemu, U, GIB16)
  const memory = new PreregisteredMemory({ host })
  const region = memory.create(qemu.mm, qemu, U, registered)
  const pe = made.phb.addPe({ pe: 5, group: 1 })
  const table = openWindow(pe, { window: 1, pageShift: 16, windowBytes: GIB16, levels })
  const errata = updateErrata(resolveProfile(KVM_ERRATA, profile))
  const bugs: string[] = []
  const onBug = (why: string) => bugs.push(why)
  const updates = new TableUpdates({ host, memory, mm: qemu.mm, errata, onBug, isReal })
  const put = (entry: number, gpa: bigint, dir: 0 | 1 | 2 | 3 = 3, real?: TableUpdates) => {
    const ua = U + gpa
    const lanes = [Number(ua >> 32n), Number(BigInt.asIntN(32, ua))] as const
    return (real ?? updates).mapPage(table, GUEST_SHIFT, entry, ...lanes, dir)
  }
  return { ...made, qemu, memory, region, pe, table, updates, put, bugs, slots: slotsOf(table) }
}

/** TCEs and user addresses of slots. */
const slotsOf = (table: MultiLevelTable) => (slot: number) => {
  table.load(table.offset + slot)
  const tce = wordOf(table.tceHi, table.tceLo)
  table.userSlot(table.offset + slot, false)
  return [tce, wordOf(table.userHi, table.userLo)]
}

/** What 256 slots hold where a guest page maps guest memory at an address. */
export const mappedPage = (gpa: bigint, perm = 3n) =>
  Array.from({ length: 256 }, (_, k) => [(H + gpa + BigInt(k) * PAGE) | perm, U + gpa + BigInt(k) * PAGE])
export const EMPTY_PAGE = Array.from({ length: 256 }, () => [0n, 0n])
