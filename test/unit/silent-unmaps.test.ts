import { beforeEach, describe, expect, it } from 'vitest'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { Judge } from '../../src/check/judge.ts'
import { SilentUnmaps } from '../../src/peer/vhost-user/silent-unmaps.ts'
import { VhostCounter } from '../../src/report/vhost-ledger.ts'
import { slotMap } from '../../src/trace/event.ts'
import { RecordLog } from '../../src/trace/record-log.ts'

const REGION = { gpa: 0x10_0000n, bytes: 0x100_0000n, ua: 0x7f00_0000_0000n, fileOffset: 0n }
const UNMAP = slotMap('domain.unmap')

describe('unmaps that nobody told a back end of', () => {
  let log: RecordLog
  let judge: Judge
  let counter: VhostCounter
  let unmaps: SilentUnmaps
  let map: number

  beforeEach(() => {
    log = new RecordLog()
    judge = new Judge({ rules: ['stale-iotlb', 'iotlb-mismatch', 'stale-metadata'] })
    counter = new VhostCounter()
    judge.attach(log)
    log.subscribe(counter)
    unmaps = new SilentUnmaps(log, 'disk')
    map = 0
    log.emit('iotlb.new', null, { iotlb: 1, device: 'disk', limit: 2048 })
    unmaps.renew()
    unmaps.region(REGION, true)
  })

  /** QEMU answers a miss. */
  const fill = (iova: bigint, memory: bigint) => {
    const [last, ua] = [iova + 0xfffn, REGION.ua + memory - REGION.gpa]
    log.emit('iotlb.fill', null, { iotlb: 1, map: ++map, iova, last, ua, perm: 3 })
    unmaps.filled(iova, last, ua)
    return { map, iova, ua }
  }
  const drop = (iova: bigint) => {
    const last = iova + 0xfffn
    log.emit('iotlb.drop', null, { iotlb: 1, iova, last, maps: 1, why: 'invalidate' })
    unmaps.invalidated(iova, last)
  }
  /** A request reads a buffer in one map, and is answered. */
  const request = ({ map, iova, ua }: ReturnType<typeof fill>) => {
    unmaps.begin()
    unmaps.reach(hiOf(iova), loOf(iova), 512, 0)
    log.emit('iotlb.use', null, { iotlb: 1, map, iova, ua, bytes: 512, write: 0, part: 0, line: 0 })
    unmaps.answered()
  }
  const found = () => {
    judge.finish()
    return judge.findings.map(({ rule, inferred }) => [rule, inferred])
  }

  it('are found where a buffer is at an address that was never invalidated', () => {
    fill(0xffff_e000n, 0x30_0000n)
    const buffer = fill(0xffff_f000n, 0x20_0000n)
    request(buffer)
    expect(judge.findings).toEqual([])
    request(buffer)
    request(buffer)
    const unmapped = [...Array(log.length).keys()].filter((seq) => log.kindOf(seq) === 'domain.unmap')
    expect(unmapped.map((seq) => log.slot(seq, UNMAP.how))).toEqual([1])
    expect(found()).toEqual([
      ['stale-iotlb', true],
      ['stale-iotlb', true],
    ])
    // Nobody saw the guest flush.
    expect(counter.ledger().flushes).toMatchObject({ pages: 0, waits: 0 })
  })

  it('are none where the driver invalidates each buffer', () => {
    fill(0xffff_e000n, 0x30_0000n)
    for (const memory of [0x20_0000n, 0x28_0000n]) {
      request(fill(0xffff_f000n, memory))
      drop(0xffff_f000n)
    }
    expect(found()).toEqual([])
  })

  it('are none where all memory is mapped once, by one offset', () => {
    unmaps.region({ ...REGION, gpa: 0x4000_0000n, ua: 0x7e00_0000_0000n }, true)
    const base = 0x800_0000_0000_0000n
    const buffer = fill(base + 0x20_0000n, 0x20_0000n)
    const ua = 0x7e00_0000_0000n
    unmaps.filled(base + 0x4000_0000n, base + 0x4000_ffffn, ua)
    request(buffer)
    request(buffer)
    expect(found()).toEqual([])
    // Regions go with their session.
    unmaps.region({ ...REGION, gpa: 0x4000_0000n, ua }, false)
    unmaps.filled(base + 0x4001_0000n, base + 0x4001_ffffn, ua + 0x1_0000n)
    request(buffer)
    expect(found().length).toBeGreaterThan(0)
  })
})
