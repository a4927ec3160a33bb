import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'
import { hiOf, loOf } from '../../bits/u64.ts'
import { IOTLB_MESSAGE } from '../../trace/event-codes.ts'
import type { IotlbMessage } from './messages.ts'

/** A message that the kernel has for user space, and the queue that waits for the answer. */
export interface MessageNode {
  readonly queue: number
  readonly message: IotlbMessage
}

interface Lists {
  readonly read: readonly MessageNode[]
  readonly pending: readonly MessageNode[]
}

const EMPTY: Lists = { read: [], pending: [] }
const U64 = 64

const hashOf = ({ read, pending }: Lists): number =>
  read.length + pending.length === 0
    ? 0
    : keyOf(
        read.length,
        ...[...read, ...pending].flatMap(({ queue, message }) => [
          queue,
          message.perm,
          message.version,
          hiOf(message.iova),
          loOf(message.iova),
        ]),
      )

/**
 * What a vhost device wants to tell user space, and what it has told: every miss is a message of its own, also where
 * the same address is asked for already. Reading a MISS moves it to the pending list, where an UPDATE finds it.
 * (Linux v6.1 drivers/vhost/vhost.c, vhost_iotlb_miss, vhost_chr_read_iter, vhost_iotlb_notify_vq)
 */
export class MessageLists {
  readonly #lists: Held<Lists>
  readonly #wakesLate: boolean

  /** @param wakesLate an UPDATE does not wake who waits for its last byte */
  constructor(journal: Journal, name: string, wakesLate: boolean) {
    this.#lists = new Held(journal, `${name} messages`, EMPTY, hashOf)
    this.#wakesLate = wakesLate
  }

  /** Messages to read, in their order. */
  get readable(): readonly MessageNode[] {
    return this.#lists.value.read
  }

  /** Misses that user space has read and not answered, in the order of the reads. */
  get pending(): readonly MessageNode[] {
    return this.#lists.value.pending
  }

  add(node: MessageNode): void {
    const { read, pending } = this.#lists.value
    this.#lists.set({ read: [...read, node], pending })
  }

  /** Takes the first message to read; a MISS waits for its answer from then on. */
  take(): IotlbMessage | null {
    const { read, pending } = this.#lists.value
    const [node, ...rest] = read
    if (node === undefined) return null
    const isMiss = node.message.type === IOTLB_MESSAGE.MISS
    this.#lists.set({ read: rest, pending: isMiss ? [...pending, node] : pending })
    return node.message
  }

  /**
   * An UPDATE of [iova, iova + bytes) takes every miss that waits for one of its bytes: answers their queues, one for
   * each miss. Misses that nobody has read stay.
   */
  wake(iova: bigint, bytes: bigint): readonly number[] {
    const { read, pending } = this.#lists.value
    const last = BigInt.asUintN(U64, iova + bytes - 1n)
    const isAnswered = ({ message }: MessageNode): boolean =>
      iova <= message.iova && (this.#wakesLate ? last > message.iova : last >= message.iova)
    const woken = pending.filter(isAnswered)
    if (woken.length > 0) this.#lists.set({ read, pending: pending.filter((node) => !isAnswered(node)) })
    return woken.map(({ queue }) => queue)
  }

  /** All messages go. */
  clear(): void {
    if (this.#lists.value !== EMPTY) this.#lists.set(EMPTY)
  }
}
