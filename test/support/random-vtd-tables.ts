import type { Prng } from '../../src/bits/prng.ts'
import type { TableFeatures } from '../../src/hw/vtd/tables/features.ts'
import type { NaiveRequest } from '../naive-vtd.ts'
import { ALL_FEATURES } from './vtd-tables.ts'

export const PAGES = 96
const ROOT = 1
const CONTEXTS = [2, 3]
const DIRECTORIES = [4, 5]
const PASID_TABLES = [6, 7]
const EXT_PASIDS = 8
/** Pages of the tables of each level, from level 1 on. */
const SECOND = [
  [16, 17, 18],
  [19, 20],
  [21, 22],
  [23, 24],
  [25, 26],
]
const FIRST = [
  [32, 33, 34],
  [35, 36],
  [37, 38],
  [39, 40],
  [41, 42],
]
const FIRST_PAGES = FIRST.flat()
const DEVFNS = [0, 1, 0x80]
const PASIDS = [0n, 1n, 65n]
const INDEXES = [0, 0, 0, 1, 1, 511]

export type Mode = NaiveRequest['mode']

/** Features of a unit that can do nearly everything. */
export function randomFeatures(r: Prng): TableFeatures {
  const features: Record<string, boolean | number> = { ...ALL_FEATURES }
  for (const [name, value] of Object.entries(features)) {
    // What only few entries use is left out more often.
    const often = name === 'hasSnoopControl' || name === 'hasFirst1G'
    if (typeof value === 'boolean' && r.oneIn(often ? 5 : 40)) features[name] = false
  }
  features['sagaw'] = r.pick([0b1110, 0b1110, 0b0110, 0b0010, 0b1100])
  features['hostAddressBits'] = r.pick([48, 48, 39, 52, 46])
  features['maxAddressBits'] = r.pick([57, 57, 48, 39])
  return features as unknown as TableFeatures
}

type Store = (address: number, word: bigint) => void

const chance = (r: Prng, percent: number): boolean => r.below(100) < percent
const flag = (r: Prng, at: number, percent: number): bigint => (chance(r, percent) ? 1n << BigInt(at) : 0n)
const pointer = (r: Prng, pages: readonly number[]): bigint => {
  if (r.oneIn(70)) return r.pick([BigInt(PAGES), 0xf_ffffn, 1n << 39n]) << 12n
  return BigInt(r.pick(pages)) << 12n
}
/** Now and then a bit above the width of memory, or another that should not be there. */
const spoiled = (r: Prng, reserved: bigint): bigint => {
  if (r.oneIn(120)) return 1n << BigInt(r.pick([39, 46, 48, 51]))
  return r.oneIn(120) ? r.u64() & reserved : 0n
}

function target(r: Prng, level: number): bigint {
  if (level === 1)
    return BigInt(r.pick([r.below(PAGES), 0xabcd, 0x200, 0x201, 0xfee00, 0xfeeff, 0xfedff, 0xfef00]))
  const large = level === 2 ? [0, 0x200, 0x8_0000, 0xfee00, 0xfec00] : [0, 0x4_0000, 0xc_0000, 0x8_0000]
  const off = r.oneIn(8) ? r.pick([1, 2, 0x100]) : 0
  return BigInt(r.pick(large) | off)
}

function secondEntry(r: Prng, level: number, index: number): bigint {
  const isLarge = (level === 2 || level === 3) && r.oneIn(6)
  const isFirstPage = level === 1 && FIRST_PAGES.includes(index) && !r.oneIn(20)
  let word = flag(r, 0, 92) | flag(r, 1, 88) | flag(r, 2, 85) | flag(r, 8, 30) | flag(r, 9, 30)
  word |= (isLarge ? 0x80n : 0n) | flag(r, 62, 2) | flag(r, 11, 4) | flag(r, 10, 20) | flag(r, 63, 20)
  if (level === 1) word |= flag(r, 7, 30)
  if (level > 3) word |= flag(r, 7, 1)
  if (isFirstPage) word |= BigInt(index) << 12n
  else if (level === 1 || isLarge) word |= target(r, level) << 12n
  else word |= pointer(r, SECOND[level - 2] as number[])
  return word | spoiled(r, 0n) | (r.u64() & (0x3ffn << 52n))
}

function firstEntry(r: Prng, level: number): bigint {
  const isLarge = (level === 2 || level === 3) && r.oneIn(6)
  let word = flag(r, 0, 97) | flag(r, 1, 85) | flag(r, 2, 90) | flag(r, 5, 40) | flag(r, 6, 30)
  word |= (isLarge ? 0x80n : 0n) | flag(r, 8, 20) | flag(r, 63, 6) | (r.u64() & 0xe18n)
  if (level === 1) word |= flag(r, 7, 30)
  if (level > 3) word |= flag(r, 7, 1)
  if (level === 1 || isLarge) word |= (target(r, level) << 12n) | (isLarge ? flag(r, 12, 20) : 0n)
  else word |= pointer(r, FIRST[level - 2] as number[])
  return word | spoiled(r, 0n) | (r.u64() & (0x7ffn << 52n))
}

function contextWords(r: Prng, mode: Mode): bigint[] {
  const present = flag(r, 0, 95) | flag(r, 1, 20)
  const aw = BigInt(r.pick([1, 2, 3, 3, 3, r.below(8)]))
  const second = pointer(r, (SECOND[Math.min(Number(aw) + 1, 4)] ?? []) as number[])
  const did = BigInt(r.below(4)) << 8n
  if (mode === 'legacy') {
    const type = BigInt(r.pick([0, 0, 0, 1, 1, 2, 3])) << 2n
    return [
      second | present | type | spoiled(r, 0xff0n),
      aw | did | (r.u64() & 0x78n) | spoiled(r, -1n << 24n),
    ]
  }
  if (mode === 'extended') {
    const type = BigInt(r.pick([0, 0, 1, 1, 2, 3, 4, 5, 5])) << 2n
    const flags = flag(r, 9, 50) | flag(r, 10, 40) | flag(r, 11, 90) | (r.u64() & 0x1e0n)
    const rights = flag(r, 4, 80) | flag(r, 5, 50) | flag(r, 24, 30) | flag(r, 25, 30) | flag(r, 26, 80)
    return [
      second | present | type | flags | spoiled(r, 0n),
      aw | did | rights | flag(r, 27, 50) | (spoiled(r, 0xf000_0000n) & 0xf000_0000n),
      pointer(r, [EXT_PASIDS]) | BigInt(r.pick([0, 2, 9])) | spoiled(r, 0xff0n),
      spoiled(r, 0xfffn),
    ]
  }
  return [
    pointer(r, DIRECTORIES) |
      present |
      flag(r, 2, 85) |
      flag(r, 3, 92) |
      flag(r, 4, 50) |
      (BigInt(r.pick([0, 0, 7])) << 9n) |
      spoiled(r, 0x1e0n),
    r.pick([...PASIDS, 0x2000n]) | flag(r, 20, 15) | spoiled(r, 0n),
    r.oneIn(50) ? 1n : 0n,
    r.oneIn(50) ? 1n : 0n,
  ]
}

function pasidWords(r: Prng): bigint[] {
  const aw = BigInt(r.pick([1, 2, 3, 3, r.below(8)]))
  const pgtt = BigInt(r.pick([1, 1, 1, 2, 2, 3, 3, 3, 4, r.below(8)]))
  const flpm = BigInt(r.pick([0, 0, 0, 1, 1, 2]))
  const first = pointer(r, SECOND[Math.min(Number(aw) + 1, 4)] as number[]) | flag(r, 0, 95) | flag(r, 1, 20)
  const third =
    pointer(r, FIRST[flpm === 1n ? 4 : 3] as number[]) | flag(r, 0, 85) | flag(r, 1, 85) | (flpm << 2n)
  return [
    first | (aw << 2n) | flag(r, 5, 30) | (pgtt << 6n) | flag(r, 9, 40) | spoiled(r, 0xc00n),
    BigInt(r.below(4)) |
      flag(r, 23, 92) |
      flag(r, 24, 10) |
      (r.u64() & (0x7fn << 25n)) |
      (r.oneIn(50) ? 1n << 18n : 0n),
    third | flag(r, 4, 40) | flag(r, 5, 85) | flag(r, 6, 30) | flag(r, 7, 30) | spoiled(r, 0xf00n),
    ...[3, 4, 5, 6, 7].map(() => (r.oneIn(200) ? 1n : 0n)),
  ]
}

/** Tables of a mode in the first pages of memory: mostly good, and wrong in every way now and then. */
export function randomTables(r: Prng, mode: Mode, store: Store): void {
  const all = (address: number, words: readonly bigint[]) =>
    words.forEach((w, i) => {
      store(address + i * 8, w)
    })
  const upper = mode === 'legacy' ? (r.oneIn(30) ? 1n : 0n) : pointer(r, CONTEXTS) | flag(r, 0, 97)
  all(ROOT * 4096, [pointer(r, CONTEXTS) | flag(r, 0, 98) | spoiled(r, 0xffen), upper])
  for (const page of CONTEXTS) {
    const devfns = mode === 'legacy' ? DEVFNS : [0, 1]
    for (const devfn of devfns)
      all(page * 4096 + devfn * (mode === 'legacy' ? 16 : 32), contextWords(r, mode))
  }
  for (const page of DIRECTORIES) {
    all(
      page * 4096,
      [0, 1].map(() => pointer(r, PASID_TABLES) | flag(r, 0, 97) | flag(r, 1, 10) | spoiled(r, 0xffcn)),
    )
  }
  for (const page of PASID_TABLES) for (const at of [0, 1]) all(page * 4096 + at * 64, pasidWords(r))
  for (const pasid of PASIDS) {
    const word = pointer(r, FIRST[3] as number[]) | flag(r, 0, 95) | flag(r, 11, 80) | (r.u64() & 0x18n)
    store(EXT_PASIDS * 4096 + Number(pasid) * 8, word | spoiled(r, 0x7e6n))
  }
  for (const [stage, entry] of [
    [SECOND, secondEntry],
    [FIRST, firstEntry],
  ] as const) {
    stage.forEach((pages, at) => {
      const indexes = at === 0 ? [0, 1, 511, ...FIRST_PAGES] : [0, 1, 511]
      for (const page of pages)
        for (const index of indexes) store(page * 4096 + index * 8, entry(r, at + 1, index))
    })
  }
}

function randomAddress(r: Prng): bigint {
  if (r.oneIn(30)) return 0xfee0_0000n + BigInt(r.below(0x10_0000))
  if (r.oneIn(20)) return r.u64()
  let address = BigInt(r.below(4096))
  for (let level = 1; level <= 5; level++) {
    const isUsed = level <= 3 || !r.oneIn(3)
    address |= BigInt(isUsed ? r.pick(INDEXES) : 0) << BigInt(12 + 9 * (level - 1))
  }
  const width = r.pick([39, 48, 48, 57])
  const cut = BigInt.asUintN(width, address)
  return r.oneIn(2) ? cut : BigInt.asUintN(64, BigInt.asIntN(width, cut))
}

/** A request of one of the devices of the tables. */
export function randomRequest(r: Prng, mode: Mode): NaiveRequest {
  const hasPasid = mode === 'legacy' ? r.oneIn(40) : r.oneIn(2)
  const kind = r.oneIn(6) ? (r.oneIn(3) ? 'translated' : 'translation') : 'untranslated'
  const need = r.pick(['r', 'r', 'w', 'w', 'rw', ...(hasPasid ? ['rx', 'x'] : [])])
  return {
    mode,
    root: BigInt((r.oneIn(80) ? PAGES : ROOT) * 4096),
    source: r.pick(DEVFNS) | (r.oneIn(60) ? 0x100 : 0),
    pasid: hasPasid ? r.pick([...PASIDS, ...PASIDS, 0x2000n]) : undefined,
    address: randomAddress(r),
    read: need.includes('r'),
    write: need.includes('w'),
    execute: need.includes('x'),
    privileged: hasPasid && r.oneIn(3),
    kind,
    zero: kind === 'untranslated' && need === 'r' && r.oneIn(8),
    noWrite: kind === 'translation' && r.oneIn(3),
  }
}
