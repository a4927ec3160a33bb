import { describe, expect, it } from 'vitest'
import { FLUSH_SCOPE } from '../../../src/trace/event-codes.ts'
import { A, B, PASID, SvmWorld } from './svm-world.ts'

const IOVA = 0x1000n
const DOMAIN = 3
const [LEAF, L2, L3, PGD] = [0x210, 0x211, 0x212, 0x200]
const LEAF_ENTRY = BigInt(LEAF * 4096 + 8)
const RULES = ['early-reuse', 'freed-table-walked', 'stale-translation', 'stale-device-tlb']

/** A device reads a page of process P: extended mode, 4 levels. */
function used(w: SvmWorld) {
  w.root({ mode: 2 })
  w.bound()
  w.context({ source: A, domain: DOMAIN })
  w.walk(IOVA, { stage: 1, source: A, pasid: PASID, tables: { t1: LEAF, t2: L2, t3: L3, t4: PGD } })
  const entry = w.fill(IOVA, 0x5000n, { source: A, domain: DOMAIN, pasid: PASID })
  w.translate(entry, IOVA, { source: A, pasid: PASID, need: 1, target: 0x5000n })
  return entry
}

const flushed = (w: SvmWorld, isComplete = true) => {
  w.flush(FLUSH_SCOPE.PASID, { domain: DOMAIN, pasid: PASID })
  if (isComplete) w.wait()
}
const use = (w: SvmWorld, entry: number) =>
  w.translate(entry, IOVA, { source: A, pasid: PASID, need: 1, target: 0x5000n })

describe('page tables of a process', () => {
  it.each([
    ['without a flush', () => {}, ['early-reuse']],
    ['before the flush is complete', (w: SvmWorld) => flushed(w, false), ['early-reuse']],
    ['behind the flush', (w: SvmWorld) => flushed(w), []],
    [
      'behind a flush of leaves only',
      (w: SvmWorld) => {
        const pages = { domain: DOMAIN, pasid: PASID, iova: IOVA, bytes: 0x1000n, hint: 1 }
        w.flush(FLUSH_SCOPE.PASID_PAGES, pages)
        w.wait()
      },
      ['early-reuse'],
    ],
    [
      'behind a flush of another PASID',
      (w: SvmWorld) => {
        w.flush(FLUSH_SCOPE.PASID, { domain: DOMAIN, pasid: PASID + 1 })
        w.wait()
      },
      ['early-reuse'],
    ],
  ])('are given back %s', (_, before, rules) => {
    const w = new SvmWorld({ rules: RULES })
    used(w)
    before(w)
    w.mmTable(LEAF, 1, 0)
    expect(w.rules()).toEqual(rules)
  })

  it('that are given back are not walked', () => {
    const w = new SvmWorld({ rules: RULES })
    used(w)
    flushed(w)
    const freed = w.mmTable(LEAF, 1, 0)
    const walk = w.walk(0x2000n, { stage: 1, source: A, pasid: PASID, tables: { t1: LEAF } })
    const [finding] = w.found()
    expect(w.rules()).toEqual(['freed-table-walked'])
    expect(finding?.because.map((e) => e.seq)).toEqual([freed, walk])
  })

  it('that are tables again may be walked', () => {
    const w = new SvmWorld({ rules: RULES })
    used(w)
    flushed(w)
    w.mmTable(LEAF, 1, 0)
    w.mmTable(LEAF, 1, 1, 'Q')
    w.walk(0x2000n, { stage: 1, source: B, pasid: 6, tables: { t1: LEAF } })
    expect(w.found()).toEqual([])
  })

  it('that no unit has read may go at once', () => {
    const w = new SvmWorld({ rules: RULES })
    used(w)
    w.mmTable(0x300, 1, 0)
    expect(w.found()).toEqual([])
  })
})

describe('a page of a process', () => {
  const unmapped = (w: SvmWorld) => w.word(LEAF_ENTRY, 0x5027n, 0n)

  it('that is unmapped, flushed and given to somebody else', () => {
    const w = new SvmWorld({ rules: RULES })
    used(w)
    unmapped(w)
    flushed(w)
    w.own(5, 1, 'Q', { space: 'hpa' })
    expect(w.found()).toEqual([])
  })

  it('that goes to somebody else while the device reaches it', () => {
    const w = new SvmWorld({ rules: RULES })
    const entry = used(w)
    unmapped(w)
    w.own(5, 1, 'Q', { space: 'hpa' })
    use(w, entry)
    expect(w.rules()).toEqual(['early-reuse', 'stale-translation'])
    expect(w.found()[0]?.message).toContain('memory 0x5000 goes to Q while vtd may still reach it')
  })
})
