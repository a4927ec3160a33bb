import { expect, it, vi } from 'vitest'
import { resolveProfile } from '../../src/bits/errata.ts'
import { PreregisteredMemory } from '../../src/kernel/prereg/preregistered-memory.ts'
import { VFIO_ERRATA } from '../../src/kernel/vfio/errata.ts'
import { spaprErrata } from '../../src/kernel/vfio/spapr-errata.ts'
import { SpaprMapping } from '../../src/kernel/vfio/spapr-mapping.ts'
import { eventsOf, UNLIMITED } from '../support/host.ts'
import { makePhb, openWindow } from '../support/ioda.ts'
import { AT, mapAt } from '../support/prereg.ts'

const PAGE = 4096n
const PAGES = 16

/** A window of 2^36 entries in four levels, and registered memory for some of them. */
function setUp() {
  const m = makePhb({ pageShift: 12 })
  const { host } = m
  const table = openWindow(m.phb.addPe({ pe: 5, group: 1 }), {
    ...{ window: 1, pageShift: 12, windowBytes: 1n << 48n, levels: 4 },
  })
  const qemu = m.processes.spawn('qemu', UNLIMITED)
  mapAt(qemu, AT, BigInt(PAGES) * PAGE)
  const memory = new PreregisteredMemory({ host })
  const region = memory.create(qemu.mm, qemu, AT, BigInt(PAGES) * PAGE)
  const errata = spaprErrata(resolveProfile(VFIO_ERRATA, 'intended'))
  const mapping = new SpaprMapping({ host, memory, errata, allocates: () => true, hasEeh: false }, true)
  return { ...m, table, mm: qemu.mm, memory, region, mapping }
}

it('a huge range is cleared by the leaves that are there, whatever is missing between them', () => {
  const m = setUp()
  const { table, mapping, memory, region, mm } = m
  const places = [5, 2 ** 30, table.entries - PAGES]
  for (const slot of places)
    expect(mapping.build(table, mm, table.offset + slot, Number(AT / PAGE), PAGES, 3)).toBe('done')
  expect(memory.mappedOf(region)).toBe(1 + 3 * PAGES)
  const from = m.log.length
  const asked = vi.spyOn(table, 'userSlot')
  mapping.clear(table, mm, table.offset, table.entries)
  // Three leaves of 512 entries, and a step for each that is missing beside or above them.
  expect(asked.mock.calls.length).toBeLessThan(3 * 512 + 3 * 3 * 512)
  expect(memory.mappedOf(region)).toBe(1)
  const records = eventsOf(m, 'hw.set', 'region.map').slice(-4)
  expect(m.log.length - from).toBeLessThan(10)
  expect(records.map((e) => [e.kind, 'entry' in e ? e.entry : 'delta' in e ? e.delta : 0])).toEqual([
    ...places.slice(0, 2).map((slot) => ['hw.set', slot]),
    ['region.map', -3 * PAGES],
    ['hw.set', places[2]],
  ])
  for (const slot of places) {
    table.load(table.offset + slot)
    expect(table.tceLo).toBe(0)
  }
})
