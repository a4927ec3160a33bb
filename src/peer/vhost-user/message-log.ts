import { MISS_NAME, type VhostOwnName } from '../../reader/vhost-log-format.ts'
import {
  FRONT_END_REQUESTS,
  type FrontEndRequest,
  iotlbType,
  PAYLOADS,
  type PayloadName,
  REGION_BYTES,
} from '../../reader/vhost-user-format.ts'
import { readField, readNumber } from './codec.ts'
import type { BackEndCounts } from './counts.ts'
import type { Message } from './descriptors.ts'

type Value = bigint | number | string | boolean
type Fields = Readonly<Record<string, unknown>>

/**
 * The message log of a back end: what `iommulator replay` reads as vhost messages, a JSON object a line, with
 * microseconds since the back end started.
 */
export class MessageLog {
  /** Lines written. */
  lines = 0
  readonly #write: (line: string) => void
  readonly #nowUs: () => number

  constructor(write: (line: string) => void, nowUs: () => number) {
    this.#write = write
    this.#nowUs = nowUs
  }

  /** A request of the front end. */
  request(name: FrontEndRequest, { header, payload, fds }: Message, stat: BackEndCounts): void {
    const { flags, payloadBytes } = header
    const common = {
      dir: 'from-qemu',
      msg: name,
      size: payloadBytes,
      flags,
    }
    this.#line({ ...common, ...(fds.length > 0 && { fds: fds.length }), ...fieldsOf(name, payload, stat) })
  }

  miss(queue: number, iova: bigint, access: number): void {
    this.#line({ dir: 'to-qemu', msg: MISS_NAME, iova, perm: access, queue })
  }

  /** What the back end did itself. */
  own(event: VhostOwnName, fields: Fields): void {
    this.#line({ event, ...fields })
  }

  use(iova: bigint, uaddr: bigint, bytes: number, access: number, part: number): void {
    this.own('use', { iova, uaddr, bytes, write: access === 2, part })
  }

  #line(fields: Fields): void {
    this.lines++
    const t = Math.floor(this.#nowUs())
    const text = JSON.stringify({ t, ...fields }, (_, value: unknown) =>
      typeof value === 'bigint' ? `0x${value.toString(16)}` : value,
    )
    this.#write(`${text}\n`)
  }
}

/** The counts as message logs name them. */
export const statOf = ({ misses, updates, invalidations, requests, bytes, hits }: BackEndCounts): Fields => ({
  miss: misses,
  update: updates,
  inval: invalidations,
  req: requests,
  bytes,
  hit: hits,
})

const regionOf = (name: 'region' | 'singleRegion', payload: Uint8Array): Fields => ({
  gpa: readField(name, payload, 'gpa'),
  size: readField(name, payload, 'regionBytes'),
  uaddr: readField(name, payload, 'ua'),
  off: readField(name, payload, 'fileOffset'),
})

/** What a line says of a payload; nothing where the payload is too short to say it. */
function fieldsOf(name: FrontEndRequest, payload: Uint8Array, stat: BackEndCounts): Fields {
  const decl: { readonly payload: PayloadName } = FRONT_END_REQUESTS[name]
  if (payload.length < PAYLOADS[decl.payload].bytes) return {}
  const state = (field: string, value: Value): Fields => ({
    index: readNumber('vringState', payload, 'index'),
    [field]: value,
  })
  switch (name) {
    case 'SET_FEATURES':
    case 'SET_PROTOCOL_FEATURES':
      return { v: readField('word', payload, 'value') }
    case 'SET_MEM_TABLE': {
      const count = Math.floor((payload.length - PAYLOADS.memTable.bytes) / REGION_BYTES)
      const at = (i: number): Uint8Array => payload.subarray(PAYLOADS.memTable.bytes + i * REGION_BYTES)
      return { regions: Array.from({ length: count }, (_, i) => regionOf('region', at(i))) }
    }
    case 'ADD_MEM_REG':
    case 'REM_MEM_REG':
      return { regions: [regionOf('singleRegion', payload)] }
    case 'SET_VRING_NUM':
      return state('num', readNumber('vringState', payload, 'num'))
    case 'SET_VRING_BASE':
      return state('base', readNumber('vringState', payload, 'num'))
    case 'SET_VRING_ENABLE':
      return state('on', readNumber('vringState', payload, 'num'))
    case 'GET_VRING_BASE':
      return { index: readNumber('vringState', payload, 'index'), stat: statOf(stat) }
    case 'SET_VRING_ADDR': {
      const at = (field: 'desc' | 'used' | 'avail' | 'log'): bigint => readField('vringAddr', payload, field)
      const index = readNumber('vringAddr', payload, 'index')
      return { index, desc: at('desc'), used: at('used'), avail: at('avail'), log: at('log') }
    }
    case 'GET_CONFIG':
    case 'SET_CONFIG':
      return {
        off: readNumber('config', payload, 'offset'),
        len: readNumber('config', payload, 'configBytes'),
      }
    case 'IOTLB_MSG': {
      const type = readNumber('iotlb', payload, 'type')
      return {
        size: readField('iotlb', payload, 'bytes'),
        iova: readField('iotlb', payload, 'iova'),
        uaddr: readField('iotlb', payload, 'ua'),
        perm: readNumber('iotlb', payload, 'perm'),
        type: iotlbType(type) ?? String(type),
      }
    }
    default:
      return {}
  }
}
