import { resolveProfile } from '../../src/bits/errata.ts'
import { KVM_ERRATA } from '../../src/kernel/kvm/errata.ts'
import { TableUpdates, updateErrata } from '../../src/kernel/kvm/table-updates.ts'
import { type CaseGroup, check, type LoopCase, type SetUp } from '../case.ts'
import { GUEST_BYTES, GUEST_UA, HwStand, WINDOW_BUS } from '../hw-stand.ts'

const LEVELS = 2
const READ_WRITE = 3
/** Guest pages that are put one after the other at most. */
const PLACES_MAX = 1024

interface Sizes {
  /** log2 of the guest's IOMMU page and of the hardware's. */
  readonly guestShift: number
  readonly pageShift: number
}

const placesOf = ({ guestShift }: Sizes): number => Math.min(PLACES_MAX, GUEST_BYTES / 2 ** guestShift)

/** Guest pages are put, then each is cleared again; both are so many swaps of hardware entries. */
const putAndClear =
  ({ guestShift, pageShift }: Sizes): SetUp =>
  (operations) => {
    const stand = new HwStand({ records: true })
    const { host, memory, qemu } = stand
    const table = stand.ready({ levels: LEVELS, log2Entries: Math.log2(GUEST_BYTES) - pageShift, pageShift })
    const errata = updateErrata(resolveProfile(KVM_ERRATA, 'intended'))
    const onBug = (why: string) => check(false, why)
    const updates = new TableUpdates({ host, memory, mm: qemu.mm, errata, onBug })
    const region = memory.find(qemu.mm, GUEST_UA, BigInt(GUEST_BYTES))
    const count = 2 ** (guestShift - pageShift)
    const places = placesOf({ guestShift, pageShift })
    const first = Number(WINDOW_BUS >> BigInt(guestShift))
    const uaHi = Number(GUEST_UA >> 32n)
    const rounds = Math.max(1, operations / 2 / count)
    const pass = (): number => {
      let sum = 0
      for (let i = 0; i < rounds; i++) {
        const place = i & (places - 1)
        sum += updates.mapPage(table, guestShift, first + place, uaHi, place << guestShift, READ_WRITE) + 1
        sum += memory.mappedOf(region)
        sum = (sum + updates.unmapPage(table, guestShift, first + place) + 1 + memory.mappedOf(region)) | 0
      }
      return sum
    }
    check(updates.mapPage(table, guestShift, first, uaHi, 0, READ_WRITE) === 0, 'a guest page is put')
    table.load(table.offset + count - 1)
    check((table.tceLo & READ_WRITE) === READ_WRITE && memory.mappedOf(region) === count + 1, 'all of it')
    check(updates.unmapPage(table, guestShift, first) === 0, 'and cleared')
    table.load(table.offset + count - 1)
    check(table.tceLo === 0 && memory.mappedOf(region) === 1, 'all of it')
    return { operations: rounds * count * 2, pass }
  }

const caseOf = (name: string, sizes: Sizes, nsMax: number): LoopCase => {
  const count = 2 ** (sizes.guestShift - sizes.pageShift)
  const log2Entries = Math.log2(GUEST_BYTES) - sizes.pageShift
  return {
    id: `kvm/${name}`,
    operation: 'swap of an entry',
    operations: count === 1 ? 1 << 17 : 1 << 19,
    setUp: putAndClear(sizes),
    peer: { label: 'C', floor: ['put-clear', log2Entries, LEVELS, count, placesOf(sizes)], sameSum: true },
    goal: { nsMax },
  }
}

export const KVM: CaseGroup = {
  title: 'Guest pages in hardware tables',
  note:
    'Ours: TableUpdates.mapPage and unmapPage as KVM puts and clears a guest page of 1 (64K on 64K), 16 (64K on 4K) ' +
    'and 256 (16M on 64K) hardware entries, with user addresses, counts, dirty pages, one kill for each guest page, ' +
    'and records: four for each of the two. C: look-up, count, atomic exchange and user address of each entry; no ' +
    'dirty pages, no kill, no records.',
  cases: [
    caseOf('1', { guestShift: 16, pageShift: 16 }, 25),
    caseOf('16', { guestShift: 16, pageShift: 12 }, 4),
    caseOf('256', { guestShift: 24, pageShift: 16 }, 4),
  ],
}
