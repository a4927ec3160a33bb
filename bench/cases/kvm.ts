import { rulesOf } from '../../src/bits/call.ts'
import { resolveProfile } from '../../src/bits/errata.ts'
import { Judge } from '../../src/check/judge.ts'
import { FileTable } from '../../src/kernel/files.ts'
import { KVM_ERRATA } from '../../src/kernel/kvm/errata.ts'
import type { GuestTceTable } from '../../src/kernel/kvm/guest-tce-table.ts'
import { KVM_H_PUT_TCE, KVM_H_PUT_TCE_INDIRECT, KVM_H_STUFF_TCE } from '../../src/kernel/kvm/hcall-calls.ts'
import { KvmHcalls } from '../../src/kernel/kvm/hcalls.ts'
import { Kvm } from '../../src/kernel/kvm/kvm.ts'
import type { KvmVm } from '../../src/kernel/kvm/kvm-vm.ts'
import { TCE_HCALL } from '../../src/kernel/tce-hcalls.ts'
import type { MultiLevelTable } from '../../src/table/multi-level-table.ts'
import { type CaseGroup, check, type LoopCase, type SetUp } from '../case.ts'
import { GUEST_BYTES, GUEST_UA, HwStand, WINDOW_BUS } from '../hw-stand.ts'

const LEVELS = 2
const PERM = 3
const LIOBN = 0x8000_0001 | 0
const LIOBN_HI = 0
const BUS_HI = Number(WINDOW_BUS >> 32n)
/** Hypercalls for lists that guests turn on. */
const { H_STUFF_TCE, H_PUT_TCE_INDIRECT } = TCE_HCALL
/** Guest pages that are put one after the other at most. */
const PLACES_MAX = 1024
const LIST_PAGES = 512
/** Where the guest has its list of TCEs: its last page. */
const LIST_GPA = GUEST_BYTES - 0x1_0000
const CALL_NS_MAX: Readonly<Record<'put' | 'list', number>> = { put: 25, list: 10 }
const HARDWARE_PAGE_NS_MAX = 4
/** A mapping that stays, as a guest at work has many. */
const KEPT_PAGES = 1

/** One page with each call, there with a TCE and back with 0; or lists that are put, and cleared with one value. */
type CallName = 'put' | 'list'
/** Nothing but the calls; their records; and all checkers that see them. */
type Watching = 'off' | 'on' | 'checkers'

interface Sizes {
  /** log2 of the guest's IOMMU page and of the hardware's. */
  readonly guestShift: number
  readonly pageShift: number
}

const placesOf = ({ guestShift }: Sizes): number => Math.min(PLACES_MAX, GUEST_BYTES / 2 ** guestShift / 2)

interface World {
  readonly stand: HwStand
  readonly vm: KvmVm
  readonly table: MultiLevelTable
  readonly guest: GuestTceTable
  readonly hcalls: KvmHcalls
}

/** A guest whose window has a hardware table behind it: 1 GiB of memory, all of it registered. */
function world({ guestShift, pageShift }: Sizes, watching: Watching): World {
  const stand = new HwStand({ records: watching !== 'off' })
  if (watching === 'checkers') stand.watch(new Judge())
  const table = stand.ready({ levels: LEVELS, log2Entries: Math.log2(GUEST_BYTES) - pageShift, pageShift })
  const { processes, memory, qemu, host } = stand
  const profile = resolveProfile(KVM_ERRATA, 'intended')
  const onBug = (why: string) => check(false, why)
  const kvm = new Kvm({
    processes,
    files: new FileTable(host.journal),
    memory,
    profile,
    hasV3Mmu: true,
    onBug,
  })
  const vm = kvm.createVm(qemu.mm)
  vm.setSlot({ slot: 0, gpa: 0n, bytes: BigInt(GUEST_BYTES), vaddr: GUEST_UA })
  for (const hcall of [H_STUFF_TCE, H_PUT_TCE_INDIRECT]) vm.setAnswers(hcall, true)
  const shift = BigInt(guestShift)
  const guest = kvm.createTable(vm, BigInt(LIOBN >>> 0), {
    pageShift: guestShift,
    offset: WINDOW_BUS >> shift,
    entries: BigInt(GUEST_BYTES) >> shift,
  })
  check(kvm.attach(guest, [table]) === 'done', 'the hardware table is behind that of the guest')
  const hcalls = new KvmHcalls(kvm)
  const last = GUEST_BYTES - KEPT_PAGES * 2 ** guestShift
  check(hcalls.putTce(vm, LIOBN_HI, LIOBN, BUS_HI, last, 0, PERM) >= 0, 'a page stays')
  return { stand, vm, table, guest, hcalls }
}

/** Every guest page is put once and cleared once; both are calls with their records of entry and return. */
const putAndClear =
  (call: CallName, sizes: Sizes, watching: Watching): SetUp =>
  (operations) => {
    const { stand, vm, table, guest, hcalls } = world(sizes, watching)
    const { stage, memory, qemu, host } = stand
    const { guestShift, pageShift } = sizes
    const count = 2 ** (guestShift - pageShift)
    const places = placesOf(sizes)
    const npages = call === 'put' ? 1 : Math.min(LIST_PAGES, places)
    const region = memory.find(qemu.mm, GUEST_UA, BigInt(GUEST_BYTES))
    const kept = KEPT_PAGES * count
    check(memory.mappedOf(region) === kept + 1, 'nothing else is mapped')
    const list = memory.toHpa(region, Number((GUEST_UA + BigInt(LIST_GPA)) >> 32n), LIST_GPA | 0, 12)
    check(list === 0, 'the list has memory')
    for (let i = 0; i < npages; i++)
      host.memory.storeU64be(memory.hpaPage, i * 8, 0, (i << guestShift) | PERM)
    const [put, indirect, stuff] = [KVM_H_PUT_TCE, KVM_H_PUT_TCE_INDIRECT, KVM_H_STUFF_TCE].map((d) =>
      stage.tag(d),
    )
    if (put === undefined || indirect === undefined || stuff === undefined) throw new Error('no tags')

    // Answers are places in the declarations: 1 for each call that is done, and the mappings that it leaves.
    const [putDone, listDone, stuffDone] = [
      rulesOf(KVM_H_PUT_TCE).done,
      rulesOf(KVM_H_PUT_TCE_INDIRECT).done,
      rulesOf(KVM_H_STUFF_TCE).done,
    ]
    const result = (isDone: boolean): number => (isDone ? 1 : 0) + memory.mappedOf(region) - kept
    const putOne = (place: number, tce: number): number => {
      const cause = stage.enter(put, LIOBN, 0, place << guestShift, BUS_HI, tce, 0)
      const done = hcalls.putTce(vm, LIOBN_HI, LIOBN, BUS_HI, place << guestShift, 0, tce)
      return result(stage.leave(put, cause, done) === putDone)
    }
    const putList = (place: number): number => {
      const cause = stage.enter(indirect, LIOBN, 0, place << guestShift, BUS_HI, LIST_GPA, 0, npages)
      const done = hcalls.putTceIndirect(
        vm,
        LIOBN_HI,
        LIOBN,
        BUS_HI,
        place << guestShift,
        0,
        LIST_GPA,
        0,
        npages,
      )
      return result(stage.leave(indirect, cause, done) === listDone)
    }
    const clear = (place: number): number => {
      const cause = stage.enter(stuff, LIOBN, 0, place << guestShift, BUS_HI, 0, 0, npages)
      const done = hcalls.stuffTce(vm, LIOBN_HI, LIOBN, BUS_HI, place << guestShift, 0, 0, 0, npages)
      return result(stage.leave(stuff, cause, done) === stuffDone)
    }
    const there = (place: number): number =>
      call === 'put' ? putOne(place, (place << guestShift) | PERM) : putList(place)
    const back = (place: number): number => (call === 'put' ? putOne(place, 0) : clear(place))
    const rounds = Math.max(1, operations / 2 / npages / count)
    const pass = (): number => {
      let sum = 0
      for (let i = 0; i < rounds; i++) {
        const place = (i * npages) & (places - 1)
        sum += there(place)
        sum = (sum + back(place)) | 0
      }
      return sum
    }
    check(there(0) === 2 + npages * count, 'guest pages are put')
    table.load(table.offset + npages * count - 1)
    guest.load(npages - 1)
    check((table.tceLo & PERM) === PERM && (guest.lo & PERM) === PERM, 'all of them, in both tables')
    check(back(0) === 2, 'and cleared')
    table.load(table.offset + npages * count - 1)
    guest.load(npages - 1)
    check(table.tceLo === 0 && guest.lo === 0, 'all of them')
    return { operations: rounds * npages * count * 2, pass }
  }

const caseOf = (call: CallName, sizes: Sizes, watching: Watching): LoopCase => {
  const count = 2 ** (sizes.guestShift - sizes.pageShift)
  const log2Entries = Math.log2(GUEST_BYTES) - sizes.pageShift
  const places = placesOf(sizes)
  const pages = call === 'put' ? 1 : Math.min(LIST_PAGES, places)
  const nsMax = (count > 1 ? HARDWARE_PAGE_NS_MAX : CALL_NS_MAX[call]) * (watching === 'checkers' ? 2 : 1)
  return {
    id: `kvm/${call}/${count}/${watching === 'checkers' ? 'all' : watching}`,
    operation: count > 1 ? 'hw page' : call === 'put' ? 'H_PUT_TCE' : 'TCE of list',
    operations: count === 1 && call === 'put' ? 1 << 18 : 1 << 20,
    setUp: putAndClear(call, sizes, watching),
    peer: {
      label: 'C',
      floor: ['put-clear', log2Entries, LEVELS, count * pages, places / pages],
      sameSum: true,
    },
    goal: { nsMax },
  }
}

const SIZES: readonly Sizes[] = [
  { guestShift: 16, pageShift: 16 },
  { guestShift: 16, pageShift: 12 },
  { guestShift: 24, pageShift: 16 },
]

export const KVM: CaseGroup = {
  title: 'Guest pages in hardware tables',
  note:
    'Ours: H_PUT_TCE with a TCE and with 0 (put), H_PUT_TCE_INDIRECT and H_STUFF_TCE of 512 (list), as KVM answers ' +
    'them, over guest pages of 1 (64K on 64K), 16 (64K on 4K) and 256 (16M on 64K) hardware entries, with the ' +
    "guest's own table, user addresses, counts, dirty pages, and kills. Records (on): those of the calls and four " +
    'for each; all: and all rules of `Judge`. C: look-up, count, atomic exchange and user address of each hardware ' +
    'entry; no guest table, no dirty pages, no kill, no records.',
  cases: (['off', 'on', 'checkers'] as const).flatMap((watching) =>
    (['put', 'list'] as const).flatMap((call) => SIZES.map((sizes) => caseOf(call, sizes, watching))),
  ),
}
