import type { Profile } from '../../bits/errata.ts'
import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import type { BusMemory } from '../../memory/ports.ts'
import type { Stage } from '../../trace/stage.ts'
import type { Life } from '../life.ts'
import type { VtdFeatures } from './capabilities.ts'
import type { MsiPort } from './ports.ts'
import { RegisterFile, type RegisterQuirks } from './register-file.ts'
import type { VtdRegisterName } from './register-format.ts'

/** What the units of a machine share. */
export interface UnitParts {
  readonly stage: Stage
  readonly journal: Journal
  readonly life: Life
  readonly profile: Profile
}

const PAGE_SHIFT = 12n
/** Memory ends below 2^52. */
const PAGES_MAX = 2 ** 40

/** What the parts of one unit share: its registers, memory, and who hears of what happens. */
export class UnitCore {
  readonly name: string
  readonly features: VtdFeatures
  readonly memory: BusMemory
  readonly file: RegisterFile
  readonly stage: Stage
  readonly journal: Journal
  readonly life: Life
  readonly has: (id: string) => boolean
  msi: MsiPort | undefined

  constructor(name: string, features: VtdFeatures, version: number, memory: BusMemory, parts: UnitParts) {
    this.name = name
    this.features = features
    this.memory = memory
    this.stage = parts.stage
    this.journal = parts.journal
    this.life = parts.life
    this.has = parts.profile.has
    const cells = new Cells(parts.journal, keyOf('vtd-registers', name))
    this.file = new RegisterFile(features, quirksOf(parts.profile), cells)
    this.file.set('VER', BigInt(version))
    this.file.set('CAP', features.cap)
    this.file.set('ECAP', features.ecap)
    this.file.set('VCCAP', features.hasVirtualCommands ? 1n : 0n)
  }

  /** Seq of the record that led to what happens now, as `emit` wants it. */
  get cause(): number | null {
    return this.stage.cause < 0 ? null : this.stage.cause
  }

  /** Says that the model does not know what a real unit does. */
  unmodelled(what: string): void {
    this.stage.log.emit('unmodelled', this.cause, { what, line: this.stage.line })
  }

  /** Reads bytes below a page's end; false where there is no memory. */
  read(address: bigint, into: Uint8Array, bytes: number): boolean {
    const page = this.#pageOf(address)
    return page >= 0 && this.memory.readPage(page, Number(address & 0xfffn), into, 0, bytes)
  }

  write(address: bigint, from: Uint8Array, bytes: number): boolean {
    const page = this.#pageOf(address)
    return page >= 0 && this.memory.writePage(page, Number(address & 0xfffn), from, 0, bytes)
  }

  /** The 4 KiB page of memory at an address; -1 where there is none. */
  #pageOf(address: bigint): number {
    const page = Number(address >> PAGE_SHIFT)
    return page < PAGES_MAX && this.memory.isRam(page) ? page : -1
  }
}

/** Registers of QEMU's unit that are not as the manual has them. */
function quirksOf({ has }: Profile): RegisterQuirks {
  const there: VtdRegisterName[] = has('D82') ? ['IRTA'] : []
  const missing: VtdRegisterName[] = has('D83') ? ['FEUADDR', 'IEUADDR', 'IQERCD'] : []
  return {
    there: has('D42') ? [...there, 'PEUADDR'] : there,
    missing,
    resets: has('D42') ? { PECTL: 0n } : {},
    writable: has('D84') ? { IEDATA: 0xffff_0000n } : {},
  }
}
