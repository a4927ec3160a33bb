import type { Value } from '../../src/bits/answer.ts'
import type { Verb } from '../../src/bits/call.ts'
import { Judge } from '../../src/check/judge.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import type { Machine } from '../../src/machine/machine.ts'
import { type CaseGroup, check, type LoopCase, type Peer, type SetUp } from '../case.ts'

const OPERATIONS = 1 << 12
const PAGE_BYTES = 4096
const PROCESS = 'P'
const DEVICE = 'gpu'
/** Where the process has its memory. */
const START = 0x1000_0000n

/** Who looks on: nobody but the log, or all checkers. */
type Watching = 'records' | 'checkers'

/** A process, a device that is bound to its address space, and memory of so many pages that nobody has touched. */
class SvmStand {
  readonly machine: Machine
  readonly #judge: Judge | undefined
  readonly #bytes: bigint
  #pasid = 0n

  constructor(watching: Watching, pages: number) {
    this.#bytes = BigInt(pages * PAGE_BYTES)
    this.#judge = watching === 'checkers' ? new Judge() : undefined
    const description = describeMachine({
      kind: 'x86',
      iommu: { driver: 'extended' },
      devices: [{ name: DEVICE, kind: 'endpoint', bus: 3, slot: 0 }],
      processes: [{ name: PROCESS }],
    })
    const judge = this.#judge
    this.machine = createMachine(description, {
      keepRecords: 1 << 16,
      ...(judge !== undefined && { watch: (log) => judge.attach(log) }),
    })
    this.#pasid = this.#perform('svm', 'bind', { device: DEVICE }).outputs['pasid'] as bigint
    this.#map()
  }

  /** The memory is as if nobody had touched it: what was there is freed, and flushed. */
  forget(): void {
    this.#perform('sys', 'munmap', { address: START, bytes: this.#bytes })
    this.#map()
  }

  /** The device writes to a page. Answers how many bytes moved at once. */
  write(page: number): number {
    const iova = START + BigInt(page * PAGE_BYTES)
    const args = { device: DEVICE, pasid: this.#pasid, iova, data: 'text' }
    return Number(this.machine.perform({ verb: 'dma', call: 'write', args }).outputs['moved'])
  }

  /** The thread of the page request event runs. */
  answer(): void {
    check(this.machine.perform(THREAD).rule === 'done', 'the thread was woken')
  }

  checkFindings(): void {
    check((this.#judge?.findings.length ?? 0) === 0, 'the checkers find nothing')
  }

  #map(): void {
    const access = { read: true, write: true, fixed: true }
    this.#perform('sys', 'mmap', { address: START, bytes: this.#bytes, ...access })
  }

  #perform(verb: Verb, call: string, args: Readonly<Record<string, Value>>) {
    const answer = this.machine.perform({ verb, call, args, by: { process: PROCESS } })
    check(answer.code === 'OK', `${verb} ${call} is answered with ${answer.rule}`)
    return answer
  }
}

const THREAD = { verb: 'svm', call: 'prq_event_thread', args: {} } as const

/** Each operation is an access to a page that is not there: request, interrupt, fault, response, and the access again. */
const pageRequests =
  (watching: Watching): SetUp =>
  (operations) => {
    const stand = new SvmStand(watching, operations)
    return {
      operations,
      prepare: () => stand.forget(),
      pass(): number {
        let atOnce = 0
        for (let page = 0; page < operations; page++) {
          atOnce += stand.write(page)
          stand.answer()
        }
        check(atOnce === 0, 'every access had to wait')
        stand.checkFindings()
        return operations
      },
    }
  }

/** The same accesses to pages that are there, and that the device has translations for. */
const present =
  (watching: Watching): SetUp =>
  (operations) => {
    const stand = new SvmStand(watching, operations)
    for (let page = 0; page < operations; page++) {
      stand.write(page)
      stand.answer()
    }
    return {
      operations,
      pass(): number {
        let moved = 0
        for (let page = 0; page < operations; page++) moved += stand.write(page)
        check(moved === operations * 4, 'no access had to wait')
        return operations
      },
    }
  }

const loop = (id: string, setUp: SetUp, peer: Peer): LoopCase => ({
  id: `svm/${id}`,
  operation: 'request',
  operations: OPERATIONS,
  setUp,
  peer,
})

export const SVM: CaseGroup = {
  title: 'Shared virtual memory',
  note:
    'Ours: a device writes to pages of a process that nobody has touched, through operations of a machine (kind x86, Linux 4.9): ' +
    'translation request, page request, interrupt, the thread, a fault of the process, the response, and the access again; ' +
    'with all checkers, or records only. present: the same accesses to pages that are there.',
  cases: [
    loop('request', pageRequests('records'), { label: 'present', setUp: present('records') }),
    loop('request/all', pageRequests('checkers'), {
      label: 'records',
      setUp: pageRequests('records'),
    }),
  ],
}
