import { hex } from '../../../bits/u64.ts'
import type { VhostEntry } from '../../../reader/vhost-log-format.ts'
import { TRANSPORT_FEATURES } from '../../../reader/vhost-user-format.ts'
import type { RecordLog } from '../../../trace/record-log.ts'
import { JoinedIotlb, type Reach } from './joined-iotlb.ts'
import type { RequestEntry } from './joined-order.ts'
import type { MessageTally } from './message-tally.ts'
import { MissBook } from './miss-book.ts'
import type { SpaprLines } from './spapr-lines.ts'
import type { VtdLines } from './vtd-lines.ts'

const ACCESS_PLATFORM = 1n << BigInt(TRANSPORT_FEATURES.ACCESS_PLATFORM)
/** Milliseconds become ticks. */
const TICK_US = 1000
const TICK_MAX = 0xffff_ffff
/** Types of block requests: only a write reads the buffers. */
const BLK_WRITE = 1

interface MessageSideParts {
  readonly log: RecordLog
  readonly tally: MessageTally
  readonly device: string
  /** Maps that the back end keeps, where it is known. */
  readonly iotlbLimit: number | undefined
  readonly vtd: VtdLines
  readonly spapr: SpaprLines
}

/** What the entries of a message log mean, held against what the lines of the trace before them have shown. */
export class MessageSide {
  readonly iotlb: JoinedIotlb
  readonly misses: MissBook
  /** Line of the trace where the entries stand. */
  line = 0
  /** The trace is one of a pseries machine. */
  isPseries = false
  readonly #log: RecordLog
  readonly #tally: MessageTally
  readonly #vtd: VtdLines
  readonly #spapr: SpaprLines
  /** The message log says of each access, not only of requests. */
  #hasUses = false

  constructor({ log, tally, device, iotlbLimit, vtd, spapr }: MessageSideParts) {
    this.#log = log
    this.#tally = tally
    this.#vtd = vtd
    this.#spapr = spapr
    this.iotlb = new JoinedIotlb(log, device, iotlbLimit)
    this.misses = new MissBook(tally)
  }

  /** A miss, or what the back end did itself. */
  entry(entry: VhostEntry): void {
    if (entry.what === 'miss') {
      this.#tick(entry.timeUs)
      const { iova, perm, queue = 0 } = entry.fields
      this.misses.ask(entry)
      this.iotlb.miss({ iova, access: perm, queue, line: this.line })
      this.#message({ type: 'MISS', iova, bytes: 0n, uaddr: 0n, perm, isOfQemu: false })
    } else if (entry.what === 'own') {
      this.#tick(entry.timeUs)
      this.#own(entry)
    }
  }

  /** A message of QEMU. @param isPaired the trace shows it as well */
  request(entry: RequestEntry, isPaired: boolean): void {
    this.#tick(entry.timeUs)
    const matched = (why: string) => {
      if (isPaired) this.#tally.matched.add(why, this.line)
    }
    if (entry.what === 'odd request') {
      matched('requests that are not modelled')
      return
    }
    switch (entry.name) {
      case 'IOTLB_MSG':
        this.#iotlbMessage(entry.fields, isPaired)
        return
      case 'SET_FEATURES':
        this.iotlb.begin((entry.fields.v & ACCESS_PLATFORM) !== 0n)
        break
      case 'SET_MEM_TABLE':
        this.iotlb.setMemory(entry.fields.regions)
        this.#listen(true)
        break
      case 'ADD_MEM_REG':
        this.iotlb.addMemory(entry.fields.regions)
        this.#listen(true)
        break
      case 'REM_MEM_REG':
        this.iotlb.removeMemory(entry.fields.regions)
        break
      case 'SET_VRING_ADDR':
        this.misses.setRing(entry.fields.index, entry.fields.used)
        // Memory slots that are there already are not sent again.
        this.#listen(true)
        break
      case 'GET_VRING_BASE':
      case 'RESET_DEVICE':
        this.#listen(false)
        break
      default:
    }
    matched('set-up and end of the device')
  }

  /** QEMU sent an INVALIDATE that the message log does not have: it is taken to be the one that is due. */
  unseenInvalidate(): void {
    const due = this.#vtd.takeUnseen()
    if (due !== undefined) this.gone(due.iova, due.last)
    else if (this.isPseries) this.#spapr.takeUnseen()
  }

  /** Translations are gone of which no entry tells. */
  gone(iova: bigint, last: bigint): void {
    this.iotlb.invalidate(iova, last - iova + 1n)
  }

  /** QEMU listens for a device from the start of a driver on, where addresses are translated. */
  #listen(isOn: boolean): void {
    this.#vtd.isListening = isOn && this.iotlb.isOn
    this.#spapr.isListening = isOn && this.iotlb.isOn
  }

  #message(m: {
    type: 'MISS' | 'UPDATE' | 'INVALIDATE' | 'ACCESS_FAIL'
    iova: bigint
    bytes: bigint
    uaddr: bigint
    perm: number
    isOfQemu: boolean
  }): void {
    this.iotlb.message({ ...m, code: 0 })
  }

  #iotlbMessage(
    m: { type: string; iova: bigint; size: bigint; uaddr: bigint; perm: number },
    isPaired: boolean,
  ): void {
    const { type, iova, uaddr } = m
    const bytes = m.size
    if (type === 'UPDATE') {
      this.#message({ type, iova, bytes, uaddr, perm: m.perm, isOfQemu: true })
      if (isPaired) this.#update(m)
      const refused = this.iotlb.update(iova, bytes, uaddr, m.perm)
      if (refused === undefined) return
      this.#tally.diverge({
        line: this.line,
        call: `UPDATE ${hex(iova)}`,
        log: `${hex(bytes)} bytes, permissions ${m.perm}`,
        model: refused,
        rule: 'update-impossible',
      })
      return
    }
    if (type !== 'INVALIDATE') {
      if (isPaired) this.#tally.matched.add('IOTLB messages that are not modelled', this.line)
      return
    }
    // Address and permissions of an INVALIDATE are whatever lay on QEMU's stack.
    this.#message({ type, iova, bytes, uaddr: 0n, perm: 0, isOfQemu: true })
    if (isPaired) this.#invalidate(iova, BigInt.asUintN(64, iova + bytes - 1n))
    this.iotlb.invalidate(iova, bytes)
  }

  #update(m: { iova: bigint; size: bigint; uaddr: bigint; perm: number }): void {
    const shown = this.#vtd.shown ?? this.misses.shown
    this.misses.answer({ iova: m.iova, bytes: m.size, line: this.line })
    if (!this.misses.isOpen) return
    const gpa = shown?.gpa ?? m.iova
    const [iova, pageBytes] = shown === undefined ? [m.iova, m.size] : [shown.iova, shown.bytes]
    const memory = this.iotlb.userOf(gpa)
    if (memory === undefined) return
    // A page may be larger than what is left of the memory there.
    const isWhole = memory.bytes >= pageBytes
    const bytes = isWhole ? pageBytes : memory.bytes
    if (iova === m.iova && bytes === m.size && memory.uaddr === m.uaddr) return
    this.#tally.diverge({
      line: this.line,
      call: `UPDATE ${hex(m.iova)}`,
      log: `${hex(m.size)} bytes at ${hex(m.uaddr)}`,
      model: `${hex(iova)}, ${hex(bytes)} bytes at ${hex(memory.uaddr)}, which is memory ${hex(gpa)}`,
      rule: 'update-differs',
    })
  }

  #invalidate(iova: bigint, last: bigint): void {
    const why = this.#vtd.take(iova, last)
    if (why !== undefined) this.#tally.matched.add(`INVALIDATE: ${why}`, this.line)
    else if (this.isPseries) this.#spapr.take(iova, last, this.line)
    else {
      this.#tally.diverge({
        line: this.line,
        call: 'INVALIDATE',
        log: `[${hex(iova)}, ${hex(last)}]`,
        model: 'no flush takes it back',
        rule: 'invalidate-without-cause',
      })
    }
  }

  #own(entry: Extract<VhostEntry, { what: 'own' }>): void {
    if (entry.name === 'blk') {
      const { segs, type, queue = 0 } = entry.fields
      this.#tally.requests++
      const write = type !== BLK_WRITE
      for (const segment of segs) {
        this.#tally.bytes += segment.bytes
        // A log that says of each access has told of these already.
        if (!this.#hasUses) this.#use({ ...segment, write, part: 0, requestOf: queue }, entry.line)
      }
      this.iotlb.requestDone(queue)
    } else if (entry.name === 'use') {
      this.#hasUses = true
      this.#use(entry.fields, entry.line)
    }
  }

  #use(reach: Omit<Reach, 'line'>, line: number): void {
    const astray = this.iotlb.use({ ...reach, line: this.line })
    if (astray === undefined) return
    if (astray.why === 'overtaken') {
      this.#tally.overtaken++
      return
    }
    const isElsewhere = astray.why === 'elsewhere'
    this.#tally.diverge({
      line,
      call: `${reach.write ? 'write' : 'read'} of ${reach.bytes} bytes at ${hex(reach.iova)} (line of the message log)`,
      log: isElsewhere ? `at user address ${hex(reach.uaddr ?? 0n)}` : 'done',
      model: isElsewhere
        ? `the map of ${hex(astray.iova)} leads to another`
        : `no message gave ${hex(astray.iova)} since the device was set up`,
      rule: isElsewhere ? 'use-differs' : 'use-without-map',
    })
  }

  /** Time goes on with the clock of the back end, in milliseconds. */
  #tick(timeUs: number): void {
    this.#log.tick = Math.max(this.#log.tick, Math.min(TICK_MAX, Math.floor(timeUs / TICK_US)))
  }
}
