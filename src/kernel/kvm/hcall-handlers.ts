import { type Answer, answerOf, type CallHandler, dead, unmodelled, type Value } from '../../bits/answer.ts'
import type { CallDecl } from '../../bits/call.ts'
import { hiOf, loOf, wordOf } from '../../bits/u64.ts'
import { NO_ANSWER } from '../ports.ts'
import { KVM_H_GET_TCE, KVM_H_PUT_TCE, KVM_H_PUT_TCE_INDIRECT, KVM_H_STUFF_TCE } from './hcall-calls.ts'
import { KvmHcalls, UNMODELLED } from './hcalls.ts'
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

/**
 * The hypercalls of guests as operations. An answer of H_TOO_HARD is never the guest's: user space answers the call,
 * which is the next step of a scenario.
 */
export function hcallHandlers(kvm: Kvm): CallHandler[] {
  const port = new KvmHcalls(kvm)
  const { stage } = kvm.processes.host
  const handler = (decl: CallDecl, call: (vm: KvmVm, args: Args) => number): CallHandler => {
    const tags = stage.tag(decl)
    const shown = SHOWN.filter((name) => Object.hasOwn(decl.args, name))
    return {
      decl,
      run(args): Answer {
        const vm = vmOf(kvm, args)
        if (vm === undefined) return unmodelled('a hypercall of a process that has no such VCPU')
        const lanes = shown.flatMap((name) => [lo(args, name), hi(args, name)])
        const before = stage.enter(tags, ...lanes)
        const place = call(vm, args)
        const { kernel } = kvm.processes
        // A kill that never ends is only known by the kernel.
        if (place === NO_ANSWER || place === UNMODELLED || kernel?.isDead === true) {
          stage.cause = before
          return place === UNMODELLED ? unmodelled(port.why) : dead(kernel?.why || STOPPED)
        }
        stage.leave(tags, before, place, port.r4Lo, port.r4Hi)
        const r4 = wordOf(port.r4Hi, port.r4Lo)
        const isRead = decl === KVM_H_GET_TCE && decl.answers[place]?.code === 'H_SUCCESS'
        return answerOf(decl, place, { outputs: isRead ? { r4, tce: r4 } : { r4 } })
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
