import { type ArgDecl, declareCall } from '../bits/call.ts'

const EDU = 'QEMU 7.2 hw/misc/edu.c'
const device: ArgDecl = { type: 'name', doc: 'Name of the device.' }
const barOffset: ArgDecl = { type: 'u32', doc: 'Offset in the BAR, in bytes.' }
const width: ArgDecl = {
  type: 'u8',
  doc: 'Width of the access, in bytes.',
  optional: true,
  initial: 4n,
}

const FROZEN_READ = {
  rule: 'pe-frozen',
  code: 'MEMTX_OK',
  when: 'The PHB has frozen the PE of the device: all ones.',
} as const
const FROZEN_WRITE = {
  rule: 'pe-frozen',
  code: 'MEMTX_OK',
  when: 'The PHB has frozen the PE of the device: the write is lost.',
} as const
const ACCESS_REFUSED = {
  rule: 'access-refused',
  code: 'MEMTX_DECODE_ERROR',
  when: 'The access has neither 4 nor 8 bytes, is not aligned to them, or leaves the registers.',
} as const
const NARROW = {
  rule: 'register-narrow',
  code: 'MEMTX_OK',
  when: 'An access of 8 bytes below offset 0x80: reads as all ones, and a write is lost.',
} as const

/** A register is read. */
export const MMIO_READ = declareCall({
  name: 'read',
  verb: 'mmio',
  family: 'dma',
  layer: 'device',
  doc: 'Reads a register of a device.',
  source: EDU,
  args: { device, offset: barOffset, bytes: width },
  outputs: { value: { type: 'u64', doc: 'What the bus carries.' } },
  answers: [
    FROZEN_READ,
    ACCESS_REFUSED,
    NARROW,
    {
      rule: 'no-register',
      code: 'MEMTX_OK',
      when: 'Nothing can be read there: edu answers all ones, a VT-d unit 0.',
    },
    { rule: 'done', code: 'MEMTX_OK', when: 'The value of the register.' },
  ],
})

/** A register is written. */
export const MMIO_WRITE = declareCall({
  name: 'write',
  verb: 'mmio',
  family: 'dma',
  layer: 'device',
  doc: 'Writes a register of a device.',
  source: EDU,
  args: { device, offset: barOffset, bytes: width, value: { type: 'u64', doc: 'What the bus carries.' } },
  outputs: {},
  answers: [
    FROZEN_WRITE,
    ACCESS_REFUSED,
    NARROW,
    { rule: 'no-register', code: 'MEMTX_OK', when: 'Nothing can be written there.' },
    {
      rule: 'engine-busy',
      code: 'MEMTX_OK',
      when: 'A DMA register, while the engine runs: the write is lost.',
    },
    {
      rule: 'not-started',
      code: 'MEMTX_OK',
      when: 'The command register, with a value that does not start the engine: lost.',
    },
    { rule: 'computing', code: 'MEMTX_OK', when: 'The factorial, while one is computed: the write is lost.' },
    { rule: 'done', code: 'MEMTX_OK', when: 'The register took the value.' },
  ],
})

const iova: ArgDecl = {
  type: 'u64',
  doc: 'Bus address of the first byte, where no buffer is named.',
  optional: true,
}
const buffer: ArgDecl = {
  type: 'name',
  doc: 'Buffer of a driver that an earlier step named: its bus address is used, as the driver got it last.',
  optional: true,
}
const offset: ArgDecl = {
  type: 'u64',
  doc: 'Added to the bus address of the named buffer.',
  optional: true,
  initial: 0n,
}
const at: ArgDecl = {
  type: 'u32',
  doc: 'Where in the buffer of the device, in bytes.',
  optional: true,
  initial: 0n,
}
const moved: ArgDecl = { type: 'count', doc: 'Bytes that reached their goal.' }
const reason: ArgDecl = {
  type: 'u8',
  doc: 'Fault reason of the VT-d unit that blocks the first byte that did not get through.',
}
const tags = {
  pasid: { type: 'u32', doc: 'PASID of the request; none if left out.', optional: true },
  privileged: {
    type: 'flag',
    doc: 'Whether the request has privilege.',
    optional: true,
    initial: false,
  },
} as const satisfies Record<string, ArgDecl>

const DMA_ANSWERS = [
  {
    rule: 'handle-unknown',
    code: 'MEMTX_ERROR',
    when: 'No buffer has that name and a bus address: the driver does not start the device.',
  },
  {
    rule: 'tags-off',
    code: 'MEMTX_ERROR',
    when: 'The request names a PASID, privilege or execution, and the device has none of it, or it is off: nothing is moved.',
  },
  { rule: 'engine-busy', code: 'MEMTX_ERROR', when: 'An earlier request has not run yet: nothing is moved.' },
  {
    rule: 'buffer-overrun',
    code: 'MEMTX_ERROR',
    when: 'The request leaves the buffer of the device: nothing is moved (it ends QEMU: Q11, Q12).',
  },
  {
    rule: 'pe-frozen',
    code: 'MEMTX_DECODE_ERROR',
    when: 'The PHB had frozen the PE of the device before: nothing gets through.',
  },
  {
    rule: 'outside-windows',
    code: 'MEMTX_DECODE_ERROR',
    when: 'The first byte that did not get through lies in no window.',
  },
  {
    rule: 'refused',
    code: 'MEMTX_DECODE_ERROR',
    when: 'The TCE for the first byte that did not get through lacks the permission, or a level of its table is missing. Of a VT-d unit: what it has cached lacks the permission, or an interrupt is none.',
  },
  {
    rule: 'translation-fault',
    code: 'MEMTX_DECODE_ERROR',
    when: 'A VT-d unit blocks the first byte that did not get through, for a reason.',
  },
  {
    rule: 'translation-refused',
    code: 'MEMTX_DECODE_ERROR',
    when: 'A device with a TLB has asked for a translation of the first byte that did not get through, and what it got lacks the permission.',
  },
  {
    rule: 'page-requested',
    code: 'MEMTX_ERROR',
    when: 'The same, of a device that may request pages: it has requested those that are missing. Nothing is moved; it tries again when software answers.',
  },
  {
    rule: 'page-request-lost',
    code: 'MEMTX_DECODE_ERROR',
    when: 'The same, and the request has found no place, or the unit has refused it: nothing is moved.',
  },
  {
    rule: 'no-memory',
    code: 'MEMTX_DECODE_ERROR',
    when: 'The translation of the first byte that did not get through leads to where no memory is.',
  },
  {
    rule: 'not-started',
    code: 'MEMTX_ERROR',
    when: 'A virtio device with vhost, which is not started: nothing is moved.',
  },
  {
    rule: 'iotlb-miss',
    code: 'MEMTX_DECODE_ERROR',
    when: 'vhost has no translation for a byte of the request, and QEMU gives none: nothing is moved, and the queue waits.',
  },
  {
    rule: 'iotlb-refused',
    code: 'MEMTX_DECODE_ERROR',
    when: 'A translation that vhost has lacks the permission: nothing is moved, and the queue has an error.',
  },
  { rule: 'done', code: 'MEMTX_OK', when: 'Every byte was moved.' },
] as const

/** A device reads memory. */
export const DMA_READ = declareCall({
  name: 'read',
  verb: 'dma',
  family: 'dma',
  layer: 'device',
  doc: 'The device reads memory into its buffer: programs the engine and runs it at once. Bytes that do not get through read as zeros.',
  source: EDU,
  args: {
    device,
    iova,
    buffer,
    offset,
    bytes: { type: 'count', doc: 'How many bytes.' },
    at,
    ...tags,
    execute: {
      type: 'flag',
      doc: 'Whether instructions are read.',
      optional: true,
      initial: false,
    },
  },
  outputs: { data: { type: 'bytes', doc: 'What the buffer then holds there.' }, moved, reason },
  answers: DMA_ANSWERS,
})

/** A device writes memory. */
export const DMA_WRITE = declareCall({
  name: 'write',
  verb: 'dma',
  family: 'dma',
  layer: 'device',
  doc: 'The device writes memory from its buffer: programs the engine and runs it at once. Bytes that do not get through vanish.',
  source: EDU,
  args: {
    device,
    iova,
    buffer,
    offset,
    data: { type: 'bytes', doc: 'What the buffer is made to hold first.', optional: true },
    bytes: { type: 'count', doc: 'How many bytes; those of `data` where it is left out.', optional: true },
    at,
    ...tags,
  },
  outputs: { moved, reason },
  answers: DMA_ANSWERS,
})

/** All calls of devices. */
export const DEVICE_CALLS = Object.freeze([MMIO_READ, MMIO_WRITE, DMA_READ, DMA_WRITE])
