import { IommulatorError } from './errors.ts'
import { hex, U64_MAX } from './u64.ts'

declare const kind: unique symbol
type Brand<T, K extends string> = T & { readonly [kind]: K }

/** Address that a device puts on its bus (VT-d, DMA API). */
export type Iova = Brand<bigint, 'Iova'>
/** Guest physical address. */
export type Gpa = Brand<bigint, 'Gpa'>
/** User address inside a process. */
export type Ua = Brand<bigint, 'Ua'>
/** Logical I/O bus number: names a TCE table to the hypervisor. 32 bits. */
export type Liobn = Brand<number, 'Liobn'>

function u64<K extends string>(name: string) {
  return (value: bigint): Brand<bigint, K> => {
    if (value < 0n || value > U64_MAX) {
      throw new IommulatorError('ERR_WORD_RANGE', `${name} ${hex(value)} does not fit 64 bits`)
    }
    return value as Brand<bigint, K>
  }
}

export const iova = u64<'Iova'>('IOVA')
export const gpa = u64<'Gpa'>('GPA')
export const ua = u64<'Ua'>('UA')

export function liobn(value: number): Liobn {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
    throw new IommulatorError('ERR_WORD_RANGE', `LIOBN ${value} does not fit 32 bits`)
  }
  return value as Liobn
}
