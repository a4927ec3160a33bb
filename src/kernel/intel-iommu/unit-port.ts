import type { BusMemory } from '../../memory/ports.ts'

/** A VT-d unit as its driver meets it: registers, memory that both see, and time that passes while the driver polls. */
export interface UnitPort {
  readonly name: string
  readonly memory: BusMemory
  mmioRead(offset: number, bytes: 4 | 8): bigint
  mmioWrite(offset: number, bytes: 4 | 8, value: bigint): void
  /** Time passes; false where nothing is under way, so that polling on would not end. */
  elapse?(): boolean
  /** What software has asked of the unit since it was asked last and the unit does not know. */
  takeUnknown?(): string | undefined
}

/** Interrupts of a unit as they reach a processor. Those that come again before they are taken are one. */
export interface InterruptPort {
  isPending(vector: number): boolean
  /** The handler begins: what comes from now on is another one. */
  take(vector: number): void
}
