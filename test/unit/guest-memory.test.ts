import { describe, expect, it } from 'vitest'
import { gpa, ua } from '../../src/bits/brand.ts'
import { GuestMemory, NO_UA } from '../../src/memory/guest-memory.ts'
import { SLOTS_MAX } from '../../src/memory/limits.ts'
import { eventsOf, makeHost, UNLIMITED } from '../support/host.ts'

const UA = 0x7f00_0000_0000n
const [EEXIST, EINVAL, ENOENT, ESRCH, ENOSPC] = [-17, -22, -2, -3, -28]

function make(options: { pageShift?: number; frames?: number } = {}) {
  const made = makeHost(options)
  const qemu = made.processes.spawn('qemu', UNLIMITED)
  const { mm } = qemu
  mm.mmap({ address: UA, bytes: 1n << 24n, read: true, write: true, fixed: true, noreplace: false })
  const guest = new GuestMemory(made.host)
  const add = (at: bigint, bytes: bigint, from = UA, slot?: number) =>
    guest.addSlot({ gpa: gpa(at), bytes, mm, ua: ua(from), ...(slot === undefined ? {} : { slot }) })
  return { ...made, qemu, mm, guest, add }
}

describe('memory slots', () => {
  it('take the lowest free number, or the one that is asked for', () => {
    const { guest, add } = make()
    expect([add(0n, 4096n), add(4096n, 4096n), add(8192n, 4096n, UA, 7)]).toEqual([0, 1, 7])
    expect(guest.removeSlot(0)).toBe(0)
    expect([add(0x10000n, 4096n), add(0x20000n, 4096n)]).toEqual([0, 2])
    expect([...guest.slots()].map(({ slot, gpa, bytes, ua }) => [slot, gpa, bytes, ua])).toEqual([
      [1, 0x1000n, 4096n, UA],
      [7, 0x2000n, 4096n, UA],
      [0, 0x10000n, 4096n, UA],
      [2, 0x20000n, 4096n, UA],
    ])
    expect(guest.bytes).toBe(4 * 4096)
  })

  it('refuse what overlaps, and change nothing', () => {
    const { guest, add } = make()
    add(0x4000n, 0x4000n)
    expect([add(0x3000n, 0x1001n & ~0xfffn), add(0x3000n, 0x2000n), add(0x7000n, 0x9000n)]).toEqual([
      1,
      EEXIST,
      EEXIST,
    ])
    expect([add(0n, 0x10000n), add(0x5000n, 0x1000n), add(0x9000n, 0x1000n, UA, 1)]).toEqual([
      EEXIST,
      EEXIST,
      EEXIST,
    ])
    expect([...guest.slots()].map((s) => s.slot)).toEqual([1, 0])
  })

  it('refuse what is not whole system pages, empty, or outside every address space', () => {
    const { add } = make({ pageShift: 16 })
    expect(add(0x1000n, 0x10000n)).toBe(EINVAL)
    expect(add(0n, 0x1000n)).toBe(EINVAL)
    expect(add(0n, 0x10000n, UA + 0x1000n)).toBe(EINVAL)
    expect(add(0n, 0n)).toBe(EINVAL)
    expect(add(2n ** 52n - 0x10000n, 0x20000n)).toBe(EINVAL)
    expect(add(0n, 0x20000n, 2n ** 52n - 0x10000n)).toBe(EINVAL)
    expect(add(0n, 2n ** 46n, 0n)).toBe(EINVAL)
    expect(add(0n, 0x10000n, UA, SLOTS_MAX)).toBe(EINVAL)
    expect(add(2n ** 52n - 0x10000n, 0x10000n)).toBe(0)
  })

  it.each([
    [12, 47n],
    [16, 52n],
  ])('with system pages of 2^%i bytes, end where user addresses end: at 2^%i', (pageShift, bits) => {
    const { add } = make({ pageShift })
    expect(add(0n, 0x20000n, 2n ** bits - 0x10000n)).toBe(EINVAL)
    expect(add(0n, 0x10000n, 2n ** bits - 0x10000n)).toBe(0)
  })

  it('are bounded in number, and need a living process', () => {
    const { add, processes, qemu } = make()
    for (let i = 0; i < SLOTS_MAX; i++) if (add(BigInt(i) * 4096n, 4096n) !== i) expect(i).toBe('added')
    expect(add(2n ** 40n, 4096n)).toBe(ENOSPC)
    processes.exit(qemu)
    expect(add(2n ** 40n, 4096n, UA, 3)).toBe(ESRCH)
  })

  it('move with their memory', () => {
    const { guest, add } = make()
    add(0n, 0x2000n)
    add(0x8000n, 0x1000n)
    guest.storeU64be(1, 8, 0, 5)
    expect(guest.moveSlot(0, gpa(0x7000n))).toBe(EEXIST)
    expect(guest.moveSlot(0, gpa(0x7001n))).toBe(EINVAL)
    expect(guest.moveSlot(5, gpa(0n))).toBe(ENOENT)
    expect(guest.removeSlot(5)).toBe(ENOENT)
    expect(guest.moveSlot(0, gpa(0x1000n))).toBe(0)
    expect([guest.isRam(0), guest.isRam(1), guest.isRam(2), guest.isRam(3)]).toEqual([
      false,
      true,
      true,
      false,
    ])
    expect([guest.loadU64be(2, 8), guest.wordLo, guest.loadU64be(1, 8), guest.wordLo]).toEqual([
      true,
      5,
      true,
      0,
    ])
  })

  it('tell which user address is behind a guest address', () => {
    const { guest, add, mm } = make({ pageShift: 16 })
    add(0x100_0000n, 0x20000n, UA + 0x30000n)
    expect([guest.uaOf(gpa(0x101_2345n)), guest.uaOf(gpa(0xff_ffffn)), guest.uaOf(gpa(0x102_0000n))]).toEqual(
      [UA + 0x42345n, undefined, undefined],
    )
    expect([guest.uaPageOf(0x1001), guest.uaPageOf(0)]).toEqual([Number((UA + 0x31000n) >> 12n), NO_UA])
    expect([guest.mmOf(0x1001), guest.mmOf(0)]).toEqual([mm, undefined])
  })

  it('record that memory appears and goes', () => {
    const made = make()
    made.add(0x4000n, 0x1000n)
    made.guest.moveSlot(0, gpa(0x5000n))
    made.guest.removeSlot(0)
    const slot = { kind: 'memory.slot', bytes: 0x1000n, ua: UA, owner: 'qemu' }
    expect(eventsOf(made, 'memory.slot')).toEqual([
      { ...slot, gpa: 0x4000n, present: 1 },
      { ...slot, gpa: 0x4000n, present: 0 },
      { ...slot, gpa: 0x5000n, present: 1 },
      { ...slot, gpa: 0x5000n, present: 0 },
    ])
  })
})

describe('guest memory', () => {
  it.each([12, 16])('is the memory of the process, with system pages of 2^%i bytes', (pageShift) => {
    const { guest, add, mm } = make({ pageShift })
    add(0x10_0000n, 0x4_0000n, UA + 0x50000n)
    for (let page = 0x100; page < 0x140; page += 7) guest.storeU64be(page, 16, page, -1)
    const bytes = new Uint8Array(8)
    for (let page = 0x100; page < 0x140; page += 7) {
      mm.read(UA + 0x50010n + (BigInt(page - 0x100) << 12n), bytes)
      expect(new DataView(bytes.buffer).getBigUint64(0)).toBe((BigInt(page) << 32n) | 0xffff_ffffn)
      expect([guest.loadU64be(page, 16), guest.wordHi, guest.wordLo]).toEqual([true, page, -1])
    }
  })

  it('shows what the process maps there at the moment', () => {
    const { guest, add, mm } = make()
    add(0n, 0x2000n)
    guest.storeU64be(0, 0, 0, 7)
    expect(guest.loadU64be(0, 0)).toBe(true)
    mm.munmap(UA, 4096n)
    expect([guest.loadU64be(0, 0), guest.wordLo, guest.isRam(0), guest.storeU64be(0, 0, 0, 1)]).toEqual([
      false,
      0,
      true,
      false,
    ])
    mm.mmap({ address: UA, bytes: 4096n, read: true, write: false, fixed: true, noreplace: false })
    expect([guest.loadU64be(0, 0), guest.wordLo, guest.storeU64be(0, 0, 0, 1)]).toEqual([true, 0, false])
    mm.mprotect(UA, 4096n, { read: true, write: true })
    expect([guest.storeU64be(0, 0, 0, 1), guest.loadU64be(0, 0), guest.wordLo]).toEqual([true, true, 1])
    mm.mprotect(UA, 4096n, { read: false, write: false })
    expect([guest.loadU64be(0, 0), guest.wordLo, guest.storeU64be(0, 0, 0, 1)]).toEqual([false, 0, false])
  })

  it('follows the process through copy-on-write, and ends with it', () => {
    const { guest, add, mm, processes, qemu } = make()
    add(0n, 0x1000n)
    guest.storeU64be(0, 0, 0, 7)
    processes.fork(qemu, 'child')
    guest.storeU64be(0, 0, 0, 8)
    const child = new Uint8Array(8)
    processes.get('child')!.mm.read(UA, child)
    expect([child[7], guest.loadU64be(0, 0), guest.wordLo]).toEqual([7, true, 8])
    processes.exit(qemu)
    expect([guest.isRam(0), guest.loadU64be(0, 0), guest.storeU64be(0, 0, 0, 1)]).toEqual([
      true,
      false,
      false,
    ])
    expect(mm.isDead).toBe(true)
  })

  it('copies bytes in and out, zeros where nothing was written or nothing is', () => {
    const { guest, add } = make()
    add(0n, 0x1000n)
    const bytes = new Uint8Array(4).fill(9)
    expect([guest.readPage(0, 0, bytes, 1, 2), ...bytes]).toEqual([true, 9, 0, 0, 9])
    expect([guest.readPage(1, 0, bytes, 0, 4), ...bytes]).toEqual([false, 0, 0, 0, 0])
    expect(guest.writePage(0, 4094, Uint8Array.of(1, 2, 3), 1, 2)).toBe(true)
    expect([guest.readPage(0, 4092, bytes, 0, 4), ...bytes]).toEqual([true, 0, 0, 2, 3])
    expect(guest.writePage(1, 0, bytes, 0, 1)).toBe(false)
  })

  it('throws when the host has no frame left: a bound of the model, not an answer', () => {
    const { guest, add } = make({ frames: 1 })
    add(0n, 0x2000n)
    guest.storeU64be(0, 0, 0, 1)
    expect(() => guest.storeU64be(1, 0, 0, 1)).toThrow(expect.objectContaining({ code: 'ERR_MEMORY_LIMIT' }))
    expect([guest.loadU64be(1, 0), guest.loadU64be(0, 0), guest.wordLo]).toEqual([true, true, 1])
  })

  it('finds its slots again after the machine went back', () => {
    const { guest, add, journal } = make()
    journal.on = true
    const mark = journal.mark()
    add(0n, 0x1000n)
    guest.storeU64be(0, 0, 0, 7)
    guest.moveSlot(0, gpa(0x5000n))
    expect([guest.loadU64be(5, 0), guest.wordLo]).toEqual([true, 7])
    journal.rollback(mark)
    expect([guest.isRam(0), guest.isRam(5), guest.loadU64be(5, 0), [...guest.slots()]]).toEqual([
      false,
      false,
      false,
      [],
    ])
    expect([add(0x5000n, 0x1000n), guest.loadU64be(5, 0), guest.wordLo]).toEqual([0, true, 0])
  })
})

describe('who watches pages', () => {
  /** A watcher of page 2 that notes the word at the start of the page before and after. */
  function watched() {
    const made = make()
    const { guest, add } = made
    add(0n, 0x4000n)
    const told: (string | number)[][] = []
    const word = () => (guest.loadU64be(2, 0) ? guest.wordLo : -1)
    guest.watcher = {
      watches: (page) => page === 2 || page === 9,
      willWrite: (...where) => told.push(['before', ...where, word()]),
      wrote: (...where) => told.push(['after', ...where, word()]),
    }
    return { ...made, told }
  }

  it('hears of each write there, before and after, and of no other', () => {
    const { guest, told } = watched()
    guest.storeU64be(1, 0, 0, 5)
    guest.storeU64be(2, 0, 0, 7)
    guest.writePage(3, 0, Uint8Array.of(1), 0, 1)
    guest.writePage(2, 6, Uint8Array.of(0, 1, 2, 3), 1, 3)
    expect(told).toEqual([
      ['before', 2, 0, 8, 0],
      ['after', 2, 0, 8, 7],
      ['before', 2, 6, 3, 7],
      ['after', 2, 6, 3, 0x102],
    ])
  })

  it('hears of no write that finds no memory', () => {
    const { guest, told } = watched()
    expect([guest.storeU64be(9, 0, 0, 7), guest.writePage(9, 0, Uint8Array.of(1), 0, 1)]).toEqual([
      false,
      false,
    ])
    expect(told.map(([when]) => when)).toEqual(['before', 'before'])
  })

  it('hears nothing of reads', () => {
    const { guest, told } = watched()
    guest.loadU64be(2, 0)
    guest.readPage(2, 0, new Uint8Array(4), 0, 4)
    guest.loadWords(2, 1, new Int32Array(2))
    expect(told).toEqual([])
  })
})
