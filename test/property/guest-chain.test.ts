import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createMachine } from '../../src/machine/create-machine.ts'
import type { Operation } from '../../src/machine/operation.ts'
import type { GuestInput } from '../../src/machine/powernv/guest-description.ts'
import { TimeTravel } from '../../src/machine/time-travel.ts'
import { BUID, GUEST_BYTES, LIOBN, makeVmm } from '../support/vmm.ts'

const PAGES = 8
const DDW_BUS = 1n << 59n
/** Every page of memory that a mapping may lead to begins with its own number. */
const pageText = (page: bigint): string => `p${page.toString(16).padStart(4, '0')}`

interface Place {
  readonly liobn: bigint
  readonly bus: bigint
  readonly shift: bigint
}
/** What a read that is refused delivers. */
const NOTHING = 'hex:0000000000'

/** The default window with pages of 4 KiB, and a second one with 64 KiB. */
const PLACES: readonly Place[] = [
  { liobn: LIOBN, bus: 0n, shift: 12n },
  { liobn: LIOBN + 1n, bus: DDW_BUS, shift: 16n },
]

const place = fc.constantFrom(...PLACES)
const page = fc.integer({ min: 0, max: PAGES - 1 }).map(BigInt)
const memoryPage = fc.integer({ min: 0, max: 15 }).map(BigInt)
/** Mostly good TCEs; some with odd bits, without permissions, or beyond memory. */
const tceFor = ({ shift }: Place) =>
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.tuple(memoryPage, fc.constantFrom(1n, 2n, 3n)).map(([p, perm]) => (p << shift) | perm),
    },
    { weight: 2, arbitrary: fc.constant(0n) },
    { weight: 1, arbitrary: memoryPage.map((p) => (p << shift) | 0x103n) },
    { weight: 1, arbitrary: memoryPage.map((p) => p << shift) },
    { weight: 1, arbitrary: fc.constant(GUEST_BYTES | 3n) },
  )
const iobaFor = (at: Place) =>
  fc.oneof(
    { weight: 8, arbitrary: page.map((p) => at.bus + (p << at.shift)) },
    { weight: 1, arbitrary: page.map((p) => at.bus + (p << at.shift) + 0x400n) },
    { weight: 1, arbitrary: fc.constant(at.bus + (1n << 30n)) },
  )

const hcall = (call: string, args: Operation['args']): Operation[] => [{ verb: 'hcall', call, args }]

const step = place.chain((at) => {
  const { liobn } = at
  const npages = fc.integer({ min: 0, max: 4 }).map(BigInt)
  return fc.oneof(
    fc.record({ ioba: iobaFor(at), tce: tceFor(at) }).map((a) => hcall('H_PUT_TCE', { liobn, ...a })),
    fc
      .record({ ioba: iobaFor(at), value: fc.constantFrom(0n, 0n, 0x70_0000n, 1n), npages })
      .map((a) => hcall('H_STUFF_TCE', { liobn, ...a })),
    fc
      .record({ ioba: iobaFor(at), list: fc.array(tceFor(at), { minLength: 1, maxLength: 4 }) })
      .map(({ ioba, list }): Operation[] => [
        {
          verb: 'mem',
          call: 'write',
          args: {
            space: 'ua',
            address: 0x1_0000_0000n + GUEST_BYTES - 0x1000n,
            data: `hex: ${list.map((t) => t.toString(16).padStart(16, '0')).join(' ')}`,
          },
        },
        ...hcall('H_PUT_TCE_INDIRECT', {
          liobn,
          ioba,
          list: GUEST_BYTES - 0x1000n,
          npages: BigInt(list.length),
        }),
      ]),
    iobaFor(at).map((ioba) => hcall('H_GET_TCE', { liobn, ioba })),
  )
})

/** Two windows, and memory in which every page says which it is. */
function started(guest: GuestInput, profile = 'intended') {
  const phbs = [
    { freeze: 'none', pes: [{ devices: [{ name: 'nic0', kind: 'edu', dmaMask: 2n ** 64n - 1n }] }] },
  ] as const
  const below = [{ groups: [0], windowBytes: 1n << 20n }]
  const world = makeVmm({ profile: 'intended', phbs: below, ...guest }, { profile, phbs })
  world.vmm('start')
  for (let p = 0n; p < 16n; p++) {
    world.write(p << 16n, pageText(p << 4n))
    if (p > 0n) world.write(p << 12n, pageText(p))
  }
  world.createWindow(16n, 24n)
  return world
}

/** All entries that a guest can read, and what its device gets through them. */
function seen({ get, read }: ReturnType<typeof started>) {
  return PLACES.flatMap(({ liobn, bus, shift }) =>
    Array.from({ length: PAGES }, (_, p) => {
      const at = bus + (BigInt(p) << shift)
      const tce = get(at, liobn).outputs['tce'] as bigint
      return [tce, read(at).outputs['data']] as const
    }),
  )
}

const ROADS: Readonly<Record<string, [GuestInput, string]>> = {
  'KVM and the hardware table behind it': [{}, 'intended'],
  'KVM without lists': [{ hasMultiTce: false }, 'intended'],
  'KVM that has no table of VFIO': [{}, 'no-tce-vfio'],
  'QEMU alone': [{ hasKvm: false }, 'intended'],
}

describe('a guest’s hypercalls, by whatever way they are answered', () => {
  it('have the same answers, leave the same table, and let the device reach the same memory', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 12 }), (steps) => {
        const results = Object.values(ROADS).map(([guest, profile]) => {
          const world = started(guest, profile)
          const answers = steps.flat().map((operation) => {
            const { code, outputs } = world.machine.perform(operation)
            return [operation.call, code, outputs]
          })
          return { answers, seen: seen(world) }
        })
        for (const result of results) expect(result).toEqual(results[0])
      }),
      { numRuns: 40, seed: 4 },
    )
  })

  it('are what a list of entries says: live ones lead to their page, others nowhere', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 12 }), (steps) => {
        const world = started({})
        for (const operation of steps.flat()) world.machine.perform(operation)
        for (const [at, [tce, data]] of seen(world).entries()) {
          const { shift } = PLACES[at < PAGES ? 0 : 1]!
          if ((tce & 3n) === 0n) expect([tce, data]).toEqual([tce, NOTHING])
          else expect([tce, data]).toEqual([tce, pageText((tce >> shift) << (shift - 12n))])
        }
      }),
      { numRuns: 40, seed: 5 },
    )
  })

  it('with the errata of a real kernel and a real QEMU: go back, and are the same again', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 2, maxLength: 6 }), (steps) => {
        const world = makeVmm(
          { phbs: [{ groups: [0], windowBytes: 1n << 20n }] },
          { profile: 'linux-6.12.95' },
        )
        const begin: Operation[] = [
          { verb: 'vmm', call: 'start', args: {} },
          {
            verb: 'rtas',
            call: 'ibm,create-pe-dma-window',
            args: { cfg_addr: 0n, buid: BUID, page_shift: 16n, window_shift: 24n },
          },
        ]
        const end: Operation[] = [
          { verb: 'vmm', call: 'device_del', args: { group: 0n } },
          { verb: 'vmm', call: 'system_reset', args: {} },
        ]
        const operations = [...begin, ...steps.flat(), ...end]
        const make = () => createMachine(world.machine.description, { journal: true })
        const straight = make()
        const marks = operations.map((operation) => {
          straight.perform(operation)
          return { seq: straight.log.length - 1, hash: straight.journal.hash }
        })
        const travel = new TimeTravel(make, operations)
        for (const at of [marks.length - 1, 1, marks.length - 2, 0, marks.length - 1]) {
          const { seq, hash } = marks[at]!
          expect([at, travel.goTo(seq).journal.hash]).toEqual([at, hash])
        }
      }),
      { numRuns: 12, seed: 6 },
    )
  })
})
