import { declareLineFamily, kernelLine } from './line-format.ts'

/** A request that a context bank did not translate. */
export const SMMU_V2_FAULT = kernelLine(
  'smmu-v2-fault',
  'arm-smmu {unit:word}: Unhandled context fault: fsr=0x{fsr:x}, iova=0x{iova:x}, fsynr=0x{fsynr:x}, {more:text}',
  {
    era: 'Linux 4.x on',
    doc: 'A context bank met a fault that nobody handles. The stream stands behind cbfrsynra, since Linux 5.4.',
    example:
      '[   20.501062] arm-smmu 16c0000.iommu: Unhandled context fault: fsr=0x402, iova=0x00000000, fsynr=0x1, cbfrsynra=0x1900, cb=0',
  },
)

/** Lines of the driver of Arm's SMMUv1 and SMMUv2. */
export const SMMU_V2_LINES = declareLineFamily({
  id: 'smmu-v2',
  title: 'Arm SMMUv2',
  source: 'Linux v5.4 and later drivers/iommu/arm/arm-smmu/arm-smmu.c; real logs',
  isModelled: false,
  mentions: ['arm-smmu '],
  templates: [SMMU_V2_FAULT],
})
