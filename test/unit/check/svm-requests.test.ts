import { describe, expect, it } from 'vitest'
import { PAGE_REQUEST } from '../../../src/trace/event-codes.ts'
import { A, B, NONE, READ_LAST, SvmWorld } from './svm-world.ts'

const { READ, WRITE, EXECUTE, LAST, PRIVATE_DATA } = PAGE_REQUEST
const RULES = ['page-request-answer', 'lost-interrupt']
const world = () => new SvmWorld({ rules: RULES })

describe('a page request', () => {
  it('that gets its response breaks nothing', () => {
    const w = world()
    w.queue()
    w.asks()
    w.takesAll()
    w.answers()
    expect(w.found()).toEqual([])
  })

  it('that is taken from the queue and not answered is found, with the write of the head', () => {
    const w = world()
    w.queue()
    const asked = w.asks()
    const passed = w.takesAll()
    const [finding] = w.found()
    expect(finding?.message).toBe(
      'the request of 03:02.0 for 0x1000 with PASID 0x5 (read; group 1) is taken from the queue, and nobody answers',
    )
    expect(finding?.because.map((e) => e.seq)).toEqual([asked, passed])
  })

  it('that lies in the queue is not late', () => {
    const w = world()
    w.asks()
    w.takesAll()
    w.answers()
    w.asks({ group: 2 })
    expect(w.found()).toEqual([])
  })

  it('that came behind the tail that was read is not taken by the write of the head', () => {
    const w = world()
    w.asks()
    w.clearsPpr()
    const tail = w.readsTail()
    w.asks({ group: 2 })
    w.writesHead(tail)
    w.answers()
    expect(w.found()).toEqual([])
  })

  it.each([
    ['not the last of its group', READ, false, []],
    ['a stop marker', LAST, false, []],
    ['with private data', READ | PRIVATE_DATA, false, ['page-request-answer']],
    ['with private data of revisions 2.x', READ | PRIVATE_DATA, true, []],
    ['the last of its group, of revisions 2.x', READ_LAST, true, ['page-request-answer']],
  ])('%s asks for a response or does not', (_, flags, isOld, rules) => {
    const w = world()
    if (isOld) w.root({ mode: 2 })
    w.asks({ flags })
    w.takesAll()
    expect(w.rules()).toEqual(rules)
  })

  it('an old driver may answer a stop marker', () => {
    const w = world()
    w.asks({ flags: LAST })
    w.takesAll()
    w.answers()
    expect(w.found()).toEqual([])
  })

  it('answered twice is found, and the first response is named', () => {
    const w = world()
    w.asks()
    w.takesAll()
    const first = w.answers()
    const second = w.answers()
    const [finding] = w.found()
    expect(finding?.message).toBe(
      'software answers group 1 of 03:02.0 with PASID 0x5 twice, though it was asked once',
    )
    expect(finding?.because.map((e) => e.seq)).toEqual([first, second])
  })

  it.each([
    ['group', { group: 2 }],
    ['device', { source: B }],
    ['PASID', { pasid: 6 }],
    ['PASID, where it has none', { pasid: NONE }],
  ])('a response with another %s is for nobody, and the request stays open', (_, wrong) => {
    const w = world()
    w.asks()
    w.takesAll()
    w.answers(wrong)
    const messages = w.messages('page-request-answer')
    expect(messages).toHaveLength(2)
    expect(messages.some((m) => m.endsWith('for which no request waits'))).toBe(true)
    expect(messages.some((m) => m.endsWith('nobody answers'))).toBe(true)
  })

  it('that a work is to answer is not late before the work has come', () => {
    const w = world()
    w.asks()
    w.takesAll()
    w.decodes({ result: 'queued', response: 'none' })
    expect(w.found()).toEqual([])
  })

  it('that a work has handled, and not answered, is found', () => {
    const w = world()
    w.asks()
    w.takesAll()
    w.decodes({ result: 'queued', response: 'none' })
    w.decodes({ response: 'none' })
    expect(w.messages('page-request-answer')).toEqual([
      'the request of 03:02.0 for 0x1000 with PASID 0x5 (read; group 1) is taken from the queue, and nobody answers',
    ])
  })

  it('that comes a second time while the work of the first one waits: each is told apart', () => {
    const w = world()
    const queued = { result: 'queued', response: 'none' }
    for (let n = 0; n < 2; n++) {
      w.asks()
      w.takesAll()
      w.decodes(queued)
    }
    w.decodes({ response: 'none' })
    expect(w.messages('page-request-answer')).toHaveLength(1)
  })

  it('the same group asked again is answered again', () => {
    const w = world()
    for (let n = 0; n < 3; n++) {
      w.asks()
      w.takesAll()
      w.answers()
    }
    expect(w.found()).toEqual([])
  })

  it.each([
    [0, []],
    [1, []],
    [15, []],
    [2, ['page-request-answer']],
  ])('code %i of a response', (code, rules) => {
    const w = world()
    w.asks()
    w.answers({ code })
    expect(w.rules()).toEqual(rules)
  })

  it('another queue forgets what the old one had', () => {
    const w = world()
    w.asks()
    w.takesAll()
    w.queue()
    expect(w.found()).toEqual([])
  })
})

describe('what software makes of a page request', () => {
  it.each([
    ['address', { iova: 0xf_8000_0000_1000n }],
    ['access', { flags: WRITE | LAST }],
    ['place in its group', { flags: READ }],
    ['PASID', { pasid: 7 }],
  ])('with another %s is found', (_, wrong) => {
    const w = world()
    w.asks()
    w.decodes(wrong)
    w.answers()
    expect(w.rules()).toEqual(['page-request-answer'])
  })

  it('as it is breaks nothing, also where requests of a group are taken one by one and answered later', () => {
    const w = world()
    w.asks({ flags: READ })
    w.asks({ iova: 0x2000n, interrupts: false })
    w.decodes({ flags: READ, result: 'queued', response: 'none' })
    w.decodes({ iova: 0x2000n, result: 'queued', response: 'none' })
    w.asks({ flags: READ, iova: 0x9000n })
    w.decodes({ iova: 0x2000n })
    w.answers()
    expect(w.found()).toEqual([])
  })

  const OLD = { root: { mode: 2 } }
  it.each([
    ['read', READ, 1, []],
    ['write', WRITE, 1, ['page-request-answer']],
    ['execute', EXECUTE | READ, 3, ['page-request-answer']],
    ['execute', EXECUTE | READ, 5, []],
    ['read and write', READ | WRITE, 3, []],
  ])('success to %s', (_, access, rights, rules) => {
    const w = world()
    w.root(OLD.root)
    w.pasid(1)
    w.vma(1, 2, rights)
    w.asks({ flags: access | LAST })
    w.thread(1)
    w.decodes({ flags: access | LAST })
    w.answers()
    expect(w.rules()).toEqual(rules)
  })

  it('success where nothing is, or nothing is any more', () => {
    const w = world()
    w.pasid(1)
    w.vma(1, 4, 3)
    w.vma(2, 1, 3, 0)
    w.asks({ iova: 0x2000n })
    w.asks({ iova: 0x3000n, group: 2 })
    w.decodes({ iova: 0x2000n })
    w.decodes({ iova: 0x3000n, group: 2 })
    w.answers()
    w.answers({ group: 2 })
    expect(w.messages('page-request-answer')).toEqual([
      'the request of 03:02.0 for 0x2000 with PASID 0x5 (read; group 1) succeeds, though P has nothing there',
    ])
  })

  it('rights that change meanwhile say nothing', () => {
    const w = world()
    w.pasid(1)
    w.vma(1, 4, 3)
    w.asks()
    w.thread(1)
    w.vma(1, 4, 3, 0)
    w.decodes()
    w.answers()
    expect(w.found()).toEqual([])
    expect(w.judge.verdicts().find((v) => v.rule === 'page-request-answer')?.skipped).toBe(1)
  })

  it.each([
    ['as it is', {}, []],
    ['as a write', { rwxp: 4 }, ['page-request-answer']],
    ['for another page', { address: 2n }, ['page-request-answer']],
  ])('the callback is told %s', (_, told, rules) => {
    const w = world()
    w.asks()
    w.calls(told)
    w.decodes()
    w.answers()
    expect(w.rules()).toEqual(rules)
  })

  it('a callback behind the decoding is of what was decoded', () => {
    const w = world()
    w.asks()
    w.decodes()
    w.calls()
    w.answers()
    expect(w.found()).toEqual([])
  })
})

describe('an interrupt', () => {
  it('that is missing for a request behind the tail that was read is lost', () => {
    const w = world()
    w.asks()
    w.thread(1)
    w.readsTail()
    const second = w.asks({ group: 2, interrupts: false })
    w.writesHead(16)
    w.answers()
    w.thread(0)
    const [finding] = w.found()
    expect(w.rules()).toEqual(['lost-interrupt'])
    expect(finding?.message).toBe(
      'the request of 03:02.0 for 0x1000 with PASID 0x5 (read; group 2) stays in the queue: software had read the tail before it came, and no interrupt was sent for it',
    )
    expect(finding?.because.at(-1)?.seq).toBe(second)
  })

  it('is not needed before software reads the tail', () => {
    const w = world()
    w.asks()
    w.asks({ group: 2, interrupts: false })
    w.takesAll()
    w.answers()
    w.answers({ group: 2 })
    expect(w.found()).toEqual([])
  })

  it('that is pending or sent for it makes software look again', () => {
    const w = world()
    w.asks()
    w.takesAll()
    w.answers()
    w.interrupt(0)
    w.asks({ group: 2, interrupts: false })
    expect(w.found()).toEqual([])
  })

  it('is not missed by software that looks again by itself', () => {
    const w = world()
    w.asks()
    w.readsTail()
    w.asks({ group: 2, interrupts: false })
    w.writesHead(w.readsTail())
    w.answers()
    w.answers({ group: 2 })
    expect(w.found()).toEqual([])
  })

  it('a request that is dropped though the queue is empty', () => {
    const w = world()
    w.asks()
    w.asks({ group: 2, result: 'dropped', interrupts: false })
    w.takesAll()
    w.answers()
    const dropped = w.asks({ group: 3, result: 'dropped', interrupts: false })
    const [finding] = w.found()
    expect(w.rules()).toEqual(['lost-interrupt'])
    expect(finding?.because.at(-1)?.seq).toBe(dropped)
    expect(finding?.message).toContain('was never cleared')
  })

  it('a request that is dropped while the thread, which has taken all, has not come to the overflow bit', () => {
    const w = world()
    w.asks()
    w.asks({ group: 2, result: 'dropped', interrupts: false })
    const entered = w.enters('sva prq_event_thread')
    w.takesAll(w.step('irq', entered))
    w.answers()
    w.asks({ group: 3, result: 'dropped', interrupts: false })
    expect(w.found()).toEqual([])
    w.returns('sva prq_event_thread', entered)
    const dropped = w.asks({ group: 4, result: 'dropped', interrupts: false })
    expect(w.rules()).toEqual(['lost-interrupt'])
    expect(w.found()[0]?.because.at(-1)?.seq).toBe(dropped)
  })

  it('of another event is none', () => {
    const w = world()
    w.asks()
    w.thread(1)
    w.readsTail()
    w.log.emit('vtd.event', null, { unit: 'vtd', event: 'fault', address: 0n, data: 0, sent: 1 })
    w.asks({ group: 2, interrupts: false })
    w.thread(0)
    w.answers()
    expect(w.rules()).toEqual(['lost-interrupt'])
  })
})

it('another device of the unit has requests of its own', () => {
  const w = world()
  w.asks()
  w.asks({ source: B, interrupts: false })
  w.takesAll()
  w.answers({ source: A })
  expect(w.messages('page-request-answer')).toEqual([
    'the request of 03:03.0 for 0x1000 with PASID 0x5 (read; group 1) is taken from the queue, and nobody answers',
  ])
})
