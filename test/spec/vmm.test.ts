import { describe, expect, it } from 'vitest'
import {
  VMM_DEVICE_ADD,
  VMM_DEVICE_DEL,
  VMM_START,
  VMM_SYSTEM_RESET,
} from '../../src/kernel/qemu/vmm-calls.ts'
import { testRules } from '../support/rule-table.ts'
import { GUEST_BYTES, GUEST_UA, LIOBN, makeVmm, startedVmm } from '../support/vmm.ts'

const NO_KVM = { hasKvm: false } as const
const TIGHT = { processes: [{ name: 'qemu', memlockBytes: 1n << 20n }] } as const
const exited = (world: ReturnType<typeof makeVmm> = startedVmm()) => {
  world.proc('exit')
  return world
}

describe('start', () => {
  testRules(VMM_START, {
    started: () => {
      const ended = exited()
      return [startedVmm().vmm('start'), ended.vmm('start')]
    },
    'no-such-process': () => [exited(makeVmm()).vmm('start')],
    // The second row would meet the memory that cannot be mapped as well: KVM comes first.
    'setup-failed': () => [
      startedVmm({}, TIGHT).started,
      startedVmm({ hugeShift: 34, ramBytes: 1n << 34n, ua: 1n << 34n }, { inject: { alloc: 1 } }).started,
      startedVmm({ hugeShift: 34, ramBytes: 1n << 34n, ua: 1n << 34n }).started,
    ],
    done: () => [startedVmm().started, startedVmm(NO_KVM).started, startedVmm({ phbs: [{}] }).started],
  })

  it('makes the system calls of QEMU, in its order', () => {
    const world = makeVmm()
    expect(world.callsOf(() => world.vmm('start'))).toEqual([
      'open done',
      'KVM_CREATE_VM done',
      'KVM_CHECK_EXTENSION supported',
      'KVM_CHECK_EXTENSION supported',
      'KVM_CHECK_EXTENSION supported',
      'KVM_CHECK_EXTENSION supported',
      'mmap done',
      'KVM_SET_USER_MEMORY_REGION done',
      'KVM_CREATE_VCPU done',
      'KVM_ENABLE_CAP done',
      'KVM_ENABLE_CAP done',
      'open done',
      'VFIO_GROUP_GET_STATUS done',
      'open done',
      'VFIO_GET_API_VERSION done',
      'VFIO_CHECK_EXTENSION unsupported',
      'VFIO_CHECK_EXTENSION unsupported',
      'VFIO_CHECK_EXTENSION supported',
      'VFIO_GROUP_SET_CONTAINER done',
      'VFIO_SET_IOMMU done',
      'VFIO_IOMMU_SPAPR_REGISTER_MEMORY done',
      'VFIO_IOMMU_SPAPR_TCE_GET_INFO done',
      'VFIO_IOMMU_SPAPR_TCE_REMOVE cancelled',
      'KVM_CREATE_DEVICE done',
      'KVM_DEV_VFIO_GROUP_ADD done',
      'VFIO_GROUP_GET_DEVICE_FD done',
      'KVM_CREATE_SPAPR_TCE_64 done',
      'mmap_tce done',
      'VFIO_IOMMU_SPAPR_TCE_CREATE done',
      'KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE done',
      'vmm start done',
    ])
  })

  it('without KVM asks nothing of it', () => {
    const world = makeVmm(NO_KVM)
    expect(world.callsOf(() => world.vmm('start')).filter((call) => /KVM|tce_mmap/.test(call))).toEqual([])
  })

  it('says why it ends: the errno that is printed for the memory is not the one that came', () => {
    const { started, put } = startedVmm({}, TIGHT)
    expect(started.warnings).toEqual([
      'vfio 0000:01:00.0: failed to setup container for group 0: ' +
        'RAM memory listener initialization failed: Memory registering failed: Operation not permitted',
    ])
    expect(put(0n, 3n)).toMatchObject({ state: 'dead', rule: 'the process of the guest has ended' })
  })
})

describe('a guest that was not started', () => {
  it('is what its hypercalls and RTAS calls say is missing', () => {
    for (const guest of [{}, NO_KVM]) {
      const { put, get, createWindow, vmm } = makeVmm(guest)
      const why = 'the guest has not been started: vmm: start'
      for (const answer of [put(0n, 3n), get(0n), createWindow(16n, 30n)]) {
        expect(answer).toMatchObject({ state: 'unmodelled', rule: why })
      }
      vmm('start')
      expect([put(0n, 3n).rule, get(0n).outputs['tce']]).toEqual(['done', 3n])
    }
  })

  it('is not missed by the hypercalls of a VM that the scenario makes in its process', () => {
    const { ioctl, proc, put } = makeVmm()
    const fd = proc('open', { path: '/dev/kvm' }).outputs['fd'] as bigint
    const vm = ioctl('KVM_CREATE_VM', { fd, type: 0n }).outputs['fd'] as bigint
    ioctl('KVM_CREATE_VCPU', { fd: vm, id: 0n })
    expect(put(0n, 3n)).toMatchObject({ layer: 'kvm', code: 'H_TOO_HARD', rule: 'liobn-unknown' })
  })
})

describe('system_reset', () => {
  testRules(VMM_SYSTEM_RESET, {
    'not-running': () => [makeVmm().vmm('system_reset'), exited().vmm('system_reset')],
    done: () => [startedVmm().vmm('system_reset'), startedVmm(NO_KVM).vmm('system_reset')],
  })

  it('gives the guest an empty table again, with and without KVM', () => {
    for (const guest of [{}, NO_KVM]) {
      const { put, get, vmm } = startedVmm(guest)
      put(0x1000n, 0x2_0003n)
      expect(get(0x1000n).outputs['tce']).toBe(0x2_0003n)
      vmm('system_reset')
      expect(get(0x1000n).outputs['tce']).toBe(0n)
    }
  })
})

describe('device_add', () => {
  const add = (world: ReturnType<typeof makeVmm>, group: bigint, phb?: string) =>
    world.vmm('device_add', { group, ...(phb !== undefined && { phb }) })
  testRules(VMM_DEVICE_ADD, {
    'not-running': () => [add(makeVmm(), 1n, 'none'), add(exited(), 1n)],
    'no-such-phb': () => [add(startedVmm(), 0n, 'none')],
    'group-added': () => [add(startedVmm(), 0n)],
    'setup-failed': () => {
      const taken = startedVmm()
      taken.proc('open', { path: '/dev/vfio/1' })
      return [add(taken, 1n), add(startedVmm(), 7n)]
    },
    done: () => [add(startedVmm(), 1n), add(startedVmm({ phbs: [{ name: 'a' }, { name: 'b' }] }), 0n, 'b')],
  })

  it('maps what the guest had mapped before', () => {
    const later = startedVmm({ phbs: [{}] })
    later.write(0x2_0000n, 'hello')
    later.put(0x1000n, 0x2_0003n)
    expect(later.callsOf(() => later.vmm('device_add', { group: 0n }))).toContain('VFIO_IOMMU_MAP_DMA done')
    expect(later.read(0x1000n).outputs['data']).toBe('hello')
  })

  it('a second group joins the container of the first, and sees its windows', () => {
    const world = startedVmm()
    const calls = world.callsOf(() => add(world, 1n))
    expect(calls).toEqual([
      'open done',
      'VFIO_GROUP_GET_STATUS done',
      'VFIO_GROUP_SET_CONTAINER done',
      'KVM_DEV_VFIO_GROUP_ADD done',
      'vmm device_add done',
    ])
  })
})

describe('device_del', () => {
  testRules(VMM_DEVICE_DEL, {
    'not-running': () => [makeVmm().vmm('device_del', { group: 0n })],
    'no-such-group': () => [startedVmm().vmm('device_del', { group: 1n })],
    done: () => [startedVmm().vmm('device_del', { group: 0n })],
  })

  it('takes windows, registered memory and files back, in this order', () => {
    const world = startedVmm()
    expect(world.callsOf(() => world.vmm('device_del', { group: 0n }))).toEqual([
      'close done',
      'KVM_DEV_VFIO_GROUP_DEL done',
      'VFIO_IOMMU_UNMAP_DMA done',
      'VFIO_IOMMU_SPAPR_TCE_REMOVE done',
      'VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY done',
      'VFIO_GROUP_UNSET_CONTAINER done',
      'close done',
      'close done',
      'vmm device_del done',
    ])
    expect(world.proc('status').outputs).toMatchObject({ vm_lck_kib: (32n + 1n) * 64n })
  })
})

describe('memory of the guest', () => {
  it('is registered as one range where QEMU has it', () => {
    const world = makeVmm()
    const made = world.during(['region.new'], () => world.vmm('start'))
    expect(made).toMatchObject([{ process: 'qemu', ua: GUEST_UA, pages: Number(GUEST_BYTES >> 16n) }])
  })

  it('on huge pages lets larger windows have larger pages of the host', () => {
    const pages = (hugeShift: number) => {
      const { createWindow, during } = startedVmm({ hugeShift, ramBytes: 1n << 24n })
      return during(['hw.table'], () => createWindow(24n, 32n))
    }
    expect([...pages(0), ...pages(21)]).toMatchObject([{ pageShift: 16 }, { pageShift: 21 }])
  })

  it('that its process has unmapped is not guessed about', () => {
    const world = startedVmm({ ...NO_KVM, profile: 'intended' })
    world.proc('munmap', { address: GUEST_UA, bytes: GUEST_BYTES })
    const list = { liobn: LIOBN, ioba: 0n, list: 0n, npages: 1n }
    const said = world.during(['unmodelled'], () => world.perform('hcall', 'H_PUT_TCE_INDIRECT', list))
    expect(said).toHaveLength(1)
  })
})

describe('a QEMU that aborts in a call of its guest (Q9)', () => {
  const LOST = 'memory-region-added-twice'
  const aborted = () => {
    const world = startedVmm()
    world.write(0x2_0000n, 'hello')
    world.put(0x1000n, 0x2_0003n)
    expect(world.read(0x1000n).outputs['data']).toBe('hello')
    world.createWindow(24n, 62n)
    const calls = world.callsOf(() => {
      expect(world.createWindow(24n, 30n)).toMatchObject({ state: 'dead', rule: LOST })
    })
    return { ...world, calls }
  }

  it('answers nothing any more, and ends once', () => {
    const { calls, get, put, stuff, createWindow, removeWindow, vmm } = aborted()
    expect(calls).toEqual(['exit done'])
    const later = [
      get(0x1000n),
      put(0x1000n, 0n),
      stuff(0n, 0n, 1n),
      createWindow(16n, 30n),
      removeWindow(LIOBN),
      vmm('system_reset'),
    ]
    expect(later.map(({ state, rule }) => `${state} ${rule}`)).toEqual(later.map(() => `dead ${LOST}`))
  })

  it('has left no process, no file, no window, and no page that the device reaches', () => {
    const world = aborted()
    const { proc, perform, read, judge, machine } = world
    const gone = [
      proc('status'),
      proc('open', { path: '/dev/kvm' }),
      perform('mem', 'read', { space: 'ua', address: GUEST_UA, bytes: 2n }),
      proc('exit'),
    ]
    expect(gone.map(({ code }) => code)).toEqual(gone.map(() => 'ESRCH'))
    expect(read(0x1000n)).toMatchObject({ rule: 'refused' })
    const closed = [...machine.log.records()].filter(({ event }) => event.kind === 'window.close')
    expect(closed.map(({ event }) => event)).toMatchObject([{ why: 'exit' }])
    judge.finish()
    const broken = judge.findings.map(({ rule }) => rule)
    expect(broken).toContain('stopped')
    expect(broken.filter((rule) => rule.startsWith('leak') || rule.includes('balance'))).toEqual([])
  })
})
