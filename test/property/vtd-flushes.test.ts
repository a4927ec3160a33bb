import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import type { Verb } from '../../src/bits/call.ts'
import { Judge } from '../../src/check/judge.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import { eventsOfLog } from '../support/events.ts'

const SLOTS = 3
const DOMAIN = 5n
const FIRST = 0xffff_0000n

type Mode = 'strict' | 'lazy' | 'ats'
type Step =
  | { readonly do: 'map'; readonly slot: number; readonly page: number }
  | { readonly do: 'unmap' | 'dma'; readonly slot: number }
  | { readonly do: 'flush' }

const slot = fc.nat(SLOTS - 1)
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('map' as const), slot, page: fc.nat(63) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('unmap' as const, 'dma' as const), slot }) },
  { weight: 1, arbitrary: fc.constant({ do: 'flush' as const }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('dma' as const), slot }) },
)

const iovaOf = (at: number): bigint => FIRST + BigInt(at * 0x1000)

/** What a guest of some mode does with each step, and what vhost and QEMU should hold then, said plainly. */
class NaiveGuest {
  readonly mapped = new Map<number, number>()
  /** Taken back and not flushed: the address is not used again before. */
  readonly waiting = new Set<number>()
  /** What vhost remembers, and what QEMU's walks have seen. */
  readonly vhost = new Map<number, number>()
  readonly tree = new Map<number, number>()
  /** A flush was over, and vhost remembered what was gone. */
  wasStale = false

  flush(hearsWhole: boolean): void {
    if (hearsWhole) this.vhost.clear()
    else {
      for (const [at, page] of [...this.tree]) {
        if (this.mapped.get(at) === page) continue
        this.tree.delete(at)
        this.vhost.delete(at)
      }
      for (const [at, page] of this.mapped) this.tree.set(at, page)
    }
    if ([...this.waiting].some((at) => this.vhost.has(at))) this.wasStale = true
    this.waiting.clear()
  }
}

function run(profile: string, mode: Mode, steps: readonly Step[]) {
  const judge = new Judge()
  const machine = createMachine(
    describeMachine({
      kind: 'q35',
      profile: `${profile}+linux-6.1.192`,
      ramBytes: 1n << 26n,
      iommu: { deviceIotlb: mode === 'ats' },
      virtio: [{ name: 'net0', hasAts: mode === 'ats' }],
    }),
    { watch: (log) => judge.attach(log) },
  )
  const perform = (verb: Verb, call: string, args: Record<string, Value> = {}): string =>
    machine.perform({ verb, call, args }).rule
  const guest = new NaiveGuest()
  const hearsWhole = mode === 'ats' || profile !== 'qemu-7.2.22'
  perform('iommu', 'attach', { device: 'net0', domain: DOMAIN })
  perform('virtio', 'ready', { device: 'net0' })
  for (const s of steps) {
    if (s.do === 'flush') {
      if (mode === 'strict') continue
      expect(perform('iommu', 'flush_domain', { domain: DOMAIN })).toBe('done')
      if (mode === 'ats') expect(perform('iommu', 'flush_device_tlb', { device: 'net0' })).toBe('done')
      guest.flush(hearsWhole)
      continue
    }
    const iova = iovaOf(s.slot)
    const at = { domain: DOMAIN, iova, bytes: 0x1000n }
    const page = guest.mapped.get(s.slot)
    if (s.do === 'map') {
      if (page !== undefined || guest.waiting.has(s.slot)) continue
      const gpa = 0x100_0000n + BigInt(s.page * 0x1000)
      expect(perform('iommu', 'map', { ...at, gpa })).toBe('done')
      guest.mapped.set(s.slot, s.page)
    } else if (s.do === 'unmap') {
      if (page === undefined) continue
      expect(perform('iommu', 'unmap', at)).toBe('done')
      guest.mapped.delete(s.slot)
      if (mode === 'strict') {
        expect(perform('iommu', 'flush_pages', at)).toBe('done')
        guest.vhost.delete(s.slot)
      } else guest.waiting.add(s.slot)
    } else {
      const known = guest.vhost.has(s.slot)
      const wanted = known || page !== undefined ? 'done' : 'iotlb-miss'
      expect(perform('dma', 'write', { device: 'net0', iova, data: 'x' })).toBe(wanted)
      if (!known && page !== undefined) guest.vhost.set(s.slot, page)
    }
  }
  judge.finish()
  return { machine, guest, findings: judge.findings }
}

/** Bus addresses of the maps that vhost has, by its records. */
function liveMaps({ log }: ReturnType<typeof run>['machine']): bigint[] {
  let live: bigint[] = []
  for (const event of eventsOfLog(log, 'iotlb.')) {
    if (event.kind === 'iotlb.fill') live.push(event.iova)
    if (event.kind === 'iotlb.drop')
      live = live.filter((iova) => iova + 0xfffn < event.iova || iova > event.last)
  }
  return live.sort((a, b) => (a < b ? -1 : 1))
}

describe.each<[profile: string, mode: Mode]>([
  ['intended', 'strict'],
  ['intended', 'lazy'],
  ['intended', 'ats'],
  ['qemu-10.0.2', 'strict'],
  ['qemu-10.0.2', 'lazy'],
  ['qemu-10.0.2', 'ats'],
  ['qemu-7.2.22', 'strict'],
  ['qemu-7.2.22', 'lazy'],
  ['qemu-7.2.22', 'ats'],
])('%s, a guest in %s mode', (profile, mode) => {
  it('leaves vhost what the plain model says, and stale maps only where QEMU does not tell', () => {
    let stale = 0
    fc.assert(
      fc.property(fc.array(step, { minLength: 30, maxLength: 80 }), (steps) => {
        const { machine, guest, findings } = run(profile, mode, steps)
        expect(liveMaps(machine)).toEqual([...guest.vhost.keys()].sort((a, b) => a - b).map(iovaOf))
        const rules = [...new Set(findings.map((f) => f.rule))]
        expect(rules).toEqual(guest.wasStale ? ['stale-iotlb'] : [])
        if (guest.wasStale) stale++
      }),
      { numRuns: 25 },
    )
    // The erratum shows in most runs, or this test says little.
    expect(stale > 0).toBe(profile === 'qemu-7.2.22' && mode === 'lazy')
  })
})
