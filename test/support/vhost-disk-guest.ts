import { Journal } from '../../src/bits/state.ts'
import { type DriverBuffer, DriverRing, ringPlaces } from '../../src/hw/virtio/driver-ring.ts'
import { payloadOf, readField } from '../../src/peer/vhost-user/codec.ts'
import { type FrontEnd, type GuestRam, until } from './vhost-front-end.ts'

/** Where the front end has guest memory. */
export const UA = 0x7f00_0000_0000n
const RING_AT = 0x10_000
const HEADER_AT = 0x20_000
const DATA_AT = 0x100_000
const PAGE = 4096
/** Bus address of guest address 0. */
const BUS = 0xf000_0000n

export const FEATURES = {
  PLAIN: (1n << 30n) | (1n << 32n),
  IOMMU: 1n << 33n,
  EVENT_INDEX: 1n << 29n,
  INDIRECT: 1n << 28n,
} as const

export interface DiskGuestOptions {
  readonly hasIommu: boolean
  readonly hasEventIndex?: boolean
  readonly entries?: number
  readonly queue?: number
  /** Guest memory by ADD_MEM_REG instead of SET_MEM_TABLE. */
  readonly usesSlots?: boolean
}

/** A guest with a virtio disk behind a front end: brings the device up as QEMU 7.2 does, and makes requests. */
export class DiskGuest {
  /** Bus pages that the IOMMU translates: to guest pages. */
  readonly pages = new Map<bigint, bigint>()
  readonly ring: DriverRing
  readonly kick: number
  readonly call: number
  readonly err: number
  readonly front: FrontEnd
  readonly ram: GuestRam
  readonly #options: DiskGuestOptions

  constructor(front: FrontEnd, ram: GuestRam, options: DiskGuestOptions) {
    this.front = front
    this.ram = ram
    this.#options = options
    const { entries = 128, hasEventIndex = false, queue = 0 } = options
    const places = ringPlaces(entries, RING_AT + queue * 0x4000, hasEventIndex)
    const journal = new Journal()
    this.ring = new DriverRing({ memory: ram, journal, name: 'disk', entries, places, hasEventIndex })
    this.ring.reset()
    this.kick = front.event()
    this.call = front.event()
    this.err = front.event()
    front.translate = (iova) => {
      const gpa = this.pages.get(iova / BigInt(PAGE))
      return gpa === undefined ? null : UA + gpa * BigInt(PAGE)
    }
  }

  /** Requests 1 to 10 of a start (GET_FEATURES to SET_FEATURES), in QEMU's order. */
  async negotiate(): Promise<void> {
    const { front } = this
    const offered = await front.word('GET_FEATURES')
    const protocol = await front.word('GET_PROTOCOL_FEATURES')
    front.send('SET_PROTOCOL_FEATURES', payloadOf('word', { value: protocol }))
    await front.word('GET_QUEUE_NUM')
    await front.word('GET_MAX_MEM_SLOTS')
    await front.openBackChannel()
    front.send('SET_OWNER')
    await front.word('GET_FEATURES')
    this.#setEvents()
    await front.ask('GET_CONFIG', payloadOf('config', { configBytes: 60 }, new Uint8Array(60)))
    front.send('SET_FEATURES', payloadOf('word', { value: this.#features & offered }))
  }

  /** Guest memory and the ring, up to the UPDATE for the used ring. */
  async start(): Promise<void> {
    const { front, ram, ring } = this
    const { hasIommu, queue: index = 0, usesSlots = false } = this.#options
    const bytes = ram.bytes.length
    const region = payloadOf('region', { gpa: 0, regionBytes: bytes, ua: UA })
    if (usesSlots) {
      await front.done('ADD_MEM_REG', payloadOf('singleRegion', { gpa: 0, regionBytes: bytes, ua: UA }), [
        ram.fd,
      ])
    } else await front.done('SET_MEM_TABLE', payloadOf('memTable', { regions: 1 }, region), [ram.fd])
    const { descriptors, available, used } = ring.places
    const base = hasIommu ? BUS : UA
    front.send('SET_VRING_NUM', payloadOf('vringState', { index, num: ring.entries }))
    front.send('SET_VRING_BASE', payloadOf('vringState', { index, num: ring.usedIndex }))
    const at = (place: number): bigint => base + BigInt(place)
    front.send(
      'SET_VRING_ADDR',
      payloadOf('vringAddr', { index, desc: at(descriptors), avail: at(available), used: at(used) }),
    )
    front.send('SET_VRING_KICK', payloadOf('notifier', { value: index }), [this.kick])
    front.send('SET_VRING_CALL', payloadOf('notifier', { value: index }), [this.call])
    front.send('SET_VRING_ENABLE', payloadOf('vringState', { index, num: 1 }))
    for (let page = 0; page < 4; page++) this.map(descriptors + page * PAGE)
    if (hasIommu) await front.update(at(used) & ~0xfffn, BigInt(PAGE), UA + (BigInt(used) & ~0xfffn))
  }

  /** GET_VRING_BASE: how far the back end came. */
  async stop(): Promise<number> {
    const { queue: index = 0 } = this.#options
    const state = await this.front.ask('GET_VRING_BASE', payloadOf('vringState', { index }))
    return Number(readField('vringState', state, 'num'))
  }

  /** The bus address of a guest address, which the IOMMU translates from now on. */
  map(gpa: number): bigint {
    const bus = (this.#options.hasIommu ? BUS : 0n) + BigInt(gpa)
    this.pages.set(bus / BigInt(PAGE), BigInt(gpa) / BigInt(PAGE))
    return bus
  }

  /** The IOMMU forgets the page of a bus address, and tells the back end. */
  async unmap(bus: bigint): Promise<void> {
    this.pages.delete(bus / BigInt(PAGE))
    await this.front.invalidate(bus & ~0xfffn, BigInt(PAGE))
  }

  /** Puts a request into the ring: header, data, status. Answers its head. */
  add(type: number, sector: number, data: readonly DriverBuffer[], isIndirect = false): number {
    const slot = HEADER_AT + (this.ring.availableIndex % 256) * 256
    const header = new DataView(new ArrayBuffer(16))
    header.setUint32(0, type, true)
    header.setBigUint64(8, BigInt(sector), true)
    this.ram.store(slot, new Uint8Array(header.buffer), 0, 16)
    this.ram.bytes[slot + 16] = 0xff
    const address = this.map(slot)
    const buffers = [
      { address, bytes: 16, isWritten: false },
      ...data,
      { address: address + 16n, bytes: 1, isWritten: true },
    ]
    if (isIndirect) return this.ring.addIndirect(buffers, slot + 32, address + 32n)
    return this.ring.add(buffers)
  }

  /** The status byte of the request that was added `back` requests ago. */
  status(back = 1): number {
    return this.ram.bytes[HEADER_AT + ((this.ring.availableIndex - back) % 256) * 256 + 16] as number
  }

  publish(): void {
    if (this.ring.publish()) this.front.signal(this.kick)
  }

  /** Waits for one request; answers its status byte. */
  async finish(): Promise<number> {
    this.publish()
    await until('a request is used', () => this.ring.reap() !== 'empty')
    return this.status()
  }

  async write(sector: number, data: Uint8Array, isIndirect = false): Promise<number> {
    this.ram.store(DATA_AT, data, 0, data.length)
    this.add(1, sector, this.#data(data.length, false), isIndirect)
    return await this.finish()
  }

  async read(sector: number, bytes: number, isIndirect = false): Promise<Uint8Array> {
    this.ram.bytes.fill(0xee, DATA_AT, DATA_AT + bytes)
    this.add(0, sector, this.#data(bytes, true), isIndirect)
    const status = await this.finish()
    if (status !== 0) throw new Error(`read: status ${status}`)
    return this.ram.bytes.slice(DATA_AT, DATA_AT + bytes)
  }

  /** One buffer of bytes, each page mapped. */
  #data(bytes: number, isWritten: boolean): DriverBuffer[] {
    for (let at = DATA_AT; at < DATA_AT + bytes; at += PAGE) this.map(at)
    return [{ address: this.map(DATA_AT), bytes, isWritten }]
  }

  get #features(): bigint {
    const { hasIommu, hasEventIndex = false } = this.#options
    const { PLAIN, IOMMU, EVENT_INDEX, INDIRECT } = FEATURES
    return PLAIN | INDIRECT | (hasIommu ? IOMMU : 0n) | (hasEventIndex ? EVENT_INDEX : 0n) | (1n << 9n)
  }

  #setEvents(): void {
    const { queue: value = 0 } = this.#options
    this.front.send('SET_VRING_CALL', payloadOf('notifier', { value }), [this.call])
    this.front.send('SET_VRING_ERR', payloadOf('notifier', { value }), [this.err])
  }
}
