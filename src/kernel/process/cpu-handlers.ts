import type { CallHandler, Value } from '../../bits/answer.ts'
import { bytesOf } from '../../bits/byte-text.ts'
import type { TaskCalls } from '../task-calls.ts'
import { CPU_LOAD, CPU_STORE } from './cpu-calls.ts'
import { loadWork, storeWork } from './cpu-steps.ts'
import type { Process, Processes } from './processes.ts'

type Args = Readonly<Record<string, Value>>

const BYTES_MOST = 65_536

/** The handlers of verb `cpu`. */
export function cpuHandlers(processes: Processes, calls: TaskCalls): CallHandler[] {
  const find = (args: Args): Process | undefined => processes.find(args['process'] as string | undefined)
  return [
    calls.handler(CPU_LOAD, (args) => {
      const process = find(args)
      if (process === undefined) return 'no-such-process'
      const bytes = Number(args['bytes'])
      if (bytes > BYTES_MOST) return 'too-long'
      const works = [loadWork(process.mm, args['address'] as bigint, bytes)]
      return { process: process.name, works }
    }),
    calls.handler(CPU_STORE, (args) => {
      const process = find(args)
      if (process === undefined) return 'no-such-process'
      const data = bytesOf(args['data'] as string)
      if (data.length > BYTES_MOST) return 'too-long'
      const works = [storeWork(process.mm, args['address'] as bigint, data)]
      return { process: process.name, works }
    }),
  ]
}
