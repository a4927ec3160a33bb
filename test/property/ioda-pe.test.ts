import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { STOP } from '../../src/hw/pe-firmware.ts'
import type { DmaDir } from '../../src/table/hw-table.ts'
import type { MultiLevelTable } from '../../src/table/multi-level-table.ts'
import { dma, makePhb, openWindow } from '../support/ioda.ts'

const BASE_64 = 1n << 59n
const PAGE = 4096
/** Pages of memory that no table reaches, each with its own contents. */
const FIRST = 0x4000
const PAGES = 8

interface Step {
  readonly op: 'xchg' | 'kill' | 'read' | 'write' | 'thaw' | 'close'
  readonly window: number
  readonly slot: number
  readonly page: number
  readonly dir: DmaDir
  readonly offset: number
  readonly bytes: number
}

const slot = fc.constantFrom(0, 1, 2, 511, 512, 513, 2047, 2 ** 12 - 2)
const step: fc.Arbitrary<Step> = fc.record({
  op: fc.constantFrom(
    'xchg',
    'xchg',
    'xchg',
    'kill',
    'read',
    'read',
    'write',
    'write',
    'thaw',
    'close' as const,
  ),
  window: fc.nat(1),
  slot,
  page: fc.nat(PAGES - 1),
  dir: fc.constantFrom(0, 1, 2, 3, 3 as const),
  offset: fc.constantFrom(0, 1, PAGE - 4),
  bytes: fc.constantFrom(4, 8, PAGE + 8),
})

/** What the naive PE has: entries, what is remembered of them, bytes of memory. */
interface Naive {
  readonly tces: Map<string, { page: number; dir: number }>
  readonly cache: Map<string, { page: number; dir: number }>
  readonly memory: Uint8Array[]
  isFrozen: boolean
}

function make(levels: number, freeze: 'pe' | 'none') {
  const m = makePhb({ platform: 'PHB3', freeze, pageShift: 12, frames: 0x8000 })
  const pe = m.phb.addPe({ pe: 5, group: 1 })
  const open = (window: number) => openWindow(pe, { window, pageShift: 12, windowBytes: 1n << 24n, levels })
  const tables: MultiLevelTable[] = [open(0), open(1)]
  const memory = Array.from({ length: PAGES }, (_, i) => new Uint8Array(PAGE).fill(i + 1))
  memory.forEach((bytes, i) => void m.host.memory.writePage(FIRST + i, 0, bytes, 0, PAGE))
  const naive: Naive = { tces: new Map(), cache: new Map(), memory, isFrozen: false }
  return { ...m, pe, tables, naive, open, freeze }
}
type World = ReturnType<typeof make>

/** Bytes as a text: arrays are slow to compare. */
const textOf = (bytes: Uint8Array) => String.fromCharCode(...bytes)
const keyOf = (window: number, slotNumber: number) => `${window}:${slotNumber}`

/** A DMA page by page, from the cache or the entries. */
function naiveDma(w: World, s: Step, data: Uint8Array): { moved: number; bytes: Uint8Array } {
  const { naive } = w
  const out = new Uint8Array(s.bytes)
  let moved = 0
  for (let done = 0; done < s.bytes; ) {
    const at = s.slot * PAGE + s.offset + done
    const inPage = at % PAGE
    const piece = Math.min(s.bytes - done, PAGE - inPage)
    if (!naive.isFrozen) {
      const key = keyOf(s.window, Math.floor(at / PAGE))
      const found = naive.cache.get(key) ?? naive.tces.get(key)
      if (found !== undefined && found.dir !== 0) naive.cache.set(key, found)
      const allows = found !== undefined && (found.dir & (s.op === 'write' ? 2 : 1)) !== 0
      if (allows) {
        const page = naive.memory[found.page]!
        if (s.op === 'write') page.set(data.subarray(done, done + piece), inPage)
        else out.set(page.subarray(inPage, inPage + piece), done)
        moved += piece
      } else if (w.freeze === 'pe') naive.isFrozen = true
    }
    done += piece
  }
  return { moved, bytes: out }
}

function close(w: World, window: number): void {
  const table = w.tables[window]!
  expect(w.pe.ops?.unsetWindow(window)).toBe(0)
  table.put('vfio')
  w.tables[window] = w.open(window)
  for (const key of [...w.naive.tces.keys()]) if (key.startsWith(`${window}:`)) w.naive.tces.delete(key)
  w.naive.cache.clear()
}

function apply(w: World, s: Step): void {
  const { naive, pe } = w
  const table = w.tables[s.window]!
  const key = keyOf(s.window, s.slot)
  if (s.op === 'xchg') {
    expect(table.xchg(table.offset + s.slot, s.dir === 0 ? 0 : FIRST + s.page, s.dir)).toBe(0)
    naive.tces.set(key, { page: s.page, dir: s.dir === 2 ? 3 : s.dir })
  } else if (s.op === 'kill') {
    table.kill(table.offset + s.slot, 2)
    naive.cache.delete(key)
    naive.cache.delete(keyOf(s.window, s.slot + 1))
  } else if (s.op === 'thaw') {
    pe.stops.clearFreeze(STOP.BOTH)
    naive.isFrozen = false
  } else if (s.op === 'close') close(w, s.window)
  else {
    const text = s.op === 'write' ? String(s.page).repeat(s.bytes) : undefined
    const iova = (s.window === 1 ? BASE_64 : 0n) + BigInt(s.slot) * 4096n + BigInt(s.offset)
    const expected = naiveDma(w, s, new TextEncoder().encode(text))
    const { moved, buffer, code } = dma(pe, iova, s.bytes, text)
    expect([moved, code === 0]).toEqual([expected.moved, expected.moved === s.bytes])
    if (s.op === 'read') expect(textOf(buffer)).toBe(textOf(expected.bytes))
  }
  expect([pe.stops.latched === STOP.BOTH, w.phb.cache.count]).toEqual([naive.isFrozen, naive.cache.size])
}

const memoryOf = ({ host }: World) =>
  Array.from({ length: PAGES }, (_, i) => {
    const bytes = new Uint8Array(PAGE)
    host.memory.readPage(FIRST + i, 0, bytes, 0, PAGE)
    return textOf(bytes)
  })

const forms = [1, 2, 4].flatMap((levels) =>
  (['pe', 'none'] as const).map((freeze) => [levels, freeze] as const),
)

describe.each(forms)('DMA through tables of %i levels, freeze: %s', (levels, freeze) => {
  it('moves what a map of pages and a cache of it let through', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const w = make(levels, freeze)
        for (const s of steps) apply(w, s)
        expect(memoryOf(w)).toEqual(w.naive.memory.map(textOf))
      }),
      { numRuns: 25 },
    )
  })
})

it('windows, tables, cache, memory and frozen PEs go back to a mark', () => {
  const some = fc.array(step, { maxLength: 20 })
  fc.assert(
    fc.property(fc.constantFrom(...forms), some, some, ([levels, freeze], first, second) => {
      const w = make(levels, freeze)
      for (const s of first) apply(w, s)
      const state = () => ({
        hash: w.journal.hash,
        free: w.host.frames.free,
        memory: memoryOf(w),
        tables: w.pe.tables.map((t) => [t?.number, t?.references]),
        cached: w.phb.cache.count,
        isFrozen: w.pe.stops.latched === STOP.BOTH,
      })
      const before = state()
      const mark = w.journal.mark()
      for (const s of second) apply(w, s)
      w.pe.ops?.takeOwnership()
      w.pe.ops?.releaseOwnership()
      w.journal.rollback(mark)
      expect(state()).toEqual(before)
    }),
    { numRuns: 40 },
  )
})
