import { placesOf, type RingAnswerDecl } from './ring-rules.ts'

const EINVAL = -22
const EFAULT = -14

/**
 * Chains that no device of their kind can answer: the driver broke a rule, and the queue stops.
 *
 * Sources: virtio 1.2, Block Device and Network Device; QEMU 7.2 hw/block/virtio-blk.c (the device is broken
 * then); Linux v6.1 drivers/vhost/net.c.
 */
export const DEVICE_FAULTS = [
  { rule: 'blk-header-short', errno: 0, when: 'A block request has fewer than 16 bytes to read.' },
  { rule: 'blk-status-missing', errno: 0, when: 'A block request has no byte to write its status to.' },
  { rule: 'net-receive-readable', errno: EINVAL, when: 'A buffer to receive into has a part to read.' },
  { rule: 'net-transmit-writable', errno: EFAULT, when: 'A frame to send has a part to write.' },
  {
    rule: 'net-header-short',
    errno: EFAULT,
    when: 'A frame, or a buffer to receive into, is shorter than its header of 12 bytes.',
  },
] as const satisfies readonly RingAnswerDecl[]

const PLACES = placesOf(DEVICE_FAULTS)

/** A fault as `ChainServer.serve` answers it: a negative number. */
export const deviceFault = (rule: (typeof DEVICE_FAULTS)[number]['rule']): number => -1 - PLACES[rule]

/** The declaration of a fault that `serve` answered. */
export const faultOf = (fault: number): RingAnswerDecl | undefined => DEVICE_FAULTS[-1 - fault]
