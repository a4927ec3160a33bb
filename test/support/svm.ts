import { expect } from 'vitest'
import type { Answer, CallHandler, Value } from '../../src/bits/answer.ts'
import { Clock } from '../../src/bits/clock.ts'
import type { Profile } from '../../src/bits/errata.ts'
import { Cells, Journal, keyOf } from '../../src/bits/state.ts'
import { Life } from '../../src/hw/life.ts'
import { RemappingUnit } from '../../src/hw/vtd/remapping-unit.ts'
import { DeviceTlbs } from '../../src/hw/vtd-devices/device-tlbs.ts'
import { Endpoint } from '../../src/hw/vtd-devices/endpoint.ts'
import { endpointHandlers } from '../../src/hw/vtd-devices/endpoint-handlers.ts'
import { VtdDmaSpace } from '../../src/hw/vtd-devices/vtd-dma-space.ts'
import { iommuHandlers } from '../../src/kernel/intel-iommu/handlers.ts'
import { svmHandlers } from '../../src/kernel/intel-iommu/svm/handlers.ts'
import { Svm } from '../../src/kernel/intel-iommu/svm/svm.ts'
import type { UnitPort } from '../../src/kernel/intel-iommu/unit-port.ts'
import { VtdDriver } from '../../src/kernel/intel-iommu/vtd-driver.ts'
import { Tasks } from '../../src/kernel/steps.ts'
import { TaskCalls } from '../../src/kernel/task-calls.ts'
import { completeArguments } from '../../src/machine/arguments.ts'
import { Interrupts } from '../../src/machine/x86/interrupts.ts'
import type { EventKind } from '../../src/trace/event.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { Stage } from '../../src/trace/stage.ts'
import { FakePages, FakeProcesses } from './fake-processes.ts'
import { FlatMemory } from './flat-memory.ts'

/** The common machine of the specification: ND 65536, 39 bits, PSI; queue, TLBs of devices, ECS, PRS, PASIDs of 20 bits. */
export const SVM_CAP = 0x00d2_008c_2226_0206n
export const SVM_ECAP =
  0xf002n | (1n << 2n) | (1n << 6n) | (1n << 24n) | (1n << 29n) | (1n << 40n) | (19n << 35n) | 1n
export const SRS = 1n << 31n
export const DIS = 1n << 27n
export const CM = 1n << 7n

const MEMORY_PAGES = 0x1000
const FIRST_BLOCK = 0x400

export interface SvmWorldOptions {
  readonly cap?: bigint
  readonly ecap?: bigint
  /** Errata that it has. */
  readonly errata?: readonly string[]
  readonly maxOrder?: number
  /** PASID bits of device b. */
  readonly pasidBits?: number
  /** Pages of the driver's own. */
  readonly tablePages?: number
}

/** A kernel of 4.x on a whole unit, with devices a (0x0310) and b (0x0318) and fake processes P and Q. */
export function svmWorld(options: SvmWorldOptions = {}) {
  const {
    cap = SVM_CAP,
    ecap = SVM_ECAP,
    errata = [],
    maxOrder = 10,
    pasidBits = 20,
    tablePages = 0x100,
  } = options
  const memory = new FlatMemory(MEMORY_PAGES * 4096)
  const journal = new Journal()
  journal.on = true
  const log = new RecordLog({ keepRecords: 1 << 14, journal })
  const stage = new Stage(log)
  const life = new Life(stage, journal, 'kernel')
  const profile: Profile = { name: 'test', ids: errata, has: (id) => errata.includes(id) }
  const unit = new RemappingUnit(
    { name: 'vtd0', memory, cap, ecap, hostAddressBits: 39 },
    { stage, journal, life, profile },
  )
  const interrupts = new Interrupts({ send: () => undefined }, journal)
  unit.msi = interrupts
  const tlbs = new DeviceTlbs()
  unit.deviceTlbs = tlbs
  const clock = new Clock(new Cells(journal, keyOf('clock')))
  const endpoint = (name: string, source: number, bits: number): Endpoint => {
    const made = new Endpoint(
      {
        ...{ name, source, ats: {}, pri: { requests: 32 } },
        pasid: bits > 0 ? { bits, execute: true, privileged: true } : undefined,
      },
      { unit, space: new VtdDmaSpace(source, { unit, memory, stage, profile }), stage, journal, clock },
    )
    tlbs.add(source, made)
    return made
  }
  const endpoints = [endpoint('a', 0x0310, 20), endpoint('b', 0x0318, pasidBits), endpoint('c', 0x0400, 0)]
  const sent: (readonly [bigint, bigint])[] = []
  const port: UnitPort = {
    name: 'vtd0',
    memory,
    mmioRead: (offset, bytes) => unit.mmioRead(offset, bytes),
    mmioWrite: (offset, bytes, value) => {
      if (offset === unit.offsetOf('IQT')) note(value)
      unit.mmioWrite(offset, bytes, value)
    },
  }
  /** Descriptors up to a tail, without waits. */
  const note = (tail: bigint) => {
    const base = Number(unit.peek('IQA') >> 12n)
    for (let at = Number(unit.peek('IQH')); at !== Number(tail); at = (at + 16) & 0xfff) {
      const word = (offset: number) => {
        memory.loadU64le(base, offset)
        return BigInt.asUintN(64, (BigInt(memory.wordHi) << 32n) | BigInt(memory.wordLo >>> 0))
      }
      if ((word(at) & 0xfn) !== 5n) sent.push([word(at), word(at + 8)])
    }
  }
  const tasks = new Tasks(stage, journal)
  tasks.isStopped = () => life.isDead
  const driver = new VtdDriver(
    {
      port,
      hostAddressBits: 39,
      area: { first: 0x100, pages: tablePages },
      wantsScalable: false,
      wantsExtended: true,
    },
    { stage, journal, life, profile },
    endpoints.map((e) => ({
      name: e.name,
      otherNames: [],
      source: e.options.source,
      offersAts: true,
      capabilities: { hasRequests: true, pasids: e.options.pasid ? 2 ** e.options.pasid.bits : 0 },
      setAts: (on) => e.setAts(on),
      setRequests: (on) => (on ? e.pages?.enable() : e.pages?.disable()),
      setPasid: (on) => e.setPasid(on, true, true),
    })),
  )
  const processes = new FakeProcesses(tasks)
  const pages = new FakePages(FIRST_BLOCK, maxOrder)
  const svm = new Svm({ driver, tasks, processes, pages, interrupts, profile })
  driver.start()
  const calls = new TaskCalls({
    ...{ tasks, stage, life },
    takePrinted: () => driver.core.takePrinted(),
    takeUnknown: () => driver.core.flusher.queue.takeUnknown(),
  })
  const world = { actor: 'P' }
  const handlers: CallHandler[] = [
    ...svmHandlers({ svm, driver, tasks, calls, processes, actor: () => world.actor }),
    ...iommuHandlers(driver, { stage, lives: [life] }),
    ...endpointHandlers({
      devices: new Map(endpoints.map((e) => [e.name, e])),
      ...{ stage, life },
    }),
  ]
  const handlerOf = (verb: string, name: string): CallHandler => {
    const handler = handlers.find((h) => h.decl.verb === verb && h.decl.name === name)
    if (handler === undefined) throw new Error(`no call ${verb} ${name}`)
    return handler
  }
  const call =
    (verb: string) =>
    (name: string, args: Readonly<Record<string, Value>> = {}): Answer => {
      const handler = handlerOf(verb, name)
      return handler.run(completeArguments(handler.decl, args))
    }
  /** Runs work of the kernel to its end, as a process or as nobody. */
  const work = (works: Parameters<Tasks['begin']>[2], process = '') => {
    const task = tasks.begin('test', process, works)
    tasks.runToEnd(task)
    return task
  }
  const records = (kind: EventKind) =>
    [...log.records()].flatMap(({ event }) => (event.kind === kind ? [event] : []))
  sent.length = 0
  return {
    ...{ world, unit, memory, driver, svm, tasks, calls, processes, pages, interrupts, journal, log, life },
    /** Descriptors since the last time. */
    takeSent: () => sent.splice(0),
    svmCall: call('svm'),
    /** Begins a call of svm as a task of that name. */
    svmStart: (name: string, task: string) => {
      expect(handlerOf('svm', name).start?.({}, task)).toBeUndefined()
      const begun = tasks.find(task)
      if (begun === undefined) throw new Error(`no task ${task}`)
      return begun
    },
    iommu: call('iommu'),
    pri: call('pri'),
    ats: call('ats'),
    work,
    records,
    endpoints,
  }
}
