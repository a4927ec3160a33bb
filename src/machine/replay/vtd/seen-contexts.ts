import { hex, wordOf } from '../../../bits/u64.ts'

/** T of a legacy context entry, and DTE of a scalable one: the device has a TLB of its own. */
const WITH_DEVICE_TLB = 1
const LEGACY_WIDTH = 30

/** A context entry that lines show; its words in lanes. */
export interface SeenContext {
  readonly hiHi: number
  readonly hiLo: number
  readonly loHi: number
  readonly loLo: number
  readonly generation: number
  /** Line that read it. */
  readonly line: number
}

/** What the lines of a trace show of the context cache of QEMU's intel-iommu, and of entries that are not there. */
export class SeenContexts {
  /** No entry is held that the log does not show. */
  isComplete = false
  isScalable = false
  readonly #held = new Map<number, SeenContext>()
  readonly #lastDomain = new Map<number, number>()
  /** Source-ids, and buses, of which the last line said that there is no entry. */
  readonly #absent = new Map<number, number>()
  readonly #absentRoots = new Map<number, number>()

  /** All entries that the unit holds, by source-id. */
  get held(): Iterable<readonly [number, SeenContext]> {
    return this.#held
  }

  /** The entry that the unit holds for a source-id. */
  find(source: number): SeenContext | undefined {
    return this.#held.get(source)
  }

  /** Domain of the last entry that was seen for a source-id: held or not. */
  domainOf(source: number): number | undefined {
    return this.#lastDomain.get(source)
  }

  /** An entry was read. Answers its domain where that is another than before. */
  read(source: number, context: SeenContext): number | undefined {
    this.#held.set(source, context)
    this.#absent.delete(source)
    this.#absentRoots.delete(source >>> 8)
    // Of a scalable context entry the PASID entry says the domain, which no line shows.
    const domain = this.isScalable ? undefined : (context.hiLo >>> 8) & 0xffff
    if (domain === undefined || this.#lastDomain.get(source) === domain) return undefined
    this.#lastDomain.set(source, domain)
    return domain
  }

  /** An entry of the IOTLB says which domain a source-id is of. Answers it where that is another than before. */
  belongs(source: number, domain: number): number | undefined {
    if (this.#lastDomain.get(source) === domain) return undefined
    this.#lastDomain.set(source, domain)
    return domain
  }

  absent(source: number, line: number): void {
    this.#absent.set(source, line)
  }

  absentRoot(bus: number, line: number): void {
    this.#absentRoots.set(bus, line)
  }

  /** Line that said that a source-id has no context entry; undefined where none did since an entry was read. */
  absentSince(source: number): number | undefined {
    return this.#absent.get(source)
  }

  absentRootSince(bus: number): number | undefined {
    return this.#absentRoots.get(bus)
  }

  /** Entries are forgotten: of all, or of one source-id. */
  forget(source?: number): void {
    if (source !== undefined) {
      this.#held.delete(source)
      return
    }
    this.#held.clear()
    this.isComplete = true
  }

  /** Another root table. */
  startAnew(isScalable: boolean): void {
    this.isScalable = isScalable
    this.#lastDomain.clear()
    this.#absent.clear()
    this.#absentRoots.clear()
    this.forget()
  }

  /** A line that may have changed anything is lost. */
  doubt(): void {
    this.isComplete = false
    this.#held.clear()
    this.#absent.clear()
    this.#absentRoots.clear()
  }

  /** Bits of bus addresses that a source-id has; undefined where its context does not say. */
  widthOf(source: number): number | undefined {
    const context = this.#held.get(source)
    return context === undefined || this.isScalable ? undefined : LEGACY_WIDTH + 9 * (context.hiLo & 7)
  }

  /** T of a legacy entry, or DTE of a scalable one. */
  hasDeviceTlb({ loLo }: SeenContext): boolean {
    const type = (loLo >>> 2) & (this.isScalable ? 1 : 3)
    return type === WITH_DEVICE_TLB
  }
}

/** A context entry in words. */
export const contextText = ({ hiHi, hiLo, loHi, loLo, generation }: SeenContext): string =>
  `high ${hex(wordOf(hiHi, hiLo))} low ${hex(wordOf(loHi, loLo))} of generation ${generation}`

export const isSameContext = (a: SeenContext, b: SeenContext): boolean =>
  a.hiHi === b.hiHi &&
  a.hiLo === b.hiLo &&
  a.loHi === b.loHi &&
  a.loLo === b.loLo &&
  a.generation === b.generation
