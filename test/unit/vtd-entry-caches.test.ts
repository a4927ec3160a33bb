import { describe, expect, it } from 'vitest'
import { Journal } from '../../src/bits/state.ts'
import { ContextCache } from '../../src/hw/vtd/caches/context-cache.ts'
import { EntryNumbers } from '../../src/hw/vtd/caches/entry-numbers.ts'
import { PasidCache } from '../../src/hw/vtd/caches/pasid-cache.ts'
import { NO_PASID, newContextEntry, newPasidEntry } from '../../src/hw/vtd/ports.ts'

/** A value for each kind of field, in the range of those that have few bits. */
const SMALL: Readonly<Record<string, number>> = {
  fault: 0x59,
  type: 5,
  levels: 5,
  firstLevels: 5,
  domain: 0xffff,
}
const WIDE: Readonly<Record<string, number>> = {
  hi: -2,
  lo: -3,
  secondLo: -4,
  pasids: 2 ** 20,
  ridPasid: 0xf_ffff,
}
const sampleOf = (field: string): number => SMALL[field] ?? WIDE[field] ?? 2 ** 39 + 0x1234_5678

function changed<T extends object>(make: () => T, field: string): T {
  const entry = make() as Record<string, number | boolean>
  entry[field] = typeof entry[field] === 'boolean' ? true : sampleOf(field)
  return entry as T
}

describe('an entry that is kept comes back with', () => {
  it.each(Object.keys(newContextEntry()))('%s of a context entry', (field) => {
    const cache = new ContextCache({ journal: new Journal(), name: 'vtd0' })
    const entry = changed(newContextEntry, field)
    cache.keep(0x18, NO_PASID, 1, entry)
    const into = newContextEntry()
    cache.load(cache.find(0x18, NO_PASID), into)
    expect(into).toEqual(entry)
  })

  it.each(Object.keys(newPasidEntry()))('%s of a PASID entry', (field) => {
    const cache = new PasidCache(new Journal(), 'vtd0')
    const entry = changed(newPasidEntry, field)
    cache.keep(0x18, 0xf_ffff, entry)
    const into = newPasidEntry()
    cache.load(cache.find(0x18, 0xf_ffff), into)
    expect(into).toEqual(entry)
  })
})

describe('the PASID cache', () => {
  it('finds many PASIDs of several devices, and forgets one of them, a device or a domain', () => {
    const cache = new PasidCache(new Journal(), 'vtd0')
    const entry = newPasidEntry()
    for (let source = 1; source <= 3; source++) {
      for (let pasid = 0; pasid < 1000; pasid++) {
        entry.domain = pasid % 10
        entry.root = source * 1000 + pasid
        cache.keep(source, pasid, entry)
      }
    }
    cache.drop(2, 15, 6)
    cache.drop(2, 25, 5)
    cache.dropDomain(7)
    cache.dropSource(3)
    for (let source = 1; source <= 3; source++) {
      for (let pasid = 0; pasid < 1000; pasid++) {
        const row = cache.find(source, pasid)
        const isGone = source === 3 || pasid % 10 === 7 || (source === 2 && pasid === 25)
        expect(row !== 0).toBe(!isGone)
        if (isGone) continue
        cache.load(row, entry)
        expect(entry.root).toBe(source * 1000 + pasid)
      }
    }
    cache.keep(3, 7, entry)
    cache.dropAll()
    expect(cache.find(3, 7)).toBe(0)
  })
})

it('entry numbers are given out once, and taken back with the state', () => {
  const journal = new Journal()
  journal.on = true
  const numbers = new EntryNumbers(journal)
  expect([numbers.next(), numbers.next()]).toEqual([1, 2])
  const mark = journal.mark()
  numbers.next()
  journal.rollback(mark)
  expect(numbers.next()).toBe(3)
})
