import { describe, expect, it } from 'vitest'
import { World } from './world.ts'

/** H_STUFF_TCE over the whole table, as a kernel does when it sets the table up. */
const booted = (): World => {
  const w = new World()
  w.open()
  w.clear(0, 64)
  return w
}

describe('use-after-unmap, where the live entry is the grant', () => {
  it('cites who mapped, who unmapped, and the use', () => {
    const w = booted()
    const mapped = w.map(1, 0x5001n)
    const unmapped = w.clear(1)
    const request = w.request('nic', 0x1010n, 0, 9)
    const use = w.refused(1, { cause: request })
    expect(w.found()).toEqual([
      {
        rule: 'use-after-unmap',
        message: 'nic touched bus address 0x1000 after its unmap; the IOMMU refused it',
        because: [
          {
            seq: mapped,
            line: 2,
            text: 'H_PUT_TCE mapped bus address 0x1000 (LIOBN 0x80000000, entry 1) to memory 0x5000: the device may read',
          },
          {
            seq: unmapped,
            line: 3,
            text: 'H_STUFF_TCE cleared bus address 0x1000 (LIOBN 0x80000000, entry 1)',
          },
          {
            seq: use,
            line: 9,
            text: 'nic tried to read at bus address 0x1000 (LIOBN 0x80000000, entry 1) and was refused',
          },
        ],
        times: 1,
        inferred: false,
      },
    ])
  })

  it('says so when memory was reached', () => {
    const w = booted()
    w.map(1, 0x5003n)
    w.clear(1)
    w.use(1, { need: 2 })
    expect(w.messages('use-after-unmap')).toEqual([
      'a device used bus address 0x1000 after it was taken back, and reached memory 0x5000',
    ])
  })

  it('folds repeats, and starts anew when the entry was mapped and unmapped again', () => {
    const w = booted()
    w.map(1, 0x5001n)
    w.clear(1)
    for (let i = 0; i < 5; i++) w.refused(1)
    w.map(1, 0x5001n)
    w.clear(1)
    w.refused(1)
    expect(w.found().map((f) => f.times)).toEqual([5, 1])
  })

  it('is inferred when the mapping was', () => {
    const w = booted()
    w.map(1, 0x5001n, { how: 1 })
    w.clear(1)
    w.refused(1, { need: 0 })
    expect(w.found()).toMatchObject([{ rule: 'use-after-unmap', inferred: true }])
  })

  it('knows a clear by a value without permissions', () => {
    const w = booted()
    w.map(1, 0x5001n)
    w.set({ first: 1, tce: 0xdead_0000n })
    w.refused(1)
    expect(w.rules()).toEqual(['use-after-unmap'])
  })

  it('names the window that closed under the device', () => {
    const w = booted()
    w.map(1, 0x5001n)
    w.close()
    w.log.emit('dma.miss', w.request('nic', 0x1234n), { unit: 'phb0', iova: 0x1234n, write: 0 })
    const [finding] = w.found()
    expect(finding).toMatchObject({
      rule: 'use-after-unmap',
      message: 'nic touched bus address 0x1234 after its window was closed',
    })
    expect(finding?.because.map((e) => e.text)).toEqual([
      'H_PUT_TCE mapped bus address 0x1000 (LIOBN 0x80000000, entry 1) to memory 0x5000: the device may read',
      'LIOBN 0x80000000 closes (reset)',
      'nic tried to read bus address 0x1234, which is in no window of phb0',
    ])
  })
})

describe('dma-not-granted, where the live entry is the grant', () => {
  it.each([
    ['refused', 0, 'a device tried bus address 0x7000, which was never mapped; the IOMMU refused it'],
    ['allowed', 1, 'a device reached memory 0x5000 at bus address 0x7000, which was never mapped'],
  ])('%s at an entry that was never mapped', (_what, allowed, message) => {
    const w = booted()
    w.use(7, { allowed })
    expect(w.messages('dma-not-granted')).toEqual([message])
  })

  it('a direction that the entry does not have', () => {
    const w = booted()
    w.map(7, 0x5001n)
    w.refused(7, { need: 2 })
    w.use(7, { need: 2, allowed: 1 })
    expect(w.messages('dma-not-granted')).toEqual([
      'a device went to write bus address 0x7000, granted to read only, and the IOMMU refused it',
      'a device went to write bus address 0x7000, granted to read only, and reached memory 0x5000',
    ])
  })

  it('an address in no window', () => {
    const w = booted()
    w.log.emit('dma.miss', null, { unit: 'phb0', iova: 1n << 60n, write: 1 })
    expect(w.messages('dma-not-granted')).toEqual([
      'a device tried bus address 0x1000000000000000, which is in no window',
    ])
  })

  it('an address in a window that closed, at an entry that was not live', () => {
    const w = booted()
    w.close()
    w.log.emit('dma.miss', null, { unit: 'phb0', iova: 0x1000n, write: 1 })
    expect(w.rules()).toEqual(['dma-not-granted'])
  })

  it('the same address below another unit is in no window there', () => {
    const w = booted()
    w.map(1, 0x5001n)
    w.close()
    w.log.emit('dma.miss', null, { unit: 'phb1', iova: 0x1000n, write: 1 })
    expect(w.rules()).toEqual(['dma-not-granted'])
  })

  it('a window of the same LIOBN is another window', () => {
    const w = booted()
    w.map(1, 0x5001n)
    w.close()
    w.open({ window: 2 })
    w.refused(1, { window: 2 })
    expect(w.rules()).toEqual(['dma-not-granted'])
  })
})

describe('device use, kept', () => {
  it('mapped, used in the direction mapped, unmapped', () => {
    const w = booted()
    w.map(1, 0x5001n)
    w.use(1, { perm: 1, need: 1 })
    w.clear(1)
    expect(w.found()).toEqual([])
  })

  it('a log that does not say the direction is judged by presence only', () => {
    const w = booted()
    w.map(1, 0x5001n)
    w.use(1, { perm: 1, need: 0, allowed: 1 })
    expect(w.found()).toEqual([])
  })

  it('an entry of which nobody knows what it holds is not judged, but counted', () => {
    const w = booted()
    w.map(1, 0n, { how: 2 })
    w.refused(1)
    w.use(1)
    expect(w.found()).toEqual([])
    expect(w.judge.verdicts().find((v) => v.rule === 'use-after-unmap')).toMatchObject({
      state: 'kept',
      skipped: 2,
    })
  })

  it('a translation that teaches an entry takes back what was said of it', () => {
    const w = booted()
    const use = w.use(3, { need: 0, allowed: 1 })
    w.log.emit('tce.seen', use, { window: 1, entry: 3, tce: 0x5003n, verdict: 3, line: 4 })
    w.use(3, { need: 0, allowed: 1 })
    expect(w.found()).toEqual([])
  })

  it('but not where the log shows what was known: the use stays a finding', () => {
    const w = booted()
    const use = w.use(3, { need: 0, allowed: 1 })
    w.log.emit('tce.seen', use, { window: 1, entry: 3, tce: 0x5003n, verdict: 4, line: 4 })
    expect(w.rules()).toEqual(['dma-not-granted'])
  })

  it('a taught entry that goes again is judged', () => {
    const w = booted()
    const use = w.use(3, { need: 0, allowed: 1 })
    w.log.emit('tce.seen', use, { window: 1, entry: 3, tce: 0x5003n, verdict: 3, line: 4 })
    w.clear(3)
    w.refused(3)
    expect(w.rules()).toEqual(['use-after-unmap'])
  })

  it('a refusal at an entry that is thought live is a contradiction, not a finding', () => {
    const w = booted()
    w.map(1, 0x5001n, { how: 1 })
    w.refused(1, { need: 0 })
    expect(w.found()).toEqual([])
  })

  it('a table that moved keeps its entries; what is found then is inferred', () => {
    const w = booted()
    w.map(1, 0x5001n)
    w.map(2, 0x6001n)
    w.clear(2)
    w.log.emit('window.move', null, { window: 1, liobn: 0x8000_0000, how: 1 })
    w.use(1, { perm: 1 })
    w.refused(2)
    expect(w.found()).toMatchObject([{ rule: 'use-after-unmap', inferred: true }])
  })

  it('a direct window: its live entries are granted', () => {
    const w = new World()
    w.open({ busOffset: 1n << 59n, pageShift: 24, entries: 16 })
    w.map(0, 0x3n, { count: 16, step: 24 })
    w.direct(1n << 59n)
    w.use(3, { need: 3 })
    expect(w.found()).toEqual([])
  })

  it('a direct window: memory that no entry maps was not granted in fact, and the grant is cited', () => {
    const w = new World()
    w.open({ busOffset: 1n << 59n, pageShift: 24, entries: 16 })
    w.map(0, 0x3n, { count: 15, step: 24 })
    const direct = w.direct(1n << 59n)
    const use = w.refused(15)
    expect(w.found()).toMatchObject([{ rule: 'dma-not-granted' }])
    expect(w.found()[0]?.because.map((e) => e.seq)).toEqual([direct, use])
  })

  it('uses of a window that the log does not open are counted as not judged', () => {
    const w = new World()
    w.use(1, { window: 9 })
    expect(w.found()).toEqual([])
    expect(w.judge.verdicts()[0]).toMatchObject({ skipped: 1 })
  })
})

describe('device use, where the DMA API grants', () => {
  const granted = (): World => {
    const w = booted()
    w.map(1, 0x5003n)
    w.grant(1, { dir: 1, gpa: 0x5000n })
    return w
  }

  it('kept: inside the grant and its direction', () => {
    const w = granted()
    w.use(1, { need: 1 })
    expect(w.found()).toEqual([])
  })

  it('the grant counts, not the entry: another direction reaches memory', () => {
    const w = granted()
    w.use(1, { need: 2 })
    expect(w.messages('dma-not-granted')).toEqual([
      'a device went to write bus address 0x1000, granted to read only, and reached memory 0x5000',
    ])
  })

  it('an entry that is live and was never granted', () => {
    const w = granted()
    const mapped = w.map(2, 0x6003n)
    const use = w.use(2)
    expect(w.messages('dma-not-granted')).toEqual([
      'a device reached memory 0x5000 at bus address 0x2000, which nobody granted',
    ])
    expect(w.found()[0]?.because.map((e) => e.seq)).toEqual([mapped, use])
  })

  it('taken back, and the entry left live: the chain has grant, revoke, the entry and the use', () => {
    const w = granted()
    w.revoke(1)
    w.use(1, { cause: w.request('nic', 0x1000n) })
    const [finding] = w.found()
    expect(finding?.rule).toBe('use-after-unmap')
    expect(finding?.because.map((e) => w.log.kindOf(e.seq))).toEqual([
      'tce.set',
      'dma.grant',
      'dma.revoke',
      'dma.translate',
    ])
  })

  it('granted, but refused: no fault of the device', () => {
    const w = booted()
    w.grant(1)
    w.refused(1)
    expect(w.rules()).not.toContain('use-after-unmap')
    expect(w.rules()).not.toContain('dma-not-granted')
  })
})

describe('how much is kept', () => {
  it('a thousand findings with their evidence, the rest only counted', () => {
    const w = new World({ maxFindings: 10 })
    w.open()
    for (let entry = 0; entry < 64; entry++) w.refused(entry)
    expect(w.found()).toHaveLength(10)
    expect(w.judge.dropped).toBe(54)
  })

  it('a cause that is no longer kept is named by its number', () => {
    const w = new World({ keepRecords: 1 })
    w.open()
    const mapped = w.map(1, 0x5001n)
    w.clear(1)
    for (let i = 0; i < 60_000; i++) w.log.emit('memory.write', null, { space: 'gpa', address: 0n, bytes: 1 })
    w.refused(1)
    expect(w.found()[0]?.because[0]).toEqual({
      seq: mapped,
      line: 1,
      text: `record ${mapped}, which is no longer kept (about this line)`,
    })
  })

  it('judges a log that is there already as one that grows', () => {
    const live = booted()
    live.map(1, 0x5001n)
    live.clear(1)
    live.refused(1)
    live.end()
    const later = new World()
    later.judge.judge(live.log)
    expect(later.judge.findings).toEqual(live.found())
  })
})
