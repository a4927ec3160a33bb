import { type Answer, answerOf, type CallHandler, type Value } from '../../bits/answer.ts'
import { rulesOf } from '../../bits/call.ts'
import { IommulatorError } from '../../bits/errors.ts'
import type { Stage } from '../../trace/stage.ts'
import { EEH_CHECK_FAILURE, READ_EEH_PE_STATE } from './calls.ts'
import type { Eeh } from './eeh.ts'
import { stateOf } from './pe-control.ts'

type Args = Readonly<Record<string, Value>>
const READ = rulesOf(READ_EEH_PE_STATE)

function deviceIn(eeh: Eeh, args: Args): string {
  const name = args['device'] as string
  if (eeh.knows(name)) return name
  throw new IommulatorError('ERR_OPERATION', `no device is called "${name}"`, { field: 'device' })
}

/**
 * The calls of EEH, as operations.
 *
 * @throws IommulatorError ERR_OPERATION where no device has the name
 */
export function eehHandlers(eeh: Eeh, stage: Stage): CallHandler[] {
  const [check, read] = [stage.tag(EEH_CHECK_FAILURE), stage.tag(READ_EEH_PE_STATE)]
  return [
    {
      decl: EEH_CHECK_FAILURE,
      run(args): Answer {
        const name = deviceIn(eeh, args)
        const before = stage.enter(check)
        return answerOf(EEH_CHECK_FAILURE, stage.leave(check, before, eeh.check(name)))
      },
    },
    {
      decl: READ_EEH_PE_STATE,
      run(args): Answer {
        const name = deviceIn(eeh, args)
        const before = stage.enter(read)
        const pe = eeh.peOf(name)
        if (eeh.device(name)?.isPresent !== true) {
          return answerOf(READ_EEH_PE_STATE, stage.leave(read, before, READ['no-device']))
        }
        if (!eeh.isEnabled) return answerOf(READ_EEH_PE_STATE, stage.leave(read, before, READ['eeh-off']))
        if (pe === null) return answerOf(READ_EEH_PE_STATE, stage.leave(read, before, READ['no-pe']))
        const firmware = stateOf(pe)
        const outputs = { firmware: BigInt(firmware), kernel: BigInt(pe.state) }
        return answerOf(READ_EEH_PE_STATE, stage.leave(read, before, READ.done, firmware), { outputs })
      },
    },
  ]
}
