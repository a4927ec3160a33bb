import { describe, expect, it } from 'vitest'
import type { Answer, Value } from '../../src/bits/answer.ts'
import { type CodeOf, codeNumber } from '../../src/bits/codes.ts'
import { Journal } from '../../src/bits/state.ts'
import { Life } from '../../src/hw/life.ts'
import { GuestRam } from '../../src/kernel/qemu/guest-ram.ts'
import { QemuProcess } from '../../src/kernel/qemu/qemu-process.ts'
import { VfioMapper } from '../../src/kernel/qemu/vfio-mapper.ts'
import { AddressSpace } from '../../src/memory/address-space.ts'
import type { TceWindow } from '../../src/table/tce-window.ts'
import { makeHost } from '../support/host.ts'

const UA = 0x1_0000_0000n
/** 16 MiB, and half a page more where pages have 64 KiB. */
const RAM = (1n << 24n) + 0x8000n
const BUS = 1n << 59n
const FD = 7

type Code = CodeOf<'errno'>

/** QEMU's mapper in front of a kernel that answers each call with the next of some codes, then OK. */
function makeMapper(...codes: Code[]) {
  const { host, log, stage } = makeHost({ pageShift: 16 })
  const asked: string[] = []
  const call = (_: string, name: string, args: Readonly<Record<string, Value>>): Answer => {
    const code: Code = codes.shift() ?? 'OK'
    codeNumber('errno', code)
    asked.push(
      `${name} ${Object.values(args)
        .map((v) => `0x${(v as bigint).toString(16)}`)
        .join(' ')}`,
    )
    const own = { layer: 'kernel', family: 'errno' as const, code, rule: '' }
    return { ...own, state: 'done', outputs: {}, free: [], warnings: [], layers: [own] }
  }
  const journal = new Journal()
  const qemu = new QemuProcess({ stage, journal, life: new Life(stage, journal), name: 'qemu', call })
  const ram = new GuestRam({
    mm: new AddressSpace({ host, name: 'qemu' }),
    ua: UA,
    bytes: RAM,
    onFault: () => undefined,
  })
  const mapper = new VfioMapper(qemu, ram, FD)
  const window = { busOffset: BUS, pageShift: 16 } as TceWindow
  const tell = (tce: bigint, more: Partial<Parameters<VfioMapper['notify']>[0]> = {}) => {
    const isMap = (tce & 3n) !== 0n
    const [tceHi, tceLo] = [Number(tce >> 32n) | 0, Number(tce & 0xffff_ffffn) | 0]
    mapper.notify({ window, first: 2, count: 1, tceHi, tceLo, step: -1, isMap, ...more })
    return { asked, printed: qemu.takeOutput().printed, unknown: [...log.records()].map((r) => r.event.kind) }
  }
  return { tell }
}

const MAP = 'VFIO_IOMMU_MAP_DMA 0x7 0x800000000020000 0x10000'
const UNMAP = 'VFIO_IOMMU_UNMAP_DMA 0x7 0x800000000020000 0x10000'
const wrong = (call: string, number: number, text: string) => `${call} = ${number} (${text})`
const MAPPED = 'vfio_dma_map(container, 0x800000000020000, 0x10000, 0x100030000)'
const UNMAPPED = 'vfio_dma_unmap(container, 0x800000000020000, 0x10000)'

describe('what QEMU does for VFIO when an entry changes', () => {
  // Each input meets the kernel's refusals as well, where it gets so far: the check before them answers.
  it.each<[string, bigint, Code[], string[], string[]]>([
    [
      'memory that is none is not mapped',
      0x200_0003n,
      ['EINVAL'],
      [],
      ['iommu map to non memory area 2000000'],
    ],
    [
      'nor is a page that memory ends in',
      0x100_0003n,
      ['EINVAL'],
      [],
      ['iommu has granularity incompatible with target AS'],
    ],
    ['both permissions', 0x3_0003n, [], [`${MAP} 0x100030000 0x3`], []],
    ['reading alone', 0x3_0001n, [], [`${MAP} 0x100030000 0x1`], []],
    ['writing is reading too', 0x3_0002n, [], [`${MAP} 0x100030000 0x3`], []],
    ['bits below the page go', 0x3_8803n, [], [`${MAP} 0x100030000 0x3`], []],
    [
      'what fails is said twice, and that is all',
      0x3_0003n,
      ['EPERM'],
      [`${MAP} 0x100030000 0x3`],
      ['VFIO_MAP_DMA failed: Operation not permitted', wrong(MAPPED, -1, 'Operation not permitted')],
    ],
    [
      'an entry that is taken is cleared, and mapped then',
      0x3_0003n,
      ['EBUSY'],
      [`${MAP} 0x100030000 0x3`, UNMAP, `${MAP} 0x100030000 0x3`],
      [],
    ],
    [
      'the second refusal counts',
      0x3_0003n,
      ['EBUSY', 'OK', 'ENOMEM'],
      [`${MAP} 0x100030000 0x3`, UNMAP, `${MAP} 0x100030000 0x3`],
      ['VFIO_MAP_DMA failed: Cannot allocate memory', wrong(MAPPED, -12, 'Cannot allocate memory')],
    ],
    ['an unmap', 0n, [], [UNMAP], []],
    [
      'an unmap that fails',
      0n,
      ['ENXIO'],
      [UNMAP],
      ['VFIO_UNMAP_DMA failed: No such device or address', wrong(UNMAPPED, -6, 'No such device or address')],
    ],
  ])('%s', (_, tce, codes, asked, printed) => {
    const said = makeMapper(...codes).tell(tce)
    expect(said.asked).toEqual(asked)
    expect(said.printed).toEqual(printed)
  })

  it('entries of a run are calls of their own, with the memory that each has', () => {
    const same = makeMapper().tell(0x3_0003n, { count: 2 })
    expect(same.asked).toEqual([
      'VFIO_IOMMU_MAP_DMA 0x7 0x800000000020000 0x10000 0x100030000 0x3',
      'VFIO_IOMMU_MAP_DMA 0x7 0x800000000030000 0x10000 0x100030000 0x3',
    ])
    const apart = makeMapper().tell(0x3_0003n, { count: 2, step: 16 })
    expect(apart.asked[1]).toBe('VFIO_IOMMU_MAP_DMA 0x7 0x800000000030000 0x10000 0x100040000 0x3')
    expect(makeMapper().tell(0n, { count: 3 }).asked).toHaveLength(3)
  })

  it('an ioctl that returns 1 leaves errno as it was, which nobody knows', () => {
    const { printed, unknown } = makeMapper('RETURN_1').tell(0n)
    expect(printed).toEqual([])
    expect(unknown).toContain('unmodelled')
  })
})
