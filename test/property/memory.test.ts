import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { gpa, ua } from '../../src/bits/brand.ts'
import { codeName } from '../../src/bits/codes.ts'
import { Prng } from '../../src/bits/prng.ts'
import { GuestMemory } from '../../src/memory/guest-memory.ts'
import { PROC_EXIT, PROC_FORK, PROC_MMAP, PROC_MPROTECT, PROC_MUNMAP } from '../../src/memory/proc-calls.ts'
import { makeHost, UNLIMITED } from '../support/host.ts'
import { type MemoryOp, NAMES, NaiveMemory, PAGES, picture, type Said } from '../support/naive-memory.ts'

const FRAMES = 14

function makeMemory(options: { pageShift?: number; journal?: boolean } = {}) {
  const made = makeHost({ ...options, frames: FRAMES })
  made.processes.spawn(NAMES[0], UNLIMITED)
  return { ...made, guest: new GuestMemory(made.host), pinned: [] as { page: number; frame: number }[] }
}
type Memory = ReturnType<typeof makeMemory>

const errnoOf = (code: number): Said => (code < 0 ? codeName('errno', code)! : code)
const ruleOf = (decl: { answers: readonly { rule: string }[] }, place: number): Said => {
  const { rule } = decl.answers[place]!
  return rule === 'done' ? 0 : rule === 'no-such-process' ? 'ESRCH' : rule
}

/** The same step on the real thing. Each page's contents are one byte at its start. */
function apply(m: Memory, o: MemoryOp): Said {
  const { host, processes, guest, pinned } = m
  const at = (page: number) => BigInt(page) << BigInt(host.pageShift)
  const sub = 1 << host.frames.subShift
  const byte = new Uint8Array(1)
  if ('value' in o) byte[0] = o.value
  switch (o.op) {
    case 'unpin': {
      if (pinned.length === 0) return 0
      const [{ page, frame }] = pinned.splice(o.which % pinned.length, 1) as [(typeof pinned)[0]]
      return processes.get(NAMES[0])!.mm.unpin(page, 1, Int32Array.of(frame))
    }
    case 'dma': {
      const found = pinned[o.which % pinned.length]
      if (found !== undefined) host.memory.writePage(host.frames.hostPage(found.frame), 0, byte, 0, 1)
      return 0
    }
    case 'unslot':
      return errnoOf(guest.removeSlot(o.slot))
    case 'moveslot':
      return errnoOf(guest.moveSlot(o.slot, gpa(at(o.gpa))))
    case 'guest':
      try {
        return guest.writePage(o.gpa * sub, 0, byte, 0, 1) ? 0 : 'EFAULT'
      } catch {
        return 'ENOMEM'
      }
    default: {
      const process = processes.find(NAMES[o.who])
      return process === undefined ? 'ESRCH' : act(m, o, process, byte)
    }
  }
}

function act(
  m: Memory,
  o: MemoryOp,
  process: NonNullable<ReturnType<Memory['processes']['find']>>,
  byte: Uint8Array,
): Said {
  const { host, processes, guest, pinned } = m
  const { mm } = process
  const at = (page: number) => BigInt(page) << BigInt(host.pageShift)
  switch (o.op) {
    case 'mmap': {
      const access = { read: (o.perm & 1) !== 0, write: (o.perm & 2) !== 0 }
      const { place } = mm.mmap({
        address: at(o.page),
        bytes: at(o.pages),
        ...access,
        fixed: true,
        noreplace: false,
      })
      return ruleOf(PROC_MMAP, place)
    }
    case 'munmap':
      return ruleOf(PROC_MUNMAP, mm.munmap(at(o.page), at(o.pages)))
    case 'mprotect': {
      const access = { read: (o.perm & 1) !== 0, write: (o.perm & 2) !== 0 }
      return ruleOf(PROC_MPROTECT, mm.mprotect(at(o.page), at(o.pages), access))
    }
    case 'write':
      return errnoOf(mm.write(at(o.page), byte).code)
    case 'pin': {
      const frames = new Int32Array(o.pages)
      const got = mm.pin(o.page, o.pages, o.write, frames)
      for (let i = 0; i < got; i++) pinned.push({ page: o.page + i, frame: frames[i]! })
      return errnoOf(got)
    }
    case 'fork':
      return ruleOf(PROC_FORK, processes.fork(process, NAMES[o.child]!))
    case 'exit':
      return ruleOf(PROC_EXIT, processes.exit(process))
    case 'slot':
      return errnoOf(guest.addSlot({ gpa: gpa(at(o.gpa)), bytes: at(o.pages), mm, ua: ua(at(o.page)) }))
    default:
      throw new Error(`no step ${o.op}`)
  }
}

/** What both models must agree on after each step: contents as everybody sees them, and free frames. */
function views(m: Memory, naive: NaiveMemory): [real: unknown, naive: unknown] {
  const { host, processes, guest, pinned } = m
  const byte = new Uint8Array(1)
  const sub = 1 << host.frames.subShift
  const real: Said[] = [host.frames.free]
  const wanted: Said[] = [naive.free]
  for (const name of NAMES) {
    for (let page = 0; page < PAGES; page++) {
      const code = processes.find(name)?.mm.read(BigInt(page) << BigInt(host.pageShift), byte).code ?? -14
      real.push(code === 0 ? byte[0]! : 'EFAULT')
      wanted.push(naive.read(name, page))
    }
  }
  pinned.forEach(({ frame }, i) => {
    host.memory.readPage(host.frames.hostPage(frame), 0, byte, 0, 1)
    real.push(byte[0]!, host.frames.pinsOf(frame), host.frames.usersOf(frame))
    const page = naive.pinned[i]!
    wanted.push(page.value, page.pins, page.users.size)
  })
  for (let gpa = 0; gpa < PAGES * 2; gpa++) {
    const ok = guest.readPage(gpa * sub, 0, byte, 0, 1)
    real.push(guest.isRam(gpa * sub) ? 1 : 0, ok ? byte[0]! : 'EFAULT')
    const [, slot] = naive.slotAt(gpa) ?? []
    wanted.push(
      slot === undefined ? 0 : 1,
      slot === undefined ? 'EFAULT' : naive.read(slot.who, slot.page + gpa - slot.gpa),
    )
  }
  return [real, wanted]
}

const who = fc.nat(NAMES.length - 1)
const stretch = { page: fc.integer({ min: 1, max: PAGES - 5 }), pages: fc.integer({ min: 1, max: 5 }) }
const perm = fc.constantFrom(0, 1, 2, 3, 3, 3)
const value = fc.integer({ min: 0, max: 9 })
const anyOp: fc.Arbitrary<MemoryOp> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ op: fc.constant('mmap' as const), who, ...stretch, perm }) },
  fc.record({ op: fc.constant('munmap' as const), who, ...stretch }),
  fc.record({ op: fc.constant('mprotect' as const), who, ...stretch, perm }),
  { weight: 5, arbitrary: fc.record({ op: fc.constant('write' as const), who, page: stretch.page, value }) },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constant('pin' as const), who, ...stretch, write: fc.boolean() }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('unpin' as const), which: fc.nat(20) }) },
  fc.record({ op: fc.constant('dma' as const), which: fc.nat(20), value }),
  { weight: 2, arbitrary: fc.record({ op: fc.constant('fork' as const), who, child: who }) },
  fc.record({ op: fc.constant('exit' as const), who }),
  fc.record({ op: fc.constant('slot' as const), who, gpa: fc.nat(PAGES), ...stretch }),
  fc.record({ op: fc.constant('unslot' as const), slot: fc.nat(2) }),
  fc.record({ op: fc.constant('moveslot' as const), slot: fc.nat(2), gpa: fc.nat(PAGES) }),
  { weight: 2, arbitrary: fc.record({ op: fc.constant('guest' as const), gpa: fc.nat(PAGES * 2), value }) },
)
/** Runs begin with something mapped, so that short ones get somewhere. */
const start: MemoryOp[] = [
  { op: 'mmap', who: 0, page: 1, pages: 5, perm: 3 },
  { op: 'slot', who: 0, gpa: 0, pages: 5, page: 1 },
]
const ops = fc.array(anyOp, { maxLength: 40, size: 'max' }).map((list) => [...start, ...list])

describe('memory of processes, against pages in maps', () => {
  it.each([12, 16])('answers and shows the same, with system pages of 2^%i bytes', (pageShift) => {
    fc.assert(
      fc.property(ops, (list) => {
        const m = makeMemory({ pageShift })
        const naive = new NaiveMemory(FRAMES)
        for (const o of list) {
          expect(apply(m, o)).toEqual(naive.apply(o))
          const [real, wanted] = views(m, naive)
          expect(real).toEqual(wanted)
        }
      }),
      { numRuns: 400 },
    )
  })

  it('no frame that is pinned has a second user, and every page.own record tells the truth', () => {
    fc.assert(
      fc.property(ops, (list) => {
        const m = makeMemory()
        const owners = new Map<number, string>()
        for (const o of list) apply(m, o)
        for (const { event } of m.log.records()) {
          if (event.kind !== 'page.own') continue
          for (let i = 0; i < event.count; i++) owners.set(event.first + i, event.owner)
        }
        const { frames } = m.host
        for (let frame = 0; frame < FRAMES; frame++) {
          if (frames.pinsOf(frame) > 0) expect(frames.usersOf(frame)).toBeLessThanOrEqual(1)
          expect(frames.isTaken(frame)).toBe(frames.usersOf(frame) + frames.pinsOf(frame) > 0)
          expect(owners.get(frame) ?? '').toBe(frames.ownerOf(frame))
        }
      }),
    )
  })
})

describe('memory with an undo log', () => {
  it('goes back to any mark, and the same steps lead to the same state again', () => {
    fc.assert(
      fc.property(ops, fc.array(fc.nat(41), { maxLength: 4 }), (list, stops) => {
        const m = makeMemory({ journal: true })
        const trail: { mark: number; hash: string; picture: string; pinned: typeof m.pinned; said: Said }[] =
          []
        const step = (o: MemoryOp) => {
          trail.push({
            mark: m.journal.mark(),
            hash: m.journal.hash,
            picture: picture(m),
            pinned: [...m.pinned],
            said: apply(m, o),
          })
        }
        for (const o of list) step(o)
        for (const stop of stops) {
          const back = stop % list.length
          const there = trail.splice(back)
          const { mark, hash, picture: before, pinned } = there[0]!
          m.journal.rollback(mark)
          m.pinned.splice(0, m.pinned.length, ...pinned)
          expect({ hash: m.journal.hash, picture: picture(m) }).toEqual({ hash, picture: before })
          for (const o of list.slice(back)) step(o)
          expect(trail.slice(back)).toMatchObject(
            there.map(({ hash, picture, said }) => ({ hash, picture, said })),
          )
        }
      }),
      { numRuns: 60 },
    )
  })

  it('two runs whose memory looks the same have the same hash, and only those', () => {
    const hashes = new Map<string, string>()
    const pictures = new Map<string, string>()
    const prng = new Prng(20)
    const small: MemoryOp[] = [
      { op: 'mmap', who: 0, page: 1, pages: 2, perm: 3 },
      { op: 'mmap', who: 0, page: 3, pages: 1, perm: 3 },
      { op: 'munmap', who: 0, page: 2, pages: 1 },
      { op: 'mprotect', who: 0, page: 1, pages: 1, perm: 1 },
      { op: 'mprotect', who: 0, page: 1, pages: 1, perm: 3 },
      { op: 'write', who: 0, page: 1, value: 1 },
      { op: 'write', who: 0, page: 1, value: 2 },
      { op: 'pin', who: 0, page: 1, pages: 1, write: true },
      { op: 'unpin', which: 0 },
      { op: 'fork', who: 0, child: 1 },
      { op: 'fork', who: 0, child: 2 },
      { op: 'write', who: 1, page: 1, value: 2 },
      { op: 'slot', who: 0, gpa: 0, pages: 1, page: 1 },
      { op: 'moveslot', slot: 0, gpa: 1 },
      { op: 'unslot', slot: 0 },
      { op: 'exit', who: 1 },
    ]
    let again = 0
    for (let run = 0; run < 1500; run++) {
      const m = makeMemory({ journal: false })
      m.journal.on = true
      const steps = 1 + prng.below(6)
      for (let i = 0; i < steps; i++) apply(m, prng.pick(small))
      const seen = picture(m)
      const { hash } = m.journal
      if (hashes.has(seen)) again++
      expect(hashes.get(seen) ?? hash).toBe(hash)
      expect(pictures.get(hash) ?? seen).toBe(seen)
      hashes.set(seen, hash)
      pictures.set(hash, seen)
    }
    expect(again).toBeGreaterThan(200)
    expect(hashes.size).toBeGreaterThan(100)
  })
})
