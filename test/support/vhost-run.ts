import type { ReplayResult } from '../../src/machine/replay/result.ts'
import { JoinedReplay } from '../../src/machine/replay/vhost/joined-replay.ts'
import { FRONT_END_REQUESTS, type FrontEndRequest } from '../../src/reader/vhost-user-format.ts'
import { bytesOf } from '../log-rows.ts'

const UA = 0x7f00_0000_0000n
const DEVICE = '0x55ac8b391e60'
const hex = (value: bigint): string => `0x${value.toString(16)}`

interface PageOptions {
  readonly gpa?: bigint
  readonly perm?: number
  readonly pageBytes?: bigint
}

/** Writes the two logs of a run that never was: a guest behind intel-iommu with a vhost-user disk. */
export class VhostRun {
  readonly trace: string[] = []
  readonly messages: string[] = []
  readonly #domain: number
  readonly #hasAts: boolean
  #t = 0

  constructor(options: { readonly domain?: number; readonly hasAts?: boolean } = {}) {
    this.#domain = options.domain ?? 3
    this.#hasAts = options.hasAts ?? false
  }

  /** A message of QEMU, in both logs. */
  request(name: FrontEndRequest, fields: object = {}, flags = 1): this {
    this.sent(name, flags)
    return this.got(name, fields, flags)
  }

  /** A message as the trace has it, with its answer where it has one. */
  sent(name: FrontEndRequest, flags = 1): this {
    const decl = FRONT_END_REQUESTS[name]
    this.trace.push(`vhost_user_write req:${decl.nr} flags:${hex(BigInt(flags))}`)
    if ('reply' in decl || (flags & 8) !== 0) this.trace.push(`vhost_user_read req:${decl.nr} flags:0x5`)
    return this
  }

  /** A message as the back end has it. */
  got(name: FrontEndRequest, fields: object = {}, flags = 1): this {
    this.#t += 100
    this.messages.push(JSON.stringify({ t: this.#t, dir: 'from-qemu', msg: name, size: 8, flags, ...fields }))
    return this
  }

  own(event: string, fields: object): this {
    this.#t += 100
    this.messages.push(JSON.stringify({ t: this.#t, event, ...fields }))
    return this
  }

  line(...lines: string[]): this {
    this.trace.push(...lines)
    return this
  }

  /** A driver starts the device: 512 MiB of memory, one queue whose rings are in one page. */
  start(ring = 0xffff_f000n): this {
    this.request('SET_FEATURES', { v: '0x300000000' })
    const regions = [{ gpa: '0x0', size: '0x20000000', uaddr: hex(UA), off: '0x0' }]
    this.request('SET_MEM_TABLE', { regions, fds: 1 }, 9)
    this.request('SET_VRING_NUM', { num: 128 }).request('SET_VRING_BASE', { base: 0 })
    const [desc, used, avail] = [hex(ring), hex(ring + 0x940n), hex(ring + 0x800n)]
    this.request('SET_VRING_ADDR', { index: 0, desc, used, avail }).request('SET_VRING_KICK', { fds: 1 })
    return this.request('SET_VRING_ENABLE', { index: 0, on: 1 })
  }

  stop(): this {
    return this.request('GET_VRING_BASE', {})
  }

  /** What the trace shows while QEMU looks an address up, and finds a page. */
  lookUp(iova: bigint, { gpa = 0x1000_0000n, perm = 3, pageBytes = 0x1000n }: PageOptions = {}): this {
    const low = this.#hasAts ? 5 : 1
    const page = iova & ~(pageBytes - 1n)
    return this.line(
      `vhost_iotlb_miss ${DEVICE} step 1`,
      `vtd_iotlb_cc_hit IOTLB context hit bus 0x0 devfn 0x8 high 0x${this.#domain.toString(16)}01 low 0x272400${low} gen 1`,
      `vtd_iotlb_page_update IOTLB page update sid 0x8 iova ${hex(iova)} slpte ${hex(gpa | BigInt(perm))} domain 0x${this.#domain.toString(16)}`,
      `vtd_dmar_translate dev 00:01.00 iova ${hex(page)} -> gpa ${hex(gpa)} mask ${hex(pageBytes - 1n)}`,
    )
  }

  endLookUp(): this {
    return this.line(`vhost_iotlb_miss ${DEVICE} step 2`)
  }

  /** QEMU sends a translation. */
  update(
    iova: bigint,
    fields: object = {},
    { gpa = 0x1000_0000n, pageBytes = 0x1000n }: PageOptions = {},
  ): this {
    const page = iova & ~(pageBytes - 1n)
    const map = { iova: hex(page), size: hex(pageBytes), uaddr: hex(UA + gpa), perm: 3, type: 'UPDATE' }
    return this.request('IOTLB_MSG', { ...map, ...fields }, 9)
  }

  ask(iova: bigint, perm = 1): this {
    this.#t += 100
    this.messages.push(
      JSON.stringify({ t: this.#t, dir: 'to-qemu', msg: 'IOTLB_MISS', iova: hex(iova), perm }),
    )
    return this
  }

  /** QEMU pushes the page of the used ring. */
  ring(iova = 0xffff_f940n, options: PageOptions = {}): this {
    return this.lookUp(iova, options).update(iova, {}, options).endLookUp()
  }

  /** The device does not find a page, and gets it. */
  miss(iova: bigint, options: PageOptions = {}): this {
    return this.ask(iova).lookUp(iova, options).update(iova, {}, options).endLookUp()
  }

  invalidate(iova: bigint, bytes = 0x1000n): this {
    const gone = { iova: hex(iova), size: hex(bytes), uaddr: '0x1', perm: 182, type: 'INVALIDATE' }
    return this.request('IOTLB_MSG', gone, 9)
  }

  /** The beginning of a descriptor, and its kind. */
  descriptor(kind: string, hi = 0n, lo = 0n): this {
    return this.line(
      'vtd_inv_qi_head read head 1',
      `vtd_inv_desc invalidate desc type ${kind} high ${hex(hi)} low ${hex(lo)}`,
    )
  }

  flushPages(iova: bigint, order = 0): this {
    const what = `domain 0x${this.#domain.toString(16)} addr ${hex(iova)} mask 0x${order.toString(16)}`
    return this.descriptor('iotlb').line(`vtd_inv_desc_iotlb_pages iotlb invalidate ${what}`)
  }

  flushDomain(): this {
    return this.descriptor('iotlb').line(
      `vtd_inv_desc_iotlb_domain iotlb invalidate whole domain 0x${this.#domain.toString(16)}`,
    )
  }

  /** A walk of the domain's tables finds nothing mapped at all. */
  walkNothing(): this {
    return this.line(
      'vtd_page_walk_level walk (base=0x2724000, level=3) iova range 0x0 - 0x8000000000',
      'vtd_page_walk_one_skip_unmap iova 0x0 mask 0x7fffffffff',
    )
  }

  wait(): this {
    return this.descriptor('wait').line(
      'vtd_inv_desc_wait_sw wait invalidate status write addr 0x1000 data 0x2',
    )
  }

  /** The device has read from the disk into a page. */
  read(iova: bigint, bytes = 4096): this {
    return this.own('blk', { type: 0, sector: 0, segs: [[hex(iova), bytes]] })
  }

  get traceBytes(): Uint8Array {
    return bytesOf(this.trace.map((line) => `${line}\n`).join(''))
  }

  get messageBytes(): Uint8Array {
    return bytesOf(this.messages.map((line) => `${line}\n`).join(''))
  }

  replay(profile?: string): ReplayResult {
    const replay = new JoinedReplay({ source: 'run', ...(profile !== undefined && { profile }) })
    replay.trace(this.traceBytes)
    replay.messages(this.messageBytes)
    return replay.end()
  }
}
