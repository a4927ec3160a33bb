import { describe, expect, it } from 'vitest'
import { DISK_SIDES, type DiskFigure, diskFigures, diskTable } from '../../bench/guest-figures.ts'

describe('the bench of disks', () => {
  it('takes what the guest measured', () => {
    expect(
      diskFigures([
        'disk of 69206016 bytes',
        'bench read bytes=4096 processes=4 requests=22016 seconds=4.00 rate=5504 MBps=22.5',
        'bench write bytes=1048576 processes=1 requests=1456 seconds=4.16 rate=350 MBps=367.0',
        'bench done',
      ]),
    ).toEqual([
      { load: 'read 4 KiB x4', bytes: 4096, rate: 5504 },
      { load: 'write 1 MiB x1', bytes: 1048576, rate: 350 },
    ])
  })

  it('shows the medians of both sides, and the ratios of rounds', () => {
    const round = (...rates: readonly number[]): DiskFigure[][] =>
      rates.map((rate) => [{ load: 'read 4 KiB x1', bytes: 4096, rate }])
    expect(DISK_SIDES.map(({ by, isTranslated }) => `${by} ${isTranslated}`)).toEqual([
      'vhost-user true',
      'qemu true',
      'vhost-user false',
      'qemu false',
    ])
    expect(
      diskTable([round(1000, 2000, 3000, 6000), round(1200, 2000, 3000, 6000), round(800, 2000, 9000, 6000)]),
    ).toEqual([
      "load           IOMMU  back end  MB/s  QEMU's  MB/s  ratio (min..max)",
      'read 4 KiB x1  yes        1000  4.10    2000  8.19  0.50 (0.40..0.60)',
      'read 4 KiB x1  no         3000  12.3    6000  24.6  0.50 (0.50..1.50)',
    ])
  })
})
