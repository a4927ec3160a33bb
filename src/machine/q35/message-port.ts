import type { MsiPort } from '../../hw/vtd/ports.ts'
import { isInterruptAddress } from '../../memory/interrupt-range.ts'
import type { BusMemory } from '../../memory/ports.ts'

const MESSAGE_BYTES = 4
const PAGES = 2 ** 40

/**
 * Where a unit's messages go: to a processor where their address says so, which nothing in the machine sees, and else to
 * memory, as any write does.
 */
export class MessagePort implements MsiPort {
  readonly #memory: BusMemory
  readonly #bytes = new Uint8Array(MESSAGE_BYTES)

  constructor(memory: BusMemory) {
    this.#memory = memory
  }

  send(address: bigint, data: number): void {
    if (isInterruptAddress(address)) return
    new DataView(this.#bytes.buffer).setUint32(0, data, true)
    const page = Number(address >> 12n)
    if (page >= PAGES || !this.#memory.isRam(page)) return
    this.#memory.writePage(page, Number(address & 0xfffn), this.#bytes, 0, MESSAGE_BYTES)
  }
}
