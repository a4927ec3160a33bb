const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const

/**
 * A number of bytes in its largest unit, with at most one digit behind the point; `~` where that is rounded.
 *
 * @example bytesText(65536) // '64 KiB'
 * @example bytesText(1536) // '1.5 KiB'
 */
export function bytesText(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024
    unit++
  }
  if (unit === 0) return value === 1 ? '1 byte' : `${value} bytes`
  const shown = Number.isInteger(value) ? `${value}` : value.toFixed(1)
  return `${Number(shown) === value ? '' : '~'}${shown} ${UNITS[unit]}`
}

/** `1 entry`, `2 entries`. */
export const counted = (count: number, one: string, many = `${one}s`): string =>
  `${count} ${count === 1 ? one : many}`

/** What a device may do, or does: `read`, `write`, `read and write`, `nothing`. */
export const directionText = (direction: number): string =>
  ['nothing', 'read', 'write', 'read and write'][direction & 3] as string
