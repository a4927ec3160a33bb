import { parseU64 } from '../bits/u64.ts'
import {
  MISS_NAME,
  missFields,
  ownFields,
  requestFields,
  type VhostEntry,
  type VhostFieldKind,
  type VhostFields,
  type VhostOwnEntry,
  type VhostRegion,
  type VhostRequestEntry,
  type VhostSegment,
} from './vhost-log-format.ts'
import { FRONT_END_REQUESTS, type FrontEndRequest } from './vhost-user-format.ts'

/** What an object of a message log is: an entry, something that no declaration has, or nothing that can be read. */
export type VhostLine =
  | { readonly state: 'entry'; readonly entry: VhostEntry; readonly name: string }
  | { readonly state: 'unknown'; readonly name: string; readonly entry: VhostEntry | undefined }
  | { readonly state: 'damaged'; readonly why: string }

type Raw = Readonly<Record<string, unknown>>

const WORD = /^0x(?:0|[1-9a-f][0-9a-f]{0,15})$/
const LIST_MAX = 4096
const REQUEST_MAX = 0xffff_ffff

class Wrong extends Error {}

const isObject = (value: unknown): value is Raw =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** A value that is the object's own: what stands in a log must not reach the prototype. */
const own = (raw: Raw, name: string): unknown => (Object.hasOwn(raw, name) ? raw[name] : undefined)

function word(value: unknown, name: string): bigint {
  if (typeof value !== 'string' || !WORD.test(value)) throw new Wrong(`${name} is no word "0x..."`)
  return parseU64(value)
}

function count(value: unknown, name: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw new Wrong(`${name} is no whole number`)
  return value
}

function list(value: unknown, name: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new Wrong(`${name} is no list`)
  if (value.length > LIST_MAX) throw new Wrong(`${name} has more than ${LIST_MAX} entries`)
  return value
}

function region(value: unknown): VhostRegion {
  if (!isObject(value)) throw new Wrong('a region is no object')
  const bytes = word(own(value, 'size'), 'size of a region')
  const [gpa, uaddr, offset] = (['gpa', 'uaddr', 'off'] as const).map((f) =>
    word(own(value, f), `${f} of a region`),
  ) as [bigint, bigint, bigint]
  if (bytes === 0n || (gpa + bytes - 1n) >> 64n !== 0n || (uaddr + bytes - 1n) >> 64n !== 0n)
    throw new Wrong('a region goes past the end of its addresses')
  return { gpa, bytes, uaddr, offset }
}

function segment(value: unknown): VhostSegment {
  if (!Array.isArray(value) || value.length !== 2) throw new Wrong('a segment is no pair')
  return { iova: word(value[0], 'address of a segment'), bytes: count(value[1], 'length of a segment') }
}

function counters(value: unknown, name: string): Readonly<Record<string, number>> {
  if (!isObject(value)) throw new Wrong(`${name} is no object`)
  return Object.fromEntries(Object.entries(value).map(([key, n]) => [key, count(n, `${name}.${key}`)]))
}

const READS: Readonly<Record<VhostFieldKind, (value: unknown, name: string) => unknown>> = {
  word,
  count,
  amount: (value, name) => {
    if (typeof value === 'number' && value >= 0) return value
    throw new Wrong(`${name} is no number from 0 on`)
  },
  flag: (value, name) => {
    if (value === true || value === 1) return true
    if (value === false || value === 0) return false
    throw new Wrong(`${name} is neither true nor false`)
  },
  text: (value, name) => {
    if (typeof value !== 'string' || value.length > 1000) throw new Wrong(`${name} is no short text`)
    return value
  },
  regions: (value, name) => list(value, name).map(region),
  segments: (value, name) => list(value, name).map(segment),
  counters,
}

function fieldsOf(raw: Raw, declared: VhostFields): Record<string, unknown> {
  const fields: Record<string, unknown> = {}
  for (const [declaredName, kind] of Object.entries(declared)) {
    const isOptional = declaredName.endsWith('?')
    const name = isOptional ? declaredName.slice(0, -1) : declaredName
    const value = own(raw, name)
    if (isOptional && value === undefined) fields[name] = undefined
    else fields[name] = READS[kind](value, name)
  }
  return fields
}

/**
 * Reads an object of a message log. Nothing is thrown.
 *
 * @param line its line; 0 for one that comes from a running back end
 * @example vhostEntryOf(JSON.parse('{"t":1,"dir":"to-qemu","msg":"IOTLB_MISS","iova":"0x1000","perm":1}'), 1).state // 'entry'
 */
export function vhostEntryOf(raw: unknown, line: number): VhostLine {
  try {
    return entryOf(raw, line)
  } catch (error) {
    if (error instanceof Wrong) return { state: 'damaged', why: error.message }
    throw error
  }
}

function entryOf(raw: unknown, line: number): VhostLine {
  if (!isObject(raw)) throw new Wrong('it is no object')
  const timeUs = count(own(raw, 't'), 't')
  const event = own(raw, 'event')
  if (event !== undefined) return ownEntry(raw, event, { line, timeUs })
  const dir = own(raw, 'dir')
  const msg = own(raw, 'msg')
  if (dir === 'from-qemu') return requestEntry(raw, msg, { line, timeUs })
  if (dir !== 'to-qemu') throw new Wrong('dir is neither from-qemu nor to-qemu')
  if (msg !== MISS_NAME) return { state: 'unknown', name: shown(msg), entry: undefined }
  const fields = fieldsOf(raw, missFields()) as { iova: bigint; perm: number; queue: number | undefined }
  if (fields.perm < 1 || fields.perm > 3) throw new Wrong('perm is not 1 to 3')
  return { state: 'entry', name: MISS_NAME, entry: { what: 'miss', line, timeUs, fields } }
}

/** A name as it is counted: it may be anything. */
const shown = (name: unknown): string =>
  typeof name === 'string' || typeof name === 'number' ? String(name).slice(0, 100) : '(no name)'

function ownEntry(raw: Raw, event: unknown, at: { line: number; timeUs: number }): VhostLine {
  const declared = typeof event === 'string' ? ownFields(event) : undefined
  if (declared === undefined) return { state: 'unknown', name: shown(event), entry: undefined }
  const entry = { what: 'own', name: event, ...at, fields: fieldsOf(raw, declared) }
  return { state: 'entry', name: event as string, entry: entry as VhostOwnEntry }
}

function requestEntry(raw: Raw, msg: unknown, at: { line: number; timeUs: number }): VhostLine {
  const flags = count(own(raw, 'flags'), 'flags')
  if (flags > REQUEST_MAX) throw new Wrong('flags do not fit 32 bits')
  if (typeof msg === 'number') {
    const request = count(msg, 'msg')
    const entry: VhostEntry = { what: 'odd request', request, flags, ...at }
    return { state: 'unknown', name: shown(msg), entry }
  }
  if (typeof msg !== 'string' || !Object.hasOwn(FRONT_END_REQUESTS, msg)) {
    // It took a place in the order of messages; which one nobody can say.
    return { state: 'unknown', name: shown(msg), entry: { what: 'damaged', line: at.line } }
  }
  const name = msg as FrontEndRequest
  const fields = fieldsOf(raw, requestFields(name))
  const request = FRONT_END_REQUESTS[name].nr
  const entry = { what: 'request', name, request, flags, ...at, fields } as VhostRequestEntry
  return { state: 'entry', name, entry }
}
