import type { Answer, CallHandler, Value } from '../../src/bits/answer.ts'
import { Clock } from '../../src/bits/clock.ts'
import { resolveProfile } from '../../src/bits/errata.ts'
import { Cells, Journal, keyOf } from '../../src/bits/state.ts'
import { deviceHandlers } from '../../src/hw/device-handlers.ts'
import { Edu } from '../../src/hw/edu.ts'
import { Life } from '../../src/hw/life.ts'
import { LiobnMap } from '../../src/hw/liobn-map.ts'
import { SpaprPhb } from '../../src/hw/spapr-phb.ts'
import type { SpaprTceTable } from '../../src/hw/spapr-tce-table.ts'
import { VioBus, VioDevice } from '../../src/hw/vio-bus.ts'
import type { WindowWatcher } from '../../src/hw/window-watcher.ts'
import type { EehBackend } from '../../src/kernel/ports.ts'
import { QEMU_ERRATA } from '../../src/kernel/qemu/errata.ts'
import { hcallHandlers } from '../../src/kernel/qemu/hcall-handlers.ts'
import { rtasHandlers } from '../../src/kernel/qemu/rtas-handlers.ts'
import { SpaprHcalls } from '../../src/kernel/qemu/spapr-hcalls.ts'
import { SpaprRtas } from '../../src/kernel/qemu/spapr-rtas.ts'
import { completeArguments } from '../../src/machine/arguments.ts'
import type { MachineEvent } from '../../src/trace/event.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { Stage } from '../../src/trace/stage.ts'
import { FlatMemory } from './flat-memory.ts'

export const LIOBN = 0x8000_0000n
export const LIOBN_64 = 0x8000_0001n
export const WINDOW_64 = 1n << 59n
export const BUID = 0x0800_0000_2000_0000n
export const BUID_WITHOUT_DDW = BUID + 1n
export const VIO_REG = 0x7100_0002
/** Bus addresses of buffers that a driver would have named. */
const BUFFERS: ReadonlyMap<string, bigint> = new Map([['page-a', 0x1000n]])
/** End of guest memory. */
export const RAM = 16n << 20n

export interface PseriesOptions {
  readonly profile?: string
  readonly pageShifts?: readonly number[]
  readonly ramBytes?: number
  /** Undo log and hash from the first write on. */
  readonly hasJournal?: boolean
  /** The VFIO group of pci0. */
  readonly eeh?: EehBackend
  /** Who is told of the windows of pci0. */
  readonly watcher?: WindowWatcher
}

/** A pseries machine as tests need it: PHB pci0 with DDW, pci1 without, a VIO device, edu0 on pci0. */
export function pseries(options: PseriesOptions = {}) {
  const { profile: name = 'qemu-7.2', pageShifts = [12, 16, 21, 24], ramBytes = Number(RAM) } = options
  const journal = new Journal()
  journal.on = options.hasJournal ?? false
  const log = new RecordLog()
  const stage = new Stage(log)
  const life = new Life(stage, journal)
  const profile = resolveProfile(QEMU_ERRATA, name)
  const liobns = new LiobnMap()
  const memory = new FlatMemory(ramBytes)
  let windows = 0
  const parts = { stage, journal, life, profile, nextWindow: () => ++windows }
  const common = { pageShifts, memory, liobns }
  const watched = { ...parts, ...(options.watcher && { watcher: options.watcher }) }
  const phb = new SpaprPhb({ ...common, name: 'pci0', index: 0, buid: BUID, hasDdw: true }, watched)
  const plain = new SpaprPhb(
    { ...common, name: 'pci1', index: 1, buid: BUID_WITHOUT_DDW, hasDdw: false },
    parts,
  )
  const vio = new VioBus()
  vio.add(new VioDevice({ name: 'l-lan', reg: VIO_REG, windowBytes: 0x1000_0000n, memory, liobns }, parts))
  const clock = new Clock(new Cells(journal, keyOf('clock')))
  const edu = new Edu(
    { name: 'edu0', space: phb.space, dmaMask: (1n << 64n) - 1n },
    { stage, journal, life, profile, clock },
  )
  const hcalls = new SpaprHcalls({ stage, life, profile, liobns, memory })
  const rtas = new SpaprRtas({
    stage,
    life,
    profile,
    liobns,
    phbs: [phb, plain],
    ...(options.eeh && { eehOf: (asked) => (asked === phb ? (options.eeh ?? null) : null) }),
  })
  phb.reset('power-on')
  plain.reset('power-on')
  vio.reset('power-on')

  const handlers = [
    ...hcallHandlers(hcalls, life),
    ...rtasHandlers(rtas, life),
    ...deviceHandlers({
      devices: new Map([[edu.name, edu]]),
      stage,
      life,
      handleOf: (buffer) => BUFFERS.get(buffer),
    }),
  ]
  const run = (verb: string, call: string, args: Record<string, Value> = {}): Answer => {
    const handler = handlers.find(({ decl }) => decl.verb === verb && decl.name === call) as CallHandler
    return handler.run(completeArguments(handler.decl, args))
  }
  /** What was recorded since a place of the log, without the calls themselves. */
  const effects = (from: number): MachineEvent[] =>
    [...log.records(from)].map((r) => r.event).filter((e) => !e.kind.startsWith('call.'))
  const table = (liobn: bigint) => liobns.find(0, Number(liobn)) as SpaprTceTable
  const tce = (liobn: bigint, entry: number): bigint => table(liobn).window?.store.get(entry) ?? -1n
  return {
    journal,
    profile,
    log,
    stage,
    life,
    liobns,
    memory,
    phb,
    plain,
    vio,
    clock,
    edu,
    hcalls,
    rtas,
    run,
    effects,
    table,
    tce,
  }
}

export type Pseries = ReturnType<typeof pseries>

/** Calls by their usual short forms, on the default window of pci0 unless said otherwise. */
export const calls = (m: Pseries) => ({
  put: (ioba: bigint, tce: bigint, liobn = LIOBN) => m.run('hcall', 'H_PUT_TCE', { liobn, ioba, tce }),
  get: (ioba: bigint, liobn = LIOBN) => m.run('hcall', 'H_GET_TCE', { liobn, ioba }),
  stuff: (ioba: bigint, value: bigint, npages: bigint, liobn = LIOBN) =>
    m.run('hcall', 'H_STUFF_TCE', { liobn, ioba, value, npages }),
  indirect: (ioba: bigint, list: bigint, npages: bigint, liobn = LIOBN) =>
    m.run('hcall', 'H_PUT_TCE_INDIRECT', { liobn, ioba, list, npages }),
  query: (nret = 6n, buid = BUID, nargs = 3n) =>
    m.run('rtas', 'ibm,query-pe-dma-window', { buid, nret, nargs }),
  create: (page_shift: bigint, window_shift: bigint, more: Record<string, Value> = {}) =>
    m.run('rtas', 'ibm,create-pe-dma-window', { buid: BUID, page_shift, window_shift, ...more }),
  remove: (liobn: bigint, more: Record<string, Value> = {}) =>
    m.run('rtas', 'ibm,remove-pe-dma-window', { liobn, ...more }),
  reset: (buid = BUID, more: Record<string, Value> = {}) =>
    m.run('rtas', 'ibm,reset-pe-dma-window', { buid, ...more }),
  dmaRead: (iova: bigint, bytes: bigint, at = 0n) =>
    m.run('dma', 'read', { device: 'edu0', iova, bytes, at }),
  dmaWrite: (iova: bigint, more: Record<string, Value>) =>
    m.run('dma', 'write', { device: 'edu0', iova, ...more }),
})
