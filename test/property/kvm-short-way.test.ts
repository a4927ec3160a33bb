import fc from 'fast-check'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import type { Verb } from '../../src/bits/call.ts'
import { LentPages } from '../../src/kernel/kvm/lent-pages.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import type { Machine } from '../../src/machine/machine.ts'
import type { Operation } from '../../src/machine/operation.ts'

/**
 * A host with an undo log changes hardware entries one by one, through look-ups that may each fail; one without takes
 * the short way where it can. Nobody may be able to tell the two apart: not by an answer, not by a record.
 */
const MIB = 2n ** 20n
const UA = 0x1_0000_0000n
const MEMORY = 32n * MIB
/** Two regions, with half a guest page between them that nobody registered. */
const REGIONS = [
  { vaddr: UA, bytes: 8n * MIB },
  { vaddr: UA + 8n * MIB + 0x1_0000n, bytes: 16n * MIB },
]
const LIST = 24n * MIB + 0x2_0000n
const ENTRIES = 24n
const LIOBN = 0x8000_0001n

const operation = (verb: Verb, call: string, args: Record<string, Value>): Operation => ({ verb, call, args })
const ioctl = (fd: bigint, call: string, args: Record<string, Value> = {}) =>
  operation('ioctl', call, { fd, ...args })

interface Shape {
  readonly guestShift: bigint
  readonly pageShift: bigint
  readonly levels: bigint
}

const setUp = ({ guestShift, pageShift, levels }: Shape): Operation[] => [
  operation('proc', 'open', { path: '/dev/vfio/vfio' }),
  operation('proc', 'open', { path: '/dev/vfio/0' }),
  ioctl(4n, 'VFIO_GROUP_SET_CONTAINER', { container: 3n }),
  ioctl(3n, 'VFIO_SET_IOMMU', { type: 7n }),
  operation('proc', 'mmap', { address: UA, bytes: MEMORY, read: true, write: true, fixed: true }),
  ...REGIONS.map((region) => ioctl(3n, 'VFIO_IOMMU_SPAPR_REGISTER_MEMORY', region)),
  ioctl(3n, 'VFIO_IOMMU_SPAPR_TCE_REMOVE', { start_addr: 0n }),
  ioctl(3n, 'VFIO_IOMMU_SPAPR_TCE_CREATE', { page_shift: pageShift, window_bytes: 1n << 32n, levels }),
  operation('proc', 'open', { path: '/dev/kvm' }),
  ioctl(5n, 'KVM_CREATE_VM', { type: 0n }),
  ioctl(6n, 'KVM_SET_USER_MEMORY_REGION', { slot: 0n, bytes: 12n * MIB, vaddr: UA }),
  ioctl(6n, 'KVM_SET_USER_MEMORY_REGION', {
    ...{ slot: 1n, gpa: 12n * MIB, bytes: MEMORY - 12n * MIB, vaddr: UA + 12n * MIB },
  }),
  ...[0x138n, 0x13cn].map((arg0) => ioctl(6n, 'KVM_ENABLE_CAP', { cap: 104n, arg0, arg1: 1n })),
  ioctl(6n, 'KVM_CREATE_VCPU', { id: 0n }),
  ioctl(6n, 'KVM_CREATE_SPAPR_TCE_64', {
    liobn: LIOBN,
    page_shift: guestShift,
    offset: 0n,
    entries: ENTRIES,
  }),
  ioctl(6n, 'KVM_CREATE_DEVICE', { type: 4n }),
  ioctl(9n, 'KVM_DEV_VFIO_GROUP_ADD', { group: 4n }),
  ioctl(9n, 'KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE', { group: 4n, table: 8n }),
]

interface Step {
  readonly op: 'put' | 'clear' | 'list' | 'stuff' | 'read'
  readonly at: bigint
  readonly tces: readonly { readonly page: bigint; readonly perm: bigint; readonly odd: bigint }[]
}

const tce = fc.record({
  page: fc.oneof(fc.bigInt(0n, 40n), fc.constantFrom(0n, 127n, 128n, 129n, 191n, 192n, 511n, 512n)),
  perm: fc.constantFrom(0n, 1n, 2n, 3n, 3n),
  odd: fc.constantFrom(0n, 0n, 0n, 0n, 0n, 0n, 8n, 0x800n),
})
/** Pages in a row, as of a large buffer; or any. */
const tces = fc.oneof(
  fc.array(tce, { minLength: 1, maxLength: 8 }),
  fc
    .record({ from: tce, count: fc.integer({ min: 1, max: 12 }) })
    .map(({ from, count }) =>
      Array.from({ length: count }, (_, i) => ({ ...from, page: from.page + BigInt(i) })),
    ),
)
const step: fc.Arbitrary<Step> = fc.record({
  op: fc.constantFrom('put', 'put', 'clear', 'list', 'list', 'stuff', 'read' as const),
  at: fc.oneof(fc.bigInt(0n, ENTRIES), fc.bigInt(0n, 4n)),
  tces,
})

function operationsOf({ op, at, tces: entries }: Step, guestShift: bigint): Operation[] {
  const to = { liobn: LIOBN, ioba: at << guestShift }
  const words = entries.map(({ page, perm, odd }) => ((page << 16n) & -(1n << guestShift)) | odd | perm)
  if (op === 'clear') return [operation('hcall', 'H_PUT_TCE', { ...to, tce: 0n })]
  if (op === 'put') return [operation('hcall', 'H_PUT_TCE', { ...to, tce: words[0] as bigint })]
  if (op === 'stuff') {
    return [operation('hcall', 'H_STUFF_TCE', { ...to, value: 0n, npages: BigInt(words.length) })]
  }
  if (op === 'read') {
    const write = at % 2n === 0n ? 'read' : 'write'
    const more = write === 'write' ? { data: '0x01020304' } : { bytes: 4n }
    return [operation('dma', write, { device: 'nic0', iova: at << guestShift, ...more })]
  }
  const data = `hex:${words.map((word) => word.toString(16).padStart(16, '0')).join('')}`
  return [
    operation('mem', 'write', { space: 'ua', address: UA + LIST, data }),
    operation('hcall', 'H_PUT_TCE_INDIRECT', { ...to, list: LIST, npages: BigInt(words.length) }),
  ]
}

const CLOSE: readonly Operation[] = [
  ioctl(3n, 'VFIO_IOMMU_SPAPR_TCE_REMOVE', { start_addr: 0n }),
  ...REGIONS.map((region) => ioctl(3n, 'VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY', region)),
  operation('proc', 'exit', {}),
]

function machineOf(profile: string, journal: boolean): Machine {
  const devices = [{ name: 'nic0', kind: 'edu' as const, dmaMask: 0xffff_ffff_ffff_ffffn }]
  return createMachine(describeMachine({ kind: 'powernv', profile, phbs: [{ pes: [{ devices }] }] }), {
    journal,
  })
}

function records({ log }: Machine, from: number) {
  return Array.from({ length: log.length - from }, (_, i) => {
    const { event, cause } = log.read(from + i)
    return { event, cause }
  })
}

const holds = (profile: string, shape: Shape) =>
  fc.property(fc.array(step, { maxLength: 25, size: 'max' }), (steps) => isTheSame(profile, shape, steps))

function isTheSame(profile: string, shape: Shape, steps: readonly Step[]): void {
  const [slow, quick] = [machineOf(profile, true), machineOf(profile, false)]
  for (const operation of setUp(shape)) {
    expect(slow.perform(operation)).toMatchObject({ rule: expect.not.stringMatching(/unmodelled/) })
    quick.perform(operation)
  }
  let at = 0
  for (const operation of [...steps.flatMap((s) => operationsOf(s, shape.guestShift)), ...CLOSE]) {
    expect(quick.perform(operation)).toEqual(slow.perform(operation))
    expect(records(quick, at)).toEqual(records(slow, at))
    at = slow.log.length
  }
}

const SHAPES: readonly (readonly [string, Shape])[] = [
  ['intended', { guestShift: 16n, pageShift: 16n, levels: 1n }],
  ['intended', { guestShift: 16n, pageShift: 12n, levels: 2n }],
  ['intended', { guestShift: 18n, pageShift: 16n, levels: 3n }],
  ['linux-6.12.95', { guestShift: 16n, pageShift: 16n, levels: 2n }],
  ['linux-6.12.95', { guestShift: 17n, pageShift: 12n, levels: 1n }],
  ['linux-5.3', { guestShift: 16n, pageShift: 16n, levels: 1n }],
]

afterEach(() => {
  vi.restoreAllMocks()
})

describe('the short way', () => {
  it.each(SHAPES)('%s %o: nobody can tell it from the long one', (profile, shape) => {
    fc.assert(holds(profile, shape), { numRuns: 25 })
  })

  it('poison that leads to page 0 of the host changes no entry (X2)', () => {
    const poison = { page: 0n, perm: 0n, odd: 0n }
    const shape = { guestShift: 17n, pageShift: 16n, levels: 2n }
    const put = { op: 'put', at: 9n, tces: [{ ...poison, perm: 3n }] } as const
    isTheSame('linux-6.12.95', shape, [put, { op: 'list', at: 0n, tces: [poison, poison] }])
  })

  // Each of its parts is gone, and that it is gone is noticed: so each is gone into, and counts.
  const [profile, shape] = SHAPES[0] as (typeof SHAPES)[number]
  it.each([
    ['mapOne', () => true],
    ['unmapOne', () => true],
    ['map', (_: number, count: number) => count],
    ['unmap', (_: number, count: number) => count],
    ['mapList', (_: number, _list: unknown, from: number, npages: number) => npages - from],
  ] as const)('is noticed where %s does nothing', (name, instead) => {
    vi.spyOn(LentPages.prototype, name).mockImplementation(instead as never)
    const { failed } = fc.check(holds(profile, name === 'map' ? SHAPES[1]![1] : shape), {
      ...{ numRuns: 100, seed: 1, endOnFailure: true },
    })
    expect(failed).toBe(true)
  })
})
