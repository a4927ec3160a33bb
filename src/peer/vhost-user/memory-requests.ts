import { REGION_BYTES } from '../../reader/vhost-user-format.ts'
import { readField, readNumber } from './codec.ts'
import type { DescriptorPort } from './descriptors.ts'
import { Fault } from './faults.ts'
import { type GuestRegions, Region, type RegionSetup, regionFault } from './guest-regions.ts'
import { errnoName } from './libc.ts'
import type { SessionWatcher } from './session-watcher.ts'

/** Most regions of a memory table: a message carries no more descriptors. */
const TABLE_REGIONS_MAX = 8
/** Regions that come one by one. */
export const REGIONS_MAX = 64
/** Ends of files beyond this are not exact as numbers, and no machine has so much memory. */
const FILE_BYTES_MAX = 2n ** 52n

interface MemoryParts {
  readonly session: { readonly regions: GuestRegions }
  readonly descriptors: DescriptorPort
  readonly watcher: SessionWatcher
}

/** SET_MEM_TABLE: all regions before go, also where one of the new ones is refused: the connection ends then. */
export function setMemoryTable(
  parts: MemoryParts,
  payload: Uint8Array,
  fds: readonly number[],
): Fault | undefined {
  const count = readNumber('memTable', payload, 'regions')
  if (count > TABLE_REGIONS_MAX) return new Fault('region-count', String(count))
  for (const { setup } of parts.session.regions.all) parts.watcher.onRegion(setup, false)
  parts.session.regions.clear()
  for (let i = 0; i < count; i++) {
    const from = 8 + i * REGION_BYTES
    const fault = map(parts, setupOf('region', payload.subarray(from, from + REGION_BYTES)), fds[i] as number)
    if (fault !== undefined) return fault
  }
  return undefined
}

/** ADD_MEM_REG. */
export function addRegion(
  parts: MemoryParts,
  payload: Uint8Array,
  fds: readonly number[],
): Fault | undefined {
  if (parts.session.regions.all.length >= REGIONS_MAX) return new Fault('region-slots', String(REGIONS_MAX))
  return map(parts, setupOf('singleRegion', payload), fds[0] as number)
}

/** REM_MEM_REG: known by its addresses and its bytes. */
export function removeRegion({ session, watcher }: MemoryParts, payload: Uint8Array): Fault | undefined {
  const { gpa, bytes, ua } = setupOf('singleRegion', payload)
  const { regions } = session
  const region = regions.all.find(({ setup: s }) => s.gpa === gpa && s.ua === ua && s.bytes === bytes)
  if (region === undefined) return new Fault('region-unknown', `0x${gpa.toString(16)}`)
  watcher.onRegion(region.setup, false)
  regions.remove(region)
  return undefined
}

const setupOf = (name: 'region' | 'singleRegion', payload: Uint8Array): RegionSetup => ({
  gpa: readField(name, payload, 'gpa'),
  bytes: readField(name, payload, 'regionBytes'),
  ua: readField(name, payload, 'ua'),
  fileOffset: readField(name, payload, 'fileOffset'),
})

function map(
  { session, descriptors, watcher }: MemoryParts,
  setup: RegionSetup,
  fd: number,
): Fault | undefined {
  const { regions } = session
  const fault = regionFault(setup, regions.setups)
  if (fault !== undefined) return fault
  if (descriptors.kindOf(fd) !== 'file') return new Fault('region-not-a-file')
  const end = setup.fileOffset + setup.bytes
  const fileBytes = descriptors.fileBytes(fd)
  // What lies behind the end of the file is there, and ends this process when it is touched.
  if (end > FILE_BYTES_MAX || Number(end) > fileBytes) {
    return new Fault('region-behind-file', `0x${end.toString(16)} of 0x${fileBytes.toString(16)} bytes`)
  }
  const memory = descriptors.map(fd, Number(end))
  if (typeof memory === 'number') return new Fault('region-not-mapped', errnoName(memory))
  const region = new Region(setup, memory)
  regions.add(region)
  watcher.onRegion(setup, true)
  return undefined
}
