import type { CallDecl } from '../../bits/call.ts'
import { VFIO_EEH_PE_OP } from '../../kernel/vfio/eeh-calls.ts'
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
} from '../../kernel/vfio/spapr-calls.ts'
import {
  type AgentArgs,
  type AgentSaid,
  elsewhere,
  oneCall,
  outputOf,
  type ProcessCall,
  returned,
  TASK_BYTES,
  u32,
  u64,
  unmodelled,
} from './kernel-answers-said.ts'

/** Bytes that the agent may pin at once: the model has a frame for each page. */
const PIN_BYTES_MAX = 1n << 34n

/** Commands that a container hands to its driver. `fd` answers the container in use. */
export function spaprRuns(call: ProcessCall, fd: () => bigint) {
  const onMemory = (decl: CallDecl) => {
    const run = elsewhere(
      oneCall(call, decl, (args) => ({
        fd: fd(),
        vaddr: u64(args, 'vaddr'),
        bytes: u64(args, 'bytes'),
        flags: u32(args, 'flags'),
      })),
    )
    return (args: AgentArgs): AgentSaid => {
      const bytes = u64(args, 'bytes')
      // What the process cannot have is refused before a page of it is touched.
      const isLarge = bytes > PIN_BYTES_MAX && u64(args, 'vaddr') + bytes <= TASK_BYTES
      return isLarge ? unmodelled('more memory than a modelled host has') : run(args)
    }
  }
  return {
    enable: oneCall(call, VFIO_IOMMU_ENABLE, () => ({ fd: fd() })),
    disable: oneCall(call, VFIO_IOMMU_DISABLE, () => ({ fd: fd() })),
    info: (args: AgentArgs) => {
      const answer = call(VFIO_IOMMU_SPAPR_TCE_GET_INFO, {
        fd: fd(),
        argsz: u32(args, 'argsz'),
      })
      return returned(answer, {
        flags: outputOf(answer, 'flags'),
        dma32Start: outputOf(answer, 'dma32_start'),
        dma32Bytes: outputOf(answer, 'dma32_bytes'),
        pageSizes: outputOf(answer, 'pgsizes'),
        windows: outputOf(answer, 'max_windows'),
        levels: outputOf(answer, 'levels'),
      })
    },
    register: onMemory(VFIO_IOMMU_SPAPR_REGISTER_MEMORY),
    unregister: onMemory(VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY),
    create: (args: AgentArgs) => {
      const answer = call(VFIO_IOMMU_SPAPR_TCE_CREATE, {
        fd: fd(),
        page_shift: u32(args, 'pageShift'),
        window_bytes: u64(args, 'bytes'),
        levels: u32(args, 'levels'),
        flags: u32(args, 'flags'),
      })
      return returned(answer, { start: outputOf(answer, 'start_addr') })
    },
    remove: oneCall(call, VFIO_IOMMU_SPAPR_TCE_REMOVE, (args) => ({
      fd: fd(),
      start_addr: u64(args, 'start'),
    })),
    map: elsewhere(
      oneCall(call, VFIO_IOMMU_MAP_DMA, (args) => ({
        fd: fd(),
        iova: u64(args, 'iova'),
        vaddr: u64(args, 'vaddr'),
        bytes: u64(args, 'bytes'),
        flags: u32(args, 'flags'),
      })),
    ),
    unmap: (args: AgentArgs) => {
      const answer = call(VFIO_IOMMU_UNMAP_DMA, {
        fd: fd(),
        iova: u64(args, 'iova'),
        bytes: u64(args, 'bytes'),
        flags: u32(args, 'flags'),
      })
      return returned(answer, { unmappedBytes: outputOf(answer, 'bytes') })
    },
    eeh: oneCall(call, VFIO_EEH_PE_OP, (args) => ({
      fd: fd(),
      op: u32(args, 'op'),
      type: u32(args, 'type'),
      func: u32(args, 'func'),
      addr: u64(args, 'addr'),
      mask: u64(args, 'mask'),
    })),
  }
}
