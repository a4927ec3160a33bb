import { IommulatorError } from '../bits/errors.ts'
import { IOTLB_MESSAGE, type IotlbMessageName } from '../trace/event-codes.ts'

/**
 * The vhost-user protocol as data: requests, payloads, feature bits. One declaration feeds the back end's codec, its
 * message log and the readers of such logs. Words are in the byte order of the machine; QEMU and its back ends run on
 * one. (QEMU docs/interop/vhost-user.rst; QEMU 7.2 hw/virtio/vhost-user.c; docs and QEMU 8.1 call "back-end" what was
 * "slave")
 */

/** Bytes of the header: request u32, flags u32, bytes of the payload u32. */
export const HEADER_BYTES = 12

/** Bits of the flags word. */
export const HEADER_FLAGS = {
  /** Bits 1:0: the version of the protocol. */
  VERSION: 1,
  VERSION_MASK: 3,
  REPLY: 4,
  NEED_REPLY: 8,
} as const

/** Flags of every reply: QEMU takes exactly these. */
export const REPLY_FLAGS = HEADER_FLAGS.VERSION | HEADER_FLAGS.REPLY

/** Most bytes that a payload of any request here has; a longer one is not read at all. */
export const PAYLOAD_BYTES_MAX = 4096

/** File descriptors that QEMU puts into one message. (hw/virtio/vhost-user.c, VHOST_USER_SLAVE_MAX_FDS and VHOST_MEMORY_BASELINE_NREGIONS) */
export const FDS_MAX = 8

/** Bits of the virtio feature word that the transport itself looks at. */
export const TRANSPORT_FEATURES = {
  /** Writes are logged (migration). */
  LOG_ALL: 26,
  /** Protocol features are negotiated. */
  PROTOCOL_FEATURES: 30,
  /** Virtio 1. */
  VERSION_1: 32,
  /** Ring and buffer addresses are bus addresses behind a vIOMMU. */
  ACCESS_PLATFORM: 33,
} as const

/** Bits of the protocol features, by the names of the interface. */
export const PROTOCOL_FEATURES = {
  MQ: 0,
  LOG_SHMFD: 1,
  RARP: 2,
  REPLY_ACK: 3,
  NET_MTU: 4,
  BACKEND_REQ: 5,
  CROSS_ENDIAN: 6,
  CRYPTO_SESSION: 7,
  PAGEFAULT: 8,
  CONFIG: 9,
  BACKEND_SEND_FD: 10,
  HOST_NOTIFIER: 11,
  INFLIGHT_SHMFD: 12,
  RESET_DEVICE: 13,
  INBAND_NOTIFICATIONS: 14,
  CONFIGURE_MEM_SLOTS: 15,
  STATUS: 16,
} as const

export type ProtocolFeature = keyof typeof PROTOCOL_FEATURES

/** Where a field of a payload stands, and how wide it is. */
export interface PayloadField {
  readonly at: number
  readonly bytes: 1 | 4 | 8
}

export interface PayloadLayout {
  readonly fields: Readonly<Record<string, PayloadField>>
  /** Bytes of the part that is always there. */
  readonly bytes: number
  /** What follows: as many entries as the field `count` says, or the rest as it is. */
  readonly tail?: { readonly count: string; readonly entryBytes: number } | 'rest'
}

const u8 = (at: number): PayloadField => ({ at, bytes: 1 })
const u32 = (at: number): PayloadField => ({ at, bytes: 4 })
const u64 = (at: number): PayloadField => ({ at, bytes: 8 })

/** A region of guest memory: guest address, bytes, address in the front end, where it starts in its file. */
const REGION_FIELDS = { gpa: u64(0), regionBytes: u64(8), ua: u64(16), fileOffset: u64(24) } as const
export const REGION_BYTES = 32

/** All payloads. */
export const PAYLOADS = {
  none: { fields: {}, bytes: 0 },
  word: { fields: { value: u64(0) }, bytes: 8 },
  /** Bits 7:0 of the word are the index of the queue, bit 8 says that there is no descriptor. */
  notifier: { fields: { value: u64(0) }, bytes: 8 },
  vringState: { fields: { index: u32(0), num: u32(4) }, bytes: 8 },
  vringAddr: {
    fields: { index: u32(0), flags: u32(4), desc: u64(8), used: u64(16), avail: u64(24), log: u64(32) },
    bytes: 40,
  },
  memTable: { fields: { regions: u32(0) }, bytes: 8, tail: { count: 'regions', entryBytes: REGION_BYTES } },
  region: { fields: REGION_FIELDS, bytes: REGION_BYTES },
  /** One region behind a word of padding. */
  singleRegion: {
    fields: { gpa: u64(8), regionBytes: u64(16), ua: u64(24), fileOffset: u64(32) },
    bytes: 40,
  },
  /** struct vhost_iotlb_msg with the padding at its end (Linux include/uapi/linux/vhost_types.h). */
  iotlb: { fields: { iova: u64(0), bytes: u64(8), ua: u64(16), perm: u8(24), type: u8(25) }, bytes: 32 },
  config: { fields: { offset: u32(0), configBytes: u32(4), flags: u32(8) }, bytes: 12, tail: 'rest' },
} as const satisfies Readonly<Record<string, PayloadLayout>>

export type PayloadName = keyof typeof PAYLOADS

/** Bytes of a device's configuration space that a message carries at most. (VHOST_USER_MAX_CONFIG_SIZE) */
export const CONFIG_BYTES_MAX = 256

export interface RequestDecl {
  /** Number in the header. */
  readonly nr: number
  readonly payload: PayloadName
  /** Payload of the reply that the request always has; others are acknowledged by a word where the header asks for it. */
  readonly reply?: PayloadName
  /** Fewest and most file descriptors that come with it: none where it is left out; `regions` is one a region. */
  readonly fds?: readonly [least: number, most: number] | 'regions'
  /** The protocol feature without which nobody may send it. */
  readonly feature?: ProtocolFeature
  /** What the back end here does not serve, because it never offers what the request belongs to. */
  readonly isUnserved?: true
  readonly doc: string
}

function declareRequests<const R extends Readonly<Record<string, RequestDecl>>>(requests: R): R {
  const seen = new Set<number>()
  for (const [name, { nr }] of Object.entries(requests)) {
    if (seen.has(nr)) throw new IommulatorError('ERR_DECLARATION', `${name}: number ${nr} stands twice`)
    seen.add(nr)
  }
  return Object.freeze(requests)
}

const UNSERVED = { payload: 'none', isUnserved: true } as const

/** What a front end asks of a back end, by number. */
export const FRONT_END_REQUESTS = declareRequests({
  GET_FEATURES: { nr: 1, payload: 'none', reply: 'word', doc: 'Virtio features that the back end offers.' },
  SET_FEATURES: { nr: 2, payload: 'word', doc: 'Virtio features that the guest took.' },
  SET_OWNER: { nr: 3, payload: 'none', doc: 'A session begins.' },
  RESET_OWNER: { nr: 4, payload: 'none', doc: 'Not used any more; back ends ignore it.' },
  SET_MEM_TABLE: {
    nr: 5,
    payload: 'memTable',
    fds: 'regions',
    doc: 'Guest memory, instead of all regions before: one descriptor a region.',
  },
  SET_LOG_BASE: { nr: 6, ...UNSERVED, doc: 'Where written pages are logged.' },
  SET_LOG_FD: { nr: 7, ...UNSERVED, doc: 'Whom to tell of a full log.' },
  SET_VRING_NUM: { nr: 8, payload: 'vringState', doc: 'Entries of a ring.' },
  SET_VRING_ADDR: {
    nr: 9,
    payload: 'vringAddr',
    doc: 'Where the parts of a ring are: addresses of the front end, or bus addresses where there is an IOTLB.',
  },
  SET_VRING_BASE: { nr: 10, payload: 'vringState', doc: 'The next available entry that the back end takes.' },
  GET_VRING_BASE: {
    nr: 11,
    payload: 'vringState',
    reply: 'vringState',
    doc: 'The ring stops; how far it came.',
  },
  SET_VRING_KICK: {
    nr: 12,
    payload: 'notifier',
    fds: [0, 1],
    doc: 'The event by which the guest says that there is work.',
  },
  SET_VRING_CALL: {
    nr: 13,
    payload: 'notifier',
    fds: [0, 1],
    doc: 'The event by which the guest is interrupted.',
  },
  SET_VRING_ERR: {
    nr: 14,
    payload: 'notifier',
    fds: [0, 1],
    doc: 'The event that tells of a broken ring.',
  },
  GET_PROTOCOL_FEATURES: {
    nr: 15,
    payload: 'none',
    reply: 'word',
    doc: 'Protocol features that the back end offers.',
  },
  SET_PROTOCOL_FEATURES: { nr: 16, payload: 'word', doc: 'Protocol features that both have.' },
  GET_QUEUE_NUM: {
    nr: 17,
    payload: 'none',
    reply: 'word',
    feature: 'MQ',
    doc: 'Queues that the back end serves.',
  },
  SET_VRING_ENABLE: {
    nr: 18,
    payload: 'vringState',
    doc: 'A ring is served (1) or not (0); may be repeated.',
  },
  SEND_RARP: { nr: 19, ...UNSERVED, doc: 'A network back end announces itself.' },
  NET_SET_MTU: { nr: 20, ...UNSERVED, doc: 'Largest packet of a network back end.' },
  SET_BACKEND_REQ_FD: {
    nr: 21,
    payload: 'none',
    fds: [1, 1],
    feature: 'BACKEND_REQ',
    doc: 'The socket for requests of the back end.',
  },
  IOTLB_MSG: {
    nr: 22,
    payload: 'iotlb',
    reply: 'word',
    doc: 'UPDATE or INVALIDATE of the IOTLB; always acknowledged.',
  },
  SET_VRING_ENDIAN: { nr: 23, ...UNSERVED, doc: 'Byte order of a ring before virtio 1.' },
  GET_CONFIG: {
    nr: 24,
    payload: 'config',
    reply: 'config',
    feature: 'CONFIG',
    doc: 'Configuration space of the device; an empty reply refuses.',
  },
  SET_CONFIG: {
    nr: 25,
    payload: 'config',
    feature: 'CONFIG',
    doc: 'The guest writes the configuration space.',
  },
  CREATE_CRYPTO_SESSION: { nr: 26, ...UNSERVED, doc: 'Crypto devices.' },
  CLOSE_CRYPTO_SESSION: { nr: 27, ...UNSERVED, doc: 'Crypto devices.' },
  POSTCOPY_ADVISE: { nr: 28, ...UNSERVED, doc: 'Migration by page faults.' },
  POSTCOPY_LISTEN: { nr: 29, ...UNSERVED, doc: 'Migration by page faults.' },
  POSTCOPY_END: { nr: 30, ...UNSERVED, doc: 'Migration by page faults.' },
  GET_INFLIGHT_FD: { nr: 31, ...UNSERVED, doc: 'Memory for requests that are under way.' },
  SET_INFLIGHT_FD: { nr: 32, ...UNSERVED, doc: 'Memory for requests that are under way.' },
  GPU_SET_SOCKET: { nr: 33, ...UNSERVED, doc: 'Display devices.' },
  RESET_DEVICE: {
    nr: 34,
    payload: 'none',
    feature: 'RESET_DEVICE',
    doc: 'The device is as at its start; rings are stopped.',
  },
  VRING_KICK: { nr: 35, ...UNSERVED, doc: 'A kick as a message.' },
  GET_MAX_MEM_SLOTS: {
    nr: 36,
    payload: 'none',
    reply: 'word',
    feature: 'CONFIGURE_MEM_SLOTS',
    doc: 'Regions that the back end takes.',
  },
  ADD_MEM_REG: {
    nr: 37,
    payload: 'singleRegion',
    fds: [1, 1],
    feature: 'CONFIGURE_MEM_SLOTS',
    doc: 'One region of guest memory more.',
  },
  REM_MEM_REG: {
    nr: 38,
    payload: 'singleRegion',
    fds: [0, 1],
    feature: 'CONFIGURE_MEM_SLOTS',
    doc: 'One region of guest memory less. A descriptor, which QEMU before 7.1 sent, is closed.',
  },
  SET_STATUS: { nr: 39, payload: 'word', feature: 'STATUS', doc: 'Status of the virtio device.' },
  GET_STATUS: {
    nr: 40,
    payload: 'none',
    reply: 'word',
    feature: 'STATUS',
    doc: 'Status of the virtio device.',
  },
})

export type FrontEndRequest = keyof typeof FRONT_END_REQUESTS

/** What a back end asks of a front end, on the second channel. */
export const BACK_END_REQUESTS = declareRequests({
  IOTLB_MSG: { nr: 1, payload: 'iotlb', doc: 'MISS: where is this bus address?' },
  CONFIG_CHANGE: { nr: 2, ...UNSERVED, doc: 'Configuration space changed.' },
  VRING_HOST_NOTIFIER: { nr: 3, ...UNSERVED, doc: 'Memory in place of a kick.' },
  VRING_CALL: { nr: 4, ...UNSERVED, doc: 'An interrupt as a message.' },
  VRING_ERR: { nr: 5, ...UNSERVED, doc: 'An error as a message.' },
})

const NAMES: readonly (FrontEndRequest | undefined)[] = (() => {
  const names: (FrontEndRequest | undefined)[] = []
  for (const [name, { nr }] of Object.entries(FRONT_END_REQUESTS)) names[nr] = name as FrontEndRequest
  return names
})()

/** The request of a number, if there is one. */
export const frontEndRequest = (nr: number): FrontEndRequest | undefined => NAMES[nr]

const IOTLB_NAMES = Object.keys(IOTLB_MESSAGE) as IotlbMessageName[]

/** The type of an IOTLB message by its number, if there is one. */
export const iotlbType = (nr: number): IotlbMessageName | undefined => IOTLB_NAMES[nr - 1]
