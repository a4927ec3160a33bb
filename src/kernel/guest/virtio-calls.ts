import { declareCall } from '../../bits/call.ts'

const RING = 'Linux v6.1 drivers/virtio/virtio_ring.c'
const NET = 'Linux v6.1 drivers/net/virtio_net.c'
const ON_DEVICE = { verb: 'virtio', family: 'errno', layer: 'guest' } as const

const device = { type: 'name', doc: 'Name of the virtio device.' } as const
const queue = {
  type: 'u16',
  doc: 'Number of the queue: of a network device 0 receives and 1 transmits, a disk has 0.',
} as const
const iova = { type: 'u64', doc: 'Bus address of the buffer: a header of 12 bytes, and the frame.' } as const
const bytes = { type: 'u32', doc: 'Bytes of the buffer.' } as const
const head = { type: 'u16', doc: 'The descriptor that its chain begins with.' } as const

const NO_QUEUE = {
  rule: 'no-such-queue',
  code: 'EINVAL',
  when: 'The device has no such queue, or its ring is not laid out.',
} as const
const NOT_MODELLED = {
  rule: 'no-rings',
  code: 'ENODEV',
  when: 'The device is none that vhost serves: rings that QEMU itself works on are not modelled (codes are ours).',
} as const
const ADDED = [
  NOT_MODELLED,
  NO_QUEUE,
  { rule: 'full', code: 'ENOSPC', when: 'No descriptor is free.' },
] as const

/** The driver lays the ring of a queue out. */
export const VIRTIO_QUEUE = declareCall({
  name: 'queue',
  ...ON_DEVICE,
  args: {
    device,
    queue,
    entries: { type: 'u16', optional: true, initial: 16n, doc: 'Descriptors of the ring.' },
    gpa: { type: 'u64', doc: 'Where in guest memory it begins.' },
    iova: {
      type: 'u64',
      doc: 'The bus address that this is for the device; the driver has mapped it before.',
    },
  },
  outputs: {
    used: { type: 'u64', doc: 'Bus address of the used ring.' },
    ring_bytes: { type: 'count', doc: 'Bytes of the whole ring.' },
  },
  answers: [
    NOT_MODELLED,
    { rule: 'no-such-queue', code: 'EINVAL', when: 'The device has no queue of this number.' },
    { rule: 'running', code: 'EBUSY', when: 'The driver has said that it is ready.' },
    {
      rule: 'entries-invalid',
      code: 'EINVAL',
      when: 'The entries are no power of two, or more than the 256 that QEMU has.',
    },
    {
      rule: 'unaligned',
      code: 'EINVAL',
      when: 'The address in memory or on the bus begins inside a page of 4 KiB.',
    },
    { rule: 'outside-memory', code: 'EFAULT', when: 'Guest memory ends before the ring does.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The ring is empty: descriptors, available ring, and from the next page on the used ring.',
    },
  ],
  source: `${RING}, vring_create_virtqueue; QEMU 7.2 hw/net/virtio-net.c, VIRTIO_NET_RX_QUEUE_DEFAULT_SIZE`,
  doc: 'The driver of the guest lays out the ring of a queue, and tells the device where it is.',
})

/** The driver has set the device up. */
export const VIRTIO_READY = declareCall({
  name: 'ready',
  ...ON_DEVICE,
  args: { device },
  answers: [
    NOT_MODELLED,
    { rule: 'running', code: 'EBUSY', when: 'The driver has said so before.' },
    { rule: 'done', code: 'OK', when: 'QEMU has started vhost with the queues that are laid out.' },
  ],
  source: `${NET}, virtnet_probe; QEMU 7.2 hw/net/virtio-net.c, virtio_net_vhost_status`,
  doc: 'The driver sets DRIVER_OK in the status of the device.',
})

/** The driver takes the device back. */
export const VIRTIO_RESET = declareCall({
  name: 'reset',
  ...ON_DEVICE,
  args: { device },
  answers: [
    NOT_MODELLED,
    { rule: 'done', code: 'OK', when: 'vhost is stopped; the device has no rings any more.' },
  ],
  source: 'QEMU 7.2 hw/virtio/virtio-pci.c, virtio_pci_reset; hw/virtio/vhost.c, vhost_dev_stop',
  doc: 'The driver writes 0 to the status of the device.',
})

/** A frame leaves. */
export const VIRTIO_SEND = declareCall({
  name: 'send',
  ...ON_DEVICE,
  args: { device, iova, bytes },
  outputs: { head },
  answers: [
    ...ADDED,
    { rule: 'done', code: 'OK', when: 'The device has the buffer, and was told if it wants to be.' },
  ],
  source: `${NET}, start_xmit; ${RING}, virtqueue_add_split`,
  doc: 'The driver puts a buffer that the device reads onto the transmit queue.',
})

/** Room for a frame. */
export const VIRTIO_OFFER = declareCall({
  name: 'offer',
  ...ON_DEVICE,
  args: { device, iova, bytes },
  outputs: { head },
  answers: [
    ...ADDED,
    { rule: 'done', code: 'OK', when: 'The device has the buffer, and was told if it wants to be.' },
  ],
  source: `${NET}, try_fill_recv; ${RING}, virtqueue_add_split`,
  doc: 'The driver puts a buffer that the device writes onto the receive queue.',
})

/** A disk is to do something. */
export const VIRTIO_REQUEST = declareCall({
  name: 'request',
  ...ON_DEVICE,
  args: {
    device,
    type: { type: 'choice', choices: ['read', 'write', 'flush'], doc: 'What the disk is to do.' },
    sector: { type: 'u64', optional: true, initial: 0n, doc: 'First sector, of 512 bytes.' },
    gpa: { type: 'u64', doc: 'Where in guest memory the header lies: 16 bytes, and behind them the status.' },
    header: { type: 'u64', doc: 'The bus address that this is for the device.' },
    iova: { type: 'u64', optional: true, initial: 0n, doc: 'Bus address of the data.' },
    bytes: { type: 'u32', optional: true, initial: 0n, doc: 'Bytes of the data; none if left out.' },
  },
  outputs: { head },
  answers: [
    NOT_MODELLED,
    {
      rule: 'no-such-queue',
      code: 'EINVAL',
      when: 'The device is no disk, or its ring is not laid out.',
    },
    { rule: 'outside-memory', code: 'EFAULT', when: 'Guest memory ends before header and status do.' },
    { rule: 'full', code: 'ENOSPC', when: 'There are not enough free descriptors.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The device has the request, and was told if it wants to be; the status is 0xff until it answers.',
    },
  ],
  source: `Linux v6.1 drivers/block/virtio_blk.c, virtblk_setup_cmd and virtblk_add_req; ${RING}, virtqueue_add_split`,
  doc: 'The driver puts a request onto the queue of a disk: header, data, status.',
})

/** What the device is through with. */
export const VIRTIO_REAP = declareCall({
  name: 'reap',
  ...ON_DEVICE,
  args: { device, queue },
  outputs: { head, written: { type: 'u32', doc: 'Bytes that the device says it wrote.' } },
  answers: [
    NOT_MODELLED,
    NO_QUEUE,
    { rule: 'empty', code: 'EAGAIN', when: 'The device has used no more buffers.' },
    {
      rule: 'unknown-head',
      code: 'EIO',
      when: 'The device gives back what it did not have: the queue is broken.',
    },
    { rule: 'done', code: 'OK', when: 'The oldest used buffer; its descriptors are free again.' },
  ],
  source: `${RING}, virtqueue_get_buf_ctx_split`,
  doc: 'The driver takes a used buffer back.',
})

/** What the driver of a virtio device in a guest does. */
export const VIRTIO_CALLS = [
  VIRTIO_QUEUE,
  VIRTIO_READY,
  VIRTIO_RESET,
  VIRTIO_SEND,
  VIRTIO_OFFER,
  VIRTIO_REQUEST,
  VIRTIO_REAP,
] as const
