import { placesOf } from './ring-rules.ts'

/** What a block request asks for (virtio 1.2, Block Device, Device Operation; Linux v6.1 uapi/linux/virtio_blk.h). */
export const BLK_TYPE = {
  IN: 0,
  OUT: 1,
  FLUSH: 4,
  GET_ID: 8,
  DISCARD: 11,
  WRITE_ZEROES: 13,
} as const

/** The status byte. */
export const BLK_STATUS = { OK: 0, IOERR: 1, UNSUPP: 2 } as const

/** type u32, reserved u32, sector u64. */
export const BLK_HEADER_BYTES = 16
/** Bytes of a serial number, padded with NULs. */
export const BLK_ID_BYTES = 20
/** A segment of DISCARD and WRITE_ZEROES: sector u64, sectors u32, flags u32. */
export const BLK_SEGMENT_BYTES = 16
/** Flag of a segment: the space may be given back. Of WRITE_ZEROES alone. */
export const BLK_SEGMENT_UNMAP = 1

export interface BlkAnswerDecl {
  readonly rule: string
  readonly status: number
  /** For lists of rules: a request is no error of the ring. */
  readonly errno: 0
  readonly when: string
}

/**
 * What a block device answers to a request, in the order of the checks (virtio 1.2, Block Device; where the
 * standard leaves it open, QEMU 7.2 hw/block/virtio-blk.c).
 */
export const BLK_ANSWERS = [
  {
    rule: 'unsupported',
    status: 2,
    errno: 0,
    when: 'A type that the device does not know.',
  },
  { rule: 'read-only', status: 1, errno: 0, when: 'The device is read-only, and the request changes bytes.' },
  {
    rule: 'data-unaligned',
    status: 1,
    errno: 0,
    when: 'Data of a read or write is no multiple of 512 bytes.',
  },
  { rule: 'outside', status: 1, errno: 0, when: 'A read or write passes the capacity.' },
  {
    rule: 'segments-malformed',
    status: 1,
    errno: 0,
    when: 'The segments of DISCARD or WRITE_ZEROES are no multiple of 16 bytes, none, or more than the limit.',
  },
  { rule: 'segment-too-long', status: 1, errno: 0, when: 'A segment has more sectors than the limit.' },
  { rule: 'segment-outside', status: 1, errno: 0, when: 'A segment passes the capacity.' },
  {
    rule: 'segment-flags',
    status: 2,
    errno: 0,
    when: 'A segment has a flag that is unknown, or a DISCARD one that is for WRITE_ZEROES.',
  },
  { rule: 'store-failed', status: 1, errno: 0, when: 'The store could not do it.' },
  { rule: 'done', status: 0, errno: 0, when: 'The request was carried out.' },
] as const satisfies readonly BlkAnswerDecl[]

export const BLK = placesOf(BLK_ANSWERS)

export interface BlkConfigField {
  readonly name: string
  readonly offset: number
  readonly bytes: 1 | 2 | 4 | 8
  readonly doc: string
}

/** The configuration space of a block device, little endian (virtio 1.2, Block Device, Device configuration layout). */
export const BLK_CONFIG_FIELDS = [
  { name: 'capacity', offset: 0, bytes: 8, doc: 'Sectors of 512 bytes.' },
  { name: 'size_max', offset: 8, bytes: 4, doc: 'Most bytes of a data segment (SIZE_MAX).' },
  { name: 'seg_max', offset: 12, bytes: 4, doc: 'Most data segments of a request (SEG_MAX).' },
  { name: 'cylinders', offset: 16, bytes: 2, doc: 'Geometry (GEOMETRY).' },
  { name: 'heads', offset: 18, bytes: 1, doc: 'Geometry.' },
  { name: 'sectors', offset: 19, bytes: 1, doc: 'Geometry.' },
  { name: 'blk_size', offset: 20, bytes: 4, doc: 'Block that the driver should work in (BLK_SIZE).' },
  {
    name: 'physical_block_exp',
    offset: 24,
    bytes: 1,
    doc: 'Logical blocks of a physical one, as a power of 2 (TOPOLOGY).',
  },
  { name: 'alignment_offset', offset: 25, bytes: 1, doc: 'First aligned logical block.' },
  { name: 'min_io_size', offset: 26, bytes: 2, doc: 'Suggested least request, in logical blocks.' },
  { name: 'opt_io_size', offset: 28, bytes: 4, doc: 'Suggested greatest request, in logical blocks.' },
  {
    name: 'writeback',
    offset: 32,
    bytes: 1,
    doc: '1 where writes stay in a cache until FLUSH (CONFIG_WCE; the driver may write it).',
  },
  { name: 'num_queues', offset: 34, bytes: 2, doc: 'Queues (MQ).' },
  { name: 'max_discard_sectors', offset: 36, bytes: 4, doc: 'Most sectors of a segment (DISCARD).' },
  { name: 'max_discard_seg', offset: 40, bytes: 4, doc: 'Most segments of a DISCARD.' },
  {
    name: 'discard_sector_alignment',
    offset: 44,
    bytes: 4,
    doc: 'Sectors to align to when a discard is split.',
  },
  {
    name: 'max_write_zeroes_sectors',
    offset: 48,
    bytes: 4,
    doc: 'Most sectors of a segment (WRITE_ZEROES).',
  },
  { name: 'max_write_zeroes_seg', offset: 52, bytes: 4, doc: 'Most segments of a WRITE_ZEROES.' },
  { name: 'write_zeroes_may_unmap', offset: 56, bytes: 1, doc: '1 where WRITE_ZEROES may give space back.' },
] as const satisfies readonly BlkConfigField[]

/** Bytes of the configuration space: three unused ones are its end. */
export const BLK_CONFIG_BYTES = 60

export type BlkConfig = Partial<Record<(typeof BLK_CONFIG_FIELDS)[number]['name'], bigint | number>>

/** The bytes of a configuration space; what is not given is 0. */
export function blkConfigBytes(config: BlkConfig): Uint8Array {
  const out = new Uint8Array(BLK_CONFIG_BYTES)
  for (const { name, offset, bytes } of BLK_CONFIG_FIELDS) {
    let rest = BigInt(config[name] ?? 0)
    for (let i = 0; i < bytes; i++, rest >>= 8n) out[offset + i] = Number(rest & 0xffn)
  }
  return out
}
