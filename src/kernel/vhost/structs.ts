import { type StructDecl, u32, u64 } from '../user-struct.ts'

/** Structures of vhost, the same on every 64-bit architecture. (Linux v6.1 include/uapi/linux/vhost_types.h) */
export const STRUCTS = {
  features: { name: 'u64', bytes: 8, fields: [u64('features', 0)] },
  state: { name: 'vhost_vring_state', bytes: 8, fields: [u32('index', 0), u32('num', 4)] },
  file: { name: 'vhost_vring_file', bytes: 8, fields: [u32('index', 0), u32('file', 4)] },
  place: {
    name: 'vhost_vring_addr',
    bytes: 40,
    fields: [
      u32('index', 0),
      u32('flags', 4),
      u64('desc', 8),
      u64('used', 16),
      u64('avail', 24),
      u64('log', 32),
    ],
  },
  /** The head of vhost_memory; regions follow it. */
  memory: { name: 'vhost_memory', bytes: 8, fields: [u32('nregions', 0), u32('padding', 4)] },
} as const satisfies Record<string, StructDecl>

/** vhost_memory_region: gpa, bytes, user address and a word of flags that nobody looks at, 8 bytes each. */
export const REGION_BYTES = 32
/** Members of a region that calls name. */
export const REGION_WORDS = 3
