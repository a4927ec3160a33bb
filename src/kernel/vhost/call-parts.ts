export {
  arg,
  BAD_POINTER,
  FDS,
  fd,
  NO_PROCESS,
  process,
  TOO_MANY_FILES,
  u32,
  u64,
} from '../call-parts.ts'

export { io, ior, iow, iowr } from './ioctl-numbers.ts'

export const CORE = 'Linux v6.1.192 drivers/vhost/vhost.c'
export const NET = 'Linux v6.1.192 drivers/vhost/net.c'

/** What every ioctl of vhost is. */
export const IOCTL = { verb: 'ioctl', family: 'errno', layer: 'kernel' } as const

export const NOT_OWNER = {
  rule: 'not-owner',
  code: 'EPERM',
  when: 'The caller has another address space than the owner of the device, or the device has none.',
} as const
export const NO_MEMORY = {
  rule: 'no-memory',
  code: 'ENOMEM',
  when: 'There is no memory for what the call makes.',
} as const
export const NOT_WRITABLE = {
  rule: 'pointer-not-writable',
  code: 'EFAULT',
  when: 'The answer cannot be written to the structure.',
} as const
export const NO_SUCH_QUEUE = {
  rule: 'no-such-queue',
  code: 'ENOBUFS',
  when: 'The device has no queue of this index.',
} as const
export const ACTIVE = {
  rule: 'active',
  code: 'EBUSY',
  when: 'The queue has a backend: VHOST_NET_SET_BACKEND takes it away.',
} as const

/** How every ioctl of a queue begins: the index is read alone, before the rest of the structure. */
export const QUEUE = [
  NOT_OWNER,
  {
    rule: 'index-unreadable',
    code: 'EFAULT',
    when: 'The index at the head of the structure cannot be read.',
  },
  NO_SUCH_QUEUE,
] as const
