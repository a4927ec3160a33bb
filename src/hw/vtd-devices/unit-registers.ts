import { rulesOf } from '../../bits/call.ts'
import type { RegisterFile } from '../device-handlers.ts'
import { MMIO_READ, MMIO_WRITE } from '../edu-calls.ts'

const READ = rulesOf(MMIO_READ)
const WRITE = rulesOf(MMIO_WRITE)

/** The registers of a VT-d unit, as software reaches them. */
export interface RegisterUnit {
  readonly name: string
  /** Bytes of its registers, from its base on. */
  readonly registerBytes: number
  mmioRead(offset: number, bytes: 4 | 8): bigint
  mmioWrite(offset: number, bytes: 4 | 8, value: bigint): void
}

/** The registers of a VT-d unit for operations. Where none is, reads give 0 and writes are lost. */
export class UnitRegisters implements RegisterFile {
  readonly name: string
  warnings: string[] = []
  value = 0n
  readonly #unit: RegisterUnit

  constructor(unit: RegisterUnit) {
    this.name = unit.name
    this.#unit = unit
  }

  read(offset: number, widthBytes: number): number {
    this.value = 0n
    if (!isAccess(offset, widthBytes)) return READ['access-refused']
    if (offset + widthBytes > this.#unit.registerBytes) return READ['no-register']
    this.value = this.#unit.mmioRead(offset, widthBytes)
    return READ.done
  }

  write(offset: number, widthBytes: number, value: bigint): number {
    if (!isAccess(offset, widthBytes)) return WRITE['access-refused']
    if (offset + widthBytes > this.#unit.registerBytes) return WRITE['no-register']
    this.#unit.mmioWrite(offset, widthBytes, value)
    return WRITE.done
  }
}

/** Software reaches registers by 4 and 8 bytes, aligned. */
function isAccess(offset: number, widthBytes: number): widthBytes is 4 | 8 {
  return (widthBytes === 4 || widthBytes === 8) && offset % widthBytes === 0
}
