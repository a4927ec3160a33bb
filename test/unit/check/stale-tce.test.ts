import { describe, expect, it } from 'vitest'
import type { MultiLevelTable } from '../../../src/table/multi-level-table.ts'
import { eventsOf } from '../../support/host.ts'
import { openWindow } from '../../support/ioda.ts'
import { hardwareWorld } from './hardware-world.ts'

const BASE_64 = 1n << 59n

/** A window of 64 KiB pages, its first page mapped and cached. */
function cached(options: Parameters<typeof hardwareWorld>[0] & { window?: number } = {}) {
  const { window = 0, ...rest } = options
  const w = hardwareWorld(rest)
  const table = openWindow(w.pe, { window })
  const { page } = w.frame()
  w.call('MAP', () => put(table, 0, page))
  const bus = window === 0 ? 0n : BASE_64
  w.dma(w.pe, bus, 4)
  return { ...w, table, page, bus }
}

function put(table: MultiLevelTable, entry: number, page: number) {
  table.xchg(table.offset + entry, page, page === 0 ? 0 : 3)
  table.kill(table.offset + entry, 1)
}

describe('stale-tce', () => {
  it.each([0, 1])('a whole life in window %i keeps it: map, use, change, use, clear', (window) => {
    const w = cached({ window })
    w.call('MAP', () => put(w.table, 0, w.frame().page))
    w.dma(w.pe, w.bus, 4)
    w.call('UNMAP', () => put(w.table, 0, 0))
    expect([w.phb.cache.count, w.rules()]).toEqual([0, []])
  })

  it('a TCE that a call cleared and no kill dropped, at the return and at its use', () => {
    const w = cached()
    w.call('UNMAP', () => w.table.xchg(0, 0, 0))
    expect(w.messages('stale-tce')).toEqual([
      `phb0 still holds a TCE of PE 5 after UNMAP returned: bus address 0x0 of PE 5 as 0x${w.page.toString(16)}003, which the table no longer has`,
    ])
    w.dma(w.pe, 0x10n, 4, 'data')
    w.dma(w.pe, 0x10n, 4, 'more')
    const [held, used] = w.found().filter((f) => f.rule === 'stale-tce')
    expect(used?.message).toBe(
      `a device wrote memory 0x${w.page.toString(16)}010 by a TCE that phb0 holds and the table no longer has, at bus address 0x0 of PE 5`,
    )
    expect([held?.times, used?.times]).toEqual([1, 2])
    const kinds = (seqs: readonly { seq: number }[] | undefined) => seqs?.map(({ seq }) => w.log.kindOf(seq))
    expect(kinds(held?.because)).toEqual(['hw.fill', 'hw.set', 'call.return'])
    expect(kinds(used?.because)).toEqual(['hw.fill', 'hw.set', 'dma.translate'])
    expect(w.rules()).toContain('use-after-unmap')
  })

  it('a kill that went to other pages', () => {
    const w = cached()
    w.call('UNMAP', () => {
      w.table.xchg(0, 0, 0)
      w.table.kill(1, 4)
    })
    expect(w.rules()).toEqual(['stale-tce'])
  })

  it('not what is set to the same again, nor what changes only in bits that do not translate', () => {
    const w = cached()
    w.call('MAP', () => w.table.xchg(0, w.page, 3))
    expect(w.rules()).toEqual([])
    w.call('MAP', () => {
      w.table.xchg(0, 0, 0)
      w.table.xchg(0, w.page, 3)
    })
    expect(w.rules()).toEqual([])
    w.call('MAP', () => w.table.xchg(0, w.page, 1))
    expect(w.rules()).toEqual(['stale-tce'])
  })

  it('all that one call left are one finding', () => {
    const w = hardwareWorld()
    const table = openWindow(w.pe)
    const pages = Array.from({ length: 200 }, () => w.frame().page)
    w.call('MAP', () => pages.forEach((page, i) => void put(table, i, page)))
    for (let i = 0; i < 200; i++) w.dma(w.pe, BigInt(i) << 16n, 1)
    w.call('UNMAP', () => pages.forEach((_, i) => void table.xchg(i, 0, 0)))
    expect(w.messages('stale-tce')).toHaveLength(1)
    expect(w.messages('stale-tce')[0]).toContain('phb0 still holds 200 TCEs of PE 5 after UNMAP returned')
  })

  it('a device may use the entry before until the call returns', () => {
    const w = cached()
    w.call('UNMAP', () => {
      w.table.xchg(0, 0, 0)
      w.call('dma', () => w.dma(w.pe, 0n, 4))
      w.table.kill(0, 1)
    })
    expect(w.rules().filter((r) => r === 'stale-tce')).toEqual([])
  })

  it('outside of a call at the end of the run', () => {
    const w = cached()
    w.table.xchg(0, 0, 0)
    expect(w.messages('stale-tce')[0]).toContain('still holds a TCE of PE 5 at the end')
  })

  it('a window that is taken away, and what the PE has cached of it', () => {
    const w = cached()
    w.call('REMOVE', () => w.pe.setTve(0, 0n, 0))
    expect(w.messages('stale-tce')[0]).toContain('after REMOVE returned: bus address 0x0 of PE 5')
    expect(w.messages('stale-tce')[0]).toContain('of a window that is gone')
  })

  it('not of the other window, and not where the PE was killed', () => {
    const w = cached()
    openWindow(w.pe, { window: 1 })
    w.call('REMOVE', () => w.pe.ops?.unsetWindow(1))
    w.call('REMOVE', () => w.pe.ops?.unsetWindow(0))
    expect(w.rules()).toEqual([])
  })

  it('each PE of a shared table is looked at', () => {
    const w = cached()
    const other = w.phb.addPe({ pe: 6, group: 2 })
    other.ops?.setWindow(0, w.table)
    w.dma(other, 0n, 4)
    w.table.unlink(other)
    w.call('UNMAP', () => put(w.table, 0, 0))
    expect(w.messages('stale-tce')).toHaveLength(1)
    expect(w.messages('stale-tce')[0]).toContain('a TCE of PE 6')
  })

  // Each form of kill, ignored: the run that keeps the promise above breaks it.
  it.each(['PHB3', 'PHB4', 'PHB5'] as const)('a %s that ignores kills breaks it', (platform) => {
    const w = cached({ platform })
    w.call('UNMAP', () => put(w.table, 0, 0))
    expect(w.rules()).toEqual([])
    const bad = cached({ platform })
    bad.phb.kills.pages = () => undefined
    bad.call('UNMAP', () => put(bad.table, 0, 0))
    expect(bad.rules()).toEqual(['stale-tce'])
  })

  it('a bounded cache forgets what made room', () => {
    const w = cached({ cacheEntries: 1 })
    const { page } = w.frame()
    w.call('MAP', () => put(w.table, 1, page))
    w.dma(w.pe, 0x1_0000n, 4)
    w.call('UNMAP', () => w.table.xchg(0, 0, 0))
    expect([w.rules(), eventsOf(w, 'hw.kill').at(-1)]).toMatchObject([[], { scope: 3, count: 1 }])
  })
})
