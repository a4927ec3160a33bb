import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Journal } from '../../src/bits/state.ts'
import { hiOf, loOf, swap32, wordOf } from '../../src/bits/u64.ts'
import { cellOf, HostMemory } from '../../src/memory/host-memory.ts'

/** First pages of chunks all over 52 bits, with a page on either side of a border. */
const PAGES = [0, 511, 512, 2 ** 21 - 1, 2 ** 31 - 1, 2 ** 31, 2 ** 40 - 1]
const page = fc.constantFrom(...PAGES)
const word = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })

const op = fc.oneof(
  fc.record({
    kind: fc.constantFrom('u64be', 'u64le', 'cells'),
    page,
    offset: fc.nat(8).map((n) => n * 8),
    word,
  }),
  fc.record({ kind: fc.constantFrom('u32be', 'u32le'), page, offset: fc.nat(16).map((n) => n * 4), word }),
  fc.record({ kind: fc.constant('bytes'), page, offset: fc.nat(90), data: fc.uint8Array({ maxLength: 90 }) }),
  fc.record({ kind: fc.constant('zero'), page }),
  fc.record({ kind: fc.constant('copy'), page, to: page }),
)
type Op = typeof op extends fc.Arbitrary<infer T> ? T : never

const make = (journal = new Journal()) => new HostMemory({ journal, ramBytes: 2 ** 52, maxBytes: 2 ** 26 })

function apply(memory: HostMemory, o: Op): void {
  if ('data' in o) expect(memory.writePage(o.page, o.offset, o.data, 0, o.data.length)).toBe(true)
  else if ('to' in o) {
    if (o.to !== o.page) memory.copyPages(o.page, o.to, 1)
  } else if ('word' in o) {
    const [hi, lo] = [hiOf(o.word), loOf(o.word)]
    const cells = o.kind === 'cells' ? memory.cellsOf(o.page) : undefined
    if (cells !== undefined) {
      const at = cellOf(o.page) + o.offset / 4
      cells[at] = swap32(hi)
      cells[at + 1] = swap32(lo)
    } else if (o.kind === 'u64be' || o.kind === 'cells') memory.storeU64be(o.page, o.offset, hi, lo)
    else if (o.kind === 'u64le') memory.storeU64le(o.page, o.offset, hi, lo)
    else if (o.kind === 'u32be') memory.storeU32be(o.page, o.offset, lo)
    else memory.storeU32le(o.page, o.offset, lo)
  } else memory.zeroPages(o.page, 1)
}

/** The naive model: an array of bytes a page. */
function applyNaive(pages: Map<number, Uint8Array>, o: Op): void {
  const bytes = pages.get(o.page)!
  const view = new DataView(bytes.buffer)
  if ('data' in o) bytes.set(o.data, o.offset)
  else if ('to' in o) pages.get(o.to)!.set(bytes)
  else if (!('word' in o)) bytes.fill(0)
  else if (o.kind.startsWith('u64') || o.kind === 'cells')
    view.setBigUint64(o.offset, o.word, o.kind === 'u64le')
  else view.setUint32(o.offset, Number(o.word & 0xffff_ffffn), o.kind === 'u32le')
}

const naivePages = () => new Map(PAGES.map((p) => [p, new Uint8Array(4096)]))
const contents = (memory: HostMemory) =>
  PAGES.map((p) => {
    const bytes = new Uint8Array(200)
    memory.readPage(p, 0, bytes, 0, 200)
    return bytes
  })

describe.each([
  ['without an undo log', false],
  ['with an undo log', true],
])('host memory %s', (_how, on) => {
  it('holds the bytes that were written, and reads them in every way', () => {
    fc.assert(
      fc.property(fc.array(op, { maxLength: 12 }), page, fc.nat(8), (ops, at, n) => {
        const journal = new Journal()
        journal.on = on
        const memory = make(journal)
        const naive = naivePages()
        for (const o of ops) {
          apply(memory, o)
          applyNaive(naive, o)
        }
        expect(contents(memory)).toEqual([...naive.values()].map((b) => b.slice(0, 200)))
        const view = new DataView(naive.get(at)!.buffer)
        expect(memory.loadU64be(at, n * 8) && wordOf(memory.wordHi, memory.wordLo)).toBe(
          view.getBigUint64(n * 8),
        )
        expect(memory.loadU64le(at, n * 8) && wordOf(memory.wordHi, memory.wordLo)).toBe(
          view.getBigUint64(n * 8, true),
        )
        expect(memory.loadU32be(at, n * 4)).toBe(view.getInt32(n * 4))
        expect(memory.loadU32le(at, n * 4)).toBe(view.getInt32(n * 4, true))
      }),
      { numRuns: 40 },
    )
  })
})

it('host memory goes back to a mark, and its hash does not depend on the way', () => {
  const ops = fc.array(op, { maxLength: 8 })
  fc.assert(
    fc.property(ops, ops, (list, more) => {
      const journal = new Journal()
      journal.on = true
      const memory = make(journal)
      for (const o of list) apply(memory, o)
      const before = { hash: journal.hash, contents: contents(memory) }
      const mark = journal.mark()
      for (const o of more) apply(memory, o)

      const other = new Journal()
      other.on = true
      const straight = make(other)
      for (const [i, bytes] of contents(memory).entries())
        straight.writePage(PAGES[i]!, 0, bytes, 0, bytes.length)
      expect(other.hash).toBe(journal.hash)

      journal.rollback(mark)
      expect({ hash: journal.hash, contents: contents(memory) }).toEqual(before)
    }),
    { numRuns: 40 },
  )
})

it('words that are 0 in a row are as many as one by one, across pages and stretches that hold nothing', () => {
  const place = fc.record({ page: fc.integer({ min: 500, max: 1600 }), word: fc.nat(511) })
  fc.assert(
    fc.property(
      fc.array(place, { maxLength: 4 }),
      place,
      fc.integer({ min: 0, max: 600_000 }),
      (set, from, most) => {
        const memory = make()
        const words = set.map(({ page: p, word: w }) => p * 512 + w)
        for (const [i, { page: p, word: w }] of set.entries()) memory.storeU64be(p, w * 8, i & 1, 1 - (i & 1))
        const start = from.page * 512 + from.word
        const next = Math.min(...words.filter((w) => w >= start), start + most)
        expect(memory.zeroWords(from.page, from.word * 8, most)).toBe(next - start)
      },
    ),
  )
})
