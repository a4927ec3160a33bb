/** The parts of a naive POWER host: plain objects, looked through from end to end, nothing shared with the model. */

/** A page of system memory, with what was written at offsets in it. */
export interface NaiveFrame {
  readonly data: Map<number, string>
  /** log2 of the huge page that it is part of, or of the system page. */
  readonly shift: number
}

export interface NaivePage {
  readonly read: boolean
  readonly write: boolean
  /** 0, or log2 of the huge page. */
  readonly hugeShift: number
  frame: NaiveFrame
}

export interface NaiveProcess {
  readonly name: string
  isAlive: boolean
  limitBytes: bigint
  hasIpcLock: boolean
  /** locked_vm, in pages. */
  locked: number
  pages: Map<number, NaivePage>
  /** By descriptor, from 3 on. */
  fds: (NaiveFile | null)[]
  maps: Map<string, NaiveFile>
}

export interface NaiveRegion {
  readonly mm: NaiveProcess
  readonly page: number
  readonly pages: number
  readonly shift: number
  readonly frames: readonly NaiveFrame[]
  used: number
  mapped: number
  /** Its last holder is gone, and mappings keep it. */
  isLeft: boolean
}

export interface NaiveMapping {
  readonly frame: NaiveFrame
  /** Where in the frame the IOMMU page begins; huge pages begin in `frames[0]` of several. */
  readonly frames: readonly NaiveFrame[]
  readonly offset: number
  readonly dir: number
  readonly region: NaiveRegion | null
}

export interface NaiveWindow {
  readonly start: bigint
  readonly shift: number
  readonly entries: bigint
  readonly charge: number
  /** By bus address of the IOMMU page. */
  readonly map: Map<bigint, NaiveMapping>
}

export interface NaiveGroup {
  readonly number: number
  readonly platform: 'P7IOC' | 'PHB3' | 'PHB4' | 'PHB5'
  readonly tce32Bytes: number
  readonly shifts: readonly number[]
  readonly hasKernelDriver: boolean
  /** Name of the device, and its PCI address. */
  readonly devices: readonly { readonly name: string; readonly address: string }[]
  file: NaiveFile | null
  container: NaiveContainer | null
  open: number
}

export interface NaiveContainer {
  kind: 'container'
  /** The last one first. */
  groups: NaiveGroup[]
  driver: NaiveDriver | null
  /** The model answered otherwise than it should: nothing is known of it any more. */
  isLost: boolean
}

export interface NaiveDriver {
  readonly isV2: boolean
  isEnabled: boolean
  lockedPages: number
  mm: NaiveProcess | null
  groups: NaiveGroup[]
  windows: (NaiveWindow | null)[]
  isPending: boolean
  regions: NaiveRegion[]
}

export type NaiveTarget =
  | NaiveContainer
  | { readonly kind: 'group'; readonly group: NaiveGroup }
  | { readonly kind: 'device'; readonly group: NaiveGroup }

export interface NaiveFile {
  readonly target: NaiveTarget
  holders: number
}

/** log2 of the largest power of two that divides a number above 0. */
export function alignOf(n: bigint): number {
  let shift = 0
  while (n !== 0n && n % 2n === 0n) {
    n /= 2n
    shift++
  }
  return n === 0n ? 64 : shift
}

export const logOf = (n: bigint): number => n.toString(2).length - 1
const isPower = (n: bigint): boolean => n > 0n && (n & (n - 1n)) === 0n

/** What a table is charged with, in bytes, or 0 (power.md 1.4). For windows of one IOMMU page and more. */
export function chargeOf(shift: number, bytes: bigint, levels: number, hostShift: number): number {
  if (levels < 1 || levels > 5 || !isPower(bytes)) return 0
  const entries = logOf(bytes) - shift
  const level = 2 ** Math.max(Math.ceil(entries / levels) + 3, hostShift)
  let tree = Math.max(4096, 2 ** (entries + 3))
  let sum = 0
  for (let i = 0; i < levels; i++) {
    sum += Math.ceil(tree / level) * level
    tree = Math.max(Math.floor(tree / level) * 8, level)
  }
  return sum * 2
}

/** How making a table ends: entries, or an errno (power.md 1.4). */
export function entriesOf(
  shift: number,
  bytes: bigint,
  levels: number,
  hostShift: number,
): bigint | 'EINVAL' | 'ENOMEM' {
  const entries = logOf(bytes) - shift
  const level = Math.max(Math.ceil(entries / levels) + 3, hostShift)
  if ((level - 3) * levels + shift >= 55) return 'EINVAL'
  if (level > 24) return 'ENOMEM'
  return 2n ** BigInt(Math.max(entries + 3, hostShift) - 3)
}
