/**
 * A remapping unit as the manual tells it, in words of 64 bits and lists, written apart from the model: registers, the
 * queue with plain descriptors of 128 bits, faults and the two events that go with them. A unit without scalable mode.
 */

const bit = (n: number): bigint => 1n << BigInt(n)
const TE = bit(31)
const SRTP = bit(30)
const QIE = bit(26)
const IRE = bit(25)
const SIRTP = bit(24)
const CFI = bit(23)
const IM = bit(31)
const IP = bit(30)
const F = bit(63)
const PFO = 1n
const PPF = 2n
const IQE = 16n
const ICE = 32n
const ITE = 64n
const ANY = PFO | PPF | IQE | ICE | ITE

/** What software may write, and what it clears, of each register. */
const RULES: Readonly<
  Record<string, readonly [bytes: 4 | 8, writable: bigint, clears: bigint, hidden: bigint]>
> = {
  GCMD: [4, 0xff80_0000n, 0n, 0xff80_0000n],
  GSTS: [4, 0n, 0n, 0n],
  RTADDR: [8, 0xffff_ffff_ffff_fc00n, 0n, 0n],
  CCMD: [8, 0xe000_0003_ffff_ffffn, 0n, 0x3_ffff_0000n],
  FSTS: [4, 0n, 0x71n, 0n],
  FECTL: [4, IM, 0n, 0n],
  FEDATA: [4, 0xffffn, 0n, 0n],
  FEADDR: [4, 0xffff_fffcn, 0n, 0n],
  IQH: [8, 0n, 0n, 0n],
  IQT: [8, 0x7_fff0n, 0n, 0n],
  IQA: [8, 0xffff_ffff_ffff_f807n, 0n, 0n],
  ICS: [4, 0n, 1n, 0n],
  IECTL: [4, IM, 0n, 0n],
  IEDATA: [4, 0xffffn, 0n, 0n],
  IEADDR: [4, 0xffff_fffcn, 0n, 0n],
  IQERCD: [8, 0n, 0n, 0n],
  IRTA: [8, 0xffff_ffff_ffff_f80fn, 0n, 0n],
  IVA: [8, 0xffff_ffff_ffff_f07fn, 0n, 0xffff_ffff_ffff_f07fn],
  IOTLB: [8, 0xb003_ffff_0000_0000n, 0n, 0n],
}
export const NAIVE_REGISTERS = Object.keys(RULES)

type Wait = { kind: 'wait'; sw: boolean; if: boolean; fence: boolean; address: bigint; data: bigint }
type Device = { kind: 'device'; source: number; isLost: boolean }

export interface NaiveOptions {
  readonly records: number
  readonly maxOrder: bigint
  /** The word at an address; undefined where there is no memory. */
  readonly load: (address: bigint) => bigint | undefined
  readonly store: (address: bigint, data: bigint) => void
  /** How a device ends an invalidation. */
  readonly end: () => 'done' | 'late' | 'lost'
}

export class NaiveUnit {
  readonly value = new Map<string, bigint>(
    NAIVE_REGISTERS.map((name) => [name, name === 'FECTL' || name === 'IECTL' ? IM : 0n]),
  )
  readonly frcd: { lo: bigint; hi: bigint }[]
  /** What was said to anybody, in order. */
  readonly said: string[] = []
  #next = 0
  #root = 0n
  #queue: { base: bigint; size: bigint } | undefined
  /** Requests and waits in the order they came: a wait is done when no request is before it. */
  #pending: (Wait | Device)[] = []
  #ending = false
  readonly #options: NaiveOptions

  constructor(options: NaiveOptions) {
    this.#options = options
    this.frcd = Array.from({ length: options.records }, () => ({ lo: 0n, hi: 0n }))
  }

  /** Where its queue is; undefined while it is off. */
  get queue(): { readonly base: bigint; readonly size: bigint } | undefined {
    return this.#queue
  }

  read(name: string): bigint {
    const [, , , hidden] = RULES[name] as (typeof RULES)[string]
    return this.#get(name) & ~hidden
  }

  write(name: string, written: bigint): void {
    const [bytes, writable, clears] = RULES[name] as (typeof RULES)[string]
    const raw = BigInt.asUintN(bytes * 8, written)
    this.#set(name, ((this.#get(name) & ~writable) | (raw & writable)) & ~(raw & clears))
    if (name === 'GCMD') this.#command(raw)
    if (name === 'CCMD') this.#context()
    if (name === 'IOTLB') this.#iotlb()
    if (name === 'FSTS') {
      this.#calm()
      if ((this.#get('FSTS') & IQE) === 0n) this.#set('IQERCD', this.#get('IQERCD') & ~0xfn)
      this.#run()
    }
    if (name === 'IQT') this.#run()
    if (name === 'FECTL') this.#unmask('F')
    if (name === 'IECTL') this.#unmask('I')
    if (name === 'ICS' && this.#get('ICS') === 0n) this.#set('IECTL', this.#get('IECTL') & ~IP)
  }

  /** Software writes the last 4 bytes of a fault recording register. */
  clearRecord(index: number): void {
    const record = this.frcd[index]
    if (record === undefined) return
    record.hi &= ~F
    if (this.frcd.every((r) => (r.hi & F) === 0n)) this.#set('FSTS', this.#get('FSTS') & ~PPF)
    this.#calm()
  }

  /** A request of a device is blocked. */
  fault(source: bigint, reason: bigint, address: bigint, isWrite: boolean): void {
    const full = (r: { hi: bigint }) => (r.hi & F) !== 0n
    if ((this.#get('FSTS') & PFO) !== 0n) return
    if (this.frcd.some((r) => full(r) && (r.hi & 0xffffn) === source)) return
    const record = this.frcd[this.#next] as { lo: bigint; hi: bigint }
    if (full(record)) {
      this.#raise(PFO)
      return
    }
    record.lo = (address >> 12n) << 12n
    record.hi = F | (isWrite ? 0n : bit(62)) | (reason << 32n) | source
    if ((this.#get('FSTS') & PPF) === 0n) {
      this.#set('FSTS', (this.#get('FSTS') & 0xffn) | (BigInt(this.#next) << 8n))
    }
    this.#next = (this.#next + 1) % this.frcd.length
    this.#raise(PPF)
  }

  completed(source: number): void {
    const at = this.#pending.findIndex((p) => p.kind === 'device' && p.source === source && !p.isLost)
    if (at < 0) {
      this.#set('IQERCD', (this.#get('IQERCD') & 0xffff_ffff_ffffn) | (BigInt(source) << 48n))
      this.#raise(ICE)
      return
    }
    this.#pending.splice(at, 1)
    while (this.#pending[0]?.kind === 'wait') this.#finish(this.#pending.shift() as Wait)
    this.#run()
    this.#tryEnd()
  }

  elapse(): void {
    const lost = this.#pending.find((p): p is Device => p.kind === 'device' && p.isLost)
    if (lost === undefined) return
    this.#pending = this.#pending.filter((p) => p.kind === 'device' && !p.isLost)
    const others = this.#get('IQERCD') & ~0xffff_0000_0000n
    this.#set('IQERCD', others | (BigInt(lost.source) << 32n))
    this.#raise(ITE)
    this.#tryEnd()
  }

  #get(name: string): bigint {
    return this.value.get(name) ?? 0n
  }

  #set(name: string, value: bigint): void {
    this.value.set(name, value)
  }

  #status(mask: bigint, isOn: boolean): void {
    this.#set('GSTS', isOn ? this.#get('GSTS') | mask : this.#get('GSTS') & ~mask)
  }

  #command(raw: bigint): void {
    const changed = this.#get('GSTS') ^ raw
    if (changed & TE) {
      this.#status(TE, (raw & TE) !== 0n)
      if (!(raw & TE)) this.#next = 0
      this.said.push(`root ${this.#root} ${(raw & TE) !== 0n}`)
    }
    if (raw & SRTP) {
      this.#root = this.#get('RTADDR') & ~0x3ffn
      this.#status(SRTP, true)
      this.said.push(`root ${this.#root} ${(this.#get('GSTS') & TE) !== 0n}`)
    }
    if (changed & QIE) {
      if (raw & QIE) this.#begin()
      else {
        this.#ending = true
        this.#tryEnd()
      }
    }
    if (raw & SIRTP) this.#status(SIRTP, true)
    if (changed & IRE) this.#status(IRE, (raw & IRE) !== 0n)
    if (changed & CFI) this.#status(CFI, (raw & CFI) !== 0n)
  }

  #begin(): void {
    const iqa = this.#get('IQA')
    // This unit has no descriptors of 256 bits: those would be refused, and tests do not ask for them.
    this.#queue = { base: iqa & ~0xfffn, size: 4096n << (iqa & 7n) }
    this.#ending = false
    this.#status(QIE, true)
    this.#run()
  }

  #tryEnd(): void {
    if (!this.#ending || this.#pending.length > 0) return
    this.#ending = false
    this.#queue = undefined
    this.#status(QIE, false)
    this.#set('IQH', 0n)
  }

  #context(): void {
    const raw = this.#get('CCMD')
    if (!(raw & bit(63)) || this.#queue !== undefined) return
    const want = (raw >> 61n) & 3n
    if (want === 1n) this.said.push('context all')
    if (want === 2n) this.said.push(`context domain ${raw & 0xffffn}`)
    if (want === 3n) {
      this.said.push(`context fine ${raw & 0xffffn} ${(raw >> 16n) & 0xffffn} ${(raw >> 32n) & 3n}`)
    }
    this.#set('CCMD', (raw & ~(bit(63) | (3n << 59n))) | (want << 59n))
  }

  #iotlb(): void {
    const raw = this.#get('IOTLB')
    if (!(raw & bit(63)) || this.#queue !== undefined) return
    const iva = this.#get('IVA')
    const domain = (raw >> 32n) & 0xffffn
    let done = (raw >> 60n) & 3n
    if (done === 1n) this.said.push('iotlb all')
    if (done === 2n) this.said.push(`iotlb domain ${domain}`)
    if (done === 3n) {
      if ((iva & 0x3fn) > this.#options.maxOrder) done = 0n
      else this.said.push(`iotlb fine ${domain} ${iva & ~0xfffn} ${iva & 0x3fn}`)
    }
    this.#set('IOTLB', (raw & ~(bit(63) | (3n << 57n))) | (done << 57n))
  }

  #run(): void {
    for (;;) {
      const error = this.#step()
      if (error === undefined) return
      if (error > 0n) {
        this.#set('IQERCD', (this.#get('IQERCD') & ~0xfn) | error)
        this.#raise(IQE)
      }
    }
  }

  /** The next descriptor: 0 if it was done, the error, undefined where there is none to do. */
  #step(): bigint | undefined {
    if (this.#queue === undefined || this.#get('FSTS') & (IQE | ITE)) return undefined
    const { base, size } = this.#queue
    const tail = this.#get('IQT')
    const head = this.#get('IQH')
    if (tail >= size) return 1n
    if (head === tail) return undefined
    const mode = (this.#root >> 10n) & 3n
    if (mode === 1n || mode === 2n) return 7n
    if (this.#pending.some((p) => p.kind === 'wait' && p.fence)) return undefined
    const lo = this.#options.load(base + head)
    const hi = this.#options.load(base + head + 8n)
    if (lo === undefined || hi === undefined) return 2n
    const wrong = this.#perform(lo, hi)
    if (wrong < 0n) return undefined
    if (wrong === 0n) this.#set('IQH', (head + 16n) % size)
    return wrong
  }

  /** 0, or the error; -1 where it has to be tried again later. */
  #perform(lo: bigint, hi: bigint): bigint {
    const g = (lo >> 4n) & 3n
    const did = (lo >> 16n) & 0xffffn
    switch ((lo & 0xfn) | (((lo >> 9n) & 7n) << 4n)) {
      case 1n:
        if (lo & 0xfffc_0000_0000_f1c0n || hi !== 0n || g === 0n) return 4n
        if (g === 1n) this.said.push('context all')
        if (g === 2n) this.said.push(`context domain ${did}`)
        if (g === 3n) this.said.push(`context fine ${did} ${(lo >> 32n) & 0xffffn} ${(lo >> 48n) & 3n}`)
        return 0n
      case 2n:
        if (lo & 0xffff_ffff_0000_f100n || hi & 0xf80n || g === 0n) return 4n
        if (g === 3n && (hi & 0x3fn) > this.#options.maxOrder) return 4n
        if (g === 1n) this.said.push('iotlb all')
        if (g === 2n) this.said.push(`iotlb domain ${did}`)
        if (g === 3n) this.said.push(`iotlb fine ${did} ${hi & ~0xfffn} ${hi & 0x3fn}`)
        return 0n
      case 3n: {
        if (lo & 0xffff_0000_ffe0_f1f0n || hi & 0xffen) return 4n
        const source = Number((lo >> 32n) & 0xffffn)
        const most = Number((lo >> 16n) & 0x1fn) || 32
        const busy = this.#pending.filter((p) => p.kind === 'device' && p.source === source)
        if (busy.length >= most) return -1n
        this.said.push(`device ${source}`)
        const end = this.#options.end()
        if (end !== 'done') this.#pending.push({ kind: 'device', source, isLost: end === 'lost' })
        return 0n
      }
      case 4n:
        if (lo & 0xffff_0000_07ff_f1e0n || hi !== 0n) return 4n
        this.said.push('interrupts')
        return 0n
      case 5n: {
        if (lo & 0xffff_f180n || hi & 3n) return 4n
        const has = (n: number) => (lo & bit(n)) !== 0n
        const wait: Wait = {
          ...{ kind: 'wait', if: has(4), sw: has(5), fence: has(6) },
          ...{ address: hi, data: lo >> 32n },
        }
        if (this.#pending.length > 0) this.#pending.push(wait)
        else this.#finish(wait)
        return 0n
      }
      default:
        return 3n
    }
  }

  #finish(wait: Wait): void {
    if (wait.sw) this.#options.store(wait.address, wait.data)
    this.said.push('wait')
    if (!wait.if || this.#get('ICS') === 1n) return
    this.#set('ICS', 1n)
    this.#event('I')
  }

  #raise(condition: bigint): void {
    const before = this.#get('FSTS')
    this.#set('FSTS', before | condition)
    if ((before & ANY) === 0n) this.#event('F')
  }

  #event(letter: 'F' | 'I'): void {
    if (this.#get(`${letter}ECTL`) & IM) this.#set(`${letter}ECTL`, IM | IP)
    else this.said.push(`msi ${this.#get(`${letter}EADDR`)} ${this.#get(`${letter}EDATA`)}`)
  }

  #unmask(letter: 'F' | 'I'): void {
    if (this.#get(`${letter}ECTL`) !== IP) return
    this.#set(`${letter}ECTL`, 0n)
    this.#event(letter)
  }

  #calm(): void {
    if ((this.#get('FSTS') & ANY) === 0n) this.#set('FECTL', this.#get('FECTL') & ~IP)
  }
}
