import { bit, type Field, word } from '../../bits/word.ts'

const TRANSPORT = {
  NOTIFY_ON_EMPTY: bit(24, 'rw', 'Legacy: an interrupt whenever nothing is left available.'),
  ANY_LAYOUT: bit(27, 'rw', 'Legacy: how a message is cut into buffers does not matter.'),
  RING_INDIRECT_DESC: bit(28, 'rw', 'Descriptors may lead to tables of descriptors.'),
  RING_EVENT_IDX: bit(29, 'rw', 'Each side names the index from which on it wants to hear.'),
  PROTOCOL_FEATURES: bit(30, 'rw', 'vhost-user alone: the back end has protocol features.'),
  VERSION_1: bit(32, 'rw', 'virtio 1.0 and later; little endian.'),
  ACCESS_PLATFORM: bit(33, 'rw', 'Addresses go through the IOMMU of the device, if it has one.'),
  RING_PACKED: bit(34, 'rw', 'Packed rings.'),
  IN_ORDER: bit(35, 'rw', 'Buffers are used in the order in which they were made available.'),
  ORDER_PLATFORM: bit(36, 'rw', 'Memory is ordered as the platform orders it.'),
} as const

const BLK = {
  SIZE_MAX: bit(1, 'rw', 'Bytes of a segment are limited.'),
  SEG_MAX: bit(2, 'rw', 'Segments of a request are limited.'),
  GEOMETRY: bit(4, 'rw', 'There is a geometry.'),
  RO: bit(5, 'rw', 'The device is read-only.'),
  BLK_SIZE: bit(6, 'rw', 'There is a block size.'),
  FLUSH: bit(9, 'rw', 'Flush requests.'),
  TOPOLOGY: bit(10, 'rw', 'There is a topology.'),
  CONFIG_WCE: bit(11, 'rw', 'The driver may switch the write cache.'),
  MQ: bit(12, 'rw', 'More than one queue.'),
  DISCARD: bit(13, 'rw', 'Discard requests.'),
  WRITE_ZEROES: bit(14, 'rw', 'Requests to write zeros.'),
} as const

/** Features of a virtio block device on a split ring, offered or taken. */
export const VIRTIO_BLK_FEATURES = word(
  'VIRTIO_BLK_FEATURES',
  64,
  'virtio 1.2, Reserved Feature Bits; Block Device, Feature bits; vhost-user protocol (bit 30)',
  { ...TRANSPORT, ...BLK },
)

function bitNumbers<F extends string>(fields: Readonly<Record<F, Field>>): Readonly<Record<F, number>> {
  const out = {} as Record<F, number>
  for (const name of Object.keys(fields) as F[]) out[name] = fields[name].lo
  return Object.freeze(out)
}

/** Bit numbers of what belongs to rings and transports. */
export const VIRTIO_F = bitNumbers(TRANSPORT)
/** Bit numbers of a block device. */
export const VIRTIO_BLK_F = bitNumbers(BLK)

/** The word of features with the given bits. */
export const featureBits = (...numbers: readonly number[]): bigint =>
  numbers.reduce((features, number) => features | (1n << BigInt(number)), 0n)

export const hasFeature = (features: bigint, number: number): boolean =>
  ((features >> BigInt(number)) & 1n) === 1n
