import type { CallHandler } from '../../bits/answer.ts'
import type { RuleOf } from '../../bits/call.ts'
import { ERRNO_CODES } from '../../bits/codes.ts'
import { PE_RESET } from '../../hw/pe-firmware.ts'
import { EEH_OPTION, EEH_PE_STATE, type EehPort } from '../eeh-port.ts'
import { type Outcome, unknown } from '../outcome.ts'
import { NO_ANSWER } from '../ports.ts'
import type { StructCall } from '../process-call.ts'
import { PE_OP, VFIO_EEH_PE_OP } from './eeh-calls.ts'
import { STRUCTS } from './structs.ts'
import type { Vfio } from './vfio.ts'
import { driverOf, vfioHandler } from './vfio-call.ts'

type Rule = RuleOf<typeof VFIO_EEH_PE_OP>
const { OK, ENOENT, EIO, EINVAL, ERANGE } = ERRNO_CODES
/** Bytes up to the operation, without the error to inject. */
const HEAD_BYTES = 12

const STATE_RULES: Readonly<Record<number, Rule>> = {
  [EEH_PE_STATE.NORMAL]: 'done',
  [EEH_PE_STATE.RESET]: 'state-reset',
  [EEH_PE_STATE.STOPPED_IO_DMA]: 'state-stopped',
  [EEH_PE_STATE.STOPPED_DMA]: 'state-dma-stopped',
  [EEH_PE_STATE.UNAVAIL]: 'state-unavailable',
}
const INJECT_RULES: Readonly<Record<number, Rule>> = {
  [OK]: 'done',
  [EIO]: 'inject-failed',
  [ENOENT]: 'inject-unsupported',
  [EINVAL]: 'inject-refused',
  [ERANGE]: 'inject-type-refused',
}

/** What a result means: done, the rule that refuses, or that the kernel would sleep in the call. */
function outcomeOf(code: number, refused: Rule): Outcome<Rule> {
  if (code === NO_ANSWER) return unknown('firmware asks the kernel to wait within VFIO_EEH_PE_OP')
  return code === OK ? 'done' : refused
}

function inject(eeh: EehPort, group: number, call: StructCall): Outcome<Rule> {
  const { struct } = call
  const { bytes } = STRUCTS.eehOp
  if (struct.get('argsz') < BigInt(bytes)) return 'inject-argsz-short'
  if (!struct.copyIn(bytes)) return 'inject-bad-pointer'
  const code = eeh.inject(group, {
    type: Number(struct.get('type')),
    func: Number(struct.get('func')),
    address: struct.get('addr'),
    mask: struct.get('mask'),
  })
  return INJECT_RULES[code] ?? unknown('what firmware makes of an injected error')
}

function operate(eeh: EehPort, group: number, op: number, call: StructCall): Outcome<Rule> {
  switch (op) {
    case PE_OP.DISABLE:
      return outcomeOf(eeh.setOption(group, EEH_OPTION.DISABLE), 'still-frozen')
    case PE_OP.ENABLE:
      return outcomeOf(eeh.setOption(group, EEH_OPTION.ENABLE), eeh.isEnabled ? 'still-frozen' : 'eeh-off')
    case PE_OP.UNFREEZE_IO:
      return outcomeOf(eeh.setOption(group, EEH_OPTION.THAW_MMIO), 'still-frozen')
    case PE_OP.UNFREEZE_DMA:
      return outcomeOf(eeh.setOption(group, EEH_OPTION.THAW_DMA), 'still-frozen')
    case PE_OP.GET_STATE:
      return STATE_RULES[eeh.stateOf(group)] as Rule
    case PE_OP.RESET_DEACTIVATE:
      return outcomeOf(eeh.reset(group, PE_RESET.DEACTIVATE), 'still-frozen')
    case PE_OP.RESET_HOT:
      return outcomeOf(eeh.reset(group, PE_RESET.HOT), 'reset-failed')
    case PE_OP.RESET_FUNDAMENTAL:
      return outcomeOf(eeh.reset(group, PE_RESET.FUNDAMENTAL), 'reset-failed')
    case PE_OP.CONFIGURE:
      return outcomeOf(eeh.configure(group), 'still-frozen')
    case PE_OP.INJECT_ERR:
      return inject(eeh, group, call)
    default:
      return 'op-unknown'
  }
}

function peOp(eeh: EehPort | null, group: number, call: StructCall): Outcome<Rule> {
  if (eeh === null || !eeh.hasPe(group)) return 'no-pe'
  const copied = call.copyIn(HEAD_BYTES)
  if (copied !== 'done') return copied
  if (call.struct.get('flags') !== 0n) return 'flags-unknown'
  return operate(eeh, group, Number(call.struct.get('op')), call)
}

/** The calls of a container that go to the kernel's error handling of PCI. */
export function eehOpHandlers(vfio: Vfio): CallHandler[] {
  return [
    vfioHandler(
      vfio,
      VFIO_EEH_PE_OP,
      (call) => {
        const driver = driverOf(vfio, call)
        if (typeof driver === 'string' || 'stop' in driver) return driver
        for (const { group } of driver.groups) {
          const outcome = peOp(vfio.eeh, group, call as StructCall)
          if (outcome !== 'done') return outcome
        }
        return 'done'
      },
      STRUCTS.eehOp,
    ),
  ]
}
