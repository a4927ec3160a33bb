import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { Journal } from '../../src/bits/state.ts'
import { U64_MAX } from '../../src/bits/u64.ts'
import { VhostIotlb } from '../../src/table/vhost-iotlb.ts'
import { FAULTS, NaiveIotlb, type NaiveMap, type NaiveOptions } from '../naive-iotlb.ts'

const MAX = 0xffff_ffff
const EDGES = [0, 1, 2, 0x7ff, 0x800, 0xfff, 0x1000, 0x7fff_ffff, 0x8000_0000, MAX - 0x800, MAX - 1, MAX]

type Words = [hi: number, lo: number]

/** Where ranges lie and how long they are: [start, last], now and then with last below start. */
type Shape = (p: Prng) => readonly [...start: Words, ...last: Words]

const plus = (hi: number, lo: number, bytes: number): Words => {
  const sum = lo + bytes
  return sum > MAX ? [Math.min(hi + 1, MAX), hi === MAX ? MAX : sum - MAX - 1] : [hi, sum]
}

const SHAPES: Readonly<Record<string, Shape>> = {
  'a few bytes': (p) => {
    const lo = p.below(64)
    return [0, lo, 0, p.oneIn(10) ? p.below(64) : lo + p.below(p.oneIn(4) ? 40 : 3)]
  },
  'inside one block of 2 KiB': (p) => {
    const lo = 0x1234_5000 + p.below(0x800)
    return [7, lo, 7, lo + p.below(p.oneIn(6) ? 0x800 : 16)]
  },
  'pages that seldom overlap': (p) => {
    const page = p.below(4096)
    return [0x100, page * 0x1000, 0x100, page * 0x1000 + (p.oneIn(9) ? p.below(8) : 0) * 0x1000 + 0xfff]
  },
  'pages across 4 GiB, with long ones': (p) => {
    const lo = (MAX - 0x80_0000 + 1 + p.below(4096) * 0x1000) % (MAX + 1)
    const hi = lo < HALF_LO ? 1 : 0
    return [hi, lo, ...plus(hi, lo, (p.oneIn(20) ? p.below(2048) : p.below(4)) * 0x1000 + 0xfff)]
  },
  anything: (p) => {
    const word = () => (p.oneIn(3) ? p.pick(EDGES) : p.int32() >>> 0)
    const [hi, lo] = [word(), word()]
    if (p.oneIn(40)) return [0, 0, MAX, MAX]
    if (p.oneIn(3)) return [hi, lo, ...plus(hi, lo, p.below(0x10000))]
    return [hi, lo, p.oneIn(2) ? hi : word(), word()]
  },
}
const HALF_LO = 0x8000_0000

const OPTIONS: readonly (readonly [weight: number, options: NaiveOptions])[] = [
  [4, { limit: 2048, retire: true }],
  [2, { limit: 2048, retire: false }],
  [6, { limit: 64, retire: true }],
  [2, { limit: 64, retire: false }],
  [2, { limit: 2, retire: true }],
  [1, { limit: 2, retire: false }],
  [1, { limit: 1, retire: true }],
  [1, { limit: 1, retire: false }],
  [1, { limit: 0, retire: true }],
  [1, { limit: 0, retire: true, enforcesLimit: false }],
  [1, { limit: 1, retire: true, enforcesLimit: false }],
  [1, { limit: 3, retire: false, enforcesLimit: false }],
  [2, { limit: 64, retire: true, splitsFullRange: false }],
]

const u32 = (n: number) => n >>> 0

/** The map in the fields. */
const shown = (t: VhostIotlb): NaiveMap => ({
  mapNumber: t.mapNumber,
  startHi: u32(t.startHi),
  startLo: u32(t.startLo),
  lastHi: u32(t.lastHi),
  lastLo: u32(t.lastLo),
  addrHi: u32(t.addrHi),
  addrLo: u32(t.addrLo),
  perm: t.perm,
})

const isSame = (a: NaiveMap | undefined, b: NaiveMap): boolean =>
  a !== undefined &&
  a.mapNumber === b.mapNumber &&
  a.startHi === b.startHi &&
  a.startLo === b.startLo &&
  a.lastHi === b.lastHi &&
  a.lastLo === b.lastLo &&
  a.addrHi === b.addrHi &&
  a.addrLo === b.addrLo &&
  a.perm === b.perm

/** Both sides, and one operation on both at a time; `difference` says what first came out different. */
class Pair {
  readonly iotlb: VhostIotlb
  readonly naive: NaiveIotlb
  operations = 0
  /** Most maps that there were. */
  peak = 0
  difference: string | undefined
  readonly #p: Prng
  readonly #shape: Shape
  #atHi = 0
  #atLo = 0

  constructor(options: NaiveOptions, shape: Shape, p: Prng, journal?: Journal) {
    this.iotlb = new VhostIotlb({ ...options, journal, key: 5 })
    this.naive = new NaiveIotlb(options)
    this.#p = p
    this.#shape = shape
  }

  step(): void {
    this.operations++
    const p = this.#p
    // Maps become many, then a part of them goes, again and again.
    const isGrowing = this.operations % 10_000 < 8000
    const what = p.below(1000)
    if (what < 400) this.#add()
    else if (what < (isGrowing ? 405 : 480)) this.#delete()
    else if (what < 580) this.#walk()
    else if (isGrowing || what < 999) this.#lookUp()
    else this.#reset()
    if (this.iotlb.count !== this.naive.maps.length) this.#differs('count')
    this.peak = Math.max(this.peak, this.iotlb.count)
  }

  /** All maps in their order, as texts. */
  lists(): readonly [string[], string[]] {
    const ours = [...this.iotlb.entries()].map(
      (m) => `${m.mapNumber} ${m.start} ${m.last} ${m.address} ${m.perm}`,
    )
    const word = (hi: number, lo: number) => (BigInt(hi) << 32n) | BigInt(lo)
    const theirs = this.naive.maps.map(
      (m) =>
        `${m.mapNumber} ${word(m.startHi, m.startLo)} ${word(m.lastHi, m.lastLo)} ${word(m.addrHi, m.addrLo)} ${m.perm}`,
    )
    return [ours, theirs]
  }

  #differs(what: string): void {
    this.difference ??= `operation ${this.operations}: ${what}`
  }

  #add(): void {
    const { iotlb, naive } = this
    const [startHi, startLo, lastHi, lastLo] = this.#shape(this.#p)
    const [addrHi, addrLo, perm] = [u32(this.#p.int32()), u32(this.#p.int32()), 1 + this.#p.below(3)]
    const code = iotlb.addLanes(
      startHi | 0,
      startLo | 0,
      lastHi | 0,
      lastLo | 0,
      addrHi | 0,
      addrLo | 0,
      perm,
    )
    if (code !== naive.add({ startHi, startLo, lastHi, lastLo, addrHi, addrLo, perm })) this.#differs('add')
    if (iotlb.addedMaps !== naive.parts.length) this.#differs('maps of an add')
    naive.parts.forEach(({ map, evicted }, part) => {
      if (part >= iotlb.addedMaps) return
      iotlb.showAdd(part)
      if (!isSame(map, shown(iotlb)) || iotlb.added !== map.mapNumber) this.#differs('map of an add')
      if (iotlb.evicted !== (evicted?.mapNumber ?? -1)) this.#differs('evicted')
      else if (
        evicted !== undefined &&
        (u32(iotlb.evictedStartHi) !== evicted.startHi ||
          u32(iotlb.evictedStartLo) !== evicted.startLo ||
          u32(iotlb.evictedLastHi) !== evicted.lastHi ||
          u32(iotlb.evictedLastLo) !== evicted.lastLo)
      ) {
        this.#differs('range of evicted')
      }
    })
  }

  #delete(): void {
    const [startHi, startLo, toHi, toLo] = this.#shape(this.#p)
    // Ranges alone would leave but a few maps where all overlap.
    const isByte = !this.#p.oneIn(8)
    const [lastHi, lastLo] = isByte ? [startHi, startLo] : [toHi, toLo]
    const maps = this.iotlb.deleteLanes(startHi | 0, startLo | 0, lastHi | 0, lastLo | 0)
    if (maps !== this.naive.delete(startHi, startLo, lastHi, lastLo)) this.#differs('delete')
  }

  #reset(): void {
    if (this.iotlb.reset() !== this.naive.delete(0, 0, MAX, MAX)) this.#differs('reset')
  }

  #walk(): void {
    const range = this.#shape(this.#p)
    const [startHi, startLo, lastHi, lastLo] = range
    let more = this.iotlb.firstLanes(startHi | 0, startLo | 0, lastHi | 0, lastLo | 0)
    let behind: NaiveMap | undefined
    for (let steps = this.#p.below(12); ; steps--) {
      const found = this.naive.find(startHi, startLo, lastHi, lastLo, behind)
      if (more !== (found !== undefined)) this.#differs('next')
      else if (more && !isSame(found, shown(this.iotlb))) this.#differs('map of a walk')
      if (found === undefined || !more || steps <= 0) return
      behind = found
      more = this.iotlb.next()
    }
  }

  /** One address: a new one, or the neighbourhood of the last, which the page cache may know. */
  #lookUp(): void {
    const p = this.#p
    if (p.oneIn(3)) {
      const [startHi, startLo, lastHi, lastLo] = this.#shape(p)
      this.#atHi = p.oneIn(2) ? startHi : lastHi
      this.#atLo = p.oneIn(2) ? startLo : lastLo
    } else if (!p.oneIn(4)) this.#atLo = u32((this.#atLo & ~0xfff) | p.below(0x1000))
    const [hi, lo] = [this.#atHi, this.#atLo]
    const found = this.naive.find(hi, lo, hi, lo)
    const isFound = this.iotlb.at(hi | 0, lo | 0)
    if (isFound !== (found !== undefined)) this.#differs('look-up')
    else if (isFound && !isSame(found, shown(this.iotlb))) this.#differs('map of a look-up')
    if (!isFound || found === undefined || !p.oneIn(3)) return
    const after = this.naive.find(hi, lo, hi, lo, found)
    const more = this.iotlb.next()
    if (more !== (after !== undefined)) this.#differs('next of a look-up')
    else if (more && !isSame(after, shown(this.iotlb))) this.#differs('map behind a look-up')
  }
}

interface Outcome {
  readonly operations: number
  /** Most maps that there were in each run. */
  readonly peaks: readonly number[]
  /** What first came out different. */
  readonly difference?: string
}

/** Runs of all shapes under all options, up to the first difference. */
function run(operationsOfAll: number, fault?: NaiveOptions['fault']): Outcome {
  const shapes = Object.entries(SHAPES)
  const weights = OPTIONS.reduce((sum, [weight]) => sum + weight, 0) * shapes.length
  let operations = 0
  let seed = 1
  const peaks: number[] = []
  for (const [weight, options] of OPTIONS) {
    for (const [name, shape] of shapes) {
      const pair = new Pair(fault === undefined ? options : { ...options, fault }, shape, new Prng(seed++))
      const end = Math.ceil((operationsOfAll * weight) / weights)
      while (pair.operations < end && pair.difference === undefined) pair.step()
      operations += pair.operations
      const where = `${name}, ${JSON.stringify(options)}`
      if (pair.difference !== undefined)
        return { operations, peaks, difference: `${where}: ${pair.difference}` }
      const [ours, theirs] = pair.lists()
      if (ours.join() !== theirs.join()) return { operations, peaks, difference: `${where}: lists` }
      peaks.push(pair.peak)
    }
  }
  return { operations, peaks }
}

describe("vhost's IOTLB, against a list of Linux's rules", () => {
  it('answers the same over a million operations', () => {
    const { operations, difference, peaks } = run(1_000_000)
    expect(difference).toBeUndefined()
    expect(operations).toBeGreaterThanOrEqual(1_000_000)
    // The largest container has many maps of each kind, and gets full.
    const large = peaks.slice(0, 2 * Object.keys(SHAPES).length)
    expect(Math.min(...large)).toBeGreaterThan(1000)
    expect(large.filter((peak) => peak === 2048).length).toBeGreaterThan(5)
  })

  it.each(FAULTS)('sees that %s', (fault) => {
    expect(run(100_000, fault).difference).toBeDefined()
  })

  it('goes back to any mark', () => {
    for (const [i, shape] of Object.values(SHAPES).entries()) {
      for (const [j, [, options]] of OPTIONS.entries()) {
        const journal = new Journal()
        journal.on = true
        const p = new Prng(100 * i + j)
        const pair = new Pair(options, shape, p, journal)
        const marks: { mark: number; hash: string; maps: NaiveMap[]; made: number }[] = []
        for (let round = 0; round < 60; round++) {
          marks.push({
            mark: journal.mark(),
            hash: journal.hash,
            maps: [...pair.naive.maps],
            made: pair.naive.made,
          })
          for (let n = p.below(30); n > 0; n--) pair.step()
          if (!p.oneIn(3)) continue
          const back = marks.splice(p.below(marks.length))[0]
          if (back === undefined) continue
          journal.rollback(back.mark)
          expect(journal.hash).toBe(back.hash)
          pair.naive.maps = [...back.maps]
          pair.naive.made = back.made
          const [ours, theirs] = pair.lists()
          expect(ours).toEqual(theirs)
        }
        expect(pair.difference).toBeUndefined()
      }
    }
  })
})

describe('with many maps', () => {
  const MAPS = 200_000
  const page = (n: number) => BigInt(n) << 12n

  it('finds each, loses each once, and keeps the order of ages', () => {
    const iotlb = new VhostIotlb({ limit: MAPS, retire: true })
    const p = new Prng(3)
    let wrong = 0
    const pages = Uint32Array.from({ length: MAPS * 2 }, (_, n) => n)
    for (let n = pages.length - 1; n > 0; n--) {
      const other = p.below(n + 1)
      ;[pages[n], pages[other]] = [pages[other] as number, pages[n] as number]
    }
    for (const [i, n] of pages.entries()) {
      if (iotlb.add(page(n), page(n) + 0xfffn, page(i), 3) !== 0) wrong++
      if (iotlb.evicted !== (i < MAPS ? -1 : i - MAPS + 1)) wrong++
    }
    for (const [i, n] of pages.entries()) {
      const isThere = iotlb.at(n >>> 20, (n << 12) | 0x123)
      if (isThere !== i >= MAPS || (isThere && iotlb.address !== page(i))) wrong++
    }
    expect(wrong).toBe(0)
    // Every other page goes by itself, the rest in runs of eight.
    let gone = 0
    for (let n = 0; n < MAPS * 2; n += 2) gone += iotlb.delete(page(n) + 5n, page(n) + 5n)
    for (let n = 0; n < MAPS * 2; n += 8) gone += iotlb.delete(page(n), page(n + 8) - 1n)
    expect([gone, iotlb.count]).toEqual([MAPS, 0])
    expect(iotlb.first(0n, U64_MAX)).toBe(false)
  })

  it('that all overlap', () => {
    const iotlb = new VhostIotlb({ limit: MAPS, retire: false })
    // Like shells: the later, the narrower.
    for (let n = 0; n < MAPS; n++) iotlb.add(BigInt(n), page(MAPS) - BigInt(n), 0n, 3)
    expect(iotlb.count).toBe(MAPS)
    for (const n of [0, 1, 77, MAPS / 2, MAPS - 1]) {
      // Above the last byte of shell n + 1, up to that of shell n.
      expect(iotlb.first(page(MAPS) - BigInt(n), U64_MAX)).toBe(true)
      expect(iotlb.mapNumber).toBe(1)
      const shells: number[] = []
      for (
        let more = iotlb.first(page(MAPS) - BigInt(n), U64_MAX);
        more && shells.length < 5;
        more = iotlb.next()
      ) {
        shells.push(iotlb.mapNumber)
      }
      expect(shells).toEqual([1, 2, 3, 4, 5].slice(0, n + 1))
    }
    // The outer ones go one by one: the next one answers.
    for (let n = 0; n < 1000; n++) {
      expect(iotlb.delete(page(MAPS) - BigInt(n), U64_MAX)).toBe(1)
      expect(iotlb.first(500_000n, 500_000n) && iotlb.mapNumber).toBe(n + 2)
    }
    expect(iotlb.delete(BigInt(MAPS), BigInt(MAPS))).toBe(MAPS - 1000)
  })

  it('with the same start', () => {
    const iotlb = new VhostIotlb({ limit: 5000, retire: true })
    for (let n = 1; n <= 8000; n++) {
      iotlb.add(0x1000n, 0x1000n + BigInt(n % 7), BigInt(n), 1)
      expect(iotlb.first(0x1000n, 0x1000n) && iotlb.mapNumber).toBe(Math.max(1, n - 4999))
    }
    // Numbers from 3001 on remain; those that reach byte 6 are 6 modulo 7.
    expect(iotlb.first(0x1006n, 0x1006n) && iotlb.mapNumber).toBe(3002)
    expect(iotlb.delete(0x1006n, 0x1006n)).toBe(715)
    expect(iotlb.first(0x1005n, 0x1005n) && iotlb.mapNumber).toBe(3001)
  })
})
