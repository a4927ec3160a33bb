import { assert } from './errors.ts'
import type { Cells } from './state.ts'
import { hiOf, loOf, wordOf } from './u64.ts'
import { maskOf, type Word } from './word.ts'

/** A register of a bank: where it lies, what it holds after reset. */
export interface Register {
  readonly offset: number
  readonly word: Word
  readonly reset?: bigint
}

/** Called after a software write was applied: `now` as stored, `before`, and `written` as the bus carried it. */
export type WriteHook = (now: bigint, before: bigint, written: bigint) => void

/**
 * Registers behind one base address, with the access rules of their fields applied in one place.
 *
 * `read` and `write` are what software does; `peek` and `poke` are what the unit itself does. An offset
 * without a register reads as 0 and drops writes: units that do otherwise look first with `at`.
 * The values lie in two cells (low, high) a register.
 *
 * @example
 * const bank = new RegisterBank({ CMD: { offset: 0x98, word: CMD } }, cells)
 * bank.onWrite('CMD', (now) => start(now))
 */
export class RegisterBank<N extends string> {
  readonly map: Readonly<Record<N, Register>>
  readonly #cells: Cells
  readonly #index = new Map<string, number>()
  readonly #byOffset = new Map<number, N>()
  readonly #hooks = new Map<string, WriteHook>()

  constructor(map: Readonly<Record<N, Register>>, cells: Cells) {
    this.map = map
    this.#cells = cells
    for (const name of Object.keys(map) as N[]) {
      assert(!this.#byOffset.has(map[name].offset), `two registers at ${map[name].offset}`)
      this.#byOffset.set(map[name].offset, name)
      this.#index.set(name, this.#index.size * 2)
    }
    cells.ensure(this.#index.size * 2)
    this.reset()
  }

  /** Name of the register that starts at an offset. */
  at(offset: number): N | undefined {
    return this.#byOffset.get(offset)
  }

  onWrite(name: N, hook: WriteHook): void {
    this.#hooks.set(name, hook)
  }

  reset(): void {
    for (const name of this.#byOffset.values()) this.poke(name, this.map[name].reset ?? 0n)
  }

  peek(name: N): bigint {
    const at = this.#index.get(name) as number
    return wordOf(this.#cells.get(at + 1), this.#cells.get(at))
  }

  poke(name: N, value: bigint): void {
    const at = this.#index.get(name) as number
    const raw = BigInt.asUintN(this.map[name].word.widthBits, value)
    this.#cells.set(at, loOf(raw))
    this.#cells.set(at + 1, hiOf(raw))
  }

  /** A software read: write-only and reserved bits show 0. */
  read(offset: number): bigint {
    const name = this.#byOffset.get(offset)
    if (name === undefined) return 0n
    const { word } = this.map[name]
    return this.peek(name) & ~(maskOf(word, 'wo') | maskOf(word, 'rsvd'))
  }

  /** A software write: `ro` and `rsvd` bits keep their value, `rw1c` bits clear where 1 is written. */
  write(offset: number, value: bigint): void {
    const name = this.#byOffset.get(offset)
    if (name === undefined) return
    const { word } = this.map[name]
    const before = this.peek(name)
    const writable = maskOf(word, 'rw') | maskOf(word, 'wo')
    const now = ((before & ~writable) | (value & writable)) & ~(value & maskOf(word, 'rw1c'))
    this.poke(name, now)
    this.#hooks.get(name)?.(now, before, value)
  }
}
