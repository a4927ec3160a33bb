/** The type in an ioctl's number that vhost has. */
const VHOST_VIRTIO = 0xaf
const TYPE_SHIFT = 8
const BYTES_SHIFT = 16

/** Numbers of ioctls of vhost on powerpc: direction in three bits (1 none, 2 read, 4 write), bytes, 0xaf. */
const number = (direction: number, nr: number, bytes: number): number =>
  direction * 2 ** 29 + (bytes << BYTES_SHIFT) + (VHOST_VIRTIO << TYPE_SHIFT) + nr
export const io = (nr: number): number => number(1, nr, 0)
export const ior = (nr: number, bytes: number): number => number(2, nr, bytes)
export const iow = (nr: number, bytes: number): number => number(4, nr, bytes)
export const iowr = (nr: number, bytes: number): number => number(6, nr, bytes)

/** Whether an ioctl's number is of vhost's type. */
export const isVhostNumber = (cmd: number): boolean => ((cmd >>> TYPE_SHIFT) & 0xff) === VHOST_VIRTIO

/** SET_LOG_BASE, SET_LOG_FD, SET and GET_VRING_ENDIAN, SET and GET_VRING_BUSYLOOP_TIMEOUT: vhost-net knows them. */
const NOT_MODELLED: readonly number[] = [
  iow(0x04, 8),
  iow(0x07, 4),
  iow(0x13, 8),
  iow(0x14, 8),
  iow(0x23, 8),
  iow(0x24, 8),
]

/** Whether vhost-net knows an ioctl that the model does not declare. (Linux v6.1 include/uapi/linux/vhost.h) */
export const isUnmodelledNumber = (cmd: number): boolean => NOT_MODELLED.includes(cmd)
