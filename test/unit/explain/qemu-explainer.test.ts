import { describe, expect, it } from 'vitest'
import { QEMU_TRACE } from '../../../src/reader/qemu-trace-format.ts'
import type { FaultGroup } from '../../../src/report/explain/fault-log.ts'
import { QemuExplainer } from '../../../src/report/explain/qemu-explainer.ts'
import { causesOf, explained, rowOf } from '../../support/explain.ts'

const REASON = { kernelText: 'PTE Read access is not set', doc: 'No entry allows the read.' }
const groups = (...lines: string[]): readonly FaultGroup[] =>
  explained(lines, new QemuExplainer((code) => (code === 6 ? REASON : undefined))).groups
const only = (...lines: string[]): FaultGroup => {
  const all = groups(...lines)
  expect(all).toHaveLength(1)
  return all[0] as FaultGroup
}
const Q = 'qemu-system-x86_64:'
const FAILED = `${Q} vtd_iommu_translate: detected translation failure (dev=00:04:00, iova=0x1000)`
const permission = (level: string, entry: string, write = 0): string =>
  `${Q} vtd_iova_to_slpte: detected slpte permission error (iova=0x1000, level=${level}, slpte=${entry}, write=${write}, pasid=0xffffffff)`

describe("stderr of QEMU's intel-iommu, as its programs print it", () => {
  it('a walk and the device that it failed for are one fault', () => {
    const fault = only(permission('0x3', '0x0'), `${Q} Something else`, FAILED)
    expect(fault.words.title).toBe('a read by 00:04.0 was blocked by the emulated unit')
    expect(fault.words.fields).toEqual({ level: 3, entry: '0x0', access: 'read' })
    expect(fault.addresses.ranges).toEqual([{ first: 0x1000n, last: 0x1000n }])
    expect(causesOf(fault)).toEqual([[1, 'QEMU says at which entry the walk ended']])
  })

  it.each([
    ['0x1', '0x0', 0, 'the entry of level 1 (it covers 4 KiB) is 0: nothing is mapped there'],
    ['0x2', '0x200001', 1, 'the entry of level 2 (it covers 2 MiB) is 0x200001: reads, no writes'],
    ['0x3', '0x200002', 0, 'the entry of level 3 (it covers 1 GiB) is 0x200002: no reads, writes'],
    ['0x4', '0x0', 0, 'the entry of level 4 (it covers 512 GiB) is 0: nothing is mapped there'],
  ])('level %s, entry %s', (level, entry, write, where) => {
    expect(rowOf(only(permission(level, entry, write), FAILED), 'failed at')).toBe(where)
  })

  it.each([
    [
      'of QEMU 11',
      `${Q} vtd_iova_to_sspte: detected sspte permission error (iova=0x1000, level=0x3, sspte=0x0, write=0, pasid=0x0)`,
    ],
    [
      'before QEMU 7.2',
      `${Q} vtd_iova_to_slpte: detected slpte permission error (iova=0x1000, level=0x3, slpte=0x0, write=0)`,
    ],
  ])('a walk %s', (_what, line) => {
    expect(only(line, FAILED).words.fields).toEqual({ level: 3, entry: '0x0', access: 'read' })
  })

  it.each([
    [
      `${Q} vtd_dev_to_context_entry: invalid context entry: hi=107, lo=102001 (level 9 not supported)`,
      'the context entry 0x107 0x102001 is not valid: level 9 not supported',
    ],
    [
      `${Q} vtd_root_entry_rsvd_bits_check: invalid root entry: hi=0x0, lo=0x101801`,
      'the root entry 0x0 0x101801 has reserved bits set',
    ],
    [
      `${Q} vtd_iova_to_slpte: detected IOVA overflow (iova=0x1000,pasid=0xffffffff)`,
      'the address has more bits than the context entry allows',
    ],
  ])('%s', (line, where) => {
    const fault = only(line, FAILED)
    expect(rowOf(fault, 'failed at')).toBe(where)
    expect(fault.words.device).toBe('00:04.0')
    // Without the second line it is told of by itself.
    expect(only(line).words.device).toBeUndefined()
  })

  it('a walk of another address belongs to no device', () => {
    const all = groups(permission('0x3', '0x0').replace('iova=0x1000', 'iova=0x2000'), FAILED)
    expect(all.map(({ words }) => words.device)).toEqual([undefined, '00:04.0'])
  })

  it('a line that comes alone', () => {
    const fault = only(FAILED)
    expect(fault.words.title).toBe('a request by 00:04.0 was blocked by the emulated unit')
    expect(rowOf(fault, 'how often')).toContain('once in the life of its process')
  })

  it('faults that the guest cannot see, and a queue that stops', () => {
    const all = groups(
      `${Q} Interrupt Mask set, irq is not generated`,
      `${Q} New fault is not recorded due to compression of faults`,
      `${Q} vtd_process_wait_desc: invalid wait desc: hi=0, lo=5 (unknown type)`,
    )
    expect(all.map(({ words }) => words.kind)).toEqual(['record', 'record', 'queue'])
  })
})

describe('its trace', () => {
  it('groups by device, reason and direction', () => {
    const all = groups(
      'vtd_dmar_fault sid 0x20 fault 6 addr 0x1000 write 0',
      '32064@1700000000.123456:vtd_dmar_fault sid 0x20 fault 6 addr 0x1004 write 0',
      'vtd_dmar_fault sid 0x20 fault 5 addr 0x1000 write 1',
      'vtd_dmar_fault sid 0x108 fault 6 addr 0x1000 write 0',
    )
    expect(all.map(({ words, times }) => [words.device, words.fields['access'], times])).toEqual([
      ['00:04.0', 'read', 2],
      ['00:04.0', 'write', 1],
      ['01:01.0', 'read', 1],
    ])
    expect(rowOf(all[0] as FaultGroup, 'reason')).toBe('0x06 PTE Read access is not set')
    expect(rowOf(all[1] as FaultGroup, 'reason')).toBe('0x05 not declared')
  })

  it.each(QEMU_TRACE.events.map(({ name, doc, example }) => ({ name, doc, example })))(
    '$name means what its declaration says',
    ({ name, doc, example }) => {
      const log = explained(
        [example, `32064@1700000000.123456:${example}`],
        new QemuExplainer(() => undefined),
      )
      if (name === 'vtd_dmar_fault') expect(log.groups[0]?.times).toBe(2)
      else
        expect(log.notes.slice(0, 2).map(({ text, times }) => [text, times])).toEqual([
          [`${name}: ${doc}`, 2],
          ['this is a trace of QEMU, or holds one: iommulator replay judges each of its lines', 1],
        ])
    },
  )

  it('an event that is not declared is said to be none', () => {
    const log = explained(['vtd_something_new a 1'], new QemuExplainer(() => undefined))
    expect(log.notes[0]?.text).toBe('vtd_something_new: an event that is not declared here')
  })

  it('a damaged fault is no fault', () => {
    const log = explained(
      ['vtd_dmar_fault sid 0x20 fault 6 addr 0x write 0'],
      new QemuExplainer(() => undefined),
    )
    expect(log.groups).toEqual([])
  })
})
