import type { Prng } from '../../src/bits/prng.ts'
import { payloadOf } from '../../src/peer/vhost-user/codec.ts'
import type { DescriptorKind } from '../../src/peer/vhost-user/descriptors.ts'
import {
  FRONT_END_REQUESTS,
  type FrontEndRequest,
  HEADER_FLAGS,
  type RequestDecl,
} from '../../src/reader/vhost-user-format.ts'
import { BEHIND_IOMMU, PLAIN, RAM_BYTES, RAM_UA } from './vhost-session.ts'

/** A message of a front end that may mean anything. */
export interface FuzzMessage {
  readonly request: number
  readonly flags: number
  readonly payload: Uint8Array
  readonly fds: readonly DescriptorKind[]
}

const NAMES = Object.keys(FRONT_END_REQUESTS) as FrontEndRequest[]
/** Requests that bring a device up: sent more often than others, or nothing would ever run. */
const OFTEN: readonly FrontEndRequest[] = [
  'SET_FEATURES',
  'SET_MEM_TABLE',
  'SET_VRING_NUM',
  'SET_VRING_ADDR',
  'SET_VRING_BASE',
  'SET_VRING_KICK',
  'SET_VRING_CALL',
  'SET_VRING_ENABLE',
  'GET_VRING_BASE',
  'IOTLB_MSG',
  'SET_BACKEND_REQ_FD',
  'ADD_MEM_REG',
]
const ODD: readonly bigint[] = [0n, 1n, 0xfffn, 0x1000n, 0xffff_ffffn, 1n << 32n, 1n << 63n, (1n << 64n) - 1n]
const KINDS: readonly DescriptorKind[] = ['file', 'event', 'socket', 'other']

/** A page of guest memory, or the first one behind it. */
const page = (prng: Prng): bigint =>
  prng.oneIn(8) ? BigInt(RAM_BYTES) : BigInt(prng.below(RAM_BYTES / 4096)) * 4096n

/** An address that is mostly a sensible one. */
function address(prng: Prng, base: bigint): bigint {
  if (prng.oneIn(20)) return prng.pick(ODD)
  if (prng.oneIn(20)) return prng.u64()
  return base + page(prng)
}

const region = (prng: Prng, name: 'region' | 'singleRegion', at: bigint): Uint8Array =>
  payloadOf(name, {
    gpa: prng.oneIn(40) ? address(prng, 0n) : at,
    regionBytes: prng.oneIn(40) ? address(prng, 4096n) : BigInt(RAM_BYTES),
    ua: prng.oneIn(40) ? address(prng, RAM_UA) : RAM_UA + at,
    fileOffset: prng.oneIn(60) ? address(prng, 0n) : 0n,
  })

function vringNumber(prng: Prng, name: FrontEndRequest): number {
  if (name === 'SET_VRING_NUM') return prng.oneIn(60) ? prng.int32() >>> 0 : RINGS.entries
  if (name === 'SET_VRING_ENABLE') return prng.oneIn(8) ? 0 : 1
  return prng.oneIn(60) ? prng.int32() >>> 0 : 0
}

/** A payload that fits the request. */
function payload(prng: Prng, name: FrontEndRequest, isTranslated: boolean): Uint8Array {
  const { payload: layout }: RequestDecl = FRONT_END_REQUESTS[name]
  const index = prng.oneIn(150) ? prng.below(300) : prng.below(2)
  switch (layout) {
    case 'none':
      return new Uint8Array(0)
    case 'word':
      if (name === 'SET_FEATURES') {
        const isOdd = prng.oneIn(20)
        return payloadOf('word', { value: isTranslated !== isOdd ? BEHIND_IOMMU : PLAIN })
      }
      return payloadOf('word', { value: prng.oneIn(3) ? prng.u64() : prng.pick(ODD) })
    case 'notifier':
      return payloadOf('notifier', { value: index | (prng.oneIn(60) ? 0x100 : 0) })
    case 'vringState':
      return payloadOf('vringState', { index, num: vringNumber(prng, name) })
    case 'vringAddr': {
      const base = isTranslated ? 0n : RAM_UA
      const at = (place: number): bigint => (prng.oneIn(30) ? address(prng, base) : base + BigInt(place))
      const [desc, avail, used] = [at(RINGS.desc), at(RINGS.avail), at(RINGS.used)]
      return payloadOf('vringAddr', { index, flags: prng.oneIn(100) ? 1 : 0, desc, avail, used })
    }
    case 'memTable': {
      const regions = prng.oneIn(10) ? prng.below(10) : 1
      const tail = Array.from({ length: regions }, (_, i) => [
        ...region(prng, 'region', BigInt(i) << 32n),
      ]).flat()
      return payloadOf('memTable', { regions }, Uint8Array.from(tail))
    }
    case 'singleRegion':
      return region(prng, 'singleRegion', BigInt(8 + prng.below(64)) << 32n)
    case 'iotlb': {
      const iova = prng.oneIn(10) ? address(prng, 0n) : BigInt(prng.below(12)) * 4096n
      return payloadOf('iotlb', {
        iova,
        bytes: prng.oneIn(30) ? address(prng, 0n) : 4096n,
        ua: prng.oneIn(20) ? address(prng, RAM_UA) : RAM_UA + iova,
        perm: prng.oneIn(40) ? prng.below(256) : 3,
        type: prng.oneIn(30) ? prng.below(256) : prng.oneIn(6) ? 3 : 2,
      })
    }
    case 'config': {
      const configBytes = prng.below(80)
      return payloadOf('config', { offset: prng.below(8), configBytes }, new Uint8Array(configBytes))
    }
  }
}

function descriptors(prng: Prng, name: FrontEndRequest, bytes: Uint8Array): DescriptorKind[] {
  const { fds }: RequestDecl = FRONT_END_REQUESTS[name]
  const wanted: DescriptorKind = name.includes('VRING')
    ? 'event'
    : name.includes('BACKEND')
      ? 'socket'
      : 'file'
  let count = fds === undefined ? 0 : fds === 'regions' ? Math.min(8, bytes[0] ?? 0) : fds[1]
  if (fds !== undefined && name.includes('VRING') && (bytes[1] ?? 0) !== 0) count = 0
  if (prng.oneIn(150)) count = prng.below(9)
  return Array.from({ length: count }, () => (prng.oneIn(150) ? prng.pick(KINDS) : wanted))
}

/** The next message: mostly one that a front end could send, sometimes with something wrong in it. */
export function fuzzMessage(prng: Prng, isTranslated: boolean): FuzzMessage {
  const name = prng.oneIn(20) ? prng.pick(NAMES) : prng.pick(OFTEN)
  const { nr }: RequestDecl = FRONT_END_REQUESTS[name]
  let bytes = payload(prng, name, isTranslated)
  const fds = descriptors(prng, name, bytes)
  const mutation = prng.below(400)
  if (mutation === 0 && bytes.length > 0) bytes = bytes.subarray(0, prng.below(bytes.length))
  else if (mutation === 1) bytes = Uint8Array.of(...bytes, ...new Uint8Array(prng.below(64)))
  else if (mutation < 6 && bytes.length > 0) {
    bytes[prng.below(bytes.length)] = prng.below(256)
  }
  const { VERSION, NEED_REPLY } = HEADER_FLAGS
  const flags = prng.oneIn(300) ? prng.int32() >>> 0 : VERSION | (prng.oneIn(2) ? NEED_REPLY : 0)
  return { request: prng.oneIn(300) ? prng.int32() >>> 0 : nr, flags, payload: bytes, fds }
}

/** Where the rings of a session are, as `TestSession.setUp` has them. */
const RINGS = { desc: 0x1000, avail: 0x1800, used: 0x2000, entries: 8 } as const
const HEADER_AT = 0x4000
const DATA_AT = 0x8000

/** What a guest does: makes a disk request, mostly a right one, and shows it to the device. */
export function fuzzRequest(prng: Prng, ram: Uint8Array): void {
  const view = new DataView(ram.buffer, ram.byteOffset, ram.length)
  const index = view.getUint16(RINGS.avail + 2, true)
  const head = (index % 2) * 4
  const odd = prng.oneIn(30) ? prng.below(12) : -1
  const data = prng.oneIn(3) ? 0 : 512 * (1 + prng.below(8))
  const type = prng.oneIn(8) ? prng.below(16) : prng.below(2)
  view.setUint32(HEADER_AT, type, true)
  view.setBigUint64(HEADER_AT + 8, prng.oneIn(20) ? prng.u64() : BigInt(prng.below(200)), true)
  const parts = [
    { at: HEADER_AT, bytes: 16, isWritten: false },
    ...(data > 0 ? [{ at: DATA_AT + prng.below(4096), bytes: data, isWritten: type === 0 }] : []),
    { at: HEADER_AT + 64, bytes: 1, isWritten: true },
  ]
  parts.forEach(({ at, bytes, isWritten }, i) => {
    const from = RINGS.desc + (head + i) * 16
    const isLast = i === parts.length - 1
    view.setBigUint64(from, odd === i ? address(prng, 0n) : BigInt(at), true)
    view.setUint32(from + 8, odd === i + 3 ? prng.int32() : bytes, true)
    const flags = (isLast ? 0 : 1) | (isWritten ? 2 : 0)
    view.setUint16(from + 12, odd === i + 6 ? prng.below(8) : flags, true)
    view.setUint16(from + 14, odd === i + 9 ? prng.below(16) : head + i + 1, true)
  })
  view.setUint16(RINGS.avail + 4 + (index % RINGS.entries) * 2, prng.oneIn(200) ? prng.below(16) : head, true)
  view.setUint16(RINGS.avail + 2, prng.oneIn(200) ? prng.int32() & 0xffff : index + 1, true)
}

/** The guest begins with empty rings. */
export function clearRings(ram: Uint8Array): void {
  ram.fill(0, RINGS.desc, RINGS.used + 0x1000)
}
