import fc from 'fast-check'
import { expect, it } from 'vitest'
import { MappedMemory, mappingsOf } from '../../src/check/mapped-memory.ts'
import { WindowShadows } from '../../src/check/window-shadow.ts'
import { RecordLog } from '../../src/trace/record-log.ts'

const ENTRIES = 48

const anyStep = fc.record({
  window: fc.constantFrom(1, 2),
  first: fc.nat(ENTRIES - 1),
  count: fc.integer({ min: 1, max: 8 }),
  page: fc.nat(30),
  perm: fc.constantFrom(0, 0, 1, 3),
  step: fc.constantFrom(-1, 12, 13, 16),
})

/** Windows of 4 KiB and of 64 KiB pages, and who maps what, by one list an entry. */
it('what is mapped is what the entries say, after every write', () => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 30 }), fc.nat(60), (steps, asked) => {
      const log = new RecordLog()
      const windows = new WindowShadows()
      log.subscribe(windows)
      const mapped = new MappedMemory()
      const naive = new Map<string, number[]>()
      for (const [window, pageShift] of [
        [1, 12],
        [2, 16],
      ] as const) {
        log.emit('window.open', null, {
          window,
          liobn: window,
          pageShift,
          busOffset: 0n,
          entries: ENTRIES,
          unit: '',
        })
      }
      for (const { window, first, count: wanted, page, perm, step } of steps) {
        const count = Math.min(wanted, ENTRIES - first)
        const units = window === 1 ? 1 : 16
        const shadow = windows.find(window)!
        mapped.take(log, shadow, first, count)
        const tce = (BigInt(page) << 12n) | BigInt(perm)
        const seq = log.emit('tce.set', null, { window, first, count, tce, step, how: 0 })
        if (perm !== 0) mapped.add(log, seq, shadow, first, count)
        for (let i = 0; i < count; i++) {
          const at = page + (step < 0 ? 0 : i * 2 ** (step - 12))
          const start = Math.floor(at / units) * units
          if (perm === 0) naive.delete(`${window}/${first + i}`)
          else
            naive.set(
              `${window}/${first + i}`,
              Array.from({ length: units }, (_, k) => start + k),
            )
        }
      }
      const pages = new Set([...naive.values()].flat())
      for (let at = 0; at < 64; at++) expect(mapped.any({ start: at, end: at + 1 })).toBe(pages.has(at))
      const span = { start: asked, end: asked + 2 }
      const hit = [...mappingsOf(log, windows.all(), span)].length > 0
      expect(hit).toBe(pages.has(asked) || pages.has(asked + 1))
      for (const window of windows.all()) mapped.window(log, window, -1)
      expect(mapped.any({ start: 0, end: 1000 })).toBe(false)
    }),
    { numRuns: 200 },
  )
})
