import { assert, IommulatorError } from '../bits/errors.ts'
import type { Machine } from './machine.ts'
import type { Operation } from './operation.ts'

/**
 * State at any record of a run: a machine of its own that moves along the operations, forward by performing
 * them, back by the undo log.
 *
 * "At record n" is the moment in which record n was written: its own effects that came before it are there,
 * those that came after it are not. The machine that `goTo` answers is good until the next call; operations
 * performed on it to look around are taken back then.
 *
 * @example
 * const travel = new TimeTravel(() => createMachine(description, { journal: true }), operations)
 * travel.goTo(12).journal.hash
 */
export class TimeTravel {
  readonly #make: () => Machine
  #machine: Machine
  readonly #operations: readonly Operation[]
  /** Log length and undo position before each operation that was performed. */
  readonly #starts: { readonly records: number; readonly mark: number }[] = []
  /** The last operation was taken back in part. */
  #isInside = false
  /** So was what made the machine: only another one has all of it. */
  #isBroken = false
  /** Where the machine was left: what somebody did to it since is taken back first. */
  #left = { records: 0, mark: 0 }

  constructor(make: () => Machine, operations: readonly Operation[]) {
    this.#make = make
    this.#machine = make()
    assert(this.#machine.journal.on, 'a machine that travels keeps an undo log')
    this.#operations = operations
    this.#leave()
  }

  /** The machine at a record. @throws IommulatorError ERR_STATE_LIMIT when the run has no such record */
  goTo(seq: number): Machine {
    if (this.#isBroken) {
      this.#machine = this.#make()
      this.#isBroken = false
      this.#leave()
    }
    const machine = this.#machine
    machine.journal.rollback(this.#left.mark)
    machine.log.truncate(this.#left.records)
    if (this.#isInside) this.#undoOperation()
    while (this.#starts.length > 0 && machine.log.length > seq + 1 && this.#lastStart().records > seq) {
      this.#undoOperation()
    }
    while (machine.log.length <= seq) this.#performNext(seq)
    if (machine.log.length > seq + 1) {
      machine.journal.rollback(machine.log.markOf(seq))
      machine.log.truncate(seq + 1)
      this.#isInside = this.#starts.length > 0
      this.#isBroken = !this.#isInside
    }
    this.#leave()
    return machine
  }

  #leave(): void {
    this.#left = { records: this.#machine.log.length, mark: this.#machine.journal.mark() }
  }

  #lastStart(): { readonly records: number; readonly mark: number } {
    const start = this.#starts[this.#starts.length - 1]
    assert(start !== undefined, 'an operation was performed')
    return start
  }

  #undoOperation(): void {
    const { records, mark } = this.#lastStart()
    this.#machine.journal.rollback(mark)
    this.#machine.log.truncate(records)
    this.#starts.pop()
    this.#isInside = false
  }

  #performNext(seq: number): void {
    const next = this.#operations[this.#starts.length]
    if (next === undefined) {
      throw new IommulatorError(
        'ERR_STATE_LIMIT',
        `the run has ${this.#machine.log.length} records, none ${seq}`,
      )
    }
    this.#starts.push({ records: this.#machine.log.length, mark: this.#machine.journal.mark() })
    this.#machine.perform(next)
  }
}
