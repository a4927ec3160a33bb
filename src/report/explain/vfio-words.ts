import { hex } from '../../bits/u64.ts'
import type { Because, FaultLog, FaultWords } from './fault-log.ts'
import { bytesText, rangeText } from './sizes.ts'

/** Where x86 keeps its interrupts: no bus address of memory (Intel SDM, APIC; AMD the same). */
const MSI_FIRST = 0xfee0_0000n
const MSI_LAST = 0xfeef_ffffn
/** Addresses beyond need more than the 39 bits that small units have. */
const WIDTH_39 = 1n << 39n
/** Mappings of a container, unless the module says otherwise (vfio_iommu_type1 dma_entry_limit). */
const ENTRY_LIMIT = 65_535

/** Why VFIO_IOMMU_MAP_DMA fails on x86 and Arm. (Linux v6.1 drivers/vfio/vfio_iommu_type1.c vfio_dma_do_map.) */
const MAP_ERRORS: Readonly<Record<number, readonly [name: string, means: string]>> = {
  [-1]: ['EPERM', 'The process may not do this to the container.'],
  [-2]: ['ENOENT', 'What the call names is not there.'],
  [-12]: [
    'ENOMEM',
    'The process would lock more memory than RLIMIT_MEMLOCK allows, or the host is out of memory.',
  ],
  [-14]: [
    'EFAULT',
    'A page of the range cannot be pinned, or the unit cannot map it: no memory is behind the address, it is MMIO that the kernel does not map for devices, or the bus address is wider than the unit has bits.',
  ],
  [-16]: ['EBUSY', 'Something of the range is in use.'],
  [-17]: ['EEXIST', 'A part of the range is mapped already: mappings may not overlap.'],
  [-22]: [
    'EINVAL',
    'Address or length is no multiple of the page size, the range wraps around, or the bus addresses are not all usable: reserved (interrupts), or beyond the aperture of the unit.',
  ],
  [-28]: ['ENOSPC', `The container has as many mappings as it may: ${ENTRY_LIMIT} (dma_entry_limit).`],
}

interface MapFailure {
  readonly errno: number | undefined
  readonly why: string
  /** Lines that say the same. */
  readonly said: readonly Because[]
  readonly iova?: bigint
  readonly bytes?: bigint
  readonly address?: string
  /** RLIMIT_MEMLOCK as the kernel named it last. */
  readonly limitBytes: bigint | undefined
}

const MEMLOCK_CHECKS = [
  'how much may the process lock? grep "locked memory" /proc/PID/limits; in a unit of systemd LimitMEMLOCK=, in libvirt <memtune><hard_limit>',
  'how much must it lock? All memory of the guest for one container, and about 1 GiB for BARs and the rest; with a vIOMMU, all memory once for each container',
] as const

/** What is said of a mapping that was refused. */
export function mapWords(
  { errno, why, said, iova, bytes, address, limitBytes }: MapFailure,
  log: FaultLog,
): FaultWords {
  const [name, means] = (errno === undefined ? undefined : MAP_ERRORS[errno]) ?? [
    why,
    'The kernel refused it.',
  ]
  const memlock = errno === -12 ? log.earlier('memlock') : []
  const last = iova === undefined || bytes === undefined ? undefined : iova + bytes - 1n
  const holdsMsi = iova !== undefined && last !== undefined && iova <= MSI_LAST && last >= MSI_FIRST
  const isWide = last !== undefined && last >= WIDTH_39
  return {
    kind: 'map',
    title: `VFIO refused a mapping: ${name}`,
    fields: {
      errno: errno ?? null,
      errnoName: name,
      bytes: bytes === undefined ? null : hex(bytes),
      why,
    },
    rows: [
      ...(iova === undefined || bytes === undefined
        ? []
        : [
            [
              'asked',
              `${bytesText(bytes)} at bus addresses ${rangeText(iova, bytes)}${address === undefined ? '' : `, of the process at ${address}`}`,
            ] as const,
          ]),
      ['answer', `${errno ?? ''} ${name === why ? '' : name} ${why}`.trim().replace(/ {2,}/g, ' ')],
      ['means', means],
      ...(errno === -22 && holdsMsi
        ? [
            [
              'reserved',
              `the range holds ${hex(MSI_FIRST)}-${hex(MSI_LAST)}, where x86 has its interrupts: since Linux 5.4 such a mapping is refused`,
            ] as const,
          ]
        : []),
      ...((errno === -22 || errno === -14) && isWide
        ? [['width', 'the range needs more than 39 bits: units of small machines have no more'] as const]
        : []),
      ...(memlock.length > 0 && bytes !== undefined && limitBytes !== undefined
        ? [['arithmetic', sumText(bytes, limitBytes)] as const]
        : []),
    ],
    because: [...memlock.slice(0, 2), ...said, ...log.earlier('vfio').slice(0, 2)],
    checks: checksOf(errno),
  }
}

/** What was asked for against what is allowed; what was locked before no line says. */
const sumText = (bytes: bigint, limit: bigint): string =>
  bytes > limit
    ? `${bytesText(bytes)} asked for > ${bytesText(limit)} allowed`
    : `${bytesText(bytes)} asked for + what was locked before > ${bytesText(limit)} allowed: more than ${bytesText(limit - bytes)} was locked`

function checksOf(errno: number | undefined): readonly string[] {
  switch (errno) {
    case -12:
      return MEMLOCK_CHECKS
    case -17:
      return [
        'which mapping is there already? QEMU -trace "vfio_listener_*" prints all ranges in order; a range that was added twice, or not removed, shows there',
      ]
    case -22:
      return [
        'cat /sys/kernel/iommu_groups/GROUP/reserved_regions: bus addresses that no mapping may touch',
        'dmesg | grep -e "Host address width" -e "iommu width": how many bits the unit has',
      ]
    case -28:
      return [
        `how many mappings are there? Large pages behind the guest make fewer; modprobe vfio_iommu_type1 dma_entry_limit=N allows more than ${ENTRY_LIMIT}`,
      ]
    default:
      return [
        'the kernel log of the same second: a unit that cannot map says so there',
        'QEMU -trace "vfio_listener_*": which region of the guest it was',
      ]
  }
}

/** What is said of a limit that was met. */
export function memlockWords(limit: bigint, task: string | undefined, log: FaultLog): FaultWords {
  return {
    kind: 'memlock',
    title: `a process may not lock more memory: RLIMIT_MEMLOCK is ${bytesText(limit)}`,
    fields: { limit: hex(limit), task: task ?? null },
    rows: [
      ...(task === undefined ? [] : [['process', task] as const]),
      ['limit', `${bytesText(limit)} (${limit} bytes)`],
      [
        'means',
        'Memory that a device may reach is pinned, and counted as locked. The mapping failed with ENOMEM.',
      ],
      ...(task === undefined
        ? []
        : [['how', 'a mediated device pins page by page: the limit is met while the guest runs'] as const]),
    ],
    because: log.earlier('vfio').slice(0, 2),
    checks: MEMLOCK_CHECKS,
  }
}

export const unsafeWords = (): FaultWords => ({
  kind: 'group',
  title: 'VFIO refused a group: interrupts are not remapped',
  fields: {},
  rows: [
    [
      'means',
      'Without interrupt remapping a device could raise any interrupt of the host. QEMU prints "Failed to set iommu for container: Operation not permitted".',
    ],
  ],
  because: [],
  checks: [
    'is interrupt remapping switched off in the firmware, or by intremap=off?',
    'only where every guest is trusted: modprobe vfio_iommu_type1 allow_unsafe_interrupts=1',
  ],
})

export const viableWords = (group: number, log: FaultLog): FaultWords => ({
  kind: 'group',
  title: `IOMMU group ${group} is not viable`,
  fields: { group },
  rows: [
    [
      'means',
      'A device of the group is bound to a driver that is not one of VFIO: the group is given to a guest as a whole, or not at all.',
    ],
  ],
  because: log.earlier('vfio').slice(0, 2),
  checks: [
    `ls /sys/kernel/iommu_groups/${group}/devices: each of them needs vfio-pci, or no driver (bridges excepted)`,
    'a group that is too large: another slot, or a bridge with ACS, splits it',
  ],
})

export const noMemoryWords = (): FaultWords => ({
  kind: 'map',
  title: 'a guest mapped an address that is no memory of it',
  fields: {},
  rows: [
    [
      'means',
      'The guest has mapped bus addresses to something that is not its RAM: another device, or nothing. QEMU does not pass it on, so the device faults if it goes there.',
    ],
  ],
  because: [],
  checks: ['is it a BAR of another device (peer to peer), or a stale entry of the tables of the guest?'],
})

export const cachingWords = (device: string | undefined): FaultWords => ({
  kind: 'setting',
  title: `${device ?? 'device assignment'} needs a vIOMMU that tells of new mappings: no caching-mode=on`,
  ...(device !== undefined && { device }),
  fields: {},
  rows: [
    [
      'means',
      'Without caching mode the guest tells the unit of removed mappings only: a device that is passed through, or one of vhost-vdpa, never learns of new ones.',
    ],
  ],
  because: [],
  checks: ['-device intel-iommu,caching-mode=on, before all devices that are passed through'],
})

/** What is said of a range that could not be taken away. */
export const unmapWords = (bytes: bigint, errno: number, why: string): FaultWords => ({
  kind: 'unmap',
  title: `VFIO refused to unmap: ${why}`,
  fields: { errno, bytes: hex(bytes) },
  rows: [
    ['asked', `${bytesText(bytes)}`],
    ['answer', `${errno} ${why}`],
    [
      'means',
      'The range stays mapped: the device can still reach that memory, and a later mapping there fails with EEXIST.',
    ],
  ],
  because: [],
  checks: ['does the range cut a mapping in two? What was mapped in one piece is unmapped in one (type1 v2)'],
})

/** What is said of a group that gets no IOMMU. */
export const setIommuWords = (why: string, isTaken: boolean, log: FaultLog): FaultWords => ({
  kind: 'group',
  title: `VFIO refused a group: ${why}`,
  fields: { why },
  rows: [
    [
      'means',
      isTaken
        ? 'The kernel does not put the group under an IOMMU of VFIO (VFIO_SET_IOMMU): no device of it can be used.'
        : 'The kernel does not take the group into a container (VFIO_GROUP_SET_CONTAINER): a device of it has another owner, or may not be given away.',
    ],
  ],
  because: log.earlier('vfio').slice(0, 2),
  checks: [
    'the kernel log of the same second: "No interrupt remapping support", "ineligible ... due to platform RMRR requirement" and "1:1 IOMMU mapping" say why',
    'is there an IOMMU, and is it switched on? ls /sys/class/iommu; intel_iommu=on',
  ],
})

/** What is said where the mapping itself was told of before, or not at all. */
export const listenerWords = (why: string, log: FaultLog): FaultWords => ({
  kind: 'map',
  title: `QEMU could not map all memory of the guest: ${why}`,
  fields: { why },
  rows: [['means', 'A mapping failed while the device was set up, so the guest does not get it.']],
  because: [...log.earlier('memlock').slice(0, 2), ...log.earlier('vfio').slice(0, 2)],
  checks: [
    'lines before it with VFIO_MAP_DMA or vfio_dma_map: which mapping, and why',
    ...(why === 'Cannot allocate memory' ? MEMLOCK_CHECKS : []),
  ],
})
