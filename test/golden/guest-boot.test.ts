import { Readable } from 'node:stream'
import { beforeAll, describe, expect, it } from 'vitest'
import { openInput } from '../../src/cli/input.ts'
import type { SeenCall } from '../support/fake-hypervisor.ts'
import {
  bootedGuest,
  DEFAULT_LIOBN,
  type GuestMachine,
  MASK_32,
  MASK_64,
  QEMU_PHB,
} from '../support/guest-machine.ts'

/** A call as a recording and the model can be compared: where the guest's own choice shows, it is left out. */
interface Step {
  readonly call: string
  readonly args: readonly bigint[]
}

const QUERY = 'rtas 0x2026'
const CREATE = 'rtas 0x2027'
const PAGE = 4096n
const BUID = 0x0800_0000_2000_0000n

async function textOf(name: string): Promise<string> {
  const input = await openInput(`recordings/${name}.trace.xz`, Readable.from([]))
  const parts: Buffer[] = []
  for await (const piece of input.pieces()) parts.push(Buffer.from(piece))
  return Buffer.concat(parts).toString()
}

const fieldsOf = (line: string): Map<string, bigint> =>
  new Map(
    [...line.matchAll(/(\w[\w ]*)=(0x[0-9a-f]+|-?\d+)/g)].map(([, name = '', value = '0']) => [
      name.trim(),
      BigInt(value),
    ]),
  )

/**
 * The hypercalls and RTAS calls of a recorded guest. QEMU prints an indirect call with the index and the value of
 * its last entry, a stuff call with the address behind it, and not the addresses of a query.
 */
function recordedSteps(text: string): Step[] {
  const out: Step[] = []
  for (const line of text.split('\n')) {
    const [, event = ''] = /(spapr_iommu_\w+)/.exec(line) ?? []
    const fields = fieldsOf(line.slice(line.indexOf(event) + event.length))
    const f = (name: string): bigint => fields.get(name) ?? -1n
    const log2 = (value: bigint) => BigInt(value.toString(2).length - 1)
    if (event === 'spapr_iommu_pci_put')
      out.push({ call: 'H_PUT_TCE', args: [f('liobn'), f('ioba'), f('tce')] })
    if (event === 'spapr_iommu_pci_indirect') {
      out.push({ call: 'H_PUT_TCE_INDIRECT', args: [f('liobn'), f('ioba'), f('iobaN') + 1n, f('tceN')] })
    }
    if (event === 'spapr_iommu_pci_stuff') {
      const start = f('ioba') - f('npages') * PAGE
      out.push({ call: 'H_STUFF_TCE', args: [f('liobn'), start, f('tcevalue'), f('npages')] })
    }
    if (event === 'spapr_iommu_ddw_query') out.push({ call: QUERY, args: [f('addr'), f('buid')] })
    if (event === 'spapr_iommu_ddw_create') {
      out.push({ call: CREATE, args: [f('addr'), f('buid'), log2(f('page size')), log2(f('requested'))] })
    }
  }
  return out
}

/** The model's calls in the same form. */
function modelStep({ call, args, list }: SeenCall): Step {
  const [a = 0n, b = 0n, c = 0n, d = 0n] = args
  if (call === 'H_PUT_TCE_INDIRECT') return { call, args: [a, b, d, list?.at(-1) ?? 0n] }
  if (call === QUERY) return { call, args: [a, (b << 32n) | c] }
  if (call === CREATE) return { call, args: [a, (b << 32n) | c, d, args[4] ?? 0n] }
  return { call, args }
}

interface Boot {
  readonly name: string
  readonly bootOptions: readonly string[]
  /** Page sizes that the host bridge offers, as the mask of the query. */
  readonly pageSizes: number
  /** Devices in the order in which their drivers came, with the masks that the console shows. */
  readonly drivers: readonly (readonly [name: string, devfn: number, mask: bigint])[]
}

const BLOCK = ['virtio-blk', 0x00, MASK_64] as const
const ALL = [BLOCK, ['nvme', 0x08, MASK_64], ['e1000', 0x10, MASK_32]] as const

const BOOTS: readonly Boot[] = [
  { name: 'ppc-32bit', bootOptions: ['disable_ddw'], pageSizes: 0x107, drivers: ALL },
  { name: 'ppc-ddw-default', bootOptions: [], pageSizes: 0x107, drivers: ALL },
  { name: 'ppc-ddw-64k', bootOptions: [], pageSizes: 0x3, drivers: ALL },
  { name: 'ppc-ddw-4k', bootOptions: [], pageSizes: 0x1, drivers: [BLOCK] },
  { name: 'ppc-ftrace', bootOptions: ['disable_ddw'], pageSizes: 0x107, drivers: [BLOCK] },
  { name: 'vh-ppc-32bit', bootOptions: ['disable_ddw'], pageSizes: 0x107, drivers: [BLOCK] },
  { name: 'vh-ppc-ddw', bootOptions: [], pageSizes: 0x107, drivers: [BLOCK] },
]

function bootLike({ bootOptions, pageSizes, drivers }: Boot): GuestMachine {
  const devices = drivers.map(([name, devfn]) => ({ name, devfn }))
  const phb = { name: 'pci0', buid: BUID, node: { name: 'pci@800000020000000', properties: QEMU_PHB } }
  const guest = bootedGuest({ profile: 'linux-6.1.176', bootOptions, devices, phb })
  guest.hypervisor.firmware.pageSizes = pageSizes
  for (const [device, , mask] of drivers) guest.call('probe', { device, mask })
  return guest
}

/**
 * Does with the model's DMA API what the recorded drivers did with theirs: every entry that appears is a mapping
 * of that memory, every one that goes an unmapping.
 */
function repeat(guest: GuestMachine, steps: readonly Step[], device: string): void {
  for (const { call, args } of steps) {
    const [, ioba = 0n, value = 0n, count = 1n] = args
    if (call === 'H_STUFF_TCE') guest.call('dma_unmap_page', { device, handle: ioba, bytes: count * PAGE })
    else {
      const pages = call === 'H_PUT_TCE' ? 1n : value
      const last = call === 'H_PUT_TCE' ? value : (args[3] ?? 0n)
      const gpa = last - (last % PAGE) - (pages - 1n) * PAGE
      const dir = (last & 2n) === 0n ? 'to-device' : 'bidirectional'
      guest.call('dma_map_page', { device, gpa, bytes: pages * PAGE, dir })
    }
  }
}

describe.each(BOOTS)('the boot of Linux 6.1.176 in $name', (boot) => {
  let recorded: Step[] = []
  let guest: GuestMachine
  let setUp: Step[] = []
  beforeAll(async () => {
    recorded = recordedSteps(await textOf(boot.name))
    guest = bootLike(boot)
    setUp = guest.hypervisor.calls.map(modelStep)
  })

  it('sets its windows up with the same calls and arguments, in the same order', () => {
    expect(setUp.length).toBeGreaterThanOrEqual(512)
    expect(recorded.slice(0, setUp.length)).toEqual(setUp)
  })

  it('has nothing to do with the 64-bit window afterwards', () => {
    const rest = recorded.slice(setUp.length)
    expect(
      rest.filter(({ call, args }) => !call.startsWith('H_') || args[0] !== BigInt(DEFAULT_LIOBN)),
    ).toEqual([])
  })

  it('gives every later mapping of its drivers the address that the real kernel gave', () => {
    const rest = recorded.slice(setUp.length)
    const narrow = boot.drivers.find(([, , mask]) => mask === MASK_32 || boot.bootOptions.length > 0)
    if (narrow === undefined) {
      expect(rest).toEqual([])
      return
    }
    repeat(guest, rest, narrow[0])
    expect(guest.hypervisor.calls.slice(setUp.length).map(modelStep)).toEqual(rest)
  })
})

describe('what the recordings say together', () => {
  it('1013 mappings of real drivers were foretold', async () => {
    const counts = await Promise.all(
      BOOTS.map(async ({ name }) => {
        const steps = recordedSteps(await textOf(name))
        const isMapping = ({ call, args }: Step) =>
          call.startsWith('H_PUT') && args[0] === BigInt(DEFAULT_LIOBN)
        return steps.filter(isMapping).length
      }),
    )
    expect(counts).toEqual([369, 268, 266, 0, 62, 48, 0])
  })
})
