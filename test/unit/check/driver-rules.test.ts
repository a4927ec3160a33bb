import { describe, expect, it } from 'vitest'
import { World } from './world.ts'

const opened = (shape = {}): World => {
  const w = new World()
  w.open(shape)
  return w
}

/** What the DMA API does for one mapping, as a driver call. */
const mapped = (
  w: World,
  first: number,
  options: { count?: number; owner?: string; device?: string } = {},
): number => {
  const { count = 1, ...who } = options
  return w.call('dma_map_page', (cause) => {
    w.take(first, count, 0, 1, cause)
    w.call(
      'H_PUT_TCE',
      (c) => w.set({ first, count, tce: BigInt(first) * 4096n + 3n, step: 12 }, c),
      0,
      cause,
    )
    return w.grant(first, { count, gpa: BigInt(first) * 4096n, ...who }, cause)
  })
}

const unmapped = (w: World, first: number, count = 1): void =>
  w.call('dma_unmap_page', (cause) => {
    w.revoke(first, count, 1, cause)
    w.call('H_STUFF_TCE', (c) => w.set({ first, count, tce: 0n }, c), 0, cause)
    w.free(first, count, 1, cause)
  })

describe('leak-mapping', () => {
  it('what a driver leaves granted when it ends, in one finding a grant', () => {
    const w = opened()
    const grant = mapped(w, 16, { count: 16 })
    mapped(w, 40)
    unmapped(w, 40)
    const removed = w.remove()
    expect(w.found()).toMatchObject([
      {
        rule: 'leak-mapping',
        message: 'bus address 0x10000 + 64 KiB is still mapped and granted; the driver of nic has ended',
      },
    ])
    expect(w.found()[0]?.because.map((e) => e.text)).toEqual([
      'H_PUT_TCE in dma_map_page mapped bus address 0x10000 + 64 KiB (LIOBN 0x80000000, entries 16 to 31) ' +
        'to memory 0x10000 and on, 4 KiB apart: the device may read and write',
      'dma_map_page granted nic bus address 0x10000 + 64 KiB (LIOBN 0x80000000, entries 16 to 31): ' +
        '64 KiB of memory at 0x10000 of nic, to read and write',
      'the driver of nic ended',
    ])
    expect(
      w
        .found()[0]
        ?.because.map((e) => e.seq)
        .slice(1),
    ).toEqual([grant, removed])
  })

  it('is found once, though the run ends settled too', () => {
    const w = opened()
    mapped(w, 16)
    w.remove()
    w.end(1)
    expect(w.found().map((f) => [f.rule, f.times])).toEqual([['leak-mapping', 1]])
  })

  it('a grant that was taken back while the entry stayed', () => {
    const w = opened()
    mapped(w, 16)
    w.revoke(16)
    w.free(16)
    w.remove()
    expect(w.messages('leak-mapping')).toEqual([
      'bus address 0x10000 + 4 KiB is still mapped, though its grant was taken back; the driver of nic has ended',
    ])
  })

  it('in a settled run without grants: every live entry', () => {
    const w = opened()
    w.map(3, 0x5003n, { how: 1 })
    w.end(1)
    expect(w.found()).toMatchObject([
      { rule: 'leak-mapping', message: 'bus address 0x3000 + 4 KiB is still mapped', inferred: true },
    ])
  })

  it.each<[string, (w: World) => unknown]>([
    ['another driver goes on', (w) => [mapped(w, 16, { device: 'disk' }), w.remove('nic')]],
    ['all unmapped before the driver ends', (w) => [mapped(w, 16), unmapped(w, 16), w.remove(), w.end(1)]],
    [
      'a direct window maps all RAM for good',
      (w) => [w.map(0, 0x3n, { count: 64 }), w.direct(), w.remove(), w.end(1)],
    ],
    ['a window that closed', (w) => [mapped(w, 16), w.close(), w.remove(), w.end(1)]],
  ])('kept: %s', (_what, act) => {
    const w = opened()
    act(w)
    expect(w.found()).toEqual([])
    expect(w.judge.verdicts().find((v) => v.rule === 'leak-mapping')).toMatchObject({ state: 'kept' })
  })

  it('a window with an allocator is none that becomes direct, though it lies at the offset', () => {
    const w = opened()
    mapped(w, 16)
    w.direct(0n)
    w.end(1)
    expect(w.rules()).toEqual(['leak-mapping'])
  })

  it('a log that just ends cannot be judged', () => {
    const w = opened()
    w.map(3, 0x5003n)
    w.end(0)
    expect(w.found()).toEqual([])
    expect(w.judge.verdicts().find((v) => v.rule === 'leak-mapping')).toEqual({
      rule: 'leak-mapping',
      state: 'cannot judge',
      missing: ['device.remove'],
      skipped: 0,
    })
  })
})

describe('allocator-drift', () => {
  it('an entry that is freed while it is live', () => {
    const w = opened()
    mapped(w, 16)
    w.revoke(16)
    const freed = w.free(16)
    const end = w.end()
    expect(w.messages('allocator-drift')).toEqual([
      '1 entry from bus address 0x10000 is live, and the allocator has it marked as free',
    ])
    expect(
      w
        .found()[0]
        ?.because.map((e) => e.seq)
        .slice(-2),
    ).toEqual([freed, end])
  })

  it('entries that something maps past the allocator', () => {
    const w = opened()
    mapped(w, 16)
    w.map(32, 0x3n, { count: 16 })
    w.end()
    expect(w.messages('allocator-drift')).toEqual([
      '16 entries from bus address 0x20000 are live, and the allocator has them marked as free',
    ])
  })

  it('a granted entry that was never set: at the DMA, with the answer that nobody passed on', () => {
    const w = opened()
    const grant = w.call('dma_map_page', (cause) => {
      w.take(16, 1, 0, 1, cause)
      w.call('H_PUT_TCE', () => undefined, -4, cause)
      return w.grant(16, {}, cause)
    })
    const first = w.refused(16)
    w.refused(16)
    w.end()
    expect(w.found()).toMatchObject([
      {
        rule: 'allocator-drift',
        message:
          '1 entry from bus address 0x10000 is granted, and the table maps nothing there; a device was refused there',
        times: 2,
      },
    ])
    expect(w.found()[0]?.because.map((e) => [e.seq, e.text])).toEqual([
      [4, 'qemu answers H_PUT_TCE with -4 (refused)'],
      [
        grant,
        'dma_map_page granted nic bus address 0x10000 (LIOBN 0x80000000, entry 16): 4 KiB of memory at 0x0 of nic, to read and write',
      ],
      [first, 'a device tried to read at bus address 0x10000 (LIOBN 0x80000000, entry 16) and was refused'],
    ])
  })

  it('a granted entry that was never set: at the end', () => {
    const w = opened()
    w.take(16)
    w.grant(16)
    w.end()
    expect(w.messages('allocator-drift')).toEqual([
      '1 entry from bus address 0x10000 is granted, and the table maps nothing there',
    ])
  })

  it('a granted entry that somebody else cleared', () => {
    const w = opened()
    mapped(w, 16)
    const cleared = w.clear(16)
    w.refused(16)
    expect(w.rules()).toEqual(['allocator-drift'])
    expect(w.found()[0]?.because.map((e) => e.seq)).toContain(cleared)
  })

  it('an entry that stays marked though its map was undone, with the answer that failed it', () => {
    const w = opened()
    w.call('dma_map_sg', (cause) => {
      w.take(16, 1, 0, 1, cause)
      w.call('H_PUT_TCE', () => undefined, -44, cause)
    })
    w.end()
    expect(w.messages('allocator-drift')).toEqual([
      '1 entry from bus address 0x10000 is marked as used, and neither mapped nor granted',
    ])
    expect(w.found()[0]?.because.map((e) => e.text)).toContain('qemu answers H_PUT_TCE with -44 (refused)')
  })

  it('is judged at the end of a log that has none', () => {
    const w = opened()
    w.take(16)
    w.grant(16)
    expect(w.rules()).toEqual(['allocator-drift'])
  })

  it.each<[string, (w: World) => unknown]>([
    ['mapped and unmapped in order', (w) => [mapped(w, 16), w.use(16), unmapped(w, 16), w.end()]],
    ['still mapped at the end', (w) => [mapped(w, 16, { count: 4 }), w.end()]],
    ['reserved at the start', (w) => [w.take(0, 1, 5), w.end()]],
    [
      'freed before it is cleared, and cleared in time',
      (w) => [mapped(w, 16), w.revoke(16), w.free(16), w.clear(16), w.end()],
    ],
    ['an entry that nobody knows', (w) => [w.take(16), w.map(16, 0n, { how: 2 }), w.end()]],
    [
      'taken, set, not granted: a kernel that takes over the entries of another',
      (w) => [w.take(16), w.map(16, 0x5003n), w.end()],
    ],
    ['a map that failed and was undone', (w) => [w.take(16), w.clear(16), w.free(16), w.end()]],
  ])('kept: %s', (_what, act) => {
    const w = opened()
    act(w)
    expect(w.rules()).toEqual([])
  })

  it('kept: a device is refused at an entry that nobody knows', () => {
    const w = opened()
    w.take(16)
    w.map(16, 0n, { how: 2 })
    w.grant(16)
    w.refused(16)
    expect(w.rules()).toEqual([])
  })

  it('kept: a window without an allocator', () => {
    const w = opened()
    w.map(3, 0x5003n)
    w.grant(4)
    w.end()
    expect(w.rules()).toEqual([])
    expect(w.judge.verdicts().find((v) => v.rule === 'allocator-drift')).toMatchObject({
      missing: ['alloc.take'],
    })
  })
})
