import { describe, expect, it } from 'vitest'
import { ERRATA } from '../../src/machine/registry.ts'
import { run } from './run.ts'

const COLUMNS = 100

describe('iommulator errata ID --run', () => {
  it.each(ERRATA.map((e) => e.id))('%s: says where the two runs part', async (id) => {
    const { code, out } = await run(['errata', id, '--run'])
    expect(code).toBe(0)
    expect(out).toContain('    with it: ')
    expect(out).toContain('    without: ')
    const tooLong = out.split('\n').filter((line) => line.length > COLUMNS)
    expect(tooLong).toEqual([])
  })

  it('as JSON: the differences as data, and texts in full', async () => {
    const { out } = await run(['errata', 'b12', '--run', '--json'])
    const { schema, errata, differences } = JSON.parse(out)
    expect([schema, errata[0].id]).toEqual(['iommulator/errata/1', 'B12'])
    expect(differences).toEqual([
      {
        step: 4,
        call: 'H_PUT_TCE',
        about: 'records',
        withIt: '1 call.enter, 0 iommu.notify, 0 iotlb.drop, 0 vhost.message',
        without: '2 call.enter, 1 iommu.notify, 1 iotlb.drop, 1 vhost.message',
      },
      {
        step: 5,
        call: 'write',
        about: 'records',
        withIt: '1 call.enter, 0 dma.translate, 0 iotlb.fill, 0 iotlb.miss, 0 vhost.message',
        without: '5 call.enter, 1 dma.translate, 1 iotlb.fill, 1 iotlb.miss, 2 vhost.message',
      },
      {
        step: 0,
        call: '',
        about: 'findings',
        withIt: 'double-map, stale-iotlb',
        without: 'double-map',
      },
    ])
  })

  it('needs an id', async () => {
    const { code, err } = await run(['errata', '--run'])
    expect(code).not.toBe(0)
    expect(err).toContain('--run needs the id of an erratum')
  })
})
