import { Judge } from '../../src/check/judge.ts'
import type { DmaRequest } from '../../src/hw/dma-request.ts'
import { DmaSpace } from '../../src/hw/dma-space.ts'
import { SpaprHcalls } from '../../src/kernel/qemu/spapr-hcalls.ts'
import { KIND } from '../../src/trace/event.ts'
import type { RecordLog } from '../../src/trace/record-log.ts'
import { type CaseGroup, check, type SetUp, type Work } from '../case.ts'
import { type Addresses, BUS_HI, busAddresses, PAGE_SHIFT, PERM, placeIn } from '../patterns.ts'
import { dynamicWindow, Stand } from '../stand.ts'

/** How much of what watches a machine is switched on. */
export type Watching = 'bare' | 'records' | 'checkers'

export type Writable<T> = { -readonly [K in keyof T]: T[K] }

const LOG2_PAGES = 9
const LIOBN = 0x8000_0001 | 0
const BYTES = 8
const MEMTX_OK = 0

/** A host bridge with one window of 512 live pages, each mapped by a hypercall, and memory behind. */
export function mappedBus(watching: Watching): { stand: Stand; space: DmaSpace; judge: Judge } {
  const stand = new Stand()
  const judge = new Judge()
  if (watching === 'checkers') judge.attach(stand.log)
  const table = stand.closedTable(LIOBN >>> 0)
  table.open(dynamicWindow(LOG2_PAGES))
  const hcalls = new SpaprHcalls(stand)
  for (let entry = 0; entry < 2 ** LOG2_PAGES; entry++) {
    const code = hcalls.putTce(0, LIOBN, BUS_HI, entry << PAGE_SHIFT, 0, ((entry * 2) << PAGE_SHIFT) | PERM)
    check(code === 0, 'a page is mapped')
    stand.memory.storeU64be(entry * 32, placeIn(entry), entry, ~entry)
  }
  stand.log.on = watching !== 'bare'
  const { stage, journal, memory } = stand
  return { stand, judge, space: new DmaSpace({ unit: 'phb0', tables: [table], memory, stage, journal }) }
}

export function requestOf(stand: { readonly log: RecordLog }): Writable<DmaRequest> {
  const device = stand.log.names.intern('edu0')
  return { device, hi: 0, lo: 0, buffer: new Uint8Array(64), at: 0, bytes: BYTES, isWrite: false }
}

/** Bus addresses in random order, one in each of the 512 pages: so few that the data stays in the cache. */
function addresses(operations: number): Addresses {
  const made = busAddresses(operations, LOG2_PAGES, 'random', 0)
  for (let i = 0; i < made.lo.length; i++) {
    const low = made.lo[i] as number
    made.lo[i] = low + placeIn(low >>> PAGE_SHIFT)
  }
  return made
}

/** A device reads eight bytes at random places of 512 pages; `passesTwice`: past three more trace points as well. */
export const hit =
  (watching: Watching, passesTwice = false): SetUp =>
  (operations) => {
    const { stand, space, judge } = mappedBus(watching)
    const { hi, lo, mask } = addresses(operations)
    const request = requestOf(stand)
    const { buffer } = request
    request.hi = BUS_HI
    request.lo = (5 << PAGE_SHIFT) + placeIn(5)
    const before = stand.log.length
    check(space.request(request) === MEMTX_OK && buffer[3] === 5, 'the device reads what is in memory')
    check(stand.log.length - before === (watching === 'bare' ? 0 : 3), 'a hit makes three records')
    check(watching !== 'checkers' || judge.uses.count === 1, 'the checkers see it')
    const { log } = stand
    const traced = KIND['dma.translate']
    return {
      operations,
      pass(): number {
        let sum = 0
        for (let i = 0; i < operations; i++) {
          const at = i & mask
          request.hi = hi[at] as number
          request.lo = lo[at] as number
          sum = (sum + space.request(request) + (buffer[3] as number)) | 0
          if (!passesTwice) continue
          if (log.on) log.append(traced, i, at, sum)
          if (log.on) log.append(traced, i, sum, at)
          if (log.on) log.append(traced, at, i, sum)
        }
        if (judge.findings.length > 0) throw new Error('wrong result: the checkers find something')
        return sum
      },
    }
  }

/** The parts of a hit without a trace point, put together by hand. */
const untraced: SetUp = (operations): Work => {
  const { stand, space } = mappedBus('bare')
  const { hi, lo, mask } = addresses(operations)
  const { memory } = stand
  const buffer = new Uint8Array(64)
  return {
    operations,
    pass(): number {
      let sum = 0
      for (let i = 0; i < operations; i++) {
        const at = i & mask
        const low = lo[at] as number
        if (!space.translate(hi[at] as number, low) || (space.perm & 1) === 0) continue
        const page = (space.gpaLo >>> 12) | ((low & 0xf000) >>> 12)
        if (memory.readPage(page, low & 0xfff, buffer, 0, BYTES)) sum = (sum + (buffer[3] as number)) | 0
      }
      return sum
    },
  }
}

const OPERATION = 'read of 8 B'
const OPERATIONS = 1 << 19

export const DMA: CaseGroup = {
  title: 'One DMA that hits',
  note:
    'Ours: DmaSpace.request, 512 pages of 64K at random. By hand: translation, permission and memory read without ' +
    'request, faults, pieces or trace points. dma/trace-points: the same hit with its three switched-off trace ' +
    'points passed twice, against once: what being switched off costs. dma/checkers: all rules of `Judge`.',
  cases: [
    {
      id: 'dma/bare',
      operation: OPERATION,
      operations: OPERATIONS,
      setUp: hit('bare'),
      peer: { label: 'by hand', setUp: untraced },
    },
    {
      id: 'dma/trace-points',
      operation: OPERATION,
      operations: OPERATIONS,
      setUp: hit('bare', true),
      peer: { label: 'once', setUp: hit('bare') },
      goal: { ratioMax: 1.03 },
    },
    {
      id: 'dma/records',
      operation: OPERATION,
      operations: OPERATIONS,
      setUp: hit('records'),
      peer: { label: 'bare', setUp: hit('bare') },
      goal: { ratioMax: 1.5 },
    },
    {
      id: 'dma/checkers',
      operation: OPERATION,
      operations: OPERATIONS,
      setUp: hit('checkers'),
      peer: { label: 'records', setUp: hit('records') },
    },
  ],
}
