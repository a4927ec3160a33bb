import type { CallHandler, Value } from '../../../bits/answer.ts'
import { IommulatorError } from '../../../bits/errors.ts'
import { type Work, work } from '../../steps.ts'
import type { Begun, TaskCalls } from '../../task-calls.ts'
import { BIND_SUPERVISOR } from './bind-steps.ts'
import {
  SVA_BIND,
  SVA_DISABLE,
  SVA_ENABLE,
  SVA_IOPF_WORK,
  SVA_PAGE_RESPONSE,
  SVA_PRQ_EVENT_THREAD,
  SVA_UNBIND,
} from './calls.ts'
import type { SvaDriver } from './sva-driver.ts'

type Args = Readonly<Record<string, Value>>

const text = (args: Args, name: string): string => (args[name] as string | undefined) ?? ''

export interface SvaHandlerParts {
  readonly sva: SvaDriver
  readonly calls: TaskCalls
  /** The process that calls; undefined for the kernel. */
  readonly actor: () => string | undefined
}

/**
 * Shared virtual addresses as operations.
 *
 * @throws IommulatorError ERR_OPERATION for a bind that says neither which process nor that it is the kernel's
 */
export function svaHandlers({ sva, calls, actor }: SvaHandlerParts): CallHandler[] {
  const { driver } = sva.parts
  /** Nothing is looked at before the first step but what never changes: which devices there are. */
  const withDevice =
    (works: (device: string, args: Args) => readonly Work[]) =>
    (args: Args): Begun | 'device-unknown' => {
      const device = text(args, 'device')
      if (driver.device(device) === undefined) return 'device-unknown'
      return { process: actor() ?? '', works: works(device, args) }
    }
  return [
    calls.handler(
      SVA_ENABLE,
      withDevice((device) => [work('sva.enable', device)]),
    ),
    calls.handler(
      SVA_DISABLE,
      withDevice((device) => [work('sva.disable', device)]),
    ),
    calls.handler(
      SVA_BIND,
      withDevice((device, args) => {
        const isSupervisor = args['supervisor'] === true
        const process = text(args, 'process') || (isSupervisor ? '' : (actor() ?? ''))
        if (process === '' && !isSupervisor) {
          throw new IommulatorError('ERR_OPERATION', 'sva bind: no process is named, and none calls')
        }
        return sva.bindWorks(device, process, isSupervisor ? BIND_SUPERVISOR : 0)
      }),
    ),
    calls.handler(
      SVA_UNBIND,
      withDevice((device, args) => sva.unbindWorks(device, Number(args['pasid']))),
    ),
    calls.handler(SVA_PRQ_EVENT_THREAD, (_args, isLeft) => ({
      process: '',
      works: [work('sva.prq', isLeft ? 1 : 0)],
    })),
    calls.handler(SVA_IOPF_WORK, (args) => ({
      process: '',
      works: [work('sva.iopf', text(args, 'device'), Number(args['group'] ?? -1))],
    })),
    calls.handler(
      SVA_PAGE_RESPONSE,
      withDevice((device, args) => {
        const [pasid, group] = [Number(args['pasid']), Number(args['group'])]
        return [work('sva.respond', device, pasid, group, text(args, 'code'))]
      }),
    ),
  ]
}
