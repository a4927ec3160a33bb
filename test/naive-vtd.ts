import type { FaultName } from '../src/hw/vtd/fault-reasons.ts'
import type { TableFeatures } from '../src/hw/vtd/tables/features.ts'

/** Memory as a list of words. */
export interface NaiveMemory {
  read(address: bigint): bigint | undefined
  write(address: bigint, word: bigint): void
}

export interface NaiveRequest {
  readonly mode: 'legacy' | 'scalable' | 'extended'
  readonly root: bigint
  readonly source: number
  readonly pasid: bigint | undefined
  readonly address: bigint
  readonly read: boolean
  readonly write: boolean
  readonly execute: boolean
  readonly privileged: boolean
  readonly kind: 'untranslated' | 'translation' | 'translated'
  readonly zero: boolean
  readonly noWrite: boolean
}

export interface NaiveAnswer {
  readonly fault: FaultName | 'none' | 'interrupt'
  readonly silent: boolean
  readonly target?: bigint
  readonly bytes?: bigint
  readonly perm?: string
  readonly domain?: bigint
}

class Blocked extends Error {
  readonly fault: FaultName
  constructor(fault: FaultName) {
    super(fault)
    this.fault = fault
  }
}
/** A translation request that finds nothing: an answer, and no fault. */
class Nothing extends Error {}

/** A translation request with privilege learns from a unit without such requests (ECAP.SRS) that it has no rights. */
const unprivileged = (q: NaiveRequest, f: { readonly hasSupervisor: boolean }): Error =>
  q.kind === 'translation' && !f.hasSupervisor ? new Nothing() : new Blocked('PASID_SRE')

const bit = (word: bigint, at: number): boolean => ((word >> BigInt(at)) & 1n) === 1n
const field = (word: bigint, hi: number, lo: number): bigint =>
  (word >> BigInt(lo)) & ((1n << BigInt(hi - lo + 1)) - 1n)
const page = (word: bigint): bigint => field(word, 63, 12) << 12n

interface Tables {
  domain: bigint
  second: { root: bigint; levels: number; ad: boolean; snoop: boolean; exec: boolean }
  first: {
    root: bigint
    levels: number
    sre: boolean
    ere: boolean
    wpe: boolean
    nxe: boolean
    smep: boolean
    eafe: boolean
    snoop: boolean
  }
  kind: 'pass' | 'second' | 'first' | 'nested'
}

interface SecondFaults {
  readonly beyond: FaultName
  readonly top: FaultName
  readonly access: FaultName
  /** Neither R nor W, for a read and for a write; no R, no W, no X. */
  readonly none: readonly [read: FaultName, write: FaultName]
  readonly noRead: FaultName
  readonly noWrite: FaultName
  readonly noExecute: FaultName
  readonly rsvd: FaultName
}
const LEGACY: SecondFaults = {
  beyond: 'BEYOND_WIDTH',
  top: 'CONTEXT_ENTRY_INVALID',
  access: 'NEXT_TABLE_ACCESS',
  none: ['READ', 'WRITE'],
  noRead: 'READ',
  noWrite: 'WRITE',
  noExecute: 'READ',
  rsvd: 'PAGING_ENTRY_RSVD',
}
const SCALABLE: SecondFaults = {
  beyond: 'SL_BEYOND',
  top: 'SL_TOP_ACCESS',
  access: 'SL_ACCESS',
  none: ['SL_PERM', 'SL_PERM'],
  noRead: 'SM_READ',
  noWrite: 'SM_WRITE',
  noExecute: 'SM_EXECUTE',
  rsvd: 'SL_RSVD',
}
const forTables = (read: FaultName): SecondFaults => ({
  ...SCALABLE,
  beyond: 'FL_TABLE_BEYOND',
  none: [read, read],
  noRead: read,
  noWrite: 'FL_TABLE_WRITE',
})
const FOR_TOP = forTables('FL_TOP_READ')
const FOR_TABLE = forTables('FL_TABLE_READ')

interface Found {
  target: bigint
  bytes: bigint
  r: boolean
  w: boolean
  x: boolean
  /** Of a page table, and not the address as it is. */
  isTable?: boolean
}

/**
 * One request by the tables, straight from the manual, one check after the other, in 64-bit words. Slow, and written
 * apart from the engine, so that both would have to err in the same way.
 */
export class NaiveVtd {
  readonly #memory: NaiveMemory
  readonly #f: TableFeatures
  #silent = false

  constructor(memory: NaiveMemory, features: TableFeatures) {
    this.#memory = memory
    this.#f = features
  }

  translate(q: NaiveRequest): NaiveAnswer {
    this.#silent = false
    const state: { domain?: bigint } = {}
    try {
      if (isInterrupt(q.address) && q.pasid === undefined && q.kind !== 'translated') {
        return { fault: 'interrupt', silent: false }
      }
      const found = this.#translate(q, state)
      const w = found.w && !(q.noWrite && found.isTable === true)
      const perm = `${found.r ? 'r' : ''}${w ? 'w' : ''}${found.x ? 'x' : ''}`
      return {
        fault: 'none',
        silent: false,
        target: found.target,
        bytes: found.bytes,
        perm,
        domain: state.domain ?? 0n,
      }
    } catch (error) {
      if (error instanceof Nothing) return { fault: 'none', silent: false, perm: '' }
      if (!(error instanceof Blocked)) throw error
      return { fault: error.fault, silent: this.#silent && !NEVER_SILENT.has(error.fault) }
    }
  }

  #word(address: bigint, fault: FaultName): bigint {
    const word = this.#memory.read(address)
    if (word === undefined) throw new Blocked(fault)
    return word
  }

  /** Bits that must be 0: of a pointer above the width of memory, and others. */
  #reserved(fault: FaultName, pointers: readonly bigint[], ...others: boolean[]): void {
    if (pointers.some((p) => p >> BigInt(this.#f.hostAddressBits) !== 0n) || others.some((o) => o))
      throw new Blocked(fault)
  }

  #translate(q: NaiveRequest, state: { domain?: bigint }): Found {
    const asItIs: Found = { target: q.address & ~0xfffn, bytes: 4096n, r: true, w: true, x: q.execute }
    if (q.mode === 'legacy' && q.pasid !== undefined) throw new Blocked('LEGACY_WITH_PASID')
    const context = this.#contextAddress(q)
    if (q.mode === 'scalable') {
      const t = this.#scalable(q, context, state)
      return this.#through(q, t.tables, t.privileged, asItIs, SCALABLE, 'SM_INTERRUPT_RANGE')
    }
    const t = q.mode === 'legacy' ? this.#legacy(q, context, state) : this.#extended(q, context, state)
    const code = q.pasid === undefined ? 'INTERRUPT_RANGE' : 'SM_INTERRUPT_RANGE'
    return this.#through(
      q,
      t,
      q.pasid !== undefined && q.privileged,
      asItIs,
      q.pasid === undefined ? LEGACY : SCALABLE,
      code,
    )
  }

  #contextAddress(q: NaiveRequest): bigint {
    const sm = q.mode === 'scalable'
    const bus = BigInt(q.source >> 8)
    const devfn = BigInt(q.source & 0xff)
    const half = q.mode !== 'legacy' && devfn >= 0x80n ? 8n : 0n
    const at = q.root + bus * 16n + half
    const entry = this.#word(at, sm ? 'SM_ROOT_ENTRY_ACCESS' : 'ROOT_ENTRY_ACCESS')
    if (!bit(entry, 0)) throw new Blocked(sm ? 'SM_ROOT_ENTRY_P' : 'ROOT_ENTRY_P')
    const other = q.mode === 'legacy' && this.#word(at + 8n, 'ROOT_ENTRY_ACCESS') !== 0n
    this.#reserved(sm ? 'SM_ROOT_ENTRY_RSVD' : 'ROOT_ENTRY_RSVD', [entry], field(entry, 11, 1) !== 0n, other)
    return page(entry) + (q.mode === 'legacy' ? devfn * 16n : (devfn & 0x7fn) * 32n)
  }

  #legacy(q: NaiveRequest, at: bigint, state: { domain?: bigint }): Tables {
    const lo = this.#word(at, 'CONTEXT_ENTRY_ACCESS')
    if (bit(lo, 1)) this.#silent = true
    if (!bit(lo, 0)) throw new Blocked('CONTEXT_ENTRY_P')
    const hi = this.#word(at + 8n, 'CONTEXT_ENTRY_ACCESS')
    // The pointer of an entry that passes through is ignored.
    const pointers = field(lo, 3, 2) === 2n ? [] : [lo]
    this.#reserved('CONTEXT_ENTRY_RSVD', pointers, field(lo, 11, 4) !== 0n, bit(hi, 7), hi >> 24n !== 0n)
    const type = Number(field(lo, 3, 2))
    const aw = Number(field(hi, 2, 0))
    const { hasDeviceTlb, hasPassThrough, sagaw } = this.#f
    const greatest = Math.floor(Math.log2(sagaw))
    const isGood = [
      sagaw & (1 << aw),
      hasDeviceTlb && sagaw & (1 << aw),
      hasPassThrough && aw === greatest,
      false,
    ][type]
    if (!isGood) throw new Blocked('CONTEXT_ENTRY_INVALID')
    if (q.kind !== 'untranslated' && type !== 1) throw new Blocked('TRANSLATION_REQUEST')
    state.domain = field(hi, 23, 8)
    if (type === 2 && q.address >> BigInt(this.#f.hostAddressBits) !== 0n) throw new Blocked('BEYOND_WIDTH')
    return {
      ...NO_TABLES,
      domain: state.domain,
      kind: type === 2 ? 'pass' : 'second',
      second: { ...NO_TABLES.second, root: page(lo), levels: aw + 2 },
    }
  }

  #extended(q: NaiveRequest, at: bigint, state: { domain?: bigint }): Tables {
    const f = this.#f
    const w0 = this.#word(at, 'CONTEXT_ENTRY_ACCESS')
    if (bit(w0, 1)) this.#silent = true
    if (!bit(w0, 0)) throw new Blocked('CONTEXT_ENTRY_P')
    const [w1, w2, w3] = [8n, 16n, 24n].map((o) => this.#word(at + o, 'CONTEXT_ENTRY_ACCESS')) as [
      bigint,
      bigint,
      bigint,
    ]
    this.#reserved(
      'CONTEXT_ENTRY_RSVD',
      [w0, w2, w3],
      field(w1, 31, 28) !== 0n,
      field(w2, 11, 4) !== 0n,
      field(w3, 11, 0) !== 0n,
    )
    const type = Number(field(w0, 4, 2))
    const aw = Number(field(w1, 2, 0))
    const [nest, paside] = [bit(w0, 10), bit(w0, 11)]
    const hasType = [
      true,
      f.hasDeviceTlb,
      f.hasPassThrough,
      false,
      f.hasPassThrough && f.hasPasid,
      f.hasPassThrough && f.hasPasid && f.hasDeviceTlb,
      false,
      false,
    ][type]
    const hasWidth = type === 2 ? aw === Math.floor(Math.log2(f.sagaw)) : (f.sagaw & (1 << aw)) !== 0
    if (!hasType || !hasWidth || (nest && !f.hasNesting) || (paside && !f.hasPasid))
      throw new Blocked('CONTEXT_ENTRY_INVALID')
    if (q.kind !== 'untranslated' && type !== 1 && type !== 5) throw new Blocked('TRANSLATION_REQUEST')
    state.domain = field(w1, 23, 8)
    const second = { ...NO_TABLES.second, root: page(w0), levels: aw + 2 }
    if (q.pasid === undefined) {
      const isPass = type === 2 || type === 4 || type === 5
      if (isPass && q.kind !== 'translated' && q.address >> BigInt(f.hostAddressBits) !== 0n)
        throw new Blocked('BEYOND_WIDTH')
      return { ...NO_TABLES, domain: state.domain, kind: isPass ? 'pass' : 'second', second }
    }
    if (!paside || type === 2) throw new Blocked('SM_PASIDE')
    if (q.pasid >= 1n << (field(w2, 3, 0) + 5n)) throw new Blocked('SM_PASID_BEYOND')
    const entry = this.#word(page(w2) + q.pasid * 8n, 'PASID_ENTRY_ACCESS')
    if (!bit(entry, 0)) throw new Blocked('PASID_ENTRY_P')
    this.#reserved('PASID_ENTRY_RSVD', [entry], field(entry, 2, 1) !== 0n, field(entry, 10, 5) !== 0n)
    const first = {
      root: page(entry),
      levels: 4,
      sre: bit(entry, 11),
      ere: bit(w1, 26),
      wpe: bit(w1, 5),
      nxe: bit(w1, 4),
      smep: bit(w1, 24),
      eafe: bit(w1, 25),
      snoop: true,
    }
    if (q.execute && !first.ere) throw new Blocked('PASID_ERE')
    if (q.privileged && !first.sre) throw unprivileged(q, f)
    return { domain: state.domain, kind: nest ? 'nested' : 'first', second, first }
  }

  #scalable(
    q: NaiveRequest,
    at: bigint,
    state: { domain?: bigint },
  ): { tables: Tables; privileged: boolean } {
    const f = this.#f
    const c0 = this.#word(at, 'SM_CONTEXT_ENTRY_ACCESS')
    if (bit(c0, 1)) this.#silent = true
    if (!bit(c0, 0)) throw new Blocked('SM_CONTEXT_ENTRY_P')
    const [c1, c2, c3] = [8n, 16n, 24n].map((o) => this.#word(at + o, 'SM_CONTEXT_ENTRY_ACCESS')) as [
      bigint,
      bigint,
      bigint,
    ]
    this.#reserved(
      'SM_CONTEXT_ENTRY_RSVD',
      [c0],
      field(c0, 8, 5) !== 0n,
      c1 >> 21n !== 0n,
      c2 !== 0n,
      c3 !== 0n,
    )
    const [dte, paside, pre, priv] = [bit(c0, 2), bit(c0, 3), bit(c0, 4), bit(c1, 20)]
    // What the unit has not is reserved.
    this.#reserved(
      'SM_CONTEXT_ENTRY_RSVD',
      [],
      dte && !f.hasDeviceTlb,
      paside && !f.hasPasid,
      pre && !f.hasPageRequests,
      priv && !f.hasRidPrivilege,
      field(c1, 19, 0) !== 0n && !f.hasRidPasid,
    )
    const beyond = (n: bigint) => n >> (field(c0, 11, 9) + 13n) !== 0n
    if (q.pasid === undefined && beyond(field(c1, 19, 0))) throw new Blocked('SM_CONTEXT_ENTRY_INVALID')
    if (q.kind !== 'untranslated' && !dte) throw new Blocked('SM_DTE')
    if (q.pasid !== undefined && !paside) throw new Blocked('SM_PASIDE')
    const rid = f.hasRidPasid ? field(c1, 19, 0) : 0n
    const pasid = q.pasid ?? rid
    if (beyond(pasid)) throw new Blocked('SM_PASID_BEYOND')
    const dir = this.#word(page(c0) + (pasid >> 6n) * 8n, 'PASID_DIR_ACCESS')
    if (bit(dir, 1)) this.#silent = true
    if (!bit(dir, 0)) throw new Blocked('PASID_DIR_P')
    this.#reserved('PASID_DIR_RSVD', [dir], field(dir, 11, 2) !== 0n)
    const e = page(dir) + (pasid & 63n) * 64n
    const w0 = this.#word(e, 'PASID_ENTRY_ACCESS')
    if (bit(w0, 1)) this.#silent = true
    if (!bit(w0, 0)) throw new Blocked('PASID_ENTRY_P')
    const words = [1n, 2n, 3n, 4n, 5n, 6n, 7n].map((n) => this.#word(e + n * 8n, 'PASID_ENTRY_ACCESS'))
    const [w1, w2] = words as [bigint, bigint]
    this.#reserved(
      'PASID_ENTRY_RSVD',
      [w0, w2],
      field(w0, 11, 10) !== 0n,
      field(w1, 22, 16) !== 0n,
      field(w2, 11, 8) !== 0n,
      words.slice(2).some((w) => w !== 0n),
      bit(w0, 9) && !f.hasSecondAccessedDirty,
      bit(w1, 23) && !f.hasWalkSnoop,
      bit(w1, 24) && !f.hasSnoopControl,
      w1 >> 25n !== 0n && !f.hasMemoryTypes,
      bit(w2, 0) && !f.hasSupervisor,
      bit(w2, 1) && !f.hasExecute,
      bit(w2, 7) && !f.hasExtendedAccessed,
    )
    const aw = Number(field(w0, 4, 2))
    const flpm = Number(field(w2, 3, 2))
    const hasWidth = (f.sagaw & (1 << aw)) !== 0
    const hasFlpm = flpm === 0 || (flpm === 1 && f.hasFirst5)
    const pgtt = Number(field(w0, 8, 6))
    const isGood = [
      false,
      f.hasFirstLevel && hasFlpm,
      f.hasSecondLevel && hasWidth,
      f.hasNesting && hasFlpm && hasWidth,
      f.hasPassThrough,
      false,
      false,
      false,
    ][pgtt]
    if (!isGood) throw new Blocked('PASID_ENTRY_INVALID')
    const privileged = q.pasid === undefined ? priv : q.privileged
    if (q.execute && !bit(w2, 1)) throw new Blocked('PASID_ERE')
    if (privileged && !bit(w2, 0)) throw unprivileged(q, f)
    if (pgtt === 4 && q.kind !== 'translated' && q.address >> BigInt(f.hostAddressBits) !== 0n)
      throw new Blocked('HOST_WIDTH')
    state.domain = field(w1, 15, 0)
    const snoop = bit(w1, 23)
    return {
      privileged,
      tables: {
        domain: state.domain,
        kind: (['pass', 'first', 'second', 'nested', 'pass'] as const)[pgtt] ?? 'pass',
        second: { root: page(w0), levels: aw + 2, ad: bit(w0, 9), snoop, exec: bit(w0, 5) },
        first: {
          root: page(w2),
          levels: 4 + flpm,
          sre: bit(w2, 0),
          ere: bit(w2, 1),
          wpe: bit(w2, 4),
          nxe: bit(w2, 5),
          smep: bit(w2, 6),
          eafe: bit(w2, 7),
          snoop,
        },
      },
    }
  }

  #through(
    q: NaiveRequest,
    t: Tables,
    privileged: boolean,
    asItIs: Found,
    faults: SecondFaults,
    interrupt: FaultName,
  ): Found {
    const need = {
      r: q.read && !(q.zero && this.#f.hasZeroLengthReads),
      w: q.write && !q.noWrite,
      x: q.execute,
    }
    const isSoft = q.kind === 'translation'
    let found: Found
    if (q.kind === 'translated' || t.kind === 'pass') found = asItIs
    else if (t.kind === 'second') {
      found = this.#second(q.address, need, t, faults, isSoft)
      if (!t.first.ere) found.x = false
    } else {
      found = this.#first(q.address, need, t, privileged, isSoft)
      if (t.kind === 'nested') {
        const gpa = found.target + (q.address & (found.bytes - 1n))
        const wanted = isSoft ? { r: need.r && found.r, w: need.w && found.w, x: need.x && found.x } : need
        const host = this.#second(gpa, wanted, t, SCALABLE, isSoft)
        const [bytes] = [host.bytes, found.bytes].sort((a, b) => (a < b ? -1 : 1)) as [bigint]
        const exact = host.target + (gpa & (host.bytes - 1n))
        found = {
          target: exact & ~(bytes - 1n),
          bytes,
          r: found.r && host.r,
          w: found.w && host.w,
          x: found.x && host.x,
        }
      }
    }
    if (found !== asItIs) found.isTable = true
    const exact = found.target + (q.address & (found.bytes - 1n))
    if (isInterrupt(exact)) throw new Blocked(interrupt)
    const last = found.target + found.bytes - 1n
    const isNear = found.target <= 0xfeef_ffffn && last >= 0xfee0_0000n
    return isNear ? { ...found, target: exact & ~0xfffn, bytes: 4096n } : found
  }

  #second(
    address: bigint,
    need: { r: boolean; w: boolean; x: boolean },
    t: Tables,
    faults: SecondFaults,
    isSoft: boolean,
  ): Found {
    const { beyond, top, access, none, noRead, noWrite, noExecute, rsvd } = faults
    const { root, levels, ad, snoop, exec } = t.second
    const f = this.#f
    const refuse = (fault: FaultName): never => {
      throw isSoft ? new Nothing() : new Blocked(fault)
    }
    if (address >> BigInt(Math.min(f.maxAddressBits, 12 + 9 * levels)) !== 0n) refuse(beyond)
    let table = root
    const all = { r: true, w: true, x: true }
    for (let level = levels; level >= 1; level--) {
      const shift = BigInt(12 + 9 * (level - 1))
      const at = table + ((address >> shift) & 0x1ffn) * 8n
      const entry = this.#word(at, level === levels ? top : access)
      all.r &&= bit(entry, 0)
      all.w &&= bit(entry, 1)
      if (exec) all.x &&= bit(entry, 2)
      if (!all.r && !all.w) refuse(none[need.w ? 1 : 0])
      if (!isSoft && need.w && !all.w) throw new Blocked(noWrite)
      if (!isSoft && need.r && !all.r) throw new Blocked(noRead)
      if (!isSoft && need.x && !all.x) throw new Blocked(noExecute)
      const canBeLarge = (level === 2 && f.hasSecond2M) || (level === 3 && f.hasSecond1G)
      const isLeaf = level === 1 || (canBeLarge && bit(entry, 7))
      const target = field(entry, 51, 12) << 12n
      const bad = [target >> BigInt(f.hostAddressBits) !== 0n]
      if (isLeaf)
        bad.push(
          bit(entry, 11) && !f.hasSnoopControl,
          bit(entry, 62) && !f.hasDeviceTlb,
          (target & ((1n << shift) - 1n)) !== 0n,
        )
      else bad.push(bit(entry, 11), bit(entry, 7), bit(entry, 62))
      if (bad.some((b) => b)) throw new Blocked(rsvd)
      if (ad) {
        const wanted = 0x100n | (isLeaf && need.w && all.w ? 0x200n : 0n)
        if ((entry & wanted) !== wanted) {
          if (!snoop) throw new Blocked('SL_ACCESSED_DIRTY')
          this.#memory.write(at, entry | wanted)
        }
      }
      if (isLeaf) return { target, bytes: 1n << shift, ...all }
      table = target
    }
    throw new Error('level 1 is a leaf')
  }

  #first(
    address: bigint,
    need: { r: boolean; w: boolean; x: boolean },
    t: Tables,
    privileged: boolean,
    isSoft: boolean,
  ): Found {
    const { root, levels, wpe, nxe, smep, eafe, ere, snoop } = t.first
    const f = this.#f
    const refuse = (fault: FaultName): never => {
      throw isSoft ? new Nothing() : new Blocked(fault)
    }
    const top = BigInt.asIntN(64, address) >> BigInt(levels === 5 ? 56 : 47)
    if (top !== 0n && top !== -1n) refuse('NOT_CANONICAL')
    let table = root
    const all = { w: true, user: true, xd: false }
    for (let level = levels; level >= 1; level--) {
      const shift = BigInt(12 + 9 * (level - 1))
      const offset = ((address >> shift) & 0x1ffn) * 8n
      const faults = level === levels ? FOR_TOP : FOR_TABLE
      let host = { target: table, w: true }
      if (t.kind === 'nested') {
        const found = this.#second(table, { r: true, w: false, x: false }, t, faults, false)
        host = { target: found.target + (table & (found.bytes - 1n)), w: found.w }
      }
      const entry = this.#word(host.target + offset, level === levels ? 'FL_TOP_ACCESS' : 'FL_ACCESS')
      if (!bit(entry, 0)) refuse('FL_P')
      all.w &&= bit(entry, 1)
      all.user &&= bit(entry, 2)
      all.xd ||= nxe && bit(entry, 63)
      if (!privileged && !all.user) refuse('FL_USER')
      const mayWrite = all.w || (privileged && !wpe)
      if (!isSoft && need.w && !mayWrite) throw new Blocked('SM_WRITE')
      if (!isSoft && need.x && all.xd) throw new Blocked('SM_EXECUTE')
      const isLeaf = level === 1 || (bit(entry, 7) && (level === 2 || (level === 3 && f.hasFirst1G)))
      const target = field(entry, 51, 12) << 12n
      const bad = [target >> BigInt(f.hostAddressBits) !== 0n, bit(entry, 63) && !nxe]
      if (!isLeaf) bad.push(bit(entry, 7))
      else if (level > 1) bad.push((target & ((1n << shift) - 1n)) >> 13n !== 0n)
      if (bad.some((b) => b)) throw new Blocked('FL_RSVD')
      const mayExecute = ere && !all.xd && !(privileged && smep && all.user)
      if (isLeaf && !isSoft && need.x && !mayExecute) throw new Blocked('SM_EXECUTE')
      const wanted = 0x20n | (isLeaf && need.w && mayWrite ? 0x40n : 0n) | (eafe ? 0x400n : 0n)
      if ((entry & wanted) !== wanted) {
        if (!snoop) throw new Blocked('FL_ACCESSED_DIRTY')
        if (!host.w) throw new Blocked('FL_TABLE_WRITE')
        if (t.kind === 'nested' && t.second.ad)
          this.#second(table, { r: true, w: true, x: false }, t, faults, false)
        this.#memory.write(host.target + offset, entry | wanted)
      }
      if (isLeaf)
        return {
          target: target & ~((1n << shift) - 1n),
          bytes: 1n << shift,
          r: true,
          w: mayWrite,
          x: mayExecute,
        }
      table = target
    }
    throw new Error('level 1 is a leaf')
  }
}

const isInterrupt = (address: bigint): boolean => address >> 20n === 0xfeen

const NEVER_SILENT: ReadonlySet<FaultName> = new Set<FaultName>([
  'ROOT_ENTRY_ACCESS',
  'ROOT_ENTRY_P',
  'ROOT_ENTRY_RSVD',
  'CONTEXT_ENTRY_ACCESS',
  'LEGACY_WITH_PASID',
  'SM_ROOT_ENTRY_ACCESS',
  'SM_ROOT_ENTRY_P',
  'SM_ROOT_ENTRY_RSVD',
  'SM_CONTEXT_ENTRY_ACCESS',
  'PASID_DIR_ACCESS',
  'PASID_ENTRY_ACCESS',
])

const NO_TABLES: Tables = {
  domain: 0n,
  kind: 'pass',
  second: { root: 0n, levels: 0, ad: false, snoop: true, exec: false },
  first: {
    root: 0n,
    levels: 0,
    sre: false,
    ere: false,
    wpe: false,
    nxe: false,
    smep: false,
    eafe: false,
    snoop: true,
  },
}
