import {
  HEADER_BYTES,
  PAYLOADS,
  type PayloadField,
  type PayloadLayout,
  type PayloadName,
  REPLY_FLAGS,
} from '../../reader/vhost-user-format.ts'

/** Names of the fields of a payload. */
export type FieldOf<P extends PayloadName> = Extract<keyof (typeof PAYLOADS)[P]['fields'], string>

/** The header of a message. */
export interface Header {
  readonly request: number
  readonly flags: number
  readonly payloadBytes: number
}

/** Reads a header: the words are in the byte order of every machine that koffi and QEMU run on here. */
export function readHeader(bytes: Uint8Array): Header {
  const view = viewOf(bytes)
  return {
    request: view.getUint32(0, true),
    flags: view.getUint32(4, true),
    payloadBytes: view.getUint32(8, true),
  }
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** Bytes that a payload must have; a message whose count is not there yet has too few. */
export function payloadBytes(name: PayloadName, payload: Uint8Array): number {
  const layout: PayloadLayout = PAYLOADS[name]
  const { bytes, tail } = layout
  if (tail === undefined || payload.length < bytes) return bytes
  if (tail === 'rest') return payload.length
  return bytes + Number(readAt(payload, layout.fields[tail.count] as PayloadField)) * tail.entryBytes
}

function readAt(payload: Uint8Array, { at, bytes }: PayloadField): bigint {
  const view = viewOf(payload)
  if (bytes === 8) return view.getBigUint64(at, true)
  return BigInt(bytes === 4 ? view.getUint32(at, true) : view.getUint8(at))
}

/** A field of a payload whose bytes were counted. */
export function readField<P extends PayloadName>(name: P, payload: Uint8Array, field: FieldOf<P>): bigint {
  const layout: PayloadLayout = PAYLOADS[name]
  return readAt(payload, layout.fields[field] as PayloadField)
}

/** A field of at most 32 bits. */
export const readNumber = <P extends PayloadName>(name: P, payload: Uint8Array, field: FieldOf<P>): number =>
  Number(readField(name, payload, field))

/** The bytes of a payload; what is not given is 0. @param tail what follows the part that is always there */
export function payloadOf<P extends PayloadName>(
  name: P,
  values: Readonly<Partial<Record<FieldOf<P>, bigint | number>>>,
  tail: Uint8Array = new Uint8Array(0),
): Uint8Array {
  const layout: PayloadLayout = PAYLOADS[name]
  const bytes = new Uint8Array(layout.bytes + tail.length)
  const view = viewOf(bytes)
  for (const [field, value] of Object.entries(values) as [string, bigint | number][]) {
    const { at, bytes: wide } = layout.fields[field] as PayloadField
    if (wide === 8) view.setBigUint64(at, BigInt(value), true)
    else if (wide === 4) view.setUint32(at, Number(value), true)
    else view.setUint8(at, Number(value))
  }
  bytes.set(tail, layout.bytes)
  return bytes
}

/** A whole message. */
export function messageOf(request: number, flags: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + payload.length)
  const view = viewOf(bytes)
  view.setUint32(0, request, true)
  view.setUint32(4, flags, true)
  view.setUint32(8, payload.length, true)
  bytes.set(payload, HEADER_BYTES)
  return bytes
}

/** The reply to a request. */
export const replyOf = (request: number, payload: Uint8Array): Uint8Array =>
  messageOf(request, REPLY_FLAGS, payload)

/** The payload of a reply that only says whether it was done: 0, or anything else where it was not. */
export const wordPayload = (value: bigint | number): Uint8Array => payloadOf('word', { value })
