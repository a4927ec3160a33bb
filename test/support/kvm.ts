import type { Answer, CallHandler, Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import { resolveProfile } from '../../src/bits/errata.ts'
import * as kvm from '../../src/kernel/kvm/calls.ts'
import * as kvmDevice from '../../src/kernel/kvm/device-calls.ts'
import { KVM_ERRATA } from '../../src/kernel/kvm/errata.ts'
import { kvmHandlers } from '../../src/kernel/kvm/handlers.ts'
import { Kvm } from '../../src/kernel/kvm/kvm.ts'
import { rawIoctl } from '../../src/kernel/raw-ioctl.ts'
import { OPEN, VFIO_GROUP_SET_CONTAINER, VFIO_SET_IOMMU } from '../../src/kernel/vfio/calls.ts'
import { VFIO_ERRATA } from '../../src/kernel/vfio/errata.ts'
import { vfioHandlers } from '../../src/kernel/vfio/handlers.ts'
import * as spapr from '../../src/kernel/vfio/spapr-calls.ts'
import type { VhostRemedy } from '../../src/kernel/vhost-remedy.ts'
import { completeArguments } from '../../src/machine/arguments.ts'
import type { FakeGroup } from './fake-platform.ts'
import { makeVfio, UA, type VfioWorldOptions } from './vfio.ts'

type Args = Record<string, Value>

export const GUEST_BYTES = 0x100_0000n
export const LIOBN = 0x8000_0001n

export interface KvmWorldOptions extends VfioWorldOptions {
  readonly hasV3Mmu?: boolean
  /** Of the hardware window, and of guest memory that is preregistered. */
  readonly windowBytes?: bigint
  readonly levels?: bigint
  readonly registeredBytes?: bigint
  /** Which allocation from the first call on fails, counted from 1. */
  readonly failsAt?: number
  readonly vhostRemedy?: VhostRemedy
}

/** A host with VFIO over a PE that is not real, and KVM. Errata of KVM and X14 are those of `profile`. */
export function makeKvm(options: KvmWorldOptions = {}) {
  const { profile: name = 'intended' } = options
  const world = makeVfio({ ...options, profile: name.startsWith('linux') ? name : 'intended' })
  const bugs: string[] = []
  let allocations = 0
  let failsAt = options.failsAt ?? 0
  const profile = resolveProfile([...KVM_ERRATA, ...VFIO_ERRATA], name)
  const made = new Kvm({
    processes: world.processes,
    files: world.vfio.files,
    memory: world.memory,
    profile,
    hasV3Mmu: options.hasV3Mmu ?? true,
    onAllocate: () => ++allocations !== failsAt,
    onBug: (why) => bugs.push(why),
    vhostRemedy: options.vhostRemedy,
  })
  const own = kvmHandlers(made)
  const raw = rawIoctl(world.processes, world.vfio.files, [...vfioHandlers(world.vfio), ...own])
  const handlers = new Map<CallDecl, CallHandler>([...own, raw].map((h) => [h.decl, h]))
  const call = (decl: CallDecl, args: Args = {}): Answer => {
    const handler = handlers.get(decl)
    return handler === undefined ? world.call(decl, args) : handler.run(completeArguments(decl, args))
  }
  /** From now on the n-th allocation fails. */
  const failAt = (n: number) => {
    allocations = 0
    failsAt = n
  }
  const kvmFd = world.fdOf(call(OPEN, { path: '/dev/kvm' }))
  return { ...world, kvm: made, call, bugs, failAt, kvmFd }
}

/** With a VM. */
export function withVm(options: KvmWorldOptions = {}) {
  const world = makeKvm(options)
  const vm = world.fdOf(world.call(kvm.KVM_CREATE_VM, { fd: world.kvmFd, type: 0n }))
  return { ...world, vm }
}

export const TABLE = { liobn: LIOBN, page_shift: 12n, offset: 0n, entries: 0x1000n } as const

/** With a VM that has 16 MiB of memory and a VCPU, and all hypercalls on. */
export function withGuest(options: KvmWorldOptions = {}) {
  const world = withVm(options)
  const { call, vm, fdOf } = world
  call(kvm.KVM_SET_USER_MEMORY_REGION, { fd: vm, bytes: GUEST_BYTES, vaddr: UA })
  for (const arg0 of [0x138n, 0x13cn]) call(kvm.KVM_ENABLE_CAP, { fd: vm, cap: 104n, arg0, arg1: 1n })
  const vcpu = fdOf(call(kvm.KVM_CREATE_VCPU, { fd: vm, id: 0n }))
  const table = (more: Args = {}) => call(kvm.KVM_CREATE_SPAPR_TCE_64, { fd: vm, ...TABLE, ...more })
  return { ...world, vcpu, table }
}

/** With a table of 4096 pages of 4 KiB at bus address 0, and a mapping of it. */
export function withTable(options: KvmWorldOptions = {}, more: Args = {}) {
  const world = withGuest(options)
  const tableFd = world.fdOf(world.table(more))
  world.call(kvm.MMAP_TCE, { fd: tableFd, map: 'tce' })
  const tces = (first: bigint, count: bigint) =>
    world.call(kvm.READ_TCE, { map: 'tce', first, count }).outputs['tces']
  return { ...world, tableFd, tces }
}

/** The VFIO device of the VM, and a v2 container with group 0 and one window of 64 KiB pages at bus address 0. */
export function withHardware(options: KvmWorldOptions = {}, more: Args = {}) {
  const world = withTable(options, { page_shift: 16n, entries: 0x1000n, ...more })
  const { call, fdOf, vm, memory, qemu } = world
  const { windowBytes = 1n << 28n, levels = 1n, registeredBytes = GUEST_BYTES } = options
  const containerFd = world.container()
  const groupFd = world.group()
  call(VFIO_GROUP_SET_CONTAINER, { fd: groupFd, container: containerFd })
  call(VFIO_SET_IOMMU, { fd: containerFd, type: 7n })
  call(spapr.VFIO_IOMMU_SPAPR_REGISTER_MEMORY, { fd: containerFd, vaddr: UA, bytes: registeredBytes })
  call(spapr.VFIO_IOMMU_SPAPR_TCE_REMOVE, { fd: containerFd, start_addr: 0n })
  call(spapr.VFIO_IOMMU_SPAPR_TCE_CREATE, {
    fd: containerFd,
    page_shift: 16n,
    window_bytes: windowBytes,
    levels,
  })
  const made = call(kvmDevice.KVM_CREATE_DEVICE, { fd: vm, type: 4n })
  if (made.code !== 'OK') throw new Error(`${made.rule} instead of a device`)
  const device = made.outputs['device_fd'] as bigint
  const hw = (world.vfio.group(0)!.table as FakeGroup).tables[0]
  if (hw === null || hw === undefined) throw new Error('no hardware table')
  const region = memory.find(qemu.mm, UA, registeredBytes)
  const attach = (table = world.tableFd) =>
    call(kvmDevice.KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE, { fd: device, group: groupFd, table })
  return { ...world, fdOf, containerFd, groupFd, device, hw, attach, mapped: () => memory.mappedOf(region) }
}

/** With the group added, and the hardware table behind the table of the guest. */
export function withAttached(options: KvmWorldOptions = {}, more: Args = {}) {
  const world = withHardware(options, more)
  world.call(kvmDevice.KVM_DEV_VFIO_GROUP_ADD, { fd: world.device, group: world.groupFd })
  const attached = world.attach()
  return { ...world, attached }
}
