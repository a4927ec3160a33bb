import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { NO_PASID } from '../../src/hw/vtd/ports.ts'
import type { Duty } from '../../src/kernel/intel-iommu/duties.ts'
import { drivenWorld } from '../support/vtd-driven.ts'
import { BIT, CAP, ECAP } from '../support/vtd-driver.ts'

const STEPS = 60
/** More of them: `DRIVER_SEEDS=100 npx vitest run test/property/vtd-driver.test.ts`. */
const SEEDS = Number(process.env['DRIVER_SEEDS'] ?? 2)
const DOMAINS = [5, 6]
/** Bus addresses of the test, in pages: two tables of the lowest level, with a large page in each. */
const SPACE = 1024

interface Mapped {
  readonly first: number
  readonly end: number
  readonly target: number
  readonly canWrite: boolean
}

interface Shape {
  readonly name: string
  readonly cap: bigint
  readonly ecap: bigint
  readonly scalable: boolean
}

const BASE = {
  legacy: { cap: CAP.qemu, ecap: ECAP.qemu | BIT.C | BIT.DT, scalable: false },
  'second level': {
    cap: CAP.qemu,
    ecap: (ECAP.modern & ~BIT.FLTS & ~BIT.PRS) | BIT.DT,
    scalable: true,
  },
  'first level': { cap: CAP.modern & ~(1n << 60n), ecap: ECAP.modern & ~BIT.PRS, scalable: true },
} as const

/** Every combination of CM, RWBF, ESRTPS and C over a unit of each kind. */
const SHAPES: readonly Shape[] = Object.entries(BASE).flatMap(([kind, base]) =>
  Array.from({ length: 16 }, (_, n): Shape => {
    const has = (bit: number) => (n >> bit) % 2 === 1
    const cap = base.cap | (has(0) ? BIT.CM : 0n) | (has(1) ? BIT.RWBF : 0n) | (has(2) ? BIT.ESRTPS : 0n)
    const ecap = has(3) ? base.ecap : base.ecap & ~BIT.C & ~BIT.SMPWCS
    const name = `${kind}${['', ' cm'][n % 2]}${has(1) ? ' rwbf' : ''}${has(2) ? ' esrtps' : ''}${has(3) ? ' c' : ''}`
    return { name, cap, ecap, scalable: base.scalable }
  }),
)

/**
 * Random calls of the driver with DMA between them, against a list of what is mapped: the first DMA that does not end
 * where the list says, or undefined.
 */
function firstWrong(shape: Shape, seed: number, forgotten?: Duty): string | undefined {
  const world = drivenWorld(shape)
  const { iommu, dma, devices, guest } = world
  const random = new Prng(seed)
  const isPasids = shape.scalable
  const keyOf = (name: string, pasid: number) => `${name} ${pasid}`
  const below = (n: number) => random.below(n)
  const maps = new Map<number, Mapped[]>(DOMAINS.map((d) => [d, []]))
  const behind = new Map<string, number>()
  /** Where something was mapped, at some time. */
  const used: [first: number, pages: number][] = []
  const begin = () => {
    iommu('start')
    for (const domain of DOMAINS) maps.set(domain, [])
    behind.clear()
  }
  if (forgotten !== undefined) iommu('forget', { duty: forgotten })
  begin()
  const check = (): string | undefined => {
    for (const device of devices) {
      const [first, pages] = used[used.length - 1 - below(Math.max(1, Math.min(used.length, 6)))] ?? [
        0,
        SPACE,
      ]
      const page = below(5) === 0 ? below(SPACE) : first + below(Math.min(pages, 4))
      const isWrite = below(2) === 0
      const pasid = isPasids && below(3) === 0 ? 1 + below(2) : NO_PASID
      const list = maps.get(behind.get(keyOf(device.name, pasid)) ?? 0) ?? []
      const at = list.find((m) => m.first <= page && page < m.end && (m.canWrite || !isWrite))
      const reached = dma(device, page, isWrite, pasid)
      const want = at === undefined ? -1 : at.target + (page - at.first)
      if (reached !== want)
        return `${keyOf(device.name, pasid)} page ${page}: reached ${reached}, not ${want}`
    }
    return undefined
  }
  for (let step = 0; step < STEPS; step++) {
    const domain = DOMAINS[below(DOMAINS.length)] as number
    const list = maps.get(domain) as Mapped[]
    const device = devices[below(devices.length)] as (typeof devices)[number]
    switch (below(isPasids ? 9 : 8)) {
      case 0:
        if (iommu('attach', { device: device.name, domain: BigInt(domain) }).rule === 'done') {
          behind.set(keyOf(device.name, NO_PASID), domain)
        }
        break
      case 1:
        if (below(3) === 0 && iommu('detach', { device: device.name }).rule === 'done') {
          for (const pasid of [NO_PASID, 1, 2]) behind.delete(keyOf(device.name, pasid))
        }
        break
      case 8: {
        const pasid = 1 + below(2)
        const args = { device: device.name, pasid: BigInt(pasid) }
        const isAttach = below(2) === 0
        const { rule } = isAttach
          ? iommu('attach_pasid', { ...args, domain: BigInt(domain) })
          : iommu('detach_pasid', { ...args, silent: below(2) === 0 })
        if (rule !== 'done') break
        if (isAttach) behind.set(keyOf(device.name, pasid), domain)
        else behind.delete(keyOf(device.name, pasid))
        break
      }
      case 2:
      case 3: {
        const isLarge = below(4) === 0
        const first = isLarge ? 512 * below(2) : below(SPACE - 8)
        const pages = isLarge ? 512 : 1 + below(7)
        const target = isLarge ? 0x400 + 512 * below(4) : 0x400 + below(2048)
        const canWrite = below(2) === 0
        const args = { iova: BigInt(first) << 12n, gpa: BigInt(target) << 12n, bytes: BigInt(pages) << 12n }
        const dir = canWrite ? 'both' : 'read'
        const { rule } = iommu('map', { domain: BigInt(domain), ...args, dir })
        if (rule === 'done') list.push({ first, end: first + pages, target, canWrite })
        used.push([first, pages])
        break
      }
      case 4:
      case 5: {
        const [gone] = list.splice(below(Math.max(1, list.length)), 1)
        if (gone === undefined) break
        const isLazy = below(3) === 0
        iommu('unmap', {
          domain: BigInt(domain),
          iova: BigInt(gone.first) << 12n,
          bytes: BigInt(gone.end - gone.first) << 12n,
          flush: isLazy ? 'lazy' : 'strict',
        })
        // What waits may still be reached: nothing is asked before it is flushed.
        if (isLazy) iommu('flush_queue', { domain: BigInt(domain) })
        break
      }
      case 6:
        if (below(4) === 0) {
          iommu('suspend')
          iommu('resume')
        }
        break
      case 7:
        if (below(12) === 0) {
          for (const d of devices) d.setAts(false)
          iommu('stop')
          begin()
        }
    }
    if (guest.isDead) return guest.why
    for (let i = 0; i < 3; i++) {
      const wrong = check()
      if (wrong !== undefined) return `step ${step}: ${wrong}`
    }
  }
  return undefined
}

describe('the duties of the driver', () => {
  it.each(SHAPES)('$name: DMA ends where the last map says, and nowhere else', (shape) => {
    for (let seed = 1; seed <= SEEDS; seed++) expect(firstWrong(shape, seed)).toBe(undefined)
  })

  // Planted faults: each duty that is left out is found on every unit that asks for it, and on no other.
  it.each<[Duty, (shape: Shape) => boolean]>([
    ['cache-lines', ({ ecap }) => (ecap & BIT.C) === 0n],
    // What a flush follows needs no more: the unit flushes the write buffer before it invalidates.
    [
      'write-buffer',
      ({ cap, name }) => (cap & BIT.RWBF) !== 0n && ((cap & BIT.CM) === 0n || name.startsWith('first')),
    ],
    ['caching-mode', ({ cap }) => (cap & BIT.CM) !== 0n],
    ['root-caches', ({ cap }) => (cap & BIT.ESRTPS) === 0n],
    ['iotlb', () => true],
    ['device-tlb', () => true],
  ])('without %s DMA goes wrong where the unit asks for it, and there only', (duty, asks) => {
    for (const shape of SHAPES.filter((_, i) => i % 5 === duty.length % 5)) {
      const wrong = Array.from({ length: 24 }, (_, i) => i + 1)
        .slice(0, asks(shape) ? 24 : 1)
        .map((seed) => () => firstWrong(shape, seed, duty))
      expect([shape.name, wrong.some((run) => run() !== undefined)]).toEqual([shape.name, asks(shape)])
    }
  })
})
