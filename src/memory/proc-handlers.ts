import type { CallHandler } from '../bits/answer.ts'
import { rulesOf } from '../bits/call.ts'
import { type Args, type Decision, handlerOf } from './handler.ts'
import {
  PROC_CAPSET,
  PROC_EXIT,
  PROC_FORK,
  PROC_MMAP,
  PROC_MPROTECT,
  PROC_MUNMAP,
  PROC_SETRLIMIT,
  PROC_STATUS,
} from './proc-calls.ts'
import type { Process, ProcessTable } from './process.ts'

const MMAP_DONE = rulesOf(PROC_MMAP).done
const SETRLIMIT = rulesOf(PROC_SETRLIMIT)
const CAPSET = rulesOf(PROC_CAPSET)
const STATUS = rulesOf(PROC_STATUS)
/** Every call of a process has this rule first. */
const NO_PROCESS = rulesOf(PROC_FORK)['no-such-process']

const isSet = (args: Args, name: string): boolean => args[name] === true
const u64 = (args: Args, name: string): bigint => args[name] as bigint

function mmap({ mm }: Process, args: Args): Decision {
  const [fixed, noreplace] = [isSet(args, 'fixed'), isSet(args, 'noreplace')]
  const { place, address } = mm.mmap({
    address: u64(args, 'address'),
    bytes: u64(args, 'bytes'),
    read: isSet(args, 'read'),
    write: isSet(args, 'write'),
    fixed,
    noreplace,
    hugeShift: Number(u64(args, 'huge_shift')),
  })
  if (place !== MMAP_DONE) return { place }
  return { place, outputs: { address }, out: address, free: fixed || noreplace ? [] : ['address'] }
}

function setrlimit(process: Process, args: Args): Decision {
  process.allow({ memlockBytes: u64(args, 'memlock_bytes'), hasIpcLock: process.hasIpcLock })
  return { place: SETRLIMIT.done }
}

function capset(process: Process, args: Args): Decision {
  const hasIpcLock = isSet(args, 'ipc_lock')
  if (hasIpcLock && !process.hasIpcLock) return { place: CAPSET['not-permitted'] }
  process.allow({ memlockBytes: process.memlockBytes, hasIpcLock })
  return { place: CAPSET.done }
}

function status({ mm }: Process): Decision {
  const locked = BigInt.asUintN(64, mm.locked.pages << BigInt(mm.host.pageShift - 10))
  return { place: STATUS.done, outputs: { vm_lck_kib: locked, vm_pin_kib: 0n }, out: locked }
}

/** The handlers of all calls of verb `proc`. */
export function procHandlers(processes: ProcessTable): CallHandler[] {
  const { stage } = processes.host
  const make = (decl: CallHandler['decl'], decide: (process: Process, args: Args) => Decision) =>
    handlerOf(stage, decl, (args) => {
      const process = processes.find(args['process'] as string | undefined)
      return process === undefined ? { place: NO_PROCESS } : decide(process, args)
    })
  return [
    make(PROC_FORK, (parent, args) => ({ place: processes.fork(parent, args['child'] as string) })),
    make(PROC_MMAP, mmap),
    make(PROC_MUNMAP, ({ mm }, args) => ({ place: mm.munmap(u64(args, 'address'), u64(args, 'bytes')) })),
    make(PROC_MPROTECT, ({ mm }, args) => ({
      place: mm.mprotect(u64(args, 'address'), u64(args, 'bytes'), {
        read: isSet(args, 'read'),
        write: isSet(args, 'write'),
      }),
    })),
    make(PROC_EXIT, (process) => ({ place: processes.exit(process) })),
    make(PROC_SETRLIMIT, setrlimit),
    make(PROC_CAPSET, capset),
    make(PROC_STATUS, status),
  ]
}
