import { type RuleOf, rulesOf } from '../../bits/call.ts'
import { ERRNO_CODES } from '../../bits/codes.ts'
import type { Profile } from '../../bits/errata.ts'
import { assert } from '../../bits/errors.ts'
import { Held } from '../../bits/held.ts'
import { keyOf } from '../../bits/state.ts'
import { PE_STATE, type PeFirmware } from '../../hw/pe-firmware.ts'
import type { Host } from '../../memory/host.ts'
import { KIND } from '../../trace/event.ts'
import { EEH_OPTION, type EehInjection, type EehPort } from '../eeh-port.ts'
import { NO_ANSWER } from '../ports.ts'
import { EEH_CHECK_FAILURE } from './calls.ts'
import { EehDevice, type EehDeviceOptions } from './eeh-device.ts'
import { EehPe } from './eeh-pe.ts'
import { changeOwner, isActive, ownersStateOf, resetPe, stateOf, thaw } from './pe-control.ts'
import { Recovery } from './recovery.ts'
import { EEH_PE, EEH_TYPE, IGNORED_READS_WARNING } from './states.ts'

const { OK, ENOENT, EIO, EINVAL, ERANGE } = ERRNO_CODES
const CHECK = rulesOf(EEH_CHECK_FAILURE)
/** The last type and the last function of an error that can be injected. */
const INJECT_TYPE_MAX = 1
const INJECT_FUNC_MAX = 19
/** Functions of an error in configuration space: loads and stores, of an address and of data. */
const CONFIG_FUNCS: readonly number[] = [4, 5, 10, 11]

export interface EehOptions {
  readonly host: Host
  readonly profile: Profile
  readonly isEnabled: boolean
  /** Whether the platform can inject errors, as PowerNV can. */
  readonly injects?: boolean
  /** Milliseconds of a tick of the machine's clock; 1000. */
  readonly tickMs?: number
  /** The tick that it is. */
  readonly now: () => number
}

/** What a new PE is. */
export interface EehPeShape {
  /** Apart from all others: the PHB's name and the PE's number. */
  readonly name: string
  readonly firmware: PeFirmware
  /** The IOMMU group of its devices. */
  readonly group?: number
  readonly devices?: readonly EehDeviceOptions[]
  readonly type?: number
}

/**
 * The kernel's error handling of PCI: the PEs that it knows, how it notices that one was frozen, and the thread that
 * recovers it. It notices by the error interrupt of the PHB, where that is wired, and by drivers that read all ones.
 *
 * @example
 * const phb = eeh.addPhb('phb0', fence)
 * eeh.addPe(phb, { name: 'phb0-pe5', firmware: pe.stops, group: 1, devices: [{ name: 'edu0' }] })
 * eeh.readAllOnes('edu0') // a driver has read all ones
 * eeh.elapse() // a tick later the PE is being recovered
 */
export class Eeh implements EehPort {
  readonly isEnabled: boolean
  readonly recovery: Recovery
  readonly #options: EehOptions
  readonly #typeInCore: boolean
  /** Q16 */
  readonly #injectsNothing: boolean
  readonly #groups = new Map<number, EehPe>()
  readonly #pes = new Map<PeFirmware, EehPe>()
  /** Whom error interrupts told of that are still to be handled. */
  readonly #interrupts: Held<readonly EehPe[]>
  readonly #devices = new Map<string, { readonly device: EehDevice; readonly pe: EehPe | null }>()

  constructor(options: EehOptions) {
    this.#options = options
    this.isEnabled = options.isEnabled
    this.#typeInCore = options.profile.has('eeh-type-in-core')
    this.#injectsNothing = options.profile.has('Q16')
    this.#interrupts = new Held<readonly EehPe[]>(options.host.journal, 'eeh interrupts', [], (told) =>
      told.length === 0 ? 0 : keyOf(...told.map((pe) => pe.name)),
    )
    this.recovery = new Recovery({
      host: options.host,
      tickMs: options.tickMs ?? 1000,
      now: options.now,
    })
  }

  /** The PE of a PHB: what all others are below. */
  addPhb(name: string, firmware: PeFirmware): EehPe {
    const { host } = this.#options
    const pe = new EehPe({ name, firmware, type: EEH_TYPE.PHB, parent: null, devices: [] }, host)
    this.#pes.set(firmware, pe)
    return pe
  }

  addPe(parent: EehPe, { name, firmware, group, devices = [], type = EEH_TYPE.BUS }: EehPeShape): EehPe {
    const { host } = this.#options
    const own = devices.map((d) => new EehDevice(d, host.journal))
    const pe = new EehPe({ name, firmware, type, parent, devices: own }, host)
    this.#pes.set(firmware, pe)
    for (const device of own) this.#devices.set(device.name, { device, pe })
    if (group !== undefined) this.#groups.set(group, pe)
    return pe
  }

  /** A device that is in no PE. */
  addLooseDevice(options: EehDeviceOptions): void {
    const device = new EehDevice(options, this.#options.host.journal)
    this.#devices.set(device.name, { device, pe: null })
  }

  knows(device: string): boolean {
    return this.#devices.has(device)
  }

  device(name: string): EehDevice | undefined {
    return this.#devices.get(name)?.device
  }

  /** The PE of a device, or null. */
  peOf(device: string): EehPe | null {
    return this.#devices.get(device)?.pe ?? null
  }

  /** A driver of the host has read all ones from a device. */
  readAllOnes(device: string): void {
    if (this.isEnabled) this.check(device)
  }

  /** Finds out whether a device is cut off, and answers the place of the rule in EEH_CHECK_FAILURE. */
  check(name: string): number {
    const known = this.#devices.get(name)
    const rule = CHECK[this.#check(known)]
    const { log, cause } = this.#options.host.stage
    const word = EEH_CHECK_FAILURE.answers[rule]?.rule ?? ''
    const ignored = known?.pe?.ignoredReads ?? 0
    log.append(KIND['eeh.check'], cause, log.names.intern(name), log.names.intern(word), ignored)
    return rule
  }

  /** A PHB interrupts the kernel: a PE, or the PHB itself, is frozen. Handled when time passes. */
  interrupt(what: PeFirmware): void {
    const pe = this.#pes.get(what)
    if (pe === undefined || !this.isEnabled) return
    this.#interrupts.set([...this.#interrupts.value, pe])
  }

  /** Time has passed. */
  elapse(): void {
    for (const pe of this.#interrupts.value) this.#handleInterrupt(pe)
    if (this.#interrupts.value.length > 0) this.#interrupts.set([])
    this.recovery.elapse()
  }

  hasPe(group: number): boolean {
    return this.#groups.has(group)
  }

  setOption(group: number, option: number): number {
    const pe = this.#peOf(group)
    if (option === EEH_OPTION.DISABLE) return OK
    if (option === EEH_OPTION.ENABLE) return this.isEnabled ? changeOwner(pe) : EIO
    return thaw(pe, option)
  }

  stateOf(group: number): number {
    return ownersStateOf(this.#peOf(group))
  }

  reset(group: number, kind: number): number {
    return resetPe(this.#peOf(group), kind, true)
  }

  /** PowerNV has nothing to configure. */
  configure(_group: number): number {
    return OK
  }

  isBlocked(group: number): boolean {
    return this.#groups.get(group)?.is(EEH_PE.CFG_BLOCKED) ?? false
  }

  inject(_group: number, { type, func }: EehInjection): number {
    if (this.#options.injects === false) return ENOENT
    const isKnownType = type <= INJECT_TYPE_MAX
    if (this.#typeInCore && !isKnownType) return EINVAL
    if (func > INJECT_FUNC_MAX) return EINVAL
    if (!isKnownType) return ERANGE
    if (!this.#injectsNothing) return NO_ANSWER
    return CONFIG_FUNCS.includes(func) ? OK : EIO
  }

  opened(group: number): void {
    const pe = this.#groups.get(group)
    // VFIO does not ask whether it worked: a PE that stays frozen is not passed through.
    if (pe !== undefined && changeOwner(pe) === OK) pe.passed++
  }

  released(group: number): void {
    const pe = this.#groups.get(group)
    if (pe === undefined || !pe.isPassed) return
    pe.passed--
    changeOwner(pe)
  }

  #peOf(group: number): EehPe {
    const pe = this.#groups.get(group)
    assert(pe !== undefined, 'the group has a PE')
    return pe
  }

  /** What pnv_eeh_next_error and eeh_handle_special_event make of an error. */
  #handleInterrupt(pe: EehPe): void {
    const isLetBe = phbOf(pe).is(EEH_PE.ISOLATED) || pe.is(EEH_PE.ISOLATED) || pe.isPassed
    const { log, cause } = this.#options.host.stage
    const { unit, pe: number } = pe.firmware
    log.append(KIND['eeh.interrupt'], cause, unit, number, pe.isPhb ? 1 : 0, isLetBe ? 0 : 1)
    if (isLetBe) return
    pe.firmware.setFreeze()
    pe.isolate()
    this.recovery.send(pe)
  }

  #check(known: { device: EehDevice; pe: EehPe | null } | undefined): RuleOf<typeof EEH_CHECK_FAILURE> {
    if (known === undefined || !known.device.isPresent) return 'no-device'
    if (!this.isEnabled) return 'eeh-off'
    const { device, pe } = known
    if (pe === null) return 'no-pe'
    if (this.#isPhbLost(pe)) return 'phb-fenced'
    if (pe.isPassed) return 'passed-through'
    if (pe.is(EEH_PE.ISOLATED)) {
      if (pe.ignoreRead() === IGNORED_READS_WARNING) this.#warnOfLoop(device)
      return 'isolated-before'
    }
    const state = stateOf(pe)
    if (state === PE_STATE.NOT_SUPPORT || isActive(state)) {
      pe.noteFalsePositive()
      return 'false-positive'
    }
    const top = frozenAbove(pe)
    top.isolate()
    this.recovery.send(top)
    return top === pe ? 'isolated' : 'parent-isolated'
  }

  /** Whether the PHB of a PE is in trouble of which nobody knew (eeh_phb_check_failure). */
  #isPhbLost(pe: EehPe): boolean {
    const phb = phbOf(pe)
    if (!phb.isPhb || phb.is(EEH_PE.ISOLATED)) return false
    const state = stateOf(phb)
    if (state === PE_STATE.NOT_SUPPORT || isActive(state)) return false
    phb.isolate()
    this.recovery.send(phb)
    return true
  }

  #warnOfLoop({ name, driver }: EehDevice): void {
    const text = `EEH: ${IGNORED_READS_WARNING} reads ignored for recovering device ${name}, driver ${driver?.name ?? 'none'}`
    const { log, cause } = this.#options.host.stage
    log.emit('warning', cause < 0 ? null : cause, { layer: 'kernel', text })
  }
}

/** The PE at the top of the tree. */
function phbOf(pe: EehPe): EehPe {
  let top = pe
  while (top.parent !== null) top = top.parent
  return top
}

/** The highest PE, below the PHB, that is stopped in part; the PE itself where there is none. */
function frozenAbove(pe: EehPe): EehPe {
  let top = pe
  for (let above = pe.parent; above !== null && !above.isPhb; above = above.parent) {
    const state = stateOf(above)
    if (state > 0 && !isActive(state)) top = above
  }
  return top
}
