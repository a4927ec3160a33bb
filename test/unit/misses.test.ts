import { describe, expect, it } from 'vitest'
import { messageOf, payloadOf, readHeader } from '../../src/peer/vhost-user/codec.ts'
import { Fault } from '../../src/peer/vhost-user/faults.ts'
import { Misses } from '../../src/peer/vhost-user/misses.ts'
import { HEADER_BYTES, REPLY_FLAGS } from '../../src/reader/vhost-user-format.ts'

const UNDER_WAY_MAX = 4096
const page = (n: number): bigint => BigInt(n) << 12n

function answerOf(value: bigint) {
  const bytes = messageOf(1, REPLY_FLAGS, payloadOf('word', { value }))
  return { header: readHeader(bytes), payload: bytes.slice(HEADER_BYTES), fds: [] }
}

describe('misses under way', () => {
  it('a front end that reads questions and answers none is asked no more than there is room for', () => {
    let sent = 0
    const misses = new Misses()
    misses.use({ send: () => ++sent > 0, close: () => undefined })
    for (let n = 0; n < UNDER_WAY_MAX; n++) expect(misses.ask(page(n), 1, true)).toBe('asked')
    expect(misses.ask(page(UNDER_WAY_MAX), 1, true)).toBe('lost')
    expect(misses.ask(page(0), 1, true)).toBe('known')
    expect({ sent, count: misses.count }).toEqual({ sent: UNDER_WAY_MAX, count: UNDER_WAY_MAX })
    expect(misses.answered(answerOf(0n))).toEqual({ iova: 0n, access: 1, isDone: true })
    expect(misses.ask(page(UNDER_WAY_MAX), 1, true)).toBe('asked')
  })

  it('where no answers are owed, none are waited for', () => {
    const misses = new Misses()
    misses.use({ send: () => true, close: () => undefined })
    for (let n = 0; n <= UNDER_WAY_MAX; n++) expect(misses.ask(page(n), 1, false)).toBe('asked')
    expect(misses.count).toBe(0)
    expect(misses.answered(answerOf(0n))).toBeInstanceOf(Fault)
  })
})
