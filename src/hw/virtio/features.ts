/** Feature bits: numbers of bits (virtio 1.2, Reserved Feature Bits; Linux v6.1 uapi/linux/virtio_config.h, virtio_ring.h). */
export const VIRTIO_F = {
  /** Legacy: a call for each run that leaves nothing available. */
  NOTIFY_ON_EMPTY: 24,
  /** Legacy: the framing of messages is not looked at. */
  ANY_LAYOUT: 27,
  RING_INDIRECT_DESC: 28,
  RING_EVENT_IDX: 29,
  /** Of vhost-user alone: there are protocol features. */
  VHOST_USER_PROTOCOL: 30,
  VERSION_1: 32,
  /** Addresses of rings and buffers are the device's: they go through its IOMMU. */
  ACCESS_PLATFORM: 33,
  RING_PACKED: 34,
  IN_ORDER: 35,
  ORDER_PLATFORM: 36,
} as const

/** Of a block device (virtio 1.2, Block Device, Feature bits; Linux v6.1 uapi/linux/virtio_blk.h). */
export const VIRTIO_BLK_F = {
  SIZE_MAX: 1,
  SEG_MAX: 2,
  GEOMETRY: 4,
  RO: 5,
  BLK_SIZE: 6,
  FLUSH: 9,
  TOPOLOGY: 10,
  CONFIG_WCE: 11,
  MQ: 12,
  DISCARD: 13,
  WRITE_ZEROES: 14,
} as const

/** The word of features with the given bits. */
export const featureBits = (...bits: readonly number[]): bigint =>
  bits.reduce((word, bit) => word | (1n << BigInt(bit)), 0n)

export const hasFeature = (features: bigint, bit: number): boolean => ((features >> BigInt(bit)) & 1n) === 1n
