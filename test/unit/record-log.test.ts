import { describe, expect, it } from 'vitest'
import { Journal } from '../../src/bits/state.ts'
import { EVENT_KINDS, EVENTS, KIND, slotMap } from '../../src/trace/event.ts'
import { RecordLog } from '../../src/trace/record-log.ts'

const CHUNK = 1 << 14

describe('RecordLog', () => {
  it('lists the records of a stretch, and no others', () => {
    const log = new RecordLog({ keepRecords: 1 })
    for (let i = 0; i < 2 * CHUNK + 3; i++) log.append(KIND.dead, -1)
    const seqs = (from?: number, end?: number) => [...log.records(from, end)].map((r) => r.seq)
    expect(seqs()).toEqual(Array.from({ length: log.length - log.firstKept }, (_, i) => log.firstKept + i))
    expect(seqs(0, log.firstKept + 2)).toEqual([log.firstKept, log.firstKept + 1])
    expect(seqs(log.length - 1, log.length + 9)).toEqual([log.length - 1])
  })

  it('goes on after all that it kept was cut', () => {
    const log = new RecordLog({ keepRecords: 1 })
    for (let i = 0; i < 3 * CHUNK; i++) log.append(KIND.dead, -1, i)
    const { firstKept } = log
    expect(firstKept).toBeGreaterThan(0)
    log.truncate(firstKept)
    expect([log.append(KIND.dead, -1, 7), log.slot(firstKept, 0), log.has(firstKept + 1)]).toEqual([
      firstKept,
      7,
      false,
    ])
    expect(() => log.truncate(firstKept - 1)).toThrow('model bug')
    expect(() => log.truncate(log.length + 1)).toThrow('model bug')
  })

  it('knows where the undo log stood at each record', () => {
    const journal = new Journal()
    journal.on = true
    const log = new RecordLog({ journal })
    const before = log.append(KIND.dead, -1)
    journal.change(1, 0, 1, () => undefined)
    journal.change(1, 1, 2, () => undefined)
    const after = log.append(KIND.dead, -1)
    expect([log.markOf(before), log.markOf(after)]).toEqual([0, 2])
  })

  it('refuses a record that lacks a field', () => {
    const log = new RecordLog()
    expect(() => log.emit('dead', null, { layer: 'qemu' } as never)).toThrow('its field why')
  })

  it('lays out every kind in its slots without overlap', () => {
    for (const kind of EVENT_KINDS) {
      const taken = new Set<number>()
      for (const [name, slot] of Object.entries<number>(slotMap(kind))) {
        const type = (EVENTS[kind].fields as Record<string, string>)[name]
        for (let i = 0; i < (type === 'u64' || type === 'page' ? 2 : 1); i++) taken.add(slot + i)
      }
      expect([...taken].sort((a, b) => a - b)).toEqual(Array.from({ length: taken.size }, (_, i) => i))
      expect(taken.size).toBeLessThanOrEqual(12)
    }
  })
})
