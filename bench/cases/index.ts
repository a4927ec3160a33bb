import type { CaseGroup } from '../case.ts'
import { ALLOCATOR } from './allocator.ts'
import { DMA } from './dma.ts'
import { EXPLAIN } from './explain.ts'
import { EXPLORE } from './explore.ts'
import { FLAT } from './flat.ts'
import { HCALLS } from './hcalls.ts'
import { HOST } from './host.ts'
import { HW_DMA } from './hw-dma.ts'
import { IOTLB } from './iotlb.ts'
import { KVM } from './kvm.ts'
import { MACHINE } from './machine.ts'
import { PARSE } from './parse.ts'
import { RECORDS } from './records.ts'
import { SVM } from './svm.ts'
import { TRANSLATE } from './translate.ts'
import { VFIO } from './vfio.ts'
import { VIRTIO } from './virtio.ts'
import { VTD } from './vtd.ts'

/** All loops, in the order of the table. */
export const GROUPS: readonly CaseGroup[] = [
  TRANSLATE,
  HCALLS,
  ALLOCATOR,
  RECORDS,
  DMA,
  MACHINE,
  PARSE,
  EXPLAIN,
  VFIO,
  KVM,
  HW_DMA,
  HOST,
  VIRTIO,
  FLAT,
  IOTLB,
  VTD,
  SVM,
  EXPLORE,
]
