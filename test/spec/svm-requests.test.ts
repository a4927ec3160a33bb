import { describe, expect, it } from 'vitest'
import type { Answer, Value } from '../../src/bits/answer.ts'
import { iova } from '../../src/bits/brand.ts'
import type { RuleOf } from '../../src/bits/call.ts'
import { SVM_THREAD } from '../../src/kernel/intel-iommu/svm/calls.ts'
import { readRequest, responseTo } from '../../src/kernel/intel-iommu/svm/request-words.ts'
import { VM, type Vma } from '../../src/kernel/process-port.ts'
import { testRules } from '../support/rule-table.ts'
import { SRS, SVM_ECAP, type SvmWorldOptions, svmWorld } from '../support/svm.ts'

const RIGHT = { cutsAddress: false, shiftsBy16: false, mixesWanted: false } as const

const vma = (first: number, end: number, flags: number, growsDown = false): Vma => ({
  ...{ first, end, flags, growsDown, isShared: false, file: undefined },
})

/** P is bound to a by PASID 0, and has pages 0x1000 and 0x1001 that it may read and write. */
function world(options: SvmWorldOptions = {}) {
  const made = svmWorld(options)
  for (const device of ['a', 'b']) made.iommu('attach', { device, domain: 3n })
  made.svmCall('bind', { device: 'a', supervisor: (options.ecap ?? 0n) === (SVM_ECAP | SRS) })
  made.processes.of('P').vmas = [vma(0x1000, 0x1002, VM.READ | VM.WRITE)]
  made.takeSent()
  const request = (args: Readonly<Record<string, Value>> = {}): Answer =>
    made.pri('request', { device: 'a', iova: 0x100_0000n, pasid: 0n, ...args })
  const run = () => made.svmCall('prq_event_thread')
  /** Codes of responses, with their index. */
  const answered = () => made.takeSent().map(([, hi]) => [hi & 0xfn, hi >> 55n])
  return { ...made, request, run, answered }
}

describe('svm prq_event_thread', () => {
  testRules(SVM_THREAD, {
    'no-queue': () => [svmWorld({ maxOrder: -1 }).svmCall('prq_event_thread')],
    'not-woken': () => {
      const made = world()
      made.request()
      made.run()
      return [world().run(), made.run()]
    },
    none: () => {
      const made = world()
      made.interrupts.send(0xfee0_0000n, 0x22)
      return [made.run()]
    },
    done: () => {
      const made = world()
      made.request()
      const first = made.run()
      made.request({ group: 1n })
      return [first, made.run()]
    },
  } satisfies Record<RuleOf<typeof SVM_THREAD>, () => Answer[]>)

  it('answers the last request of a group, with its index', () => {
    const { request, run, takeSent, processes } = world()
    request({ group: 7n, last: false })
    request({ group: 7n, write: true })
    run()
    expect(takeSent()).toEqual([[0x0310_0019n, 7n << 55n]])
    expect(processes.of('P').faults).toEqual(['1000000', '1000000 w'])
    expect(processes.of('P').users).toBe(1)
  })

  it.each<[string, Readonly<Record<string, Value>>, bigint, number]>([
    ['a write where only reads are', { iova: 0x200_0000n, write: true }, 1n, 0],
    ['a read there', { iova: 0x200_0000n }, 0n, 1],
    ['execution there', { iova: 0x200_0000n, execute: true }, 1n, 0],
    ['an address below the first range', { iova: 0xff_f000n }, 1n, 0],
    ['an address behind the last range', { iova: 0x4000_0000n }, 1n, 0],
    ['an address below a stack', { iova: 0x2ff_f000n }, 0n, 1],
    ['an address of the upper half', { iova: 0xffff_8000_0000_1000n }, 1n, 0],
    ['an unknown PASID', { pasid: 77n }, 0xfn, 0],
  ])('%s', (_what, args, code, faults) => {
    const { request, run, answered, processes, records } = world()
    const P = processes.of('P')
    P.vmas = [...P.vmas, vma(0x2000, 0x2001, VM.READ), vma(0x3000, 0x3002, VM.READ, true)]
    request(args)
    run()
    expect(answered()).toEqual([[code, 0n]])
    expect(P.faults).toHaveLength(faults)
    // Who is not found cannot be told.
    expect(records('svm.callback')).toHaveLength(code === 0xfn ? 0 : 1)
  })

  it('a request without a PASID is one of nobody', () => {
    const { pri, run, answered, records } = world()
    pri('request', { device: 'a', iova: 0x100_0000n, group: 3n })
    expect(run().warnings).toEqual(['vtd0: Page request without PASID: 180000003000008 01000101'])
    expect(answered()).toEqual([[0xfn, 3n]])
    expect(records('svm.callback')).toEqual([])
  })

  it('S24: before v4.20 one without a PASID ends the kernel, behind its line, and nothing is answered', () => {
    const { pri, run, answered, life, interrupts, endpoints } = world({ errata: ['svm-no-pasid'] })
    pri('request', { device: 'a', iova: 0x100_0000n, group: 3n })
    expect(run().code).toBe('DEAD')
    expect(life.why).toContain('NULL pointer dereference in prq_event_thread')
    expect(answered()).toEqual([])
    expect([endpoints[0]?.pages?.groups, interrupts.isPending(0x22)]).toEqual([1, false])
  })

  it('S24: a PASID that nobody has does not: its request is answered', () => {
    const { request, run, answered } = world({ errata: ['svm-no-pasid'] })
    request({ pasid: 77n })
    expect(run().code).toBe('OK')
    expect(answered()).toEqual([[0xfn, 0n]])
  })

  it('a fault that goes wrong is an invalid request', () => {
    const { request, run, answered, processes } = world()
    processes.of('P').end = 'error'
    request()
    run()
    expect(answered()).toEqual([[1n, 0n]])
  })

  it('an address space that has ended is not taken', () => {
    const { request, run, answered, processes, work } = world()
    work(processes.of('P').put())
    answered()
    request()
    run()
    expect(answered()).toEqual([[1n, 0n]])
    expect(processes.of('P')).toMatchObject({ users: 0, faults: [] })
  })

  it('the kernel`s own has no faults', () => {
    const { request, run, answered } = world({ ecap: SVM_ECAP | SRS })
    request()
    run()
    expect(answered()).toEqual([[1n, 0n]])
  })

  it('the callback gets the page number, and what was wanted', () => {
    const { request, run, records } = world()
    request({ write: true, read: false })
    request({ execute: true, privileged: true, group: 1n })
    run()
    const told = records('svm.callback')
    expect(told).toMatchObject([
      { device: 'a', address: 0x1000n, rwxp: 4, result: 'success', wanted: 0x310 },
      { rwxp: 11, result: 'invalid' },
    ])
  })

  it('a device that is not bound by the PASID of its request is answered, and the kernel warns', () => {
    const { pri, run, answered, records, svmCall } = world()
    // The table is one for all devices of the unit.
    svmCall('bind', { device: 'b', pasid: false })
    answered()
    pri('request', { device: 'b', iova: 0x100_0000n, pasid: 0n })
    expect(run().warnings[0]).toContain('WARNING: prq_event_thread')
    expect(answered()).toEqual([[0n, 0n]])
    expect(records('svm.callback')).toEqual([])
  })

  it('says what it cannot use', () => {
    const { request, run } = world()
    request({ pasid: 77n })
    expect(run().warnings).toEqual(['vtd0: Page request for invalid PASID 77: 030004dc 01000101'])
  })

  it('what comes between the reading of the tail and the writing of the head interrupts again', () => {
    const { request, run, svmStart, tasks, answered, unit } = world()
    request({ group: 1n })
    const thread = svmStart('prq_event_thread', 'thread')
    for (const name of ['prq wake', 'prq clear', 'prq read']) {
      expect(thread.works[0]?.step).toBe(name)
      tasks.step(thread)
    }
    request({ group: 2n })
    tasks.runToEnd(thread)
    expect(thread.answer?.rule).toBe('done')
    expect(answered()).toEqual([[0n, 1n]])
    expect([unit.peek('PQH'), unit.peek('PQT')]).toEqual([0x10n, 0x20n])
    expect(run().rule).toBe('done')
    expect(answered()).toEqual([[0n, 2n]])
  })

  it('an unbind while a request is handled frees what the thread uses', () => {
    const { request, svmStart, tasks, svmCall, life, records } = world()
    request()
    const thread = svmStart('prq_event_thread', 'thread')
    while (thread.works[0]?.step !== 'prq callback') tasks.step(thread)
    expect(svmCall('unbind', { device: 'a', pasid: 0n }).rule).toBe('done')
    tasks.runToEnd(thread)
    expect(records('svm.use-after-free')).toHaveLength(1)
    expect(life.why).toContain('prq_event_thread')
  })

  it('a full queue loses requests until it is empty', () => {
    const { endpoints, request, run, unit } = world()
    unit.mmioWrite(unit.offsetOf('PQH'), 8, 0x20n)
    endpoints[0]?.pages?.enable(512)
    expect(request({ group: 1n }).code).toBe('SUCCESS')
    expect(request({ group: 2n }).code).toBe('DROPPED')
    expect(request({ group: 3n }).code).toBe('DROPPED')
    expect(run().warnings.slice(-2)).toEqual([
      'IOMMU: vtd0: PRQ overflow detected',
      'IOMMU: vtd0: PRQ overflow cleared',
    ])
    expect(request({ group: 2n }).code).toBe('SUCCESS')
  })

  it.each([
    ['nothing', [], true, true],
    ['the thread', ['svm-prq-overflow-stuck'], false, true],
    ['the fault handler', ['svm-faults-leave-overflow'], true, false],
    ['both, before v4.15', ['svm-prq-overflow-stuck', 'svm-faults-leave-overflow'], false, false],
  ] as const)('S19, S25: %s leaves the bit of a full queue', (_who, errata, byThread, byFaults) => {
    const PRO = 0x80n
    const full = () => {
      const made = world({ errata })
      made.endpoints[0]?.pages?.enable(512)
      made.unit.mmioWrite(made.unit.offsetOf('PQH'), 8, 0x20n)
      made.request({ group: 1n })
      made.request({ group: 2n })
      return made
    }
    const pro = ({ unit }: ReturnType<typeof full>) => unit.peek('FSTS') & PRO
    const [first, second] = [full(), full()]
    first.run()
    expect(pro(first)).toBe(byThread ? 0n : PRO)
    // Without a fault to read the handler clears nothing.
    expect([second.iommu('faults').rule, pro(second)]).toEqual(['none', PRO])
    // c has no context entry.
    second.endpoints[2]?.transfer(iova(0x100_0000n), 4, false, 0)
    expect([second.iommu('faults').rule, pro(second)]).toEqual(['done', byFaults ? 0n : PRO])
  })
})

describe('page requests of revisions 2.x', () => {
  it('V20: a group request and its responses', () => {
    const request = readRequest([0x0380_0012_0300_005cn, 0x0000_7f12_3456_7103n], RIGHT)
    expect(request).toMatchObject({
      ...{ hasPasid: true, isLast: true, wantsStreamResponse: false, pasid: 5, source: 0x310, group: 7 },
      ...{ wantsRead: true, wantsWrite: true, wantsExecute: false, address: 0x7f12_3456_7000n },
    })
    const codes = (['success', 'invalid', 'failure'] as const).map((result) => responseTo(request, result))
    expect(codes).toEqual([
      [0x0000_0005_0310_0019n, 0x0380_0012_0000_0000n],
      [0x0000_0005_0310_0019n, 0x0380_0012_0000_0001n],
      [0x0000_0005_0310_0019n, 0x0380_0012_0000_000fn],
    ])
  })

  it('V21: a stream request and its response', () => {
    const request = readRequest([0x0380_0012_0300_0055n, 0x0000_7f12_3456_7101n], RIGHT)
    expect(responseTo(request, 'success')).toEqual([0x0380_0012_0300_005an, 0x0000_7f12_3456_7100n])
    const silent = readRequest([0x0380_0012_0300_0054n, 0x0000_7f12_3456_7101n], RIGHT)
    expect(responseTo(silent, 'success')).toBeUndefined()
  })

  it('V23: an address of the upper half, and the same in 52 bits', () => {
    const words = [0n, 0xffff_8000_0000_1101n] as const
    expect(readRequest(words, RIGHT).address).toBe(0xffff_8000_0000_1000n)
    expect(readRequest(words, { ...RIGHT, cutsAddress: true }).address).toBe(0x000f_8000_0000_1000n)
  })
})
