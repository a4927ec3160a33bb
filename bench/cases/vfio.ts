import type { Answer } from '../../src/bits/answer.ts'
import {
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_SPAPR_REGISTER_MEMORY,
  VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY,
  VFIO_IOMMU_UNMAP_DMA,
} from '../../src/kernel/vfio/spapr-calls.ts'
import { type CaseGroup, check, type LoopCase, type SetUp } from '../case.ts'
import { GUEST_PAGES, GUEST_UA, HwStand, PAGE_BYTES, WINDOW_BUS } from '../hw-stand.ts'

const LOG2_ENTRIES = 16
const LEVELS = 2
/** Places at which calls map, one after the other. */
const PLACES_MAX = 1024
const READ_WRITE = 3n
const OTHER_UA = GUEST_UA + 2n * BigInt(GUEST_PAGES) * PAGE_BYTES

const isOk = (answer: Answer): number => (answer.code === 'OK' ? 1 : 0)

/** MAP_DMA and UNMAP_DMA of so many pages, at one place after the other. */
const mapCalls =
  (pages: number): SetUp =>
  (operations) => {
    const stand = new HwStand({ records: true })
    const { fd, memory, log } = stand
    const table = stand.ready({ levels: LEVELS, log2Entries: LOG2_ENTRIES })
    const bytes = BigInt(pages) * PAGE_BYTES
    const places = Math.min(PLACES_MAX, GUEST_PAGES / pages)
    const calls = Array.from({ length: places }, (_, i) => {
      const [vaddr, iova] = [GUEST_UA + BigInt(i) * bytes, WINDOW_BUS + BigInt(i) * bytes]
      return {
        map: stand.prepared(VFIO_IOMMU_MAP_DMA, { fd, vaddr, iova, bytes, flags: READ_WRITE }),
        unmap: stand.prepared(VFIO_IOMMU_UNMAP_DMA, { fd, iova, bytes }),
      }
    })
    const region = memory.find(stand.qemu.mm, GUEST_UA, BigInt(GUEST_PAGES) * PAGE_BYTES)
    const rounds = Math.max(1, operations / pages)
    const pass = (): number => {
      let sum = 0
      for (let i = 0; i < rounds; i++) {
        const { map, unmap } = calls[i % places] as (typeof calls)[number]
        sum += isOk(map()) + memory.mappedOf(region)
        sum = (sum + isOk(unmap()) + memory.mappedOf(region)) | 0
      }
      return sum
    }
    // Levels of the table come with the first pages of each.
    for (const { map, unmap } of calls) check(isOk(map()) + isOk(unmap()) === 2, 'the calls go through')
    const before = log.length
    check(isOk((calls[0] as (typeof calls)[number]).map()) === 1, 'pages are mapped')
    table.load(table.offset + pages - 1)
    check((table.tceLo & 3) === 3 && memory.mappedOf(region) === pages + 1, 'the last entry is there')
    check(isOk((calls[0] as (typeof calls)[number]).unmap()) === 1, 'pages are unmapped')
    table.load(table.offset + pages - 1)
    check(table.tceLo === 0 && memory.mappedOf(region) === 1, 'the last entry is gone')
    check(log.length - before === 12, 'both calls have six records, however many pages there are')
    return { operations: rounds * pages, pass }
  }

/** REGISTER_MEMORY and UNREGISTER_MEMORY of so many pages that have frames already. */
const registerCalls =
  (pages: number): SetUp =>
  (operations) => {
    const stand = new HwStand({ records: true })
    const { fd, qemu } = stand
    stand.ready({ levels: LEVELS, log2Entries: LOG2_ENTRIES })
    const bytes = BigInt(pages) * PAGE_BYTES
    stand.mmap(OTHER_UA, bytes)
    const args = { fd, vaddr: OTHER_UA, bytes }
    const register = stand.prepared(VFIO_IOMMU_SPAPR_REGISTER_MEMORY, args)
    const unregister = stand.prepared(VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, args)
    const rounds = Math.max(1, operations / pages)
    const before = qemu.mm.locked.pages
    check(isOk(register()) === 1, 'memory is registered')
    check(Number(qemu.mm.locked.pages - before) === pages, 'and charged')
    check(isOk(unregister()) === 1 && qemu.mm.locked.pages === before, 'and given up')
    return {
      operations: rounds * pages,
      pass(): number {
        let sum = 0
        for (let i = 0; i < rounds; i++) sum = (sum + isOk(register()) + isOk(unregister())) | 0
        return sum
      },
    }
  }

const PAGES = [1, 16, 256, GUEST_PAGES]
const sizeOf = (pages: number): string =>
  pages < 16 ? `${pages * 64}K` : pages < GUEST_PAGES ? `${pages / 16}M` : `${pages / GUEST_PAGES}G`

const mapCase = (pages: number): LoopCase => ({
  id: `vfio/map/${sizeOf(pages)}`,
  operation: 'page there and back',
  operations: pages === 1 ? 1 << 15 : pages === 16 ? 1 << 18 : 1 << 19,
  setUp: mapCalls(pages),
  peer: { label: 'C', floor: ['vfio-map', LOG2_ENTRIES, LEVELS, pages], sameSum: true },
})

const registerCase = (pages: number): LoopCase => ({
  id: `vfio/register/${sizeOf(pages)}`,
  operation: 'page there and back',
  operations: pages === 1 ? 1 << 15 : pages === 16 ? 1 << 18 : 1 << 19,
  setUp: registerCalls(pages),
  peer: { label: 'C', floor: ['register', pages], sameSum: true },
})

export const VFIO: CaseGroup = {
  title: 'VFIO calls',
  note:
    'Ours: whole ioctls, structures copied in, records on: MAP_DMA and UNMAP_DMA (REGISTER_MEMORY and ' +
    'UNREGISTER_MEMORY) of so much memory in pages of 64K, the cost of a page in both calls. C: for each page the ' +
    'same look-ups and the same atomic exchanges and counts over tables of two levels with their user addresses; no ' +
    'call, no records, no cache to be told. A registration is in C a walk through a page table, a count for each page ' +
    'and an array that is filled.',
  cases: [...PAGES.map(mapCase), ...PAGES.map(registerCase)],
}
