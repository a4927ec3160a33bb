import { describe, expect, it } from 'vitest'
import { createLogExplainer } from '../../../src/machine/explain.ts'
import type { FaultGroup } from '../../../src/report/explain/fault-log.ts'
import { bytesOf } from '../../log-rows.ts'

const fault = (device: string, address = '0xfff00000'): string =>
  `DMAR: [DMA Read NO_PASID] Request device [${device}] fault addr ${address} [fault reason 0x06] PTE Read access is not set`

function groups(...lines: string[]): readonly FaultGroup[] {
  const explainer = createLogExplainer()
  explainer.push(bytesOf(`${lines.join('\n')}\n`))
  return explainer.end().faults.groups
}

/** Numbers of the lines that a fault names as its causes. */
const causes = (...lines: string[]): number[] =>
  (groups(...lines).at(-1)?.because ?? []).map(({ line }) => line)

describe('a device that may not be given away', () => {
  const RMRR =
    'Device is ineligible for IOMMU domain attach due to platform RMRR requirement.  Contact your platform vendor.'
  const DIRECT =
    'Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device without a 1:1 mapping. Contact your platform vendor.'
  it.each([
    ['to Linux 5.6', RMRR, 'EPERM'],
    ['with the prefix of the unit', `DMAR: ${RMRR}`, 'EPERM'],
    ['Linux 6.6 on', DIRECT, 'EINVAL'],
  ])('%s, whatever driver of VFIO it has, and whatever came before', (_what, text, errnoName) => {
    for (const driver of ['vfio-pci', 'mlx5_vfio_pci']) {
      const line = `${driver} 0000:03:00.0: ${text}`
      for (const before of [
        'vfio-pci 0000:03:00.0: enabling device (0400 -> 0403)',
        'vfio-pci 0000:03:00.0: resetting',
      ])
        expect(groups(before, before, line, before, line)).toMatchObject([
          { times: 2, firstLine: 3, words: { device: '03:00.0', fields: { errnoName } } },
        ])
    }
  })

  it.each([
    ['Failed to set iommu for container: Operation not permitted', 'VFIO_SET_IOMMU'],
    ['failed to set iommu for container: Operation not permitted', 'VFIO_SET_IOMMU'],
    ['Failed to set group container: Invalid argument', 'VFIO_GROUP_SET_CONTAINER'],
  ])('is why QEMU says "%s"', (text, ioctl) => {
    const [, group] = groups(
      `vfio-pci 0000:03:00.0: ${RMRR}`,
      `qemu-system-x86_64: vfio 0000:03:00.0: failed to setup container for group 12: ${text}`,
    )
    expect(group?.because.map(({ line }) => line)).toEqual([1])
    expect(group?.words.rows[0]?.[1]).toContain(`(${ioctl})`)
  })
})

describe('lines that lead to faults', () => {
  it.each([
    'DMAR: Translation was enabled for dmar0 but we are not in kdump mode',
    'DMAR: Copied translation tables from previous kernel for dmar0',
    'DMAR: Failed to copy translation tables from previous kernel for dmar0',
  ])('of any device: %s', (line) => {
    expect(causes(line, fault('05:00.0'))).toEqual([1])
    // What comes later is no cause.
    expect(causes(fault('05:00.0'), line)).toEqual([])
  })

  it.each([
    'pci 0000:05:00.0: Removing from iommu group 14',
    'vfio-pci 0000:05:00.0: enabling device (0400 -> 0403)',
    'pcieport 0000:00:1c.0: AER: Uncorrectable (Non-Fatal) error received: 0000:05:00.0',
    'pcieport 0000:00:1c.0: AER: Uncorrectable (Fatal) error message received from 0000:05:00.0',
  ])('of its device only: %s', (line) => {
    expect(causes(line, fault('05:00.0'))).toEqual([1])
    expect(causes(line, fault('06:00.0'))).toEqual([])
    expect(causes(fault('05:00.0'), line)).toEqual([])
  })

  it('of the device and of the page: DMA_API_DEBUG', () => {
    const line =
      'DMA-API: nvme 0000:05:00.0: device driver tries to free DMA memory it has not allocated [device address=0x00000000fff00000] [size=4096 bytes]'
    expect(causes(line, fault('05:00.0', '0x1000'))).toEqual([1])
    expect(causes(line, fault('06:00.0'))).toEqual([1])
    expect(causes(line, fault('06:00.0', '0x1000'))).toEqual([])
    expect(groups(line, fault('05:00.0'))[0]?.because.map(({ text }) => text)).toContain(
      'DMA_API_DEBUG: device driver tries to free DMA memory it has not allocated',
    )
  })

  it('an error of the port itself is that of the port', () => {
    const line = 'pcieport 0000:00:1c.0: AER: Multiple Corrected error received: id=00e0'
    expect(causes(line, fault('00:1c.0'))).toEqual([1])
    expect(causes(line, fault('05:00.0'))).toEqual([])
  })

  it.each([
    [
      'AMD-Vi',
      'nvme 0000:05:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0012 address=0xdff00000 flags=0x0070]',
    ],
    [
      'ftrace',
      '  x-1 [002] ....   978.554305: io_page_fault: IOMMU:nvme 0000:05:00.0 iova=0x0000000091482660 flags=0x0000',
    ],
    ['QEMU', 'vtd_dmar_fault sid 0x500 fault 6 addr 0x1000 write 0'],
  ])('lead to faults of other families too: %s', (_what, line) => {
    expect(causes('vfio-pci 0000:05:00.0: enabling device (0400 -> 0403)', line)).toEqual([1])
  })
})

describe('memory right behind what the kernel uses', () => {
  const zones = [
    '[    0.028121]   DMA      [mem 0x0000000000001000-0x0000000000ffffff]',
    '[    0.028181]   DMA32    [mem 0x0000000001000000-0x000000001ffdcfff]',
    '[    0.028182]   Normal   [mem 0x0000000100000000-0x000000011fffffff]',
  ]
  const known = (address: string): string[] =>
    groups(...zones, fault('05:00.0', address))
      .at(-1)
      ?.about.map(({ line, text }) => `${line} ${text}`) ?? []

  it.each<[address: string, line: number | undefined]>([
    ['0x1ffdc000', undefined],
    ['0x1ffdd000', 2],
    ['0x1ffde000', 2],
    ['0x23fdc000', 2],
    ['0x23fdd000', undefined],
    ['0x120000000', 3],
    ['0xfff00000', undefined],
    ['0x2000', undefined],
  ])('%s', (address, line) => {
    const told = known(address)
    expect(told.map((text) => Number(text.split(' ')[0]))).toEqual(line === undefined ? [] : [line])
    if (line !== undefined) expect(told[0]).toContain('it is the firmware')
  })
})
