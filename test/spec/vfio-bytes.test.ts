import { describe, expect, it } from 'vitest'
import type { Answer, Value } from '../../src/bits/answer.ts'
import type { Verb } from '../../src/bits/call.ts'
import { VFIO_CALLS } from '../../src/kernel/vfio/calls.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'

const UA = 0x1_0000_0000n
const MIB = 1n << 20n
/** The last byte that is mapped lies before it. */
const END = UA + 4n * MIB
const READ_ONLY = 0x2_0000_0000n
const NOWHERE = 0x10_0000n
const GENERIC = 0x2000_0000

/** 32-bit and 64-bit members, as ppc64le lays them out. */
function bytes(...members: readonly (number | bigint)[]): string {
  const data = Buffer.alloc(members.reduce<number>((n, m) => n + (typeof m === 'bigint' ? 8 : 4), 0))
  let at = 0
  for (const m of members)
    at = typeof m === 'bigint' ? data.writeBigUInt64LE(m, at) : data.writeUInt32LE(m, at)
  return `hex:${data.toString('hex')}`
}

/** A container (3) with group 0 (4) and 4 MiB of memory, in a machine as anybody would make it. */
class Stand {
  readonly machine = createMachine(
    describeMachine({
      kind: 'powernv',
      profile: 'intended',
      phbs: [{ pes: [{ devices: [{ name: 'nic0', kind: 'edu', dmaMask: (1n << 64n) - 1n }] }, {}] }],
    }),
  )

  constructor() {
    for (const path of ['vfio', '0', '1']) this.call('proc', 'open', { path: `/dev/vfio/${path}` })
    this.call('proc', 'mmap', { address: UA, bytes: 4n * MIB, fixed: true })
    this.call('proc', 'mmap', { address: READ_ONLY, bytes: MIB, fixed: true })
    this.call('ioctl', 'VFIO_GROUP_SET_CONTAINER', { fd: 4n, container: 3n })
    this.call('ioctl', 'VFIO_SET_IOMMU', { fd: 3n, type: 7n })
    this.call('ioctl', 'VFIO_IOMMU_SPAPR_REGISTER_MEMORY', { fd: 3n, vaddr: UA, bytes: MIB })
  }

  call(verb: Verb, call: string, args: Record<string, Value>): Answer {
    return this.machine.perform({ verb, call, args })
  }

  /** An ioctl by its number, over a structure that lies at an address. */
  ioctl(name: string, fd: bigint, arg: bigint, isGeneric = false): Answer {
    const nr = VFIO_CALLS.find((call) => call.name === name)?.nr ?? 0
    return this.call('ioctl', 'ioctl', { fd, cmd: BigInt(isGeneric ? nr - GENERIC : nr), arg })
  }

  poke(address: bigint, data: string): void {
    expect(this.call('mem', 'write', { space: 'ua', address, data }).code).toBe('OK')
  }

  peek(address: bigint, count: number): unknown {
    return this.call('mem', 'read', { space: 'ua', address, bytes: BigInt(count) }).outputs['data']
  }
}

interface Structure {
  readonly name: string
  readonly fd: bigint
  readonly bytes: number
  /** argsz or the first member is right, all is right; what is found afterwards. */
  readonly good: string
  readonly after?: string
  /** argsz is one too small, and so are the flags wrong where there are any. */
  readonly short?: string
  readonly badFlags?: string
}

const GIB = 1n << 30n
const STRUCTURES: readonly Structure[] = [
  {
    name: 'VFIO_GROUP_GET_STATUS',
    fd: 4n,
    bytes: 8,
    good: bytes(8, 0xffff),
    after: bytes(8, 3),
    short: bytes(7, 0xffff),
  },
  { name: 'VFIO_GROUP_SET_CONTAINER', fd: 5n, bytes: 4, good: bytes(3) },
  {
    name: 'VFIO_IOMMU_SPAPR_TCE_GET_INFO',
    fd: 3n,
    bytes: 32,
    good: bytes(32, 9, 9, 9, 9n, 9, 9),
    after: bytes(32, 1, 0, 0x8000_0000, 0x4021_1000n, 2, 5),
    short: bytes(15, 9, 9, 9, 9n, 9, 9),
  },
  {
    name: 'VFIO_IOMMU_MAP_DMA',
    fd: 3n,
    bytes: 32,
    good: bytes(32, 3, UA, 0n, 0x1000n),
    short: bytes(31, 4, UA, 0n, 0x1000n),
    badFlags: bytes(32, 4, UA, 1n << 40n, 0x1001n),
  },
  {
    name: 'VFIO_IOMMU_UNMAP_DMA',
    fd: 3n,
    bytes: 24,
    good: bytes(24, 0, 0n, 0x2000n),
    after: bytes(24, 0, 0n, 0x2000n),
    short: bytes(23, 1, 0n, 0x1000n),
    badFlags: bytes(24, 1, 1n << 40n, 1n),
  },
  {
    name: 'VFIO_IOMMU_SPAPR_REGISTER_MEMORY',
    fd: 3n,
    bytes: 24,
    good: bytes(24, 0, UA + MIB, MIB),
    short: bytes(23, 1, UA + MIB, MIB),
    badFlags: bytes(24, 1, UA + 1n, MIB),
  },
  {
    name: 'VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY',
    fd: 3n,
    bytes: 24,
    good: bytes(24, 0, UA, MIB),
    short: bytes(23, 1, UA, MIB),
    badFlags: bytes(24, 1, UA + 1n, MIB),
  },
  {
    name: 'VFIO_IOMMU_SPAPR_TCE_CREATE',
    fd: 3n,
    bytes: 40,
    good: bytes(40, 0, 16, 0, GIB, 1, 0, 7n),
    after: bytes(40, 0, 16, 0, GIB, 1, 0, 1n << 59n),
    short: bytes(39, 1, 16, 0, GIB, 1, 0, 7n),
    badFlags: bytes(40, 1, 13, 0, 3n, 0, 0, 7n),
  },
  {
    name: 'VFIO_IOMMU_SPAPR_TCE_REMOVE',
    fd: 3n,
    bytes: 16,
    good: bytes(16, 0, 0n),
    short: bytes(15, 1, 0n),
    badFlags: bytes(16, 1, 1n << 40n),
  },
]

/** Structures whose answer is written back, with what a page that cannot be written is answered. */
const WRITTEN = new Set([
  'VFIO_GROUP_GET_STATUS',
  'VFIO_IOMMU_SPAPR_TCE_GET_INFO',
  'VFIO_IOMMU_SPAPR_TCE_CREATE',
])

describe.each(STRUCTURES)('$name, its bytes in memory', (s) => {
  const last = END - BigInt(s.bytes)

  it.each([false, true])('is read to its end, and no further (generic number: %s)', (isGeneric) => {
    const stand = new Stand()
    stand.poke(last, s.good)
    expect(stand.ioctl(s.name, s.fd, last, isGeneric)).toMatchObject({ code: 'OK' })
    expect(stand.peek(last, s.bytes)).toBe(s.after ?? s.good)
  })

  it('is refused where a byte of it has no memory, before anything in it counts', () => {
    const stand = new Stand()
    const wrong = { code: 'EFAULT', rule: 'bad-pointer' }
    expect(stand.ioctl(s.name, s.fd, NOWHERE)).toMatchObject(wrong)
    // What is not asked for need not be there.
    const needed = s.name === 'VFIO_IOMMU_SPAPR_TCE_GET_INFO' ? 16n : BigInt(s.bytes)
    stand.poke(END - 4n, bytes(0))
    expect(stand.ioctl(s.name, s.fd, END - needed + 1n)).toMatchObject(wrong)
  })

  it('argsz is looked at before flags, and flags before all else', () => {
    const stand = new Stand()
    if (s.short !== undefined) {
      stand.poke(UA, s.short)
      expect(stand.ioctl(s.name, s.fd, UA)).toMatchObject({ code: 'EINVAL', rule: 'argsz-short' })
    }
    if (s.badFlags === undefined) return
    stand.poke(UA, s.badFlags)
    expect(stand.ioctl(s.name, s.fd, UA)).toMatchObject({ code: 'EINVAL', rule: 'flags-unknown' })
  })

  it('in memory that cannot be written', () => {
    const stand = new Stand()
    stand.poke(READ_ONLY, s.good)
    stand.call('proc', 'mprotect', { address: READ_ONLY, bytes: MIB, read: true })
    const rule = WRITTEN.has(s.name) ? { code: 'EFAULT', rule: 'pointer-not-writable' } : { code: 'OK' }
    expect(stand.ioctl(s.name, s.fd, READ_ONLY)).toMatchObject(rule)
    expect(stand.peek(READ_ONLY, s.bytes)).toBe(s.good)
  })
})

describe('the name of a device, in memory', () => {
  it('ends with a byte 0, within a page', () => {
    const stand = new Stand()
    const get = (arg: bigint) => stand.ioctl('VFIO_GROUP_GET_DEVICE_FD', 4n, arg)
    const name = Buffer.from('0000:01:00.0\0').toString('hex')
    stand.poke(END - 13n, `hex:${name}`)
    expect(get(END - 13n)).toMatchObject({ code: 'OK', outputs: { fd: 6n } })
    expect(get(END - 3n)).toMatchObject({ code: 'ENODEV' })
    stand.poke(END - 1n, 'x')
    expect(get(END - 13n)).toMatchObject({ code: 'EFAULT', rule: 'bad-pointer' })
    stand.poke(UA, `hex:${'78'.repeat(65_536)}`)
    expect(get(UA)).toMatchObject({ code: 'EINVAL', rule: 'name-too-long' })
    expect(get(NOWHERE)).toMatchObject({ code: 'EFAULT' })
  })
})

it('every ioctl that reads a structure has a row', () => {
  const names = VFIO_CALLS.filter(({ args }) => 'arg' in args && 'nr' in args === false).map(
    ({ name }) => name,
  )
  const rows = [...STRUCTURES.map(({ name }) => name), 'VFIO_GROUP_GET_DEVICE_FD']
  // EEH has its own table; an ioctl by number is the way here.
  expect(names.filter((name) => !rows.includes(name))).toEqual(['ioctl', 'VFIO_EEH_PE_OP'])
})
