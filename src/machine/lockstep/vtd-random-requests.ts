import { Prng } from '../../bits/prng.ts'
import { RANDOM_PASIDS, REG } from './vtd-random-layout.ts'
import { VtdWriter } from './vtd-random-writer.ts'
import { VTD_ENDPOINT_NAMES, type VtdEndpointName } from './vtd-request-step.ts'
import { VTD_AREAS } from './vtd-state.ts'
import type { VtdPlaces, VtdScript, VtdStep } from './vtd-step.ts'
import { PLAIN_VTD_UNIT, type VtdUnitOptions } from './vtd-unit-options.ts'

/** Steps of a script behind those that set the machine up. */
const STEPS = { least: 300, spread: 400 } as const

/** Two devices that move bytes, and three that ask for translations and pages: where tables have entries of functions. */
const PLACES = Object.freeze({ edu0: 0x0020, nic0: 0x0021, nic1: 0x0024, nic2: 0x0028, edu4: 0x0100 })

/** PASIDs that no table has an entry of; beyond the directory QEMU uses what it has not read where FPD is set. */
const STRANGE_PASIDS = [3, 64] as const
const FAR_PASID = 0xf_ffff
const ENTRY_BYTES = 32
const RING_ENTRIES = 128
const PPR = 1n
const PRO = 2n
const MASKED = 1n << 31n
const FAULTS = { top: 1n << 31n, overflow: 1n } as const
/** Neither memory nor registers are there. */
const NO_MEMORY = 0x8000_0000n
const INTERRUPTS = 0xfee0_0000n
/** Bits of PEDATA that ask for an interrupt of another kind: QEMU gives it to the processor whatever its address. */
const DELIVERY_MODE = 0x700n

/** Writes one script of a machine whose devices ask for translations and pages. */
class RequestWriter {
  readonly #prng: Prng
  readonly #base: VtdWriter
  #latest = { device: 'nic0' as VtdEndpointName, pasid: 1 as number | undefined, address: 0n }

  constructor(prng: Prng, unit: VtdUnitOptions, places: VtdPlaces) {
    this.#prng = prng
    this.#base = new VtdWriter(prng, unit, places)
  }

  write(count: number): readonly VtdStep[] {
    this.#base.begin()
    this.#ring()
    if (this.#prng.oneIn(2)) this.#event()
    const end = this.#base.count + count
    while (this.#base.count < end) this.#step()
    return this.#base.taken()
  }

  #step(): void {
    const at = this.#prng.below(100)
    if (at < 26) this.#page()
    else if (at < 40) this.#translate()
    else if (at < 52) this.#change()
    else if (at < 60) this.#respond()
    else if (at < 68) this.#serve()
    else if (at < 71) this.#overflow()
    else if (at < 75) this.#event()
    else if (at < 77) this.#ring()
    else if (at < 79) this.#strange()
    else this.#base.step()
  }

  // --- what devices ask ---

  /** A device, a PASID and a page: mostly those of the last time. */
  #aim(): void {
    const { device, pasid } = this.#latest
    const prng = this.#prng
    this.#latest = {
      device: prng.oneIn(3) ? prng.pick(VTD_ENDPOINT_NAMES) : device,
      pasid: prng.oneIn(3) ? this.#pasid() : pasid,
      address: prng.oneIn(2) ? this.#address() : this.#latest.address,
    }
    this.#base.aimAt(PLACES[this.#latest.device], this.#latest.address, this.#latest.pasid)
  }

  #pasid(): number | undefined {
    const at = this.#prng.below(16)
    if (at < 12) return this.#prng.pick(RANDOM_PASIDS)
    if (at < 14) return this.#prng.pick(STRANGE_PASIDS)
    return at < 15 ? (this.#base.tables.hasFpd ? STRANGE_PASIDS[0] : FAR_PASID) : undefined
  }

  #address(): bigint {
    if (!this.#prng.oneIn(40)) return this.#base.iova()
    return INTERRUPTS + BigInt(this.#prng.below(0x100)) * 0x1000n
  }

  #letters(of: string, usual: string): string {
    if (!this.#prng.oneIn(3)) return usual
    return [...of].filter(() => this.#prng.oneIn(2)).join('')
  }

  #page(): void {
    this.#aim()
    this.#base.push({
      kind: 'pri',
      ...this.#latest,
      group: this.#prng.below(this.#prng.oneIn(8) ? 0x1_0000 : 0x200),
      flags: this.#letters('rwxpl', this.#prng.pick(['rl', 'rwl', 'wl', 'r', 'rw'])),
    })
    this.#clearFaults()
  }

  #translate(isNew = true): void {
    if (isNew) this.#aim()
    this.#base.push({
      kind: 'ats',
      ...this.#latest,
      bytes: this.#prng.pick([1, 0x1000, 0x1000, 0x1000, 0x2000, 0x3000, 0x5000]),
      flags: this.#letters('nxp', this.#prng.pick(['', '', 'n'])),
    })
    this.#clearFaults()
  }

  /** A record that is still there hides the next one. */
  #clearFaults(): void {
    if (!this.#prng.oneIn(3)) return
    this.#base.reg(REG.FAULT_TOP, 4, FAULTS.top)
    this.#base.reg(REG.FSTS, 4, FAULTS.overflow)
  }

  // --- what software does ---

  /** An entry that a device went through is changed; perhaps that is told, and it asks again. */
  #change(): void {
    if (this.#prng.oneIn(2)) this.#translate()
    const { device, pasid, address } = this.#latest
    const source = PLACES[device]
    this.#base.tables.editUsed(source, address, pasid)
    if (this.#prng.oneIn(3)) this.#base.aimAt(source, address, pasid)
    for (let i = this.#prng.below(3); i > 0; i--) this.#base.invalidate()
    if (this.#prng.oneIn(2)) this.#page()
    if (!this.#prng.oneIn(3)) this.#translate(this.#prng.oneIn(4))
  }

  /** A response, mostly one that is in order. */
  #respond(): void {
    const prng = this.#prng
    const { device, pasid = 0 } = this.#latest
    const source = prng.oneIn(5) ? 0x22 : PLACES[prng.oneIn(4) ? prng.pick(VTD_ENDPOINT_NAMES) : device]
    const tag = prng.oneIn(4) ? (this.#pasid() ?? 4) : pasid
    const code = BigInt(prng.pick([0, 0, 0, 0, 1, 1, 2, 15]))
    const first =
      9n |
      (prng.oneIn(8) ? 0n : 0x10n) |
      (prng.oneIn(12) ? 0x20n : 0n) |
      (prng.oneIn(16) ? 1n << BigInt(6 + prng.below(3)) : 0n) |
      (code << 12n) |
      (BigInt(source) << 16n) |
      (BigInt(tag) << 32n) |
      (prng.oneIn(20) ? 1n << BigInt(52 + prng.below(12)) : 0n)
    const second =
      (prng.oneIn(2) ? 4n : 0n) |
      (BigInt(prng.below(0x200)) << 3n) |
      (prng.oneIn(20) ? 1n << BigInt(prng.pick([0, 1, 12, 40, 63])) : 0n)
    const data = prng.oneIn(16) ? prng.u64() : 0n
    if (this.#base.hasQueue) this.#base.queued([first, second, data, 0n])
  }

  /** Software has read what there was, and clears the status; not always both, and not always in this order. */
  #serve(): void {
    if (!this.#prng.oneIn(3)) this.#status()
    if (!this.#prng.oneIn(3)) this.#place(REG.PQH)
    if (this.#prng.oneIn(4)) this.#status()
  }

  #status(): void {
    this.#base.reg(REG.PRS, 4, this.#prng.pick([PPR, PPR, PRO, PPR | PRO, 0xffff_ffffn, 0n]))
  }

  /** A place of the ring. */
  #place(register: number, entry = this.#prng.below(RING_ENTRIES)): void {
    const bytes = BigInt((entry % RING_ENTRIES) * ENTRY_BYTES)
    this.#base.wide(register, this.#prng.oneIn(10) ? bytes | 0x10n | (this.#prng.u64() << 19n) : bytes)
  }

  /** A ring with hardly any place left, and more requests than that. */
  #overflow(): void {
    const tail = this.#prng.below(RING_ENTRIES)
    this.#place(REG.PQT, tail)
    this.#place(REG.PQH, tail + 1 + this.#prng.below(4))
    for (let i = this.#prng.below(6); i > 0; i--) this.#page()
  }

  /** The event of page requests: masked or not, and what is sent. */
  #event(): void {
    const at = this.#prng.below(8)
    if (at < 5) this.#base.reg(REG.PECTL, 4, this.#prng.oneIn(2) ? MASKED : 0n)
    else if (at < 6) this.#base.reg(REG.PEDATA, 4, BigInt(this.#prng.int32() >>> 0) & ~DELIVERY_MODE)
    else if (at < 7) this.#base.reg(REG.PEADDR, 4, BigInt(this.#prng.int32() >>> 0))
    else this.#base.reg(REG.PEUADDR, 4, BigInt(this.#prng.int32() >>> 0))
  }

  /** Where the ring is, and how large: of one page or two, seldom more, or nowhere. */
  #ring(): void {
    const prng = this.#prng
    const { gpa, bytes } = VTD_AREAS.requests
    const base = prng.oneIn(10) ? NO_MEMORY : BigInt(gpa + prng.below(bytes / 0x1000) * 0x1000)
    const pagesLog2 = prng.oneIn(8) ? prng.pick([2, 7]) : prng.below(2)
    this.#base.wide(REG.PQA, base | BigInt(pagesLog2))
    if (prng.oneIn(2)) for (const register of [REG.PQH, REG.PQT]) this.#place(register)
  }

  /** Registers of page requests, written as nobody would. */
  #strange(): void {
    const at = this.#prng.below(4)
    if (at < 1) this.#base.wide(this.#prng.pick([REG.PQH, REG.PQT]), this.#prng.u64())
    else if (at < 2) this.#base.reg(0xd8, 8, this.#prng.u64())
    else if (at < 3) this.#base.reg(0xd8, 4, BigInt(this.#prng.int32() >>> 0))
    else this.#base.reg(REG.PRS, 4, BigInt(this.#prng.int32() >>> 0))
  }
}

/** The script of a seed with a number from 0 on, for a machine whose devices ask for translations and pages. */
export function randomRequestScript(seed: number, number: number): VtdScript {
  const prng = new Prng(Math.imul(seed, 0x9e37_79b1) + number)
  const unit: VtdUnitOptions = {
    ...PLAIN_VTD_UNIT,
    ...{ mode: 'first-level', addressBits: 48, hasDeviceTlb: true, hasPageRequests: true },
    hasCachingMode: prng.oneIn(4),
    hasInterruptRemapping: prng.oneIn(6),
    hasSnoopControl: prng.oneIn(6),
    hasFirstLevel1G: !prng.oneIn(4),
  }
  return {
    name: `random-requests-${seed}-${number}`,
    unit,
    devices: PLACES,
    steps: new RequestWriter(prng, unit, PLACES).write(STEPS.least + prng.below(STEPS.spread)),
  }
}
