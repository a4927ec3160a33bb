/**
 * One way in which a look at a ring can end, at its place in the order of the checks.
 * `errno` is what vhost answers inside the kernel, negative (0: no error).
 */
export interface RingAnswerDecl {
  readonly rule: string
  readonly errno: number
  readonly when: string
}

/** The place of each rule in its list. */
export function placesOf<const A extends readonly RingAnswerDecl[]>(
  answers: A,
): Readonly<Record<A[number]['rule'], number>> {
  const out: Record<string, number> = {}
  answers.forEach(({ rule }, place) => {
    out[rule] = place
  })
  return Object.freeze(out) as Record<A[number]['rule'], number>
}

const EAGAIN = -11
const EFAULT = -14
const EINVAL = -22
const E2BIG = -7
const ENOBUFS = -105

/**
 * What a split ring answers its device. `pending` leaves the ring as if nothing had been looked at. Rules past
 * `taken` are faults of the driver: the ring stays where it is, and its device stops the queue.
 *
 * Source: virtio 1.2, Split Virtqueues; Linux v6.1 drivers/vhost/vhost.c, vhost_get_vq_desc and get_indirect.
 */
export const RING_ANSWERS = [
  { rule: 'taken', errno: 0, when: 'A chain was taken.' },
  { rule: 'empty', errno: 0, when: 'The driver has made nothing new available.' },
  {
    rule: 'pending',
    errno: EAGAIN,
    when: 'A translation is missing, and was asked for: try again after the answer.',
  },
  {
    rule: 'ring-refused',
    errno: EFAULT,
    when: 'The descriptors, the available or the used ring cannot be accessed as a whole.',
  },
  {
    rule: 'avail-jump',
    errno: EFAULT,
    when: 'The available index went ahead by more entries than the ring has (Linux vhost says so once, and takes chains from then on).',
  },
  { rule: 'head-outside', errno: EINVAL, when: 'A head is not a descriptor of the ring.' },
  {
    rule: 'next-outside',
    errno: EINVAL,
    when: 'A chain goes on at a descriptor that the ring does not have.',
  },
  { rule: 'loop', errno: EINVAL, when: 'A chain has more descriptors than the ring.' },
  {
    rule: 'indirect-with-next',
    errno: EINVAL,
    when: 'A descriptor of a table goes on in the ring as well (Linux vhost takes it).',
  },
  {
    rule: 'indirect-length',
    errno: EINVAL,
    when: 'The length of an indirect table is no multiple of 16.',
  },
  { rule: 'indirect-refused', errno: EFAULT, when: 'An indirect table cannot be read.' },
  { rule: 'indirect-too-long', errno: E2BIG, when: 'An indirect table has more than 65,536 descriptors.' },
  {
    rule: 'indirect-loop',
    errno: EINVAL,
    when: 'A chain in an indirect table has more descriptors than the table: an empty table, too.',
  },
  {
    rule: 'indirect-outside',
    errno: EINVAL,
    when: 'A chain in an indirect table goes on outside of it (Linux vhost reads on in order).',
  },
  { rule: 'indirect-nested', errno: EINVAL, when: 'A descriptor of an indirect table is a table itself.' },
  { rule: 'buffer-refused', errno: EFAULT, when: 'A buffer cannot be accessed as its descriptor says.' },
  {
    rule: 'too-many-segments',
    errno: ENOBUFS,
    when: 'The buffers of a chain lie in more pieces than a device takes (1,024 in Linux).',
  },
  { rule: 'order', errno: EINVAL, when: 'A buffer to read follows one to write.' },
  {
    rule: 'length-overflow',
    errno: EINVAL,
    when: 'The buffers of a chain are longer than 2^32 bytes together (Linux vhost takes them).',
  },
] as const satisfies readonly RingAnswerDecl[]

export type RingRule = (typeof RING_ANSWERS)[number]['rule']
/** The place of each rule: what `SplitRing` answers. */
export const RING = placesOf(RING_ANSWERS)
