import { answerOf, type CallHandler, dead, type Value } from '../../bits/answer.ts'
import type { CallDecl } from '../../bits/call.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { hex, hiOf, loOf, wordOf } from '../../bits/u64.ts'
import type { Life } from '../../hw/life.ts'
import { NO_ANSWER } from '../ports.ts'
import { H_GET_TCE, H_PUT_TCE, H_PUT_TCE_INDIRECT, H_STUFF_TCE, H_UNKNOWN } from './calls.ts'
import type { SpaprHcalls } from './spapr-hcalls.ts'

type Args = Readonly<Record<string, Value>>

const hi = (args: Args, name: string): number => hiOf(args[name] as bigint)
const lo = (args: Args, name: string): number => loOf(args[name] as bigint)

const NAMES = new Map(
  [H_PUT_TCE, H_PUT_TCE_INDIRECT, H_STUFF_TCE, H_GET_TCE].map((d) => [BigInt(d.nr ?? 0), d.name]),
)

function refuseKnown(args: Args): void {
  const name = NAMES.get(args['opcode'] as bigint)
  if (name === undefined) return
  throw new IommulatorError(
    'ERR_OPERATION',
    `hypercall ${hex(args['opcode'] as bigint)} is ${name}: call it by name`,
  )
}

/** The hypercalls as operations: words of 64 bits on the outside, lanes on the inside. */
export function hcallHandlers(port: SpaprHcalls, life: Life): CallHandler[] {
  const handler = (decl: CallDecl, call: (args: Args) => number): CallHandler => ({
    decl,
    run(args) {
      const code = call(args)
      if (code === NO_ANSWER) return dead(life.why)
      const r4 = wordOf(port.r4Hi, port.r4Lo)
      const outputs: Record<string, Value> = { r4 }
      if (decl === H_GET_TCE && code === 0) outputs['tce'] = r4
      return answerOf(decl, port.rule, { outputs })
    },
  })
  const at = (a: Args) => [hi(a, 'liobn'), lo(a, 'liobn'), hi(a, 'ioba'), lo(a, 'ioba')] as const
  const pages = (a: Args) => [hi(a, 'npages'), lo(a, 'npages')] as const
  return [
    handler(H_PUT_TCE, (a) => port.putTce(...at(a), hi(a, 'tce'), lo(a, 'tce'))),
    handler(H_PUT_TCE_INDIRECT, (a) =>
      port.putTceIndirect(...at(a), hi(a, 'list'), lo(a, 'list'), ...pages(a)),
    ),
    handler(H_STUFF_TCE, (a) => port.stuffTce(...at(a), hi(a, 'value'), lo(a, 'value'), ...pages(a))),
    handler(H_GET_TCE, (a) => port.getTce(...at(a))),
    handler(H_UNKNOWN, (a) => {
      refuseKnown(a)
      return port.unknown(hi(a, 'opcode'), lo(a, 'opcode'), hi(a, 'r4'), lo(a, 'r4'))
    }),
  ]
}
