import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import type { MsiPort } from '../../hw/vtd/ports.ts'
import type { InterruptPort } from '../../kernel/intel-iommu/unit-port.ts'

const INTERRUPTS = 0xfeen
const VECTORS = 256

/**
 * Where the messages of a unit arrive: at a processor, which keeps each vector until the kernel takes it, and else
 * wherever `rest` brings them.
 */
export class Interrupts implements MsiPort, InterruptPort {
  readonly #pending: Cells
  readonly #rest: MsiPort

  constructor(rest: MsiPort, journal: Journal) {
    this.#rest = rest
    this.#pending = new Cells(journal, keyOf('pending interrupts'), VECTORS)
  }

  send(address: bigint, data: number): void {
    if (address >> 20n === INTERRUPTS) this.#pending.set(data % VECTORS, 1)
    else this.#rest.send(address, data)
  }

  isPending(vector: number): boolean {
    return this.#pending.get(vector) !== 0
  }

  take(vector: number): void {
    this.#pending.set(vector, 0)
  }
}
