import { hex } from '../../bits/u64.ts'

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const

/** A number of bytes as people say it: `4 GiB`, `1.5 MiB`; one that is no round number stays in bytes. */
export function bytesText(bytes: bigint): string {
  let unit = 0
  let left = bytes
  while (unit < UNITS.length - 1 && left >= 1024n && left % 512n === 0n) {
    if (left % 1024n !== 0n) return `${left / 1024n}.5 ${UNITS[unit + 1]}`
    left /= 1024n
    unit++
  }
  return `${left} ${UNITS[unit]}`
}

/** A range of addresses by its first byte and its length. */
export const rangeText = (first: bigint, bytes: bigint): string =>
  bytes === 0n ? hex(first) : `${hex(first)}-${hex(first + bytes - 1n)}`
