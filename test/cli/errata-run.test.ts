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
        step: 2,
        call: 'H_PUT_TCE',
        about: 'records',
        withIt: '0 iommu.notify',
        without: '1 iommu.notify',
      },
    ])
  })

  it('needs an id', async () => {
    const { code, err } = await run(['errata', '--run'])
    expect(code).not.toBe(0)
    expect(err).toContain('--run needs the id of an erratum')
  })
})
