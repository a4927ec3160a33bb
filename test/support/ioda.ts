import type { Answer, Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import { Clock } from '../../src/bits/clock.ts'
import { resolveProfile } from '../../src/bits/errata.ts'
import { Cells, keyOf } from '../../src/bits/state.ts'
import { hiOf, loOf, U64_MAX } from '../../src/bits/u64.ts'
import { deviceHandlers } from '../../src/hw/device-handlers.ts'
import { Edu } from '../../src/hw/edu.ts'
import type { IodaPe } from '../../src/hw/ioda-pe.ts'
import { IodaPhb, type IodaPhbOptions } from '../../src/hw/ioda-phb.ts'
import { Life } from '../../src/hw/life.ts'
import type { MultiLevelTable } from '../../src/table/multi-level-table.ts'
import type { EventFields } from '../../src/trace/event.ts'
import { eventsOf, makeHost, type TestHost } from './host.ts'

/** A host of 64 KiB pages with one PHB, and the ways to use it. */
export function makePhb(
  options: Partial<IodaPhbOptions> & { pageShift?: number; frames?: number; allocations?: number } = {},
) {
  const { pageShift = 16, frames = 4096, allocations = 1e9, ...rest } = options
  const host = makeHost({ pageShift, frames, journal: true })
  let number = 0
  let left = allocations
  const bugs: string[] = []
  const tables = {
    host: host.host,
    nextTable: () => ++number,
    onAllocate: () => left-- > 0,
    onBug: (why: string) => bugs.push(why),
  }
  const phb = new IodaPhb({ name: 'phb0', platform: 'PHB4', tables, ...rest })
  return { ...host, phb, bugs, allow: (n: number) => (left = n) }
}

/** A table of a PE of PHB3 and later, made and programmed. */
export function openWindow(
  pe: IodaPe,
  { window = 0, pageShift = 16, windowBytes = 1n << 30n, levels = 1 } = {},
): MultiLevelTable {
  const table = pe.ops?.createTable(window, pageShift, windowBytes, levels)
  if (table === undefined || typeof table === 'number') throw new Error(`no table: ${table}`)
  const rc = pe.ops?.setWindow(window, table)
  if (rc !== 0) throw new Error(`no window: ${rc}`)
  return table as MultiLevelTable
}

/** One DMA: its code, the bytes that moved, and those of the buffer. */
export function dma(pe: IodaPe, iova: bigint, bytes: number, data?: string) {
  const buffer = new Uint8Array(bytes).fill(0xee)
  if (data !== undefined) buffer.set(new TextEncoder().encode(data))
  const code = pe.request({
    device: 0,
    hi: hiOf(iova),
    lo: loOf(iova),
    buffer,
    at: 0,
    bytes,
    isWrite: data !== undefined,
  })
  return { code, moved: pe.moved, fault: pe.fault, buffer }
}

/** An edu device behind a PE, and its calls as a machine runs them. */
export function makeEdu(options: Parameters<typeof makePhb>[0] = {}) {
  const m = makePhb(options)
  const { stage, journal } = m
  const pe = m.phb.addPe({ pe: 5, group: 1 })
  const life = new Life(stage, journal)
  const clock = new Clock(new Cells(journal, keyOf('clock')))
  const profile = resolveProfile([], 'intended')
  const edu = new Edu({ name: 'edu0', space: pe, dmaMask: U64_MAX }, { stage, journal, life, clock, profile })
  const handlers = deviceHandlers({ devices: new Map([['edu0', edu]]), stage, life })
  const run = (decl: CallDecl, args: Record<string, Value>): Answer => {
    const handler = handlers.find((h) => h.decl === decl)
    if (handler === undefined) throw new Error(`no handler of ${decl.name}`)
    return handler.run({ device: 'edu0', bytes: 4n, at: 0n, offset: 0n, ...args })
  }
  return { ...m, pe, edu, run }
}

/** The number of the window's life that a PE was given last. */
export const windowOf = (m: TestHost): number =>
  (eventsOf(m, 'hw.window').at(-1) as EventFields<'hw.window'>).window
