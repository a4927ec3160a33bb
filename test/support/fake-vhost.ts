import type { IotlbMiss, IotlbSink } from '../../src/kernel/ports.ts'
import type { VhostBackend } from '../../src/kernel/qemu/vhost-devices.ts'
import { VhostIotlb } from '../../src/table/vhost-iotlb.ts'

/** What a VMM wrote to a vhost device, as text: `UPDATE 0x1000 0x1000 0x7f00 3`, `INVALIDATE 0x1000 0x1000`. */
const text = (name: string, ...numbers: (bigint | number)[]): string =>
  [name, ...numbers.map((n) => `0x${n.toString(16)}`)].join(' ')

/** A vhost device of which only the messages and the container of its maps are real. */
export class FakeVhost implements IotlbSink, VhostBackend {
  readonly queues = 2
  readonly iotlb = new VhostIotlb({ limit: 2048, retire: true })
  readonly messages: string[] = []
  /** What writes answer from now on. */
  answer = 0
  readonly #misses: IotlbMiss[] = []

  open(): void {}

  start(_queues: unknown, listen: () => void): void {
    listen()
  }

  connect(): void {}

  stop(_queues: unknown, unlisten: () => void): void {
    unlisten()
  }

  kick(): void {}

  update(iova: bigint, bytes: bigint, ua: bigint, perm: number): number {
    this.messages.push(text('UPDATE', iova, bytes, ua, perm))
    return this.answer === 0 ? this.iotlb.add(iova, iova + bytes - 1n, ua, perm) : this.answer
  }

  invalidate(iova: bigint, bytes: bigint): number {
    this.messages.push(text('INVALIDATE', iova, bytes))
    if (this.answer === 0) this.forget(iova, bytes)
    return this.answer
  }

  forget(iova: bigint, bytes: bigint): void {
    this.iotlb.delete(iova, iova + bytes - 1n)
  }

  nextMiss(): IotlbMiss | undefined {
    return this.#misses.shift()
  }

  /** The device misses an address. */
  miss(iova: bigint, access: number): void {
    this.#misses.push({ iova, access })
  }

  /** User address that a bus address is at for the device; undefined where it would miss. */
  at(iova: bigint): bigint | undefined {
    if (!this.iotlb.first(iova, iova) || this.iotlb.start > iova) return undefined
    return this.iotlb.address + iova - this.iotlb.start
  }

  /** The messages since it was asked last. */
  take(): string[] {
    return this.messages.splice(0)
  }
}
