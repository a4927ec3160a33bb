import type { Erratum } from '../../bits/errata.ts'
import { DEVICE_KINDS, type DeviceKind } from '../description-parts.ts'
import { bytesAmong, choice, count, flag, map, optional, required, text, word } from '../schema/schema.ts'
import { nameText } from './call-schema.ts'

const DRIVER_ANSWERS = ['NONE', 'CAN_RECOVER', 'NEED_RESET', 'DISCONNECT', 'RECOVERED'] as const
const KINDS = Object.keys(DEVICE_KINDS) as DeviceKind[]

const deviceKeys = {
  name: required(nameText('name'), 'How steps and reports call it.'),
  kind: required(choice('kind of device', KINDS), 'What it is.'),
  slot: optional(count('slot', 0, 31), 'PCI device number; its place in the list if left out.'),
  function: optional(count('function', 0, 7), 'PCI function number.'),
  dmaMask: optional(word('dmaMask'), 'Bus addresses that the hardware can form.'),
} as const

/** A bus master in a slot of a PCI bus. */
export const deviceSchema = map('a device', deviceKeys)

const answer = (key: string) => optional(choice(key, DRIVER_ANSWERS), 'What this function answers.')

/** A bus master of a host whose kernel handles errors of PCI. */
export const hostDeviceSchema = map('a device', {
  ...deviceKeys,
  pciId: optional(
    count('pciId', 0, 0xffff_ffff),
    'PCI vendor << 16 | device: error handling treats some in a way of their own.',
  ),
  driver: optional(
    map('a driver', {
      name: required(nameText('name'), 'How reports call it.'),
      errorDetected: answer('errorDetected'),
      mmioEnabled: answer('mmioEnabled'),
      slotReset: answer('slotReset'),
      resume: optional(flag('resume'), 'Whether it wants to be told that all is well again.'),
    }),
    'The driver of the host, and what its functions for error handling answer; those left out it does not have. Without a driver the device is there for processes, by VFIO.',
  ),
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
