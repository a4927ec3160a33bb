import { describe, expect, it } from 'vitest'
import { STRUCTS as KVM_STRUCTS } from '../../src/kernel/kvm/structs.ts'
import { encodeStruct } from '../../src/kernel/user-struct.ts'
import {
  CLOSE,
  MMAP_DEVICE,
  MUNMAP_DEVICE,
  OPEN,
  RAW_IOCTL,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_SET_IOMMU,
} from '../../src/kernel/vfio/calls.ts'
import { VFIO_IOMMU_ENABLE, VFIO_IOMMU_MAP_DMA } from '../../src/kernel/vfio/spapr-calls.ts'
import { STRUCTS } from '../../src/kernel/vfio/structs.ts'
import { PROC_EXIT, PROC_FORK } from '../../src/memory/proc-calls.ts'
import { withFiles } from '../support/kvm-rows.ts'
import { testRules } from '../support/rule-table.ts'
import { attached, DEVICE, makeVfio, PAGE, registered, UA } from '../support/vfio.ts'
import { childOf, fdRows, fillFiles, NO_FD, NOWHERE, poke } from '../support/vfio-rows.ts'
import { makeVhost, owned } from '../support/vhost.ts'

const CONTAINER = '/dev/vfio/vfio'

function withDevice() {
  const world = registered()
  const device = world.fdOf(world.call(VFIO_GROUP_GET_DEVICE_FD, { fd: world.groupFd, name: DEVICE }))
  return { ...world, device }
}

describe('open', () => {
  /** An open whose n-th allocation fails; nothing is left of it. */
  const failing = (n: number, path: string) => {
    const world = makeVfio({ journal: true })
    const before = world.journal.hash
    world.failAllocation(n)
    const answer = world.call(OPEN, { path })
    expect(world.journal.hash).toBe(before)
    return answer
  }
  testRules(OPEN, {
    'no-such-process': () => [makeVfio().call(OPEN, { process: 'nobody', path: '/dev/null' })],
    'too-many-files': () => {
      const world = makeVfio()
      fillFiles(world)
      return [CONTAINER, '/dev/vfio/7'].map((path) => world.call(OPEN, { path }))
    },
    'no-file-record': () => ['/dev/vfio/7', CONTAINER].map((path) => failing(1, path)),
    'no-such-file': () =>
      ['/dev/vfio/7', '/dev/vfio/00', '/dev/vfio', '/dev/vfio/noiommu-0'].map((path) =>
        makeVfio().call(OPEN, { path }),
      ),
    'group-open': () => {
      const world = withDevice()
      const again = world.call(OPEN, { path: '/dev/vfio/0' })
      world.call(CLOSE, { fd: world.groupFd })
      return [again, world.call(OPEN, { path: '/dev/vfio/0' })]
    },
    'no-container-record': () => [failing(2, CONTAINER)],
    done: () => {
      const world = makeVfio()
      const answers = [CONTAINER, '/dev/vfio/0', CONTAINER].map((path) => world.call(OPEN, { path }))
      expect(answers.map((a) => a.outputs['fd'])).toEqual([3n, 4n, 5n])
      world.call(CLOSE, { fd: 4n })
      const again = world.call(OPEN, { path: '/dev/vfio/0' })
      expect(again).toMatchObject({ outputs: { fd: 4n }, free: ['fd'] })
      return [...answers, again]
    },
  })
})

describe('close', () => {
  testRules(CLOSE, {
    ...fdRows(CLOSE),
    held: () => {
      const world = withDevice()
      world.call(MMAP_DEVICE, { fd: world.device, map: 'bar' })
      return [world.device, world.groupFd].map((fd) => world.call(CLOSE, { fd }))
    },
    done: () => {
      const world = withDevice()
      return [world.device, world.groupFd, world.fd].map((fd) => world.call(CLOSE, { fd }))
    },
  })

  it('a group whose file goes leaves its container, which gives everything back', () => {
    const { call, groupFd, fd, qemu, pe } = registered()
    call(VFIO_IOMMU_MAP_DMA, { fd, vaddr: UA, iova: 0n, bytes: PAGE })
    expect(qemu.mm.locked.pages).toBe(256n + 128n)
    call(CLOSE, { fd })
    expect(pe.tables[0]?.live()).toHaveLength(16)
    call(CLOSE, { fd: groupFd })
    expect([qemu.mm.locked.pages, pe.tables, pe.isOwned]).toEqual([0n, [null, null], false])
    expect(pe.made[0]).toMatchObject({ references: 0, tces: new Map() })
  })
})

describe('mmap of a device', () => {
  testRules(MMAP_DEVICE, {
    ...fdRows(MMAP_DEVICE, { map: 'bar' }),
    'not-mappable': () => {
      const world = withDevice()
      world.call(MMAP_DEVICE, { fd: world.device, map: 'bar' })
      return [world.groupFd, world.fd].map((fd) => world.call(MMAP_DEVICE, { fd, map: 'bar' }))
    },
    'name-taken': () => {
      const world = withDevice()
      world.call(MMAP_DEVICE, { fd: world.device, map: 'bar' })
      return [world.call(MMAP_DEVICE, { fd: world.device, map: 'bar' })]
    },
    done: () => {
      const world = withDevice()
      return ['bar', 'rom'].map((map) => world.call(MMAP_DEVICE, { fd: world.device, map }))
    },
  })

  // Seen on Linux 6.12.95: the descriptor of the device is closed, its mapping is not.
  it('keeps the device open, and the group in its container', () => {
    const { call, groupFd, device } = withDevice()
    call(MMAP_DEVICE, { fd: device, map: 'bar' })
    expect(call(CLOSE, { fd: device }).code).toBe('OK')
    expect(call(VFIO_GROUP_UNSET_CONTAINER, { fd: groupFd })).toMatchObject({ code: 'EBUSY' })
    call(MUNMAP_DEVICE, { map: 'bar' })
    expect(call(VFIO_GROUP_UNSET_CONTAINER, { fd: groupFd })).toMatchObject({ code: 'OK' })
  })
})

describe('munmap of a device', () => {
  testRules(MUNMAP_DEVICE, {
    'no-such-process': () => [makeVfio().call(MUNMAP_DEVICE, { process: 'nobody', map: 'bar' })],
    'not-mapped': () => {
      const world = withDevice()
      world.call(MMAP_DEVICE, { fd: world.device, map: 'bar' })
      world.call(MUNMAP_DEVICE, { map: 'bar' })
      return ['bar', 'rom'].map((map) => world.call(MUNMAP_DEVICE, { map }))
    },
    done: () => {
      const world = withDevice()
      world.call(MMAP_DEVICE, { fd: world.device, map: 'bar' })
      return [world.call(MUNMAP_DEVICE, { map: 'bar' })]
    },
  })
})

describe('processes', () => {
  it('a child has the files of its parent: both must close them', () => {
    const world = withDevice()
    world.call(MMAP_DEVICE, { fd: world.device, map: 'bar' })
    world.call(PROC_FORK, { child: 'child' })
    for (const fd of [world.device, world.groupFd, world.fd]) world.call(CLOSE, { fd })
    world.call(MUNMAP_DEVICE, { map: 'bar' })
    expect(world.pe.isOwned).toBe(true)
    world.call(PROC_EXIT, { process: 'child' })
    expect([world.pe.isOwned, world.qemu.mm.locked.pages]).toEqual([false, 0n])
  })

  it('the end of a process gives back what its containers had', () => {
    const { call, fd, qemu, pe, host } = withDevice()
    call(VFIO_IOMMU_MAP_DMA, { fd, vaddr: UA, iova: 0n, bytes: PAGE })
    call(PROC_EXIT, { process: 'qemu' })
    expect([qemu.mm.locked.pages, qemu.mm.holders, host.frames.free]).toEqual([0n, 0, host.frames.frames])
    expect(pe.tables).toEqual([null, null])
  })

  it('a container without groups has nothing left of its driver', () => {
    const world = makeVfio({ journal: true })
    const [fd, groupFd] = [world.container(), world.group()]
    const before = world.journal.hash
    for (const type of [7n, 2n]) {
      world.call(VFIO_GROUP_SET_CONTAINER, { fd: groupFd, container: fd })
      world.call(VFIO_SET_IOMMU, { fd, type })
      world.call(VFIO_IOMMU_ENABLE, { fd })
      world.call(VFIO_GROUP_UNSET_CONTAINER, { fd: groupFd })
      expect(world.journal.hash).toBe(before)
    }
  })

  it('state goes back with the machine', () => {
    const world = attached({ journal: true })
    const { call, journal, fd, groupFd, pe } = world
    const [mark, before] = [journal.mark(), journal.hash]
    call(CLOSE, { fd: groupFd })
    call(OPEN, { path: CONTAINER })
    expect(journal.hash).not.toBe(before)
    journal.rollback(mark)
    expect(journal.hash).toBe(before)
    pe.isOwned = true
    expect(call(VFIO_GROUP_UNSET_CONTAINER, { fd: groupFd }).rule).toBe('done')
    expect(call(CLOSE, { fd }).rule).toBe('done')
  })
})

describe('ioctl by number', () => {
  /** Within the numbers of VFIO, but nobody's. */
  const UNUSED = 0x3b8fn
  testRules(RAW_IOCTL, {
    ...fdRows(RAW_IOCTL, { cmd: 0x1234n }),
    'no-driver': () => {
      const world = makeVfio()
      const fd = world.container()
      return [0x1234n, UNUSED].map((cmd) => world.call(RAW_IOCTL, { fd, cmd }))
    },
    'other-process': () => {
      const world = registered()
      childOf(world)
      const { call, fd } = makeVhost()
      return [
        ...[0x1234n, UNUSED].map((cmd) => world.call(RAW_IOCTL, { fd: world.fd, cmd })),
        call(RAW_IOCTL, { fd, cmd: 0x1234n, arg: NOWHERE }),
      ]
    },
    'bad-pointer': () => {
      const { call, fd } = owned()
      return [call(RAW_IOCTL, { fd, cmd: 0x1234n, arg: NOWHERE })]
    },
    'no-such-queue': () => {
      const { call, fd, qemu } = owned()
      qemu.mm.write(UA, Uint8Array.of(2))
      return [call(RAW_IOCTL, { fd, cmd: 0x1234n, arg: UA })]
    },
    'other-vm': () => {
      const world = withFiles()
      world.call(PROC_FORK, { child: 'child' })
      const { vm, vcpu, device } = world.fds
      return [vm, vcpu, device].flatMap((fd) =>
        [0x1234n, 0x2000_ae80n].map((cmd) => world.call(RAW_IOCTL, { process: 'child', fd, cmd })),
      )
    },
    invalid: () => {
      const { call, fds } = withFiles()
      return [fds.kvm, fds.vcpu].flatMap((fd) =>
        [0x1234n, 0x3b64n, 0x2000_ae77n, 0xae00n].map((cmd) => call(RAW_IOCTL, { fd, cmd })),
      )
    },
    unknown: () => {
      const { call, fd, groupFd, device } = withDevice()
      const { call: ask, fds } = withFiles()
      return [
        call(RAW_IOCTL, { fd, cmd: 0x3b90n }),
        call(RAW_IOCTL, { fd: groupFd, cmd: UNUSED }),
        call(RAW_IOCTL, { fd: device, cmd: 0x1234n }),
        ...[fds.driven, fds.group, fds.vm, fds.device, fds.table].map((other) =>
          ask(RAW_IOCTL, { fd: other, cmd: 0x2000_ae77n }),
        ),
        // Of VFIO's files KVM's numbers are none, and the other way round.
        ask(RAW_IOCTL, { fd: fds.driven, cmd: 0x2000_ae01n }),
        ask(RAW_IOCTL, { fd: fds.vm, cmd: 0x2000_3b64n }),
      ]
    },
  })

  it.each([0x3b71n, 0x2000_3b71n])('%x is VFIO_IOMMU_MAP_DMA: its structure is read from memory', (cmd) => {
    const world = registered()
    const { call, fd, pe } = world
    const args = { argsz: 32n, flags: 3n, vaddr: UA, iova: PAGE, bytes: PAGE }
    const arg = poke(world, UA + 0x123n, encodeStruct(STRUCTS.map, args))
    expect(call(RAW_IOCTL, { fd, cmd, arg })).toMatchObject({ rule: 'done', code: 'OK' })
    expect(pe.tables[0]?.live()).toHaveLength(16)
    expect(call(RAW_IOCTL, { fd, cmd, arg: NOWHERE })).toMatchObject({ code: 'EFAULT' })
    expect(call(RAW_IOCTL, { fd: NO_FD, cmd, arg })).toMatchObject({ code: 'EBADF' })
  })

  it('a value goes through as it is', () => {
    const { call, fd } = attached()
    expect(call(RAW_IOCTL, { fd, cmd: 0x3b65n, arg: 7n })).toMatchObject({ code: 'RETURN_1' })
    expect(call(RAW_IOCTL, { fd, cmd: 0x3b66n, arg: 7n })).toMatchObject({ rule: 'driver-set' })
  })

  it('what only devices know is not modelled', () => {
    const { call, device } = withDevice()
    expect(call(RAW_IOCTL, { fd: device, cmd: 0x3b6bn }).state).toBe('unmodelled')
    expect(call(VFIO_IOMMU_MAP_DMA, { fd: device }).state).toBe('unmodelled')
  })

  it('of KVM: by the number of powerpc, with the structure in memory or the value', () => {
    const world = withFiles()
    const { call, fds } = world
    const ask = (fd: bigint, cmd: bigint, arg = 0n) => {
      const { code, rule } = call(RAW_IOCTL, { fd, cmd, arg })
      return `${code} ${rule}`
    }
    expect([ask(fds.kvm, 0x2000_ae03n, 63n), ask(fds.vm, 0x2000_ae03n, 12n)]).toEqual([
      'RETURN_1 supported',
      'OK unsupported',
    ])
    expect([ask(fds.kvm, 0x2000_ae01n, 9n), ask(fds.vm, 0x2000_ae41n, 7n)]).toEqual([
      'EINVAL type-unknown',
      'OK done',
    ])
    expect(ask(fds.vm, 0x8020_aea8n, NOWHERE)).toBe('EFAULT bad-pointer')
    const table = { liobn: 9n, page_shift: 12n, entries: 1n }
    const arg = poke(world, UA, encodeStruct(KVM_STRUCTS.table64, table))
    expect([ask(fds.vm, 0x8020_aea8n, arg), ask(fds.vm, 0x8020_aea8n, arg)]).toEqual([
      'OK done',
      'EBUSY liobn-taken',
    ])
    // The numbers of other architectures are none here, and another size makes another number.
    expect([ask(fds.kvm, 0xae03n, 63n), ask(fds.vm, 0x4020_aea8n), ask(fds.vm, 0x8021_aea8n)]).toEqual([
      'EINVAL invalid',
      'ENOTTY unknown',
      'ENOTTY unknown',
    ])
  })

  it('what files of KVM know and the model does not is not modelled', () => {
    const { call, fds } = withFiles()
    const state = (fd: bigint, cmd: bigint) => call(RAW_IOCTL, { fd, cmd }).state
    expect([
      state(fds.kvm, 0x2000_ae00n),
      state(fds.vm, 0x2000_aeb3n),
      state(fds.vcpu, 0x2000_ae80n),
    ]).toEqual(['unmodelled', 'unmodelled', 'unmodelled'])
    expect([state(fds.vm, 0x2000_ae80n), state(fds.table, 0x2000_aeb3n)]).toEqual(['done', 'done'])
  })
})
