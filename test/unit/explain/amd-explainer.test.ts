import { describe, expect, it } from 'vitest'
import { AmdExplainer } from '../../../src/report/explain/amd-explainer.ts'
import type { FaultGroup } from '../../../src/report/explain/fault-log.ts'
import { explained, rowOf } from '../../support/explain.ts'

const groups = (...lines: string[]): readonly FaultGroup[] => explained(lines, new AmdExplainer()).groups
const only = (...lines: string[]): FaultGroup => {
  const all = groups(...lines)
  expect(all).toHaveLength(1)
  return all[0] as FaultGroup
}
const pageFault = (flags: string): string =>
  `AMD-Vi: Event logged [IO_PAGE_FAULT device=05:00.0 domain=0x0012 address=0x1000 flags=${flags}]`

describe('page faults of AMD units', () => {
  it.each<[flags: string, set: string, access: string, means: string]>([
    [
      '0x0000',
      'none',
      'read, or a write that the unit does not tell apart',
      'No page is mapped at the address.',
    ],
    ['0x0020', 'RW', 'write', 'No page is mapped at the address.'],
    ['0x0010', 'PR', 'read', 'The page is mapped; the flags do not say what was wrong.'],
    ['0x0050', 'PR PE', 'read', 'The page is mapped, but not for this.'],
    ['0x0070', 'PR RW PE', 'write', 'The page is mapped, but not for this.'],
    ['0x0090', 'PR RZ', 'read', 'An entry has reserved bits set, or a level that cannot be.'],
    ['0x0110', 'PR TR', 'translation request', 'The page is mapped; the flags do not say what was wrong.'],
    ['0x0008', 'I', 'interrupt', 'The interrupt remapping entry is not set up, or blocks the interrupt.'],
    ['0x0098', 'I PR RZ', 'interrupt', 'The interrupt remapping entry has reserved bits set.'],
    [
      '0x0018',
      'I PR',
      'interrupt',
      'The interrupt remapping entry is there; the flags do not say what was wrong.',
    ],
    [
      '0x0007',
      'GN NX US',
      'read, or a write that the unit does not tell apart',
      'No page is mapped at the address.',
    ],
    [
      '0x0800',
      'none, and bits that are not known: 0x800',
      'read, or a write that the unit does not tell apart',
      'No page is mapped at the address.',
    ],
  ])('flags %s', (flags, set, access, means) => {
    const fault = only(pageFault(flags))
    expect(rowOf(fault, 'flags')).toBe(`0x${BigInt(flags).toString(16)}: ${set}`)
    expect(rowOf(fault, 'access')).toBe(access)
    expect(rowOf(fault, 'means')).toBe(means)
  })

  it('an interrupt is no DMA, and no page is looked for', () => {
    const interrupt = only(pageFault('0x0008')).words
    const dma = only(pageFault('0x0000')).words
    expect([interrupt.kind, dma.kind]).toEqual(['interrupt', 'dma'])
    expect(interrupt.checks.join(' ')).not.toContain('iommu:map')
    expect(interrupt.checks.join(' ')).toContain('ivrs_ioapic=')
    expect(dma.checks.join(' ')).toContain('iommu:map')
  })

  it.each<[string, string[], string | null]>([
    ['in one line', [pageFault('0x0070')], null],
    [
      'with the segment',
      ['AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:05:00.0 domain=0x0012 address=0x1000 flags=0x0070]'],
      null,
    ],
    [
      'behind the driver and the device',
      ['nvme 0000:05:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0012 address=0x1000 flags=0x0070]'],
      'nvme',
    ],
    [
      'behind the bus, as no driver is bound',
      ['pci 0000:05:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0012 address=0x1000 flags=0x0070]'],
      null,
    ],
    [
      'cut in two',
      [
        'AMD-Vi: Event logged [',
        'IO_PAGE_FAULT device=05:00.0 domain=0x0012 address=0x0000000000001000 flags=0x0070]',
      ],
      null,
    ],
  ])('%s', (_what, lines, driver) => {
    const { words, addresses } = only(...lines)
    expect(words.device).toBe('05:00.0')
    expect(words.fields).toMatchObject({ event: 'IO_PAGE_FAULT', domain: 0x12, flags: 0x70, driver })
    expect(addresses.ranges).toEqual([{ first: 0x1000n, last: 0x1000n }])
  })

  it('a storm is one fault for each device and each kind', () => {
    const storm = Array.from({ length: 50 }, (_, i) =>
      pageFault('0x0070').replace('0x1000', `0x${(0x1000 + i * 0x1000).toString(16)}`),
    )
    const all = groups(...storm, pageFault('0x0050'), pageFault('0x0070').replace('05:00.0', '06:00.0'))
    expect(all.map(({ times }) => times)).toEqual([50, 1, 1])
    expect(all[0]?.addresses.ranges).toEqual([{ first: 0x1000n, last: 0x3_2000n }])
  })
})

describe('other events of AMD units', () => {
  it('a request to addresses that HyperTransport keeps, as a real machine has it', () => {
    const fault = only(
      'iommu ivhd1: AMD-Vi: Event logged [INVALID_DEVICE_REQUEST device=0000:00:00.0 pasid=0x00000 address=0xfffffffdf8000000 flags=0x0a00]',
    )
    expect(fault.words).toMatchObject({ title: 'INVALID_DEVICE_REQUEST of 00:00.0', device: '00:00.0' })
    expect(rowOf(fault, 'reserved')).toContain('0xfdf8000000 (40 bits) lies in 0xfd00000000-0xffffffffff')
  })

  it.each([
    ['0xfcffffffff', false],
    ['0xfd00000000', true],
    ['0xffffffffff', true],
    ['0x1000', false],
  ])('address %s is kept for HyperTransport: %s', (address, isReserved) => {
    const line = `AMD-Vi: Event logged [INVALID_DEVICE_REQUEST device=00:01.0 pasid=0x00000 address=${address} flags=0x0000]`
    expect(rowOf(only(line), 'reserved') !== undefined).toBe(isReserved)
  })

  it('cut in two behind the unit, as Linux 4.19 has it', () => {
    const fault = only(
      'pci 0000:00:00.2: AMD-Vi: Event logged [',
      'pci 0000:00:00.2: ILLEGAL_DEV_TABLE_ENTRY device=05:00.0 pasid=0x00000 address=0x0000000000001000 flags=0x0080]',
    )
    expect(fault.words).toMatchObject({ title: 'ILLEGAL_DEV_TABLE_ENTRY of 05:00.0', device: '05:00.0' })
    expect(fault.words.fields).toMatchObject({ event: 'ILLEGAL_DEV_TABLE_ENTRY', flags: 0x80 })
  })

  it('an event without a device names none', () => {
    const { words } = only('AMD-Vi: Event logged [ILLEGAL_COMMAND_ERROR address=0x1000]')
    expect(words.title).toBe('ILLEGAL_COMMAND_ERROR')
    expect(words.checks.join(' ')).not.toContain('lspci')
  })

  it('a device without a domain', () => {
    const fault = only('AMD-Vi: Event logged [Device not attached to domain properly]')
    expect(fault.words.title).toBe('Device not attached to domain properly')
    expect(rowOf(fault, 'means')).toContain('no page tables (domain)')
  })

  it('says so of an event that it does not know', () => {
    const fault = only('AMD-Vi: Event logged [SOMETHING_NEW device=00:01.0 address=0x1000]')
    expect(rowOf(fault, 'means')).toBe('An event that this decoder does not know.')
  })

  it('a full log and commands that do not end are faults of their own', () => {
    const all = groups(
      pageFault('0x0070'),
      'AMD-Vi: IOMMU event log overflow',
      'AMD-Vi: Completion-Wait loop timed out',
      'AMD-Vi: IOMMU Event log restarting',
    )
    expect(all.map(({ words }) => words.kind)).toEqual(['dma', 'queue', 'queue'])
    expect(all[1]?.times).toBe(2)
    expect(all[1]?.because).toEqual([{ line: 1, text: 'IO_PAGE_FAULT of 05:00.0' }])
    // A page fault keeps no command from its end.
    expect(all[2]?.because).toEqual([])
  })

  it.each<[event: string, because: string[]]>([
    ['IOTLB_INV_TIMEOUT device=05:00.0 address=0x1000', ['IOTLB_INV_TIMEOUT of 05:00.0']],
    ['ILLEGAL_COMMAND_ERROR address=0x1000', ['ILLEGAL_COMMAND_ERROR']],
    ['COMMAND_HARDWARE_ERROR address=0x1000 flags=0x0000', ['COMMAND_HARDWARE_ERROR']],
    ['PAGE_TAB_HARDWARE_ERROR device=05:00.0 pasid=0x0000 address=0x1000 flags=0x0', []],
  ])('commands that do not end because of %s', (event, because) => {
    const all = groups(`AMD-Vi: Event logged [${event}]`, 'AMD-Vi: Completion-Wait loop timed out')
    expect(all[1]?.because.map(({ text }) => text)).toEqual(because)
  })

  it.each<[what: string, line: string, device: string | undefined, unit: string | null]>([
    [
      'the unit by its class',
      'iommu ivhd0: AMD-Vi: Event logged [ILLEGAL_COMMAND_ERROR address=0x1000]',
      undefined,
      'ivhd0',
    ],
    [
      'the unit as a device',
      'pci 0000:00:00.2: AMD-Vi: Event logged [COMMAND_HARDWARE_ERROR address=0x1000 flags=0x0]',
      undefined,
      '0000:00:00.2',
    ],
    [
      'a device behind the unit',
      'iommu ivhd0: AMD-Vi: Event logged [IOTLB_INV_TIMEOUT device=0000:05:00.0 address=0x1000]',
      '05:00.0',
      'ivhd0',
    ],
    [
      'the device of an event of the RMP',
      'nvme 0000:05:00.0: AMD-Vi: Event logged [RMP_HW_ERROR vmg_tag=0x0000, spa=0x1000, flags=0x0]',
      '05:00.0',
      null,
    ],
  ])('what stands before an event: %s', (_what, line, device, unit) => {
    const { words, about } = only(line)
    expect(words.device).toBe(device)
    expect(words.fields['unit']).toBe(unit)
    expect(words.checks.some((check) => check.startsWith('lspci'))).toBe(device !== undefined)
    expect(about).toEqual([])
  })

  it('the words of a command and of an entry belong to the event before them, once', () => {
    const event = 'iommu ivhd0: AMD-Vi: Event logged [ILLEGAL_COMMAND_ERROR address=0x1000]'
    const fault = only(
      'AMD-Vi: DTE[0]: 1',
      event,
      'AMD-Vi: CMD[0]: 00000003',
      'AMD-Vi: DTE[3]: 6090000000000003',
      event,
      'AMD-Vi: CMD[0]: 00000004',
    )
    expect(fault.because.map(({ line, text }) => `${line} ${text}`)).toEqual([
      '3 word 0 of the command is 0x3',
      '4 word 3 of the device table entry is 0x6090000000000003',
    ])
  })

  it('counts what was not printed', () => {
    const log = explained(['amd_iommu_report_page_fault: 215 callbacks suppressed'], new AmdExplainer())
    expect(log.suppressed).toEqual([{ family: 'amd-vi', line: 1, lines: 215, meaning: '' }])
    expect(log.groups).toEqual([])
  })
})
