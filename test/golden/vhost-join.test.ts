import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { isClean, type ReplayResult } from '../../src/machine/replay/result.ts'
import { JoinedReplay } from '../../src/machine/replay/vhost/joined-replay.ts'
import { messageLog, recording } from '../log-rows.ts'

/** Replays two logs; `cut` says how many bytes of a log come next. */
function replay(trace: Uint8Array, messages: Uint8Array, cut?: () => number): ReplayResult {
  const running = new JoinedReplay({ source: 'logs' })
  const logs = { trace, messages }
  const at = { trace: 0, messages: 0 }
  const next = cut ?? (() => Number.POSITIVE_INFINITY)
  while (at.trace < trace.length || at.messages < messages.length) {
    const wanted = running.wants
    const which = at[wanted] < logs[wanted].length ? wanted : wanted === 'trace' ? 'messages' : 'trace'
    const end = Math.min(logs[which].length, at[which] + next())
    running[which](logs[which].subarray(at[which], end))
    at[which] = end
    if (end < logs[which].length) continue
    if (which === 'trace') running.endTrace()
    else running.endMessages()
  }
  return running.end()
}

const both = async (name: string): Promise<[Uint8Array, Uint8Array]> => [
  await recording(name),
  await messageLog(name),
]

interface Expected {
  readonly messages: Readonly<Record<string, number>>
  readonly flushes: Readonly<Record<string, number>>
  readonly requests: number
  readonly maps: number
}

const SETUP = 'set-up and end of the device'
const RING = 'UPDATE: of a used ring, unasked'
const answered = (misses: number) => ({ 'MISS: answered': misses, 'UPDATE: the answer to a miss': misses })
const AT_BOOT = { 'of everything: not of the device of the back end': 1 }

/** Counted with grep on the two logs; `maps` are those that no later message took back. */
const RUNS: Readonly<Record<string, Expected>> = {
  'vtd/vh-x86-lazy': {
    messages: { [SETUP]: 31, [RING]: 2, ...answered(37) },
    flushes: { ...AT_BOOT, 'of a domain: the back end was told nothing': 1 },
    requests: 5,
    maps: 35,
  },
  'vtd/guest-amd64-lazy': {
    messages: {
      [SETUP]: 31,
      [RING]: 2,
      ...answered(142),
      'INVALIDATE: a page that a walk found gone': 54,
    },
    flushes: {
      ...AT_BOOT,
      'of a domain: the back end was told nothing': 11,
      'of a domain: the back end was told': 18,
    },
    requests: 261,
    maps: 86,
  },
  'vtd/vh-x86-strict': {
    messages: { [SETUP]: 31, [RING]: 2, ...answered(363), 'INVALIDATE: a flush of pages': 195 },
    flushes: { ...AT_BOOT, 'of pages: the back end was told': 195 },
    requests: 19,
    maps: 1,
  },
  'vtd/vh-x86-nodiotlb': {
    messages: { [SETUP]: 31, [RING]: 2, ...answered(363), 'INVALIDATE: a flush of pages': 204 },
    flushes: { ...AT_BOOT, 'of pages: the back end was told': 204 },
    requests: 19,
    maps: 1,
  },
  'vtd/vh-x86-cm': {
    messages: { [SETUP]: 31, [RING]: 2, ...answered(363), 'INVALIDATE: a flush of pages': 392 },
    flushes: {
      ...AT_BOOT,
      'of a context entry: not of the device of the back end': 5,
      'of a domain: not of the device of the back end': 5,
      'of pages: not of the device of the back end': 1,
      'of pages: the back end was told': 392,
    },
    requests: 19,
    maps: 1,
  },
  'vtd/vh-x86-ats-strict': {
    messages: { [SETUP]: 31, [RING]: 2, ...answered(363), "INVALIDATE: a flush of the device's TLB": 104 },
    flushes: {
      ...AT_BOOT,
      'of pages (the device has ATS): not of the device of the back end': 104,
      "of a device's TLB: the back end was told": 104,
    },
    requests: 19,
    maps: 1,
  },
  'vtd/vh-x86-ats-lazy': {
    messages: { [SETUP]: 31, [RING]: 2, ...answered(371), "INVALIDATE: a flush of the device's TLB": 16 },
    flushes: {
      ...AT_BOOT,
      'of a domain (the device has ATS): not of the device of the back end': 8,
      "of a device's TLB: the back end was told": 8,
    },
    requests: 19,
    maps: 1,
  },
  'vh-ppc-32bit': {
    messages: {
      [SETUP]: 20,
      [RING]: 1,
      ...answered(380),
      'INVALIDATE: an entry that a hypercall cleared': 380,
    },
    flushes: {},
    requests: 14,
    maps: 1,
  },
  'vh-ppc-ddw': {
    messages: { [SETUP]: 20, [RING]: 1, ...answered(2) },
    flushes: {},
    requests: 14,
    maps: 3,
  },
}

const countsOf = (reasons: readonly { readonly why: string; readonly count: number }[]) =>
  Object.fromEntries(reasons.map(({ why, count }) => [why, count]))

describe('every message of a recorded run is explained', () => {
  it.each(Object.entries(RUNS))('%s', async (name, expected) => {
    const r = replay(...(await both(name)))
    const { vhost } = r
    if (vhost === undefined) throw new Error('no messages were joined')
    const total = Object.values(expected.messages).reduce((n, count) => n + count, 0)
    expect(vhost.messages).toEqual({ total, matched: total, unmatched: 0 })
    expect(countsOf(vhost.reasons)).toEqual(expected.messages)
    expect(countsOf(vhost.flushes)).toEqual(expected.flushes)
    expect(vhost).toMatchObject({
      unmatched: [],
      diverged: 0,
      requests: expected.requests,
      maps: expected.maps,
    })
    expect(r.divergences).toEqual([])
    expect(r.answers.diverged + r.translations.unexplained).toBe(0)
    if (name.endsWith('-lazy') && !name.endsWith('ats-lazy')) {
      expect(r.findings.some((f) => f.rule === 'stale-iotlb' && !f.inferred)).toBe(true)
      return
    }
    expect(r.findings).toEqual([])
    expect(isClean(r)).toBe(true)
  })

  it('the trace of a pseries guest is replayed as it is without messages', async () => {
    const r = replay(...(await both('vh-ppc-32bit')))
    expect(r.answers).toEqual({ total: 607, matched: 607, diverged: 0, unjudged: 0 })
    expect(r.translations).toMatchObject({ total: 382, explained: 48, inferred: 334, unexplained: 0 })
  })

  it.each(['vtd/vh-x86-lazy', 'vtd/vh-x86-ats-lazy', 'vh-ppc-32bit'])(
    '%s: where the pieces of the logs are cut makes no difference',
    async (name) => {
      const [trace, messages] = await both(name)
      const whole = JSON.stringify(replay(trace, messages), (_, v) => (typeof v === 'bigint' ? `${v}` : v))
      const prng = new Prng(3)
      for (let n = 0; n < 3; n++) {
        const cut = replay(trace, messages, () => 1 + prng.below(n === 0 ? 90_000 : 5000))
        expect(JSON.stringify(cut, (_, v) => (typeof v === 'bigint' ? `${v}` : v)) === whole).toBe(true)
      }
    },
  )
})

describe('the guest that crashed', () => {
  it('its one domain flush reached no one, nine maps stayed, and eight were used for other pages', async () => {
    const r = replay(...(await both('vtd/vh-x86-lazy')))
    const stale = r.findings.filter((f) => f.rule === 'stale-iotlb')
    const [held, ...used] = stale
    expect(held?.message).toMatch(
      /^vhost still reaches 36 KiB of memory at 0x18a19000 and elsewhere after the flush was done: 9 maps of its IOTLB, from bus address 0xffffe000 on; still there at the end, \d+ ticks after the change, used 8 times$/,
    )
    // The map, the walk that found nothing there, the flush, and the wait that the guest saw done.
    expect(held?.because.map((b) => b.line)).toEqual([1705, 2812, 1784, 3324])
    expect(stale.map((f) => f.inferred)).toEqual(stale.map(() => false))
    // A read of 128 KiB went to pages that had been those of three small reads, and of the requests themselves.
    const reached = used.map((f) =>
      /to memory (0x[0-9a-f]+) through bus address (0x[0-9a-f]+)/.exec(f.message),
    )
    expect(reached.map((found) => found?.slice(1))).toEqual([
      ['0x19594000', '0xffff7000'],
      ['0x18a19000', '0xffff8000'],
      ['0x18a19000', '0xffff9000'],
      ['0x19595000', '0xffffa000'],
      ['0x18a19000', '0xffffb000'],
      ['0x18a19000', '0xffffc000'],
      ['0x19596000', '0xffffd000'],
      ['0x18a19000', '0xffffe000'],
    ])
    // Three of the five maps of that page were of what the device may only read.
    const wider = r.findings.filter((f) => f.rule === 'iotlb-mismatch')
    expect(wider.map((f) => f.times)).toEqual([3])
    // The page that it overwrote five times is the one that holds the request itself, at another bus address by then.
    expect(
      used.filter((f) => f.message.endsWith('the same memory is bus address 0xfffcf000 by now')).length,
    ).toBe(5)
  })
})
