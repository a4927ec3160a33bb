import type { Process } from '../../src/memory/process.ts'
import type { TestHost } from './host.ts'

/** A page as a person thinks of it: what is in it, who has it mapped, how often it is pinned. */
interface NaivePage {
  value: number
  readonly users: Set<string>
  pins: number
}

interface NaiveProcess {
  readonly perms: Map<number, number>
  readonly pages: Map<number, NaivePage>
}

export const PAGES = 12
export const NAMES = ['a', 'b', 'c'] as const

export type MemoryOp =
  | { op: 'mmap'; who: number; page: number; pages: number; perm: number }
  | { op: 'munmap'; who: number; page: number; pages: number }
  | { op: 'mprotect'; who: number; page: number; pages: number; perm: number }
  | { op: 'write'; who: number; page: number; value: number }
  | { op: 'pin'; who: number; page: number; pages: number; write: boolean }
  | { op: 'unpin'; which: number }
  | { op: 'dma'; which: number; value: number }
  | { op: 'fork'; who: number; child: number }
  | { op: 'exit'; who: number }
  | { op: 'slot'; who: number; gpa: number; pages: number; page: number }
  | { op: 'unslot'; slot: number }
  | { op: 'moveslot'; slot: number; gpa: number }
  | { op: 'guest'; gpa: number; value: number }

/** What a step answers, in the words of both models. */
export type Said = number | string

const isReadable = (perm: number | undefined): boolean => perm !== undefined && perm !== 0
const isWritable = (perm: number | undefined): boolean => perm !== undefined && (perm & 2) !== 0

/**
 * Memory of some processes with nothing clever in it: a map of permissions and a map of pages for each, and a
 * list of pages for a device. Copy-on-write is a set of users.
 */
export class NaiveMemory {
  readonly processes = new Map<string, NaiveProcess | 'ended'>([
    [NAMES[0], { perms: new Map(), pages: new Map() }],
  ])
  readonly pinned: NaivePage[] = []
  readonly slots = new Map<number, { who: string; gpa: number; pages: number; page: number }>()
  readonly #frames: number

  constructor(frames: number) {
    this.#frames = frames
  }

  alive(who: number): NaiveProcess | undefined {
    const found = this.processes.get(NAMES[who]!)
    return found === 'ended' ? undefined : found
  }

  get free(): number {
    const taken = new Set<NaivePage>(this.pinned)
    for (const p of this.processes.values())
      if (p !== 'ended') for (const page of p.pages.values()) taken.add(page)
    return this.#frames - taken.size
  }

  /** The page for a write or a pin, a copy of its own where it was shared; or why not. */
  touch(who: string, page: number, write: boolean): NaivePage | 'EFAULT' | 'ENOMEM' {
    const p = this.processes.get(who)
    if (p === undefined || p === 'ended') return 'EFAULT'
    const perm = p.perms.get(page)
    if (write ? !isWritable(perm) : !isReadable(perm)) return 'EFAULT'
    const found = p.pages.get(page)
    if (found !== undefined && found.users.size === 1) return found
    if (this.free === 0) return 'ENOMEM'
    found?.users.delete(who)
    const own = { value: found?.value ?? 0, users: new Set([who]), pins: 0 }
    p.pages.set(page, own)
    return own
  }

  read(who: string, page: number): number | 'EFAULT' {
    const p = this.processes.get(who)
    if (p === undefined || p === 'ended' || !isReadable(p.perms.get(page))) return 'EFAULT'
    return p.pages.get(page)?.value ?? 0
  }

  slotAt(gpa: number) {
    return [...this.slots].find(([, s]) => gpa >= s.gpa && gpa < s.gpa + s.pages)
  }

  apply(o: MemoryOp): Said {
    switch (o.op) {
      case 'unpin':
        return this.#unpin(o.which)
      case 'dma': {
        if (this.pinned.length > 0) this.pinned[o.which % this.pinned.length]!.value = o.value
        return 0
      }
      case 'unslot':
        return this.slots.delete(o.slot) ? 0 : 'ENOENT'
      case 'moveslot':
        return this.#moveSlot(o.slot, o.gpa)
      case 'guest': {
        const [, slot] = this.slotAt(o.gpa) ?? []
        if (slot === undefined) return 'EFAULT'
        return this.#write(slot.who, slot.page + o.gpa - slot.gpa, o.value)
      }
      default: {
        const who = NAMES[o.who]!
        const p = this.alive(o.who)
        return p === undefined ? 'ESRCH' : this.#act(o, who, p)
      }
    }
  }

  #act(o: MemoryOp, who: string, p: NaiveProcess): Said {
    switch (o.op) {
      case 'mmap':
        this.#unmap(who, p, o.page, o.pages)
        for (let i = 0; i < o.pages; i++) p.perms.set(o.page + i, o.perm)
        return 0
      case 'munmap':
        this.#unmap(who, p, o.page, o.pages)
        return 0
      case 'mprotect':
        for (let i = 0; i < o.pages; i++) {
          if (!p.perms.has(o.page + i)) return i === 0 ? 'start-not-mapped' : 'hole'
          p.perms.set(o.page + i, o.perm)
        }
        return 0
      case 'write':
        return this.#write(who, o.page, o.value)
      case 'pin':
        return this.#pin(who, o)
      case 'fork':
        return this.#fork(p, NAMES[o.child]!)
      case 'exit':
        this.#unmap(who, p, 0, PAGES)
        this.processes.set(who, 'ended')
        return 0
      case 'slot': {
        const hits = [...this.slots.values()].some((s) => s.gpa < o.gpa + o.pages && o.gpa < s.gpa + s.pages)
        if (hits) return 'EEXIST'
        let slot = 0
        while (this.slots.has(slot)) slot++
        this.slots.set(slot, { who, gpa: o.gpa, pages: o.pages, page: o.page })
        return slot
      }
      default:
        throw new Error(`no step ${o.op}`)
    }
  }

  #write(who: string, page: number, value: number): Said {
    const found = this.touch(who, page, true)
    if (typeof found === 'string') return found
    found.value = value
    return 0
  }

  #pin(who: string, o: { page: number; pages: number; write: boolean }): Said {
    for (let i = 0; i < o.pages; i++) {
      const found = this.touch(who, o.page + i, o.write)
      if (typeof found === 'string') return i === 0 ? found : i
      found.pins++
      this.pinned.push(found)
    }
    return o.pages
  }

  #unpin(which: number): Said {
    if (this.pinned.length === 0) return 0
    const [page] = this.pinned.splice(which % this.pinned.length, 1)
    page!.pins--
    return 1
  }

  #unmap(who: string, p: NaiveProcess, page: number, pages: number): void {
    for (let at = page; at < page + pages; at++) {
      p.pages.get(at)?.users.delete(who)
      p.pages.delete(at)
      p.perms.delete(at)
    }
  }

  #fork(parent: NaiveProcess, child: string): Said {
    if (this.processes.has(child)) return 'name-taken'
    const pinned = [...parent.pages.values()].filter((page) => page.pins > 0).length
    if (pinned > this.free) return 'no-frames'
    const made: NaiveProcess = { perms: new Map(parent.perms), pages: new Map() }
    for (const [at, page] of parent.pages) {
      if (page.pins > 0) made.pages.set(at, { value: page.value, users: new Set([child]), pins: 0 })
      else {
        page.users.add(child)
        made.pages.set(at, page)
      }
    }
    this.processes.set(child, made)
    return 0
  }

  #moveSlot(slot: number, gpa: number): Said {
    const found = this.slots.get(slot)
    if (found === undefined) return 'ENOENT'
    const hits = [...this.slots].some(
      ([n, s]) => n !== slot && s.gpa < gpa + found.pages && gpa < s.gpa + s.pages,
    )
    if (hits) return 'EEXIST'
    found.gpa = gpa
    return 0
  }
}

/** Everything that can be seen of a machine's memory, as one text. */
export function picture({
  host,
  processes,
  guest,
}: TestHost & { guest: { slots(): Iterable<unknown> } }): string {
  const { frames, memory } = host
  const perFrame = 1 << frames.subShift
  const bytes = new Uint8Array(64)
  const ofFrame = (frame: number) => {
    memory.readPage(frame * perFrame, 0, bytes, 0, bytes.length)
    const columns = [frames.usersOf(frame), frames.pinsOf(frame), frames.generationOf(frame)]
    return [frames.isTaken(frame), frames.ownerOf(frame), ...columns, ...bytes].join()
  }
  const ofProcess = (p: Process) => ({
    name: p.name,
    alive: p.isAlive,
    task: [`${p.memlockBytes}`, p.hasIpcLock],
    holders: [p.mm.isDead, p.mm.holders],
    locked: `${p.mm.locked.pages}`,
    ranges: [...p.mm.ranges.ranges()],
    pages: Array.from({ length: PAGES }, (_, page) => p.mm.pages.get(page)),
  })
  return JSON.stringify({
    free: frames.free,
    frames: Array.from({ length: frames.frames }, (_, frame) => ofFrame(frame)),
    processes: processes
      .list()
      .map(ofProcess)
      .sort((a, b) => (a.name < b.name ? -1 : 1)),
    slots: [...guest.slots()].map((s) =>
      JSON.stringify(s, (k, v) => (k === 'mm' ? v.name : typeof v === 'bigint' ? `${v}` : v)),
    ),
  })
}
