/** A member of a message, at its offset; little-endian here, because modelled hosts are. */
interface MessageField {
  readonly offset: number
  readonly bytes: 1 | 4 | 8
}

/** The layouts of vhost_msg (v1) and vhost_msg_v2: both have the IOTLB part at 8. (Linux v6.1 include/uapi/linux/vhost_types.h) */
export const MESSAGE_LAYOUT = {
  type: { offset: 0, bytes: 4 },
  /** v2 only, and only where IOTLB_ASID was acknowledged; vhost-net does not offer it. */
  asid: { offset: 4, bytes: 4 },
  iova: { offset: 8, bytes: 8 },
  length: { offset: 16, bytes: 8 },
  uaddr: { offset: 24, bytes: 8 },
  perm: { offset: 32, bytes: 1 },
  kind: { offset: 33, bytes: 1 },
} as const satisfies Record<string, MessageField>

/** sizeof(vhost_msg) and sizeof(vhost_msg_v2): what a read delivers, and what a write answers. */
export const MESSAGE_BYTES = 72
/** Where the IOTLB part begins, and its size: what a write has to have. */
const IOTLB_OFFSET = 8
const IOTLB_BYTES = 32
const WRITE_BYTES_LEAST = IOTLB_OFFSET + IOTLB_BYTES
const TYPE_BYTES = 4

/** The version of a message: its member `type`. */
export const MESSAGE_VERSIONS: readonly number[] = [1, 2]

/** Permissions of a map, and what an access needs. */
export const PERM = { RO: 1, WO: 2, RW: 3 } as const

/** An IOTLB message of either version. */
export interface IotlbMessage {
  /** 1 or 2. */
  readonly version: number
  readonly iova: bigint
  readonly bytes: bigint
  readonly ua: bigint
  readonly perm: number
  /** `IOTLB_MESSAGE`, or any other number that a process has written. */
  readonly type: number
}

function load(data: Uint8Array, { offset, bytes }: MessageField): bigint {
  let word = 0n
  for (let i = bytes - 1; i >= 0; i--) word = (word << 8n) | BigInt(data[offset + i] as number)
  return word
}

function store(data: Uint8Array, { offset, bytes }: MessageField, value: bigint): void {
  for (let i = 0; i < bytes; i++) data[offset + i] = Number((value >> BigInt(8 * i)) & 0xffn)
}

/**
 * The bytes of a message as a process reads it, or writes it; padding is 0.
 *
 * @example encodeMessage({ version: 1, type: 1, iova: 0x2000n, bytes: 0n, ua: 0n, perm: 2 }).length // 72
 */
export function encodeMessage(message: IotlbMessage): Uint8Array {
  const data = new Uint8Array(MESSAGE_BYTES)
  const { type, iova, length, uaddr, perm, kind } = MESSAGE_LAYOUT
  store(data, type, BigInt(message.version))
  store(data, iova, message.iova)
  store(data, length, message.bytes)
  store(data, uaddr, message.ua)
  store(data, perm, BigInt(message.perm))
  store(data, kind, BigInt(message.type))
  return data
}

/** What is wrong with bytes that were written before anybody looks inside. */
type Malformed = 'type-short' | 'version-unknown' | 'short'

/** The message in bytes that a process writes. More bytes than it has are not looked at. */
export function decodeMessage(data: Uint8Array): IotlbMessage | Malformed {
  if (data.length < TYPE_BYTES) return 'type-short'
  const version = Number(load(data, MESSAGE_LAYOUT.type))
  if (!MESSAGE_VERSIONS.includes(version)) return 'version-unknown'
  if (data.length < WRITE_BYTES_LEAST) return 'short'
  return {
    version,
    iova: load(data, MESSAGE_LAYOUT.iova),
    bytes: load(data, MESSAGE_LAYOUT.length),
    ua: load(data, MESSAGE_LAYOUT.uaddr),
    perm: Number(load(data, MESSAGE_LAYOUT.perm)),
    type: Number(load(data, MESSAGE_LAYOUT.kind)),
  }
}
