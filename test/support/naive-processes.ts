/** Pages that random processes use: some lie in one page table, some in the next. */
export const PAGES = 12

export type ProcessOp =
  | {
      readonly op: 'map'
      readonly who: number
      readonly first: number
      readonly count: number
      readonly perm: number
      readonly isShared: boolean
    }
  | { readonly op: 'unmap'; readonly who: number; readonly first: number; readonly count: number }
  | {
      readonly op: 'protect'
      readonly who: number
      readonly first: number
      readonly count: number
      readonly perm: number
    }
  | { readonly op: 'store'; readonly who: number; readonly page: number; readonly value: number }
  | { readonly op: 'load'; readonly who: number; readonly page: number }
  | { readonly op: 'device'; readonly who: number; readonly page: number; readonly isWrite: boolean }
  | { readonly op: 'fork' | 'execve' | 'exit'; readonly who: number }

interface Cell {
  value: number
}

interface NaivePage {
  readonly perm: number
  readonly isShared: boolean
  readonly cell: Cell
}

type NaiveSpace = (NaivePage | undefined)[]

const empty = (): NaiveSpace => new Array<NaivePage | undefined>(PAGES).fill(undefined)

/** What an operation answers: a rule, and the byte that was read. */
export interface ProcessAnswer {
  readonly rule: string
  readonly value?: number
}

/** Processes whose memory is a list of bytes, one for each page: no tables, no pages that two share before one writes. */
export class NaiveProcesses {
  readonly #spaces = new Map<string, NaiveSpace>([['p0', empty()]])
  #born = 1

  /** The processes that live, in the order in which they began. */
  get names(): string[] {
    return [...this.#spaces.keys()]
  }

  /** Name of the next child. */
  get next(): string {
    return `p${this.#born}`
  }

  /** @param name who acts */
  apply(o: ProcessOp, name: string): ProcessAnswer {
    const space = this.#spaces.get(name) as NaiveSpace
    switch (o.op) {
      case 'map':
        for (let page = o.first; page < o.first + o.count; page++) {
          space[page] = { perm: o.perm, isShared: o.isShared, cell: { value: 0 } }
        }
        return { rule: 'done' }
      case 'unmap':
        space.fill(undefined, o.first, o.first + o.count)
        return { rule: 'done' }
      case 'protect':
        for (let page = o.first; page < o.first + o.count; page++) {
          const known = space[page]
          if (known === undefined) return { rule: page === o.first ? 'start-not-mapped' : 'hole' }
          space[page] = { ...known, perm: o.perm }
        }
        return { rule: 'done' }
      case 'load': {
        const known = space[o.page]
        if (known === undefined) return { rule: 'not-mapped' }
        return known.perm === 0 ? { rule: 'not-permitted' } : { rule: 'done', value: known.cell.value }
      }
      case 'store': {
        const known = space[o.page]
        if (known === undefined) return { rule: 'not-mapped' }
        if ((known.perm & 2) === 0) return { rule: 'not-permitted' }
        known.cell.value = o.value
        return { rule: 'done' }
      }
      case 'fork': {
        const copied = space.map((p) =>
          p === undefined || p.isShared ? p : { ...p, cell: { value: p.cell.value } },
        )
        this.#spaces.set(this.next, copied)
        this.#born++
        return { rule: 'done' }
      }
      case 'execve':
        this.#spaces.set(name, empty())
        return { rule: 'done' }
      case 'exit':
        this.#spaces.delete(name)
        return { rule: 'done' }
      default:
        return { rule: 'done' }
    }
  }
}
