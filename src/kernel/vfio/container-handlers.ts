import type { CallHandler } from '../../bits/answer.ts'
import type { CallDecl, RuleOf } from '../../bits/call.ts'
import type { DmaDir } from '../../table/hw-table.ts'
import type { Outcome } from '../outcome.ts'
import type { ProcessCall, StructCall } from '../process-call.ts'
import type { StructDecl } from '../user-struct.ts'
import { VFIO_CHECK_EXTENSION, VFIO_GET_API_VERSION, VFIO_SET_IOMMU } from './calls.ts'
import { SPAPR_TCE_IOMMU, SPAPR_TCE_V2_IOMMU, VFIO_EEH } from './container.ts'
import {
  VFIO_IOMMU_DISABLE,
  VFIO_IOMMU_ENABLE,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_SPAPR_REGISTER_MEMORY,
  VFIO_IOMMU_SPAPR_TCE_CREATE,
  VFIO_IOMMU_SPAPR_TCE_GET_INFO,
  VFIO_IOMMU_SPAPR_TCE_REMOVE,
  VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY,
  VFIO_IOMMU_UNMAP_DMA,
} from './spapr-calls.ts'
import type { SpaprContainer } from './spapr-container.ts'
import { STRUCTS } from './structs.ts'
import type { Vfio } from './vfio.ts'
import { containerOf, driverOf, vfioHandler } from './vfio-call.ts'

const ACCESS = 3n
/** Bytes of VFIO_IOMMU_SPAPR_TCE_GET_INFO without the members for dynamic windows. */
const INFO_SHORT_BYTES = 16
const HAS_DDW = 1n

function checkExtension(vfio: Vfio, call: ProcessCall): RuleOf<typeof VFIO_CHECK_EXTENSION> {
  const container = containerOf(vfio, call)
  if (typeof container === 'string') return container
  const extension = call.u64('extension')
  const isThere =
    extension === SPAPR_TCE_IOMMU ||
    extension === SPAPR_TCE_V2_IOMMU ||
    (extension === VFIO_EEH && vfio.eeh?.isEnabled === true)
  return isThere ? 'supported' : 'unsupported'
}

function getInfo(driver: SpaprContainer, call: StructCall): RuleOf<typeof VFIO_IOMMU_SPAPR_TCE_GET_INFO> {
  const { struct } = call
  const copied = call.copyIn(INFO_SHORT_BYTES)
  if (copied !== 'done') return copied
  const [group] = driver.groups
  const hasDdw = driver.isV2 && (group?.maxWindows ?? 0) > 0
  struct.set('dma32_start', BigInt(group?.tce32Start ?? 0))
  struct.set('dma32_bytes', BigInt(group?.tce32Bytes ?? 0))
  struct.set('flags', hasDdw ? HAS_DDW : 0n)
  struct.set('pgsizes', hasDdw ? (group?.pageSizes ?? 0n) : 0n)
  struct.set('max_windows', hasDdw ? BigInt(group?.maxWindows ?? 0) : 0n)
  struct.set('levels', hasDdw ? BigInt(group?.maxLevels ?? 0) : 0n)
  const { bytes } = STRUCTS.info
  const isOut = struct.copyOut(struct.get('argsz') >= BigInt(bytes) ? bytes : INFO_SHORT_BYTES)
  return isOut ? 'done' : 'pointer-not-writable'
}

function map(driver: SpaprContainer, call: StructCall): Outcome<RuleOf<typeof VFIO_IOMMU_MAP_DMA>> {
  if (!driver.isEnabled) return 'not-enabled'
  const { struct } = call
  const copied = call.copyIn(STRUCTS.map.bytes)
  if (copied !== 'done') return copied
  const flags = struct.get('flags')
  if ((flags & ~ACCESS) !== 0n) return 'flags-unknown'
  return driver.map(
    {
      vaddr: struct.get('vaddr'),
      iova: struct.get('iova'),
      bytes: struct.get('bytes'),
      dir: Number(flags) as DmaDir,
    },
    call.process,
  )
}

function unmap(driver: SpaprContainer, call: StructCall): Outcome<RuleOf<typeof VFIO_IOMMU_UNMAP_DMA>> {
  if (!driver.isEnabled) return 'not-enabled'
  const { struct } = call
  const copied = call.copyIn(STRUCTS.unmap.bytes)
  if (copied !== 'done') return copied
  if (struct.get('flags') !== 0n) return 'flags-unknown'
  return driver.unmap({ iova: struct.get('iova'), bytes: struct.get('bytes') }, call.process)
}

/** The beginning of a v2 call, after which the container keeps books for the caller: also where it fails. */
function begin(
  driver: SpaprContainer,
  call: StructCall,
  bytes: number,
): 'bad-pointer' | 'argsz-short' | 'flags-unknown' | 'done' {
  driver.adopt(call.process)
  const copied = call.copyIn(bytes)
  if (copied !== 'done') return copied
  return call.struct.get('flags') !== 0n ? 'flags-unknown' : 'done'
}

function register(
  vfio: Vfio,
  driver: SpaprContainer,
  call: StructCall,
): RuleOf<typeof VFIO_IOMMU_SPAPR_REGISTER_MEMORY> {
  if (!driver.isV2) return 'not-v2'
  const begun = begin(driver, call, STRUCTS.memory.bytes)
  if (begun !== 'done') return begun
  const rule = driver.register(call.struct.get('vaddr'), call.struct.get('bytes'), call.process)
  if (rule === 'partly-pinned') call.outputs['pinned'] = BigInt(vfio.memory.answer)
  return rule
}

function unregister(
  driver: SpaprContainer,
  call: StructCall,
): RuleOf<typeof VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY> {
  if (!driver.isV2) return 'not-v2'
  const { mm } = driver
  if (mm === null) return 'no-process-yet'
  const begun = begin(driver, call, STRUCTS.memory.bytes)
  if (begun !== 'done') return begun
  return driver.unregister(mm, call.struct.get('vaddr'), call.struct.get('bytes'))
}

function create(
  driver: SpaprContainer,
  call: StructCall,
): Outcome<RuleOf<typeof VFIO_IOMMU_SPAPR_TCE_CREATE>> {
  if (!driver.isV2) return 'not-v2'
  const { struct } = call
  const begun = begin(driver, call, STRUCTS.create.bytes)
  if (begun !== 'done') return begun
  const request = {
    pageShift: Number(struct.get('page_shift')),
    bytes: struct.get('window_bytes'),
    levels: Number(struct.get('levels')),
  }
  const outcome = driver.create(request, call.process)
  if (outcome !== 'done') return outcome
  struct.set('start_addr', driver.windows.newestStart)
  return struct.copyOut(STRUCTS.create.bytes) ? 'done' : 'pointer-not-writable'
}

function remove(driver: SpaprContainer, call: StructCall): RuleOf<typeof VFIO_IOMMU_SPAPR_TCE_REMOVE> {
  if (!driver.isV2) return 'not-v2'
  const begun = begin(driver, call, STRUCTS.remove.bytes)
  return begun === 'done' ? driver.remove(call.struct.get('start_addr'), call.process) : begun
}

/** A call that a container hands to its driver, with a structure. */
function driverHandler<D extends CallDecl>(
  vfio: Vfio,
  decl: D,
  struct: StructDecl,
  body: (driver: SpaprContainer, call: StructCall) => Outcome<RuleOf<D>>,
): CallHandler {
  return vfioHandler(
    vfio,
    decl,
    (call) => {
      const driver = driverOf(vfio, call)
      return typeof driver === 'string' || 'stop' in driver ? driver : body(driver, call as StructCall)
    },
    struct,
  )
}

/** The driver of a call that only v1 containers know, or why it is not asked. */
function v1DriverOf(vfio: Vfio, call: ProcessCall) {
  const driver = driverOf(vfio, call)
  return typeof driver === 'object' && 'isV2' in driver && driver.isV2 ? 'not-v1' : driver
}

/** The calls of a container. */
export function containerHandlers(vfio: Vfio): CallHandler[] {
  return [
    vfioHandler(vfio, VFIO_GET_API_VERSION, (call) => {
      const container = containerOf(vfio, call)
      return typeof container === 'string' ? container : 'done'
    }),
    vfioHandler(vfio, VFIO_CHECK_EXTENSION, (call) => checkExtension(vfio, call)),
    vfioHandler(vfio, VFIO_SET_IOMMU, (call) => {
      const container = containerOf(vfio, call)
      return typeof container === 'string' ? container : container.setIommu(call.u64('type'), call.process)
    }),
    driverHandler(vfio, VFIO_IOMMU_SPAPR_TCE_GET_INFO, STRUCTS.info, getInfo),
    driverHandler(vfio, VFIO_IOMMU_MAP_DMA, STRUCTS.map, map),
    driverHandler(vfio, VFIO_IOMMU_UNMAP_DMA, STRUCTS.unmap, unmap),
    vfioHandler(vfio, VFIO_IOMMU_ENABLE, (call) => {
      const driver = v1DriverOf(vfio, call)
      return typeof driver === 'string' || 'stop' in driver ? driver : driver.enable(call.process)
    }),
    vfioHandler(vfio, VFIO_IOMMU_DISABLE, (call) => {
      const driver = v1DriverOf(vfio, call)
      if (typeof driver === 'string' || 'stop' in driver) return driver
      return driver.disable() ? 'done' : 'not-enabled'
    }),
    driverHandler(vfio, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, STRUCTS.memory, (driver, call) =>
      register(vfio, driver, call),
    ),
    driverHandler(vfio, VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, STRUCTS.memory, unregister),
    driverHandler(vfio, VFIO_IOMMU_SPAPR_TCE_CREATE, STRUCTS.create, create),
    driverHandler(vfio, VFIO_IOMMU_SPAPR_TCE_REMOVE, STRUCTS.remove, remove),
  ]
}
