import { describe, expect, it } from 'vitest'
import { SmmuV2Explainer } from '../../../src/report/explain/smmu-v2-explainer.ts'
import { explained, rowOf } from '../../support/explain.ts'

const line = (fsr: string, fsynr: string, tail: string): string =>
  `arm-smmu 16c0000.iommu: Unhandled context fault: fsr=${fsr}, iova=0x1000, fsynr=${fsynr}, ${tail}`

describe('context faults of an SMMUv2', () => {
  it.each([
    ['0x402', '0x1', 'cbfrsynra=0x1900, cb=0', 'read', 0x1900, 'no page is mapped at the address (TF)'],
    [
      '0x8',
      '0x10',
      'cbfrsynra=0x10121, cb=38',
      'write',
      0x121,
      'the page is mapped, but not for this access (PF)',
    ],
    [
      '0x80000002',
      '0x11',
      'cb=3',
      'write',
      null,
      'no page is mapped at the address (TF); more faults came before this one was handled (MULTI)',
    ],
    ['0x400', '0x0', 'cb=3', 'read', null, 'no bit that is known'],
  ])('fsr %s, fsynr %s, %s', (fsr, fsynr, tail, access, stream, means) => {
    const { groups } = explained([line(fsr, fsynr, tail), line(fsr, fsynr, tail)], new SmmuV2Explainer())
    expect(groups).toMatchObject([{ times: 2, words: { kind: 'dma', fields: { access, stream } } }])
    const [group] = groups
    if (group === undefined) throw new Error('no fault')
    expect(rowOf(group, 'means')).toBe(means)
    expect(group.addresses.ranges).toEqual([{ first: 0x1000n, last: 0x1000n }])
  })
})
