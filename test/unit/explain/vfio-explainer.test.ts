import { describe, expect, it } from 'vitest'
import type { FaultGroup } from '../../../src/report/explain/fault-log.ts'
import { VfioExplainer } from '../../../src/report/explain/vfio-explainer.ts'
import { causesOf, explained, rowOf } from '../../support/explain.ts'

const groups = (...lines: string[]): readonly FaultGroup[] => explained(lines, new VfioExplainer()).groups
const only = (...lines: string[]): FaultGroup => {
  const all = groups(...lines)
  expect(all).toHaveLength(1)
  return all[0] as FaultGroup
}
const mapped = (errno: number, why: string, iova = '0x100000', bytes = '0x1000'): string =>
  `qemu-system-x86_64: vfio_dma_map(0x55de3c2a97f0, ${iova}, ${bytes}, 0x7f8fcbe00000) = ${errno} (${why})`
const MEMLOCK = 'vfio_pin_pages_remote: RLIMIT_MEMLOCK (67108864) exceeded'

describe('a mapping that VFIO refuses', () => {
  it.each([
    [-1, 'Operation not permitted', 'EPERM'],
    [-2, 'No such file or directory', 'ENOENT'],
    [-12, 'Cannot allocate memory', 'ENOMEM'],
    [-14, 'Bad address', 'EFAULT'],
    [-16, 'Device or resource busy', 'EBUSY'],
    [-17, 'File exists', 'EEXIST'],
    [-22, 'Invalid argument', 'EINVAL'],
    [-28, 'No space left on device', 'ENOSPC'],
  ])('%i %s is %s, with the number and without', (errno, why, name) => {
    expect(only(mapped(errno, why)).words).toMatchObject({
      title: `VFIO refused a mapping: ${name}`,
      fields: { errno, errnoName: name, bytes: '0x1000' },
    })
    const said = `qemu-system-x86_64: VFIO_MAP_DMA failed: ${why}`
    expect(only(said).words).toMatchObject({ title: `VFIO refused a mapping: ${name}`, fields: { errno } })
    // Both lines are one failure; twice is twice.
    const both = only(said, mapped(errno, why), said, mapped(errno, why))
    expect(both.times).toBe(2)
    expect(causesOf(both)).toContainEqual([1, `VFIO_MAP_DMA failed: ${why}`])
  })

  it('of newer QEMU, and behind whatever it prints before', () => {
    const line = mapped(-22, 'Invalid argument').replace('vfio_dma_map', 'vfio_container_dma_map')
    expect(only(line).words.fields['errno']).toBe(-22)
  })

  it('an error that is not declared keeps its words', () => {
    expect(only('qemu-system-x86_64: VFIO_MAP_DMA failed: Is a directory').words).toMatchObject({
      title: 'VFIO refused a mapping: Is a directory',
      fields: { errno: null },
    })
  })

  it('lines of two failures do not mix', () => {
    const all = groups(
      'qemu-system-x86_64: VFIO_MAP_DMA failed: Cannot allocate memory',
      mapped(-22, 'Invalid argument'),
    )
    expect(all.map(({ words }) => words.fields['errno'])).toEqual([-12, -22])
  })

  it('because of the limit that the kernel names, with the sum', () => {
    const [limit, map] = groups(MEMLOCK, mapped(-12, 'Cannot allocate memory', '0x100000', '0x8000000'))
    expect(limit?.words.title).toBe('a process may not lock more memory: RLIMIT_MEMLOCK is 64 MiB')
    expect(causesOf(map as FaultGroup)).toEqual([[1, 'RLIMIT_MEMLOCK of 64 MiB was exceeded']])
    expect(rowOf(map as FaultGroup, 'arithmetic')).toBe('128 MiB asked for > 64 MiB allowed')
  })

  it('a mapping below the limit tells what must have been locked', () => {
    const map = groups(MEMLOCK, mapped(-12, 'Cannot allocate memory', '0x0', '0x1000000')).at(-1)
    expect(rowOf(map as FaultGroup, 'arithmetic')).toBe(
      '16 MiB asked for + what was locked before > 64 MiB allowed: more than 48 MiB was locked',
    )
  })

  it('the limit is no reason for another error', () => {
    const map = groups(MEMLOCK, mapped(-22, 'Invalid argument')).at(-1) as FaultGroup
    expect(causesOf(map)).toEqual([])
    expect(rowOf(map, 'arithmetic')).toBeUndefined()
  })

  it.each<[iova: string, bytes: string, reserved: boolean]>([
    ['0x40000000', '0x100000000', true],
    ['0xfee00000', '0x1000', true],
    ['0xfeeff000', '0x1000', true],
    ['0xfef00000', '0x1000', false],
    ['0xfedff000', '0x1000', false],
  ])('%s of %s bytes touches the interrupts of x86: %s', (iova, bytes, reserved) => {
    expect(rowOf(only(mapped(-22, 'Invalid argument', iova, bytes)), 'reserved') !== undefined).toBe(reserved)
    expect(rowOf(only(mapped(-17, 'File exists', iova, bytes)), 'reserved')).toBeUndefined()
  })

  it.each<[iova: string, wide: boolean]>([
    ['0x7ffffff000', false],
    ['0x8000000000', true],
  ])('%s needs more than 39 bits: %s', (iova, wide) => {
    expect(rowOf(only(mapped(-14, 'Bad address', iova)), 'width') !== undefined).toBe(wide)
  })
})

describe('other lines of VFIO', () => {
  it('a mediated device names the process', () => {
    const { words } = only(
      'vfio_pin_page_external: Task CPU 0/KVM (4711) RLIMIT_MEMLOCK (1073741824) exceeded',
    )
    expect(words.fields).toEqual({ limit: '0x40000000', task: 'CPU 0/KVM' })
    expect(words.title).toContain('1 GiB')
  })

  it.each([
    ['vfio_iommu_type1_attach_group: No interrupt remapping support.  Use the module param', 'group'],
    ['qemu-system-x86_64: -device vfio-pci,host=01:00.0: vfio 0000:01:00.0: group 1 is not viable', 'group'],
    ['qemu-system-x86_64: iommu map to non memory area fed00000', 'map'],
    ['qemu-system-x86_64: device 01.00.0 requires caching mode', 'setting'],
    [
      'Error: vfio 0000:3b:00.0: memory listener initialization failed: Region vtd-00.0-dmar: device 01.00.0 requires caching mode: Operation not supported',
      'setting',
    ],
    [
      'qemu-system-x86_64: We need to set caching-mode=on for intel-iommu to enable device assignment with IOMMU protection.',
      'setting',
    ],
    [
      'Error: vfio 0000:3b:00.0: Failed to set vIOMMU: Device assignment is not allowed without enabling caching-mode=on for Intel IOMMU.',
      'setting',
    ],
    [
      'qemu-system-x86_64: vfio_dma_unmap(0x55de3c2a97f0, 0xfffff000, 0x1000) = -22 (Invalid argument)',
      'unmap',
    ],
  ])('%s', (line, kind) => {
    const fault = only(line)
    expect(fault.words.kind).toBe(kind)
    expect(fault.words.checks.length).toBeGreaterThan(0)
  })

  it.each([
    ['VFIO_MAP_DMA: -14', 'EFAULT'],
    ['-device vfio-pci,host=0000:41:10.1,bootindex=-1: VFIO_MAP_DMA: -22', 'EINVAL'],
    ['VFIO_MAP_DMA: -5', 'error -5'],
  ])('an error as a number: %s', (line, name) => {
    expect(only(`qemu-system-x86_64: ${line}`).words.title).toBe(`VFIO refused a mapping: ${name}`)
  })

  it('that QEMU ended is told with the failure', () => {
    const end = 'qemu: hardware error: vfio: DMA mapping failed, unable to continue'
    const all = groups(end, mapped(-28, 'No space left on device'))
    expect(causesOf(all[0] as FaultGroup)).toEqual([[1, 'QEMU ended: it could not map']])
  })
})
