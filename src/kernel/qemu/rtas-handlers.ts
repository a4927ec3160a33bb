import { type Answer, answerOf, type CallHandler, dead, unmodelled, type Value } from '../../bits/answer.ts'
import type { CallDecl } from '../../bits/call.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { hex, hiOf, loOf } from '../../bits/u64.ts'
import type { Life } from '../../hw/life.ts'
import { NO_ANSWER } from '../ports.ts'
import {
  CREATE_PE_DMA_WINDOW,
  QUERY_PE_DMA_WINDOW,
  REMOVE_PE_DMA_WINDOW,
  RESET_PE_DMA_WINDOW,
  RTAS_UNKNOWN,
} from './calls.ts'
import {
  CONFIGURE_PE,
  EEH_RTAS_CALLS,
  GET_CONFIG_ADDR_INFO2,
  READ_SLOT_RESET_STATE2,
  SET_EEH_OPTION,
  SET_SLOT_RESET,
  SLOT_ERROR_DETAIL,
} from './eeh-calls.ts'
import { largestOf, type SpaprRtas } from './spapr-rtas.ts'

type Args = Readonly<Record<string, Value>>

const cell = (args: Args, name: string): number => Number(args[name] ?? 0n)

/** cfg_addr and the two halves of the BUID: how most of the calls begin. */
const device = (args: Args): number[] => {
  const buid = args['buid'] as bigint
  return [cell(args, 'cfg_addr'), hiOf(buid) >>> 0, loOf(buid) >>> 0]
}

const withOption = (args: Args): number[] => [...device(args), cell(args, 'option')]
/** Buffers of ibm,slot-error-detail, in their order. */
const LOGS = ['driver_log', 'driver_log_bytes', 'error_log', 'error_log_bytes']

const NAMES = new Map(
  [
    QUERY_PE_DMA_WINDOW,
    CREATE_PE_DMA_WINDOW,
    REMOVE_PE_DMA_WINDOW,
    RESET_PE_DMA_WINDOW,
    ...EEH_RTAS_CALLS,
  ].map((d) => [d.nr, d.name]),
)

function refuseKnown(args: Args): number[] {
  const name = NAMES.get(cell(args, 'token'))
  if (name === undefined) return []
  throw new IommulatorError(
    'ERR_OPERATION',
    `RTAS token ${hex(cell(args, 'token'))} is ${name}: call it by name`,
  )
}

/** The RTAS calls as operations: arguments by name on the outside, cells on the inside. */
export function rtasHandlers(rtas: SpaprRtas, life: Life): CallHandler[] {
  const handler = (
    decl: CallDecl,
    cells: (args: Args) => number[],
    outputs: (outs: readonly number[]) => Record<string, Value>,
  ): CallHandler => ({
    decl,
    run(args): Answer {
      const token = decl.nr ?? cell(args, 'token')
      const counts = { nargs: cell(args, 'nargs'), nret: cell(args, 'nret') }
      const [status] = rtas.counted(token, cells(args), counts)
      if (status === NO_ANSWER) return life.isDead ? dead(life.why) : unmodelled(rtas.notKnown)
      return answerOf(decl, rtas.rule, { outputs: status === 0 ? outputs(rtas.outs) : {} })
    },
  })
  const word = (n: number | undefined): bigint => BigInt(n ?? 0)
  return [
    handler(QUERY_PE_DMA_WINDOW, device, (outs) => ({
      windows: word(outs[0]),
      largest: largestOf(outs),
      page_sizes: word(outs.at(-2)),
      migration: word(outs.at(-1)),
    })),
    handler(
      CREATE_PE_DMA_WINDOW,
      (args) => [...device(args), cell(args, 'page_shift'), cell(args, 'window_shift')],
      ([liobn, hi, lo]) => ({ liobn: word(liobn), addr_hi: word(hi), addr_lo: word(lo) }),
    ),
    handler(
      REMOVE_PE_DMA_WINDOW,
      (args) => [cell(args, 'liobn')],
      () => ({}),
    ),
    handler(RESET_PE_DMA_WINDOW, device, () => ({})),
    handler(SET_EEH_OPTION, withOption, () => ({})),
    handler(GET_CONFIG_ADDR_INFO2, withOption, ([info]) => ({ info: word(info) })),
    handler(READ_SLOT_RESET_STATE2, device, ([state, support, unavailable, recovery]) => ({
      state: word(state),
      support: word(support),
      unavailable_ms: word(unavailable),
      ...(recovery !== undefined && { recovery: word(recovery) }),
    })),
    handler(SET_SLOT_RESET, withOption, () => ({})),
    handler(CONFIGURE_PE, device, () => ({})),
    handler(
      SLOT_ERROR_DETAIL,
      (args) => [...device(args), ...LOGS.map((name) => cell(args, name)), cell(args, 'option')],
      () => ({}),
    ),
    handler(RTAS_UNKNOWN, refuseKnown, () => ({})),
  ]
}
