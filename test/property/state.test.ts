import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Cells, Journal, keyOf } from '../../src/bits/state.ts'

const STORES = 3
const CELLS = 8
const int32 = fc.oneof(fc.constantFrom(0, 1, -1, -(2 ** 31), 2 ** 31 - 1), fc.integer())

/** Stores of cells, and a list that is no cell and tells the journal of its changes itself. */
function make(on = true) {
  const journal = new Journal()
  journal.on = on
  const stores = Array.from({ length: STORES }, (_, n) => new Cells(journal, keyOf('store', n), CELLS))
  const words = new Set<number>()
  const toggle = (word: number) => {
    if (words.delete(word)) journal.change(keyOf('word', word), 1, 0, () => words.add(word))
    else {
      words.add(word)
      journal.change(keyOf('word', word), 0, 1, () => words.delete(word))
    }
  }
  return { journal, stores, words, toggle }
}
type State = ReturnType<typeof make>

const op = fc.oneof(
  { weight: 4, arbitrary: fc.record({ store: fc.nat(STORES - 1), index: fc.nat(CELLS - 1), value: int32 }) },
  fc.record({ store: fc.nat(STORES - 1), from: fc.nat(CELLS), end: fc.nat(CELLS), value: int32 }),
  fc.record({ word: fc.nat(4) }),
)
type Op = typeof op extends fc.Arbitrary<infer T> ? T : never
const ops = fc.array(op, { maxLength: 30, size: 'max' })

function apply({ stores, toggle }: State, o: Op): void {
  if ('word' in o) toggle(o.word)
  else if ('index' in o) stores[o.store]!.set(o.index, o.value)
  else stores[o.store]!.fill(o.value, o.from, o.end)
}
const picture = ({ stores, words }: State) =>
  JSON.stringify([stores.map((s) => [...s.data]), [...words].sort()])

/** The same values, written once each. */
function straight(state: State): State {
  const other = make()
  for (const word of [...state.words].sort().reverse()) other.toggle(word)
  for (let n = STORES - 1; n >= 0; n--)
    for (let i = 0; i < CELLS; i++) other.stores[n]!.set(i, state.stores[n]!.get(i))
  return other
}

describe('the journal', () => {
  it('goes back to every mark, in any nesting', () => {
    fc.assert(
      fc.property(ops, ops, fc.array(fc.nat(29), { maxLength: 5 }), (list, more, stops) => {
        const state = make()
        const trail: { mark: number; hash: string; picture: string }[] = []
        const step = (o: Op) => {
          trail.push({ mark: state.journal.mark(), hash: state.journal.hash, picture: picture(state) })
          apply(state, o)
        }
        for (const o of list) step(o)
        for (const stop of stops) {
          if (stop < trail.length) {
            const [there] = trail.splice(stop) as [(typeof trail)[0]]
            state.journal.rollback(there.mark)
            expect({ hash: state.journal.hash, picture: picture(state) }).toEqual({
              hash: there.hash,
              picture: there.picture,
            })
            expect(state.journal.mark()).toBe(there.mark)
          }
          for (const o of more) step(o)
        }
      }),
    )
  })

  it('hashes what the cells hold, not how it came there', () => {
    fc.assert(
      fc.property(ops, (list) => {
        const state = make()
        for (const o of list) apply(state, o)
        expect(straight(state).journal.hash).toBe(state.journal.hash)
      }),
    )
  })

  it('gives states that differ different hashes', () => {
    fc.assert(
      fc.property(ops, ops, (list, more) => {
        const [a, b] = [make(), make()]
        for (const o of list) apply(a, o)
        for (const o of more) apply(b, o)
        expect(a.journal.hash === b.journal.hash).toBe(picture(a) === picture(b))
      }),
      { numRuns: 500 },
    )
  })

  it('tells small states apart: every pair of values in every two cells of two stores', () => {
    const seen = new Set<string>()
    let states = 0
    for (let x = 0; x < 2 * CELLS; x++) {
      for (let y = 0; y < x; y++) {
        for (let values = 0; values < 25; values++) {
          const { journal, stores } = make()
          stores[x % 2]!.set(x >> 1, (values % 5) + 1)
          stores[y % 2]!.set(y >> 1, Math.floor(values / 5) + 1)
          seen.add(journal.hash)
          states++
        }
      }
    }
    expect(seen.size).toBe(states)
  })

  it('costs nothing but the write where it is off', () => {
    fc.assert(
      fc.property(ops, (list) => {
        const [on, off] = [make(), make(false)]
        for (const o of list) {
          apply(on, o)
          apply(off, o)
        }
        expect(picture(off)).toBe(picture(on))
        expect([off.journal.mark(), off.journal.hash]).toEqual([0, '0'.repeat(16)])
      }),
    )
  })
})
