import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { KIND } from '../../src/trace/event.ts'
import { RecordLog, type RecordSink } from '../../src/trace/record-log.ts'

const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })

/** Records that a chunk of the log holds: rings are made of whole ones. */
const CHUNK = 1 << 14

describe('RecordLog', () => {
  it('gives back every record as it was appended', () => {
    const record = fc.record({
      kind: fc.constantFrom(...Object.values(KIND)),
      cause: fc.integer({ min: -1, max: 1000 }),
      slots: fc.array(int32, { minLength: 12, maxLength: 12 }),
    })
    fc.assert(
      fc.property(fc.array(record, { maxLength: 50 }), (records) => {
        const log = new RecordLog()
        records.forEach(({ kind, cause, slots }, i) => {
          log.tick = i * 4e7
          expect(log.append(kind, cause, ...(slots as [number]))).toBe(i)
        })
        expect(log.length).toBe(records.length)
        records.forEach(({ kind, cause, slots }, i) => {
          expect(log.kindNumberOf(i)).toBe(kind)
          expect(log.causeOf(i)).toBe(cause)
          expect(log.tickOf(i)).toBe(i * 4e7)
          expect(slots.map((_, n) => log.slot(i, n))).toEqual(slots)
        })
      }),
    )
  })

  it('takes fields by name and gives them back by name', () => {
    fc.assert(
      fc.property(int32, u64, fc.nat(2 ** 52), fc.string(), (u32, word, page, name) => {
        const log = new RecordLog()
        const fields = { window: u32 >>> 0, first: page, count: page, tce: word, step: -1, how: 2 }
        const seq = log.emit('tce.set', null, fields)
        expect(log.read(seq).event).toEqual({ kind: 'tce.set', ...fields })
        const close = log.emit('window.close', seq, { window: 1, liobn: u32 >>> 0, why: name })
        expect(log.read(close)).toEqual({
          seq: close,
          tick: 0,
          cause: seq,
          event: { kind: 'window.close', window: 1, liobn: u32 >>> 0, why: name },
        })
      }),
    )
  })

  it('keeps the newest records and uses the room of the oldest again', () => {
    const log = new RecordLog({ keepRecords: 2 * CHUNK })
    for (let i = 0; i < 5 * CHUNK + 7; i++) log.append(KIND.dead, i - 1, i)
    expect(log.firstKept).toBe(3 * CHUNK)
    expect(log.has(3 * CHUNK - 1)).toBe(false)
    expect(() => log.slot(3 * CHUNK - 1, 0)).toThrow(/not kept/)
    for (let i = 3 * CHUNK; i < log.length; i++) expect([log.slot(i, 0), log.causeOf(i)]).toEqual([i, i - 1])
  })

  it('keeps as many records as it was told, wherever it stands in a chunk', () => {
    const log = new RecordLog({ keepRecords: CHUNK + 5 })
    for (let i = 0; i < 5 * CHUNK; i++) {
      log.append(KIND.dead, -1)
      if (log.length - log.firstKept < Math.min(log.length, CHUNK + 5)) expect(i).toBe('kept')
    }
    expect(log.length - log.firstKept).toBeLessThanOrEqual(3 * CHUNK)
  })

  it('remembers of what it dropped a line, at most a few records before', () => {
    const STEP = 16
    const kinds = [KIND['tce.set'], KIND['call.enter'], KIND['dma.request'], KIND.dead]
    const line = fc.integer({ min: 0, max: 2 ** 32 - 1 })
    const stretch = fc.record({
      kind: fc.constantFrom(...kinds),
      line,
      count: fc.integer({ min: 1, max: 40 }),
    })
    fc.assert(
      fc.property(fc.array(stretch, { minLength: 1, maxLength: 30 }), (stretches) => {
        const log = new RecordLog({ keepRecords: 1 })
        const own: number[] = []
        const slotOf = (kind: number) => [-1, 1, 5, -1][kinds.indexOf(kind)] as number
        while (log.length < 3 * CHUNK) {
          for (const { kind, line, count } of stretches) {
            const slots = new Array<number>(12).fill(7)
            const slot = slotOf(kind)
            if (slot >= 0) slots[slot] = line | 0
            for (let i = 0; i < count; i++) {
              log.append(kind, -1, ...(slots as [number]))
              own.push(slot < 0 ? 0 : line)
            }
          }
        }
        let last = 0
        for (let seq = 0; seq < log.firstKept; seq += STEP) {
          for (let at = Math.max(0, seq - STEP + 1); at <= seq; at++) last = own[at] || last
          for (let at = seq + 1; last === 0 && at < seq + STEP; at++) last = own[at] as number
          expect(log.lineNear(seq)).toBe(last)
          expect(log.lineNear(seq + STEP - 1)).toBe(last)
        }
        expect(log.lineNear(log.firstKept)).toBe(0)
      }),
      { numRuns: 15 },
    )
  })

  it('goes on from where it was cut', () => {
    fc.assert(
      fc.property(fc.nat(3 * CHUNK), fc.nat(2 * CHUNK), (count, more) => {
        const log = new RecordLog()
        for (let i = 0; i < 3 * CHUNK; i++) log.append(KIND.dead, -1, i)
        log.truncate(count)
        for (let i = 0; i < more; i++) log.append(KIND.dead, -1, ~i)
        expect(log.length).toBe(count + more)
        if (count > 0) expect(log.slot(count - 1, 0)).toBe(count - 1)
        if (more > 0) expect([log.slot(count, 0), log.slot(count + more - 1, 0)]).toEqual([-1, -more])
      }),
      { numRuns: 20 },
    )
  })

  it('shows each record once to the sinks that asked for its kind, and to nobody while it is off', () => {
    const seen: number[] = []
    const sink: RecordSink = { kinds: ['dead', 'warning'], see: (_log, seq) => seen.push(seq) }
    const log = new RecordLog()
    log.subscribe(sink)
    log.append(KIND.dead, -1)
    log.append(KIND.unmodelled, -1)
    log.append(KIND.warning, -1)
    log.on = false
    expect(log.append(KIND.dead, -1)).toBe(3)
    expect(log.length).toBe(3)
    log.on = true
    expect(log.append(KIND.dead, -1)).toBe(3)
    expect(seen).toEqual([0, 2, 3])
  })
})
