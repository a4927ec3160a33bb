import { describe, expect, it } from 'vitest'
import { payloadOf, wordPayload } from '../../src/peer/vhost-user/codec.ts'
import { FAULTS, Fault, type FaultRule } from '../../src/peer/vhost-user/faults.ts'
import { headerFault } from '../../src/peer/vhost-user/message-stream.ts'
import type { Taken } from '../../src/peer/vhost-user/session.ts'
import { HEADER_FLAGS, PAYLOAD_BYTES_MAX } from '../../src/reader/vhost-user-format.ts'
import { IOTLB_MESSAGE } from '../../src/trace/event-codes.ts'
import { NOTHING, PLAIN, RAM_BYTES, RAM_UA, replyWord, TestSession } from '../support/vhost-session.ts'

const { VERSION, NEED_REPLY, REPLY } = HEADER_FLAGS

/** What an input gives: a message's outcome, or what the session as a whole broke by. */
type Case = () => Taken | Fault | undefined

const begun = (features?: bigint): TestSession => new TestSession().begin(features)
const vringState = (index: number, num: number): Uint8Array => payloadOf('vringState', { index, num })
const event = (t: TestSession): number[] => [t.descriptors.make('event')]

/** A table of one region, and its descriptor. */
function table(
  t: TestSession,
  given: Partial<Record<'gpa' | 'regionBytes' | 'ua' | 'fileOffset', bigint | number>> = {},
  fd = t.descriptors.make('file', t.ram),
): Taken {
  const region = payloadOf('region', { gpa: 0, regionBytes: RAM_BYTES, ua: RAM_UA, ...given })
  return t.send('SET_MEM_TABLE', payloadOf('memTable', { regions: 1 }, region), [fd])
}

const slot = (given: Partial<Record<'gpa' | 'regionBytes' | 'ua' | 'fileOffset', bigint | number>> = {}) =>
  payloadOf('singleRegion', { gpa: RAM_BYTES, regionBytes: 4096, ua: RAM_UA * 2n, ...given })

const addresses = (
  given: Partial<Record<'index' | 'flags' | 'desc' | 'used' | 'avail', bigint | number>> = {},
) => payloadOf('vringAddr', { desc: 0x1000, avail: 0x1800, used: 0x2000, ...given })

const iotlb = (given: Partial<Record<'iova' | 'bytes' | 'ua' | 'perm' | 'type', bigint | number>>) =>
  payloadOf('iotlb', {
    iova: 0x1000,
    bytes: 0x1000,
    ua: RAM_UA,
    perm: 3,
    type: IOTLB_MESSAGE.UPDATE,
    ...given,
  })

/** A queue that runs, with its ring in zeros; `break` puts something wrong there. */
function ringBroken(spoil: (t: TestSession) => void): Fault | undefined {
  const t = begun(PLAIN)
  const kick = t.setUp()
  spoil(t)
  t.kick(kick)
  t.run()
  return t.session.fault
}

const setIndex = (t: TestSession, index: number): void => {
  t.ram[0x1802] = index
}

/** The last input of a row breaks a later rule as well: the earlier rule must answer. */
const CASES: Record<
  Exclude<FaultRule, 'ends-in-message' | 'descriptors-lost' | 'back-end-silent'>,
  Case[]
> = {
  'message-version': [
    () => headerFault({ request: 1, flags: 0, payloadBytes: 0 }, false),
    () => headerFault({ request: 1, flags: 2 | REPLY, payloadBytes: 1 << 30 }, false),
  ],
  'message-is-reply': [
    () => headerFault({ request: 1, flags: VERSION | REPLY, payloadBytes: 0 }, false),
    () => headerFault({ request: 1, flags: VERSION | REPLY, payloadBytes: 1 << 30 }, false),
  ],
  'payload-too-long': [
    () => headerFault({ request: 1, flags: VERSION, payloadBytes: PAYLOAD_BYTES_MAX + 1 }, false),
    () => headerFault({ request: 999, flags: VERSION, payloadBytes: 0xffff_ffff }, false),
  ],
  'request-unknown': [
    () => begun().take(0, VERSION),
    () => begun().take(41, VERSION, new Uint8Array(3), []),
    () => begun().take(0xffff_ffff, VERSION | NEED_REPLY),
  ],
  'request-unserved': [
    () => begun().send('SET_LOG_BASE'),
    () => begun().send('SET_LOG_FD', new Uint8Array(3)),
  ],
  'feature-missing': [
    () => new TestSession().send('GET_QUEUE_NUM'),
    () => new TestSession().send('GET_CONFIG', new Uint8Array(1)),
  ],
  'payload-bytes': [
    () => begun().send('SET_FEATURES', new Uint8Array(7)),
    () => begun().send('GET_FEATURES', new Uint8Array(8)),
    () => begun().send('GET_CONFIG', new Uint8Array(11)),
    () => begun().send('SET_MEM_TABLE', payloadOf('memTable', { regions: 0xffff_ffff })),
    () => {
      const t = begun()
      return t.send('SET_VRING_NUM', new Uint8Array(9), event(t))
    },
  ],
  'descriptors-count': [
    () => {
      const t = begun()
      return t.send('GET_FEATURES', NOTHING, event(t))
    },
    () => begun().send('SET_BACKEND_REQ_FD'),
    () => begun().send('SET_MEM_TABLE', payloadOf('memTable', { regions: 1 }, new Uint8Array(32))),
    () => {
      const t = begun()
      return t.send('SET_VRING_KICK', payloadOf('notifier', { value: 0x100 }), event(t))
    },
    () => begun().send('SET_VRING_CALL', payloadOf('notifier', { value: 0 })),
    () => {
      const t = begun()
      return t.send('SET_VRING_ERR', payloadOf('notifier', { value: 0 }), [...event(t), ...event(t)])
    },
  ],
  'features-not-offered': [
    () => new TestSession().send('SET_FEATURES', wordPayload(1n << 34n)),
    () => new TestSession().send('SET_FEATURES', wordPayload(1n << 26n)),
    () => new TestSession().send('SET_PROTOCOL_FEATURES', wordPayload(1n << 14n)),
  ],
  'queue-unknown': [
    () => begun().send('SET_VRING_NUM', vringState(2, 3)),
    () => begun().send('GET_VRING_BASE', vringState(0xffff_ffff, 0)),
    () => begun().send('SET_VRING_ADDR', addresses({ index: 2, flags: 1 })),
    () => begun().send('SET_VRING_ENABLE', vringState(255, 1)),
    () => {
      const t = begun()
      return t.send('SET_VRING_KICK', payloadOf('notifier', { value: 0x1ff }), event(t))
    },
  ],
  'queue-runs': [
    () => {
      const t = begun()
      t.kick(t.setUp())
      return t.send('SET_VRING_NUM', vringState(0, 3))
    },
    () => {
      const t = begun()
      t.kick(t.setUp())
      return t.send('SET_VRING_BASE', vringState(0, 0x1_0000))
    },
    () => {
      const t = begun()
      t.kick(t.setUp())
      return t.send('SET_VRING_ADDR', addresses({ desc: 0x3000 }))
    },
  ],
  'ring-entries': [0, 3, 65_536, 0xffff_ffff].map(
    (num) => () => begun().send('SET_VRING_NUM', vringState(0, num)),
  ),
  'ring-base': [0x1_0000, 0xffff_ffff].map((num) => () => begun().send('SET_VRING_BASE', vringState(0, num))),
  'ring-flags': [
    () => begun().send('SET_VRING_ADDR', addresses({ flags: 1 })),
    () => begun(PLAIN).send('SET_VRING_ADDR', addresses({ flags: 1, desc: 1 })),
  ],
  'ring-unaligned': [
    () => begun().send('SET_VRING_ADDR', addresses({ desc: 0x1008 })),
    () => begun().send('SET_VRING_ADDR', addresses({ avail: 0x1801 })),
    () => begun(PLAIN).send('SET_VRING_ADDR', addresses({ used: 0x2002 })),
  ],
  'ring-outside-memory': [
    () => begun(PLAIN).send('SET_VRING_ADDR', addresses()),
    () =>
      begun(PLAIN).send(
        'SET_VRING_ADDR',
        addresses({ desc: RAM_UA, avail: RAM_UA, used: RAM_UA + BigInt(RAM_BYTES) }),
      ),
  ],
  'kick-by-polling': [() => begun().send('SET_VRING_KICK', payloadOf('notifier', { value: 0x100 }))],
  'not-an-event': [
    () => {
      const t = begun()
      return t.send('SET_VRING_KICK', payloadOf('notifier', { value: 0 }), [t.descriptors.make('file')])
    },
    () => {
      const t = begun()
      return t.send('SET_VRING_CALL', payloadOf('notifier', { value: 0 }), [t.descriptors.make('socket')])
    },
    () => {
      const t = begun()
      return t.send('SET_BACKEND_REQ_FD', NOTHING, event(t))
    },
    () => {
      const t = begun()
      t.descriptors.refusesWatches = true
      return t.send('SET_VRING_KICK', payloadOf('notifier', { value: 0 }), event(t))
    },
    () => {
      const t = begun()
      t.descriptors.refusesWatches = true
      return t.send('SET_BACKEND_REQ_FD', NOTHING, [t.descriptors.make('socket')])
    },
  ],
  'region-count': [
    () => {
      const t = begun()
      const fds = Array.from({ length: 9 }, () => t.descriptors.make('file', t.ram))
      return t.send('SET_MEM_TABLE', payloadOf('memTable', { regions: 9 }, new Uint8Array(9 * 32)), fds)
    },
  ],
  'region-slots': [
    () => {
      const t = begun()
      for (let i = 1; i < 64; i++) {
        const given = { gpa: RAM_BYTES + i * 4096, ua: RAM_UA * 2n + BigInt(i * 4096) }
        expect(t.send('ADD_MEM_REG', slot(given), [t.descriptors.make('file', t.ram)]).fault).toBeUndefined()
      }
      return t.ask('ADD_MEM_REG', slot({ regionBytes: 0 }), [t.descriptors.make('file', t.ram)])
    },
  ],
  'region-empty': [
    () => table(begun(), { regionBytes: 0 }),
    () => table(begun(), { gpa: 0xffff_ffff_ffff_f000n }),
    () => table(begun(), { ua: 0xffff_ffff_ffff_f000n }),
    () => table(begun(), { fileOffset: 0xffff_ffff_ffff_f000n }),
    () => {
      const t = begun()
      return t.send('ADD_MEM_REG', slot({ gpa: 0, regionBytes: 0 }), event(t))
    },
  ],
  'region-overlap': [
    () => {
      const t = begun()
      return t.send('ADD_MEM_REG', slot({ gpa: RAM_BYTES - 1 }), event(t))
    },
    () => {
      const t = begun()
      return t.send('ADD_MEM_REG', slot({ ua: RAM_UA - 4095n }), event(t))
    },
  ],
  'region-unknown': [
    () => begun().ask('REM_MEM_REG', slot()),
    () => begun().ask('REM_MEM_REG', slot({ gpa: 0, regionBytes: RAM_BYTES, ua: RAM_UA + 1n })),
  ],
  'region-not-a-file': [
    () => {
      const t = begun()
      return table(t, { fileOffset: RAM_BYTES }, t.descriptors.make('socket'))
    },
  ],
  'region-behind-file': [
    () => table(begun(), { fileOffset: 1 }),
    () => table(begun(), { regionBytes: RAM_BYTES + 1 }),
    () => table(begun(), { regionBytes: 1n << 60n }),
  ],
  'region-not-mapped': [
    () => {
      const t = begun()
      t.descriptors.refusesMaps = true
      return table(t)
    },
  ],
  'iotlb-off': [
    () => begun(PLAIN).ask('IOTLB_MSG', iotlb({})),
    () =>
      begun(PLAIN).ask(
        'IOTLB_MSG',
        iotlb({ type: IOTLB_MESSAGE.INVALIDATE, bytes: 1n << 63n, iova: 1n << 63n }),
      ),
  ],
  'iotlb-type': [0, 1, 4, 5, 6, 255].map((type) => () => begun().ask('IOTLB_MSG', iotlb({ type, bytes: 0 }))),
  'iotlb-range': [
    () => begun().ask('IOTLB_MSG', iotlb({ bytes: 0 })),
    () => begun().ask('IOTLB_MSG', iotlb({ iova: 0xffff_ffff_ffff_f001n })),
    () => begun().ask('IOTLB_MSG', iotlb({ ua: 0xffff_ffff_ffff_f001n })),
    () => begun().ask('IOTLB_MSG', iotlb({ iova: 0xffff_ffff_ffff_f001n, type: IOTLB_MESSAGE.INVALIDATE })),
  ],
  'config-range': [
    () => begun().send('GET_CONFIG', payloadOf('config', { offset: 0, configBytes: 0 })),
    () => begun().send('GET_CONFIG', payloadOf('config', { offset: 250, configBytes: 7 }, new Uint8Array(7))),
    () => begun().send('GET_CONFIG', payloadOf('config', { offset: 0, configBytes: 8 }, new Uint8Array(9))),
    () =>
      begun().send(
        'SET_CONFIG',
        payloadOf('config', { offset: 0xffff_ffff, configBytes: 1 }, new Uint8Array(1)),
      ),
  ],
  'queue-broken': [
    () => ringBroken((t) => setIndex(t, 200)),
    () =>
      ringBroken((t) => {
        setIndex(t, 1)
        t.ram[0x1804] = 8
      }),
    () =>
      ringBroken((t) => {
        // A descriptor that goes on with itself.
        setIndex(t, 1)
        t.ram.set([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], 0x1000)
      }),
    () =>
      ringBroken((t) => {
        // 4 GiB of a guest with 1 MiB.
        setIndex(t, 1)
        t.ram.set([0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], 0x1000)
      }),
    () => {
      const t = begun(PLAIN)
      const kick = t.descriptors.make('event')
      t.send('SET_VRING_KICK', payloadOf('notifier', { value: 0 }), [kick])
      t.kick(kick)
      return t.session.fault
    },
  ],
  'back-end-answer': [
    () => headerFault({ request: 1, flags: VERSION, payloadBytes: 0 }, true),
    () => {
      const t = begun()
      const header = { request: 1, flags: VERSION | REPLY, payloadBytes: 8 }
      t.descriptors.listener?.onMessage({ header, payload: new Uint8Array(8), fds: event(t) })
      return t.session.fault
    },
    () => {
      const t = begun()
      t.kick(t.setUp())
      t.run()
      expect(t.descriptors.sent).toHaveLength(1)
      const header = { request: 2, flags: VERSION | REPLY, payloadBytes: 8 }
      t.descriptors.listener?.onMessage({ header, payload: new Uint8Array(8), fds: [] })
      return t.session.fault
    },
  ],
}

describe('what a vhost-user front end can do wrong', () => {
  it.each(Object.entries(CASES))('%s', (rule, cases) => {
    for (const [i, act] of cases.entries()) {
      const got = act()
      const fault = got instanceof Fault ? got : got?.fault
      if (fault === undefined && got !== undefined && !(got instanceof Fault)) {
        // Refused, where the front end waits for the answer.
        expect(new Fault(rule as FaultRule).isRefusal, `${rule} ${i}`).toBe(true)
        expect(replyWord(got), `${rule} ${i}`).toBe(1n)
      } else expect(fault?.rule, `${rule} ${i}: ${fault?.text}`).toBe(rule)
    }
  })

  it('says what was wrong in words', () => {
    expect(new Fault('ring-entries', '3').text).toBe(`ring-entries: ${FAULTS['ring-entries']} (3)`)
    expect(new Fault('request-unserved').text).toBe(`request-unserved: ${FAULTS['request-unserved']}`)
  })
})
