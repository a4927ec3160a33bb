import type { CallHandler, Value } from '../../bits/answer.ts'
import type { CallDecl, RuleOf } from '../../bits/call.ts'
import { VM } from '../process-port.ts'
import { type Work, work } from '../steps.ts'
import type { Beginning, TaskCalls } from '../task-calls.ts'
import { exitWorks } from './life-steps.ts'
import { mmapSem, pageOfAddress } from './mm-struct.ts'
import type { OpenFiles } from './open-files.ts'
import type { Process, Processes } from './processes.ts'
import {
  SYS_CLOSE,
  SYS_DUP,
  SYS_EXECVE,
  SYS_EXIT,
  SYS_FILE,
  SYS_FORK,
  SYS_IOCTL,
  SYS_MMAP,
  SYS_MPROTECT,
  SYS_MUNMAP,
  SYS_OPEN,
  SYS_PAGEMAP,
  SYS_STATE,
} from './sys-calls.ts'
import { TASK_PAGES } from './vmas.ts'

type Args = Readonly<Record<string, Value>>

const PAGE_BYTES = 4096n
const TASK_BYTES = BigInt(TASK_PAGES) * PAGE_BYTES
const WRAP = 1n << 64n

const big = (args: Args, name: string): bigint => (args[name] ?? 0n) as bigint
const text = (args: Args, name: string): string => args[name] as string
const bit = (args: Args, name: string): 0 | 1 => (args[name] === true ? 1 : 0)
const rounded = (bytes: bigint): bigint => ((bytes + PAGE_BYTES - 1n) / PAGE_BYTES) * PAGE_BYTES
const flagsOf = (args: Args): number =>
  (args['read'] === true ? VM.READ : 0) |
  (args['write'] === true ? VM.WRITE : 0) |
  (args['execute'] === true ? VM.EXEC : 0)

/** What the calls of processes are made by. */
export interface SysParts {
  readonly processes: Processes
  readonly files: OpenFiles
  readonly calls: TaskCalls
}

/** The handlers of verb `sys`. */
export function sysHandlers({ processes, files, calls }: SysParts): CallHandler[] {
  const handler = <D extends CallDecl>(
    decl: D,
    begin: (process: Process, args: Args) => readonly Work[] | RuleOf<D>,
  ): CallHandler =>
    calls.handler(decl, (args): Beginning<RuleOf<D>> => {
      const process = processes.find(args['process'] as string | undefined)
      if (process === undefined) return 'no-such-process' as RuleOf<D>
      const works = begin(process, args)
      return typeof works === 'string' ? works : { process: process.name, works }
    })

  return [
    handler(SYS_FORK, (_process, args) => [work('copy_files', text(args, 'child'))]),
    handler(SYS_MMAP, ({ name, mm }, args) => {
      const fd = args['fd']
      const file = fd === undefined ? '' : files.at(name, Number(fd))
      if (file === undefined) return 'bad-fd'
      const bytes = big(args, 'bytes')
      if (bytes === 0n) return 'empty'
      if (rounded(bytes) >= WRAP) return 'bytes-wrap'
      const pages = Number(rounded(bytes) / PAGE_BYTES)
      const where = [big(args, 'address'), pages, bit(args, 'fixed')] as const
      const how = [flagsOf(args), bit(args, 'shared'), bit(args, 'growsdown'), file] as const
      return [work('lock', mmapSem(mm)), work('do_mmap', mm, ...where, ...how)]
    }),
    handler(SYS_MUNMAP, ({ mm }, args) => {
      const [address, bytes] = [big(args, 'address'), big(args, 'bytes')]
      if (address % PAGE_BYTES !== 0n) return 'unaligned'
      if (address > TASK_BYTES || bytes > TASK_BYTES - address) return 'past-end'
      if (bytes === 0n) return 'empty'
      const first = pageOfAddress(address)
      const end = first + Number(rounded(bytes) / PAGE_BYTES)
      return [work('lock', mmapSem(mm)), work('do_munmap', mm, first, end)]
    }),
    handler(SYS_MPROTECT, ({ mm }, args) => {
      const [address, bytes] = [big(args, 'address'), big(args, 'bytes')]
      if (address % PAGE_BYTES !== 0n) return 'unaligned'
      if (bytes === 0n) return 'empty'
      if (rounded(bytes) >= WRAP || address + rounded(bytes) >= WRAP) return 'range-wraps'
      const first = pageOfAddress(address)
      const end = first + Number(rounded(bytes) / PAGE_BYTES)
      return [work('lock', mmapSem(mm)), work('do_mprotect', mm, first, end, flagsOf(args))]
    }),
    handler(SYS_OPEN, (_process, args) => [work('sys_open', text(args, 'path'), bit(args, 'cloexec'))]),
    handler(SYS_DUP, (_process, args) => [work('sys_dup', big(args, 'fd'))]),
    handler(SYS_CLOSE, (_process, args) => [work('sys_close', big(args, 'fd'))]),
    handler(SYS_IOCTL, (_process, args) => {
      const request = text(args, 'request')
      return [work('sys_ioctl', big(args, 'fd'), request, big(args, request === 'bind' ? 'flags' : 'pasid'))]
    }),
    handler(SYS_PAGEMAP, ({ mm }, args) => [work('sys_pagemap', mm, big(args, 'address'))]),
    calls.handler(SYS_STATE, (args): Beginning<RuleOf<typeof SYS_STATE>> => {
      const mm = (args['mm'] ?? processes.find(args['process'] as string | undefined)?.mm) as
        | string
        | undefined
      return mm === undefined ? 'no-such-process' : { process: '', works: [work('sys_state', mm)] }
    }),
    calls.handler(
      SYS_FILE,
      (args): Beginning<RuleOf<typeof SYS_FILE>> => ({
        process: '',
        works: [work('sys_file', text(args, 'file'))],
      }),
    ),
    handler(SYS_EXECVE, () => [work('execve')]),
    handler(SYS_EXIT, ({ name }) => exitWorks(name)),
  ]
}
