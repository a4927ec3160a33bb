import { describe, expect, it } from 'vitest'
import { LiveWatch } from '../../src/peer/vhost-user/live-watch.ts'

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
})
