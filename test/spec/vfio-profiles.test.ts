import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import type { Verb } from '../../src/bits/call.ts'
import { resolveProfile } from '../../src/bits/errata.ts'
import { PREREG_ERRATA } from '../../src/kernel/prereg/errata.ts'
import { VFIO_ERRATA } from '../../src/kernel/vfio/errata.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'

const UA = 0x1_0000_0000n
/** 2 MiB in a huge page, and as much in ordinary ones behind it. */
const HUGE = 0x2_0000_0000n
const LEFT = 0x3_0000_0000n
const MIB = 1n << 20n
const PAGE = 0x1_0000n

type Step = readonly [name: string, verb: Verb, call: string, args: Record<string, Value>]

const io = (name: string, call: string, args: Record<string, Value>): Step => [name, 'ioctl', call, args]
const register = (name: string, vaddr: bigint, bytes: bigint) =>
  io(name, 'VFIO_IOMMU_SPAPR_REGISTER_MEMORY', { fd: 3n, vaddr, bytes })
const unregister = (name: string) =>
  io(name, 'VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY', { fd: 3n, vaddr: UA, bytes: 16n * MIB })
const map = (name: string, iova: bigint, vaddr: bigint, bytes: bigint) =>
  io(name, 'VFIO_IOMMU_MAP_DMA', { fd: 3n, flags: 3n, iova, vaddr, bytes })
const unmap = (name: string, iova: bigint, bytes: bigint) =>
  io(name, 'VFIO_IOMMU_UNMAP_DMA', { fd: 3n, iova, bytes })
const create = (name: string, page_shift: bigint, window_bytes: bigint, levels: bigint) =>
  io(name, 'VFIO_IOMMU_SPAPR_TCE_CREATE', { fd: 3n, page_shift, window_bytes, levels })
const remove = (name: string, start_addr: bigint) =>
  io(name, 'VFIO_IOMMU_SPAPR_TCE_REMOVE', { fd: 3n, start_addr })
const mmap = (address: bigint, bytes: bigint, huge_shift = 0n): Step => [
  'memory',
  'proc',
  'mmap',
  { address, bytes, fixed: true, huge_shift },
]
const open = (path: string): Step => ['a file', 'proc', 'open', { path: `/dev/vfio/${path}` }]

/** Descriptors: container 3 with group 0 (4), container 5 with group 1 (6). The process may lock 1024 pages. */
const SCRIPT: readonly Step[] = [
  mmap(LEFT, 1024n * PAGE),
  open('vfio'),
  open('0'),
  open('vfio'),
  open('1'),
  io('a group for a container', 'VFIO_GROUP_SET_CONTAINER', { fd: 4n, container: 4n }),
  io('group 0', 'VFIO_GROUP_SET_CONTAINER', { fd: 4n, container: 3n }),
  io('group 1', 'VFIO_GROUP_SET_CONTAINER', { fd: 6n, container: 5n }),
  io('v1', 'VFIO_SET_IOMMU', { fd: 5n, type: 2n }),
  io('v2', 'VFIO_SET_IOMMU', { fd: 3n, type: 7n }),
  mmap(UA, 16n * MIB),
  mmap(HUGE, 2n * MIB, 21n),
  mmap(HUGE + 2n * MIB, 2n * MIB),
  register('all of it', UA, 16n * MIB),
  register('again', UA, 16n * MIB),
  register('overlap, mapped in part', UA + 8n * MIB, 16n * MIB),
  register('mapped in part', UA + 15n * MIB, 2n * MIB),
  register('overlap past the limit', UA, 128n * MIB),
  register('overlap', UA + 8n * MIB, 8n * MIB),
  register('not mapped', UA + 32n * MIB, MIB),
  register('huge and ordinary', HUGE, 4n * MIB),
  remove('the default window', 0n),
  create('1 GiB', 16n, 1024n * MIB, 1n),
  create('levels that do not fit', 16n, 16384n * MIB, 3n),
  map('a page', 0x2_0000n, UA, PAGE),
  map('map, iova not aligned', 0x2_1000n, UA, PAGE),
  unmap('unmap, iova not aligned', 0x2_1000n, PAGE),
  unregister('while mapped'),
  unmap('the page', 0x2_0000n, PAGE),
  unregister('when unmapped'),
  register('once more', UA, 16n * MIB),
  map('16 pages', 0x10_0000n, UA, 16n * PAGE),
  map('map past the window', 1024n * MIB - PAGE, HUGE, 2n * PAGE),
  unmap('unmap past the window', 1024n * MIB - PAGE, 2n * PAGE),
  remove('the window', 0n),
  create('2 MiB pages', 21n, 1024n * MIB, 1n),
  map('huge', 0n, HUGE, 2n * MIB),
  map('ordinary for huge', 0x20_0000n, HUGE + 2n * MIB, 2n * MIB),
  register('what is left of the limit', LEFT, (1024n - 256n - 64n - 2n) * PAGE),
]

/** Answers of a profile, `name: CODE rule` each, and how many calls of firmware the 16 pages cost. */
function run(profile: string): { readonly answers: string[]; readonly kills: number } {
  const machine = createMachine(
    describeMachine({
      kind: 'powernv',
      profile,
      processes: [{ name: 'qemu', memlockBytes: 1024n * PAGE }],
      phbs: [{ pes: [{}, {}] }],
    }),
  )
  let kills = 0
  const answers: string[] = []
  for (const [name, verb, call, args] of SCRIPT) {
    const from = machine.log.length
    const { code, rule } = machine.perform({ verb, call, args })
    if (name === '16 pages') {
      for (let seq = from; seq < machine.log.length; seq++) {
        if (machine.log.kindOf(seq) === 'hw.firmware') kills++
      }
    }
    if (verb === 'ioctl') answers.push(`${name}: ${code} ${rule}`)
    else expect(code).toBe('OK')
  }
  return { answers, kills }
}

/** What each version has of the errata of VFIO and of preregistered memory. */
const HAS: Readonly<Record<string, string>> = {
  'linux-4.2':
    'X3 X4 X6 X9 X10 B9-vfio v1-kernel-tables eager-default-window set-container-einval page-shift-unchecked overlap-before-charge',
  'linux-4.12':
    'X3 X4 X6 X9 X10 X14 B9-vfio iova-check-returns-1 v1-kernel-tables set-container-einval region-lost-at-release page-shift-unchecked overlap-before-charge',
  'linux-4.19':
    'X3 X4 X6 X9 X10 X14 B9-vfio iova-check-returns-1 null-user-slot v1-kernel-tables set-container-einval region-lost-at-release overlap-before-charge',
  'linux-5.4':
    'X1 X3 X4 X6 X9 X10 X14 iova-check-returns-1 null-user-slot v1-kernel-tables set-container-einval region-lost-at-release X8 partial-pin-count',
  'linux-5.18':
    'X1 X3 X4 X6 X9 X10 X14 iova-check-returns-1 null-user-slot v1-kernel-tables set-container-einval region-lost-at-release X8 partial-pin-count',
  'linux-6.1':
    'X1 X3 X4 X6 X9 X10 X14 iova-check-returns-1 null-user-slot v1-kernel-tables set-container-einval region-lost-at-release X8 partial-pin-count',
  'linux-6.12.95':
    'X1 X3 X4 X6 X9 X10 X14 iova-check-returns-1 null-user-slot region-lost-at-release detach-clears-all X8 partial-pin-count',
  intended: '',
}

/** What the right behaviour answers, in the order of the script; what is set up before answers OK. */
const INTENDED = [
  'a group for a container: EBADFD not-a-container',
  'group 0: OK done',
  'group 1: OK done',
  'v1: OK done',
  'v2: OK done',
  'all of it: OK done',
  'again: EBUSY held',
  'overlap, mapped in part: EFAULT not-pinnable',
  'mapped in part: EFAULT not-pinnable',
  'overlap past the limit: ENOMEM limit',
  'overlap: EINVAL overlap',
  'not mapped: EFAULT not-pinnable',
  'huge and ordinary: OK done',
  'the default window: OK cancelled',
  '1 GiB: OK done',
  'levels that do not fit: EINVAL table-refused',
  'a page: OK done',
  'map, iova not aligned: EINVAL iova-unaligned',
  'unmap, iova not aligned: EINVAL bad-range',
  'while mapped: EBUSY in-use',
  'the page: OK done',
  'when unmapped: OK done',
  'once more: OK done',
  '16 pages: OK done',
  'map past the window: EINVAL past-window',
  'unmap past the window: EINVAL bad-range',
  'the window: OK done',
  '2 MiB pages: OK done',
  'huge: EINVAL not-registered',
  'ordinary for huge: EINVAL not-registered',
  'what is left of the limit: OK done',
]

const BEFORE_6_2 = ['a group for a container: EINVAL not-a-container-v6.1', 'v1: EPERM v1-with-windows']
const BEFORE_5_1 = [
  'overlap, mapped in part: EINVAL overlap',
  'mapped in part: EINVAL overlap',
  'overlap past the limit: EINVAL overlap',
]
const SINCE_5_1 = ['overlap, mapped in part: OK partly-pinned', 'mapped in part: OK partly-pinned']
const SINCE_4_12 = [
  'map, iova not aligned: RETURN_1 iova-unaligned-returns-1',
  'unmap, iova not aligned: RETURN_1 bad-range-returns-1',
]
const SINCE_5_0 = ['while mapped: OK orphaned', 'when unmapped: ENOENT not-held', 'once more: OK shared']
const PAST_WINDOW = ['map past the window: OK done', 'unmap past the window: OK past-window']
const HUGE_REGION = ['huge: OK done', 'ordinary for huge: EPERM not-contained']
const CHARGED = ['what is left of the limit: ENOMEM limit']

const SINCE_5_4 = [
  ...BEFORE_6_2,
  ...SINCE_5_1,
  ...SINCE_4_12,
  ...SINCE_5_0,
  ...PAST_WINDOW,
  ...HUGE_REGION,
  ...CHARGED,
]

/** Where a version answers otherwise. */
const OTHERWISE: Readonly<Record<string, readonly string[]>> = {
  'linux-4.2': [
    ...BEFORE_6_2,
    ...BEFORE_5_1,
    'the default window: OK done',
    'map past the window: OK done',
    ...HUGE_REGION,
    ...CHARGED,
  ],
  'linux-4.12': [...BEFORE_6_2, ...BEFORE_5_1, ...SINCE_4_12, ...PAST_WINDOW, ...HUGE_REGION, ...CHARGED],
  'linux-4.19': [...BEFORE_6_2, ...BEFORE_5_1, ...SINCE_4_12, ...PAST_WINDOW, ...CHARGED],
  'linux-5.4': SINCE_5_4,
  'linux-5.18': SINCE_5_4,
  'linux-6.1': SINCE_5_4,
  'linux-6.12.95': SINCE_5_4.filter((answer) => !BEFORE_6_2.includes(answer)),
  intended: [],
}

describe.each(Object.keys(HAS))('%s', (profile) => {
  it('has its errata', () => {
    const ids = resolveProfile([...VFIO_ERRATA, ...PREREG_ERRATA], profile).ids
    expect(ids.join(' ')).toBe(HAS[profile])
  })

  it('answers a script as that version does', () => {
    const { answers } = run(profile)
    expect(answers.length).toBe(INTENDED.length)
    expect(answers.filter((answer, i) => answer !== INTENDED[i])).toEqual(OTHERWISE[profile])
  })

  it('tells caches of each entry before Linux 5.4, and of a range since', () => {
    const isBefore = ['linux-4.2', 'linux-4.12', 'linux-4.19'].includes(profile)
    expect(run(profile).kills).toBe(isBefore ? 16 : 1)
  })
})

describe('the errata of VFIO', () => {
  it('are all in the script or in a scenario of their own', () => {
    const seen = new Set(Object.values(HAS).flatMap((ids) => ids.split(' ')))
    const unseen = [...VFIO_ERRATA, ...PREREG_ERRATA].filter(({ id }) => !seen.has(id)).map(({ id }) => id)
    expect(unseen).toEqual(['B10'])
  })
})
