import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'
import type { BuddyAllocator } from './buddy-allocator.ts'

type Contents = ReadonlyMap<number, number>

/** Memory that several address spaces show: the page cache of the file behind shared anonymous memory (shmem). */
export class SharedPages {
  readonly #journal: Journal
  readonly #pages: BuddyAllocator
  readonly #objects = new Map<string, Held<Contents>>()

  constructor(journal: Journal, pages: BuddyAllocator) {
    this.#journal = journal
    this.#pages = pages
  }

  /** Page of an object by its number there; it is made where it was never used. -1 where no memory is left. */
  pageOf(object: string, offset: number): number {
    const held = this.#of(object)
    const known = held.value.get(offset)
    if (known !== undefined) return known
    const made = this.#pages.allocate(0, object)
    if (made >= 0) held.set(new Map(held.value).set(offset, made))
    return made
  }

  /** The file is released: its pages have one user fewer. */
  end(object: string): void {
    const held = this.#of(object)
    for (const page of held.value.values()) this.#pages.put(page)
    if (held.value.size > 0) held.set(new Map())
  }

  #of(object: string): Held<Contents> {
    let held = this.#objects.get(object)
    if (held === undefined) {
      held = new Held<Contents>(this.#journal, `pages of ${object}`, new Map(), (c) =>
        keyOf(...[...c].flat()),
      )
      this.#objects.set(object, held)
    }
    return held
  }
}
