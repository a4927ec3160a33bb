import { describe, expect, it } from 'vitest'
import { parseScenario } from '../../src/cli/yaml-scenario.ts'
import { type Exploration, explore } from '../../src/machine/explore/explore.ts'
import { CATALOGUE } from '../../src/machine/registry.ts'

/** How the process is bound to the device: by a driver of the kernel, or by a file that it maps as well. */
const BOUND = {
  kernel: '  - { by: { process: P }, svm: bind, args: { device: a }, expect: OK }',
  file: `  - { by: { process: P }, sys: open, args: { path: /dev/a }, expect: OK }
  - { by: { process: P }, sys: ioctl, args: { fd: 3, request: bind }, expect: OK }
  - by: { process: P }
    sys: mmap
    args: { address: 0x2000000, bytes: 4 KiB, read: true, fd: 3, shared: true }
    expect: OK`,
} as const

/** What happens beside the exit. */
const BESIDE = {
  DMA: `  device:
    - { dma: write, args: { device: a, iova: 0x1000010, pasid: 0, data: one } }
    - { dma: read, args: { device: a, iova: 0x1000010, pasid: 0, bytes: 5 } }`,
  'a page request': `  device: [{ dma: write, args: { device: a, iova: 0x1001010, pasid: 0, data: one } }]
  thread: [{ svm: prq_event_thread }]`,
  'a request with a PASID that nobody has': `  device: [{ pri: request, args: { device: a, pasid: 77, iova: 0x1000000, group: 1, write: true } }]
  thread: [{ svm: prq_event_thread }]`,
} as const

const explored = (
  profile: string,
  by: keyof typeof BOUND,
  beside: keyof typeof BESIDE,
  bound: number,
): Exploration =>
  explore(
    parseScenario(
      `
version: 1
title: a process exits while its device works
machine:
  kind: x86
  profile: "${profile}"
  ram: 16 MiB
  devices:
    - { name: a, kind: endpoint, bus: 3, slot: 2 }
  processes:
    - { name: P }
steps:
  - { iommu: attach, args: { device: a, domain: 3 }, expect: OK }
  - by: { process: P }
    sys: mmap
    args: { address: 0x1000000, bytes: 8 KiB, read: true, write: true }
    expect: OK
${BOUND[by]}
  - { dma: write, args: { device: a, iova: 0x1000010, pasid: 0, data: hello }, expect: MEMTX_ERROR }
  - { svm: prq_event_thread, expect: { rule: done } }
concurrent:
  exit: [{ sys: exit_group, by: { process: P } }]
${BESIDE[beside]}
`,
      'orders.yaml',
      CATALOGUE,
    ),
    { bound },
  )

/** Orders of a search that ends by itself; the others stop here. */
const ALL = 100_000
const SOME = 400

describe('a process that is bound to a device exits, in every order with what the device does', () => {
  it.each([
    ['kernel', 210],
    ['file', 666],
  ] as const)(
    'against DMA, bound by the %s: the right code breaks no rule in any of %i orders',
    (by, orders) => {
      const found = explored('intended', by, 'DMA', ALL)
      expect([...found.broken.keys()]).toEqual([])
      expect([found.isComplete, found.orders, found.stuck, found.unmodelled]).toEqual([
        true,
        orders,
        undefined,
        0,
      ])
    },
  )

  it.each(['a page request', 'a request with a PASID that nobody has'] as const)(
    'against %s: the right code breaks no rule in the first orders, and no lane waits for ever',
    (beside) => {
      const found = explored('intended', 'kernel', beside, SOME)
      expect([...found.broken.keys()]).toEqual([])
      expect([found.orders, found.stuck, found.unmodelled]).toEqual([SOME, undefined, 0])
    },
  )

  it.each([
    ['svm-release-no-clear', 'kernel', 'DMA', 'dead-page-table'],
    ['svm-release-no-clear', 'kernel', 'a page request', 'freed-table-walked'],
    ['svm-mm-users-held', 'file', 'DMA', 'mm-kept-alive'],
    ['svm-null-svm', 'kernel', 'a request with a PASID that nobody has', 'stopped'],
  ] as const)('%s, bound by the %s, against %s: %s finds it', (erratum, by, beside, rule) => {
    expect([...explored(`intended,${erratum}`, by, beside, SOME).broken.keys()]).toContain(rule)
  })
})
