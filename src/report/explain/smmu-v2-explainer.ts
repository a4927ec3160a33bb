import { hex } from '../../bits/u64.ts'
import { type FoundLine, valuesOf } from '../../reader/kernel-log/kernel-log-reader.ts'
import { SMMU_V2_FAULT, SMMU_V2_LINES } from '../../reader/kernel-log/smmu-v2-lines.ts'
import type { FamilyExplainer, FaultLog } from './fault-log.ts'

/** Bits of the fault status. (Arm IHI 0062, SMMU_CBn_FSR; Linux arm-smmu.h ARM_SMMU_CB_FSR_*.) */
const STATUS: readonly (readonly [bit: bigint, text: string])[] = [
  [1n << 1n, 'no page is mapped at the address (TF)'],
  [1n << 2n, 'the page has its access flag clear (AFF)'],
  [1n << 3n, 'the page is mapped, but not for this access (PF)'],
  [1n << 4n, 'the unit could not read a page table (EF)'],
  [1n << 5n, 'entries of the TLB contradict each other (TLBMCF)'],
  [1n << 6n, 'an entry of the TLB is locked (TLBLKF)'],
  [1n << 31n, 'more faults came before this one was handled (MULTI)'],
]
/** The access was a write. (SMMU_CBn_FSYNR0.WNR) */
const WRITE = 1n << 4n
const STREAM = /cbfrsynra=0x([0-9a-f]{1,8})/
const STREAM_MASK = 0xffff

/** Decodes context faults of Arm's SMMUv1 and SMMUv2. There is no model of them. */
export class SmmuV2Explainer implements FamilyExplainer {
  readonly family = SMMU_V2_LINES.id

  take(line: FoundLine, log: FaultLog): void {
    const fault = valuesOf(SMMU_V2_FAULT, line)
    if (fault === undefined) return
    const { unit, fsr, iova, more } = fault
    const access = (fault.fsynr & WRITE) === 0n ? 'read' : 'write'
    const digits = STREAM.exec(more)?.[1]
    const stream = digits === undefined ? undefined : Number.parseInt(digits, 16) & STREAM_MASK
    log.fault({
      key: `${unit} ${fsr} ${access} ${more}`,
      line,
      address: iova,
      describe: () => ({
        kind: 'dma',
        title: `DMA ${access} was blocked by the SMMU ${unit}`,
        fields: { unit, fsr: hex(fsr), access, stream: stream ?? null },
        rows: [
          ['status', hex(fsr)],
          [
            'means',
            STATUS.flatMap(([bit, text]) => ((fsr & bit) === 0n ? [] : [text])).join('; ') ||
              'no bit that is known',
          ],
          ...(stream === undefined ? [] : [['stream', hex(stream)] as const]),
        ],
        because: log.earlier('cause').slice(0, 4),
        checks: [
          'find the device of the stream: the properties iommus and iommu-map of the device tree name streams',
          'does it come once at boot? Then the firmware left the device running (a display, say)',
        ],
      }),
    })
  }
}
