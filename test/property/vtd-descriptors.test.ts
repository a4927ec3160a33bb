import fc from 'fast-check'
import { expect, it } from 'vitest'
import { Journal } from '../../src/bits/state.ts'
import { readDescriptor } from '../../src/hw/vtd/invalidation.ts'
import {
  contextDescriptor,
  deviceTlbDescriptor,
  domainDescriptor,
  pagesDescriptor,
  waitDescriptor,
} from '../../src/kernel/intel-iommu/descriptors.ts'
import { IovaTree } from '../../src/kernel/qemu/iova-tree.ts'

const u16 = fc.nat(0xffff)

it('descriptors say what they were made of', () => {
  fc.assert(
    fc.property(u16, u16, fc.bigInt(0n, (1n << 62n) - 1n), (domain, source, word) => {
      expect(readDescriptor(...contextDescriptor(domain, source))).toEqual({
        what: 'context',
        scope: 'device',
        domain,
        source,
        functionMask: 0,
      })
      expect(readDescriptor(...domainDescriptor(domain))).toEqual({ what: 'iotlb', scope: 'domain', domain })
      expect(readDescriptor(...waitDescriptor(word << 2n))).toEqual({
        what: 'wait',
        address: word << 2n,
        data: 2,
      })
    }),
  )
})

it('a flush of a device-TLB covers its block, and nothing else', () => {
  fc.assert(
    fc.property(u16, fc.nat(51), fc.bigInt(0n, (1n << 52n) - 1n), (source, order, page) => {
      const pages = 1n << BigInt(order)
      const iova = (page - (page % pages)) << 12n
      const read = readDescriptor(...deviceTlbDescriptor(source, iova, order))
      expect(read).toEqual({
        what: 'device-tlb',
        source,
        range: { iova, last: iova + (pages << 12n) - 1n },
      })
    }),
  )
})

it('a flush of pages is the smallest aligned block that holds them', () => {
  const page = fc.nat(2 ** 36 - 2 ** 20)
  fc.assert(
    fc.property(u16, page, fc.integer({ min: 1, max: 2 ** 19 }), (domain, first, count) => {
      const made = pagesDescriptor(domain, first, first + count)
      const holds = (mask: number) =>
        Math.floor(first / 2 ** mask) === Math.floor((first + count - 1) / 2 ** mask)
      if (made === undefined) {
        expect(holds(18)).toBe(false)
        return
      }
      const read = readDescriptor(...made)
      expect(read).toMatchObject({
        what: 'iotlb',
        scope: 'pages',
        domain,
        address: BigInt(first) << 12n,
      })
      const mask = (read as { addressMask: number }).addressMask
      expect(holds(mask)).toBe(true)
      if (mask > 0) expect(holds(mask - 1)).toBe(false)
    }),
  )
})

interface Range {
  readonly first: number
  readonly end: number
  readonly target: number
  readonly perm: number
}

const range: fc.Arbitrary<Range> = fc
  .record({
    first: fc.nat(200),
    pages: fc.oneof(
      fc.constant(1),
      fc.nat(30).map((n) => n + 1),
    ),
    target: fc.oneof(fc.nat(100), fc.constantFrom(2 ** 30 - 1, 2 ** 30, 2 ** 36 - 1, 2 ** 40)),
    perm: fc.constantFrom(1, 2, 3),
  })
  .map(({ first, pages, target, perm }) => ({ first, end: first + pages, target, perm }))

it('the tree of what is mapped is a plain list of ranges, and goes back', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), range), { maxLength: 60 }), (steps) => {
      const journal = new Journal()
      journal.on = true
      const tree = new IovaTree(journal, 'net0')
      const start = [journal.mark(), journal.hash] as const
      let naive: Range[] = []
      for (const [isInsert, r] of steps) {
        const touching = naive.filter((n) => n.first < r.end && r.first < n.end)
        expect(tree.overlaps(r.first, r.end)).toBe(touching.length > 0)
        const isSame = touching.some(
          (n) => n.first === r.first && n.end === r.end && n.target === r.target && n.perm === r.perm,
        )
        expect(tree.holds(r.first, r.end, r.target, r.perm)).toBe(isSame)
        tree.remove(r.first, r.end)
        naive = naive.filter((n) => !touching.includes(n))
        if (isInsert) {
          tree.insert(r.first, r.end, r.target, r.perm)
          naive.push(r)
        }
        expect(tree.count).toBe(naive.length)
        for (const n of naive) expect(tree.holds(n.first, n.end, n.target, n.perm)).toBe(true)
      }
      journal.rollback(start[0])
      expect([tree.count, journal.hash]).toEqual([0, start[1]])
    }),
  )
})
