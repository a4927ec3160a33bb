import { describe, expect, it } from 'vitest'
import type { Erratum } from '../../src/bits/errata.ts'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { PREREG_ERRATA } from '../../src/kernel/prereg/errata.ts'
import { LEFT_OVER_WARNING } from '../../src/kernel/prereg/preregistered-memory.ts'
import { eventsOf, UNLIMITED } from '../support/host.ts'
import { AT, makePrereg, mapAt } from '../support/prereg.ts'

const [OK, ENOENT, ENXIO, ENOMEM, EFAULT, EBUSY, EINVAL] = [0, -2, -6, -12, -14, -16, -22]
const NONE = -1
type Prereg = ReturnType<typeof makePrereg>

const limit = (pages: bigint, hasIpcLock = false) => ({ memlockBytes: pages << 16n, hasIpcLock })
const create = (
  m: Prereg,
  page: bigint,
  pages: bigint,
  task: { memlockBytes: bigint; hasIpcLock: boolean } = UNLIMITED,
) => m.memory.create(m.qemu.mm, task, AT + page * m.page, pages * m.page)
const lookup = (m: Prereg, at: bigint, bytes: number) => m.memory.lookup(m.qemu.mm, hiOf(at), loOf(at), bytes)
const toHpa = (m: Prereg, region: number, at: bigint, shift = 16) => {
  const code = m.memory.toHpa(region, hiOf(at), loOf(at), shift)
  return code === 0 ? m.memory.hpaPage : code
}
const get = (m: Prereg, page: bigint, pages: bigint) =>
  m.memory.get(m.qemu.mm, AT + page * m.page, pages * m.page)
const find = (m: Prereg, page: bigint, pages: bigint) =>
  m.memory.find(m.qemu.mm, AT + page * m.page, pages * m.page)
const locked = (m: Prereg) => Number(m.qemu.mm.locked.pages)
const pins = (m: Prereg) => {
  const { frames } = m.host
  return Array.from({ length: frames.frames }, (_, frame) => frames.pinsOf(frame)).reduce((a, b) => a + b)
}
/** What a refused call must have left alone. */
const balance = (m: Prereg) => [locked(m), pins(m), m.memory.isUsed(m.qemu.mm)]
const mapped = (m: Prereg, count: number, region = 0) => {
  for (let i = 0; i < count; i++) expect(m.memory.mappedInc(region)).toBe(0)
}

describe('create: the first check that fails answers', () => {
  const readOnly = (m: Prereg, page: bigint) => {
    mapAt(m.qemu, AT + page * m.page, m.page, { write: false })
    return m
  }
  it.each<[string, number, () => number]>([
    ['the charge passes the limit of the caller', ENOMEM, () => run(makePrereg(), 0n, 4n, limit(3n))],
    ['the charge, before nothing is mapped there', ENOMEM, () => run(makePrereg(), 99n, 4n, limit(3n))],
    ['the charge, before it overlaps', ENOMEM, () => run(taken(), 0n, 4n, limit(3n))],
    ['no record', ENOMEM, () => run(makePrereg({ failsAt: 1 }), 0n, 4n)],
    ['no record, before nothing is mapped there', ENOMEM, () => run(makePrereg({ failsAt: 1 }), 99n, 4n)],
    ['nothing is asked for', ENOMEM, () => run(makePrereg(), 0n, 0n, limit(0n))],
    ['no array', ENOMEM, () => run(makePrereg({ failsAt: 2 }), 0n, 4n)],
    ['an array larger than memory', ENOMEM, () => run(makePrereg(), 0n, 2n ** 30n, limit(0n, true))],
    ['nothing is mapped there', EFAULT, () => run(makePrereg(), 16n, 1n)],
    ['nothing is mapped there, before it overlaps', EFAULT, () => run(taken(), 3n, 14n)],
    ['mapped in part', EFAULT, () => run(makePrereg(), 15n, 2n)],
    ['past the end of user space', EFAULT, () => run(makePrereg(), 2n ** 47n, 1n)],
    ['memory that cannot be written', EFAULT, () => run(readOnly(makePrereg(), 0n), 0n, 1n)],
    [
      'memory that cannot be written behind some that can',
      EFAULT,
      () => run(readOnly(makePrereg(), 2n), 0n, 4n),
    ],
    ['the host has no frame', ENOMEM, () => run(full(), 0n, 1n)],
    ['it overlaps at its start', EINVAL, () => run(taken(), 7n, 2n)],
    ['it overlaps at its end', EINVAL, () => run(taken(), 2n, 3n)],
    ['it is a part', EINVAL, () => run(taken(), 5n, 1n)],
    ['it has a part', EINVAL, () => run(taken(), 0n, 16n)],
    ['it is the same: only `get` shares', EINVAL, () => run(taken(), 4n, 4n)],
    ['it touches what lies before', 1, () => run(taken(), 8n, 4n)],
    ['it touches what lies behind', 1, () => run(taken(), 0n, 4n)],
    ['it reaches the limit', 0, () => run(makePrereg(), 0n, 4n, limit(4n))],
    ['CAP_IPC_LOCK stands above the limit', 0, () => run(makePrereg(), 0n, 4n, limit(0n, true))],
  ])('%s: %i', (_what, code, act) => {
    expect(act()).toBe(code)
  })

  function run(m: Prereg, page: bigint, pages: bigint, task = UNLIMITED): number {
    const before = balance(m)
    const free = [m.host.frames.free, eventsOf(m, 'region.new').length]
    const answer = create(m, page, pages, task)
    expect(m.memory.answer).toBe(Math.min(answer, 0))
    if (answer < 0) expect(balance(m)).toEqual(before)
    else expect(locked(m)).toBe((before[0] as number) + Number(pages))
    if (answer < 0) expect(eventsOf(m, 'region.new').length).toBe(free[1])
    return answer
  }
  /** Pages 4 to 7 are a region. */
  function taken() {
    const m = makePrereg()
    create(m, 4n, 4n)
    return m
  }
  function full() {
    const m = makePrereg({ frames: 4 })
    const other = m.processes.spawn('other', UNLIMITED)
    mapAt(other, AT, 4n * m.page)
    other.mm.pin(Number(AT >> 16n), 4, true, new Int32Array(4))
    return m
  }

  it('charges, pins and tells, in this order, and gives back in reverse', () => {
    const m = makePrereg()
    const from = m.log.length
    create(m, 0n, 4n)
    create(m, 3n, 4n)
    const seen = [...m.log.records(from)].map((r) => r.event).filter((e) => e.kind !== 'page.own')
    expect(seen).toEqual([
      { kind: 'mm.locked', process: 'qemu', delta: 4, total: 4 },
      { kind: 'mm.pin', process: 'qemu', ua: AT, count: 4, delta: 1 },
      {
        ...{ kind: 'region.new', region: 0, process: 'qemu', ua: AT, pages: 4, used: 1, mapped: 1 },
        ...{ pageShift: 16, device: 0 },
      },
      { kind: 'mm.locked', process: 'qemu', delta: 4, total: 8 },
      { kind: 'mm.pin', process: 'qemu', ua: AT + 3n * m.page, count: 4, delta: 1 },
      { kind: 'mm.pin', process: 'qemu', ua: AT + 3n * m.page, count: 4, delta: -1 },
      { kind: 'mm.locked', process: 'qemu', delta: -4, total: 4 },
    ])
  })

  it('charges the address space, whoever asks: limit and capability are those of the task', () => {
    const m = makePrereg()
    const helper = m.processes.spawn('helper', limit(2n))
    expect(create(m, 0n, 3n, helper)).toBe(ENOMEM)
    expect([create(m, 0n, 2n, helper), locked(m), helper.mm.locked.pages]).toEqual([0, 2, 0n])
  })

  it('warns of an empty region once', () => {
    const m = makePrereg()
    expect([create(m, 0n, 0n), create(m, 0n, 0n), eventsOf(m, 'warning').length]).toEqual([ENOMEM, ENOMEM, 1])
  })
})

describe('get and find', () => {
  it.each<[string, bigint, bigint, number]>([
    ['exactly the range', 4n, 4n, 0],
    ['the same start, another end', 4n, 2n, NONE],
    ['the same end, another start', 6n, 2n, NONE],
    ['what lies in it', 5n, 1n, NONE],
    ['what holds it', 0n, 16n, NONE],
    ['elsewhere', 0n, 4n, NONE],
  ])('%s', (_what, page, pages, region) => {
    const m = makePrereg()
    create(m, 4n, 4n)
    expect([find(m, page, pages), m.memory.usesOf(0)]).toEqual([region, 1])
    expect([get(m, page, pages), m.memory.usesOf(0)]).toEqual([region, region === 0 ? 2 : 1])
    expect(locked(m)).toBe(4)
  })

  it('another process has regions of its own', () => {
    const m = makePrereg()
    create(m, 0n, 4n)
    const other = m.processes.spawn('other', UNLIMITED)
    expect([m.memory.find(other.mm, AT, 4n * m.page), m.memory.isUsed(other.mm)]).toEqual([NONE, false])
    mapAt(other, AT, 4n * m.page)
    expect(m.memory.create(other.mm, other, AT, 4n * m.page)).toBe(1)
    expect([m.memory.find(other.mm, AT, 4n * m.page), find(m, 0n, 4n)]).toEqual([1, 0])
  })
})

describe('lookup', () => {
  it.each<[string, bigint, number, number]>([
    ['the first byte', AT, 1, 0],
    ['all of it', AT, 4 * 65_536, 0],
    ['one byte more', AT, 4 * 65_536 + 1, NONE],
    ['its last page', AT + 3n * 65_536n, 65_536, 0],
    ['its last page and a byte', AT + 3n * 65_536n + 1n, 65_536, NONE],
    ['a range across two regions that touch', AT + 3n * 65_536n, 2 * 65_536, NONE],
    ['the second region', AT + 4n * 65_536n, 65_536, 1],
    ['before it', AT - 1n, 1, NONE],
    ['behind both', AT + 8n * 65_536n, 1, NONE],
    ['the last page of all', 2n ** 64n - 65_536n, 65_536, NONE],
    ['an IOMMU page of 16 GiB', AT, 2 ** 34, NONE],
  ])('%s', (_what, at, bytes, region) => {
    const m = makePrereg()
    create(m, 0n, 4n)
    create(m, 4n, 4n)
    expect(lookup(m, at, bytes)).toBe(region)
  })
})

describe('put', () => {
  it('one use less, in order: none left to give, others still there, mappings, and it goes', () => {
    const m = makePrereg()
    const before = balance(m)
    expect(m.memory.put(0)).toBe(ENOENT)
    create(m, 0n, 4n)
    get(m, 0n, 4n)
    mapped(m, 1)
    expect([m.memory.put(0), m.memory.usesOf(0), locked(m)]).toEqual([0, 1, 4])
    expect([m.memory.put(0), m.memory.usesOf(0), locked(m)]).toEqual([EBUSY, 1, 4])
    m.memory.mappedDec(0)
    expect([m.memory.put(0), m.memory.usesOf(0), m.memory.mappedOf(0)]).toEqual([0, 0, 0])
    expect(m.memory.put(0)).toBe(ENOENT)
    expect(balance(m)).toEqual(before)
    const fields = { region: 0, process: 'qemu', ua: AT, pages: 4 }
    expect(eventsOf(m, 'region.get', 'region.put', 'region.map')).toEqual([
      { kind: 'region.get', ...fields, used: 2, mapped: 1 },
      { kind: 'region.map', ...fields, used: 2, mapped: 2, delta: 1 },
      { kind: 'region.put', ...fields, used: 1, mapped: 2, code: 0 },
      { kind: 'region.put', ...fields, used: 1, mapped: 2, code: EBUSY },
      { kind: 'region.map', ...fields, used: 1, mapped: 1, delta: -1 },
      { kind: 'region.put', ...fields, used: 0, mapped: 0, code: 0 },
    ])
  })

  it('mappings in a row are one record, until another region has one or they go', () => {
    const m = makePrereg()
    create(m, 0n, 4n)
    create(m, 4n, 4n)
    const { memory } = m
    memory.beginRun()
    for (const region of [0, 0, 1, 1, 1]) memory.mappedInc(region)
    for (let i = 0; i < 4; i++) memory.mappedDec(1)
    memory.mappedInc(1)
    memory.endRun()
    memory.mappedDec(0)
    expect(
      eventsOf(m, 'region.map').map((e) => {
        const { region, delta, mapped } = e as Extract<typeof e, { kind: 'region.map' }>
        return [region, delta, mapped]
      }),
    ).toEqual([
      [0, 2, 3],
      [1, 3, 4],
      [1, -3, 1],
      // One that was not counted stands alone: the count does not move.
      [1, -1, 1],
      [1, 1, 2],
      [0, -1, 2],
    ])
  })

  it('a region that went is found no more, and its number serves again', () => {
    const m = makePrereg()
    create(m, 0n, 4n)
    create(m, 4n, 4n)
    m.memory.put(0)
    expect([find(m, 0n, 4n), lookup(m, AT, 1), toHpa(m, 0, AT), m.memory.isUsed(m.qemu.mm)]).toEqual([
      ...[NONE, NONE, EFAULT],
      true,
    ])
    expect(create(m, 1n, 2n)).toBe(0)
  })

  it('memory that was unmapped meanwhile goes back with it', () => {
    const m = makePrereg()
    create(m, 0n, 4n)
    m.qemu.mm.munmap(AT, 16n * m.page)
    expect(m.host.frames.free).toBe(60)
    m.memory.put(0)
    expect(m.host.frames.free).toBe(64)
  })
})

describe('mapped counts', () => {
  it('go up from 1, not below it, and not for a region that went', () => {
    const m = makePrereg()
    create(m, 0n, 1n)
    expect(m.memory.mappedOf(0)).toBe(1)
    mapped(m, 2)
    expect(m.memory.mappedOf(0)).toBe(3)
    for (let i = 0; i < 5; i++) m.memory.mappedDec(0)
    expect(m.memory.mappedOf(0)).toBe(1)
    m.memory.put(0)
    expect([m.memory.mappedInc(0), m.memory.mappedOf(0), m.memory.mappedInc(7)]).toEqual([ENXIO, 0, ENXIO])
    m.memory.mappedDec(0)
    expect(m.memory.mappedOf(0)).toBe(0)
  })
})

describe('toHpa', () => {
  it('the frame behind each page, whatever is mapped there by now', () => {
    const m = makePrereg()
    create(m, 0n, 4n)
    const frames = [0, 1, 2, 3].map((i) => toHpa(m, 0, AT + BigInt(i) * m.page))
    expect(frames).toEqual([0, 16, 32, 48])
    mapAt(m.qemu, AT, 16n * m.page)
    expect([0, 1, 2, 3].map((i) => toHpa(m, 0, AT + BigInt(i) * m.page))).toEqual(frames)
    expect(toHpa(m, 0, AT + m.page + 0x3abcn)).toBe(16 + 3)
  })

  it.each<[string, bigint, number]>([
    ['past its end', AT + 4n * 65_536n, 12],
    ['past its end, before the page shift', AT + 4n * 65_536n, 60],
    ['before its start', AT - 1n, 12],
    ['an IOMMU page larger than it backs', AT, 17],
  ])('-EFAULT: %s', (_what, at, shift) => {
    const m = makePrereg()
    create(m, 0n, 4n)
    expect(toHpa(m, 0, at, shift)).toBe(EFAULT)
  })

  it('a mark of a write stays with the page until the region goes', () => {
    const m = makePrereg()
    create(m, 0n, 2n)
    const dirty = (page: bigint) => m.memory.isDirty(0, hiOf(AT), loOf(AT + page * m.page))
    m.memory.markDirty(0, hiOf(AT), loOf(AT + m.page + 5n))
    m.memory.markDirty(0, hiOf(AT), loOf(AT + 9n * m.page))
    expect([dirty(0n), dirty(1n), dirty(9n), toHpa(m, 0, AT + m.page)]).toEqual([false, true, false, 16])
    m.memory.put(0)
    create(m, 0n, 2n)
    expect([dirty(0n), dirty(1n)]).toEqual([false, false])
  })
})

describe('the largest IOMMU page of a region', () => {
  /** Four huge pages of 2 MiB at AT, and 2 MiB of ordinary ones behind. */
  const make = (errata: readonly string[] = []) => {
    const m = makePrereg({ frames: 256, pages: 160, errata })
    mapAt(m.qemu, AT, 128n * m.page, { hugeShift: 21 })
    return m
  }
  const shiftOf = (m: Prereg, page: bigint, pages: bigint) => m.memory.pageShiftOf(create(m, page, pages))

  it.each<[string, bigint, bigint, number]>([
    ['huge pages', 0n, 32n, 21],
    ['several huge pages, also where they are aligned for more', 0n, 64n, 21],
    ['a part of a huge page: its own alignment', 16n, 16n, 20],
    ['a part of a huge page that is less aligned', 1n, 16n, 16],
    ['ordinary pages', 128n, 32n, 16],
    ['huge pages, then ordinary ones', 96n, 64n, 16],
  ])('%s', (_what, page, pages, shift) => {
    expect(shiftOf(make(), page, pages)).toBe(shift)
  })

  it('X8: the page size of a huge page is carried to the ordinary pages behind it', () => {
    expect(shiftOf(make(['X8']), 96n, 64n)).toBe(21)
    expect(shiftOf(make(['X8']), 128n, 32n)).toBe(16)
    const m = make(['X8'])
    mapAt(m.qemu, AT - 32n * m.page, 32n * m.page)
    expect(shiftOf(m, -32n, 64n)).toBe(16)
  })

  it('huge pages of 16 MiB with system pages of 4 KiB', () => {
    const m = makePrereg({ pageShift: 12, frames: 8192, pages: 4096 })
    mapAt(m.qemu, AT, 1n << 24n, { hugeShift: 24 })
    expect(m.memory.pageShiftOf(create(m, 0n, 4096n))).toBe(24)
    expect([toHpa(m, 0, AT, 24), toHpa(m, 0, AT, 25), toHpa(m, 0, AT + 0x5000n, 24)]).toEqual([0, EFAULT, 5])
  })
})

describe('device memory', () => {
  const HPA = 0x6_0000_0000_0000n
  const device = (m: Prereg, page: bigint, pages: bigint, hpa = HPA) =>
    m.memory.createDevice(m.qemu.mm, AT + page * m.page, pages * m.page, hpa)

  it('is neither charged nor pinned, and needs nothing mapped', () => {
    const m = makePrereg()
    const before = balance(m)
    expect(device(m, 32n, 16n)).toBe(0)
    expect(balance(m)).toEqual([0, 0, true])
    expect(eventsOf(m, 'region.new')).toMatchObject([{ device: 1, pageShift: 20, pages: 16 }])
    expect([toHpa(m, 0, AT + 33n * m.page + 0x2000n, 20), toHpa(m, 0, AT + 33n * m.page, 21)]).toEqual([
      Number(HPA >> 12n) + 16 + 2,
      EFAULT,
    ])
    m.memory.markDirty(0, hiOf(AT), loOf(AT + 32n * m.page))
    expect(m.memory.isDirty(0, hiOf(AT), loOf(AT + 32n * m.page))).toBe(false)
    expect(m.memory.put(0)).toBe(0)
    expect(balance(m)).toEqual(before)
  })

  it('answers in order: no record, overlap', () => {
    const m = makePrereg({ failsAt: 1 })
    expect([device(m, 0n, 1n), m.memory.answer]).toEqual([ENOMEM, ENOMEM])
    expect([device(m, 0n, 4n), device(m, 3n, 4n), m.memory.answer]).toEqual([0, EINVAL, EINVAL])
    expect(create(m, 2n, 4n)).toBe(EINVAL)
    expect(balance(m)).toEqual([0, 0, true])
  })

  it('is told from ordinary memory by the host address: how much of the IOMMU page lies in it', () => {
    const m = makePrereg()
    const bytes = (page: number, shift: number) => m.memory.deviceBytes(m.qemu.mm, page, shift)
    const first = Number(HPA >> 12n)
    expect(bytes(first, 16)).toBe(0)
    device(m, 32n, 4n)
    create(m, 0n, 4n)
    expect([bytes(first - 1, 12), bytes(first, 12), bytes(first + 48, 16), bytes(first + 48, 20)]).toEqual([
      ...[0, 4096, 65_536],
      65_536,
    ])
    expect([bytes(first + 64, 12), bytes(toHpa(m, 1, AT), 16)]).toEqual([0, 0])
    m.memory.put(0)
    expect(bytes(first, 16)).toBe(0)
  })
})

describe('overlap-before-charge: what overlaps is refused first', () => {
  it.each<[string, number, bigint, bigint, number]>([
    ['past the limit', 3, 4n, 4n, EINVAL],
    ['not mapped further on', 100, 7n, 10n, EINVAL],
    ['past the limit, and nothing in the way', 3, 8n, 4n, ENOMEM],
    ['nothing in the way', 100, 8n, 4n, 1],
  ])('%s', (_what, pages, page, count, code) => {
    const m = makePrereg({ errata: ['overlap-before-charge'] })
    create(m, 4n, 4n)
    const from = m.log.length
    expect(create(m, page, count, limit(BigInt(pages)))).toBe(code)
    expect([m.memory.answer, m.log.length > from]).toEqual([Math.min(code, 0), code === 1])
  })
})

describe('partial-pin-count: memory that is mapped in part', () => {
  it('answers how many pages came before the first that did not; nothing stays', () => {
    const m = makePrereg({ errata: ['partial-pin-count'] })
    expect([create(m, 10n, 10n), m.memory.answer]).toEqual([EFAULT, 6])
    expect([create(m, 16n, 1n), m.memory.answer]).toEqual([EFAULT, EFAULT])
    expect([create(m, 0n, 1n), m.memory.answer]).toEqual([0, 0])
    m.memory.put(0)
    expect(balance(m)).toEqual([0, 0, false])
  })
})

describe('the end of a process', () => {
  it('with its regions given back: nothing is left, and nobody warns', () => {
    const m = makePrereg()
    m.qemu.mm.grab()
    create(m, 0n, 4n)
    m.processes.exit(m.qemu)
    expect([m.host.frames.free, locked(m), m.memory.isUsed(m.qemu.mm)]).toEqual([60, 4, true])
    // A container of another process still accounts on the dead address space.
    expect([create(m, 8n, 1n), m.memory.put(0), locked(m)]).toEqual([EFAULT, 0, 0])
    m.qemu.mm.drop()
    expect([m.host.frames.free, eventsOf(m, 'warning')]).toEqual([64, []])
  })

  it('with regions left: the kernel warns once, and their pages are lost', () => {
    const m = makePrereg()
    create(m, 0n, 4n)
    const other = m.processes.spawn('other', UNLIMITED)
    mapAt(other, AT, m.page)
    m.memory.create(other.mm, other, AT, m.page)
    m.processes.exit(m.qemu)
    m.processes.exit(other)
    expect(eventsOf(m, 'warning')).toEqual([{ kind: 'warning', layer: 'kernel', text: LEFT_OVER_WARNING }])
    expect([m.host.frames.free, locked(m)]).toEqual([59, 4])
    expect(eventsOf(m, 'mm.free').length).toBe(2)
  })
})

describe('vectors', () => {
  const GIB = 2n ** 30n
  const big = () => makePrereg({ frames: 40_000, pages: 16_384 })

  it('T11: the answers of REGISTER, as far as they are those of preregistered memory', () => {
    const m = big()
    const task = limit(20_000n)
    expect(m.memory.create(m.qemu.mm, task, AT, GIB)).toBe(OK)
    expect(locked(m)).toBe(16_384)
    expect(m.memory.create(m.qemu.mm, task, AT, GIB / 2n)).toBe(ENOMEM)
    expect(m.memory.create(m.qemu.mm, limit(30_000n), AT, GIB / 2n)).toBe(EINVAL)
    expect([locked(m), pins(m)]).toEqual([16_384, 16_384])
  })

  it('T12: exact ranges only; a second container shares, charged once', () => {
    const m = big()
    m.memory.create(m.qemu.mm, UNLIMITED, AT, GIB)
    expect(m.memory.find(m.qemu.mm, AT, GIB / 2n)).toBe(NONE)
    expect([m.memory.get(m.qemu.mm, AT, GIB), m.memory.usesOf(0), locked(m)]).toEqual([0, 2, 16_384])
    expect([m.memory.put(0), locked(m), m.memory.put(0), locked(m), pins(m)]).toEqual([0, 16_384, 0, 0, 0])
  })

  it('T13: with two live mappings the last use stays; the kernel loses it by a use of its own on the way', () => {
    const m = big()
    m.memory.create(m.qemu.mm, UNLIMITED, AT, GIB)
    mapped(m, 2)
    expect([m.memory.put(0), m.memory.usesOf(0), m.memory.mappedOf(0)]).toEqual([EBUSY, 1, 3])
    // X1 of VFIO: look up with a use, put that of the container, put its own.
    m.memory.get(m.qemu.mm, AT, GIB)
    expect([m.memory.put(0), m.memory.put(0), m.memory.usesOf(0), locked(m)]).toEqual([0, EBUSY, 1, 16_384])
    for (let i = 0; i < 2; i++) m.memory.mappedDec(0)
    expect([m.memory.get(m.qemu.mm, AT, GIB), m.memory.put(0), m.memory.usesOf(0)]).toEqual([0, 0, 1])
  })
})

describe('many regions', () => {
  it('a look-up finds its way among 10^5', () => {
    const m = makePrereg({ pageShift: 12, frames: 64, pages: 1 })
    const { mm } = m.qemu
    for (let i = 0; i < 100_000; i++) {
      const ua = AT + (BigInt((i * 7919) % 100_000) << 13n)
      expect(m.memory.createDevice(mm, ua, 4096n, 2n ** 50n + (BigInt(i) << 12n))).toBe(i)
    }
    for (let i = 0; i < 100_000; i += 997) {
      const at = AT + (BigInt((i * 7919) % 100_000) << 13n)
      expect([lookup(m, at, 4096), lookup(m, at + 4096n, 1)]).toEqual([i, NONE])
    }
  })
})

describe('errata', () => {
  it.each(PREREG_ERRATA.map((e: Erratum) => [e.id, e] as const))(
    '%s says where it is from',
    (_id, erratum) => {
      expect(erratum.source).toContain('iommu_api.c')
    },
  )
})
