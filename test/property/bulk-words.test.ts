import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { gpa, ua } from '../../src/bits/brand.ts'
import { Journal } from '../../src/bits/state.ts'
import { swap32 } from '../../src/bits/u64.ts'
import { ListMemory } from '../../src/machine/replay/list-memory.ts'
import { GuestMemory } from '../../src/memory/guest-memory.ts'
import type { BusMemory } from '../../src/memory/ports.ts'
import { TceStore } from '../../src/table/tce-store.ts'
import { makeHost, UNLIMITED } from '../support/host.ts'

const UA = 0x7f00_0000_0000n
const WORDS_MAX = 512
const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
const lanes = fc.array(int32, { maxLength: 2 * WORDS_MAX }).map((a) => Int32Array.from(a.slice(a.length & 1)))

/** What `loadWords` must find, word by word. */
function oneByOne(memory: BusMemory, page: number, count: number): { isThere: boolean; words: Int32Array } {
  const words = new Int32Array(count * 2)
  let isThere = true
  for (let i = 0; i < count; i++) {
    isThere = memory.loadU64be(page, i * 8)
    words[i * 2] = isThere ? memory.wordHi : 0
    words[i * 2 + 1] = isThere ? memory.wordLo : 0
  }
  return { isThere, words }
}

describe('words in bulk', () => {
  it('are those that memory gives one by one: written, untouched, and where there is none', () => {
    fc.assert(
      fc.property(lanes, fc.integer({ min: 1, max: WORDS_MAX }), (written, count) => {
        const { host, processes } = makeHost()
        const { mm } = processes.spawn('qemu', UNLIMITED)
        mm.mmap({ address: UA, bytes: 0x4000n, read: true, write: true, fixed: true, noreplace: false })
        const guest = new GuestMemory(host)
        guest.addSlot({ gpa: gpa(0n), bytes: 0x4000n, mm, ua: ua(UA) })
        for (const [page, memory] of [[1, guest] as const, [9, host.memory] as const]) {
          for (let i = 0; i < written.length; i += 2) {
            memory.storeU64be(page, i * 4, written[i] as number, written[i + 1] as number)
          }
        }
        const list = new ListMemory()
        list.present(written[0] ?? 0, written[1] ?? 0, 0x1_0000)
        for (const memory of [guest, host.memory, list] as BusMemory[]) {
          for (const page of [0, 1, 2, 9, 10, 5000]) {
            const into = new Int32Array(2 * WORDS_MAX).fill(77)
            const { isThere, words } = oneByOne(memory, page, count)
            expect(memory.loadWords(page, count, into)).toBe(isThere)
            expect(into.subarray(0, count * 2)).toEqual(words)
            expect(into.subarray(count * 2).every((lane) => lane === 77)).toBe(true)
            for (let i = 0; i < count; i++) {
              expect(memory.loadU64le(page, i * 8)).toBe(isThere)
              expect([swap32(memory.wordLo), swap32(memory.wordHi)]).toEqual([words[i * 2], words[i * 2 + 1]])
            }
          }
        }
      }),
      { numRuns: 50 },
    )
  })

  it('go into a table as they do one by one, over the borders of its chunks and with an undo log', () => {
    const entries = 3 * 2 ** 18
    const place = fc.oneof(
      fc.nat(entries - WORDS_MAX),
      fc.integer({ min: 2 ** 18 - WORDS_MAX, max: 2 ** 18 + 1 }),
    )
    fc.assert(
      fc.property(lanes, place, fc.boolean(), (list, first, keepsUndo) => {
        const journal = new Journal()
        journal.on = keepsUndo
        const make = (key: number) => new TceStore({ entries, journal, key, maxBytes: 2 ** 26 })
        const [bulk, single] = [make(1), make(2)]
        const count = list.length / 2
        if (count > 4) for (const store of [bulk, single]) store.set(first + 3, 5, 6)
        const before = journal.mark()
        bulk.setList(first, count, list)
        const marked = journal.mark() - before
        for (let i = 0; i < count; i++)
          single.set(first + i, list[i * 2 + 1] as number, list[i * 2] as number)
        expect(journal.mark() - before - marked).toBe(marked)
        expect(bulk.bytes).toBe(single.bytes)
        for (let entry = Math.max(0, first - 1); entry <= first + count; entry++)
          expect(bulk.get(entry)).toBe(single.get(entry))
        journal.rollback(before)
        expect(bulk.get(first)).toBe(keepsUndo ? 0n : single.get(first))
      }),
      { numRuns: 60 },
    )
  })
})
