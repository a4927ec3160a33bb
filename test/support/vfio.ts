import type { Answer, CallHandler, Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import { resolveProfile } from '../../src/bits/errata.ts'
import type { EehPort } from '../../src/kernel/eeh-port.ts'
import { PreregisteredMemory } from '../../src/kernel/prereg/preregistered-memory.ts'
import { rawIoctl } from '../../src/kernel/raw-ioctl.ts'
import * as calls from '../../src/kernel/vfio/calls.ts'
import { VFIO_ERRATA } from '../../src/kernel/vfio/errata.ts'
import type { VfioGroupOptions } from '../../src/kernel/vfio/group.ts'
import { vfioHandlers } from '../../src/kernel/vfio/handlers.ts'
import { VFIO_IOMMU_SPAPR_REGISTER_MEMORY } from '../../src/kernel/vfio/spapr-calls.ts'
import { Vfio } from '../../src/kernel/vfio/vfio.ts'
import { completeArguments } from '../../src/machine/arguments.ts'
import { procHandlers } from '../../src/memory/proc-handlers.ts'
import { eehOver } from './eeh.ts'
import { FakeGroup } from './fake-platform.ts'
import { makeHost, UNLIMITED } from './host.ts'

/** Where the process `qemu` has memory. */
export const UA = 0x1_0000_0000n
export const PAGE = 0x1_0000n
export const DEVICE = '0001:01:00.0'

export interface VfioWorldOptions {
  readonly profile?: string
  readonly groups?: readonly VfioGroupOptions[]
  readonly memlockBytes?: bigint
  readonly pages?: bigint
  readonly frames?: number
  readonly journal?: boolean
  /** Error handling of PCI; left out, it is on and finds nothing wrong. */
  readonly eeh?: EehPort | null
  /** Errata of preregistered memory. */
  readonly memoryErrata?: readonly string[]
}

/** A POWER host with 64 KiB pages, a process `qemu` with memory at UA, and VFIO over PEs that are not real. */
export function makeVfio(options: VfioWorldOptions = {}) {
  const made = makeHost({ pageShift: 16, frames: options.frames ?? 1024, journal: options.journal ?? false })
  const { processes } = made
  const { memlockBytes = UNLIMITED.memlockBytes } = options
  const qemu = processes.spawn('qemu', { memlockBytes, hasIpcLock: false })
  processes.actor = 'qemu'
  let untilFailure = 0
  const onAllocate = () => --untilFailure !== 0
  const memory = new PreregisteredMemory({
    host: made.host,
    has: (id) => options.memoryErrata?.includes(id) ?? false,
    onAllocate,
  })
  const pe = new FakeGroup()
  const groups = options.groups ?? [{ table: pe, devices: [DEVICE] }]
  const vfio = new Vfio({
    processes,
    memory,
    profile: resolveProfile(VFIO_ERRATA, options.profile ?? 'intended'),
    groups,
    eeh:
      options.eeh === undefined
        ? eehOver(
            made.host,
            groups.map((g) => g.table.group),
          )
        : options.eeh,
    onAllocate,
  })
  /** Makes the n-th allocation from now on fail, and no other. */
  const failAllocation = (n: number) => {
    untilFailure = n
  }
  processes.watch(memory)
  const ioctls = vfioHandlers(vfio)
  const raw = rawIoctl(processes, vfio.files, ioctls)
  const handlers = new Map<CallDecl, CallHandler>(
    [...ioctls, raw, ...procHandlers(processes)].map((h) => [h.decl, h]),
  )
  const call = (decl: CallDecl, args: Record<string, Value> = {}): Answer =>
    handlers.get(decl)!.run(completeArguments(decl, args))
  const fdOf = (answer: Answer): bigint => {
    if (answer.code !== 'OK') throw new Error(`${answer.rule} instead of a descriptor`)
    return answer.outputs['fd'] as bigint
  }
  const mmap = (address: bigint, bytes: bigint, more: { write?: boolean; hugeShift?: number } = {}) =>
    qemu.mm.mmap({
      address,
      bytes,
      read: true,
      write: more.write ?? true,
      fixed: true,
      noreplace: false,
      hugeShift: more.hugeShift ?? 0,
    })
  mmap(UA, (options.pages ?? 256n) * PAGE)
  const container = () => fdOf(call(calls.OPEN, { path: '/dev/vfio/vfio' }))
  const group = (number = 0) => fdOf(call(calls.OPEN, { path: `/dev/vfio/${number}` }))
  return { ...made, qemu, memory, pe, vfio, call, container, group, mmap, fdOf, failAllocation }
}

export type VfioWorld = ReturnType<typeof makeVfio>

/** A container of a type with group 0 in it. */
export function attached(options: VfioWorldOptions & { type?: bigint } = {}) {
  const world = makeVfio(options)
  const fd = world.container()
  const groupFd = world.group()
  world.call(calls.VFIO_GROUP_SET_CONTAINER, { fd: groupFd, container: fd })
  const set = world.call(calls.VFIO_SET_IOMMU, { fd, type: options.type ?? 7n })
  return { ...world, fd, groupFd, set }
}

/** The same with the memory at UA registered. */
export function registered(options: VfioWorldOptions = {}) {
  const world = attached(options)
  const bytes = (options.pages ?? 256n) * PAGE
  world.call(VFIO_IOMMU_SPAPR_REGISTER_MEMORY, { fd: world.fd, vaddr: UA, bytes })
  return world
}
