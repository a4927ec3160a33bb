import { describe, expect, it } from 'vitest'
import { eventsOf, makeHost, UNLIMITED } from '../support/host.ts'

const AT = 0x1000_0000n
const PAGE = 0x10000

function make(frames = 16, perm = { read: true, write: true }) {
  const made = makeHost({ frames })
  const { mm } = made.processes.spawn('qemu', UNLIMITED)
  mm.mmap({ address: AT, bytes: 8n * 4096n, ...perm, fixed: true, noreplace: false })
  return { ...made, mm }
}

describe('pins of an address space', () => {
  it('brings pages in, and pins the same frame twice', () => {
    const { mm, host } = make()
    const frames = new Int32Array(4)
    expect(mm.pin(PAGE, 2, true, frames)).toBe(2)
    expect(mm.pin(PAGE + 1, 1, false, frames, 2)).toBe(1)
    expect([...frames]).toEqual([0, 1, 1, 0])
    expect([host.frames.pinsOf(0), host.frames.pinsOf(1), host.frames.free]).toEqual([1, 2, 14])
    expect(mm.unpin(PAGE, 3, frames)).toBe(3)
    expect(mm.unpin(PAGE, 1, frames)).toBe(0)
  })

  it('pins what it can: fewer pages than asked, or the error of the first', () => {
    const frames = new Int32Array(8)
    const { mm } = make()
    expect(mm.pin(PAGE + 6, 4, true, frames)).toBe(2)
    expect(mm.pin(PAGE + 8, 1, true, frames)).toBe(-14)
    expect(mm.pin(PAGE, 0, true, frames)).toBe(0)
    expect(make(3).mm.pin(PAGE, 8, true, frames)).toBe(3)
    const full = make(3)
    full.mm.pin(PAGE, 3, true, frames)
    expect(full.mm.pin(PAGE + 3, 1, true, frames)).toBe(-12)
  })

  it('asks the permission of the range', () => {
    const frames = new Int32Array(1)
    const readOnly = make(16, { read: true, write: false })
    expect(readOnly.mm.pin(PAGE, 1, true, frames)).toBe(-14)
    expect(readOnly.mm.pin(PAGE, 1, false, frames)).toBe(1)
    expect(make(16, { read: false, write: false }).mm.pin(PAGE, 1, false, frames)).toBe(-14)
    expect(make(16, { read: false, write: true }).mm.pin(PAGE, 1, false, frames)).toBe(1)
  })

  it('gives a shared page a frame of its own before it is pinned, also for reading', () => {
    const { mm, host, processes } = make()
    mm.write(AT, Uint8Array.of(5))
    processes.fork(processes.get('qemu')!, 'child')
    const frames = new Int32Array(2)
    expect(processes.get('child')!.mm.pin(PAGE, 1, false, frames)).toBe(1)
    expect(mm.pin(PAGE, 1, false, frames, 1)).toBe(1)
    expect([host.frames.ownerOf(frames[0]!), host.frames.ownerOf(frames[1]!)]).toEqual(['child', 'qemu'])
    expect(frames[0]).not.toBe(frames[1])
  })

  it('records pins as ranges of pages', () => {
    const made = make()
    const frames = new Int32Array(3)
    made.mm.pin(PAGE + 1, 3, true, frames)
    made.mm.pin(PAGE + 20, 3, true, frames)
    made.mm.unpin(PAGE + 1, 3, frames)
    const pin = { kind: 'mm.pin', process: 'qemu', ua: AT + 4096n, count: 3 }
    expect(eventsOf(made, 'mm.pin')).toEqual([
      { ...pin, delta: 1 },
      { ...pin, delta: -1 },
    ])
  })
})

describe('software and its memory', () => {
  it('reads and writes across pages, up to where memory ends', () => {
    const { mm } = make()
    const data = Uint8Array.from({ length: 5000 }, (_, i) => i)
    expect(mm.write(AT + 100n, data)).toEqual({ moved: 5000, code: 0 })
    const back = new Uint8Array(5000)
    expect(mm.read(AT + 100n, back)).toEqual({ moved: 5000, code: 0 })
    expect(back).toEqual(data)
    expect(mm.write(AT + 0x7fffn, Uint8Array.of(1, 2))).toEqual({ moved: 1, code: -14 })
  })

  it('reads and writes within pages of 64 KiB', () => {
    const { host, processes } = makeHost({ pageShift: 16 })
    const { mm } = processes.spawn('qemu', UNLIMITED)
    mm.mmap({ address: AT, bytes: 1n, read: true, write: true, fixed: true, noreplace: false })
    const data = new Uint8Array(65_536).map((_, i) => i >>> 8)
    expect(mm.write(AT, data)).toEqual({ moved: 65_536, code: 0 })
    const back = new Uint8Array(65_536)
    mm.read(AT, back)
    expect(back).toEqual(data)
    expect(host.frames.free).toBe(63)
  })

  it('stops where the host has no frame left', () => {
    const { mm } = make(2)
    expect(mm.write(AT, new Uint8Array(3 * 4096).fill(1))).toEqual({ moved: 8192, code: -12 })
  })
})
