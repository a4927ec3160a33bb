import { resolveProfile } from '../../src/bits/errata.ts'
import { HW_ERRATA } from '../../src/hw/errata.ts'
import { PE_RESET, type PeFirmware, STOP, stateOfStops } from '../../src/hw/pe-firmware.ts'
import { Eeh } from '../../src/kernel/eeh/eeh.ts'
import type { EehDeviceOptions } from '../../src/kernel/eeh/eeh-device.ts'
import type { EehPe } from '../../src/kernel/eeh/eeh-pe.ts'
import { EEH_ERRATA } from '../../src/kernel/eeh/errata.ts'
import type { Host } from '../../src/memory/host.ts'
import { makeHost } from './host.ts'

/** Firmware of a PE that says and does what a test wants. */
export class FakeFirmware implements PeFirmware {
  readonly unit: number
  readonly pe: number
  stops = 0
  resetKind: number = PE_RESET.DEACTIVATE
  /** Said instead of the state. */
  says: number | null = null
  /** Codes of calls that it refuses. */
  readonly refuses: { clear?: number; set?: number; reset?: number } = {}
  readonly calls: string[] = []

  constructor(unit: number, pe: number) {
    this.unit = unit
    this.pe = pe
  }

  state(): number {
    return this.says ?? stateOfStops(this.stops)
  }

  clearFreeze(stops: number): number {
    this.calls.push(`clear ${stops}`)
    if (this.refuses.clear !== undefined) return this.refuses.clear
    this.stops &= ~stops
    return 0
  }

  setFreeze(): number {
    this.calls.push('freeze')
    if (this.refuses.set !== undefined) return this.refuses.set
    this.stops = STOP.BOTH
    return 0
  }

  reset(kind: number): number {
    this.calls.push(`reset ${kind}`)
    if (this.refuses.reset !== undefined) return this.refuses.reset
    this.resetKind = kind
    return 0
  }
}

/** A driver that can go on as soon as its registers answer again. */
export const CAN_RECOVER = {
  name: 'gentle',
  errorDetected: 'CAN_RECOVER',
  slotReset: 'RECOVERED',
  hasResume: true,
} as const
/** A driver that wants its device reset. */
export const NEED_RESET = {
  name: 'strict',
  errorDetected: 'NEED_RESET',
  slotReset: 'RECOVERED',
  hasResume: true,
} as const

export interface EehWorldOptions {
  readonly devices?: readonly EehDeviceOptions[]
  readonly isEnabled?: boolean
  readonly injects?: boolean
  readonly profile?: string
  readonly tickMs?: number
  readonly journal?: boolean
}

/** A PHB with PE 5 (group 1, device edu0), its firmware, and time. */
export function makeEeh(options: EehWorldOptions = {}) {
  const made = makeHost({ journal: options.journal ?? false })
  const unit = made.log.names.intern('phb0')
  const fence = new FakeFirmware(unit, 0)
  const firmware = new FakeFirmware(unit, 5)
  let tick = 0
  const eeh = new Eeh({
    host: made.host,
    profile: resolveProfile([...EEH_ERRATA, ...HW_ERRATA], options.profile ?? 'intended'),
    isEnabled: options.isEnabled ?? true,
    ...(options.injects !== undefined && { injects: options.injects }),
    ...(options.tickMs !== undefined && { tickMs: options.tickMs }),
    now: () => tick,
  })
  const phb = eeh.addPhb('phb0', fence)
  const pe = eeh.addPe(phb, {
    name: 'phb0-pe5',
    firmware,
    group: 1,
    devices: options.devices ?? [{ name: 'edu0', driver: CAN_RECOVER }],
  })
  /** One tick, or some. */
  const elapse = (ticks = 1) => {
    for (let i = 0; i < ticks; i++) {
      tick++
      made.log.tick = tick
      eeh.elapse()
    }
  }
  /** Time in which nobody looks. */
  const skip = (ticks: number) => {
    tick += ticks
  }
  const freeze = () => {
    firmware.stops = STOP.BOTH
  }
  const add = (parent: EehPe, number: number, devices: readonly EehDeviceOptions[] = [], group = number) => {
    const below = new FakeFirmware(unit, number)
    return {
      firmware: below,
      pe: eeh.addPe(parent, { name: `phb0-pe${number}`, firmware: below, group, devices }),
    }
  }
  const steps = () =>
    [...made.log.records()].map((r) => r.event).flatMap((e) => (e.kind === 'eeh.step' ? [e.step] : []))
  const answers = () =>
    [...made.log.records()]
      .map((r) => r.event)
      .flatMap((e) => (e.kind === 'eeh.driver' ? [`${e.device} ${e.call} ${e.answer}`] : []))
  return { ...made, unit, eeh, phb, fence, pe, firmware, elapse, skip, freeze, add, steps, answers }
}

export type EehWorld = ReturnType<typeof makeEeh>

/** EEH over groups whose PEs are well. */
export function eehOver(host: Host, groups: readonly number[]): Eeh {
  const eeh = new Eeh({
    host,
    profile: resolveProfile(EEH_ERRATA, 'intended'),
    isEnabled: true,
    now: () => 0,
  })
  const unit = host.stage.log.names.intern('phb0')
  const phb = eeh.addPhb('phb0', new FakeFirmware(unit, 0))
  for (const group of groups) {
    eeh.addPe(phb, { name: `phb0-pe${group}`, firmware: new FakeFirmware(unit, group), group })
  }
  return eeh
}
