import { type Answer, answerOf, type CallHandler, dead, unmodelled, type Value } from '../../bits/answer.ts'
import { type CallDecl, type RuleOf, rulesOf } from '../../bits/call.ts'
import { loOf } from '../../bits/u64.ts'
import type { LiobnMap } from '../../hw/liobn-map.ts'
import type { HcallExit } from '../ports.ts'
import {
  CREATE_PE_DMA_WINDOW,
  QUERY_PE_DMA_WINDOW,
  REMOVE_PE_DMA_WINDOW,
  RESET_PE_DMA_WINDOW,
} from './calls.ts'
import { hcallHandlers } from './hcall-handlers.ts'
import { rtasHandlers } from './rtas-handlers.ts'
import type { SpaprHcalls } from './spapr-hcalls.ts'
import type { SpaprRtas } from './spapr-rtas.ts'
import type { Vmm } from './vmm.ts'
import { VMM_DEVICE_ADD, VMM_DEVICE_DEL, VMM_START, VMM_SYSTEM_RESET } from './vmm-calls.ts'

type Args = Readonly<Record<string, Value>>

/** What a guest that does not run answers. */
export const absent = ({ qemu }: Vmm): Answer =>
  qemu.hasEnded
    ? dead('the process of the guest has ended')
    : unmodelled('the guest has not been started: vmm: start')

/** RTAS calls that QEMU answers here as it does elsewhere; those for EEH reach into VFIO, which is not modelled. */
const RTAS_CALLS: readonly CallDecl[] = [
  QUERY_PE_DMA_WINDOW,
  CREATE_PE_DMA_WINDOW,
  REMOVE_PE_DMA_WINDOW,
  RESET_PE_DMA_WINDOW,
]

/**
 * What QEMU has printed on the way belongs to the answer; a QEMU that is gone answers nothing, and one that went on from
 * an answer that is not known is not known either.
 */
export function withOutput({ qemu }: Vmm, answer: Answer): Answer {
  const { printed, unknown } = qemu.takeOutput()
  if (unknown !== undefined) return unmodelled(unknown)
  const said = qemu.life.isDead ? dead(qemu.life.why) : answer
  return printed.length === 0 ? said : { ...said, warnings: [...said.warnings, ...printed] }
}

/** Commands to QEMU as operations. */
function commandHandlers(vmm: Vmm): CallHandler[] {
  const { stage, life } = vmm.qemu
  const handler = <D extends CallDecl>(decl: D, run: (args: Args) => RuleOf<D>): CallHandler => {
    const tags = stage.tag(decl)
    const rules = rulesOf(decl) as Readonly<Record<string, number>>
    return {
      decl,
      run(args) {
        if (life.isDead) return dead(life.why)
        const before = stage.enter(tags, loOf((args['group'] ?? 0n) as bigint))
        const place = rules[run(args)] as number
        if (life.isDead) stage.cause = before
        else stage.leave(tags, before, place)
        return withOutput(vmm, answerOf(decl, place))
      },
    }
  }
  return [
    handler(VMM_START, () => vmm.start()),
    handler(VMM_SYSTEM_RESET, () => vmm.reset()),
    handler(VMM_DEVICE_ADD, ({ group, phb }) => vmm.add(Number(group), phb as string | undefined)),
    handler(VMM_DEVICE_DEL, ({ group }) => vmm.remove(Number(group))),
  ]
}

/** All that a QEMU on a POWER host answers but hypercalls, which reach it through KVM. */
export function vmmHandlers(vmm: Vmm, rtas: SpaprRtas): CallHandler[] {
  const calls = rtasHandlers(rtas, vmm.qemu.life).filter(({ decl }) => RTAS_CALLS.includes(decl))
  const whileThere = calls.map(
    ({ decl, run }): CallHandler => ({
      decl,
      run: (args) => withOutput(vmm, vmm.qemu.isRunning ? run(args) : absent(vmm)),
    }),
  )
  return [...commandHandlers(vmm), ...whileThere]
}

/** Where hypercalls of the guest end that the kernel leaves to user space. */
export function hcallExit(vmm: Vmm, hcalls: SpaprHcalls, liobns: LiobnMap): HcallExit {
  const handlers = new Map(hcallHandlers(hcalls, vmm.qemu.life).map((h) => [h.decl.name, h]))
  return {
    answer(call, args) {
      const handler = handlers.get(call)
      if (handler === undefined) throw new Error(`model bug: QEMU has no ${call}`)
      return withOutput(vmm, vmm.qemu.isRunning ? handler.run(args) : absent(vmm))
    },
    kernelWrote(liobnHi, liobnLo, first, count) {
      const table = liobns.find(liobnHi, liobnLo)
      if (table !== undefined && table.window !== null) table.wroteElsewhere(first, count)
    },
  }
}
