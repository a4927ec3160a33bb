import type { FaultEnd, Mm, MmuNotifier, PagePort, ProcessPort, Vma } from '../../src/kernel/process-port.ts'
import { type Tasks, type Work, work } from '../../src/kernel/steps.ts'

/** An address space that is numbers and lists only: what it is asked for can be seen. */
export class FakeMm implements Mm {
  users = 1
  count = 1
  vmas: Vma[] = []
  notifiers: MmuNotifier[] = []
  /** Faults that were handled: address, and w for a write. */
  readonly faults: string[] = []
  /** How they end. */
  end: FaultEnd = 'done'
  /** What mmu_notifier_register returns. */
  errno = 0
  readonly name: string
  readonly pgd: number

  constructor(name: string, pgd: number) {
    this.name = name
    this.pgd = pgd
  }

  get(): boolean {
    if (this.users === 0) return false
    this.users++
    return true
  }

  /** The last one brings release of all notifiers; nobody has a file here. */
  put(): readonly Work[] {
    this.users--
    if (this.users > 0) return []
    const works = this.notifiers.flatMap((n) => n.release())
    this.notifiers = []
    return [...works, work('fake exit', this.name)]
  }

  grab(): void {
    this.count++
  }

  drop(): void {
    this.count--
  }

  register(notifier: MmuNotifier): number {
    if (this.errno !== 0) return this.errno
    this.notifiers.push(notifier)
    this.count++
    return 0
  }

  unregister(notifier: MmuNotifier): readonly Work[] {
    const isThere = this.notifiers.includes(notifier)
    this.notifiers = this.notifiers.filter((n) => n !== notifier)
    this.count--
    return isThere ? notifier.release() : []
  }

  findVma(address: bigint, canGrow: boolean): Vma | undefined {
    const page = Number(address >> 12n)
    const vma = this.vmas.find((v) => page < v.end)
    if (vma === undefined || page >= vma.first) return vma
    if (!canGrow || !vma.growsDown) return undefined
    const grown = { ...vma, first: page }
    this.vmas = this.vmas.map((v) => (v === vma ? grown : v))
    return grown
  }

  handleFault(address: bigint, isWrite: boolean): readonly Work[] {
    return [work('fake fault', this.name, address, isWrite ? 1 : 0)]
  }
}

/** Processes P and Q, each with an address space. */
export class FakeProcesses implements ProcessPort {
  readonly kernel = { pgd: 0x3a2 }
  readonly mms = [new FakeMm('P', 0x300), new FakeMm('Q', 0x310)]

  constructor(tasks: Tasks) {
    tasks.define('fake fault', {
      doc: 'a page is there',
      run: (task, [name, address, isWrite]) => {
        const mm = this.of(String(name))
        mm.faults.push(`${(address as bigint).toString(16)}${isWrite === 1 ? ' w' : ''}`)
        task.value = mm.end
        return undefined
      },
    })
    tasks.define('fake exit', {
      doc: 'page tables are gone',
      run: (_task, [name]) => {
        this.of(String(name)).count--
        return undefined
      },
    })
  }

  of(name: string): FakeMm {
    const found = this.mms.find((mm) => mm.name === name)
    if (found === undefined) throw new Error(`no process ${name}`)
    return found
  }

  mmOf(process: string): FakeMm | undefined {
    return this.mms.find((mm) => mm.name === process && mm.users > 0)
  }

  mm(name: string): FakeMm | undefined {
    return this.mms.find((mm) => mm.name === name && mm.count > 0)
  }

  onDropped(): void {}
}

/** Pages from a place on, in blocks of any order up to the largest; what is freed is not handed out again. */
export class FakePages implements PagePort {
  readonly maxOrder: number
  readonly freed: [page: number, order: number][] = []
  /** Blocks that were handed out. */
  readonly taken: [page: number, order: number][] = []
  #next: number

  constructor(first: number, maxOrder: number) {
    this.#next = first
    this.maxOrder = maxOrder
  }

  allocate(order: number): number {
    if (order > this.maxOrder) return -1
    const page = Math.ceil(this.#next / 2 ** order) * 2 ** order
    this.#next = page + 2 ** order
    this.taken.push([page, order])
    return page
  }

  free(page: number, order: number): void {
    this.freed.push([page, order])
  }
}
