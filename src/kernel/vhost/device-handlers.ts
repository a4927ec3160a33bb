import type { CallHandler, Value } from '../../bits/answer.ts'
import type { CallDecl, RuleOf } from '../../bits/call.ts'
import { hasFeature, VIRTIO_F } from '../../hw/virtio/features.ts'
import type { AddressSpace } from '../../memory/address-space.ts'
import type { VhostIotlb } from '../../table/vhost-iotlb.ts'
import { type Outcome, unknown } from '../outcome.ts'
import type { StructCall } from '../process-call.ts'
import type { StructDecl } from '../user-struct.ts'
import {
  VHOST_GET_BACKEND_FEATURES,
  VHOST_GET_FEATURES,
  VHOST_RESET_OWNER,
  VHOST_SET_BACKEND_FEATURES,
  VHOST_SET_FEATURES,
  VHOST_SET_MEM_TABLE,
  VHOST_SET_OWNER,
} from './calls.ts'
import type { MemoryRegion } from './device-tables.ts'
import { REGION_BYTES, REGION_WORDS, STRUCTS } from './structs.ts'
import type { Vhost } from './vhost.ts'
import { deviceHandler } from './vhost-call.ts'
import { NET_BACKEND_FEATURES, NET_F, offeredFeatures, type VhostNet } from './vhost-net.ts'

/** Module parameter max_mem_regions. */
const REGIONS_MAX = 64n

function getFeatures(call: StructCall, offered: bigint): 'pointer-not-writable' | 'done' {
  call.struct.set('features', offered)
  return call.struct.copyOut(STRUCTS.features.bytes) ? 'done' : 'pointer-not-writable'
}

function setFeatures(
  vhost: Vhost,
  device: VhostNet,
  call: StructCall,
): Outcome<RuleOf<typeof VHOST_SET_FEATURES>> {
  if (!call.struct.copyIn(STRUCTS.features.bytes)) return 'bad-pointer'
  const features = call.struct.get('features')
  if ((features & ~offeredFeatures(vhost.errata)) !== 0n) return 'features-unknown'
  if (hasFeature(features, NET_F.LOG_ALL)) return unknown('a log of the pages that vhost writes')
  if (hasFeature(features, VIRTIO_F.NOTIFY_ON_EMPTY))
    return unknown('interrupts of vhost for rings that are empty')
  const hasIotlb = hasFeature(features, VIRTIO_F.ACCESS_PLATFORM)
  if (hasIotlb && (vhost.iotlbEntries === 0 || !vhost.onAllocate())) return 'no-iotlb-memory'
  device.setFeatures(features)
  return hasIotlb ? 'iotlb' : 'done'
}

function setBackendFeatures(device: VhostNet, call: StructCall): RuleOf<typeof VHOST_SET_BACKEND_FEATURES> {
  if (!call.struct.copyIn(STRUCTS.features.bytes)) return 'bad-pointer'
  const features = call.struct.get('features')
  if ((features & ~NET_BACKEND_FEATURES) !== 0n) return 'features-unknown'
  device.setBackendFeatures(features)
  return 'done'
}

/** The worker, and the vectors of its queues. */
function setOwner(vhost: Vhost, device: VhostNet, mm: AddressSpace): RuleOf<typeof VHOST_SET_OWNER> {
  if (device.owner !== null) return 'owned'
  if (!vhost.onAllocate() || !vhost.onAllocate()) return 'no-memory'
  device.setOwner(mm)
  return 'done'
}

/** Regions of a table in memory behind its head, or named ones; null where they cannot be read. */
function regionsOf(call: StructCall, count: number): readonly MemoryRegion[] | null {
  const pointer = call.args['arg'] as bigint | undefined
  if (pointer === undefined) {
    const words = (call.args['regions'] ?? []) as readonly bigint[]
    if (count * REGION_WORDS > words.length) return null
    return Array.from({ length: count }, (_, i) => {
      const [gpa, bytes, ua] = words.slice(i * REGION_WORDS) as [bigint, bigint, bigint]
      return { gpa, bytes, ua }
    })
  }
  const data = new Uint8Array(count * REGION_BYTES)
  if (call.process.mm.read(pointer + BigInt(STRUCTS.memory.bytes), data).moved !== data.length) return null
  const view = new DataView(data.buffer)
  return Array.from({ length: count }, (_, i) => {
    const word = (n: number) => view.getBigUint64(i * REGION_BYTES + 8 * n, true)
    return { gpa: word(0), bytes: word(1), ua: word(2) }
  })
}

/** Whether every map of a table lies in user space. (vq_memory_access_ok) */
export function liesInUserSpace(mm: AddressSpace, table: VhostIotlb): boolean {
  for (const { start, last, address } of table.entries()) {
    if (!mm.reaches(address, BigInt.asUintN(64, last - start + 1n))) return false
  }
  return true
}

function setMemTable(vhost: Vhost, device: VhostNet, call: StructCall): RuleOf<typeof VHOST_SET_MEM_TABLE> {
  const { struct, process } = call
  if (!device.isOwnedBy(process)) return 'not-owner'
  if (!struct.copyIn(STRUCTS.memory.bytes)) return 'bad-pointer'
  if (struct.get('padding') !== 0n) return 'padding'
  const count = struct.get('nregions')
  if (count > REGIONS_MAX) return 'too-many-regions'
  if (vhost.iotlbEntries === 0) return 'no-entries'
  if (!vhost.onAllocate()) return 'no-memory'
  const regions = regionsOf(call, Number(count))
  if (regions === null) return 'regions-unreadable'
  if (!vhost.onAllocate()) return 'no-table-memory'
  const table = device.tables.makeMemory(regions)
  if (table === null) return 'region-refused'
  if (device.queues.some((q) => q.isActive) && !liesInUserSpace(process.mm, table)) return 'not-user-memory'
  device.tables.setMemory(table)
  return 'done'
}

/** As many regions as are named, where the call does not say how many. */
function withCount({ decl, run }: CallHandler): CallHandler {
  return {
    decl,
    run(args: Readonly<Record<string, Value>>) {
      const words = (args['regions'] ?? []) as readonly Value[]
      const count = BigInt(Math.floor(words.length / REGION_WORDS))
      return run(args['nregions'] === undefined ? { ...args, nregions: count } : args)
    },
  }
}

/** Calls about a device as a whole. */
export function deviceHandlers(vhost: Vhost): CallHandler[] {
  const ofDevice = <D extends CallDecl>(
    decl: D,
    struct: StructDecl | undefined,
    body: (device: VhostNet, call: StructCall) => Outcome<RuleOf<D>>,
  ): CallHandler => deviceHandler(vhost, decl, body, struct)
  const { features, memory } = STRUCTS
  return [
    ofDevice(VHOST_GET_FEATURES, features, (_, call) => getFeatures(call, offeredFeatures(vhost.errata))),
    ofDevice(VHOST_SET_FEATURES, features, (device, call) => setFeatures(vhost, device, call)),
    ofDevice(VHOST_GET_BACKEND_FEATURES, features, (_, call) => getFeatures(call, NET_BACKEND_FEATURES)),
    ofDevice(VHOST_SET_BACKEND_FEATURES, features, (device, call) => setBackendFeatures(device, call)),
    ofDevice(VHOST_SET_OWNER, undefined, (device, call) => setOwner(vhost, device, call.process.mm)),
    ofDevice(VHOST_RESET_OWNER, undefined, (device, call) => {
      if (!device.isOwnedBy(call.process)) return 'not-owner'
      if (!vhost.onAllocate()) return 'no-memory'
      device.cleanUp(true)
      return 'done'
    }),
    withCount(ofDevice(VHOST_SET_MEM_TABLE, memory, (device, call) => setMemTable(vhost, device, call))),
  ]
}
