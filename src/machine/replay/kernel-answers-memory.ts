import { bytesOf, hexDigits } from '../../bits/byte-text.ts'
import { MEM_BYTES_MAX } from '../../memory/limits.ts'
import { MEM_READ, MEM_WRITE } from '../../memory/mem-calls.ts'
import * as proc from '../../memory/proc-calls.ts'
import {
  type AgentSaid,
  answered,
  elsewhere,
  oneCall,
  outputOf,
  type ProcessCall,
  returned,
  TASK_BYTES,
  u64,
  unmodelled,
} from './kernel-answers-said.ts'

const S64_MAX = (1n << 63n) - 1n
/** Bytes that the agent may set at once: the model holds them all. */
const FILL_BYTES_MAX = 1n << 26n
const TOO_MANY = unmodelled('more bytes are set than a modelled host has')
const DIED_OF_ACCESS: AgentSaid = { state: 'died', why: 'the memory is not there (SIGSEGV)' }

/** memset: 0, or the end of the program. */
function setBytes(call: ProcessCall, address: bigint, bytes: bigint, fill: bigint): AgentSaid {
  // A character below 0x80 is one byte.
  const [head, one] = fill < 0x80n ? ['', String.fromCharCode(Number(fill))] : ['hex:', fill.toString(16)]
  for (let done = 0n; done < bytes; ) {
    const left = bytes - done
    const piece = left < MEM_BYTES_MAX ? Number(left) : MEM_BYTES_MAX
    const answer = call(MEM_WRITE, {
      space: 'ua',
      address: address + done,
      data: head + one.repeat(piece),
    })
    if (answer.rule === 'no-frames') return unmodelled('the modelled host has no memory left')
    if (answer.code !== 'OK') return DIED_OF_ACCESS
    done += BigInt(piece)
  }
  return answered(0n)
}

/** Commands about the process: its memory, and what it may lock. */
export function memoryRuns(call: ProcessCall) {
  return {
    anon: elsewhere((args) => {
      const [address, bytes] = [u64(args, 'vaddr'), u64(args, 'bytes')]
      const fill = u64(args, 'fill') & 0xffn
      if (fill !== 0n && bytes > FILL_BYTES_MAX && address + bytes <= TASK_BYTES) {
        return TOO_MANY
      }
      const mapped = call(proc.PROC_MMAP, { address, bytes, noreplace: true })
      // New memory reads as zeros.
      if (mapped.code !== 'OK' || fill === 0n) return returned(mapped)
      return setBytes(call, address, bytes, fill)
    }),
    unmapmem: elsewhere(
      oneCall(call, proc.PROC_MUNMAP, (args) => ({
        address: u64(args, 'vaddr'),
        bytes: u64(args, 'bytes'),
      })),
    ),
    vmlck: () => {
      const answer = call(proc.PROC_STATUS, {})
      const kib = (name: string) => {
        const value = outputOf(answer, name)
        return value > S64_MAX ? S64_MAX : value
      }
      return returned(answer, { lockedKib: kib('vm_lck_kib'), pinnedKib: kib('vm_pin_kib') })
    },
    rlimit: oneCall(call, proc.PROC_SETRLIMIT, (args) => ({ memlock_bytes: u64(args, 'bytes') })),
    dropcap: oneCall(call, proc.PROC_CAPSET, () => ({ ipc_lock: false })),
    poke: elsewhere((args) =>
      u64(args, 'bytes') > FILL_BYTES_MAX
        ? TOO_MANY
        : setBytes(call, u64(args, 'vaddr'), u64(args, 'bytes'), u64(args, 'fill') & 0xffn),
    ),
    peek: elsewhere((args) => {
      const [address, bytes] = [u64(args, 'vaddr'), u64(args, 'bytes')]
      if (bytes > MEM_BYTES_MAX) return unmodelled('more bytes than a line can hold')
      const answer = call(MEM_READ, { space: 'ua', address, bytes })
      if (answer.code !== 'OK') return DIED_OF_ACCESS
      return returned(answer, { data: hexDigits(bytesOf(answer.outputs['data'] as string)) })
    }),
  }
}
