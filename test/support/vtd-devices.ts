import type { Answer, Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import { Clock } from '../../src/bits/clock.ts'
import { resolveProfile } from '../../src/bits/errata.ts'
import { Cells, Journal, keyOf } from '../../src/bits/state.ts'
import { pageOf, U64_MAX } from '../../src/bits/u64.ts'
import { deviceHandlers } from '../../src/hw/device-handlers.ts'
import { Edu } from '../../src/hw/edu.ts'
import { Life } from '../../src/hw/life.ts'
import {
  ADDRESS_TYPE,
  type DeviceTlbPort,
  NO_PASID,
  newTranslation,
  type PageRequest,
  PERM,
  type VtdInvalidation,
  type VtdRequest,
} from '../../src/hw/vtd/ports.ts'
import { Endpoint, type EndpointOptions } from '../../src/hw/vtd-devices/endpoint.ts'
import { endpointHandlers } from '../../src/hw/vtd-devices/endpoint-handlers.ts'
import type { PageRequestEnd, VtdUnitPort } from '../../src/hw/vtd-devices/unit-port.ts'
import { VtdDmaSpace } from '../../src/hw/vtd-devices/vtd-dma-space.ts'
import { completeArguments } from '../../src/machine/arguments.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { Stage } from '../../src/trace/stage.ts'
import { FlatMemory } from './flat-memory.ts'

/** Fault reasons of pages that are not there. */
export const NOT_READABLE = 0x6
export const NOT_WRITABLE = 0x5

/** A unit that says what tests put in: pages by PASID, blocked sources, and a page request queue of some places. */
export class FakeVtdUnit implements VtdUnitPort {
  readonly name = 'vtd0'
  readonly translation = newTranslation()
  deviceTlbs: DeviceTlbPort | undefined
  /** What was asked, in order. */
  readonly asked: VtdRequest[] = []
  readonly interrupts: [source: number, address: number, data: number][] = []
  readonly requested: PageRequest[] = []
  readonly completed: number[] = []
  /** How page requests end. */
  end: PageRequestEnd = 'queued'
  blocksInterrupts = false
  /** The PASID that it has counted a user of. */
  counted = -1
  /** Every request is blocked for this reason. */
  blocks = 0
  #entries = 0
  readonly #pages = new Map<string, { target: number; perm: number; shift: number }>()

  /** Maps the page that holds `iova`. */
  map(iova: bigint, target: bigint, perm: number, { pasid = NO_PASID, shift = 12 } = {}): void {
    const page = (iova >> BigInt(shift)) << BigInt(shift - 12)
    this.#pages.set(`${pasid} ${page}`, { target: Number(target >> 12n), perm, shift })
  }

  unmap(iova: bigint, pasid = NO_PASID): void {
    this.#pages.delete(`${pasid} ${iova >> 12n}`)
  }

  translate(request: VtdRequest): number {
    this.asked.push({ ...request })
    const { hi, lo, pasid, need, addressType } = request
    const page = pageOf(hi, lo, 12)
    const found = this.#find(pasid, page)
    const into = this.translation
    Object.assign(into, newTranslation())
    if (this.blocks !== 0) return this.blocks
    if (addressType === ADDRESS_TYPE.TRANSLATED) {
      into.page = page
      into.perm = PERM.READ | PERM.WRITE
      return 0
    }
    if (addressType === ADDRESS_TYPE.UNTRANSLATED && pasid === NO_PASID && page >>> 8 === 0xfee) {
      into.isInterrupt = true
      return 0
    }
    into.page = found?.page ?? 0
    into.perm = found?.perm ?? 0
    into.shift = found?.shift ?? 12
    into.domain = 5
    if (addressType === ADDRESS_TYPE.TRANSLATION_REQUEST || (into.perm & need) === need) return 0
    return (need & PERM.WRITE) !== 0 ? NOT_WRITABLE : NOT_READABLE
  }

  interrupt(source: number, address: number, data: number): boolean {
    this.interrupts.push([source, address, data])
    return !this.blocksInterrupts
  }

  pageRequest(request: PageRequest): PageRequestEnd {
    this.requested.push(request)
    return this.end
  }

  invalidationDone(source: number): void {
    this.completed.push(source)
  }

  pasidLeft(_source: number, pasid: number): boolean {
    return pasid === this.counted
  }

  nextEntry(): number {
    return ++this.#entries
  }

  #find(pasid: number, page: number) {
    for (const shift of [12, 21, 30]) {
      const pages = 2 ** (shift - 12)
      const found = this.#pages.get(`${pasid} ${page - (page % pages)}`)
      if (found?.shift === shift) return { ...found, page: found.target + (page % pages) }
    }
    return undefined
  }
}

export const SOURCE = 0x0310

const CAPABLE: EndpointOptions = {
  name: 'ep0',
  source: SOURCE,
  ats: {},
  pri: { requests: 32 },
  pasid: { bits: 20, execute: true, privileged: true },
}

/**
 * A machine of one fake unit, 64 KiB of memory, an endpoint `ep0`, one without capabilities `plain0`, and `edu0`.
 *
 * @param errata those that it has
 */
export function deviceWorld(options: Partial<EndpointOptions> = {}, errata: readonly string[] = []) {
  const memory = new FlatMemory(1 << 16)
  const journal = new Journal()
  journal.on = true
  const log = new RecordLog({ keepRecords: 1 << 12 })
  const stage = new Stage(log)
  const life = new Life(stage, journal)
  const clock = new Clock(new Cells(journal, keyOf('clock')))
  const unit = new FakeVtdUnit()
  const profile = { ...resolveProfile([], 'intended'), has: (id: string) => errata.includes(id) }
  const spaceOf = (source: number) => new VtdDmaSpace(source, { unit, memory, stage, profile })
  const parts = { unit, stage, journal, clock }
  const endpoint = new Endpoint({ ...CAPABLE, ...options }, { ...parts, space: spaceOf(SOURCE) })
  const bare = { name: 'plain0', source: 0x318, ats: undefined, pri: undefined, pasid: undefined }
  const plain = new Endpoint(bare, { ...parts, space: spaceOf(0x318) })
  const space = spaceOf(0x18)
  const edu = new Edu({ name: 'edu0', space, dmaMask: U64_MAX }, { stage, journal, life, clock, profile })
  const handlers = [
    ...deviceHandlers({ devices: new Map([endpoint, plain, edu].map((d) => [d.name, d])), stage, life }),
    ...endpointHandlers({
      devices: new Map([
        ['ep0', endpoint],
        ['plain0', plain],
        ['edu0', undefined],
      ]),
      stage,
      life,
    }),
  ]
  const run = (decl: CallDecl, args: Record<string, Value> = {}): Answer => {
    const handler = handlers.find((h) => h.decl === decl)
    if (handler === undefined) throw new Error(`no handler of ${decl.name}`)
    return handler.run(completeArguments(decl, { device: 'ep0', ...args }))
  }
  /** An invalidation of a device-TLB, of everything unless it says more. */
  const invalidate = (more: Partial<VtdInvalidation> = {}) =>
    endpoint.invalidate({
      what: 'device-tlb',
      scope: 'fine',
      domain: 0,
      source: SOURCE,
      functionMask: 0,
      pasid: NO_PASID,
      address: 0n,
      order: 52,
      isLeafOnly: false,
      isGlobalToo: false,
      ...more,
    })
  const respond = (code: number, group = 0, pasid = NO_PASID) =>
    endpoint.respond({ source: SOURCE, pasid, group, code, privateData: 0n })
  const tick = (ticks = 1) => {
    clock.advance(ticks)
    endpoint.elapse()
  }
  return { memory, journal, log, life, unit, endpoint, plain, edu, space, run, invalidate, respond, tick }
}
