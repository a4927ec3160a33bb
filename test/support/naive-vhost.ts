/** A map as Linux keeps it: in a list, the oldest first. */
interface NaiveMap {
  readonly start: bigint
  readonly last: bigint
  readonly address: bigint
  readonly perm: number
}

interface NaiveMiss {
  readonly queue: number
  readonly iova: bigint
  readonly access: number
}

const wrap = (n: bigint): bigint => BigInt.asUintN(64, n)

/**
 * The IOTLB and the messages of a vhost device, as plainly as they can be written down: lists that are searched from the
 * front. (Linux v6.1 drivers/vhost/vhost.c, iotlb.c)
 */
export class NaiveVhost {
  maps: NaiveMap[] = []
  read: NaiveMiss[] = []
  pending: NaiveMiss[] = []
  readonly #limit: number
  readonly #userEnd: bigint

  constructor(limit: number, userEnd: bigint) {
    this.#limit = limit
    this.#userEnd = userEnd
  }

  /** Whether the message is taken, and the queues that it wakes. */
  update(iova: bigint, bytes: bigint, ua: bigint, perm: number): { taken: boolean; woken: number[] } {
    const none = { taken: false, woken: [] }
    if (bytes === 0n || ua + bytes > 1n << 64n) return none
    if ((perm & 3) !== 0 && ua + bytes > this.#userEnd) return none
    const last = iova + bytes - 1n
    if (last !== wrap(last)) return none
    if (this.maps.length === this.#limit) this.maps.shift()
    this.maps.push({ start: iova, last, address: ua, perm })
    const woken = this.pending.filter((m) => m.iova >= iova && m.iova <= last)
    this.pending = this.pending.filter((m) => !woken.includes(m))
    return { taken: true, woken: woken.map((m) => m.queue) }
  }

  invalidate(iova: bigint, bytes: bigint): void {
    const last = wrap(iova + bytes - 1n)
    this.maps = this.maps.filter((m) => !(m.start <= last && m.last >= iova))
  }

  /** The first message, which is pending then. */
  take(): NaiveMiss | undefined {
    const miss = this.read.shift()
    if (miss !== undefined) this.pending.push(miss)
    return miss
  }

  /** Pieces of a buffer, byte by byte from map to map; or what stopped it. */
  translate(
    queue: number,
    iova: bigint,
    bytes: number,
    access: number,
  ): [bigint, number][] | 'miss' | 'refused' {
    const pieces: [bigint, number][] = []
    const last = wrap(iova + BigInt(bytes) - 1n)
    for (let at = iova, left = bytes; left > 0; ) {
      let best: NaiveMap | undefined
      for (const m of this.maps) {
        if (m.start <= last && m.last >= at && (best === undefined || m.start < best.start)) best = m
      }
      if (best === undefined || best.start > at) {
        this.read.push({ queue, iova: at, access })
        return 'miss'
      }
      if ((best.perm & access) === 0) return 'refused'
      const room = best.last - at + 1n
      const piece = room < BigInt(left) ? Number(room) : left
      pieces.push([best.address + (at - best.start), piece])
      left -= piece
      at = wrap(at + BigInt(piece))
    }
    return pieces
  }
}
