import { SpaprHcalls } from '../../src/kernel/qemu/spapr-hcalls.ts'
import { type CaseGroup, check, type LoopCase, type SetUp, type Work } from '../case.ts'
import { BUS_HI, busAddresses, PAGE_SHIFT, PERM, tceHi, tceLo } from '../patterns.ts'
import { dynamicWindow, Stand } from '../stand.ts'

const LOG2_ENTRIES = 16
const ENTRY_MASK = 2 ** LOG2_ENTRIES - 1
const LIOBN = 0x8000_0001 | 0
const OTHER_LIOBN = 0x8000_0000
const LIST_ENTRIES = 512
const LIST_PAGE = 0x100
const LIST_GPA = LIST_PAGE << 12
const H_SUCCESS = 0
const H_PARAMETER = -4

/** `rows`: the pages of a list lie one behind the other, as for a large buffer; `mixed`: anywhere. */
type CallName = 'put' | 'indirect/rows' | 'indirect/mixed' | 'stuff'

function port(recording: boolean, call: CallName = 'put'): { stand: Stand; hcalls: SpaprHcalls } {
  const stand = new Stand()
  stand.table(OTHER_LIOBN, { pageShift: 12, busOffset: 0n, entries: 1024 })
  stand.table(LIOBN >>> 0, dynamicWindow(LOG2_ENTRIES))
  for (let i = 0; i < LIST_ENTRIES; i++) {
    if (call === 'indirect/rows') stand.memory.storeU64be(LIST_PAGE, i * 8, 0, (i << PAGE_SHIFT) | PERM)
    else stand.memory.storeU64be(LIST_PAGE, i * 8, tceHi(i), tceLo(i))
  }
  stand.log.on = recording
  return { stand, hcalls: new SpaprHcalls(stand) }
}

/** Upper and lower lane of the bus address at which the 512 entries of call `i` begin. */
const runHi = (i: number): number => BUS_HI + (((i * LIST_ENTRIES) & ENTRY_MASK) >>> (32 - PAGE_SHIFT))
const runLo = (i: number): number => ((i * LIST_ENTRIES) & ENTRY_MASK) << PAGE_SHIFT

const putWork = (operations: number, recording: boolean): Work => {
  const { stand, hcalls } = port(recording)
  const { hi, lo, mask } = busAddresses(operations, LOG2_ENTRIES, 'random')
  const before = stand.log.length
  check(hcalls.putTce(0, LIOBN, 0, 0x1000, 0, 3) === H_PARAMETER, 'an address outside is refused')
  check(hcalls.putTce(0, LIOBN, BUS_HI, 0x30_0000, 0x12, 0x34_0003) === H_SUCCESS, 'an entry is put')
  check(hcalls.getTce(0, LIOBN, BUS_HI, 0x30_0000) === H_SUCCESS, 'an entry is got')
  check(hcalls.r4Hi === 0x12 && hcalls.r4Lo === 0x34_0003, 'it holds what was put')
  check(stand.log.length - before === (recording ? 7 : 0), 'records come where they are wanted')
  return {
    operations,
    pass(): number {
      let sum = 0
      for (let i = 0; i < operations; i++) {
        const at = i & mask
        const code = hcalls.putTce(0, LIOBN, hi[at] as number, lo[at] as number, tceHi(i), tceLo(i))
        sum = (sum + code + 1) | 0
      }
      return sum
    },
  }
}

function runWork(operations: number, recording: boolean, call: CallName): Work {
  const { stand, hcalls } = port(recording, call)
  const calls = Math.max(1, operations / LIST_ENTRIES)
  const indirect = (i: number) =>
    hcalls.putTceIndirect(0, LIOBN, runHi(i), runLo(i), 0, LIST_GPA, 0, LIST_ENTRIES)
  const stuff = (i: number) =>
    hcalls.stuffTce(0, LIOBN, runHi(i), runLo(i), 0, (i & 1) === 0 ? 0 : PERM, 0, LIST_ENTRIES)
  const one = call === 'stuff' ? stuff : indirect
  const { window } = stand.table(0x8000_0002, dynamicWindow(4))
  check(window.entries === 16 && one(3) === H_SUCCESS, 'the call goes through')
  const last = LIST_ENTRIES * 4 - 1
  check(hcalls.getTce(0, LIOBN, BUS_HI, last << PAGE_SHIFT) === H_SUCCESS, 'an entry is got')
  const lastLo =
    call === 'indirect/rows' ? ((LIST_ENTRIES - 1) << PAGE_SHIFT) | PERM : tceLo(LIST_ENTRIES - 1)
  check(hcalls.r4Lo === (call === 'stuff' ? PERM : lastLo), 'the last entry is written')
  return {
    operations: calls * LIST_ENTRIES,
    pass(): number {
      let sum = 0
      for (let i = 0; i < calls; i++) sum = (sum + one(i) + 1) | 0
      return sum
    },
  }
}

const setUpOf =
  (call: CallName, recording: boolean): SetUp =>
  (operations) =>
    call === 'put' ? putWork(operations, recording) : runWork(operations, recording, call)

const OPERATION: Readonly<Record<CallName, string>> = {
  put: 'H_PUT_TCE',
  'indirect/rows': 'entry of 512',
  'indirect/mixed': 'entry of 512',
  stuff: 'entry of 512',
}
const NS_MAX: Readonly<Record<CallName, number>> = {
  put: 25,
  'indirect/rows': 10,
  'indirect/mixed': 10,
  stuff: 10,
}

const caseOf = (call: CallName, recording: boolean): LoopCase => ({
  id: `${call}/${recording ? 'on' : 'off'}`,
  operation: OPERATION[call],
  operations: call === 'put' ? 1 << 19 : 1 << 21,
  setUp: setUpOf(call, recording),
  peer: { label: 'C', floor: [call.split('/')[0] as string, LOG2_ENTRIES], sameSum: true },
  goal: { nsMax: NS_MAX[call] },
})

export const HCALLS: CaseGroup = {
  title: 'TCE hypercalls',
  note:
    'Ours: SpaprHcalls as QEMU 7.2 answers them, 2^16 entries. C: the same checks and table, no records, no ' +
    'listeners. Records: three a call (enter, tce.set, return); an INDIRECT makes one for each row of pages, so one an entry where they lie anywhere (mixed).',
  cases: (['put', 'indirect/rows', 'indirect/mixed', 'stuff'] as const).flatMap((c) => [
    caseOf(c, true),
    caseOf(c, false),
  ]),
}
