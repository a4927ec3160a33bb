import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { hex } from '../../src/bits/u64.ts'
import { openInput } from '../../src/cli/input.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import type { Machine } from '../../src/machine/machine.ts'

async function recorded(name: string): Promise<string[]> {
  const input = await openInput(`recordings/${name}.trace.xz`, Readable.from([]))
  let text = ''
  for await (const piece of input.pieces()) text += Buffer.from(piece).toString('latin1')
  return text.split('\n')
}

/** What the guest asked of the hypervisor and the firmware, one line a call; the list address is the guest's own choice. */
const asked = (lines: readonly string[]): string[] =>
  lines
    .filter((l) => /^spapr_iommu_(pci_(put|stuff|indirect)|ddw_)/.test(l))
    .map((l) => l.replace(/ tcelist=\S+/, ''))

/** The same of the model's own machine, from its records. */
function askedOfModel(machine: Machine): string[] {
  const lines: string[] = []
  for (const { seq, event: e } of machine.log.records()) {
    if (e.kind !== 'call.return') continue
    const cause = machine.log.read(machine.log.causeOf(seq)).event
    if (cause.kind !== 'call.enter') continue
    const [a, b, c, d] = [cause.a0, cause.a1, cause.a2, cause.a3]
    if (e.call === 'H_PUT_TCE') {
      lines.push(`spapr_iommu_pci_put liobn=${hex(a)} ioba=${hex(b)} tce=${hex(c)} ret=${e.code}`)
    }
    if (e.call === 'H_STUFF_TCE') {
      const end = b + d * 0x1000n
      lines.push(`spapr_iommu_pci_stuff liobn=${hex(a)} ioba=${hex(end)} tcevalue=${hex(c)} npages=${d} ret=${e.code}`)
    }
    if (e.call === 'H_PUT_TCE_INDIRECT') {
      const page = machine.log.has(seq - 1) ? machine.log.read(seq - 1).event : undefined
      if (page?.kind !== 'tce.set') continue
      const last = page.tce + (BigInt(page.count - 1) << BigInt(page.step))
      lines.push(
        `spapr_iommu_pci_indirect liobn=${hex(a)} ioba=${hex(b)} iobaN=${hex(d - 1n)} tceN=${hex(last)} ret=${e.code}`,
      )
    }
    if (e.call === 'ibm,query-pe-dma-window') lines.push('query')
    if (e.call === 'ibm,create-pe-dma-window') lines.push('create')
  }
  return lines
}

function boot(pageShifts: readonly number[], bootOptions: readonly string[] = []): Machine {
  const machine = createMachine(
    describeMachine({
      profile: 'qemu-7.2+linux-6.1',
      ram: 1n << 30n,
      pageShift: 16,
      bootOptions,
      phbs: [{ name: 'pci0', pageShifts, devices: [{ name: 'disk', kind: 'edu', slot: 0, dmaMask: 2n ** 64n - 1n }] }],
    }),
  )
  expect(machine.perform({ verb: 'driver', call: 'boot', args: {} }).rule).toBe('done')
  const answer = machine.perform({
    verb: 'driver',
    call: 'probe',
    args: { device: 'disk', mask: 2n ** 64n - 1n },
  })
  expect(answer.state).toBe('done')
  return machine
}

describe('a guest kernel of the model asks for the same as the recorded one, from boot to the first driver', () => {
  it.each([
    ['ppc-ddw-default', [12, 16, 21, 24]],
    ['ppc-ddw-64k', [12, 16]],
    ['ppc-ddw-4k', [12]],
    ['vh-ppc-ddw', [12, 16, 21, 24]],
  ] as const)('%s: table cleared, window queried and created, RAM mapped 1:1', async (name, pageShifts) => {
    const ours = askedOfModel(boot(pageShifts))
    const theirs = asked(await recorded(name)).map((l) => l.replace(/^spapr_iommu_ddw_(\w+) .*/, '$1'))
    // Behind this the recorded drivers do I/O, which the model's guest was not told to do.
    expect(ours.length).toBeGreaterThan(512)
    expect(theirs.slice(0, ours.length)).toEqual(ours)
    expect(theirs[ours.length] ?? '').not.toContain('liobn=0x80000001')
  })

  it('ppc-32bit: disable_ddw asks for no window', async () => {
    const ours = askedOfModel(boot([12, 16, 21, 24], ['disable_ddw']))
    const theirs = asked(await recorded('ppc-32bit'))
    expect(ours).toHaveLength(512)
    expect(theirs.slice(0, 512)).toEqual(ours)
    expect(theirs.some((l) => l.includes('ddw'))).toBe(false)
  })

  it('the created window is the recorded one', async () => {
    const machine = boot([12, 16, 21, 24])
    const open = [...machine.log.records()].map((r) => r.event).filter((e) => e.kind === 'window.open')
    const line = (await recorded('ppc-ddw-default')).find((l) => l.startsWith('spapr_iommu_ddw_create')) ?? ''
    const last = open[open.length - 1]
    if (last?.kind !== 'window.open') throw new Error('no window')
    expect(line).toContain(`page size=${hex(1 << last.pageShift)},`)
    expect(line).toContain(`requested=${hex(BigInt(last.entries) << BigInt(last.pageShift))},`)
    expect(line).toContain(`start addr=${hex(last.busOffset)}, liobn=${hex(last.liobn)}`)
  })
})
