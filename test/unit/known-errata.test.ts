import { describe, expect, it } from 'vitest'
import { knownErrata } from '../../src/machine/known-errata.ts'
import { findingsText } from '../../src/report/text.ts'
import { startedVmm } from '../support/vmm.ts'

const STOPPED = 'stopped'

describe('errata that a finding may be', () => {
  const known = knownErrata('linux-6.12.95', 'qemu-7.2')

  it('are of the machine, and of the QEMU of its guest', () => {
    expect(known({ rule: 'orphaned-region' })).toEqual(
      knownErrata('linux-6.12.95')({ rule: 'orphaned-region' }),
    )
    expect(known({ rule: 'orphaned-region' })).toContain('X1')
    expect(known({ rule: 'dma-not-granted' })).toEqual(expect.arrayContaining(['Q7', 'Q8', 'X16']))
    expect(knownErrata('linux-6.12.95')({ rule: 'dma-not-granted' })).not.toContain('Q7')
  })

  it('are not of the kernel where QEMU stopped, and not of the QEMU of a guest where the kernel did', () => {
    expect(known({ rule: STOPPED, layer: 'qemu' })).toEqual(['Q9', 'Q11', 'Q12'])
    expect(known({ rule: STOPPED, layer: 'kernel' })).toEqual(['null-user-slot', 'phb3-endless-kill'])
    const emulated = knownErrata('linux-6.12.95+qemu-7.2')
    expect(emulated({ rule: STOPPED, layer: 'qemu' })).toEqual(['Q9', 'Q11', 'Q12'])
    expect(emulated({ rule: STOPPED, layer: 'kernel' })).toEqual(
      expect.arrayContaining(['Q12', 'null-user-slot']),
    )
  })

  it('are of the platform', () => {
    const on = (platform: 'power' | 'x86') => knownErrata('qemu-7.2+linux-6.1', undefined, platform)
    expect(on('x86')({ rule: 'stale-iotlb' })).toEqual(['VD1', 'VD2', 'VD3', 'VD5'])
    expect(on('power')({ rule: 'stale-iotlb' })).toEqual(expect.arrayContaining(['B12', 'B8']))
    expect(on('power')({ rule: 'stale-iotlb' })).not.toContain('VD1')
    expect(on('x86')({ rule: STOPPED, layer: 'qemu' })).toEqual(['VD4'])
    for (const platform of ['power', 'x86'] as const) {
      expect(on(platform)({ rule: 'iotlb-mismatch' })).toEqual(['iotlb-perm-widening'])
    }
  })

  it('of a profile of QEMU that does not have it are not named', () => {
    expect(knownErrata('linux-6.12.95', 'qemu-2.6')({ rule: STOPPED, layer: 'qemu' })).not.toContain('Q9')
  })

  it('stand in the advice for who stopped', () => {
    const { judge, createWindow } = startedVmm()
    createWindow(24n, 62n)
    createWindow(24n, 30n)
    judge.finish()
    const stopped = judge.findings.filter(({ rule }) => rule === STOPPED)
    expect(stopped).toMatchObject([{ layer: 'qemu' }])
    const text = findingsText(stopped, { errataOf: known }).join(' ').replace(/\s+/g, ' ')
    expect(text).toContain('Errata of the profile that show so: Q9, Q11, Q12 (iommulator errata ID).')
  })
})
