import { declareCall } from '../../bits/call.ts'
import {
  CORE,
  FDS,
  fd,
  NET,
  NO_MEMORY,
  NO_PROCESS,
  NO_SUCH_QUEUE,
  process,
  TOO_MANY_FILES,
} from './call-parts.ts'

/** What calls are that read, write and signal files of vhost and around it. */
const ON_FILES = { verb: 'vhost', family: 'errno', layer: 'kernel' } as const

const bytes = (doc: string) => ({ type: 'u64', optional: true, initial: 0n, doc }) as const
const IOTLB = {
  version: {
    type: 'u32',
    optional: true,
    initial: 2n,
    doc: 'Version of the message: 1, or 2.',
  },
  type: {
    type: 'u8',
    optional: true,
    initial: 0n,
    doc: '1 MISS, 2 UPDATE, 3 INVALIDATE, 4 ACCESS_FAIL, 5 BATCH_BEGIN, 6 BATCH_END.',
  },
  iova: bytes('Bus address.'),
  bytes: bytes('Bytes of the range (member `size`).'),
  ua: bytes('User address that the range is at.'),
  perm: {
    type: 'u8',
    optional: true,
    initial: 0n,
    doc: 'What the device may do: 1 read, 2 write, 3 both. In a MISS what it wants to do.',
  },
} as const

export const VHOST_WRITE = declareCall({
  name: 'write',
  ...ON_FILES,
  args: {
    process,
    fd,
    ...IOTLB,
    data: {
      type: 'bytes',
      optional: true,
      doc: 'The bytes of the message; where they are left out, they are made of the members named here.',
    },
  },
  outputs: { written: { type: 'count', doc: 'Bytes, as the call answers.' } },
  answers: [
    ...FDS,
    { rule: 'type-short', code: 'EINVAL', when: 'Fewer than 4 bytes.' },
    { rule: 'version-unknown', code: 'EINVAL', when: 'The message is neither of v1 nor of v2.' },
    { rule: 'short', code: 'EINVAL', when: 'Fewer than 40 bytes.' },
    {
      rule: 'empty',
      code: 'EINVAL',
      when: 'An UPDATE of 0 bytes; in some kernels an INVALIDATE too.',
    },
    { rule: 'no-iotlb', code: 'EFAULT', when: 'An UPDATE or INVALIDATE, and the device has no IOTLB.' },
    {
      rule: 'not-user-memory',
      code: 'EFAULT',
      when: 'UPDATE: the user address plus bytes pass 2^64; or a permission is given and they lie outside of user space.',
    },
    {
      rule: 'wraps',
      code: 'EFAULT',
      when: 'UPDATE: the bus address plus bytes pass 2^64. (What the queues remember of their rings is gone.)',
    },
    { rule: 'message-unknown', code: 'EFAULT', when: 'Neither UPDATE nor INVALIDATE.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The maps are changed, and who waits for them runs. It is 72 bytes, whatever was written; nobody has to own the device.',
    },
  ],
  source: `${CORE}, vhost_chr_write_iter, vhost_process_iotlb_msg`,
  doc: 'Sends a message of the IOTLB protocol to a vhost device.',
})

export const VHOST_READ = declareCall({
  name: 'read',
  ...ON_FILES,
  args: {
    process,
    fd,
    bytes: { type: 'count', optional: true, initial: 72n, doc: 'Bytes of the buffer.' },
    nonblock: {
      type: 'flag',
      optional: true,
      initial: true,
      doc: 'Whether the file was opened so that a read does not wait.',
    },
  },
  outputs: {
    ...IOTLB,
    data: { type: 'bytes', doc: 'The message as it is in memory.' },
  },
  answers: [
    ...FDS,
    { rule: 'small', code: 'OK', when: 'The buffer is smaller than a message (72 bytes): 0 bytes are read.' },
    { rule: 'nothing', code: 'EAGAIN', when: 'There is no message, and the read does not wait.' },
    { rule: 'no-iotlb', code: 'EBADFD', when: 'There is none, and the device has no IOTLB to wait for.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The oldest message; a MISS is pending until an UPDATE has its address.',
    },
  ],
  source: `${CORE}, vhost_chr_read_iter`,
  doc: 'Takes a message from a vhost device.',
})

export const VHOST_POLL = declareCall({
  name: 'poll',
  ...ON_FILES,
  args: { process, fd },
  outputs: {
    events: { type: 'u32', doc: 'EPOLLIN and EPOLLRDNORM (0x41) where a message can be read, else 0.' },
  },
  answers: [...FDS, { rule: 'done', code: 'OK', when: 'The file says what is ready.' }],
  source: `${CORE}, vhost_chr_poll`,
  doc: 'Asks whether a vhost device has a message.',
})

export const VHOST_KICK = declareCall({
  name: 'kick',
  ...ON_FILES,
  args: { process, fd, queue: { type: 'u32', doc: 'Number of the queue.' } },
  answers: [
    ...FDS,
    NO_SUCH_QUEUE,
    { rule: 'no-eventfd', code: 'ENOENT', when: 'No eventfd starts the queue (VHOST_SET_VRING_KICK).' },
    { rule: 'done', code: 'OK', when: 'The eventfd is signalled, and the queue runs as far as it can.' },
  ],
  source: `${CORE}, vhost_poll_wakeup; Linux v6.1 virt/kvm/eventfd.c, ioeventfd_write`,
  doc: 'Signals the eventfd that starts a queue, as KVM does for the driver in a guest.',
})

export const EVENTFD = declareCall({
  name: 'eventfd',
  ...ON_FILES,
  args: { process, count: bytes('What its counter starts with.') },
  outputs: { fd: { type: 'u32', doc: 'The lowest descriptor that is free.' } },
  answers: [NO_PROCESS, TOO_MANY_FILES, NO_MEMORY, { rule: 'done', code: 'OK', when: 'A new eventfd.' }],
  source: 'Linux v6.1 fs/eventfd.c, do_eventfd',
  doc: 'A process makes an eventfd.',
})

const NOT_EVENTFD = {
  rule: 'not-eventfd',
  code: 'EINVAL',
  when: 'The file is no eventfd (codes are ours).',
} as const

export const EVENTFD_WRITE = declareCall({
  name: 'signal',
  ...ON_FILES,
  args: { process, fd },
  answers: [
    ...FDS,
    NOT_EVENTFD,
    { rule: 'done', code: 'OK', when: '1 is added, and who waits for it runs.' },
  ],
  source: 'Linux v6.1 fs/eventfd.c, eventfd_write',
  doc: 'A process writes 1 to an eventfd.',
})

export const EVENTFD_READ = declareCall({
  name: 'count',
  ...ON_FILES,
  args: { process, fd },
  outputs: { count: { type: 'u64', doc: 'How often it was signalled since the last read.' } },
  answers: [
    ...FDS,
    NOT_EVENTFD,
    { rule: 'nothing', code: 'EAGAIN', when: 'The counter is 0 (the file does not wait).' },
    { rule: 'done', code: 'OK', when: 'The counter, which is 0 then.' },
  ],
  source: 'Linux v6.1 fs/eventfd.c, eventfd_read',
  doc: 'A process reads an eventfd.',
})

const NOT_TAP = { rule: 'not-a-tap', code: 'ENOTSOCK', when: 'The file is no tap (codes are ours).' } as const

export const TAP_DELIVER = declareCall({
  name: 'deliver',
  ...ON_FILES,
  args: {
    process,
    fd,
    data: { type: 'bytes', doc: 'The frame, without the header of virtio-net.' },
  },
  answers: [
    ...FDS,
    NOT_TAP,
    { rule: 'full', code: 'ENOBUFS', when: '500 frames wait already: this one is dropped.' },
    { rule: 'done', code: 'OK', when: 'The frame waits at the tap, or the driver has it already.' },
  ],
  source: 'Linux v6.1 drivers/net/tap.c, tap_handle_frame; include/linux/if_tun.h, TUN_READQ_SIZE',
  doc: 'The network brings a frame to a tap.',
})

export const TAP_COLLECT = declareCall({
  name: 'collect',
  ...ON_FILES,
  args: { process, fd },
  outputs: {
    data: { type: 'bytes', doc: 'The frame, without the header of virtio-net.' },
    left: { type: 'count', doc: 'Frames that are still there.' },
  },
  answers: [
    ...FDS,
    NOT_TAP,
    { rule: 'nothing', code: 'EAGAIN', when: 'No frame has left the device since.' },
    { rule: 'done', code: 'OK', when: 'The oldest frame that has left the device.' },
  ],
  source: `${NET}, handle_tx_copy`,
  doc: 'Looks at what a device has sent through a tap.',
})

/** Calls of verb `vhost`. */
export const MESSAGE_CALLS = [
  VHOST_WRITE,
  VHOST_READ,
  VHOST_POLL,
  VHOST_KICK,
  EVENTFD,
  EVENTFD_WRITE,
  EVENTFD_READ,
  TAP_DELIVER,
  TAP_COLLECT,
] as const
