import { hex } from '../../bits/u64.ts'
import { RANDOM_PASIDS } from './vtd-random-layout.ts'

/** Devices that send PCI Express messages: they ask a unit for translations and for pages, with and without a PASID. */
export const VTD_ENDPOINT_NAMES = ['nic0', 'nic1', 'nic2'] as const
export type VtdEndpointName = (typeof VTD_ENDPOINT_NAMES)[number]

/** PASIDs whose responses each of them hears: others vanish. */
export const VTD_HEARD_PASIDS: readonly number[] = RANDOM_PASIDS

/** What a device asks its unit for. A request has no PASID where it is undefined. */
export type VtdRequestStep =
  /** A page request message. Flags: r read, w write, x execute, p privileged, l last of its group. */
  | {
      readonly kind: 'pri'
      readonly device: VtdEndpointName
      readonly pasid: number | undefined
      readonly address: bigint
      readonly group: number
      readonly flags: string
    }
  /** Translations of all pages of a stretch. Flags: n no write, x execute, p privileged. */
  | {
      readonly kind: 'ats'
      readonly device: VtdEndpointName
      readonly pasid: number | undefined
      readonly address: bigint
      readonly bytes: number
      readonly flags: string
    }

export const VTD_REQUEST_FORMS = {
  pri: 'pri DEVICE PASID|- ADDRESS GROUP FLAGS|- (of rwxpl)',
  ats: 'ats DEVICE PASID|- ADDRESS COUNT FLAGS|- (of nxp)',
} as const
const FLAGS = { pri: /^(?:r?w?x?p?l?|-)$/, ats: /^(?:n?x?p?|-)$/ } as const

const NONE = '-'
const PASID_LAST = 0xf_ffff
const GROUP_LAST = 0xffff
const PAGE_BYTES = 4096n
/** Bytes of a stretch whose translations are asked for at once. */
const STRETCH_MAX = 0x1_0000
const U64_END = 1n << 64n

/** Why a request cannot be made of a unit; undefined where it can. */
export function vtdRequestRefusal(step: VtdRequestStep): string | undefined {
  const { pasid, address } = step
  if (pasid !== undefined && pasid > PASID_LAST) return 'a PASID has 20 bits'
  if (step.kind === 'pri')
    return step.group > GROUP_LAST ? 'the index of a group has 16 bits here' : undefined
  if (step.bytes < 1 || step.bytes > STRETCH_MAX) return `1 to ${STRETCH_MAX} bytes`
  return address + BigInt(step.bytes) > U64_END - PAGE_BYTES
    ? 'the stretch reaches where addresses end'
    : undefined
}

/** A request as `readVtdRequest` reads it. */
export function formatVtdRequest(step: VtdRequestStep): string {
  const { kind, device, pasid, address, flags } = step
  const count = step.kind === 'pri' ? step.group : step.bytes
  const tags = `${pasid === undefined ? NONE : hex(pasid)} ${hex(address)}`
  return `${kind} ${device} ${tags} ${count} ${flags === '' ? NONE : flags}`
}

/** The words of a line behind its first; undefined where they are none of a request. */
export function readVtdRequest(
  kind: VtdRequestStep['kind'],
  words: readonly string[],
  numbersOf: (words: readonly string[]) => readonly bigint[] | undefined,
): VtdRequestStep | undefined {
  const [called, tag = '', at = '', count = '', letters = '', ...rest] = words
  const device = VTD_ENDPOINT_NAMES.find((name) => name === called)
  const [address, number, pasid] = numbersOf(tag === NONE ? [at, count] : [at, count, tag]) ?? []
  if (device === undefined || address === undefined || number === undefined || rest.length > 0)
    return undefined
  if (!FLAGS[kind].test(letters) || letters === '') return undefined
  const head = { device, pasid: pasid === undefined ? undefined : Number(pasid), address }
  const flags = letters === NONE ? '' : letters
  return kind === 'pri'
    ? { kind, ...head, group: Number(number), flags }
    : { kind, ...head, bytes: Number(number), flags }
}

/** Responses as the answer of a step says them, with a blank behind; each `DEVICE:PASID:GROUP:CODE`. */
export const vtdHeardText = (responses: readonly string[]): string =>
  responses.length === 0 ? '' : `heard=${responses.join(',')} `

const RIGHTS = ['none', 'r', 'w', 'rw'] as const

/** One translation as an answer says it: where to, how many bytes, and what is allowed. */
export const vtdRightsText = (to: bigint, bytes: bigint, rights: number): string =>
  rights === 0 ? 'none' : `${hex(to)}/${hex(bytes)}/${RIGHTS[rights & 3]}`

export const vtdTranslationsText = (found: readonly string[]): string => `to=${found.join(',')}`
