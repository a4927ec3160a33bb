import { describe, expect, it } from 'vitest'
import { sizedAddress } from '../../src/kernel/intel-iommu/svm/flushes.ts'
import { DIS, SVM_CAP, SVM_ECAP, type SvmWorldOptions, svmWorld } from '../support/svm.ts'

const RIGHT = { encodesBelowSize: false, countsPagesInInt: false } as const
const FIRST = { encodesBelowSize: true, countsPagesInInt: true } as const

describe('V12: the address of a device-TLB invalidation says how much it means', () => {
  it.each([
    [0x1_2345_f000n, 2n, 0x1_2345_f000n, 0x1000n],
    [0x1_2344_0000n, 64n, 0x1_2345_f000n, 0n],
    [0x7f00_0000_3000n, 2n, 0x7f00_0000_3000n, undefined],
    [0x7f00_0000_0000n, 512n, 0x7f00_000f_f000n, undefined],
    [0x1000n, 3n, 0x1000n, undefined],
    // S8: 2 GiB from 0.
    [0n, 0x8_0000n, 0x3fff_f000n, 0n],
  ])('%i, %i pages', (address, pages, right, first) => {
    expect(sizedAddress(address, pages, RIGHT)).toBe(right)
    if (first !== undefined) expect(sizedAddress(address, pages, FIRST)).toBe(first)
  })

  it('pages counted in 32 bits mean less from 4 GiB on', () => {
    expect(sizedAddress(0n, 0x10_0002n, RIGHT)).toBe(0xffff_f000n)
    expect(sizedAddress(0n, 0x10_0002n, { ...RIGHT, countsPagesInInt: true })).toBe(0n)
  })
})

/** P is bound to a in domain 3; `told` is what its address space tells. */
function world(options: SvmWorldOptions = {}) {
  const made = svmWorld(options)
  made.iommu('attach', { device: 'a', domain: 3n })
  made.svmCall('bind', { device: 'a' })
  made.takeSent()
  const notifier = () => {
    const [found] = made.processes.of('P').notifiers
    if (found === undefined) throw new Error('nobody listens')
    return found
  }
  const invalidate = (start: bigint, end: bigint) => {
    made.work(notifier().invalidateRange(start, end))
    return made.takeSent()
  }
  const changePte = (address: bigint) => {
    made.work(notifier().changePte(address))
    return made.takeSent()
  }
  return { ...made, invalidate, changePte }
}

const PAGES = 0x3_0036n
const DEVICE = 0x0310_0008n

describe('what changes of an address space flush', () => {
  it('one page of which only the entry changed, with a hint', () => {
    expect(world().changePte(0x12_3000n)).toEqual([
      [PAGES, 0x12_3040n],
      [DEVICE, 0x12_3000n],
    ])
  })

  it('a range that is aligned to its length', () => {
    expect(world().invalidate(0x20_0000n, 0x40_0000n)).toEqual([
      [PAGES, 0x20_0009n],
      [DEVICE, 0x2f_f800n],
    ])
  })

  it('S18: a range that is not, as two blocks; before v5.11 the end was missed', () => {
    const device = [DEVICE, 0x3800n] as const
    expect(world().invalidate(0x3000n, 0x5000n)).toEqual([
      [PAGES, 0x2001n],
      [PAGES, 0x4001n],
      [DEVICE, 0x3800n],
    ])
    expect(world({ errata: ['K4-unaligned-piotlb'] }).invalidate(0x3000n, 0x5000n)).toEqual([
      [PAGES, 0x3001n],
      device,
    ])
  })

  it('S8: 2 GiB at once', () => {
    expect(world().invalidate(0n, 1n << 31n)).toEqual([
      [PAGES, 19n],
      [DEVICE, 0x3fff_f800n],
    ])
  })

  it('S10: pages also on a unit without page-selective invalidation of the second level', () => {
    const cap = SVM_CAP & ~(1n << 39n)
    expect(world({ cap }).invalidate(0x1000n, 0x2000n)[0]).toEqual([PAGES, 0x1000n])
    const first = world({ cap, errata: ['svm-pgsel-cap'] })
    expect(first.invalidate(0x1000n, 0x2000n)[0]).toEqual([0x3_0026n, 0n])
    // Nor more pages than the second level could name.
    const large = world({ errata: ['svm-pgsel-cap'] })
    expect(large.invalidate(0n, 1n << 31n)[0]).toEqual([0x3_0026n, 0n])
    // What it names by pages takes global ones with it.
    expect(large.invalidate(0n, 1n << 30n)[0]).toEqual([PAGES, 0x92n])
  })

  it('S9: all of a PASID, which the first version takes for a page at 0', () => {
    const all = (errata: readonly string[]) => {
      const { svmCall, takeSent } = world({ errata })
      svmCall('unbind', { device: 'a', pasid: 0n })
      return takeSent().filter(([lo]) => lo === DEVICE)
    }
    expect(all([])).toEqual([[DEVICE, 0x7fff_ffff_ffff_f800n]])
    expect(all(['svm-dev-tlb-encoding'])).toEqual([[DEVICE, 0n]])
  })

  it('S17: nothing at first where the unit defers, then what was asked for', () => {
    const { invalidate, memory, svm } = world({ ecap: SVM_ECAP | DIS })
    expect(invalidate(0x1000n, 0x2000n)).toEqual([])
    memory.loadU64le(svm.tables.states, 0)
    expect([memory.wordHi >>> 0, memory.wordLo]).toEqual([0x8000_0000, 0])
    expect(invalidate(0x1000n, 0x2000n)).toHaveLength(2)
    // An active reference.
    memory.storeU64be(svm.tables.states, 0, 0, 0x0100_0000)
    expect(invalidate(0x1000n, 0x2000n)).toHaveLength(2)
  })

  it('S17: a device that uses a PASID again finds nothing of what was put off', () => {
    const made = world({ ecap: SVM_ECAP | DIS })
    const { ats, pri, invalidate, memory, svm, journal } = made
    const state = () => {
      memory.loadU64le(svm.tables.states, 0)
      return (BigInt(memory.wordHi >>> 0) << 32n) | BigInt(memory.wordLo >>> 0)
    }
    const released = () => ats('release_pasid', { device: 'a', pasid: 0n }).rule
    expect(released()).toBe('not-counted')
    // Its first request counts, whatever comes of it; another one does not.
    const ask = () => pri('request', { device: 'a', iova: 0x1000n, pasid: 0n, last: false })
    ask()
    ask()
    expect(state()).toBe(1n << 32n)
    expect(invalidate(0x1000n, 0x2000n)).toHaveLength(2)
    expect(released()).toBe('done')
    expect(state()).toBe(0n)
    expect(invalidate(0x1000n, 0x2000n)).toEqual([])
    const mark = journal.mark()
    ask()
    expect(state()).toBe(1n << 32n)
    journal.rollback(mark)
    expect([released(), ats('release_pasid', { device: 'c', pasid: 0n }).rule]).toEqual([
      'not-counted',
      'no-pasid',
    ])
  })

  it('the table of states is as large as that of PASIDs', () => {
    const made = svmWorld({ ecap: SVM_ECAP | DIS })
    expect(made.pages.taken.slice(0, 2)).toEqual([
      [0x400, 8],
      [0x500, 8],
    ])
  })
})
