import type { BusMemory } from '../memory/ports.ts'
import { DmaSpace } from './dma-space.ts'
import type { LiobnMap } from './liobn-map.ts'
import { SpaprTceTable, type TableParts } from './spapr-tce-table.ts'

const VIO_PAGE_SHIFT = 12

export interface VioOptions {
  readonly name: string
  /** Its `reg` in the device tree: its LIOBN as well. */
  readonly reg: number
  /** Bytes of its window, which starts at bus address 0. */
  readonly windowBytes: bigint
  readonly memory: BusMemory
  readonly liobns: LiobnMap
}

/** A virtual I/O device: one table of 4 KiB pages that is open for good, and a way around it. */
export class VioDevice {
  readonly name: string
  readonly reg: number
  readonly table: SpaprTceTable
  readonly space: DmaSpace
  readonly #entries: number

  /** @throws IommulatorError ERR_MACHINE where the LIOBN is taken */
  constructor({ name, reg, windowBytes, memory, liobns }: VioOptions, parts: TableParts) {
    this.name = name
    this.reg = reg
    this.#entries = Number(windowBytes >> BigInt(VIO_PAGE_SHIFT))
    this.table = new SpaprTceTable(reg >>> 0, name, parts)
    liobns.add(this.table)
    this.space = new DmaSpace({
      unit: name,
      tables: [this.table],
      memory,
      stage: parts.stage,
      journal: parts.journal,
    })
  }

  /** The window opens if it is closed, every entry is 0, and addresses are translated. */
  reset(why: string): void {
    this.table.close(why)
    this.table.open({ pageShift: VIO_PAGE_SHIFT, busOffset: 0n, entries: this.#entries })
    this.space.isBypassed = false
  }
}

/** The VIO devices of a machine, by their `reg`. (QEMU 7.2 hw/ppc/spapr_vio.c) */
export class VioBus {
  readonly #devices = new Map<number, VioDevice>()

  add(device: VioDevice): void {
    this.#devices.set(device.reg, device)
  }

  find(reg: number): VioDevice | undefined {
    return this.#devices.get(reg)
  }

  reset(why: string): void {
    for (const device of this.#devices.values()) device.reset(why)
  }
}
