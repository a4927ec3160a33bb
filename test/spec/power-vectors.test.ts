import { describe, expect, it } from 'vitest'
import type { Answer, Value } from '../../src/bits/answer.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import type { Machine } from '../../src/machine/machine.ts'
import type { PowernvInput } from '../../src/machine/powernv/description.ts'

/** The memory of the vectors' guest: 1 GiB of it is enough for their numbers. */
const U = 0x7000_0000_0000n
const GIB = 1n << 30n
const PAGE = 0x1_0000n
const V1 = 2n
const V2 = 7n
const SECOND = 1n << 59n
const WORD = 0xffff_ffff_ffff_ffffn
/** Without the erratum that stops a host with PHB3 at the first mapping at 0 that is refused: the vectors go on. */
const KERNEL = 'linux-6.12.95,-phb3-endless-kill'
const DEVICE = '0000:01:00.0'

type Args = Record<string, Value>

/** A POWER host as the vectors have it: 64 KiB pages, PHB3 with 4K, 64K, 16M and 256M pages. */
class Stand {
  readonly machine: Machine
  fd = 3n

  constructor(input: Omit<PowernvInput, 'kind'> = {}) {
    this.machine = createMachine(
      describeMachine({
        phbs: [
          {
            platform: 'PHB3',
            freeze: 'none',
            pes: [{ devices: [{ name: 'nic0', kind: 'edu', dmaMask: WORD }] }],
          },
        ],
        ...input,
        kind: 'powernv',
      }),
      { keepRecords: 1 << 16 },
    )
  }

  proc(call: string, args: Args = {}, process?: string): Answer {
    return this.machine.perform({
      verb: 'proc',
      call,
      args,
      ...(process !== undefined && { by: { process } }),
    })
  }

  ioctl(call: string, args: Args = {}, process?: string): Answer {
    return this.machine.perform({
      verb: 'ioctl',
      call,
      args: { fd: this.fd, ...args },
      ...(process !== undefined && { by: { process } }),
    })
  }

  open(path: string): bigint {
    const { code, outputs } = this.proc('open', { path: `/dev/vfio/${path}` })
    expect(code).toBe('OK')
    return outputs['fd'] as bigint
  }

  /** A container of a type with a group: what SET_IOMMU answers. The group's descriptor follows the container's. */
  container(type: bigint, group = 0): string {
    this.fd = this.open('vfio')
    this.ioctl('VFIO_GROUP_SET_CONTAINER', { fd: this.open(String(group)), container: this.fd })
    return this.ioctl('VFIO_SET_IOMMU', { type }).code
  }

  /** Pages that the process has locked. */
  get locked(): bigint {
    return (this.proc('status').outputs['vm_lck_kib'] as bigint) / 64n
  }

  mmap(bytes: bigint): void {
    expect(this.proc('mmap', { address: U, bytes, fixed: true }).code).toBe('OK')
  }

  register = (vaddr: bigint, bytes: bigint) =>
    this.ioctl('VFIO_IOMMU_SPAPR_REGISTER_MEMORY', { vaddr, bytes }).code
  unregister = (vaddr: bigint, bytes: bigint) =>
    this.ioctl('VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY', { vaddr, bytes }).code
  create = (page_shift: bigint, window_bytes: bigint, levels: bigint) =>
    this.ioctl('VFIO_IOMMU_SPAPR_TCE_CREATE', { page_shift, window_bytes, levels })
  remove = (start_addr: bigint) => this.ioctl('VFIO_IOMMU_SPAPR_TCE_REMOVE', { start_addr }).code
  unmap = (iova: bigint, bytes: bigint) => this.ioctl('VFIO_IOMMU_UNMAP_DMA', { iova, bytes }).code
  map = (vaddr: bigint, iova: bigint, bytes: bigint, flags = 3n) =>
    this.ioctl('VFIO_IOMMU_MAP_DMA', { vaddr, iova, bytes, flags }).code

  /** The last record of a kind. */
  last(kind: string) {
    const { log } = this.machine
    return [...log.records()].map((r) => r.event).findLast((e) => e.kind === kind)
  }

  /** What a device reads at a bus address. */
  read(iova: bigint, bytes = 4n): Answer {
    return this.machine.perform({ verb: 'dma', call: 'read', args: { device: 'nic0', iova, bytes } })
  }

  write(address: bigint, data: string): void {
    this.machine.perform({ verb: 'mem', call: 'write', args: { space: 'ua', address, data } })
  }
}

const limited = (pages: bigint, profile = 'intended') =>
  new Stand({ profile, processes: [{ name: 'qemu', memlockBytes: pages * PAGE }] })

describe('T11: REGISTER', () => {
  it.each([
    ['intended', 20_000n, 'ENOMEM'],
    ['intended', 30_000n, 'EINVAL'],
    [KERNEL, 20_000n, 'ENOMEM'],
    [KERNEL, 30_000n, 'EINVAL'],
    // Before Linux 5.1 overlap is looked for first.
    ['linux-4.19', 20_000n, 'EINVAL'],
  ])('%s, a limit of %d pages: half of a region again is %s', (profile, pages, half) => {
    const s = limited(pages, profile)
    s.container(V2)
    s.mmap(GIB)
    expect([s.register(U, GIB), s.locked]).toEqual(['OK', 16_384n])
    expect([s.register(U, GIB), s.locked]).toEqual(['EBUSY', 16_384n])
    expect([s.register(U, GIB / 2n), s.locked]).toEqual([half, 16_384n])
    expect([s.register(U + 0x8000n, PAGE), s.locked]).toEqual(['EINVAL', 16_384n])
    expect(s.map(U, 0n, 0n)).toBe('OK')
  })
})

describe.each(['intended', KERNEL])('T12: UNREGISTER, %s', (profile) => {
  it('takes exact ranges only', () => {
    const s = limited(20_000n, profile)
    s.container(V2)
    s.mmap(GIB)
    s.register(U, GIB)
    expect([s.unregister(U, GIB / 2n), s.locked]).toEqual(['ENOENT', 16_384n])
    expect([s.unregister(U, GIB), s.locked]).toEqual(['OK', 0n])
  })

  it('two containers share a registration, and the last one gives it back', () => {
    const s = new Stand({ profile, phbs: [{ pes: [{}, {}] }] })
    s.mmap(GIB)
    const fds = [0, 1].map((group) => {
      expect(s.container(V2, group)).toBe('OK')
      expect([s.register(U, GIB), s.locked]).toEqual(['OK', 16_384n])
      return s.fd
    })
    s.fd = fds[0] as bigint
    expect([s.unregister(U, GIB), s.locked]).toEqual(['OK', 16_384n])
    s.fd = fds[1] as bigint
    expect([s.unregister(U, GIB), s.locked]).toEqual(['OK', 0n])
  })
})

describe('T13: memory with two live mappings is unregistered', () => {
  const mapped = (profile: string) => {
    const s = new Stand({ profile })
    s.container(V2)
    s.mmap(GIB)
    s.register(U, GIB)
    s.remove(0n)
    s.create(16n, GIB, 1n)
    expect([s.map(U, 0n, PAGE), s.map(U + PAGE, PAGE, PAGE)]).toEqual(['OK', 'OK'])
    expect(s.last('region.map')).toMatchObject({ used: 1, mapped: 3 })
    return s
  }
  const WINDOW = 4n

  it('intended: -EBUSY; when both are unmapped it goes', () => {
    const s = mapped('intended')
    expect([s.unregister(U, GIB), s.locked]).toEqual(['EBUSY', 16_384n + WINDOW])
    expect(s.last('region.put')).toMatchObject({ used: 1, mapped: 3 })
    expect([s.unmap(0n, PAGE), s.unmap(PAGE, PAGE)]).toEqual(['OK', 'OK'])
    expect([s.unregister(U, GIB), s.locked]).toEqual(['OK', WINDOW])
  })

  it('the kernel: 0, and nobody has it any more (X1)', () => {
    const s = mapped(KERNEL)
    expect([s.unregister(U, GIB), s.locked]).toEqual(['OK', 16_384n + WINDOW])
    expect([s.unmap(0n, PAGE), s.unmap(PAGE, PAGE)]).toEqual(['OK', 'OK'])
    expect([s.unregister(U, GIB), s.locked]).toEqual(['ENOENT', 16_384n + WINDOW])
  })

  it('B10: a part of it takes all of it', () => {
    for (const [profile, code, left] of [
      ['intended', 'ENOENT', 16_384n],
      ['intended,B10', 'OK', 0n],
    ] as const) {
      const s = new Stand({ profile })
      s.container(V2)
      s.mmap(GIB)
      s.register(U, GIB)
      expect([s.unregister(U + PAGE, PAGE), s.locked]).toEqual([code, left])
    }
  })
})

describe.each(['intended', KERNEL])('T14: windows, %s', (profile) => {
  const start = ({ code, outputs }: Answer) => [code, outputs['start_addr']]

  it('slots, addresses and charges', () => {
    const s = new Stand({ profile })
    s.container(V2)
    expect([s.remove(0n), s.locked]).toEqual(['OK', 0n])
    expect([...start(s.create(16n, 16n * GIB, 1n)), s.locked]).toEqual(['OK', 0n, 64n])
    expect(s.last('hw.table')).toMatchObject({ entries: 0x40000, levels: 1, charged: 4_194_304 })
    expect([...start(s.create(16n, 16n * GIB, 2n)), s.locked]).toEqual(['OK', SECOND, 130n])
    expect([s.create(16n, 16n * GIB, 1n).code, s.locked]).toEqual(['ENOSPC', 130n])
    expect([s.remove(SECOND + 0x12345n), s.locked]).toEqual(['OK', 64n])
    expect([s.create(21n, 16n * GIB, 1n).code, s.locked]).toEqual(['EINVAL', 64n])
    expect([s.create(16n, 16n * GIB, 6n).code, s.locked]).toEqual(['EINVAL', 64n])
    const kept = profile === KERNEL ? 68n : 0n
    expect([s.create(16n, 16n * GIB, 3n).code, s.locked]).toEqual(['EINVAL', 64n + kept])
  })

  it('the 32-bit window comes first where it was not removed', () => {
    const s = new Stand({ profile })
    s.container(V2)
    expect([...start(s.create(16n, 16n * GIB, 1n)), s.locked]).toEqual(['OK', SECOND, 192n])
  })

  // CP5: a window that is smaller than its IOMMU page still gets a page of entries.
  it('a window below one IOMMU page', () => {
    const s = new Stand({ profile })
    s.container(V2)
    s.remove(0n)
    expect([s.create(16n, 0x8000n, 1n).code, s.locked]).toEqual(['OK', 2n])
    expect(s.last('hw.table')).toMatchObject({ entries: 8192 })
    expect([s.create(16n, 0x8000n, 2n).code, s.locked]).toEqual(['OK', 6n])
  })
})

describe('T15: what goes together', () => {
  const p7 = (profile: string, pes = 1) =>
    new Stand({ profile, phbs: [{ platform: 'P7IOC', pes: Array.from({ length: pes }, () => ({})) }] })

  // CP1: both changed with Linux 6.4.
  it.each([
    ['linux-6.1', 'EPERM', 'EPERM'],
    [KERNEL, 'OK', 'EINVAL'],
    ['intended', 'OK', 'EINVAL'],
  ])('%s: v1 over dynamic windows %s, v2 over none %s', (profile, v1, v2) => {
    expect(new Stand({ profile }).container(V1)).toBe(v1)
    expect(p7(profile).container(V2)).toBe(v2)
  })

  it('v1 takes one group', () => {
    const s = p7('linux-6.1', 2)
    expect(s.container(V1)).toBe('OK')
    const second = () => s.ioctl('VFIO_GROUP_SET_CONTAINER', { fd: s.open('1'), container: s.fd }).code
    expect(second()).toBe('EBUSY')
  })

  it.each(['intended', KERNEL])('%s: calls of the other version are unknown', (profile) => {
    const s = new Stand({ profile })
    s.container(V2)
    expect(s.ioctl('VFIO_IOMMU_ENABLE').code).toBe('ENOTTY')
    expect(s.map(U, 0n, PAGE)).toBe('EPERM')
    const old = new Stand({ profile })
    old.container(V1)
    expect([old.register(U, PAGE), old.create(16n, GIB, 1n).code, old.remove(0n)]).toEqual(
      new Array(3).fill('ENOTTY'),
    )
  })

  it.each(['intended', KERNEL])(
    '%s: an open device keeps its group, and another process has no say',
    (profile) => {
      const s = new Stand({ profile })
      s.container(V2)
      const device = s.ioctl('VFIO_GROUP_GET_DEVICE_FD', { fd: 4n, name: DEVICE })
      expect(s.ioctl('VFIO_GROUP_UNSET_CONTAINER', { fd: 4n }).code).toBe('EBUSY')
      s.proc('close', { fd: device.outputs['fd'] as bigint })
      s.mmap(PAGE)
      s.register(U, PAGE)
      s.proc('fork', { child: 'child' })
      for (const call of [
        'VFIO_IOMMU_SPAPR_TCE_GET_INFO',
        'VFIO_IOMMU_MAP_DMA',
        'VFIO_IOMMU_SPAPR_TCE_CREATE',
      ]) {
        expect(s.ioctl(call, {}, 'child').code).toBe('EPERM')
      }
      expect(s.ioctl('VFIO_GROUP_UNSET_CONTAINER', { fd: 4n }).code).toBe('OK')
    },
  )
})

describe.each(['intended', KERNEL])('T16: MAP_DMA, %s', (profile) => {
  const isKernel = profile === KERNEL
  const ready = () => {
    const s = new Stand({ profile })
    s.container(V2)
    s.mmap(GIB)
    s.register(U, GIB)
    s.remove(0n)
    s.create(16n, 16n * GIB, 1n)
    return s
  }

  it('two pages: their entries, the count, one kill of both', () => {
    const s = ready()
    s.write(U + 0x1_0000n, 'one1')
    s.write(U + 0x2_0000n, 'two2')
    expect(s.map(U + 0x1_0000n, 0x2_0000n, 0x2_0000n)).toBe('OK')
    expect(s.last('region.map')).toMatchObject({ mapped: 3 })
    expect(s.last('hw.set')).toMatchObject({ entry: 2, count: 2, step: 16 })
    expect(s.last('hw.store')).toMatchObject({ count: 2, value: (1n << 61n) | 1n | (2n << 16n), step: 16 })
    expect([s.read(0x2_0000n), s.read(0x3_0000n)].map((a) => a.outputs['data'])).toEqual(['one1', 'two2'])
  })

  it.each<[string, (s: Stand) => string, string]>([
    ['no direction', (s) => s.map(U, 0n, PAGE, 0n), 'EINVAL'],
    ['a flag that is not known', (s) => s.map(U, 0n, PAGE, 4n), 'EINVAL'],
    ['no window', (s) => s.map(U, 1n << 40n, PAGE), 'ENXIO'],
    ['vaddr not aligned', (s) => s.map(U + 0x1000n, 0n, PAGE), 'EINVAL'],
    ['iova not aligned', (s) => s.map(U, 0x2_1000n, PAGE), isKernel ? 'RETURN_1' : 'EINVAL'],
    ['memory that is not registered', (s) => s.map(U + GIB, 0n, PAGE), 'EINVAL'],
    ['a flag and no window', (s) => s.map(U, 1n << 40n, PAGE, 4n), 'EINVAL'],
    ['no direction and no window', (s) => s.map(U, 1n << 40n, PAGE, 0n), 'ENXIO'],
    ['no direction and iova not aligned', (s) => s.map(U, 0x2_1000n, PAGE, 0n), 'EINVAL'],
  ])('%s', (_what, act, code) => {
    expect(act(ready())).toBe(code)
  })

  it('past the end of the window (X6)', () => {
    const s = ready()
    expect(s.map(U, 0x3_ffff_0000n, 0x2_0000n)).toBe(isKernel ? 'OK' : 'EINVAL')
    const corrupt = [...s.machine.log.records()].filter((r) => r.event.kind === 'memory.corrupt')
    expect(corrupt.length > 0).toBe(isKernel)
  })
})
