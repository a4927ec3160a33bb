import { describe, expect, it } from 'vitest'
import type { FaultGroup } from '../../../src/report/explain/fault-log.ts'
import { PowerpcExplainer } from '../../../src/report/explain/powerpc-explainer.ts'
import { causesOf, explained, rowOf } from '../../support/explain.ts'

const groups = (...lines: string[]): readonly FaultGroup[] => explained(lines, new PowerpcExplainer()).groups
const only = (...lines: string[]): FaultGroup => {
  const all = groups(...lines)
  expect(all).toHaveLength(1)
  return all[0] as FaultGroup
}
const full = (pages: number): string =>
  `lpfc 0005:01:00.0: iommu_alloc failed, tbl 00000000a3c5c1f5 vaddr c000000133b00000 npages ${pages}`
const created = (status: number): string =>
  `virtio-pci 0000:00:00.0: ibm,create-pe-dma-window(2027) 0 8000000 20000000 18 1e returned ${status} (liobn = 0x80000001 starting addr = 8000000 0)`

describe('no room in a window', () => {
  it('with the windows of the bus', () => {
    const fault = only(
      'pci 0005:01     : [PE# fd] Setting up 32-bit TCE table at 0..80000000',
      'pci 0005:01     : [PE# fd] Setting up window#0 0..7fffffff pg=1000',
      'pci 0005:02     : [PE# fe] Setting up window#0 0..fffffffff pg=10000',
      full(16),
    )
    expect(fault.words).toMatchObject({
      title: 'no room for a DMA mapping of 0005:01:00.0',
      fields: { entries: 16, driver: 'lpfc' },
    })
    expect(fault.words.rows.filter(([label]) => label === 'window').map(([, text]) => text)).toEqual([
      '32-bit addresses: 0x0-0x7fffffff (line 1)',
      'window 0: 0x0-0x7fffffff, 524288 pages of 4 KiB (line 2)',
    ])
  })

  it.each([
    [15, false],
    [16, true],
  ])('%i entries look in a pool of their own: %s', (pages, hasPool) => {
    expect(rowOf(only(full(pages)), 'means')?.includes('a pool of their own')).toBe(hasPool)
  })

  it('an old kernel does not say of which device, nor in which base', () => {
    const fault = only('iommu_alloc failed, tbl c00000000263c480 vaddr c000000133b00000 npages 10')
    expect(fault.words.title).toBe('no room for a DMA mapping')
    expect(rowOf(fault, 'asked')).toBe(
      '10 entries in a row: hexadecimal if it was a scatter list, decimal if a single buffer',
    )
  })

  it('is a cause of what comes later', () => {
    const log = explained([full(16)], new PowerpcExplainer())
    expect(log.earlier('cause', '0005:01:00.0')).toEqual([
      { line: 1, text: 'no room for a mapping of 16 entries in a row' },
    ])
  })
})

describe('windows of a guest', () => {
  it('one that is made is known later, one that is refused is a fault', () => {
    const log = explained([created(0)], new PowerpcExplainer())
    expect(log.groups).toEqual([])
    expect(log.earlier('cause', '00:00.0')).toEqual([
      { line: 1, text: 'window 0x80000001: 2^30 bytes of 16 MiB pages from 0x800000000000000' },
    ])
    const fault = only(
      'virtio-pci 0000:00:00.0: ibm,query-pe-dma-windows(2026) 0 8000000 20000000 returned 0, lb=2000000000 ps=107 wn=1',
      created(-3),
    )
    expect(fault.words.title).toBe('00:00.0 got no dynamic window')
    expect(causesOf(fault)).toEqual([[1, 'ibm,query-pe-dma-windows returned 0, lb=2000000000 ps=107 wn=1']])
  })

  it('are switched off', () => {
    expect(explained(['ppc iommu: disabling ddw.'], new PowerpcExplainer()).facts).toHaveLength(1)
  })
})

describe('other failures', () => {
  it.each([
    [
      'tce_build_pSeriesLP: plpar_tce_put failed. rc=-4',
      'tce_build_pSeriesLP: H_PUT_TCE',
      'H_PARAMETER (-4)',
    ],
    [
      'tce_freemulti_pSeriesLP: plpar_tce_stuff failed',
      'tce_freemulti_pSeriesLP: H_STUFF_TCE',
      'not in the line',
    ],
    [
      'tce_buildmulti_pSeriesLP: plpar_tce_put failed. rc=-4',
      'tce_buildmulti_pSeriesLP: H_PUT_TCE_INDIRECT',
      'H_PARAMETER (-4)',
    ],
    ['tce_build_pSeriesLP: plpar_tce_put failed. rc=-1234', 'tce_build_pSeriesLP: H_PUT_TCE', '-1234'],
  ])('%s', (line, call, answer) => {
    const fault = only(line)
    expect(rowOf(fault, 'call')).toBe(call)
    expect(rowOf(fault, 'answer')).toBe(answer)
  })

  it.each([
    ['ipr 0001:01:00.0: Warning: IOMMU offset too big for device mask', '0001:01:00.0'],
    ['Warning: IOMMU offset too big for device mask', undefined],
  ])('%s', (line, device) => {
    expect(only(line).words).toMatchObject({ kind: 'mask', ...(device !== undefined && { device }) })
  })

  it('the firmware refuses a window', () => {
    const fault = only('pci 0001:08     : [PE# fb] Failed to configure TCE table, err -5')
    expect(fault.words.title).toBe('the firmware refused a window of PE#fb, bus 0001:08')
  })
})
