import { hexDigits } from '../../bits/byte-text.ts'
import { hex } from '../../bits/u64.ts'
import type { VtdStep } from './vtd-step.ts'

/** Bytes of a unit's registers. */
export const VTD_REGISTER_BYTES = 0x230

/** Memory that scripts use. */
export const VTD_AREAS = Object.freeze({
  /** Root, context and PASID tables, and page tables. */
  tables: { gpa: 0x10_0000, bytes: 0x2_0000 },
  /** Invalidation queues. */
  queue: { gpa: 0x12_0000, bytes: 0x4000 },
  /** Where wait descriptors write. */
  status: { gpa: 0x12_4000, bytes: 0x1000 },
  /** Page request queues. */
  requests: { gpa: 0x13_0000, bytes: 0x2000 },
  /** Where page tables lead: the start of a page of 2 MiB. */
  data: { gpa: 0x20_0000, bytes: 0x1_0000 },
})

export type VtdArea = keyof typeof VTD_AREAS
const VTD_AREA_NAMES = Object.keys(VTD_AREAS) as readonly VtdArea[]

/** Registers by offset; those of 64 bits have a width of 8. */
const REGISTERS: readonly (readonly [name: string, offset: number, widthBytes: 4 | 8])[] = [
  ['VER', 0x00, 4],
  ['CAP', 0x08, 8],
  ['ECAP', 0x10, 8],
  ['GCMD', 0x18, 4],
  ['GSTS', 0x1c, 4],
  ['RTADDR', 0x20, 8],
  ['CCMD', 0x28, 8],
  ['FSTS', 0x34, 4],
  ['FECTL', 0x38, 4],
  ['FEDATA', 0x3c, 4],
  ['FEADDR', 0x40, 4],
  ['FEUADDR', 0x44, 4],
  ['PMEN', 0x64, 4],
  ['IQH', 0x80, 8],
  ['IQT', 0x88, 8],
  ['IQA', 0x90, 8],
  ['ICS', 0x9c, 4],
  ['IECTL', 0xa0, 4],
  ['IEDATA', 0xa4, 4],
  ['IEADDR', 0xa8, 4],
  ['IEUADDR', 0xac, 4],
  ['IQERCD', 0xb0, 8],
  ['IRTA', 0xb8, 8],
  ['PQH', 0xc0, 8],
  ['PQT', 0xc8, 8],
  ['PQA', 0xd0, 8],
  ['PRS', 0xdc, 4],
  ['PECTL', 0xe0, 4],
  ['PEDATA', 0xe4, 4],
  ['PEADDR', 0xe8, 4],
  ['PEUADDR', 0xec, 4],
  ['IVA', 0xf0, 8],
  ['IOTLB', 0xf8, 8],
  ['FRCD0', 0x220, 8],
  ['FRCD1', 0x228, 8],
]
const NAMED = new Map(REGISTERS.map(([name, offset, widthBytes]) => [offset, { name, widthBytes }]))

/** Words that are compared as one. */
const WORD_BYTES = 8

/** What a register is called, or its offset where it has no name. */
export const vtdRegisterName = (offset: number): string => NAMED.get(offset)?.name ?? `+${hex(offset)}`

const valueAt = (bytes: Uint8Array, offset: number, widthBytes: number): bigint => {
  let value = 0n
  for (let i = widthBytes - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[offset + i] ?? 0)
  return value
}

function registerChanges(before: Uint8Array, now: Uint8Array): string[] {
  const out: string[] = []
  for (let offset = 0; offset < VTD_REGISTER_BYTES; ) {
    const widthBytes = NAMED.get(offset)?.widthBytes ?? 4
    const value = valueAt(now, offset, widthBytes)
    if (value !== valueAt(before, offset, widthBytes)) out.push(`${vtdRegisterName(offset)}=${hex(value)}`)
    offset += widthBytes
  }
  return out
}

const differs = (a: Uint8Array, b: Uint8Array, at: number): boolean => {
  for (let i = at; i < at + WORD_BYTES; i++) if (a[i] !== b[i]) return true
  return false
}

function memoryChanges(gpa: number, before: Uint8Array, now: Uint8Array): string[] {
  const out: string[] = []
  for (let at = 0; at < now.length; ) {
    if (!differs(before, now, at)) {
      at += WORD_BYTES
      continue
    }
    const from = at
    while (at < now.length && differs(before, now, at)) at += WORD_BYTES
    out.push(`${hex(gpa + from)}:${hexDigits(now.subarray(from, at))}`)
  }
  return out
}

const NOTHING = '-'
const GCMD = 0x18
const IQT = 0x88

/** The memory that a step may change behind the back of software: tables have accessed and dirty bits. */
export function vtdLooks(step: VtdStep): readonly VtdArea[] {
  if (step.kind === 'dma') return ['data', 'tables']
  if (step.kind === 'ats') return ['tables']
  if (step.kind === 'pri') return ['requests']
  return step.kind === 'reg' && (step.offset === GCMD || step.offset === IQT) ? ['status'] : []
}

/** What was seen of registers and memory last, so that an answer says what has changed since. */
export class VtdWatch {
  #registers: Uint8Array = new Uint8Array(VTD_REGISTER_BYTES)
  readonly #memory = Object.fromEntries(
    VTD_AREA_NAMES.map((name) => [name, new Uint8Array(VTD_AREAS[name].bytes)]),
  ) as Record<VtdArea, Uint8Array>

  /** Software has written memory: that is no news. */
  wrote(gpa: number, words: readonly bigint[]): void {
    for (const name of VTD_AREA_NAMES) {
      const area = VTD_AREAS[name]
      const bytes = this.#memory[name]
      const view = new DataView(bytes.buffer)
      for (const [i, word] of words.entries()) {
        const at = gpa + i * WORD_BYTES - area.gpa
        if (at >= 0 && at + WORD_BYTES <= area.bytes) view.setBigUint64(at, word, true)
      }
    }
  }

  /** What has changed, as the answer of a step says it. What is handed in is kept. */
  changes(registers: Uint8Array, memory: Partial<Readonly<Record<VtdArea, Uint8Array>>>): string {
    const out = registerChanges(this.#registers, registers)
    this.#registers = registers
    for (const name of VTD_AREA_NAMES) {
      const now = memory[name]
      if (now === undefined) continue
      out.push(...memoryChanges(VTD_AREAS[name].gpa, this.#memory[name], now))
      this.#memory[name].set(now)
    }
    return out.length === 0 ? NOTHING : out.join(' ')
  }
}
