import { describe, expect, it } from 'vitest'
import { payloadOf, wordPayload } from '../../src/peer/vhost-user/codec.ts'
import { LiveWatch } from '../../src/peer/vhost-user/live-watch.ts'
import { FRONT_END_REQUESTS, type FrontEndRequest } from '../../src/reader/vhost-user-format.ts'

describe('what watches a running back end', () => {
  it('ends its records before the log is full, once, and counts on', () => {
    const watch = new LiveWatch({ nowUs: () => 0 })
    const { log, recorder } = watch
    recorder.onNewIotlb(2048)
    const made = log.length
    expect(watch.endsRecords(made + 1)).toBe(false)
    expect(watch.endsRecords(made)).toBe(true)
    expect(watch.endsRecords(made)).toBe(false)
    recorder.onMiss(0, 0x1000n, 1, true)
    expect([log.length, recorder.counts.misses]).toEqual([made, 1])
    watch.end()
    expect(watch.result().counts.misses).toBe(1)
  })

  it('has room for a log that is not full', () => {
    expect(new LiveWatch({ nowUs: () => 0 }).endsRecords()).toBe(false)
  })

  it('beside a trace it knows how many maps the back end keeps', () => {
    const watch = new LiveWatch({ nowUs: () => 0, profile: 'qemu-7.2.22', iotlbLimit: 2 })
    const got = (name: FrontEndRequest, payload: Uint8Array): void => {
      const header = { request: FRONT_END_REQUESTS[name].nr, flags: 1, payloadBytes: payload.length }
      watch.recorder.onRequest(name, { header, payload, fds: [] })
    }
    got('SET_FEATURES', wordPayload(1n << 33n))
    for (const iova of [0x1000n, 0x2000n, 0x3000n]) {
      got('IOTLB_MSG', payloadOf('iotlb', { iova, bytes: 0x1000n, ua: 0x7f00_0000_0000n, perm: 3, type: 2 }))
    }
    watch.end()
    const kinds = Array.from({ length: watch.log.length }, (_, seq) => watch.log.kindOf(seq))
    const count = (kind: string): number => kinds.filter((k) => k === kind).length
    expect([count('iotlb.fill'), count('iotlb.evict')]).toEqual([3, 1])
  })
})
