import type { VtdInvalidation } from '../../src/hw/vtd/ports.ts'

/** What the naive caches do wrong when they are told to: each must show. */
export const FAULTS = [
  'a context entry is read for every request',
  'tables are not remembered',
  'tables stay where no hint is given',
  'tables go in spite of the hint',
  'context entries take the IOTLB with them',
  'what is not allowed by an entry is not looked up again',
  'a domain is the device',
  'what is not mapped is remembered without caching mode',
  'what is passed through has no entry',
] as const
export type Fault = (typeof FAULTS)[number]

interface Context {
  readonly domain: number
  readonly root: number
  readonly isDirect: boolean
  readonly fault: string
}

interface Table {
  readonly domain: number
  /** Level of the table, and what of a page number leads to it. */
  readonly level: number
  readonly prefix: number
  readonly page: number
  readonly perm: number
}

interface Entry {
  readonly domain: number
  readonly page: number
  readonly pages: number
  readonly target: number
  readonly perm: number
  readonly refused: number
}

export interface NaiveState {
  readonly contexts: ReadonlyMap<number, Context>
  readonly tables: readonly Table[]
  readonly entries: readonly Entry[]
}

const READ = 1
const WRITE = 2
const LEVELS = 3
const WHOLE = 2 ** 52
/** Addresses of the root table's only context table, and pages of a level. */
const CONTEXTS = 0x1_1000
const pagesBelow = (level: number): number => 512 ** (level - 1)

/** The caches of a legacy unit of three levels as lists, with a walker of its own. No care for speed. (Specification 2.10, 4.1, 4.3) */
export class NaiveCaches {
  state: NaiveState = { contexts: new Map(), tables: [], entries: [] }
  readonly #read: (address: number) => bigint
  readonly #isCaching: boolean
  readonly #fault: Fault | undefined

  constructor(read: (address: number) => bigint, isCaching: boolean, fault?: Fault) {
    this.#read = read
    this.#isCaching = isCaching
    this.#fault = fault
  }

  /** The name of the fault, or `page:log2 of the bytes:permissions`. */
  translate(source: number, page: number, need: number): string {
    const context = this.#context(source)
    if (context.fault !== '') return context.fault
    const { domain } = context
    const own = this.#fault === 'a domain is the device' ? source : domain
    if (context.isDirect) {
      const isKnown = this.state.entries.some((e) => e.domain === own && e.pages === WHOLE)
      if (!isKnown && this.#fault !== 'what is passed through has no entry') {
        this.#keep({ domain: own, page: 0, pages: WHOLE, target: 0, perm: READ | WRITE, refused: 0 })
      }
      return `${page.toString(16)}:12:3`
    }
    const entry = this.state.entries
      .filter((e) => e.domain === own && page >= e.page && page < e.page + e.pages)
      .sort((a, b) => a.pages - b.pages)[0]
    const missing = entry === undefined ? 0 : need & ~entry.perm
    if (entry !== undefined && (need & entry.refused) !== 0) return nameOf(need & entry.refused)
    if (entry !== undefined && entry.refused === 0) {
      if (missing === 0) return shown(entry, page)
      if (this.#isCaching || this.#fault === 'what is not allowed by an entry is not looked up again')
        return nameOf(missing)
    }
    return this.#walk(context, own, page, need, entry)
  }

  invalidate(what: VtdInvalidation): void {
    const { contexts, tables, entries } = this.state
    const fault = this.#fault
    if (what.what === 'context') {
      const kept = [...contexts].filter(([source, { domain }]) => {
        if (what.scope === 'all') return false
        if (what.scope === 'domain') return domain !== what.domain
        const ignored = [0, 4, 6, 7][what.functionMask] as number
        return (source & ~ignored) !== (what.source & ~ignored) || domain !== what.domain
      })
      const takesAll = fault === 'context entries take the IOTLB with them'
      this.state = { contexts: new Map(kept), tables, entries: takesAll ? [] : entries }
    }
    if (what.what !== 'iotlb') return
    const first = Number(what.address >> 12n) - (Number(what.address >> 12n) % 2 ** what.order)
    const last = first + 2 ** what.order - 1
    const isNamed = (domain: number, from: number, pages: number): boolean => {
      if (what.scope === 'all') return true
      if (domain !== what.domain) return false
      return what.scope === 'domain' || (from <= last && from + pages > first)
    }
    const hint = fault === 'tables go in spite of the hint' ? false : what.isLeafOnly
    const keepsTables =
      (what.scope === 'fine' && hint) ||
      (what.scope === 'fine' && fault === 'tables stay where no hint is given')
    this.state = {
      contexts,
      tables: tables.filter(
        (t) => keepsTables || !isNamed(t.domain, t.prefix * pagesBelow(t.level + 1), pagesBelow(t.level + 1)),
      ),
      entries: entries.filter((e) => !isNamed(e.domain, e.page, e.pages)),
    }
  }

  #context(source: number): Context {
    const known = this.state.contexts.get(source)
    if (known !== undefined && this.#fault !== 'a context entry is read for every request') return known
    const lo = this.#read(CONTEXTS + source * 16)
    const hi = this.#read(CONTEXTS + source * 16 + 8)
    const isThere = (lo & 1n) !== 0n
    const context = {
      domain: isThere ? Number((hi >> 8n) & 0xffffn) : 0,
      root: Number(lo >> 12n),
      isDirect: ((lo >> 2n) & 3n) === 2n,
      fault: isThere ? '' : 'CONTEXT_ENTRY_P',
    }
    if (isThere || this.#isCaching) {
      this.state = { ...this.state, contexts: new Map([...this.state.contexts, [source, context]]) }
    }
    return context
  }

  #walk(context: Context, domain: number, page: number, need: number, before: Entry | undefined): string {
    const known = this.state.tables
      .filter((t) => t.domain === domain && t.prefix === Math.floor(page / pagesBelow(t.level + 1)))
      .sort((a, b) => a.level - b.level)[0]
    const start = known !== undefined && (need & ~known.perm) === 0 ? known : undefined
    let table = start?.page ?? context.root
    let level = start?.level ?? LEVELS
    let perm = start?.perm ?? READ | WRITE
    for (; ; level--) {
      const word = this.#read(table * 4096 + (Math.floor(page / pagesBelow(level)) % 512) * 8)
      perm &= Number(word & 3n)
      const missing = need & ~perm
      if (perm === 0 || missing !== 0) {
        const refused =
          perm === 0 ? ((need & WRITE) !== 0 ? WRITE : READ) : (missing & WRITE) !== 0 ? WRITE : READ
        this.#refuse(domain, page, refused, before)
        return nameOf(refused)
      }
      const to = Number(word >> 12n)
      if (level === 1 || (word & 0x80n) !== 0n) {
        const pages = pagesBelow(level)
        const entry = { domain, page: page - (page % pages), pages, target: to, perm, refused: 0 }
        this.#keep(entry)
        return shown(entry, page)
      }
      table = to
      if (this.#fault === 'tables are not remembered') continue
      const kept = { domain, level: level - 1, prefix: Math.floor(page / pagesBelow(level)), page: to, perm }
      const isOther = (t: Table) => t.domain !== domain || t.level !== kept.level || t.prefix !== kept.prefix
      this.state = { ...this.state, tables: [...this.state.tables.filter(isOther), kept] }
    }
  }

  #refuse(domain: number, page: number, refused: number, before: Entry | undefined): void {
    const remembers =
      this.#isCaching || this.#fault === 'what is not mapped is remembered without caching mode'
    if (!remembers || (before !== undefined && before.refused === 0)) return
    this.#keep({ domain, page, pages: 1, target: 0, perm: 0, refused: refused | (before?.refused ?? 0) })
  }

  #keep(entry: Entry): void {
    const isOther = (e: Entry) =>
      e.domain !== entry.domain || e.page !== entry.page || e.pages !== entry.pages
    this.state = { ...this.state, entries: [...this.state.entries.filter(isOther), entry] }
  }
}

const nameOf = (refused: number): string => ((refused & WRITE) !== 0 ? 'WRITE' : 'READ')

const shown = (e: Entry, page: number): string =>
  e.pages === WHOLE
    ? `${page.toString(16)}:12:${e.perm}`
    : `${(e.target + (page - e.page)).toString(16)}:${12 + Math.log2(e.pages)}:${e.perm}`
