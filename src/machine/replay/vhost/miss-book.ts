import { hex } from '../../../bits/u64.ts'
import type { VhostMissEntry } from '../../../reader/vhost-log-format.ts'
import type { ShownPage } from './domain-pages.ts'
import type { MessageTally } from './message-tally.ts'

/** Misses that wait for an answer, at most: a back end that asks for more without one is broken. */
const WAITING_MAX = 1 << 16

interface ShownAnswer {
  readonly iova: bigint
  readonly bytes: bigint
  readonly line: number
}

/**
 * Which miss an UPDATE answers. QEMU takes misses up one after another, so it is the oldest that waits; an UPDATE that
 * does not hold it is one that QEMU makes of its own accord when it starts a queue, for the used ring.
 */
export class MissBook {
  readonly #tally: MessageTally
  readonly #waiting: VhostMissEntry[] = []
  /** Used ring of each queue, until QEMU has sent a translation of it. */
  readonly #rings = new Map<number, bigint>()
  #isOpen = false
  #line = 0
  #isAnswered = false
  /** What a line showed for the miss that QEMU is working on. */
  shown: ShownPage | undefined

  constructor(tally: MessageTally) {
    this.#tally = tally
  }

  /** QEMU is working on a miss, or on a used ring. */
  get isOpen(): boolean {
    return this.#isOpen
  }

  ask(miss: VhostMissEntry): void {
    if (this.#waiting.length < WAITING_MAX) this.#waiting.push(miss)
  }

  /** A queue is set up. */
  setRing(queue: number, used: bigint): void {
    this.#rings.set(queue, used)
  }

  open(line: number): void {
    this.#isOpen = true
    this.#isAnswered = false
    this.#line = line
    this.shown = undefined
  }

  /** QEMU sent an UPDATE. */
  answer({ iova, bytes, line }: ShownAnswer): void {
    this.#isAnswered = true
    const holds = (address: bigint) => address >= iova && address < iova + bytes
    const [oldest] = this.#waiting
    if (oldest !== undefined && holds(oldest.fields.iova)) {
      this.#waiting.shift()
      this.#tally.matched.add('MISS: answered', line)
      this.#tally.matched.add('UPDATE: the answer to a miss', line)
      return
    }
    const ring = [...this.#rings].find(([, used]) => holds(used))
    if (ring !== undefined) {
      this.#rings.delete(ring[0])
      this.#tally.matched.add('UPDATE: of a used ring, unasked', line)
      return
    }
    this.#tally.diverge({
      line,
      call: `UPDATE ${hex(iova)}`,
      log: `${hex(bytes)} bytes`,
      model: oldest === undefined ? 'nobody asked' : `the oldest miss is of ${hex(oldest.fields.iova)}`,
      rule: 'update-unasked',
    })
  }

  /** QEMU is done with a miss. @param fault bus address that could not be translated */
  close(fault: bigint | undefined): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    if (this.#isAnswered) return
    const [oldest] = this.#waiting
    const isOfRing = [...this.#rings].find(([, used]) => used === fault)
    if (oldest !== undefined && (fault === undefined || oldest.fields.iova === fault)) {
      this.#waiting.shift()
      this.#tally.matched.add('MISS: the IOMMU has no translation', this.#line)
    } else if (isOfRing !== undefined) this.#rings.delete(isOfRing[0])
  }

  /** The run is over. */
  finish(): void {
    for (const miss of this.#waiting) this.#tally.unmatched.add('misses that QEMU did not take up', miss.line)
    this.#waiting.length = 0
  }
}
