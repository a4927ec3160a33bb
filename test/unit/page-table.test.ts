import { expect, it } from 'vitest'
import { Journal } from '../../src/bits/state.ts'
import {
  frameOfPte,
  PageTable,
  PTE_PRESENT,
  PTE_READ,
  PTE_WRITE,
  pteOf,
} from '../../src/memory/page-table.ts'

it('a page table finds its entries in order, whatever the order in which they came', () => {
  const table = new PageTable(new Journal(), 'p')
  const pages = [5_000_000_000, 1024, 3, 2 ** 35 - 1, 1023, 70_000]
  for (const page of pages) table.set(page, pteOf(page % 1000, PTE_READ))
  const found: number[] = []
  for (let page = table.next(0, 2 ** 36); page < 2 ** 36; page = table.next(page + 1, 2 ** 36))
    found.push(page)
  expect(found).toEqual(pages.toSorted((a, b) => a - b))
  expect(table.next(4, 1023)).toBe(1023)
  expect(table.next(4, 1024)).toBe(1023)
  expect(table.next(1025, 60_000)).toBe(60_000)
  expect([table.get(1024), table.get(1025), table.get(9e9)]).toEqual([pteOf(24, PTE_READ), 0, 0])
})

it('a leaf stays the same when its entries go and come', () => {
  const table = new PageTable(new Journal(), 'p')
  expect(table.leaf(0)).toBeUndefined()
  table.set(7, 0)
  expect(table.leaf(0)).toBeUndefined()
  table.set(7, pteOf(1, PTE_READ))
  const leaf = table.leaf(0)
  table.set(7, 0)
  expect(table.next(0, 2048)).toBe(2048)
  table.set(7, pteOf(2, PTE_READ | PTE_WRITE))
  expect(table.leaf(0)).toBe(leaf)
  expect(leaf?.get(7)).toBe(pteOf(2, PTE_READ | PTE_WRITE))
})

it('an entry holds a frame and its permissions', () => {
  const pte = pteOf(2 ** 27 - 1, PTE_WRITE)
  expect([frameOfPte(pte), pte & 7, pte > 0]).toEqual([2 ** 27 - 1, PTE_PRESENT | PTE_WRITE, true])
  expect(pteOf(0, 0)).not.toBe(0)
})
