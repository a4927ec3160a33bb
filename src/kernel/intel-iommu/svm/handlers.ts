import type { CallHandler, Value } from '../../../bits/answer.ts'
import { type CallDecl, codesOf, rulesOf } from '../../../bits/call.ts'
import type { BindPort, ProcessPort } from '../../process-port.ts'
import { type Tasks, type Work, work } from '../../steps.ts'
import type { TaskCalls } from '../../task-calls.ts'
import type { VtdDriver } from '../vtd-driver.ts'
import { SVM_BIND, SVM_IS_VALID, SVM_THREAD, SVM_UNBIND, SVM_VFREE, SVM_VMALLOC } from './calls.ts'
import type { Svm } from './svm.ts'

type Args = Readonly<Record<string, Value>>

const text = (args: Args, name: string): string => (args[name] as string | undefined) ?? ''

/** Flags of a bind, as an ioctl of a device's driver passes them on. (Linux v4.9 include/linux/intel-svm.h) */
const FLAG = { PRIVATE: 1, SUPERVISOR: 2 } as const
/** What drivers are called back with that say nothing else. */
const USUAL_OPS = String(SVM_BIND.args.ops.initial)

export interface SvmCallParts {
  readonly svm: Svm
  readonly driver: VtdDriver
  readonly tasks: Tasks
  readonly calls: TaskCalls
  readonly processes: ProcessPort
  /** The process that acts; empty for the kernel itself. */
  readonly actor: () => string
}

/** What a kernel of 4.x does with shared virtual memory, as operations. */
export function svmHandlers({ svm, driver, tasks, calls, processes, actor }: SvmCallParts): CallHandler[] {
  tasks.define('svm end', {
    doc: 'the call of shared virtual memory has ended',
    run: (task) => {
      const { value } = task
      if (typeof value === 'string') task.finish(value)
      else task.finish('done', { pasid: BigInt(value) })
      return undefined
    },
  })
  const run = (works: readonly Work[]) => ({ process: actor(), works: [...works, work('svm end')] })
  return [
    calls.handler(SVM_BIND, (args) =>
      run(
        svm.binder.bind({
          device: text(args, 'device'),
          wantsPasid: args['pasid'] !== false,
          isPrivate: args['private'] === true,
          isKernel: args['supervisor'] === true,
          ops: text(args, 'ops'),
        }),
      ),
    ),
    calls.handler(SVM_UNBIND, (args) => run(svm.binder.unbind(text(args, 'device'), Number(args['pasid'])))),
    calls.handler(SVM_THREAD, (_args, isLeft) => {
      if (svm.queue === 0) return 'no-queue'
      if (!svm.thread.isWoken && !isLeft) return 'not-woken'
      return { process: '', works: svm.thread.run() }
    }),
    calls.handler(SVM_VMALLOC, (args) => {
      const pages = svm.ranges.pagesOf(args['bytes'] as bigint)
      return pages === 0 ? 'no-bytes' : { process: '', works: svm.ranges.allocate(pages) }
    }),
    calls.handler(SVM_VFREE, (args) => {
      const address = args['address'] as bigint
      return svm.ranges.has(address) ? { process: '', works: svm.ranges.free(address) } : 'no-area'
    }),
    calls.handler(SVM_IS_VALID, (args) => {
      if (driver.device(text(args, 'device')) === undefined) return 'no-unit'
      if (svm.tables.table === 0) return 'no-tables'
      const bound = svm.bindings.find(Number(args['pasid']))
      if (bound === undefined) return 'pasid-unknown'
      if (bound.mm === '') return 'kernel'
      return (processes.mm(bound.mm)?.users ?? 0) > 0 ? 'alive' : 'dead'
    }),
  ]
}

/** The number that a call of the kernel returns by a rule of a declaration; undefined where it has none such. */
function returnOf(decl: CallDecl, rule: string): number | undefined {
  const place = rulesOf(decl)[rule]
  return place === undefined ? undefined : codesOf(decl)[place]
}

/** Binds for the file of a device's driver. The value of the task is what the kernel's function returns. */
export function svmBindPort(svm: Svm, tasks: Tasks): BindPort {
  tasks.define('svm return', {
    doc: 'bind or unbind returns to the driver of the device',
    run: (task) => {
      const { value } = task
      if (typeof value === 'string') {
        task.value = returnOf(SVM_BIND, value) ?? returnOf(SVM_UNBIND, value) ?? 0
      }
      return undefined
    },
  })
  const end = work('svm return')
  return {
    bind: (_task, device, flags) => [
      ...svm.binder.bind({
        device,
        wantsPasid: true,
        isPrivate: (flags & FLAG.PRIVATE) !== 0,
        isKernel: (flags & FLAG.SUPERVISOR) !== 0,
        ops: USUAL_OPS,
      }),
      end,
    ],
    unbind: (_task, device, pasid) => [...svm.binder.unbind(device, pasid), end],
  }
}
