import { FRONT_END_REQUESTS, type FrontEndRequest } from './vhost-user-format.ts'

/** How a value of a message log is written in JSON, and what it becomes. */
export const VHOST_FIELD_KINDS = {
  word: 'A text: 0x and up to 16 hexadecimal digits.',
  count: 'A whole number from 0 to 2^53 - 1.',
  amount: 'A number from 0 on; a large one may be rounded.',
  flag: 'true or false, 1 or 0.',
  text: 'A text.',
  regions: 'A list of objects {gpa, uaddr, off, size}, each value a word.',
  segments: 'A list of pairs [bus address (a word), bytes (a number)].',
  counters: 'An object of whole numbers.',
} as const

export type VhostFieldKind = keyof typeof VHOST_FIELD_KINDS

/** A region of guest memory: `uaddr` is the address that the front end knows it by. */
export interface VhostRegion {
  readonly gpa: bigint
  readonly bytes: bigint
  readonly uaddr: bigint
  readonly offset: bigint
}

/** Bytes at a bus address. */
export interface VhostSegment {
  readonly iova: bigint
  readonly bytes: number
}

interface KindValues {
  word: bigint
  count: number
  amount: number
  flag: boolean
  text: string
  regions: readonly VhostRegion[]
  segments: readonly VhostSegment[]
  counters: Readonly<Record<string, number>>
}

/** Fields of an entry; a name that ends in `?` may be left out. */
export type VhostFields = Readonly<Record<string, VhostFieldKind>>

/** What stands in a message beside `t`, `dir`, `msg`, `size`, `flags` and `fds`. */
const REQUEST_FIELDS = {
  SET_FEATURES: { v: 'word' },
  SET_PROTOCOL_FEATURES: { v: 'word' },
  SET_MEM_TABLE: { regions: 'regions' },
  ADD_MEM_REG: { regions: 'regions' },
  REM_MEM_REG: { regions: 'regions' },
  SET_VRING_NUM: { 'index?': 'count', num: 'count' },
  SET_VRING_BASE: { 'index?': 'count', base: 'count' },
  SET_VRING_ADDR: { index: 'count', desc: 'word', used: 'word', avail: 'word', 'log?': 'word' },
  SET_VRING_ENABLE: { index: 'count', on: 'flag' },
  GET_VRING_BASE: { 'index?': 'count', 'stat?': 'counters' },
  GET_CONFIG: {
    off: 'count',
    len: 'count',
  },
  IOTLB_MSG: {
    type: 'text',
    iova: 'word',
    size: 'word',
    uaddr: 'word',
    perm: 'count',
  },
} as const satisfies Partial<Record<FrontEndRequest, VhostFields>>

const REQUEST_EXAMPLES: Partial<Record<FrontEndRequest, string>> = {
  SET_MEM_TABLE:
    '{"t":196188,"dir":"from-qemu","msg":"SET_MEM_TABLE","size":40,"flags":9,"fds":1,"regions":[{"gpa":"0x0","size":"0x20000000","uaddr":"0x7f3a1ffff000","off":"0x0"}]}',
  SET_VRING_ADDR:
    '{"t":4722597,"dir":"from-qemu","msg":"SET_VRING_ADDR","size":40,"flags":1,"index":0,"desc":"0xfffff000","used":"0xfffff940","avail":"0xfffff800","log":"0xfffff940"}',
  IOTLB_MSG:
    '{"t":4733216,"dir":"from-qemu","msg":"IOTLB_MSG","size":"0x1000","flags":9,"iova":"0xffffe000","uaddr":"0x7f3a38a18000","perm":3,"type":"UPDATE"}',
}

/** What the back end asks on its own channel. */
const MISS_FIELDS = { iova: 'word', perm: 'count', 'queue?': 'count' } as const satisfies VhostFields

const COUNTERS = {
  miss: 'count',
  update: 'count',
  inval: 'count',
  req: 'count',
  bytes: 'count',
  hit: 'count',
} as const satisfies VhostFields

/** What the back end did, by the word that `event` has. */
const OWN_FIELDS = {
  blk: { type: 'count', sector: 'amount', segs: 'segments', 'queue?': 'count' },
  use: {
    iova: 'word',
    uaddr: 'word',
    bytes: 'count',
    write: 'flag',
    part: 'count',
    'queue?': 'count',
  },
  error: { e: 'text' },
  'miss-unanswered': { iova: 'word', w: 'flag' },
  closed: COUNTERS,
} as const satisfies Readonly<Record<string, VhostFields>>

export type VhostOwnName = keyof typeof OWN_FIELDS

type NameOf<K> = K extends `${infer N}?` ? N : K
type ValuesOf<F extends VhostFields> = {
  readonly [K in keyof F as NameOf<K>]: K extends `${string}?`
    ? KindValues[F[K]] | undefined
    : KindValues[F[K]]
}

interface Entry {
  /** Line of the log; 0 for one that no log has. */
  readonly line: number
  /** Microseconds since the back end started. */
  readonly timeUs: number
}

/** A message of QEMU. A request that no declaration has keeps its number, and has no fields. */
export type VhostRequestEntry = {
  [K in FrontEndRequest]: Entry & {
    readonly what: 'request'
    readonly name: K
    readonly request: number
    readonly flags: number
    readonly fields: K extends keyof typeof REQUEST_FIELDS
      ? ValuesOf<(typeof REQUEST_FIELDS)[K]>
      : Readonly<Record<never, never>>
  }
}[FrontEndRequest]

/** A request with a number that nobody has declared. */
export interface VhostOddRequestEntry extends Entry {
  readonly what: 'odd request'
  readonly request: number
  readonly flags: number
}

export interface VhostMissEntry extends Entry {
  readonly what: 'miss'
  readonly fields: ValuesOf<typeof MISS_FIELDS>
}

/** What the back end did itself. */
export type VhostOwnEntry = {
  [K in VhostOwnName]: Entry & {
    readonly what: 'own'
    readonly name: K
    readonly fields: ValuesOf<(typeof OWN_FIELDS)[K]>
  }
}[VhostOwnName]

/** A line that was lost: a message of QEMU may have stood there. */
export interface VhostDamagedEntry {
  readonly what: 'damaged'
  readonly line: number
}

/** An entry of a message log. */
export type VhostEntry =
  | VhostRequestEntry
  | VhostOddRequestEntry
  | VhostMissEntry
  | VhostOwnEntry
  | VhostDamagedEntry

export const MISS_NAME = 'IOTLB_MISS'

/** Fields of a request beside the usual ones. */
export const requestFields = (name: FrontEndRequest): VhostFields =>
  (REQUEST_FIELDS as Partial<Record<FrontEndRequest, VhostFields>>)[name] ?? {}
export const missFields = (): VhostFields => MISS_FIELDS
/** Fields of what the back end did; undefined for a word that is not declared. */
export const ownFields = (name: string): VhostFields | undefined =>
  Object.hasOwn(OWN_FIELDS, name) ? OWN_FIELDS[name as VhostOwnName] : undefined

/** A kind of line, for pages and tests. */
export interface VhostLineDoc {
  readonly name: string
  readonly from: 'QEMU' | 'back end' | 'back end itself'
  readonly fields: VhostFields
  readonly doc: string
  readonly example: string | undefined
}

const OWN_DOCS: Readonly<Record<VhostOwnName, { readonly doc: string; readonly example: string }>> = {
  blk: {
    doc: 'A request of a disk is done: its type (0 read, 1 write, 4 flush, 8 get-id), first sector, and the buffers between header and status. A read writes them.',
    example: '{"t":4734122,"event":"blk","type":0,"sector":0,"segs":[["0xffffd000",4096]]}',
  },
  use: {
    doc: 'The device reached bytes at a bus address: part 0 a buffer, 1 descriptors, 2 available ring, 3 used ring.',
    example:
      '{"t":4734122,"event":"use","iova":"0xffffd000","uaddr":"0x7f3a39595000","bytes":4096,"write":true,"part":0}',
  },
  error: {
    doc: 'The device gave a queue up.',
    example: '{"t":4734122,"event":"error","e":"Error: no translation 1ffde002"}',
  },
  'miss-unanswered': {
    doc: 'Nobody gave a translation within two seconds.',
    example: '{"t":4687000,"event":"miss-unanswered","iova":"0x1ffde002","w":false}',
  },
  closed: {
    doc: 'The connection is over: misses, updates, invalidations, requests, bytes, hits.',
    example:
      '{"t":120087973,"event":"closed","miss":37,"update":39,"inval":0,"req":5,"bytes":143872,"hit":110076}',
  },
}

/** The message log of a vhost-user back end: one JSON object a line. */
export const VHOST_LOG = {
  id: 'vhost-messages',
  title: 'message log of a vhost-user back end',
  source:
    'what a back end writes that serves a guest with an IOTLB: iommulator connect vhost-user, or your own',
  /** Longest line. */
  lineBytesMax: 64 * 1024,
  lines: [
    ...Object.entries(FRONT_END_REQUESTS).map(([name, { doc }]): VhostLineDoc => {
      const fields = requestFields(name as FrontEndRequest)
      return { name, from: 'QEMU', fields, doc, example: REQUEST_EXAMPLES[name as FrontEndRequest] }
    }),
    {
      name: MISS_NAME,
      from: 'back end',
      fields: MISS_FIELDS,
      doc: 'The device does not find a bus address (perm 1 to read, 2 to write) and asks QEMU for it.',
      example: '{"t":4732775,"dir":"to-qemu","msg":"IOTLB_MISS","iova":"0xffffe110","perm":1}',
    },
    ...Object.entries(OWN_FIELDS).map(
      ([name, fields]): VhostLineDoc => ({
        name,
        from: 'back end itself',
        fields,
        ...OWN_DOCS[name as VhostOwnName],
      }),
    ),
  ] as readonly VhostLineDoc[],
} as const
