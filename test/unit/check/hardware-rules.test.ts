import { describe, expect, it } from 'vitest'
import { hex } from '../../../src/bits/u64.ts'
import { openSegments } from '../../../src/hw/ioda1-window.ts'
import type { MultiLevelTable } from '../../../src/table/multi-level-table.ts'
import { eventsOf } from '../../support/host.ts'
import { openWindow } from '../../support/ioda.ts'
import { hardwareWorld } from './hardware-world.ts'

type World = ReturnType<typeof hardwareWorld>
const BASE_64 = 1n << 59n
const PAGE = 0x1_0000n

/** Sets an entry and makes caches forget it. */
function put(table: MultiLevelTable, entry: number, page: number, dir: 0 | 1 | 3 = page === 0 ? 0 : 3) {
  table.xchg(table.offset + entry, page, dir)
  table.kill(table.offset + entry, 1)
}

function mapped(options: Parameters<typeof hardwareWorld>[0] = {}) {
  const w = hardwareWorld(options)
  const table = openWindow(w.pe)
  const own = w.frame()
  w.call('MAP', () => put(table, 1, own.page))
  return { ...w, table, own }
}
const kindsOf = (w: World, rule: string) =>
  w
    .found()
    .find((f) => f.rule === rule)
    ?.because.map(({ seq }) => w.log.kindOf(seq))

describe('a DMA through a hardware table', () => {
  it('that is mapped keeps all promises, and is counted', () => {
    const w = mapped()
    w.dma(w.pe, PAGE, 8)
    w.dma(w.pe, PAGE, 8, 'written!')
    expect(w.rules()).toEqual([])
    expect(w.uses).toMatchObject({ count: 2, hardware: 2, hardwareRefused: 0, stray: 0 })
  })

  it('of an entry that was cleared is a use after unmap', () => {
    const w = mapped()
    w.call('UNMAP', () => put(w.table, 1, 0))
    w.dma(w.pe, PAGE, 8)
    expect(w.messages('use-after-unmap')).toEqual([
      'a device touched bus address 0x10000 after its unmap; the IOMMU refused it',
    ])
    expect(w.found()[0]?.because.map((e) => e.text)).toEqual([
      `MAP set entry 1 of hardware table 1 to memory ${hex(w.own.page * 4096)}: devices may read and write`,
      `UNMAP cleared entry 1 of hardware table 1; before: ${hex(w.own.page * 4096 + 3)}`,
      'a device tried to read at bus address 0x10000 (PE 5 of phb0, entry 1) and was refused',
    ])
    expect(w.uses).toMatchObject({ hardware: 1, hardwareRefused: 1 })
  })

  it('of an entry that was never set, or in the wrong direction, was not granted', () => {
    const w = mapped()
    w.dma(w.pe, 2n * PAGE, 8)
    w.call('MAP', () => put(w.table, 3, w.own.page, 1))
    w.dma(w.pe, 3n * PAGE, 8, 'written!')
    expect(w.messages('dma-not-granted')).toEqual([
      'a device tried bus address 0x20000, which was never mapped; the IOMMU refused it',
      'a device went to write bus address 0x30000, granted to read only, and the IOMMU refused it',
    ])
  })

  it('through the bypass window is what the kernel wants', () => {
    const w = hardwareWorld()
    w.pe.ops?.releaseOwnership()
    const { page } = w.frame()
    w.dma(w.pe, BASE_64 + BigInt(page) * 4096n, 8)
    expect([w.rules(), w.uses.hardware]).toEqual([[], 1])
  })

  it('in a window that is gone, or beyond it, is in no window', () => {
    const w = mapped()
    w.call('REMOVE', () => w.pe.ops?.unsetWindow(0))
    w.dma(w.pe, PAGE, 8)
    expect(w.messages('dma-not-granted')).toEqual([
      'a device tried bus address 0x10000, which is in no window',
    ])
  })

  it('is found by the number of the window, which is no window of a guest', () => {
    const w = mapped()
    expect(w.windows.find(2)).toMatchObject({ hardware: { pe: 5, index: 0 }, place: 'PE 5 of phb0' })
    expect(w.windows.find(2)?.hardware?.table).toBe(w.windows.hardware.find(1))
    expect([...w.windows.all()]).toEqual([])
  })
})

describe('P7IOC', () => {
  it('has one table for all segments of a PE, and each is a window of it', () => {
    const w = hardwareWorld({ platform: 'P7IOC' })
    const pe = w.phb.addPe({ pe: 1, group: 2, firstSegment: 2, segments: 2 })
    openSegments(w.phb, pe)
    const table = pe.tables[0] as MultiLevelTable
    const { page } = w.frame()
    w.call('MAP', () => put(table, 0x1_0001, page))
    w.dma(pe, 0x3000_1000n, 4)
    expect(w.rules()).toEqual([])
    w.call('UNMAP', () => table.xchg(table.offset + 0x1_0001, 0, 0))
    w.dma(pe, 0x3000_1000n, 4)
    expect(w.rules()).toEqual(['use-after-unmap', 'stale-tce', 'stale-tce'])
    expect(w.messages('use-after-unmap')[0]).toContain('used bus address 0x30001000 after it was taken back')
  })
})

describe('foreign-memory of the host', () => {
  it('memory that changed hands while a TCE still maps it, where a device reaches it', () => {
    const w = mapped()
    w.call('UNREGISTER', () => w.host.frames.put(w.own.frame))
    w.dma(w.pe, PAGE, 8)
    expect(w.messages('foreign-memory')).toEqual([
      `a device read memory ${hex(w.own.page * 4096)}, which is free at bus address 0x10000: it changed hands after it was mapped`,
    ])
    const again = w.frame('other')
    expect(again.frame).toBe(w.own.frame)
    w.dma(w.pe, PAGE, 8, 'damage!!')
    expect(w.messages('foreign-memory')[1]).toBe(
      `a device wrote memory ${hex(w.own.page * 4096)} of other at bus address 0x10000: it changed hands after it was mapped`,
    )
    expect(kindsOf(w, 'foreign-memory')).toEqual(['hw.set', 'page.own', 'dma.translate'])
  })

  it('the same owner again is another life of the memory', () => {
    const w = mapped()
    w.host.frames.put(w.own.frame)
    w.frame()
    w.dma(w.pe, PAGE, 8)
    expect(w.rules()).toEqual(['foreign-memory'])
  })

  it('mapped anew it is not', () => {
    const w = mapped()
    w.call('UNMAP', () => put(w.table, 1, 0))
    w.host.frames.put(w.own.frame)
    const next = w.frame('qemu')
    w.call('MAP', () => put(w.table, 1, next.page))
    w.dma(w.pe, PAGE, 8)
    expect(w.rules()).toEqual([])
  })

  it('memory of somebody else that a process maps', () => {
    const w = mapped()
    const other = w.frame('other')
    w.call('MAP', () => put(w.table, 2, other.page))
    expect(w.messages('foreign-memory')).toEqual([
      `a 64 KiB IOMMU page that qemu mapped exposes memory ${hex(other.page * 4096)} of other, at bus address 0x20000`,
    ])
    expect(kindsOf(w, 'foreign-memory')).toEqual(['page.own', 'hw.set'])
  })

  it('all frames of a large IOMMU page count; those of which nothing is known do not', () => {
    const w = hardwareWorld()
    const table = openWindow(w.pe, { pageShift: 24 })
    const first = w.host.frames.allocate(w.host.frames.owner('qemu'), 8)
    w.call('MAP', () => put(table, 0, w.host.frames.hostPage(first)))
    expect(w.rules()).toEqual([])
    w.host.frames.give(first + 255, w.host.frames.owner('other'))
    w.call('MAP', () => put(table, 1, w.host.frames.hostPage(first)))
    expect(w.messages('foreign-memory')[0]).toContain('a 16 MiB IOMMU page that qemu mapped exposes memory')
    w.call('MAP', () => put(table, 2, 0x2_0000))
    expect(w.found()).toHaveLength(1)
  })

  it('each frame that a request reaches is judged, and none behind it', () => {
    const w = hardwareWorld()
    const table = openWindow(w.pe, { pageShift: 24 })
    const first = w.host.frames.allocate(w.host.frames.owner('qemu'), 8)
    w.call('MAP', () => put(table, 0, w.host.frames.hostPage(first)))
    w.host.frames.give(first + 2, w.host.frames.owner('other'))
    w.dma(w.pe, 0x1_8000n, 0x8000)
    expect(w.rules()).toEqual([])
    w.dma(w.pe, 0x1_8000n, 0x8001)
    expect(w.rules()).toEqual(['foreign-memory'])
  })

  it('all memory, beside the table of a process: whichever window comes first', () => {
    const text =
      'PE 5 of phb0 leads to a table of qemu, and its window 1 has no table: it reaches all memory of the host'
    const first = hardwareWorld()
    first.pe.ops?.releaseOwnership()
    first.call('SET_WINDOW', () => openWindow(first.pe))
    expect(first.messages('foreign-memory')).toEqual([text])
    expect(kindsOf(first, 'foreign-memory')).toEqual(['hw.window', 'hw.table', 'hw.window'])
    const last = hardwareWorld()
    last.call('SET_WINDOW', () => openWindow(last.pe))
    // A table and its level, and no link: window 0 stays as it is.
    last.allow(2)
    last.pe.ops?.releaseOwnership()
    expect(last.messages('foreign-memory')).toEqual([text])
    expect(kindsOf(last, 'foreign-memory')).toEqual(['hw.table', 'hw.window', 'hw.window'])
  })

  it('windows without a table are no matter of a process once its own are gone, nor of another PE', () => {
    const w = hardwareWorld()
    const other = w.phb.addPe({ pe: 6, group: 2 })
    other.ops?.releaseOwnership()
    w.call('SET_WINDOW', () => [openWindow(w.pe), openWindow(w.pe, { window: 1 })])
    w.call('REMOVE', () => [w.pe.ops?.unsetWindow(0), w.pe.ops?.unsetWindow(1)])
    w.pe.ops?.releaseOwnership()
    expect(w.rules()).toEqual([])
  })

  it('what the kernel maps outside of calls is its own business', () => {
    const w = hardwareWorld()
    const table = openWindow(w.pe)
    put(table, 1, w.frame('other').page)
    w.dma(w.pe, PAGE, 8)
    expect(w.rules()).toEqual([])
  })
})

describe('out-of-table and host-memory-corruption', () => {
  it('an index that leaves the levels', () => {
    const w = mapped()
    w.call('MAP_DMA', () => {
      for (const entry of [0x4000, 0x4001]) put(w.table, entry, w.own.page)
    })
    const address = hex(w.table.rootPage * 4096 + 0x4000 * 8)
    expect(w.messages('host-memory-corruption')).toEqual([
      `MAP_DMA writes the tce of entry 16384 of hardware table 1, which has 16384, to host memory ${address}`,
    ])
    expect(w.found()[0]?.times).toBe(2)
    expect(kindsOf(w, 'host-memory-corruption')).toEqual(['hw.table', 'call.enter', 'memory.corrupt'])
    w.call('MAP_DMA', () => put(w.table, -1, w.own.page))
    expect(w.messages('host-memory-corruption')[1]).toContain('entry -1 of hardware table 1')
  })

  it('an index that the levels have room for, and the table does not', () => {
    const w = hardwareWorld()
    const table = openWindow(w.pe, { levels: 2 })
    const { page } = w.frame()
    w.call('MAP_DMA', () => put(table, table.entries - 1, page))
    expect(w.rules()).toEqual([])
    w.call('MAP_DMA', () => [put(table, table.entries, page), put(table, table.entries + 1, page)])
    expect(w.messages('out-of-table')).toEqual([
      'entry 16384 of hardware table 1 was written, which has 16384',
    ])
    expect(eventsOf(w, 'memory.corrupt')).toEqual([])
  })
})

describe('table-reference-leak', () => {
  const end = (w: World, settled: number) => w.log.emit('run.end', null, { settled })
  const gone = (w: World) => w.log.emit('mm.free', null, { process: 'qemu' })

  function lent() {
    const w = hardwareWorld()
    const table = w.call('CREATE', () => openWindow(w.pe))
    return { ...w, table }
  }

  it('a table that is given back by all is none', () => {
    const w = lent()
    w.call('REMOVE', () => {
      w.pe.ops?.unsetWindow(0)
      w.table.put('container 1')
    })
    gone(w)
    end(w, 1)
    expect([w.table.references, w.rules()]).toEqual([0, []])
  })

  it('of a process that is gone: the reference of its container', () => {
    const w = lent()
    w.call('REMOVE', () => w.pe.ops?.unsetWindow(0))
    w.log.emit('mm.free', null, { process: 'other' })
    expect(w.rules()).toEqual([])
    gone(w)
    end(w, 1)
    expect(w.messages('table-reference-leak')).toEqual([
      'hardware table 1 of qemu is never freed: no PE uses it, and 1 reference is left, that of who made it',
    ])
    expect(kindsOf(w, 'table-reference-leak')).toEqual(['hw.table', 'hw.window', 'hw.ref', 'mm.free'])
  })

  it('of a holder that forgot to let go', () => {
    const w = lent()
    w.table.get('kvm')
    w.call('REMOVE', () => {
      w.pe.ops?.unsetWindow(0)
      w.table.put('container 1')
    })
    end(w, 0)
    expect(w.rules()).toEqual([])
    end(w, 1)
    expect(w.messages('table-reference-leak')[0]).toContain('1 reference is left, 1 of kvm')
  })

  it('of the kernel at the end, settled or not; one that a PE uses is none', () => {
    const w = hardwareWorld()
    w.pe.ops?.releaseOwnership()
    end(w, 1)
    expect(w.rules()).toEqual([])
    w.pe.ops?.unsetWindow(0)
    end(w, 0)
    expect(w.messages('table-reference-leak')).toEqual([
      'hardware table 1 of the kernel is never freed: no PE uses it, and 1 reference is left, that of who made it',
    ])
  })
})
