import { type CaseGroup, check, type Goal, type LoopCase, type SetUp, type Work } from '../case.ts'
import {
  BareSide,
  BtreeSide,
  CachedSide,
  type IotlbSide,
  ListSide,
  MAP_BYTES,
  NOTHING,
} from '../iotlb-sides.ts'
import { randomIndices, shuffled, zipfIndices } from '../patterns.ts'

type Order = 'seq' | 'rand' | 'zipf'
type What = 'add' | 'get' | 'del' | 'swap'
type MakeSide = (maps: number) => IotlbSide

const cached: MakeSide = (maps) => new CachedSide(maps)
const bare: MakeSide = (maps) => new BareSide(maps)
const btree: MakeSide = () => new BtreeSide()
const list: MakeSide = () => new ListSide()

const SIZES = [
  ['64', 64],
  ['2^11', 2 ** 11],
  ['2^16', 2 ** 16],
  ['10^6', 10 ** 6],
] as const

/** A few maps are added and deleted in so many containers, or there would be too little to time. */
const CONTAINERS_MAX = 32
const CHECKED = 2000

const inOrder = (maps: number): Uint32Array => Uint32Array.from({ length: maps }, (_, i) => i)

/** All entries once. */
const allOf = (maps: number, order: Order): Uint32Array => (order === 'seq' ? inOrder(maps) : shuffled(maps))

/** Entries to go round in, and the mask. */
function someOf(operations: number, maps: number, order: Order): { at: Uint32Array; mask: number } {
  if (order === 'zipf') return zipfIndices(operations, maps)
  if (order === 'rand') return randomIndices(operations, maps)
  const { at, mask } = randomIndices(operations, maps)
  return { at: at.map((_, i) => i % maps), mask }
}

/** Every entry is found at its first and last byte, and between entries nothing; what is removed is gone. */
function checked(make: MakeSide, maps: number): void {
  const side = make(maps)
  const entries = shuffled(maps)
  for (const entry of entries) side.add(entry)
  const some = entries.subarray(0, CHECKED)
  for (const entry of some) {
    const first = side.find(entry, 0)
    check(first === Math.imul(entry, 40503) << 12 && side.find(entry, 0x1fff) === first + 0x1fff, 'an entry')
    check(side.find(entry, MAP_BYTES) === NOTHING, 'between two entries')
  }
  for (const entry of some) side.remove(entry)
  for (const entry of some) check(side.find(entry, 8) === NOTHING, 'an entry that is gone')
  for (const entry of entries.subarray(CHECKED)) check(side.find(entry, 8) !== NOTHING, 'an entry that stays')
}

/** Containers are filled, or emptied, map by map; the other half of it is not timed. */
function throughAll(
  make: MakeSide,
  maps: number,
  order: Order,
  what: 'add' | 'del',
  operations: number,
): Work {
  const containers = Math.max(1, Math.min(CONTAINERS_MAX, Math.floor(operations / maps)))
  const sides = Array.from({ length: containers }, () => make(maps))
  const entries = allOf(maps, order)
  const filling = shuffled(maps)
  const work = {
    operations: containers * maps,
    prepare(): void {
      for (const side of sides) {
        side.clear()
        if (what === 'del') for (const entry of filling) side.add(entry)
      }
    },
    pass(): number {
      let sum = 0
      for (const side of sides) {
        if (what === 'add') for (let i = 0; i < maps; i++) side.add(entries[i] as number)
        else for (let i = 0; i < maps; i++) side.remove(entries[i] as number)
        sum = (sum + side.find(entries[0] as number, 8)) | 0
      }
      return sum
    },
  }
  // A pass of few maps is too short to warm up.
  for (let done = 0; done < operations; done += work.operations) {
    work.prepare()
    work.pass()
  }
  return work
}

const work =
  (make: MakeSide, maps: number, order: Order, what: What): SetUp =>
  (operations) => {
    checked(make, maps)
    if (what === 'add' || what === 'del') return throughAll(make, maps, order, what, operations)
    const side = make(maps)
    for (const entry of shuffled(maps)) side.add(entry)
    const { at, mask } = someOf(operations, maps, order)
    if (what === 'swap') {
      return {
        operations,
        pass(): number {
          for (let i = 0; i < operations; i++) {
            const entry = at[i & mask] as number
            side.remove(entry)
            side.add(entry)
          }
          return side.find(at[0] as number, 8)
        },
      }
    }
    return {
      operations,
      pass(): number {
        let sum = 0
        for (let i = 0; i < operations; i++) {
          sum = (sum + side.find(at[i & mask] as number, (i * 0x48) & (MAP_BYTES - 1))) | 0
        }
        return sum
      },
    }
  }

/** Loops over 10^6 maps take long to set up. */
const pairsOf = (maps: number): { pairsMax?: number } => (maps >= 10 ** 6 ? { pairsMax: 1 } : {})

interface Row {
  readonly what: What
  readonly order: Order
  /** Through the tree. */
  readonly isBare?: boolean
  /** No other order, which the name then leaves out. */
  readonly isOnly?: boolean
  readonly goals?: Partial<Record<(typeof SIZES)[number][0], Goal>>
}

/** Goals in nanoseconds are half, or once, what Linux's tree took in user space; it has fewer checks to make. */
const ROWS: readonly Row[] = [
  { what: 'add', order: 'seq' },
  { what: 'add', order: 'rand', goals: { '2^16': { ratioMax: 0.5 } } },
  { what: 'get', order: 'seq' },
  { what: 'get', order: 'rand', goals: { '2^16': { ratioMax: 0.5 } } },
  { what: 'get', order: 'zipf' },
  { what: 'get', order: 'rand', isBare: true, isOnly: true, goals: { '2^16': { nsMax: 150 } } },
  { what: 'del', order: 'seq' },
  { what: 'del', order: 'rand', goals: { '2^16': { ratioMax: 0.5 } } },
  { what: 'swap', order: 'zipf', isOnly: true },
]

const OF_WHAT: Readonly<Record<What, string>> = {
  add: 'add',
  get: 'look-up',
  del: 'delete',
  swap: 'delete + add',
}

const againstBtree = ROWS.flatMap(({ what, order, isBare = false, isOnly = false, goals }) =>
  SIZES.map(([name, maps]): LoopCase => {
    const goal = goals?.[name]
    return {
      id: `iotlb/${isBare ? 'bare' : what}/${name}${isOnly ? '' : `/${order}`}`,
      operation: OF_WHAT[what],
      operations: 1 << 18,
      setUp: work(isBare ? bare : cached, maps, order, what),
      peer: { label: 'btree', setUp: work(btree, maps, order, what) },
      ...(goal === undefined ? {} : { goal }),
      ...pairsOf(maps),
    }
  }),
)

const againstList = (['get', 'add', 'del'] as const).flatMap((what) =>
  SIZES.slice(0, 2).map(
    ([name, maps]): LoopCase => ({
      id: `iotlb/list/${what}/${name}`,
      operation: OF_WHAT[what],
      operations: 1 << 17,
      setUp: work(cached, maps, 'rand', what),
      peer: { label: 'list', setUp: work(list, maps, 'rand', what) },
      ...(what === 'get' && maps === 2048 ? { goal: { ratioMax: 0.05 } } : {}),
    }),
  ),
)

export const IOTLB: CaseGroup = {
  title: "vhost's IOTLB",
  note:
    'Ours: VhostIotlb with maps of 8 KiB every 16 KiB: 64-bit ranges that may overlap, ages, a limit. get: one ' +
    'address, the page cache first; bare: as a range, which is always the tree. btree: npm sorted-btree, a B+ tree of ' +
    'numbers with the start as key, no overlaps, no ages, addresses below 2^53. list: objects in a linked list in the order ' +
    "of starts, each operation from its head, the shape of DPDK's IOTLB, in JavaScript. Zipf: exponent 0.99, the often used " +
    'entries spread over all.',
  cases: [...againstBtree, ...againstList],
}
