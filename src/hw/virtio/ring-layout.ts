import { bit, bits, word } from '../../bits/word.ts'

// Flags and sizes of split rings (virtio 1.2, Split Virtqueues; Linux v6.1 include/uapi/linux/virtio_ring.h).

/** What follows the address in a descriptor. */
export const VIRTQ_DESC = word('VIRTQ_DESC', 64, 'virtio 1.2, The Virtqueue Descriptor Table', {
  LEN: bits(31, 0, 'rw', 'Bytes of the buffer, or of the table.'),
  NEXT: bit(32, 'rw', 'The chain goes on at NEXT_INDEX.'),
  WRITE: bit(33, 'rw', 'The device writes the buffer; else it reads it.'),
  INDIRECT: bit(34, 'rw', 'The buffer is a table of descriptors.'),
  NEXT_INDEX: bits(63, 48, 'rw', 'Next descriptor of the chain.'),
})

/** Most entries of a ring; every number of entries is a power of two. */
export const RING_ENTRIES_MAX = 32_768
export const DESCRIPTOR_BYTES = 16

/** Flags of a descriptor: it goes on in `next`, the device writes the buffer, the buffer is a table. */
export const DESCRIPTOR = { NEXT: 1, WRITE: 2, INDIRECT: 4 } as const
/** Flag of the available ring: the driver wants no interrupts. */
export const NO_INTERRUPT = 1
/** Flag of the used ring: the device wants no notifications. */
export const NO_NOTIFY = 1

/** Offsets in the available and the used ring. */
export const RING_FLAGS_OFFSET = 0
export const RING_INDEX_OFFSET = 2
export const RING_ENTRIES_OFFSET = 4
export const USED_ENTRY_BYTES = 8

export const descriptorsBytes = (entries: number): number => DESCRIPTOR_BYTES * entries
/** With the event index of the driver (`used_event`) at its end, where that was negotiated. */
export const availableBytes = (entries: number, hasEventIndex: boolean): number =>
  4 + 2 * entries + (hasEventIndex ? 2 : 0)
/** With the event index of the device (`avail_event`) at its end, where that was negotiated. */
export const usedBytes = (entries: number, hasEventIndex: boolean): number =>
  4 + 8 * entries + (hasEventIndex ? 2 : 0)
/** Offsets of the two event indices. */
export const usedEventOffset = (entries: number): number => 4 + 2 * entries
export const availEventOffset = (entries: number): number => 4 + 8 * entries

export const isRingEntries = (entries: number): boolean =>
  Number.isInteger(entries) && entries >= 1 && entries <= RING_ENTRIES_MAX && (entries & (entries - 1)) === 0

/**
 * Whether a side that went from index `before` to `now` has passed the index at which the other one wants to
 * hear of it. All mod 2^16.
 */
export const needsEvent = (event: number, now: number, before: number): boolean =>
  ((now - event - 1) & 0xffff) < ((now - before) & 0xffff)
