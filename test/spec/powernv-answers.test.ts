import { describe, expect, it } from 'vitest'
import type { Answer, Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import { VFIO_CALLS } from '../../src/kernel/vfio/calls.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import type { PowernvInput } from '../../src/machine/powernv/description.ts'
import { PROC_CALLS } from '../../src/memory/proc-calls.ts'

const UA = 0x1_0000_0000n
const MIB = 1n << 20n
const NO_FD = 77n
const DEVICE = '0000:01:00.0'

/** The least that a call must be given. */
function leastArgs({ args }: CallDecl): Record<string, Value> {
  const of = { u32: NO_FD, u64: 0n, name: 'x', flag: false } as Readonly<Record<string, Value>>
  const needed = Object.entries(args).filter(([, arg]) => arg.optional !== true)
  return Object.fromEntries(needed.map(([name, arg]) => [name, of[arg.type] ?? 0n]))
}

/** A container (3) of a type with group 0 (4) and 16 MiB of memory. */
function stand(input: Omit<PowernvInput, 'kind'> = {}, type = 7n) {
  const phbs = [{ pes: [{ devices: [{ name: 'nic0', kind: 'edu' as const }] }] }]
  const machine = createMachine(describeMachine({ profile: 'intended', phbs, ...input, kind: 'powernv' }))
  const call = (decl: string, args: Record<string, Value> = {}, process?: string): Answer => {
    const [verb = '', name = ''] = decl.split(' ')
    const by = process === undefined ? {} : { by: { process } }
    return machine.perform({ verb: verb as 'ioctl', call: name, args, ...by })
  }
  const ioctl = (name: string, args: Record<string, Value> = {}) =>
    call(`ioctl ${name}`, { fd: 3n, ...args }).rule
  for (const path of ['vfio', '0']) call('proc open', { path: `/dev/vfio/${path}` })
  call('proc mmap', { address: UA, bytes: 16n * MIB, fixed: true })
  ioctl('VFIO_GROUP_SET_CONTAINER', { fd: 4n, container: 3n })
  ioctl('VFIO_SET_IOMMU', { type })
  return { machine, call, ioctl }
}

const MAP = { flags: 3n, vaddr: UA, iova: 0n, bytes: 0x1000n }
const UNMAP = { iova: 0n, bytes: 0x1000n }
const CREATE = { page_shift: 16n, window_bytes: 1n << 30n, levels: 1n }

describe('who acts comes first', () => {
  it.each([...VFIO_CALLS, ...PROC_CALLS])('$verb $name', (decl) => {
    const { call } = stand()
    call('proc fork', { child: 'gone' })
    call('proc exit', {}, 'gone')
    for (const process of ['nobody', 'gone']) {
      expect(call(`${decl.verb} ${decl.name}`, leastArgs(decl), process)).toMatchObject({
        code: 'ESRCH',
        rule: 'no-such-process',
      })
    }
  })
})

describe('then what the descriptor is', () => {
  const withFd = VFIO_CALLS.filter(({ args }) => 'fd' in args)
  it.each(withFd)('$verb $name', (decl) => {
    const { call } = stand()
    expect(call(`${decl.verb} ${decl.name}`, leastArgs(decl))).toMatchObject({
      code: 'EBADF',
      rule: 'bad-fd',
    })
  })
})

describe('the 32-bit window that has to be made first', () => {
  const ready = (input: Omit<PowernvInput, 'kind'> = {}) => {
    const made = stand(input)
    made.ioctl('VFIO_IOMMU_SPAPR_REGISTER_MEMORY', { vaddr: UA, bytes: MIB })
    return made
  }
  const three = ({ ioctl }: ReturnType<typeof ready>) => [
    ioctl('VFIO_IOMMU_MAP_DMA', { ...MAP, iova: 1n << 40n, bytes: 1n }),
    ioctl('VFIO_IOMMU_UNMAP_DMA', { ...UNMAP, iova: 1n << 40n, bytes: 1n }),
    ioctl('VFIO_IOMMU_SPAPR_TCE_CREATE', { ...CREATE, page_shift: 13n }),
  ]

  it('passes the limit, whatever else is wrong', () => {
    const made = ready()
    made.call('proc setrlimit', { memlock_bytes: 16n * 0x1_0000n + 127n * 0x1_0000n })
    expect(three(made)).toEqual(new Array(3).fill('default-window-limit'))
    made.call('proc setrlimit', { memlock_bytes: 16n * 0x1_0000n + 128n * 0x1_0000n })
    expect(three(made)).toEqual(['no-window', 'no-window', 'page-size-unknown'])
  })

  it('cannot be made', () => {
    const made = ready({ phbs: [{ m32Base: 0xc000_0000, pes: [{}] }] })
    expect(three(made)).toEqual(new Array(3).fill('default-window-refused'))
  })
})

describe('bounds', () => {
  it('a process with all its descriptors in use', () => {
    const { call } = stand()
    let last: Answer
    do last = call('proc open', { path: '/dev/vfio/vfio' })
    while (last.code === 'OK')
    expect(last).toMatchObject({ code: 'EMFILE', rule: 'too-many-files' })
    expect(call('proc open', { path: '/dev/vfio/9' }).rule).toBe('too-many-files')
    const device = (name: string) => call('ioctl VFIO_GROUP_GET_DEVICE_FD', { fd: 4n, name }).rule
    expect([device(DEVICE), device('0009:01:00.0')]).toEqual(['too-many-files', 'no-such-device'])
  })

  it('a range that wraps, a level that no block of memory holds, a limit before a form that fits no table', () => {
    const { call, ioctl } = stand()
    const vaddr = (1n << 64n) - 0x1_0000n
    expect(ioctl('VFIO_IOMMU_SPAPR_REGISTER_MEMORY', { vaddr, bytes: 0x1_0000n })).toBe('range-wraps')
    ioctl('VFIO_IOMMU_SPAPR_TCE_REMOVE', { start_addr: 0n })
    const large = { page_shift: 16n, window_bytes: 1n << 40n, levels: 1n }
    const odd = { page_shift: 16n, window_bytes: 1n << 34n, levels: 3n }
    const create = (request: Record<string, bigint>) => ioctl('VFIO_IOMMU_SPAPR_TCE_CREATE', request)
    expect([create(large), create(odd)]).toEqual(['no-memory', 'table-refused'])
    call('proc setrlimit', { memlock_bytes: 0n })
    expect([create(large), create(odd), create({ ...odd, levels: 0n })]).toEqual([
      'limit',
      'limit',
      'bad-geometry',
    ])
  })

  it('v1: the window is charged once, and before all else of it', () => {
    const { call, ioctl } = stand({}, 2n)
    call('proc setrlimit', { memlock_bytes: 32_767n * 0x1_0000n })
    expect([ioctl('VFIO_IOMMU_ENABLE'), ioctl('VFIO_IOMMU_MAP_DMA', MAP)]).toEqual(['limit', 'not-enabled'])
    call('proc setrlimit', { memlock_bytes: 32_768n * 0x1_0000n })
    expect([ioctl('VFIO_IOMMU_ENABLE'), ioctl('VFIO_IOMMU_ENABLE')]).toEqual(['done', 'enabled'])
    expect(ioctl('VFIO_IOMMU_MAP_DMA', MAP)).toBe('default-window-limit')
  })
})
