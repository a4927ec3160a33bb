import type { BelievedWindow, Stretch } from './random-draft.ts'

/** Memory of the guest in a script: untouched, and large enough for some pages of 16 MiB. */
export const GUEST_RAM: Stretch = { from: 0x5_0000_0000n, bytes: 0x300_0000n }
/** The default window of an IODA2 group, made by the first call that needs it. */
export const DEFAULT_WINDOW: BelievedWindow = { start: 0n, bytes: 1n << 31n, pageShift: 12, levels: 1 }
/** Where other slots are put. */
export const SLOT_GPAS = [0x300_0000n, 0x400_0000n, 0x500_0000n] as const
/** Tables that the agent has room for. */
export const TABLES_MAX = 8
/** Entries of a system page of 64 KiB. */
export const PAGE_ENTRIES = 8192n

export interface BelievedSlot {
  readonly slot: number
  readonly gpa: bigint
  readonly bytes: bigint
  readonly vaddr: bigint
}

/** A table of a guest as the generator believes it to be. */
export interface BelievedTable {
  /** Its number in the agent. */
  readonly number: number
  /** Which of the script's VMs has it. */
  readonly vm: number
  readonly liobn: bigint
  readonly pageShift: number
  readonly offset: bigint
  readonly entries: bigint
  isOpen: boolean
  isMapped: boolean
  /** Whether a hardware table is behind it. */
  isBacked: boolean
  /** Entries that were written, with the guest address that they show. */
  readonly written: { readonly index: bigint; readonly gpa: bigint }[]
}

/** What a script has of KVM, as its writer believes. */
export class BelievedGuest {
  /** Number of the VM that commands reach, from 1 on; 0 for none. */
  vm = 0
  vms = 0
  /** VM whose guest makes hypercalls; 0 for none. */
  vcpuVm = 0
  hasDevice = false
  readonly added = new Set<number>()
  slots: BelievedSlot[] = []
  readonly tables: BelievedTable[] = []
  /** Entries of each list of TCEs that stands in the guest's memory. */
  readonly lists = new Map<bigint, number>()
  /** All windows that there may be: one of them may be behind a table. */
  readonly #windows: BelievedWindow[] = [DEFAULT_WINDOW]

  /** A window was asked for, and may have been made at any of these bus addresses. */
  noteWindow({ bytes, pageShift, levels }: Omit<BelievedWindow, 'start'>, starts: readonly bigint[]): void {
    if (pageShift >= 64) return
    for (const start of starts) this.#windows.push({ start, bytes, pageShift, levels })
  }

  /** Tables that hypercalls reach. */
  get reached(): readonly BelievedTable[] {
    return this.tables.filter((t) => t.vm === this.vcpuVm && (t.isOpen || t.isMapped))
  }

  /** User address behind a guest address; undefined where no slot has it. */
  vaddrOf(gpa: bigint): bigint | undefined {
    const slot = this.slots.find((s) => gpa >= s.gpa && gpa < s.gpa + s.bytes)
    return slot === undefined ? undefined : slot.vaddr + (gpa - slot.gpa)
  }

  /** The most pages from an index on that stay in the memory of a table, and of all that may be behind it. */
  room(table: BelievedTable, index: bigint): bigint {
    const least = ((table.entries + PAGE_ENTRIES - 1n) / PAGE_ENTRIES) * PAGE_ENTRIES
    const start = table.offset << BigInt(table.pageShift)
    const ends = this.#windows
      .filter((w) => w.levels === 1 && w.start === start && w.pageShift <= table.pageShift)
      .map((w) => {
        const entries = w.bytes >> BigInt(w.pageShift)
        return (entries > PAGE_ENTRIES ? entries : PAGE_ENTRIES) >> BigInt(table.pageShift - w.pageShift)
      })
    const end = [...ends, least].sort((a, b) => Number(a - b))[0] as bigint
    return end > index ? end - index : 0n
  }

  /** Hardware entries that a page of a table may stand for. */
  ratio(table: BelievedTable): bigint {
    const shifts = this.#windows.filter((w) => w.pageShift <= table.pageShift).map((w) => w.pageShift)
    return 1n << BigInt(table.pageShift - Math.min(table.pageShift, ...shifts))
  }
}
