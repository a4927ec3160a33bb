import {
  type Answer,
  answerOf,
  type CallHandler,
  dead,
  type LayerAnswer,
  unmodelled,
  type Value,
} from '../../bits/answer.ts'
import type { CallDecl } from '../../bits/call.ts'
import { hiOf, loOf, wordOf } from '../../bits/u64.ts'
import { type HcallExit, NO_ANSWER } from '../ports.ts'
import { KVM_H_GET_TCE, KVM_H_PUT_TCE, KVM_H_PUT_TCE_INDIRECT, KVM_H_STUFF_TCE } from './hcall-calls.ts'
import { NOT_ASKED, UNMODELLED } from './hcall-results.ts'
import { KvmHcalls } from './hcalls.ts'
import type { Kvm } from './kvm.ts'
import type { KvmVcpu, KvmVm } from './kvm-vm.ts'

type Args = Readonly<Record<string, Value>>

const hi = (args: Args, name: string): number => hiOf(args[name] as bigint)
const lo = (args: Args, name: string): number => loOf(args[name] as bigint)

/** Arguments that the record of a call shows. */
const SHOWN = ['liobn', 'ioba', 'tce', 'list', 'value', 'npages'] as const

const STOPPED = 'the kernel of the host has stopped'

/** The VM whose guest makes a call: that of a VCPU which a process has open. */
function vmOf({ processes, files }: Kvm, args: Args): KvmVm | undefined {
  const process = processes.find(args['process'] as string | undefined)
  if (process === undefined) return undefined
  const vcpu = args['vcpu'] as bigint | undefined
  const file =
    vcpu === undefined ? files.lowest(process.name, 'vcpu') : files.find(process.name, Number(vcpu))
  return file?.target.kind === 'vcpu' ? (file.target as KvmVcpu).vm : undefined
}

/** The layer of an answer that a hypercall got in real mode. */
export const REAL_MODE = 'kvm-real'

const saidInRealMode = ({ family, answers }: CallDecl, place: number): LayerAnswer => {
  const { code, rule } = answers[place] as CallDecl['answers'][number]
  return { layer: REAL_MODE, family, code, rule }
}

/** What KVM answers a guest, or leaves to user space: `place` is that of the declaration. */
function answered(decl: CallDecl, port: KvmHcalls, place: number): Answer {
  const r4 = wordOf(port.r4Hi, port.r4Lo)
  const { code } = decl.answers[place] as CallDecl['answers'][number]
  const outputs = decl === KVM_H_GET_TCE && code === 'H_SUCCESS' ? { r4, tce: r4 } : { r4 }
  if (isReal(port, code)) {
    return {
      ...answerOf(decl, place, { outputs }),
      layer: REAL_MODE,
      layers: [saidInRealMode(decl, place)],
    }
  }
  const layers = port.realPlace === NOT_ASKED ? [] : [saidInRealMode(decl, port.realPlace)]
  return answerOf(decl, place, { outputs, layers })
}

/** What real mode cannot do, virtual mode has tried as well. */
const isReal = (port: KvmHcalls, code: string): boolean => port.inRealMode && code !== 'H_TOO_HARD'

/** The hypercall goes on in user space, with its own arguments. */
function inUserSpace(
  exit: HcallExit,
  decl: CallDecl,
  args: Args,
  layers: readonly LayerAnswer[] = [],
): Answer {
  const own = SHOWN.filter((name) => Object.hasOwn(decl.args, name))
  const answer = exit.answer(decl.name, Object.fromEntries(own.map((name) => [name, args[name] as Value])))
  return { ...answer, layers: [...layers, ...answer.layers] }
}

/**
 * The hypercalls of guests as operations. An answer of H_TOO_HARD is never the guest's: the call goes on in the process
 * that runs the guest, where the machine has one, and is else left to the next step of a scenario.
 */
export function hcallHandlers(kvm: Kvm): CallHandler[] {
  const port = new KvmHcalls(kvm)
  const { stage } = kvm.processes.host
  const handler = (decl: CallDecl, call: (vm: KvmVm, args: Args) => number): CallHandler => {
    const tags = stage.tag(decl)
    const realTags = stage.tag({ ...decl, layer: REAL_MODE })
    const shown = SHOWN.filter((name) => Object.hasOwn(decl.args, name))
    return {
      decl,
      run(args): Answer {
        const vm = vmOf(kvm, args)
        const exit = kvm.exitOf(args['process'] as string | undefined, vm)
        if (vm === undefined) {
          if (exit !== null) return inUserSpace(exit, decl, args)
          return unmodelled('a hypercall of a process that has no such VCPU')
        }
        const lanes = shown.flatMap((name) => [lo(args, name), hi(args, name)])
        const before = stage.enter(tags, ...lanes)
        const place = call(vm, args)
        const { kernel } = kvm.processes
        // A kill that never ends is only known by the kernel.
        if (place === NO_ANSWER || place === UNMODELLED || kernel?.isDead === true) {
          stage.cause = before
          return place === UNMODELLED ? unmodelled(port.why) : dead(kernel?.why || STOPPED)
        }
        const { r4Hi, r4Lo, realPlace, written } = port
        if (written > 0) {
          const { firstWritten } = port
          exit?.kernelWrote(hi(args, 'liobn'), lo(args, 'liobn'), firstWritten, written)
          kvm.vhosts.wrote(vm, hi(args, 'liobn'), lo(args, 'liobn'), firstWritten, written)
        }
        const answer = answered(decl, port, place)
        if (realPlace !== NOT_ASKED) stage.leave(realTags, stage.cause, realPlace, r4Lo, r4Hi)
        const last = isReal(port, answer.code) ? realTags : tags
        if (answer.code !== 'H_TOO_HARD' || exit === null) {
          stage.leave(last, before, place, r4Lo, r4Hi)
          return answer
        }
        stage.leave(last, stage.cause, place, r4Lo, r4Hi)
        const final = inUserSpace(exit, decl, args, answer.layers)
        stage.cause = before
        return final
      },
    }
  }
  const at = (a: Args) => [hi(a, 'liobn'), lo(a, 'liobn'), hi(a, 'ioba'), lo(a, 'ioba')] as const
  const pages = (a: Args) => [hi(a, 'npages'), lo(a, 'npages')] as const
  return [
    handler(KVM_H_PUT_TCE, (vm, a) => port.putTce(vm, ...at(a), hi(a, 'tce'), lo(a, 'tce'))),
    handler(KVM_H_PUT_TCE_INDIRECT, (vm, a) =>
      port.putTceIndirect(vm, ...at(a), hi(a, 'list'), lo(a, 'list'), ...pages(a)),
    ),
    handler(KVM_H_STUFF_TCE, (vm, a) =>
      port.stuffTce(vm, ...at(a), hi(a, 'value'), lo(a, 'value'), ...pages(a)),
    ),
    handler(KVM_H_GET_TCE, (vm, a) => port.getTce(vm, ...at(a))),
  ]
}
