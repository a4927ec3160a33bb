import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parseScenario } from '../../src/cli/yaml-scenario.ts'
import { type Exploration, type ExploreMode, explore } from '../../src/machine/explore/explore.ts'
import { CATALOGUE } from '../../src/machine/registry.ts'
import { BY_KERNEL, processScenario } from '../support/bound-process.ts'

/** How the process is bound to the device: by a driver of the kernel, or by a file that it maps as well. */
const BOUND = {
  kernel: BY_KERNEL,
  file: `  - { by: { process: P }, sys: open, args: { path: /dev/a }, expect: OK }
  - { by: { process: P }, sys: ioctl, args: { fd: 3, request: bind }, expect: OK }
  - by: { process: P }
    sys: mmap
    args: { address: 0x2000000, bytes: 4 KiB, read: true, fd: 3, shared: true }
    expect: OK`,
} as const

/** More than any of these families has. */
const BOUND_ORDERS = 10_000

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
  mode: ExploreMode = 'reduced',
): Exploration =>
  explore(
    processScenario(
      profile,
      `${BOUND[by]}
  - { dma: write, args: { device: a, iova: 0x1000010, pasid: 0, data: hello }, expect: MEMTX_ERROR }
  - { svm: prq_event_thread, expect: { rule: done } }`,
      `  exit: [{ sys: exit_group, by: { process: P } }]
${BESIDE[beside]}`,
    ),
    { mode, bound: BOUND_ORDERS },
  )

const soundOf = ({ broken, isComplete, stuck, unmodelled }: Exploration) => ({
  broken: [...broken.keys()],
  isComplete,
  stuck,
  unmodelled,
})
const SOUND = { broken: [], isComplete: true, stuck: undefined, unmodelled: 0 }

describe('a process that is bound to a device exits, in every order with what the device does', () => {
  it.each([
    ['kernel', 'DMA', 78, 210n, 21],
    ['file', 'DMA', 190, 666n, 37],
    ['kernel', 'a page request', 1263, 7_349_311n, 34],
    ['kernel', 'a request with a PASID that nobody has', 918, 2_877_875n, 27],
  ] as const)(
    'bound by the %s, against %s: the right code breaks no rule in any of %i orders, for %i, of up to %i steps',
    (by, beside, orders, standFor, longest) => {
      const found = explored('intended', by, beside)
      expect(soundOf(found)).toEqual(SOUND)
      expect([found.orders, found.standFor, found.longest]).toEqual([orders, standFor, longest])
    },
  )

  it.each([
    ['kernel', 210],
    ['file', 666],
  ] as const)(
    'bound by the %s, against DMA: nor in any of %i orders where none is left out',
    (by, orders) => {
      const found = explored('intended', by, 'DMA', 'all')
      expect(soundOf(found)).toEqual(SOUND)
      expect(found.orders).toBe(orders)
    },
  )

  it.each([
    ['svm-release-no-clear', 'kernel', 'DMA', 'dead-page-table', 45, 45],
    ['svm-release-no-clear', 'kernel', 'a page request', 'freed-table-walked', 246, 1014],
    ['svm-mm-users-held', 'file', 'DMA', 'mm-kept-alive', 10, 10],
    ['svm-null-svm', 'kernel', 'a request with a PASID that nobody has', 'stopped', 418, 418],
  ] as const)(
    '%s, bound by the %s, against %s: %s finds it in %i of %i orders',
    (erratum, by, beside, rule, some, all) => {
      const found = explored(`intended,${erratum}`, by, beside)
      expect([found.broken.get(rule)?.orders, found.orders]).toEqual([some, all])
      expect(found.isComplete).toBe(true)
    },
  )
})

describe('a process that is bound in scalable mode exits, in every order with what the device does', () => {
  it.each([
    ['exit-beside-dma', 140, 780n, 40],
    ['exit-beside-request', 2238, 1_862_790_930n, 31],
  ] as const)(
    "%s: today's code breaks no rule in any of %i orders, for %i, of up to %i steps",
    (name, orders, standFor, longest) => {
      const file = `scenarios/sva/${name}.yaml`
      const found = explore(parseScenario(readFileSync(file, 'utf8'), file, CATALOGUE), {
        bound: BOUND_ORDERS,
      })
      expect(soundOf(found)).toEqual(SOUND)
      expect([found.orders, found.standFor, found.longest]).toEqual([orders, standFor, longest])
    },
  )
})
