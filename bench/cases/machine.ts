import { DMA_CODES } from '../../src/bits/codes.ts'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { Judge } from '../../src/check/judge.ts'
import type { DmaSpace } from '../../src/hw/dma-space.ts'
import { SpaprPhb } from '../../src/hw/spapr-phb.ts'
import type { SpaprTceTable } from '../../src/hw/spapr-tce-table.ts'
import { VioDevice } from '../../src/hw/vio-bus.ts'
import { SpaprHcalls } from '../../src/kernel/qemu/spapr-hcalls.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import { type CaseGroup, check, type SetUp } from '../case.ts'
import { placeIn, Xorshift } from '../patterns.ts'
import { Stand } from '../stand.ts'
import { hit, requestOf, type Watching } from './dma.ts'

const { MEMTX_OK, MEMTX_DECODE_ERROR } = DMA_CODES
const DDW_BUS = 1n << 59n
const OPERATION = 'DMA of 8 B'
const READ_WRITE = 3n
const READ = 1n
/** Pages of each window that are mapped. */
const MAPPED = 256
const SEATS = 1 << 16

/** A bus master: where its requests go, and at which addresses. */
interface Master {
  readonly space: DmaSpace
  readonly device: number
  readonly busOffset: bigint
  readonly pageShift: number
  /** Permissions that its pages are mapped with. */
  readonly perm: bigint
}

/** Four host bridges and a VIO device: 4K default windows, a 64K dynamic one, a 16M direct one, and one that may only be read. */
function masters(stand: Stand): Master[] {
  const { memory, liobns, log } = stand
  const hcalls = new SpaprHcalls(stand)
  const phb = (index: number): SpaprPhb => {
    const options = {
      name: `pci${index}`,
      index,
      buid: BigInt(index),
      pageShifts: [12, 16, 24],
      hasDdw: true,
    }
    const made = new SpaprPhb({ ...options, memory, liobns }, stand.tableParts)
    made.reset('power-on')
    return made
  }
  const map = (table: SpaprTceTable | undefined, bus: bigint, pageShift: number, perm: bigint): void => {
    for (let i = 0n; i < MAPPED; i++) {
      const ioba = bus + (i << BigInt(pageShift))
      const tce = (i << BigInt(pageShift)) | perm
      const liobn = (table?.liobn ?? 0) | 0
      check(hcalls.putTce(0, liobn, hiOf(ioba), loOf(ioba), hiOf(tce), loOf(tce)) === 0, 'a page is mapped')
    }
  }
  const master = (space: DmaSpace, busOffset: bigint, pageShift: number, perm: bigint): Master => {
    const device = log.names.intern(`device of ${space.unit}`)
    return { space, device, busOffset, pageShift, perm }
  }
  const dynamic = (index: number, pageShift: number): Master => {
    const { space, tables } = phb(index)
    tables[1]?.open({ pageShift, busOffset: DDW_BUS, entries: 1024 })
    map(tables[1], DDW_BUS, pageShift, READ_WRITE)
    return master(space, DDW_BUS, pageShift, READ_WRITE)
  }
  const plain = (index: number, perm: bigint): Master => {
    const { space, tables } = phb(index)
    map(tables[0], 0n, 12, perm)
    return master(space, 0n, 12, perm)
  }
  const vio = new VioDevice(
    { name: 'l-lan', reg: 0x7100_0002, windowBytes: 0x1000_0000n, memory, liobns },
    stand.tableParts,
  )
  vio.reset('power-on')
  map(vio.table, 0n, 12, READ_WRITE)
  return [
    plain(0, READ_WRITE),
    dynamic(1, 16),
    dynamic(2, 24),
    plain(3, READ),
    master(vio.space, 0n, 12, READ_WRITE),
  ]
}

/** The order in which masters act, made before anything is timed: a quarter of the requests write. */
function seats(all: readonly Master[]) {
  const random = new Xorshift()
  const who = new Uint8Array(SEATS)
  const hi = new Int32Array(SEATS)
  const lo = new Int32Array(SEATS)
  const isWrite = new Uint8Array(SEATS)
  let refused = 0
  for (let i = 0; i < SEATS; i++) {
    who[i] = random.next() % all.length
    isWrite[i] = random.next() % 4 === 0 ? 1 : 0
    const { busOffset, pageShift, perm } = all[who[i] as number] as Master
    const page = random.next() % MAPPED
    const address = busOffset + (BigInt(page) << BigInt(pageShift)) + BigInt(placeIn(page))
    hi[i] = hiOf(address)
    lo[i] = loOf(address)
    if (isWrite[i] === 1 && perm === READ) refused++
  }
  return { who, hi, lo, isWrite, refused }
}

/** All masters through one call site. */
const mixed =
  (watching: Watching): SetUp =>
  (operations) => {
    const stand = new Stand()
    const judge = new Judge()
    if (watching === 'checkers') judge.attach(stand.log)
    const all = masters(stand)
    stand.log.on = watching !== 'bare'
    const { who, hi, lo, isWrite, refused } = seats(all)
    const request = requestOf(stand)
    const one = (at: number): number => {
      const { space, device } = all[who[at] as number] as Master
      request.device = device
      request.hi = hi[at] as number
      request.lo = lo[at] as number
      request.isWrite = isWrite[at] === 1
      return space.request(request)
    }
    let found = 0
    for (let at = 0; at < SEATS; at++) {
      const code = one(at)
      check(code === MEMTX_OK || code === MEMTX_DECODE_ERROR, 'a request has its code')
      if (code === MEMTX_DECODE_ERROR) found++
    }
    check(found === refused && refused > 0, 'just the writes to read-only pages are refused')
    return {
      operations,
      pass(): number {
        let sum = 0
        for (let i = 0; i < operations; i++) sum = (sum + one(i & (SEATS - 1)) + 1) | 0
        return sum
      },
    }
  }

/** One operation as plain data, as scenarios and library calls have it. */
const performed: SetUp = (operations) => {
  const description = describeMachine({ phbs: [{ name: 'pci0', devices: [{ name: 'edu0', kind: 'edu' }] }] })
  const machine = createMachine(description, { keepRecords: 1 << 15 })
  const args = { liobn: 0x8000_0000n, ioba: 0x1000n, tce: 0x20_0003n }
  const put = { verb: 'hcall', call: 'H_PUT_TCE', args } as const
  check(machine.perform(put).code === 'H_SUCCESS', 'the operation succeeds')
  return {
    operations,
    pass(): number {
      let sum = 0
      for (let i = 0; i < operations; i++) if (machine.perform(put).code === 'H_SUCCESS') sum++
      return sum
    },
  }
}

export const MACHINE: CaseGroup = {
  title: 'A machine of many kinds',
  note:
    'Four host bridges (4K default windows, one of them read-only, 64K dynamic, 16M direct) and a VIO device through ' +
    'one call site, a quarter of the requests writes, 5 % refused (a refusal makes a record for every 4 bytes). Peer ' +
    'of machine/bare: the hit of one kind. machine/perform: an operation as plain data with its answer, which allocates.',
  cases: [
    {
      id: 'machine/bare',
      operation: OPERATION,
      operations: 1 << 19,
      setUp: mixed('bare'),
      peer: { label: 'one kind', setUp: hit('bare') },
    },
    {
      id: 'machine/records',
      operation: OPERATION,
      operations: 1 << 19,
      setUp: mixed('records'),
      peer: { label: 'bare', setUp: mixed('bare') },
    },
    {
      id: 'machine/checkers',
      operation: OPERATION,
      operations: 1 << 19,
      setUp: mixed('checkers'),
      peer: { label: 'records', setUp: mixed('records') },
    },
    {
      id: 'machine/perform',
      operation: 'put as data',
      operations: 1 << 16,
      setUp: performed,
      peer: { label: 'records', setUp: mixed('records') },
    },
  ],
}
