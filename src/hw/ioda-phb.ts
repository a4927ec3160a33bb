import type { Profile } from '../bits/errata.ts'
import { assert } from '../bits/errors.ts'
import type { Host } from '../memory/host.ts'
import type { HwTableParts } from '../table/multi-level-table.ts'
import { IodaPe } from './ioda-pe.ts'
import { IODA_PLATFORMS, type IodaPlatform, type IodaPlatformName } from './ioda-platform.ts'
import type { PeFirmware } from './pe-firmware.ts'
import { PhbFence } from './pe-stops.ts'
import { TceCache } from './tce-cache.ts'
import { TceKills } from './tce-kills.ts'

/** Where the 32-bit MMIO region of a PHB begins on the bus unless said otherwise: below it are DMA windows. */
const M32_BASE = 0x8000_0000

export interface IodaPhbOptions {
  readonly name: string
  readonly platform: IodaPlatformName
  /** What the tables are made with; their host is the PHB's. */
  readonly tables: HwTableParts
  /** A DMA that cannot be carried out freezes its PE, as software can (`pe`), or nothing does (`none`: QEMU's powernv machines). */
  readonly freeze?: 'pe' | 'none'
  /** Entries of the TCE cache; no bound where it is left out. */
  readonly cacheEntries?: number
  /** Whether it remembers TCEs at all; QEMU's do not (Q14). */
  readonly caches?: boolean
  /** Whether a bus address past a window begins at its start again, as QEMU's do (Q15). */
  readonly wraps?: boolean
  /** Whether firmware turns kills of pages into kills of the PE; what the platform's firmware does unless said. */
  readonly killsWholePe?: boolean
  /** log2 of the IOMMU pages that firmware lists; those of the platform unless said. */
  readonly pageShifts?: readonly number[]
  /** Bus address of the 32-bit MMIO region: DMA window 0 may be so large. */
  readonly m32Base?: number
  /** Whose errata the kernel has; none where it is left out. */
  readonly profile?: Profile
}

/** What a new PE is. */
export interface PeShape {
  readonly pe: number
  /** The IOMMU group's number: /dev/vfio/N. */
  readonly group: number
  /** P7IOC: the segments of 256 MiB that it gets. */
  readonly firstSegment?: number
  readonly segments?: number
}

/**
 * A PCI host bridge of a bare-metal POWER host, with its PEs, its TCE cache and its ways to make that forget.
 *
 * @example
 * const phb = new IodaPhb({ name: 'phb0', platform: 'PHB4', tables })
 * const pe = phb.addPe({ pe: 5, group: 2 })
 * pe.ops?.releaseOwnership() // the kernel's own table and the bypass window
 */
export class IodaPhb {
  readonly name: string
  /** The name, interned. */
  readonly unit: number
  readonly platform: IodaPlatform
  readonly host: Host
  readonly tables: HwTableParts
  readonly freezes: boolean
  readonly caches: boolean
  /** Erratum Q15. */
  readonly wraps: boolean
  /** Erratum unlinked-window. */
  readonly forgetsLinks: boolean
  /** Erratum bypass-stays-on. */
  readonly keepsBypass: boolean
  /** Erratum phb3-endless-kill: a kill of no entries from entry 0 on never ends. */
  readonly killsNothingForEver: boolean
  readonly pageShifts: readonly number[]
  readonly m32Base: number
  readonly cache: TceCache
  readonly kills: TceKills
  /**
   * The error interrupt: told which PE a DMA has frozen, or of the fence. Software hears of errors only through this
   * and through what it reads.
   */
  onError: (what: PeFirmware) => void = () => undefined
  /** Cuts all PEs off after an error of the PHB itself. */
  readonly fence: PhbFence
  readonly pes: IodaPe[] = []

  constructor(options: IodaPhbOptions) {
    const { name, tables, cacheEntries } = options
    const { host } = tables
    const standard: IodaPlatform = IODA_PLATFORMS[options.platform]
    this.platform = { ...standard, killsWholePe: options.killsWholePe ?? standard.killsWholePe }
    this.name = name
    this.unit = host.stage.log.names.intern(name)
    this.host = host
    this.tables = tables
    this.forgetsLinks = options.profile?.has('unlinked-window') ?? false
    this.keepsBypass = options.profile?.has('bypass-stays-on') ?? false
    this.killsNothingForEver =
      standard.kill === 'page-register' && (options.profile?.has('phb3-endless-kill') ?? false)
    this.freezes = (options.freeze ?? 'pe') === 'pe'
    this.caches = options.caches ?? true
    this.wraps = options.wraps ?? false
    this.pageShifts = options.pageShifts ?? standard.pageShifts
    this.m32Base = options.m32Base ?? M32_BASE
    const { journal, stage } = host
    this.cache = new TceCache({
      journal,
      name,
      ...(cacheEntries !== undefined && { maxEntries: cacheEntries }),
    })
    this.fence = new PhbFence(this)
    this.kills = new TceKills({ platform: this.platform, cache: this.cache, stage, unit: name })
  }

  /** A PE with no window yet. */
  addPe({ pe, group, firstSegment = 0, segments = 0 }: PeShape): IodaPe {
    assert(
      this.pes.every((known) => known.pe !== pe),
      `${this.name} has no PE ${pe} yet`,
    )
    const added = new IodaPe({ phb: this, pe, group, firstSegment, segments })
    this.pes.push(added)
    return added
  }
}
