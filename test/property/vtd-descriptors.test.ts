import fc from 'fast-check'
import { expect, it } from 'vitest'
import { Journal } from '../../src/bits/state.ts'
import { NO_PASID } from '../../src/hw/vtd/ports.ts'
import { type DescriptorRules, readDescriptor } from '../../src/hw/vtd/queue/descriptors.ts'
import {
  contextDescriptor,
  type Descriptor,
  deviceTlbDescriptor,
  GRANULARITY,
  iotlbDescriptor,
  pageMask,
  pasidCacheDescriptor,
  pasidDeviceTlbDescriptor,
  pasidIotlbDescriptor,
  waitDescriptor,
} from '../../src/kernel/intel-iommu/descriptors.ts'
import { IovaTree } from '../../src/kernel/qemu/iova-tree.ts'

const u16 = fc.nat(0xffff)
const pasids = fc.nat(0xf_ffff)
const RULES: DescriptorRules = {
  width: 4,
  layout: 'scalable',
  hasDeviceTlb: true,
  hasInterruptRemapping: true,
  hasPageRequests: true,
  hasPageDrain: true,
  hasThrottling: true,
  hasPageSelective: true,
  maxOrder: 63,
}
/** What a unit reads in a descriptor of the driver. */
const read = (descriptor: Descriptor) => readDescriptor([...descriptor, 0n, 0n].slice(0, 4), RULES)
const what = (descriptor: Descriptor) => {
  const is = read(descriptor)
  return typeof is === 'object' && is.kind === 'invalidate' ? is.what : is
}
const target = (source: number, depth = 4) => ({ source, physical: 0, depth })
const drains = { reads: true, writes: true }

it('descriptors say what they were made of', () => {
  fc.assert(
    fc.property(u16, u16, pasids, fc.bigInt(0n, (1n << 62n) - 1n), (domain, source, pasid, word) => {
      expect(what(contextDescriptor(domain, source, GRANULARITY.FINE))).toMatchObject({
        ...{ what: 'context', scope: 'fine', domain, source, functionMask: 0 },
      })
      expect(what(iotlbDescriptor({ domain, g: GRANULARITY.DOMAIN }, drains))).toMatchObject({
        ...{ what: 'iotlb', scope: 'domain', domain },
      })
      expect(what(pasidCacheDescriptor(domain, pasid, 'pasid'))).toMatchObject({
        ...{ what: 'pasid-cache', scope: 'fine', domain, pasid },
      })
      expect(what(pasidCacheDescriptor(domain, 0, 'domain'))).toMatchObject({
        ...{ what: 'pasid-cache', scope: 'domain', domain, pasid: NO_PASID },
      })
      expect(what(pasidCacheDescriptor(0, 0, 'all'))).toMatchObject({ what: 'pasid-cache', scope: 'all' })
      expect(what(pasidIotlbDescriptor(domain, pasid))).toMatchObject({
        ...{ what: 'pasid-iotlb', scope: 'pasid', domain, pasid },
      })
      expect(read(waitDescriptor(word << 2n, true))).toMatchObject({
        ...{ kind: 'wait', address: word << 2n, data: 2, writesStatus: true, drainsPages: true },
      })
    }),
  )
  expect(what(contextDescriptor(0, 0, GRANULARITY.GLOBAL))).toMatchObject({ scope: 'all' })
})

it('a flush of a device-TLB covers its block, and nothing else', () => {
  fc.assert(
    fc.property(u16, pasids, fc.nat(51), fc.bigInt(0n, (1n << 52n) - 1n), (source, pasid, order, page) => {
      const pages = 1n << BigInt(order)
      const address = (page - (page % pages)) << 12n
      const block = { source, address, order }
      expect(what(deviceTlbDescriptor(target(source), address, order))).toMatchObject(block)
      const ofPasid = what(pasidDeviceTlbDescriptor(target(source), pasid, address, order))
      expect(ofPasid).toMatchObject({ ...block, pasid })
    }),
  )
})

it('a flush of pages is the smallest aligned block that holds them', () => {
  const page = fc.nat(2 ** 36 - 2 ** 20)
  fc.assert(
    fc.property(u16, page, fc.integer({ min: 1, max: 2 ** 19 }), (domain, first, count) => {
      const order = pageMask(first, count)
      const holds = (mask: number) =>
        Math.floor(first / 2 ** mask) === Math.floor((first + count - 1) / 2 ** mask)
      expect(holds(order)).toBe(true)
      expect(order === 0 || 2 ** (order - 1) < count || !holds(order - 1)).toBe(true)
      const address = BigInt(first) << 12n
      const made = iotlbDescriptor({ domain, g: GRANULARITY.FINE, address, order }, drains)
      expect(what(made)).toMatchObject({ what: 'iotlb', scope: 'fine', domain, address, order })
      // The same block in TLBs of devices, from the address as it is.
      const last = BigInt(first + count - 1) << 12n
      const inDevice = what(deviceTlbDescriptor(target(1), address, order)) as {
        address: bigint
        order: number
      }
      expect(inDevice.address <= address).toBe(true)
      expect(last < inDevice.address + (4096n << BigInt(inDevice.order))).toBe(true)
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
