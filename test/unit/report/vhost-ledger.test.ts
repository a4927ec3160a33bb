import { describe, expect, it } from 'vitest'
import { ledgerText } from '../../../src/report/ledger-text.ts'
import { VhostWorld } from '../check/vhost-world.ts'

/** Lines of the sections about vhost. */
function sections(w: VhostWorld): string[] {
  const lines = ledgerText(w.counter.ledger())
  const from = lines.findIndex((line) => line.startsWith('maps in') || line.startsWith('flushes'))
  const to = lines.findIndex((line, i) => i > from && line === 'calls')
  return from < 0 ? [] : lines.slice(from, to < 0 ? undefined : to)
}

describe('the ledger of vhost devices', () => {
  it('counts maps, misses, uses and flushes', () => {
    const w = new VhostWorld()
    w.device('blk0')
    w.log.emit('iotlb.miss', null, { iotlb: 1, queue: 0, iova: 0x1000n, access: 1, line: 0 })
    const map = w.fill(0x1000n, 0x5000n)
    const old = w.fill(0x2000n, 0x6000n)
    w.reach(map, 0x1000n, { bytes: 512 })
    w.reach(map, 0x1000n, { bytes: 512, part: 6 })
    w.log.emit('iotlb.evict', null, { iotlb: 1, map: old, iova: 0x2000n, last: 0x2fffn })
    w.flush(2)
    w.flush(3, { iova: 0x1000n, bytes: 0x1000n })
    w.log.emit('domain.notify', null, {
      device: 'blk0',
      flag: 1,
      iova: 0x1000n,
      last: 0x1fffn,
      ua: 0n,
      perm: 0,
    })
    w.drop(0x1000n, 0x1fffn)
    w.wait()
    expect(sections(w)).toEqual([
      'maps in the IOTLBs of vhost devices',
      '  device  misses  filled  dropped  evicted  peak  at the end  uses  bytes',
      '  blk0         1       2        1        1     2           0     2  1 KiB',
      '',
      'flushes that software asked for',
      '  global  domain  pages  device TLB  context  waits  listeners told',
      '       0       1      1           0        0      1               1',
    ])
  })

  it('a log does not show what QEMU told: then nothing is said of it', () => {
    const w = new VhostWorld()
    w.device('blk0')
    w.flush(2)
    expect(sections(w).slice(-2)).toEqual([
      '  global  domain  pages  device TLB  context  waits',
      '       0       1      0           0        0      0',
    ])
  })

  it('a device that begins anew has no maps, and keeps its counts', () => {
    const w = new VhostWorld()
    w.device('blk0')
    w.fill(0x1000n, 0x5000n)
    w.iotlb(2, 'blk0')
    w.fill(0x1000n, 0x5000n, { iotlb: 2 })
    const [row] = w.counter.ledger().vhost.iotlbs
    expect([row?.fills, row?.maps, row?.peakMaps]).toEqual([2, 1, 1])
  })

  it('says nothing where there is no such device', () => {
    const w = new VhostWorld()
    w.open()
    expect(sections(w)).toEqual([])
  })
})
