import type { Prng } from '../../bits/prng.ts'
import { VtdDescriptorWriter } from './vtd-random-descriptors.ts'
import { GCMD, REG } from './vtd-random-layout.ts'
import { VtdTableWriter } from './vtd-random-tables.ts'
import { VTD_AREAS, VTD_REGISTER_BYTES } from './vtd-state.ts'
import {
  VTD_DEVICE_NAMES,
  VTD_DEVICES,
  VTD_DMA_BYTES_MAX,
  type VtdDeviceName,
  type VtdPlaces,
  type VtdStep,
  vtdStepRefusal,
} from './vtd-step.ts'
import type { VtdUnitOptions } from './vtd-unit-options.ts'

const ONE_SHOTS = [1n << 29n, 1n << 28n, 1n << 27n, 1n << 25n, 1n << 24n, 1n << 23n] as const
const TOP_BIT_32 = 1n << 31n
const TOP_BIT = 1n << 63n
const DESCRIPTOR_WIDE = 1n << 11n
const IQE = 0x10n
const PFO = 1n

/** Words of data: no byte of them makes a page table entry that is present. */
const DATA_BYTES = [0x08, 0x18, 0x28, 0x48, 0x88, 0xa8, 0xc8, 0xf8] as const
/** Registers that take any value without more coming of it. */
const FREE_REGISTERS = [
  0x00, 0x08, 0x10, 0x1c, 0x40, 0x44, 0x58, 0x64, 0x68, 0x80, 0xb0, 0xb8, 0x98, 0x220, 0x228,
] as const

/** Writes one script: what its writer believes of the unit makes most steps reach something. */
export class VtdWriter {
  readonly #prng: Prng
  readonly #unit: VtdUnitOptions
  readonly tables: VtdTableWriter
  readonly #places: VtdPlaces
  readonly #devices: readonly VtdDeviceName[]
  readonly #steps: VtdStep[] = []
  readonly #descriptors: VtdDescriptorWriter
  #isOn = false
  /** As far as its writer knows, the queue is on. */
  hasQueue = false
  #isWide = false
  #queuePage = 0
  #tail = 0
  #latest: { readonly device: VtdDeviceName; readonly iova: bigint } = { device: 'edu0', iova: 0n }
  /** Bus addresses that were used lately. */
  readonly #recent: bigint[] = []

  constructor(prng: Prng, unit: VtdUnitOptions, places: VtdPlaces = VTD_DEVICES) {
    this.#prng = prng
    this.#unit = unit
    this.#places = places
    this.#devices = VTD_DEVICE_NAMES.filter((name) => places[name] !== undefined)
    this.tables = new VtdTableWriter(prng, unit, this.#steps)
    this.#descriptors = new VtdDescriptorWriter(prng)
  }

  write(count: number): readonly VtdStep[] {
    this.begin()
    const end = this.#steps.length + count
    while (this.#steps.length < end) this.step()
    return this.taken()
  }

  /** Sets the unit up. */
  begin(): void {
    this.#data()
    this.tables.writeAll()
    this.reg(REG.FECTL, 4, this.#prng.oneIn(2) ? TOP_BIT_32 : 0n)
    this.#setRoot()
    if (!this.#prng.oneIn(4)) this.#queueOn()
    this.#command(GCMD.TE, true)
  }

  get count(): number {
    return this.#steps.length
  }

  push(step: VtdStep): void {
    this.#steps.push(step)
  }

  /** What was written. What a bad sequence would have ended QEMU with is left out. */
  taken(): readonly VtdStep[] {
    return this.#steps.filter((step) => vtdStepRefusal(step) === undefined)
  }

  /** Any step, or some that belong together. */
  step(): void {
    const at = this.#prng.below(1000)
    if (at < 330) this.#dma()
    else if (at < 430) this.#copy()
    else if (at < 590) this.#change()
    else if (at < 680) this.tables.edit()
    else if (at < 720) this.tables.editRecent()
    else if (at < 840) this.invalidate()
    else if (at < 895) this.clearFaults()
    else if (at < 920) this.#badDescriptor()
    else if (at < 940) this.#wait()
    else if (at < 958) this.#commands()
    else if (at < 980) this.#strangeRegister()
    else if (at < 990) this.#look()
    else this.#events()
  }

  // --- memory and devices ---

  #data(): void {
    const { gpa, bytes } = VTD_AREAS.data
    for (let page = gpa; page < gpa + bytes; page += 0x1000) {
      const words = Array.from({ length: 8 }, () => {
        let word = 0n
        for (let i = 0; i < 8; i++) word = (word << 8n) | BigInt(this.#prng.pick(DATA_BYTES))
        return word
      })
      this.#steps.push({ kind: 'word', gpa: page, words })
    }
  }

  iova(): bigint {
    if (this.#recent.length > 0 && !this.#prng.oneIn(3)) return this.#prng.pick(this.#recent)
    const iova = this.tables.iova()
    this.#recent.push(iova)
    if (this.#recent.length > 6) this.#recent.shift()
    return iova
  }

  #dma(device = this.#prng.pick(this.#devices), iova = this.iova()): void {
    this.#aim(device, iova)
    const bytes = this.#prng.pick([1, 4, 8, 8, 8, 16, 17, 64, 0x210, VTD_DMA_BYTES_MAX])
    const at = this.#prng.oneIn(8) ? this.#prng.pick([1, 8, 0x100]) : 0
    this.#steps.push({
      kind: 'dma',
      device,
      direction: this.#prng.oneIn(2) ? 'read' : 'write',
      iova,
      bytes: Math.min(bytes, VTD_DMA_BYTES_MAX - at),
      ...(at > 0 && { at }),
    })
    if (!this.#prng.oneIn(3)) return
    // A fault that is still recorded hides the next one.
    this.reg(REG.FAULT_TOP, 4, TOP_BIT_32)
    this.reg(REG.FSTS, 4, PFO)
  }

  /** What is invalidated next is mostly about that. */
  #aim(device: VtdDeviceName, iova: bigint): void {
    this.#latest = { device, iova }
    this.aimAt(this.#places[device] ?? 0, iova)
  }

  /** What is invalidated next is mostly about a page of a device: that of a PASID, or of none. */
  aimAt(source: number, iova: bigint, pasid?: number): void {
    this.#descriptors.aim = { ...this.tables.ownerOf(source, pasid), source, iova }
  }

  /** An entry that a device went through lately is changed; perhaps that is told, and the device goes there again. */
  #change(): void {
    const { device, iova } = this.#latest
    if (this.#prng.oneIn(3)) this.#aim(device, iova)
    this.tables.editUsed(this.#places[device] ?? 0, iova)
    if (this.#prng.oneIn(3)) this.#aim(device, iova)
    if (this.#prng.oneIn(5)) this.#dropContext()
    for (let i = this.#prng.below(3); i > 0; i--) this.invalidate()
    if (!this.#prng.oneIn(4)) this.#dma(device, iova)
  }

  /** What a device read is put where it can be seen. */
  #copy(): void {
    const device = this.#prng.pick(this.#devices)
    const bytes = this.#prng.pick([8, 16, 64])
    this.#steps.push({ kind: 'dma', device, direction: 'read', iova: this.iova(), bytes })
    this.#steps.push({ kind: 'dma', device, direction: 'write', iova: this.iova(), bytes })
  }

  // --- registers ---

  reg(offset: number, widthBytes: 4 | 8, value: bigint): void {
    this.#steps.push({ kind: 'reg', offset, widthBytes, value })
  }

  /** A register of 64 bits, at once or half by half. */
  wide(offset: number, value: bigint): void {
    if (!this.#prng.oneIn(6)) this.reg(offset, 8, value)
    else {
      this.reg(offset, 4, value & 0xffff_ffffn)
      this.reg(offset + 4, 4, value >> 32n)
    }
  }

  /** A command with what is to stay as it is. */
  #command(bits: bigint, isOn: boolean): void {
    if (bits === GCMD.TE) this.#isOn = isOn
    if (bits === GCMD.QIE) this.hasQueue = isOn
    const kept = (this.#isOn ? GCMD.TE : 0n) | (this.hasQueue ? GCMD.QIE : 0n)
    this.reg(REG.GCMD, 4, bits === GCMD.TE || bits === GCMD.QIE ? kept : kept | bits)
  }

  #setRoot(): void {
    // The upper bit of the mode: QEMU does not look at it.
    const mode = this.#prng.oneIn(8) ? 1n << 11n : 0n
    this.wide(REG.RTADDR, this.tables.rootAddress | mode)
    this.#command(GCMD.SRTP, true)
  }

  #commands(): void {
    const at = this.#prng.below(10)
    if (at < 3) {
      this.#command(GCMD.TE, false)
      if (!this.#prng.oneIn(3)) this.#dma()
      this.#command(GCMD.TE, true)
    } else if (at < 6) {
      this.tables.otherRoot()
      this.#setRoot()
    } else if (at < 9) {
      if (this.hasQueue) this.#queueOff()
      else this.#queueOn()
    } else this.#command(this.#prng.pick(ONE_SHOTS), true)
  }

  #strangeRegister(): void {
    const at = this.#prng.below(8)
    if (at < 3) this.wide(this.#prng.pick(FREE_REGISTERS), this.#prng.u64())
    else if (at < 4)
      this.reg(this.#prng.pick([REG.FEDATA, REG.IEDATA]), 4, BigInt(this.#prng.int32() >>> 0) & ~0x7ffn)
    else if (at < 5)
      this.wide(
        REG.CCMD,
        (this.#prng.u64() & ~(3n << 61n)) | (this.hasQueue && this.#prng.oneIn(2) ? TOP_BIT : 0n),
      )
    else if (at < 6)
      this.wide(
        REG.IOTLB,
        (this.#prng.u64() & ~TOP_BIT) | (this.hasQueue && this.#prng.oneIn(2) ? TOP_BIT : 0n),
      )
    else if (at < 7) this.wide(REG.IVA, this.#prng.u64())
    else {
      // Without a latch nothing comes of it, and then the right one stands there again.
      this.wide(REG.RTADDR, this.#prng.u64())
      if (this.#prng.oneIn(3)) this.#command(GCMD.SRTP, true)
      if (this.#prng.oneIn(2)) this.#dma()
      this.#setRoot()
    }
  }

  #look(): void {
    const widthBytes = this.#prng.oneIn(2) ? 4 : 8
    const offset = this.#prng.below(VTD_REGISTER_BYTES / widthBytes) * widthBytes
    this.#steps.push({ kind: 'look', offset, widthBytes })
  }

  #events(): void {
    const at = this.#prng.below(4)
    if (at < 2) this.reg(at === 0 ? REG.FECTL : REG.IECTL, 4, this.#prng.oneIn(2) ? TOP_BIT_32 : 0n)
    else this.reg(REG.ICS, 4, BigInt(this.#prng.below(4)))
  }

  clearFaults(): void {
    const at = this.#prng.below(10)
    if (at < 6) this.reg(REG.FAULT_TOP, 4, TOP_BIT_32)
    else if (at < 7) this.reg(REG.FAULT_TOP - 4, 8, TOP_BIT)
    else if (at < 9) this.reg(REG.FSTS, 4, PFO)
    if (at >= 3) this.reg(REG.FSTS, 4, this.#prng.pick([PFO, PFO | IQE, 0xffn]))
  }

  // --- invalidation ---

  invalidate(): void {
    if (this.hasQueue) this.queued(this.#descriptors.good())
    else if (this.#prng.oneIn(3)) this.#contextByRegister()
    else this.#iotlbByRegister()
  }

  /** The context of the device that was meant last is forgotten, whatever its domain. */
  #dropContext(): void {
    const { source } = this.#descriptors.aim
    const domain = this.#descriptors.domain()
    if (this.hasQueue) this.queued([0x31n | (domain << 16n) | (BigInt(source) << 32n), 0n])
    else this.wide(REG.CCMD, TOP_BIT | (3n << 61n) | (BigInt(source) << 16n) | domain)
  }

  #contextByRegister(): void {
    const scope = BigInt(this.#prng.below(this.#prng.oneIn(6) ? 4 : 3) + 1) & 3n
    const mask = BigInt(this.#prng.below(4))
    this.wide(
      REG.CCMD,
      TOP_BIT |
        (scope << 61n) |
        (mask << 32n) |
        (this.#descriptors.source() << 16n) |
        this.#descriptors.domain(),
    )
  }

  #iotlbByRegister(): void {
    const scope = this.#prng.pick([1n, 2n, 2n, 3n, 3n, 3n, 0n])
    const order = this.#prng.oneIn(16) ? 19n : this.#descriptors.order()
    this.wide(REG.IVA, this.#descriptors.page() | order | (this.#prng.oneIn(3) ? 0x40n : 0n))
    const drains = BigInt(this.#prng.below(4)) << 48n
    this.wide(REG.IOTLB, TOP_BIT | (scope << 60n) | drains | (this.#descriptors.domain() << 32n))
  }

  get #descriptorBytes(): number {
    return this.#isWide ? 32 : 16
  }

  get #entries(): number {
    return 0x1000 / this.#descriptorBytes
  }

  /** Puts descriptors into the queue; the tail is not moved. */
  #put(...descriptors: readonly (readonly bigint[])[]): void {
    for (const words of descriptors) {
      const gpa = VTD_AREAS.queue.gpa + this.#queuePage * 0x1000 + this.#tail * this.#descriptorBytes
      this.#steps.push({
        kind: 'word',
        gpa,
        words: this.#isWide ? [...words, 0n, 0n].slice(0, 4) : words.slice(0, 2),
      })
      this.#tail = (this.#tail + 1) % this.#entries
    }
  }

  #setTail(): void {
    const value = BigInt(this.#tail * this.#descriptorBytes)
    if (this.#prng.oneIn(8)) this.reg(REG.IQT, 4, value)
    else this.reg(REG.IQT, 8, value)
  }

  queued(...descriptors: readonly (readonly bigint[])[]): void {
    const from = this.#tail
    this.#put(...descriptors)
    if (this.#prng.oneIn(3)) this.#put(this.#descriptors.wait())
    this.#setTail()
    // One of them may have been refused where the unit does not know it: good ones take their place.
    if (descriptors.some(([low = 0n]) => (low & 0xfn) > 5n)) this.#recover(from)
  }

  #wait(): void {
    if (this.hasQueue) this.queued(this.#descriptors.wait())
    else this.invalidate()
  }

  /** Good descriptors in place of all from an entry on, and the queue goes on. */
  #recover(from: number): void {
    const end = this.#tail
    this.#tail = from
    while (this.#tail !== end) this.#put(this.#descriptors.iotlb())
    this.reg(REG.FSTS, 4, IQE)
    this.#setTail()
  }

  #badDescriptor(): void {
    if (!this.hasQueue) return
    const from = this.#tail
    if (this.#prng.oneIn(10)) {
      // A tail past the end, or between two descriptors.
      const odd = BigInt(this.#tail * this.#descriptorBytes) | 0x10n
      this.reg(REG.IQT, 8, this.#prng.pick([0x1000n, 0x7_fff0n, 0x2000n, odd]))
      this.#recover(from)
      return
    }
    this.#put(this.#descriptors.bad())
    this.#put(this.#descriptors.good())
    this.#setTail()
    if (!this.#prng.oneIn(4)) this.clearFaults()
    this.#recover(from)
  }

  #queueOn(): void {
    // 256-bit descriptors are for scalable units; QEMU counts in them from this write on.
    this.#isWide =
      this.#unit.mode === 'first-level'
        ? !this.#prng.oneIn(5)
        : this.#unit.mode === 'scalable' && this.#prng.oneIn(3)
    this.#queuePage = this.#prng.below(4)
    this.#tail = 0
    this.reg(REG.IQT, 8, 0n)
    const base = BigInt(VTD_AREAS.queue.gpa + this.#queuePage * 0x1000)
    this.wide(REG.IQA, base | (this.#isWide ? DESCRIPTOR_WIDE : 0n))
    this.#command(GCMD.QIE, true)
  }

  /** QEMU ends a queue only behind a wait descriptor. */
  #queueOff(): void {
    if (!this.#prng.oneIn(3)) this.queued(this.#descriptors.wait())
    this.#command(GCMD.QIE, false)
    // Where it did not end it is still there: ended again behind a wait.
    this.hasQueue = true
    this.queued(this.#descriptors.wait())
    this.#command(GCMD.QIE, false)
  }
}
