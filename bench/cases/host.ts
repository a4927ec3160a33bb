import type { Answer, Value } from '../../src/bits/answer.ts'
import type { Verb } from '../../src/bits/call.ts'
import { Judge } from '../../src/check/judge.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import type { Operation } from '../../src/machine/operation.ts'
import { type CaseGroup, check, type LoopCase, type SetUp } from '../case.ts'
import { GUEST_UA, PAGE_BYTES, WINDOW_BUS } from '../hw-stand.ts'
import { Xorshift } from '../patterns.ts'
import type { Watching } from './dma.ts'

/** Pages that stay mapped, and as many that come and go. */
const PAGES = 256
/** Operations of a round: a page is mapped, others are read by a device, the page is unmapped. */
const ROUND = 16
const ROUNDS = 1024
const READ_WRITE = 3n
const LOG2_WINDOW = 30n
const CONTAINER = 3n
const GROUP = 4n
const OPERATION = 'operation'

const operation = (verb: Verb, call: string, args: Record<string, Value>): Operation => ({ verb, call, args })
const ioctl = (call: string, args: Record<string, Value>) =>
  operation('ioctl', call, { fd: CONTAINER, ...args })

const mapping = (page: number) => {
  const iova = WINDOW_BUS + BigInt(page) * PAGE_BYTES
  return { vaddr: GUEST_UA + BigInt(page) * PAGE_BYTES, iova, bytes: PAGE_BYTES, flags: READ_WRITE }
}

/** How a process comes to a container with memory and a window of 1 GiB. */
const SET_UP: readonly Operation[] = [
  operation('proc', 'open', { path: '/dev/vfio/vfio' }),
  operation('proc', 'open', { path: '/dev/vfio/0' }),
  operation('ioctl', 'VFIO_GROUP_SET_CONTAINER', { fd: GROUP, container: CONTAINER }),
  ioctl('VFIO_SET_IOMMU', { type: 7n }),
  operation('proc', 'mmap', {
    ...{ address: GUEST_UA, bytes: 2n * BigInt(PAGES) * PAGE_BYTES },
    ...{ read: true, write: true, fixed: true },
  }),
  ioctl('VFIO_IOMMU_SPAPR_REGISTER_MEMORY', { vaddr: GUEST_UA, bytes: 2n * BigInt(PAGES) * PAGE_BYTES }),
  ioctl('VFIO_IOMMU_SPAPR_TCE_CREATE', { page_shift: 16n, window_bytes: 1n << LOG2_WINDOW, levels: 2n }),
  ...Array.from({ length: PAGES }, (_, page) => ioctl('VFIO_IOMMU_MAP_DMA', mapping(page))),
]

/** All that happens, one operation after the other, made before anything is timed. */
function rounds(): Operation[] {
  const random = new Xorshift()
  return Array.from({ length: ROUNDS }, (_, i) => {
    const { iova, ...more } = mapping(PAGES + (i % PAGES))
    const reads = Array.from({ length: ROUND - 2 }, () => {
      const from = WINDOW_BUS + BigInt(random.next() % PAGES) * PAGE_BYTES
      return operation('dma', 'read', { device: 'edu0', iova: from, bytes: 8n })
    })
    return [
      ioctl('VFIO_IOMMU_MAP_DMA', { iova, ...more }),
      ...reads,
      ioctl('VFIO_IOMMU_UNMAP_DMA', { iova, bytes: PAGE_BYTES }),
    ]
  }).flat()
}

const host =
  (watching: Watching): SetUp =>
  (operations) => {
    const judge = new Judge()
    const devices = [{ name: 'edu0', kind: 'edu' as const, dmaMask: 0xffff_ffff_ffff_ffffn }]
    const description = describeMachine({
      kind: 'powernv',
      profile: 'intended',
      phbs: [{ pes: [{ devices }] }],
    })
    const machine = createMachine(description, {
      keepRecords: 1 << 15,
      ...(watching === 'checkers' && { watch: (log) => judge.attach(log) }),
    })
    const isDone = ({ code }: Answer): boolean => code === 'OK' || code === 'MEMTX_OK'
    for (const step of SET_UP) check(isDone(machine.perform(step)), `${step.call} succeeds`)
    machine.log.on = watching !== 'bare'
    const all = rounds()
    const before = machine.log.length
    for (const step of all.slice(0, ROUND)) check(isDone(machine.perform(step)), `${step.call} succeeds`)
    check(machine.log.length > before === (watching !== 'bare'), 'records come where they are wanted')
    const mask = all.length - 1
    return {
      operations,
      pass(): number {
        let sum = 0
        for (let i = 0; i < operations; i++) if (isDone(machine.perform(all[i & mask] as Operation))) sum++
        if (judge.findings.length > 0) throw new Error('wrong result: the checkers find something')
        return sum
      },
    }
  }

const caseOf = (watching: Watching, than: Watching): LoopCase => ({
  id: `host/${watching}`,
  operation: OPERATION,
  operations: 1 << 14,
  setUp: host(watching),
  peer: { label: than, setUp: host(than) },
})

export const HOST: CaseGroup = {
  title: 'A POWER host',
  note:
    'A machine of kind powernv, operations as plain data through `perform`: of sixteen, a page is mapped by VFIO, a ' +
    'device reads eight bytes at fourteen of 256 pages that stay, and the page is unmapped, which empties the TCE ' +
    'cache of the PE. Checkers: all rules of `Judge`, which find nothing.',
  cases: [caseOf('records', 'bare'), caseOf('checkers', 'records')],
}
