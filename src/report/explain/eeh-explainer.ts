import {
  EEH_CALLER,
  EEH_DEAD,
  EEH_DISABLED,
  EEH_FENCED,
  EEH_FROZEN,
  EEH_FROZEN_OLD,
  EEH_IGNORED,
  EEH_IGNORED_OLD,
  EEH_INJECTED,
  EEH_INVOKING,
  EEH_INVOKING_OLD,
  EEH_LINES,
  EEH_LOCATION,
  EEH_NONE,
  EEH_PHB_FAILURE,
  EEH_RECOVERED,
  EEH_RECOVERING,
  EEH_RECOVERING_PHB,
  EEH_REPORTS,
  EEH_REPORTS_OLD,
  EEH_TIMES,
  EEH_UNABLE,
} from '../../reader/kernel-log/eeh-lines.ts'
import { type FoundLine, valuesOf } from '../../reader/kernel-log/kernel-log-reader.ts'
import { EehEvent, eehWords } from './eeh-words.ts'
import type { FamilyExplainer, FaultLog } from './fault-log.ts'
import { shortDevice } from './machine-facts.ts'

const DRIVER = /^([\w-]{1,40})->/

/**
 * Gathers the lines of one freeze into one event: the kernel prints them over seconds, and the device of an endpoint is
 * named by later lines only. An event is told of when it is over, or the next one begins.
 */
export class EehExplainer implements FamilyExplainer {
  readonly family = EEH_LINES.id
  #event: EehEvent | undefined

  take(line: FoundLine, log: FaultLog): void {
    const injected = valuesOf(EEH_INJECTED, line)
    if (injected !== undefined) {
      const text = `someone broke it on purpose (eeh_dev_break): ${injected.resource}`
      log.remember('cause', line, text, shortDevice(injected.device))
      return
    }
    if (valuesOf(EEH_NONE, line) !== undefined) {
      log.fact('eeh-none', line, 'no device of the machine can be recovered by EEH')
      return
    }
    if (!this.#begins(line, log)) this.#goesOn(line, log)
  }

  end(log: FaultLog): void {
    const event = this.#event
    this.#event = undefined
    if (event === undefined) return
    log.fault({
      key: event.key,
      line: event.line,
      identify: () => event.devices.flatMap((device) => [...log.machine.linesOf(device)]),
      describe: () => eehWords(event, log),
    })
    log.remember(`eeh ${event.key}`, event.line, `${event.name} was frozen before`)
  }

  #begins(line: FoundLine, log: FaultLog): boolean {
    const frozen = valuesOf(EEH_FROZEN, line) ?? valuesOf(EEH_FROZEN_OLD, line)
    const recovering = valuesOf(EEH_RECOVERING, line)
    const pe = frozen ?? recovering
    if (pe !== undefined) {
      const open = this.#event
      // One freeze has a line that says so and one about its recovery, in either order.
      const isSame =
        open?.isOf(pe.phb, pe.pe) === true && !(frozen === undefined ? open.isRecovering : open.isFrozen)
      const event = isSame ? (open as EehEvent) : this.#begin(new EehEvent(line, pe.phb, pe.pe), log)
      if (frozen === undefined) event.isRecovering = true
      else event.isFrozen = true
      return true
    }
    const bridge = valuesOf(EEH_RECOVERING_PHB, line)
    if (bridge !== undefined) {
      if (this.#event?.isOf(bridge.phb, undefined) !== true)
        this.#begin(new EehEvent(line, bridge.phb, undefined, 'failed'), log).location = bridge.location
      return true
    }
    const whole = valuesOf(EEH_FENCED, line) ?? valuesOf(EEH_PHB_FAILURE, line) ?? valuesOf(EEH_DEAD, line)
    if (whole === undefined) return false
    const state =
      line.template.id === EEH_FENCED.id ? 'fenced' : line.template.id === EEH_DEAD.id ? 'dead' : 'failed'
    const event = this.#begin(new EehEvent(line, whole.phb, undefined, state), log)
    event.location = /location: (.{1,200})$/.exec(whole.more)?.[1]
    if (state === 'dead') this.end(log)
    return true
  }

  #begin(event: EehEvent, log: FaultLog): EehEvent {
    this.end(log)
    this.#event = event
    return event
  }

  #goesOn(line: FoundLine, log: FaultLog): void {
    const event = this.#event
    if (event === undefined) return
    const at = line.line
    const location = valuesOf(EEH_LOCATION, line)
    if (location !== undefined) {
      event.location = location.pe
      return
    }
    const caller = valuesOf(EEH_CALLER, line)
    if (caller !== undefined) {
      event.called(caller.function, at)
      return
    }
    const times = valuesOf(EEH_TIMES, line)
    if (times !== undefined) {
      event.times = times.times
      event.most = Number(/after (\d{1,9}) failures/.exec(times.more)?.[1] ?? 0)
      return
    }
    const invoked = valuesOf(EEH_INVOKING, line) ?? valuesOf(EEH_INVOKING_OLD, line)
    const reports = valuesOf(EEH_REPORTS, line) ?? valuesOf(EEH_REPORTS_OLD, line)
    const ignored = valuesOf(EEH_IGNORED, line) ?? valuesOf(EEH_IGNORED_OLD, line)
    const named = invoked ?? reports ?? ignored
    if (named !== undefined) {
      const driver =
        invoked === undefined ? (reports?.driver ?? ignored?.driver) : DRIVER.exec(invoked.call)?.[1]
      event.named(shortDevice(named.device), driver, at)
      if (reports !== undefined) event.answered(reports.answer, at)
      if (ignored !== undefined)
        event.steps.push({ line: at, text: `${ignored.reads} reads were ignored: its driver may loop` })
      return
    }
    const outcome =
      valuesOf(EEH_RECOVERED, line) !== undefined
        ? 'recovered'
        : valuesOf(EEH_DISABLED, line) !== undefined
          ? 'disabled after too many failures in an hour'
          : valuesOf(EEH_UNABLE, line) !== undefined
            ? 'given up: its devices were removed'
            : undefined
    if (outcome === undefined) return
    event.outcome = `${outcome} (line ${at})`
    this.end(log)
  }
}
