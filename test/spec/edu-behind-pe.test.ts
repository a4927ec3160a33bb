import { describe, expect, it } from 'vitest'
import { DMA_READ, DMA_WRITE, MMIO_READ, MMIO_WRITE } from '../../src/hw/edu-calls.ts'
import { STOP } from '../../src/hw/pe-firmware.ts'
import { eventsOf } from '../support/host.ts'
import { makeEdu, openWindow } from '../support/ioda.ts'

const H = 0x8000
const ID = 0x0100_00edn

/** A window with a page to read and write at 0, and one to read at 64 KiB. */
function world(freeze: 'pe' | 'none' = 'pe') {
  const m = makeEdu({ freeze })
  const table = openWindow(m.pe)
  table.xchg(0, H, 3)
  table.xchg(1, H + 16, 1)
  return { ...m, table }
}

describe('an edu device behind a PE', () => {
  it('moves bytes through the windows of the PE', () => {
    const m = world()
    expect(m.run(DMA_WRITE, { iova: 0x10n, data: 'hello', bytes: 5n })).toMatchObject({
      rule: 'done',
      outputs: { moved: 5n },
    })
    expect(m.run(DMA_READ, { iova: 0x10n, bytes: 5n, at: 100n })).toMatchObject({
      rule: 'done',
      outputs: { data: 'hello', moved: 5n },
    })
    expect(eventsOf(m, 'dma.done')).toMatchObject([{ device: 'edu0' }, { device: 'edu0', moved: 5, code: 0 }])
  })

  it('is cut off after a write that it may not do: its registers read as all ones and take nothing', () => {
    const m = world()
    m.run(MMIO_WRITE, { offset: 4n, value: 0n })
    expect(m.run(DMA_WRITE, { iova: 0x1_0000n, data: 'x', bytes: 1n })).toMatchObject({
      code: 'MEMTX_DECODE_ERROR',
      rule: 'refused',
    })
    expect(m.run(MMIO_READ, {})).toMatchObject({ rule: 'pe-frozen', outputs: { value: 0xffff_ffffn } })
    expect(m.run(MMIO_WRITE, { offset: 4n, value: 7n }).rule).toBe('pe-frozen')
    expect(m.run(DMA_READ, { iova: 0n })).toMatchObject({ rule: 'pe-frozen', outputs: { moved: 0n } })
    m.pe.stops.clearFreeze(STOP.BOTH)
    expect(m.run(MMIO_READ, {}).outputs['value']).toBe(ID)
    expect(m.run(MMIO_READ, { offset: 4n }).outputs['value']).toBe(0xffff_ffffn)
    expect(m.run(DMA_READ, { iova: 0n }).rule).toBe('done')
  })

  it('does not notice where the PHB does not freeze', () => {
    const m = world('none')
    expect(m.run(DMA_WRITE, { iova: 0x1_0000n, data: 'x', bytes: 1n }).rule).toBe('refused')
    expect(m.run(DMA_READ, { iova: 0x2_0000n, bytes: 2n })).toMatchObject({
      rule: 'refused',
      outputs: { data: 'hex:0000', moved: 0n },
    })
    expect(m.run(DMA_READ, { iova: 1n << 59n }).rule).toBe('outside-windows')
    expect(m.run(MMIO_READ, {}).outputs['value']).toBe(ID)
  })
})
