import { type CallDecl, declareCall } from '../../bits/call.ts'
import {
  ACTIVE,
  arg,
  BAD_POINTER,
  CORE,
  FDS,
  fd,
  IOCTL,
  io,
  ior,
  iow,
  iowr,
  NET,
  NO_MEMORY,
  NO_SUCH_QUEUE,
  NOT_OWNER,
  NOT_WRITABLE,
  process,
  QUEUE,
  u32,
  u64,
} from './call-parts.ts'
import { MESSAGE_CALLS } from './message-calls.ts'

const index = u32('Number of the queue: 0 receives, 1 transmits.')
const features = u64('Feature bits.')
const file = {
  type: 'u32',
  optional: true,
  initial: 0xffff_ffffn,
  doc: 'Descriptor of an eventfd; 0xffffffff (-1) takes the one away that the queue has.',
} as const
const FEATURES_UNKNOWN = {
  rule: 'features-unknown',
  code: 'EOPNOTSUPP',
  when: 'A bit is set that vhost-net does not offer.',
} as const

export const VHOST_GET_FEATURES = declareCall({
  name: 'VHOST_GET_FEATURES',
  ...IOCTL,
  nr: ior(0x00, 8),
  args: { process, fd, arg },
  outputs: { features },
  answers: [
    ...FDS,
    NOT_WRITABLE,
    {
      rule: 'done',
      code: 'OK',
      when: 'Bits 15, 24, 26, 27, 28, 29, 32 and 33, and from Linux 6.3 on 40, are offered: anybody may ask.',
    },
  ],
  source: `${NET}, vhost_net_ioctl; vhost.h, VHOST_FEATURES`,
  doc: 'Asks vhost-net for the features that it offers.',
})

export const VHOST_SET_FEATURES = declareCall({
  name: 'VHOST_SET_FEATURES',
  ...IOCTL,
  nr: iow(0x00, 8),
  args: { process, fd, arg, features },
  answers: [
    ...FDS,
    BAD_POINTER,
    FEATURES_UNKNOWN,
    {
      rule: 'no-iotlb-memory',
      code: 'EFAULT',
      when: 'VIRTIO_F_ACCESS_PLATFORM (bit 33) is set, and there is no memory for an IOTLB, or max_iotlb_entries is 0.',
    },
    {
      rule: 'iotlb',
      code: 'OK',
      when: 'VIRTIO_F_ACCESS_PLATFORM is set: the device has a new, empty IOTLB, and what it remembered of its rings is gone.',
    },
    {
      rule: 'done',
      code: 'OK',
      when: 'Other features are in force; an IOTLB that the device has stays. Nobody has to own the device.',
    },
  ],
  source: `${NET}, vhost_net_set_features; ${CORE}, vhost_init_device_iotlb`,
  doc: 'Acknowledges features. Bit 33 puts the device behind an IOTLB.',
})

export const VHOST_GET_BACKEND_FEATURES = declareCall({
  name: 'VHOST_GET_BACKEND_FEATURES',
  ...IOCTL,
  nr: ior(0x26, 8),
  args: { process, fd, arg },
  outputs: { features },
  answers: [
    ...FDS,
    NOT_WRITABLE,
    { rule: 'done', code: 'OK', when: 'Bit 1 (IOTLB_MSG_V2) is offered: anybody may ask.' },
  ],
  source: `${NET}, vhost_net_ioctl`,
  doc: 'Asks vhost-net for the features of its interface to user space.',
})

export const VHOST_SET_BACKEND_FEATURES = declareCall({
  name: 'VHOST_SET_BACKEND_FEATURES',
  ...IOCTL,
  nr: iow(0x25, 8),
  args: { process, fd, arg, features },
  answers: [
    ...FDS,
    BAD_POINTER,
    FEATURES_UNKNOWN,
    { rule: 'done', code: 'OK', when: 'Misses from now on are messages of v2 with bit 1, else of v1.' },
  ],
  source: `${NET}, vhost_net_ioctl; ${CORE}, vhost_set_backend_features`,
  doc: 'Acknowledges features of the interface. Nobody has to own the device.',
})

export const VHOST_SET_OWNER = declareCall({
  name: 'VHOST_SET_OWNER',
  ...IOCTL,
  nr: io(0x01),
  args: { process, fd },
  answers: [
    ...FDS,
    { rule: 'owned', code: 'EBUSY', when: 'The device has an owner, be it the caller.' },
    NO_MEMORY,
    { rule: 'done', code: 'OK', when: 'The device works in the address space of the caller.' },
  ],
  source: `${CORE}, vhost_dev_set_owner; ${NET}, vhost_net_set_owner`,
  doc: 'The caller becomes the owner of the device.',
})

export const VHOST_RESET_OWNER = declareCall({
  name: 'VHOST_RESET_OWNER',
  ...IOCTL,
  nr: io(0x02),
  args: { process, fd },
  answers: [
    ...FDS,
    NOT_OWNER,
    NO_MEMORY,
    {
      rule: 'done',
      code: 'OK',
      when: 'The device is as new, but has an empty memory table; eventfds, IOTLB and messages are gone.',
    },
  ],
  source: `${NET}, vhost_net_reset_owner; ${CORE}, vhost_dev_reset_owner, vhost_dev_cleanup`,
  doc: 'The owner gives the device up.',
})

export const VHOST_SET_MEM_TABLE = declareCall({
  name: 'VHOST_SET_MEM_TABLE',
  ...IOCTL,
  nr: iow(0x03, 8),
  args: {
    process,
    fd,
    arg,
    nregions: {
      type: 'u32',
      optional: true,
      doc: 'How many regions the structure says it has; as many as there are where it is left out.',
    },
    padding: u32('Has to be 0.'),
    regions: {
      type: 'words',
      optional: true,
      doc: 'Of each region three words: guest physical address, bytes, user address.',
    },
  },
  answers: [
    ...FDS,
    NOT_OWNER,
    BAD_POINTER,
    { rule: 'padding', code: 'EOPNOTSUPP', when: 'padding is not 0.' },
    {
      rule: 'too-many-regions',
      code: 'E2BIG',
      when: 'More than 64 regions (module parameter max_mem_regions).',
    },
    {
      rule: 'no-entries',
      code: 'EINVAL',
      when: 'The module parameter max_iotlb_entries is 0 (read in Linux 6.1.192; kernels without the check make a table).',
    },
    NO_MEMORY,
    { rule: 'regions-unreadable', code: 'EFAULT', when: 'The regions cannot be read.' },
    { rule: 'no-table-memory', code: 'ENOMEM', when: 'There is no memory for the table.' },
    {
      rule: 'region-refused',
      code: 'EFAULT',
      when: 'A region passes 2^64, or is empty at an address that is not 0.',
    },
    {
      rule: 'not-user-memory',
      code: 'EFAULT',
      when: 'A queue has a backend, and a region lies outside of user space.',
    },
    { rule: 'done', code: 'OK', when: 'The table replaces the old one. Regions may overlap.' },
  ],
  source: `${CORE}, vhost_set_memory, memory_access_ok`,
  doc: 'Says where guest memory is in the address space of the owner.',
})

export const VHOST_SET_VRING_NUM = declareCall({
  name: 'VHOST_SET_VRING_NUM',
  ...IOCTL,
  nr: iow(0x10, 8),
  args: { process, fd, arg, index, num: u32('Descriptors.') },
  answers: [
    ...FDS,
    ...QUEUE,
    ACTIVE,
    BAD_POINTER,
    { rule: 'num-invalid', code: 'EINVAL', when: 'num is 0, above 0xffff, or no power of two.' },
    { rule: 'done', code: 'OK', when: 'The ring has so many descriptors.' },
  ],
  source: `${CORE}, vhost_vring_set_num`,
  doc: 'Sets the size of a ring. What the queue remembers of its rings goes, whatever the answer is.',
})

export const VHOST_SET_VRING_ADDR = declareCall({
  name: 'VHOST_SET_VRING_ADDR',
  ...IOCTL,
  nr: iow(0x11, 40),
  args: {
    process,
    fd,
    arg,
    index,
    flags: u32('Bit 0: writes to the used ring are logged.'),
    desc: u64('Descriptors: a user address, or a bus address in front of an IOTLB.'),
    used: u64('Used ring, as `desc`.'),
    avail: u64('Available ring, as `desc`.'),
    log: u64('Where writes to the used ring are logged.'),
  },
  answers: [
    ...FDS,
    ...QUEUE,
    BAD_POINTER,
    { rule: 'flags-unknown', code: 'EOPNOTSUPP', when: 'A flag other than bit 0 is set.' },
    {
      rule: 'unaligned',
      code: 'EINVAL',
      when: 'avail is no multiple of 2, or used or log no multiple of 4.',
    },
    {
      rule: 'not-user-memory',
      code: 'EINVAL',
      when: 'The queue has a backend and no IOTLB, and a ring lies outside of user space.',
    },
    { rule: 'done', code: 'OK', when: 'The rings are there. Without a backend nobody looks at them now.' },
  ],
  source: `${CORE}, vhost_vring_set_addr`,
  doc: 'Says where the rings of a queue are. What the queue remembers of its rings goes, whatever the answer is.',
})

export const VHOST_SET_VRING_BASE = declareCall({
  name: 'VHOST_SET_VRING_BASE',
  ...IOCTL,
  nr: iow(0x12, 8),
  args: { process, fd, arg, index, num: u32('Index in the available ring, mod 2^16.') },
  answers: [
    ...FDS,
    ...QUEUE,
    ACTIVE,
    BAD_POINTER,
    { rule: 'num-too-large', code: 'EINVAL', when: 'num is above 0xffff.' },
    { rule: 'done', code: 'OK', when: 'The queue goes on there.' },
  ],
  source: `${CORE}, vhost_vring_ioctl`,
  doc: 'Says where a queue goes on in its available ring.',
})

export const VHOST_GET_VRING_BASE = declareCall({
  name: 'VHOST_GET_VRING_BASE',
  ...IOCTL,
  nr: iowr(0x12, 8),
  args: { process, fd, arg, index },
  outputs: { num: u32('Index in the available ring, mod 2^16.') },
  answers: [...FDS, ...QUEUE, NOT_WRITABLE, { rule: 'done', code: 'OK', when: 'The queue goes on running.' }],
  source: `${CORE}, vhost_vring_ioctl`,
  doc: 'Asks where a queue is in its available ring.',
})

/** How handing an eventfd to a queue can end. */
const EVENTFD_ANSWERS = [
  ...FDS,
  ...QUEUE,
  BAD_POINTER,
  { rule: 'no-such-file', code: 'EBADF', when: 'The caller has no such descriptor for the eventfd.' },
  { rule: 'not-eventfd', code: 'EINVAL', when: 'The file is no eventfd.' },
] as const

export const VHOST_SET_VRING_KICK = declareCall({
  name: 'VHOST_SET_VRING_KICK',
  ...IOCTL,
  nr: iow(0x20, 8),
  args: { process, fd, arg, index, file },
  answers: [
    ...EVENTFD_ANSWERS,
    {
      rule: 'done',
      code: 'OK',
      when: 'The eventfd starts the queue; one that was signalled before does so at once.',
    },
  ],
  source: `${CORE}, vhost_vring_ioctl, vhost_poll_start; fs/eventfd.c, eventfd_fget`,
  doc: 'Says which eventfd starts a queue.',
})

export const VHOST_SET_VRING_CALL = declareCall({
  name: 'VHOST_SET_VRING_CALL',
  ...IOCTL,
  nr: iow(0x21, 8),
  args: { process, fd, arg, index, file },
  answers: [
    ...EVENTFD_ANSWERS,
    { rule: 'done', code: 'OK', when: 'The eventfd is signalled where the driver wants an interrupt.' },
  ],
  source: `${CORE}, vhost_vring_ioctl; fs/eventfd.c, eventfd_ctx_fdget`,
  doc: 'Says which eventfd tells the driver that buffers were used.',
})

export const VHOST_SET_VRING_ERR = declareCall({
  name: 'VHOST_SET_VRING_ERR',
  ...IOCTL,
  nr: iow(0x22, 8),
  args: { process, fd, arg, index, file },
  answers: [
    ...EVENTFD_ANSWERS,
    { rule: 'done', code: 'OK', when: 'The eventfd is signalled where the queue meets an error.' },
  ],
  source: `${CORE}, vhost_vring_ioctl; vhost.h, vq_err`,
  doc: 'Says which eventfd tells of errors of a queue.',
})

export const VHOST_NET_SET_BACKEND = declareCall({
  name: 'VHOST_NET_SET_BACKEND',
  ...IOCTL,
  nr: iow(0x30, 8),
  args: {
    process,
    fd,
    arg,
    index,
    file: { ...file, doc: 'Descriptor of a tap; 0xffffffff (-1) takes the backend away.' },
  },
  answers: [
    ...FDS,
    BAD_POINTER,
    NOT_OWNER,
    NO_SUCH_QUEUE,
    {
      rule: 'not-ready',
      code: 'EFAULT',
      when: 'There is no memory table, or one of its regions, or a ring of a queue without an IOTLB, lies outside of user space. (All messages are gone where `file` is -1.)',
    },
    { rule: 'not-a-tap', code: 'ENOTSOCK', when: 'There is no such descriptor, or the file is no tap.' },
    {
      rule: 'used-ring-unreachable',
      code: 'EFAULT',
      when: 'The used ring cannot be written or read; in front of an IOTLB without a map for it a miss is sent.',
    },
    {
      rule: 'done',
      code: 'OK',
      when: 'The queue runs with the tap from now on, or not at all; the place in the used ring is read from it.',
    },
  ],
  source: `${NET}, vhost_net_set_backend; ${CORE}, vhost_vq_access_ok, vhost_vq_init_access`,
  doc: 'Gives a queue the tap that its frames go to or come from, and starts it; or stops it.',
})

/** Every call that vhost answers. */
export const VHOST_CALLS = [
  VHOST_GET_FEATURES,
  VHOST_SET_FEATURES,
  VHOST_GET_BACKEND_FEATURES,
  VHOST_SET_BACKEND_FEATURES,
  VHOST_SET_OWNER,
  VHOST_RESET_OWNER,
  VHOST_SET_MEM_TABLE,
  VHOST_SET_VRING_NUM,
  VHOST_SET_VRING_ADDR,
  VHOST_SET_VRING_BASE,
  VHOST_GET_VRING_BASE,
  VHOST_SET_VRING_KICK,
  VHOST_SET_VRING_CALL,
  VHOST_SET_VRING_ERR,
  VHOST_NET_SET_BACKEND,
  ...MESSAGE_CALLS,
] as const satisfies readonly CallDecl[]
