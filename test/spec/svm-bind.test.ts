import { describe, expect, it } from 'vitest'
import type { Answer } from '../../src/bits/answer.ts'
import type { RuleOf } from '../../src/bits/call.ts'
import {
  SVM_BIND,
  SVM_IS_VALID,
  SVM_UNBIND,
  SVM_VFREE,
  SVM_VMALLOC,
} from '../../src/kernel/intel-iommu/svm/calls.ts'
import { testRules } from '../support/rule-table.ts'
import { CM, SRS, SVM_CAP, SVM_ECAP, type SvmWorldOptions, svmWorld } from '../support/svm.ts'

type World = ReturnType<typeof svmWorld>

/** Device a in domain 3, as in the examples of the manual. */
function attached(options: SvmWorldOptions = {}): World {
  const world = svmWorld(options)
  for (const device of ['a', 'b']) world.iommu('attach', { device, domain: 3n })
  world.takeSent()
  return world
}

const bind = (world: World, args: Parameters<World['svmCall']>[1] = {}): Answer =>
  world.svmCall('bind', { device: 'a', ...args })

const bound = (options: SvmWorldOptions = {}): World => {
  const world = attached(options)
  bind(world)
  world.takeSent()
  return world
}

const VMALLOC = 0xffff_c900_0000_0000n
const NO_PASIDS = SVM_ECAP & ~(1n << 40n)

describe('svm bind', () => {
  testRules(SVM_BIND, {
    'no-unit': () => [
      bind(attached(), { device: 'x' }),
      bind(attached({ ecap: NO_PASIDS }), { device: 'x', supervisor: true }),
    ],
    'no-tables': () => [
      bind(attached({ ecap: NO_PASIDS }), { device: 'c' }),
      bind(attached({ maxOrder: 7 }), { supervisor: true }),
    ],
    'no-pasids': () => [bind(attached(), { device: 'c', supervisor: true })],
    'no-supervisor': () => [bind(attached(), { supervisor: true, pasid: false })],
    'pasid-too-wide': () => {
      // Private ones take PASIDs 0 to 3; b has two bits of them.
      const world = attached({ pasidBits: 2 })
      for (let n = 0; n < 4; n++) bind(world, { private: true })
      bind(world)
      return [bind(world, { device: 'b', ops: 'other' })]
    },
    'other-ops': () => [bind(bound(), { ops: 'other' })],
    'no-domain': () => {
      const world = svmWorld({ tablePages: 3 })
      return [bind(world), bind(world, { pasid: false })]
    },
    prepared: () => [bind(attached(), { pasid: false }), bind(bound(), { pasid: false, ops: 'other' })],
    'no-pasid-left': () => {
      const world = attached({ pasidBits: 2 })
      const taken = [0, 1, 2].map(() => bind(world, { device: 'b', private: true }).code)
      expect(taken).toEqual(['OK', 'OK', 'OK'])
      return [bind(world, { device: 'b', private: true })]
    },
    'no-notifier': () => {
      const world = attached()
      world.processes.of('P').errno = -12
      return [bind(world)]
    },
    done: () => [
      bind(attached()),
      bind(bound()),
      bind(bound(), { device: 'b', ops: 'other' }),
      bind(bound(), { private: true, ops: 'other' }),
      bind(svmWorld()),
      bind(attached({ ecap: SVM_ECAP | SRS }), { supervisor: true }),
    ],
  } satisfies Record<RuleOf<typeof SVM_BIND>, () => Answer[]>)

  it('points the entry to the page table, leaves mm_users, takes mm_count', () => {
    const world = attached()
    expect(bind(world)).toMatchObject({ outputs: { pasid: 0n } })
    const { users, count, notifiers } = world.processes.of('P')
    expect([users, count, notifiers.length]).toEqual([1, 2, 1])
    expect(entryOf(world, 0)).toBe(0x30_0001n)
    // PASIDE is set while the entry is present: only its context is flushed, nothing of the PASID.
    expect(world.takeSent()).toEqual([[0x0000_0310_0003_0031n, 0n]])
  })

  it('gives an entry of the kernel the right of supervisors, and no notifier (V27)', () => {
    const world = attached({ ecap: SVM_ECAP | SRS })
    world.world.actor = ''
    bind(world, { supervisor: true })
    expect(entryOf(world, 0)).toBe(0x3a_2801n)
    expect(bind(world, { device: 'b', supervisor: true }).outputs).toEqual({ pasid: 0n })
  })

  it('in caching mode PASIDs begin at 1, and the entry is flushed as PASID 0', () => {
    const world = attached({ cap: SVM_CAP | CM })
    expect(bind(world).outputs).toEqual({ pasid: 1n })
    expect(world.takeSent().at(-1)).toEqual([0x3_0017n, 0n])
  })

  it('tables of 4.x are 1 MiB each where the unit has 20 bits of PASIDs', () => {
    const world = svmWorld()
    expect(world.pages.taken).toEqual([
      [0x400, 8],
      [0x500, 0],
    ])
    expect(svmWorld({ ecap: (SVM_ECAP & ~(31n << 35n)) | (9n << 35n) }).pages.taken[0]).toEqual([0x400, 1])
  })

  it('a caller without an address space ends the kernel', () => {
    const world = attached()
    world.world.actor = ''
    expect(bind(world)).toMatchObject({ state: 'dead' })
    expect(bind(attached(), { supervisor: false, pasid: false }).rule).toBe('prepared')
  })

  it('changes the type of an entry that passes through, which blocks PASIDs, and then switches the device on', () => {
    const world = svmWorld()
    world.iommu('attach', { device: 'a', domain: 3n, kind: 'identity' })
    expect(world.endpoints[0]?.hasAts).toBe(false)
    bind(world)
    expect(world.endpoints[0]?.hasAts).toBe(true)
    const context = world.unit.translator
    expect(context.findContext(0x310)).toBe(0)
    expect(context.context).toMatchObject({
      type: 5,
      hasPasid: true,
      hasPageRequests: true,
      pasids: 0x2_0000,
    })
  })

  it.each([
    ['PSS 19', 19n, 0, 0x2_0000, 0xb],
    ['PSS 16, of which one bit is beyond PTS as well', 16n, 0, 0x2_0000, 0xb],
    ['PSS 9: the unit takes the table for 16 times as large', 9n, 0, 0x400, 0],
  ])('S23, V25: %s, as PTS has it, and as it is', (_what, pss, right, pasids, wrong) => {
    const ecap = (SVM_ECAP & ~(0x1fn << 35n)) | (pss << 35n)
    const find = (errata: readonly string[]) => {
      const world = attached({ ecap, errata })
      bind(world)
      return [world.unit.translator.findContext(0x310), world.unit.translator.context.pasids]
    }
    expect(find([])).toEqual([right, pasids])
    const [fault, seen] = find(['svm-raw-pts'])
    expect([fault, wrong === 0 ? seen : 0]).toEqual([wrong, wrong === 0 ? 0x4000 : 0])
  })
})

const entryOf = ({ memory, svm }: World, pasid: number): bigint => {
  memory.loadU64le(svm.tables.table + (pasid >> 9), (pasid & 511) * 8)
  return (BigInt(memory.wordHi) << 32n) | BigInt(memory.wordLo >>> 0)
}

const unbind = (world: World, args: Parameters<World['svmCall']>[1] = {}): Answer =>
  world.svmCall('unbind', { device: 'a', pasid: 0n, ...args })

describe('svm unbind', () => {
  testRules(SVM_UNBIND, {
    'no-unit': () => [unbind(svmWorld({ maxOrder: 7 }), { device: 'x' })],
    'no-tables': () => [unbind(svmWorld({ maxOrder: 7 }))],
    'pasid-unknown': () => [unbind(attached()), unbind(bound(), { pasid: 1n })],
    'not-bound': () => [unbind(bound(), { device: 'b' })],
    'still-bound': () => {
      const world = bound()
      bind(world)
      return [unbind(world)]
    },
    done: () => {
      const world = bound()
      bind(world, { device: 'b' })
      return [unbind(world), unbind(world, { device: 'b' })]
    },
  } satisfies Record<RuleOf<typeof SVM_UNBIND>, () => Answer[]>)

  it('flushes the entry, the PASID, then the TLB of the device; then the entry goes', () => {
    const world = bound()
    unbind(world)
    expect(world.takeSent()).toEqual([
      [0x3_0017n, 0n],
      [0x3_0026n, 0n],
      [0x0310_0008n, 0x7fff_ffff_ffff_f800n],
    ])
    expect(entryOf(world, 0)).toBe(0n)
    const { users, count, notifiers } = world.processes.of('P')
    expect([users, count, notifiers.length]).toEqual([1, 1, 0])
    expect(world.svm.bindings.all).toEqual([])
  })

  it('of the kernel flushes all PASIDs with their global pages', () => {
    const world = attached({ ecap: SVM_ECAP | SRS })
    bind(world, { supervisor: true })
    world.takeSent()
    unbind(world)
    expect(world.takeSent()[1]).toEqual([0x3_0006n, 0n])
    expect(entryOf(world, 0)).toBe(0n)
  })

  it('an address space that has ended is only let go', () => {
    const world = bound()
    world.work(world.processes.of('P').put())
    expect(entryOf(world, 0)).toBe(0n)
    expect(world.takeSent()).toHaveLength(3)
    expect(unbind(world).rule).toBe('done')
    expect(world.processes.of('P')).toMatchObject({ users: 0, count: 0 })
    // Its flushes were sent again, and the PASID goes to the next one.
    expect(world.takeSent()).toHaveLength(3)
    world.world.actor = 'Q'
    expect(bind(world).outputs).toEqual({ pasid: 0n })
  })

  it('goes back with the undo log', () => {
    const world = bound()
    const mark = world.journal.mark()
    const before = world.journal.hash
    unbind(world)
    expect(world.svm.bindings.find(0)).toBeUndefined()
    world.journal.rollback(mark)
    expect(world.journal.hash).toBe(before)
    expect(world.svm.bindings.find(0)?.devices).toHaveLength(1)
  })
})

const isValid = (world: World, args: Parameters<World['svmCall']>[1] = {}): Answer =>
  world.svmCall('is_pasid_valid', { device: 'a', pasid: 0n, ...args })

describe('svm is_pasid_valid', () => {
  testRules(SVM_IS_VALID, {
    'no-unit': () => [isValid(svmWorld({ maxOrder: 7 }), { device: 'x' })],
    'no-tables': () => [isValid(svmWorld({ maxOrder: 7 }))],
    'pasid-unknown': () => [isValid(attached())],
    kernel: () => {
      const world = attached({ ecap: SVM_ECAP | SRS })
      bind(world, { supervisor: true })
      return [isValid(world)]
    },
    alive: () => [isValid(bound()), isValid(bound(), { device: 'b' })],
    dead: () => {
      const world = bound()
      world.work(world.processes.of('P').put())
      return [isValid(world)]
    },
  } satisfies Record<RuleOf<typeof SVM_IS_VALID>, () => Answer[]>)
})

describe('svm vmalloc, vfree', () => {
  const kernel = (options: SvmWorldOptions = {}) => attached({ ecap: SVM_ECAP | SRS, ...options })
  const vmalloc = (world: World, bytes: bigint) => world.svmCall('vmalloc', { bytes })
  const vfree = (world: World, address = VMALLOC) => world.svmCall('vfree', { address })
  testRules(SVM_VMALLOC, {
    'no-bytes': () => [vmalloc(kernel(), 0n), vmalloc(kernel({ maxOrder: -1 }), (1n << 30n) + 1n)],
    'no-memory': () => [vmalloc(kernel({ maxOrder: -1 }), 1n)],
    done: () => [vmalloc(kernel(), 1n), vmalloc(kernel(), 0x3000n)],
  } satisfies Record<RuleOf<typeof SVM_VMALLOC>, () => Answer[]>)
  testRules(SVM_VFREE, {
    'no-area': () => {
      const world = kernel()
      vmalloc(world, 0x2000n)
      return [vfree(kernel()), vfree(world, VMALLOC + 0x1000n)]
    },
    done: () => {
      const world = kernel()
      vmalloc(world, 1n)
      return [vfree(world)]
    },
  } satisfies Record<RuleOf<typeof SVM_VFREE>, () => Answer[]>)

  it('areas have a page between them, and the first hole that fits', () => {
    const world = kernel()
    const at = (bytes: bigint) => vmalloc(world, bytes).outputs['address']
    expect([at(0x1001n), at(1n), at(1n)]).toEqual([VMALLOC, VMALLOC + 0x3000n, VMALLOC + 0x5000n])
    vfree(world, VMALLOC)
    expect([at(0x2001n), at(0x2000n)]).toEqual([VMALLOC + 0x7000n, VMALLOC])
  })

  it('freeing flushes the PASIDs of the kernel, before the pages go', () => {
    const world = kernel()
    bind(world, { supervisor: true })
    world.world.actor = 'P'
    bind(world)
    vmalloc(world, 1n)
    world.takeSent()
    vfree(world)
    expect(world.takeSent().map(([lo]) => lo)).toEqual([0x3_0017n, 0x3_0006n, 0x0310_0008n])
    expect(world.pages.freed).toHaveLength(1)
    const other = kernel({ errata: ['svm-supervisor'] })
    bind(other, { supervisor: true })
    vmalloc(other, 1n)
    other.takeSent()
    vfree(other)
    expect(other.takeSent()).toEqual([])
  })
})
