import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parseScenario } from '../../../src/cli/yaml-scenario.ts'
import { CATALOGUE } from '../../../src/machine/registry.ts'
import { runScenario } from '../../../src/machine/run-scenario.ts'
import { HostCounter } from '../../../src/report/host-ledger.ts'
import { hostSections } from '../../../src/report/host-ledger-text.ts'
import { ledgerText } from '../../../src/report/ledger-text.ts'
import { RecordLog } from '../../../src/trace/record-log.ts'

const tour = (name: string) => {
  const file = `scenarios/tour/${name}.yaml`
  return runScenario(parseScenario(readFileSync(file, 'utf8'), file, CATALOGUE)).ledger
}

describe('the ledger of a POWER host', () => {
  it('has what was locked and pinned, and what is left of it', () => {
    const { processes, regions } = tour('vfio-container').host
    // 256 pages are registered, and the default window costs 128.
    expect(processes).toEqual([
      { process: 'qemu', lockedPeakPages: 384, lockedPages: 0, pinnedPeakPages: 256, pinnedPages: 0 },
    ])
    expect(regions).toEqual([
      {
        region: expect.any(Number),
        process: 'qemu',
        ua: '0x100000000',
        pages: 256,
        pageBytes: 65536,
        used: 0,
        mapped: 0,
        mappedPeak: 32,
      },
    ])
  })

  it('has the tables that were paid for, with what was mapped in them', () => {
    const [table, ...others] = tour('vfio-container').host.tables
    expect(others).toEqual([])
    expect(table).toEqual({
      table: expect.any(Number),
      pes: ['phb0 PE 1'],
      busOffset: '0x0',
      pageBytes: 4096,
      entries: 524288,
      levels: 1,
      chargedBytes: 8 << 20,
      mapped: 32,
      unmapped: 32,
      peakPages: 32,
      livePages: 0,
      isFreed: true,
    })
    // The one that was cancelled was never made, and the one that was refused is not there.
    expect(tour('vfio-windows').host.tables.map((t) => [t.busOffset, t.pageBytes, t.levels])).toEqual([
      ['0x0', 65536, 1],
      ['0x800000000000000', 65536, 2],
      ['0x800000000000000', 1 << 21, 1],
    ])
  })

  it('counts a registration that two containers share as one region', () => {
    const { processes, regions } = tour('vfio-shared-registration').host
    expect(regions.map((r) => [r.pages, r.used])).toEqual([[384, 0]])
    // The range that overlaps was charged, too, until it was refused.
    expect(processes.map((p) => [p.process, p.lockedPeakPages])).toEqual([['qemu', 384 + 128]])
  })

  it('counts fills, kills and freezes by their record', () => {
    const log = new RecordLog()
    const counter = new HostCounter()
    log.subscribe(counter)
    const kill = { unit: 'phb0', pe: 1, address: 0n, pageShift: 16, count: 1 }
    const pe = { unit: 'phb0', pe: 1 }
    log.emit('hw.fill', null, { ...pe, address: 0n, pageShift: 16, tce: 3n })
    for (const scope of [0, 1, 1, 2, 3]) log.emit('hw.kill', null, { ...kill, scope })
    log.emit('hw.store', null, { unit: 'phb0', offset: 0x210, value: 0n, step: 16, count: 256 })
    log.emit('pe.freeze', null, { ...pe, address: 0n, write: 1, why: 'no permission' })
    log.emit('pe.thaw', null, { ...pe, stops: 3 })
    log.emit('pe.stop', null, pe)
    log.emit('pe.freeze', null, { ...pe, address: 0n, write: 0, why: 'outside the window' })
    log.emit('pe.thaw', null, { ...pe, stops: 1 })
    const host = counter.ledger()
    expect(host.caches).toEqual([
      {
        unit: 'phb0',
        fills: 1,
        pageKills: 1,
        peKills: 2,
        allKills: 1,
        evictions: 1,
        stores: 256,
        firmwareCalls: 0,
      },
    ])
    expect(host.pes).toEqual([{ ...pe, freezes: 2, isFrozen: true, why: 'outside the window' }])
    expect(hostSections(host, 100).at(-1)?.[1]).toEqual([
      '  phb0  PE 1  frozen 2 times  still, by: outside the window',
    ])
  })

  it('says nothing where there is no host, and nothing of windows of a guest where there is one', () => {
    const titles = (name: string) => ledgerText(tour(name)).filter((line) => /^\S/.test(line))
    expect(titles('one-dma')).toEqual([
      'windows',
      'mappings',
      'runs of pages mapped one behind the other',
      'DMA',
      'calls',
    ])
    expect(titles('vfio-container').slice(0, 3)).toEqual([
      'locked and pinned memory',
      'preregistered memory',
      'hardware tables',
    ])
  })

  it('fits 100 columns', () => {
    const lines = ['vfio-container', 'vfio-windows'].flatMap((name) => ledgerText(tour(name)))
    expect(lines.filter((line) => line.length > 100)).toEqual([])
  })
})
