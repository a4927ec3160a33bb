import { BACK_END_REQUESTS, HEADER_FLAGS, PAYLOADS } from '../../reader/vhost-user-format.ts'
import { IOTLB_MESSAGE } from '../../trace/event-codes.ts'
import { messageOf, payloadOf, readField } from './codec.ts'
import type { Channel, Message } from './descriptors.ts'
import { Fault } from './faults.ts'

/** Misses are told apart by pages of 4 KiB. */
export const PAGE_SHIFT = 12n
/** Questions without an answer, at most: twice what 64 queues ask at once. Only who never answers comes there. */
const UNDER_WAY_MAX = 4096

interface Asked {
  readonly iova: bigint
  readonly access: number
}

/**
 * Misses that are under way on the back-end channel. Of a page and an access there is one at a time; answers come in
 * the order of the questions, and an UPDATE comes before the answer that says so.
 */
export class Misses {
  #asked: Asked[] = []
  #channel: Channel | undefined

  /** Talks over this channel from now on; the one before is closed, and what was asked there is never answered. */
  use(channel: Channel | undefined): void {
    this.#channel?.close()
    this.#channel = channel
    this.#asked = []
  }

  get count(): number {
    return this.#asked.length
  }

  get isOpen(): boolean {
    return this.#channel !== undefined
  }

  /**
   * Asks for a bus address. `asked` where a message went out, `known` where one for this page is under way, `lost`
   * where there is no channel, nobody reads it, or nobody answers.
   */
  ask(iova: bigint, access: number, needsAnswer: boolean): 'asked' | 'known' | 'lost' {
    if (this.#channel === undefined) return 'lost'
    if (this.#asked.some((a) => a.access === access && a.iova >> PAGE_SHIFT === iova >> PAGE_SHIFT))
      return 'known'
    if (this.#asked.length >= UNDER_WAY_MAX) return 'lost'
    const payload = payloadOf('iotlb', { iova, perm: access, type: IOTLB_MESSAGE.MISS })
    const flags = HEADER_FLAGS.VERSION | (needsAnswer ? HEADER_FLAGS.NEED_REPLY : 0)
    if (!this.#channel.send(messageOf(BACK_END_REQUESTS.IOTLB_MSG.nr, flags, payload))) return 'lost'
    if (needsAnswer) this.#asked.push({ iova, access })
    return 'asked'
  }

  /** Takes an answer: what was asked, and whether the front end says that it is answered; or what is wrong with it. */
  answered({ header, payload }: Message): (Asked & { readonly isDone: boolean }) | Fault {
    const first = this.#asked[0]
    const isAnswer =
      header.request === BACK_END_REQUESTS.IOTLB_MSG.nr && payload.length === PAYLOADS.word.bytes
    if (first === undefined || !isAnswer) return new Fault('back-end-answer', `request ${header.request}`)
    this.#asked.shift()
    return { ...first, isDone: readField('word', payload, 'value') === 0n }
  }
}
