import { describe, expect, it } from 'vitest'
import { Cells, Journal, keyOf } from '../../src/bits/state.ts'

const make = (max?: number) => {
  const journal = new Journal(max)
  journal.on = true
  return { journal, cells: new Cells(journal, 1, 4) }
}

describe('Cells', () => {
  it('hold int32: what is written wraps, and the hash is that of what is held', () => {
    const [a, b] = [make(), make()]
    a.cells.set(0, 2 ** 31)
    b.cells.set(0, -(2 ** 31))
    expect([a.cells.get(0), a.journal.hash]).toEqual([-(2 ** 31), b.journal.hash])
    const c = make()
    c.cells.set(1, 2 ** 32)
    expect([c.cells.get(1), c.journal.mark(), c.journal.hash]).toEqual([0, 0, '0'.repeat(16)])
  })

  it('do not note a value that is there already', () => {
    const { journal, cells } = make()
    cells.set(0, 5)
    cells.set(0, 5)
    cells.fill(5, 0, 2)
    expect(journal.mark()).toBe(2)
  })

  it('grow with zeros, which the hash does not see, and keep what they hold', () => {
    const { journal, cells } = make()
    cells.set(3, 9)
    const { hash } = journal
    cells.ensure(5)
    expect([cells.length >= 5, cells.get(3), cells.get(4), journal.hash]).toEqual([true, 9, 0, hash])
    const { length } = cells
    cells.ensure(2)
    expect(cells.length).toBe(length)
    journal.rollback(0)
    expect(cells.get(3)).toBe(0)
  })

  it('refuse a cell that is not there', () => {
    const { journal, cells } = make()
    expect(() => cells.set(4, 1)).toThrow('model bug')
    expect(journal.hash).toBe('0'.repeat(16))
  })
})

describe('Journal', () => {
  it('keeps more changes than it has room for at first', () => {
    const { journal, cells } = make()
    for (let i = 1; i <= 5000; i++) cells.set(i & 3, i)
    expect(journal.mark()).toBe(5000)
    journal.rollback(1)
    expect([...cells.data]).toEqual([0, 1, 0, 0])
  })

  it('throws past its limit, and can still go back', () => {
    const { journal, cells } = make(1024)
    for (let i = 1; i <= 1023; i++) cells.set(0, i)
    let undone = 0
    journal.change(7, 0, 1, () => undone++)
    const full = expect.objectContaining({ code: 'ERR_STATE_LIMIT' })
    expect(() => journal.change(7, 1, 2, () => undone++)).toThrow(full)
    expect(() => cells.set(0, -1)).toThrow(full)
    expect(cells.get(0)).toBe(1023)
    journal.rollback(0)
    expect([cells.get(0), undone, journal.hash]).toEqual([0, 1, '0'.repeat(16)])
  })

  it('counts how often it went back, and refuses a mark of the future', () => {
    const { journal } = make()
    journal.rollback(0)
    journal.rollback(0)
    expect(journal.rollbacks).toBe(2)
    expect(() => journal.rollback(1)).toThrow('model bug')
  })

  it('does not note what an undo does', () => {
    const { journal, cells } = make()
    journal.change(1, 0, 1, () => cells.set(2, 0))
    journal.rollback(0)
    expect([journal.mark(), journal.on]).toEqual([0, true])
  })
})

describe('keyOf', () => {
  it('tells words and numbers apart by their place', () => {
    const keys = [
      keyOf('a', 'b'),
      keyOf('ab'),
      keyOf('b', 'a'),
      keyOf('a', 1),
      keyOf('a', 11),
      keyOf('a', 1, 1),
    ]
    expect(new Set(keys).size).toBe(keys.length)
    expect(keyOf('tce', 5)).toBe(keyOf('tce', 5))
  })
})
