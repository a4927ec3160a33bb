import { describe, expect, it } from 'vitest'
import type { Answer, Value } from '../../src/bits/answer.ts'
import type { Verb } from '../../src/bits/call.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import type { Machine } from '../../src/machine/machine.ts'
import type { PowernvInput } from '../../src/machine/powernv/description.ts'
import { TimeTravel } from '../../src/machine/time-travel.ts'

const WORD = 0xffff_ffff_ffff_ffffn
const UA = 0x1_0000_0000n
const DEVICE = '0001:01:00.0'

const hostOf = (input: Partial<PowernvInput> = {}) =>
  describeMachine({
    profile: 'intended',
    phbs: [{ domain: 1, pes: [{ devices: [{ name: 'edu0', kind: 'edu', dmaMask: WORD }] }] }],
    ...input,
    kind: 'powernv',
  })

const call = (m: Machine, verb: Verb, name: string, args: Record<string, Value> = {}, process?: string) =>
  m.perform({ verb, call: name, args, ...(process !== undefined && { by: { process } }) })

/** Opens a container, v2 unless said otherwise, with group 0 in it, maps 16 MiB of memory for the process, and gives both descriptors. */
function attach(m: Machine, type = 7n): { fd: bigint; group: bigint } {
  const fd = call(m, 'proc', 'open', { path: '/dev/vfio/vfio' }).outputs['fd'] as bigint
  const group = call(m, 'proc', 'open', { path: '/dev/vfio/0' }).outputs['fd'] as bigint
  call(m, 'ioctl', 'VFIO_GROUP_SET_CONTAINER', { fd: group, container: fd })
  call(m, 'ioctl', 'VFIO_SET_IOMMU', { fd, type })
  call(m, 'proc', 'mmap', { address: UA, bytes: 1n << 24n, read: true, write: true, fixed: true })
  return { fd, group }
}

const register = (m: Machine, fd: bigint): Answer =>
  call(m, 'ioctl', 'VFIO_IOMMU_SPAPR_REGISTER_MEMORY', { fd, vaddr: UA, bytes: 1n << 24n })

/** The same with the memory registered. */
function open(m: Machine): { fd: bigint; group: bigint } {
  const opened = attach(m)
  expect(register(m, opened.fd).code).toBe('OK')
  return opened
}

const map = (m: Machine, fd: bigint, iova: bigint, vaddr: bigint): Answer =>
  call(m, 'ioctl', 'VFIO_IOMMU_MAP_DMA', { fd, flags: 3n, vaddr, iova, bytes: 0x1_0000n })

describe('a POWER host whose kernel stops', () => {
  /** No memory for the first level of a userspace view: the kernel follows a null pointer. */
  const stopped = () => {
    const m = createMachine(hostOf({ profile: 'linux-6.12.95', inject: { alloc: 13 } }))
    const { fd } = open(m)
    call(m, 'ioctl', 'VFIO_IOMMU_SPAPR_TCE_REMOVE', { fd, start_addr: 0n })
    const window = { page_shift: 16n, window_bytes: 1n << 34n, levels: 2n }
    call(m, 'ioctl', 'VFIO_IOMMU_SPAPR_TCE_CREATE', { fd, ...window })
    return { m, fd, answer: map(m, fd, 0x2_0000n, UA) }
  }

  it('answers no call any more, and tells it once', () => {
    const { m, fd, answer } = stopped()
    const why = answer.rule
    expect(answer).toMatchObject({ state: 'dead', code: 'DEAD', rule: expect.stringContaining('address 0') })
    expect(map(m, fd, 0x4_0000n, UA)).toMatchObject({ state: 'dead', rule: why })
    expect(call(m, 'proc', 'close', { fd })).toMatchObject({ state: 'dead', rule: why })
    expect(call(m, 'dma', 'read', { device: 'edu0', iova: 0x2_0000n, bytes: 4n }).state).toBe('dead')
    expect(call(m, 'mem', 'read', { space: 'ua', address: UA, bytes: 4n }).rule).toBe('done')
    expect([...m.log.records()].filter(({ event }) => event.kind === 'dead')).toHaveLength(1)
  })

  it('has no answer for the call in which an assertion stopped it', () => {
    const m = createMachine(
      hostOf({
        profile: 'linux-6.12.95',
        phbs: [{ domain: 1, platform: 'PHB3', pes: [{ devices: [] }] }],
      }),
    )
    const { fd } = open(m)

    expect(call(m, 'ioctl', 'VFIO_IOMMU_UNMAP_DMA', { fd, iova: 0n, bytes: 0n }).code).toBe('DEAD')
    expect(call(m, 'ioctl', 'VFIO_IOMMU_UNMAP_DMA', { fd, iova: 0x1000n, bytes: 0n }).code).toBe('DEAD')
    expect([...m.log.records()].filter(({ event }) => event.kind === 'dead')).toHaveLength(1)
  })
})

describe('a POWER host', () => {
  it('moves the bytes of a device through a container, and no more once they are unmapped', () => {
    const m = createMachine(hostOf())
    const { fd } = open(m)
    expect(map(m, fd, 0x2_0000n, UA).code).toBe('OK')
    call(m, 'mem', 'write', { space: 'ua', address: UA + 16n, data: 'hello' })
    const read = () => call(m, 'dma', 'read', { device: 'edu0', iova: 0x2_0010n, bytes: 5n })
    expect(read()).toMatchObject({ rule: 'done', outputs: { data: 'hello' } })
    call(m, 'ioctl', 'VFIO_IOMMU_UNMAP_DMA', { fd, iova: 0x2_0000n, bytes: 0x1_0000n })
    expect(read()).toMatchObject({ rule: 'refused', outputs: { moved: 0n } })
    expect(read().rule).toBe('pe-frozen')
  })

  it('does not freeze where the description says so', () => {
    const [phb] = hostOf().phbs
    const m = createMachine(hostOf({ phbs: [{ ...phb, freeze: 'none' }] }))
    open(m)
    const read = () => call(m, 'dma', 'read', { device: 'edu0', iova: 0n, bytes: 1n }).rule
    expect([read(), read()]).toEqual(['outside-windows', 'outside-windows'])
  })

  it('gives a group that the kernel keeps all of memory at 1 << 59', () => {
    const m = createMachine(hostOf())
    expect(call(m, 'dma', 'read', { device: 'edu0', iova: 1n << 59n, bytes: 4n }).rule).toBe('done')
  })

  it('hands devices out by their PCI address', () => {
    const m = createMachine(hostOf())
    const { group } = open(m)
    const device = (name: string) => call(m, 'ioctl', 'VFIO_GROUP_GET_DEVICE_FD', { fd: group, name }).code
    expect([device('0000:01:00.0'), device(DEVICE)]).toEqual(['ENODEV', 'OK'])
  })

  it('has the memory of several PHBs, and segments on P7IOC', () => {
    const m = createMachine(
      hostOf({
        phbs: [
          { pes: [{}] },
          { platform: 'P7IOC', pes: [{ devices: [{ name: 'old', kind: 'edu', dmaMask: WORD }] }] },
        ],
      }),
    )
    expect(call(m, 'proc', 'open', { path: '/dev/vfio/1' }).code).toBe('OK')
    expect(call(m, 'dma', 'read', { device: 'old', iova: 0x1000_0000n, bytes: 1n }).rule).toBe(
      'outside-windows',
    )
  })

  it('lets the first process act where nobody is named', () => {
    const processes = [{ name: 'vmm' }, { name: 'other' }]
    const m = createMachine(hostOf({ processes }))
    const { fd } = open(m)
    const info = (process?: string) => call(m, 'ioctl', 'VFIO_IOMMU_SPAPR_TCE_GET_INFO', { fd }, process).rule
    expect([info(), info('vmm'), info('other')]).toEqual(['done', 'done', 'bad-fd'])
  })

  it('fails the allocation that is injected, and no other', () => {
    const refusals = (alloc?: number): number => {
      const m = createMachine(hostOf(alloc === undefined ? {} : { inject: { alloc } }))
      const { fd } = attach(m)
      const codes = [register(m, fd), map(m, fd, 0n, UA), register(m, fd), map(m, fd, 0n, UA)].map(
        (a) => a.code,
      )
      return codes.filter((code) => code === 'ENOMEM').length
    }
    // Five are made before memory is registered: two files, two containers and the record of the group.
    const counts = Array.from({ length: 12 }, (_, i) => refusals(i + 6))
    expect(counts.filter((n) => n > 1)).toEqual([])
    expect(counts.filter((n) => n === 1).length).toBeGreaterThan(3)
    expect([counts.at(-1), refusals()]).toEqual([0, 0])
  })

  it('lets the first mapping that is injected meet a region on its way out, and no other', () => {
    const rulesOf = (regionGoing: number): string[] => {
      const m = createMachine(hostOf({ inject: { regionGoing } }))
      const { fd } = open(m)
      const at = (iova: bigint) => map(m, fd, iova, UA).rule
      const rules = [at(0n), at(0x1_0000n)]
      call(m, 'ioctl', 'VFIO_IOMMU_UNMAP_DMA', { fd, iova: 0n, bytes: 0x2_0000n })
      return [...rules, at(0n)]
    }
    expect(rulesOf(1)).toEqual(['region-going', 'done', 'done'])
    expect(rulesOf(2)).toEqual(['done', 'done', 'region-going'])
    expect(rulesOf(3)).toEqual(['done', 'done', 'done'])
  })

  it('gives a P7IOC tables of 64 KiB pages where its description says so', () => {
    const device = { name: 'old', kind: 'edu', dmaMask: WORD } as const
    const m = createMachine(
      hostOf({
        profile: 'linux-6.1',
        phbs: [{ platform: 'P7IOC', pageShifts: [16], pes: [{ firstSegment: 1, devices: [device] }] }],
      }),
    )
    const { fd } = attach(m, 2n)
    call(m, 'ioctl', 'VFIO_IOMMU_ENABLE', { fd })
    const iova = 0x1000_0000n
    expect(map(m, fd, iova + 0x1000n, UA).rule).toBe('iova-unaligned-returns-1')
    expect(map(m, fd, iova + 0x3_0000n, UA).rule).toBe('done')
    call(m, 'mem', 'write', { space: 'ua', address: UA + 0xfff0n, data: 'end' })
    const read = call(m, 'dma', 'read', { device: 'old', iova: iova + 0x3_fff0n, bytes: 3n })
    expect(read).toMatchObject({ rule: 'done', outputs: { data: 'end' } })
  })

  it('can be travelled in time', () => {
    const description = hostOf()
    const at = (m: Machine) => m.journal.hash
    const make = () => createMachine(description, { journal: true })
    const m = make()
    const args = { path: '/dev/vfio/vfio' }
    const start = m.log.length
    m.perform({ verb: 'proc', call: 'open', args })
    const end = at(m)
    const travel = new TimeTravel(make, [{ verb: 'proc', call: 'open', args }])
    expect(at(travel.goTo(m.log.length - 1))).toBe(end)
    expect(at(travel.goTo(start - 1))).toBe(at(make()))
  })
})
