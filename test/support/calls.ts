import type { Answer, CallHandler, Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import { completeArguments } from '../../src/machine/arguments.ts'
import { GuestMemory } from '../../src/memory/guest-memory.ts'
import { memHandlers } from '../../src/memory/mem-handlers.ts'
import { procHandlers } from '../../src/memory/proc-handlers.ts'
import { makeHost, UNLIMITED } from './host.ts'

/** A host with a process `qemu` that acts, a guest without memory, and the calls of `proc` and `mem` as a machine makes them. */
export function makeCalls(options: { pageShift?: number; frames?: number } = {}) {
  const made = makeHost(options)
  const { processes, host } = made
  const qemu = processes.spawn('qemu', UNLIMITED)
  processes.actor = 'qemu'
  const guest = new GuestMemory(host)
  const handlers = new Map<CallDecl, CallHandler>(
    [...procHandlers(processes), ...memHandlers(processes, guest)].map((h) => [h.decl, h]),
  )
  const call = (decl: CallDecl, args: Record<string, Value>): Answer =>
    handlers.get(decl)!.run(completeArguments(decl, args))
  return { ...made, guest, qemu, call }
}
