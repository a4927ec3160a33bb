import type { Erratum } from '../../bits/errata.ts'
import { DEVICE_KINDS, type DeviceKind } from '../description-parts.ts'
import { bytesAmong, choice, count, map, optional, required, text, word } from '../schema/schema.ts'
import { nameText } from './call-schema.ts'

const KINDS = Object.keys(DEVICE_KINDS) as DeviceKind[]

/** A bus master in a slot of a PCI bus. */
export const deviceSchema = map('a device', {
  name: required(nameText('name'), 'How steps and reports call it.'),
  kind: required(choice('kind of device', KINDS), 'What it is.'),
  slot: optional(count('slot', 0, 31), 'PCI device number; its place in the list if left out.'),
  function: optional(count('function', 0, 7), 'PCI function number.'),
  dmaMask: optional(word('dmaMask'), 'Bus addresses that the hardware can form.'),
})

/** Exactly the texts that `resolveProfile` takes with these errata. */
function profilePattern(errata: readonly Erratum[]): string {
  const anyCase = (id: string) =>
    [...id]
      .map((c) =>
        /[a-z]/i.test(c)
          ? `[${c.toLowerCase()}${c.toUpperCase()}]`
          : `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
      )
      .join('')
  const ids = errata.length > 0 ? [`-?(?:${errata.map((e) => anyCase(e.id)).join('|')})`] : []
  const part = `(?:${['intended', '(?:linux|qemu)-[0-9]+(?:\\.[0-9]+){0,3}', ...ids].join('|')})`
  return `^${part}(?:[+, ]+${part})*$`
}

/** Whose deviations a machine has. */
export const profileSchema = (errata: readonly Erratum[]) =>
  text('profile', {
    maxChars: 400,
    pattern: profilePattern(errata),
    form: 'intended, qemu-VERSION, linux-VERSION, or some of them and errata joined with +',
  })

export const PROFILE_DOC =
  'Whose deviations it has: intended, qemu-7.2, linux-6.1, several joined with +, single errata on (X11) or off (-X11).'

/** One of some IOMMU page sizes, given as shifts in ascending order. */
export const pageSizeAmong = (shifts: readonly number[]) =>
  bytesAmong(
    'IOMMU page size',
    shifts.map((shift) => 1n << BigInt(shift)),
  )

/** Most physical memory that a machine can have. */
export const RAM_MOST = 1n << 46n
