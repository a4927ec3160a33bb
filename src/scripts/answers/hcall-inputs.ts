import { PSERIES_RAM_BYTES } from '../../machine/lockstep/pseries-step.ts'
import type { AgentCommand } from '../../reader/kernel-answers-line.ts'
import { KernelAnswersReader } from '../../reader/kernel-answers-reader.ts'
import type { SeenWindow } from './answer-taker.ts'
import { type GuestMemory, type HcallInput, isHcallName } from './input-faults.ts'
import type { JudgedCall, RecordedRun } from './recorded-run.ts'
import { PSERIES_STEPS } from './recordings.ts'

/** A recorded hypercall whose whole input is known. */
export type JudgedInput = HcallInput & JudgedCall

interface Guest {
  readonly window: SeenWindow | undefined
  readonly memory: readonly GuestMemory[]
}

const number = (value: unknown): number => Number(value)

function windowOf({ name, args }: AgentCommand): SeenWindow {
  if (name === 'tce32')
    return { pageShift: 12, busOffset: 0n, entries: Math.floor(number(args['windowBytes']) / 2 ** 12) }
  const pageShift = number(args['pageShift'])
  const busOffset = (args['offset'] as bigint) << BigInt(pageShift)
  return { pageShift, busOffset, entries: number(args['entries']) }
}

/** What a VM was given. */
class Vm {
  readonly windows = new Map<bigint, SeenWindow>()
  readonly slots = new Map<bigint, GuestMemory>()
}

/** The guest behind each hypercall of a transcript, by line: the memory and the window that its VM was given. */
function guestsOf(transcript: string): ReadonlyMap<number, Guest> {
  const guests = new Map<number, Guest>()
  // The VM that commands reach, and the one whose VCPU makes hypercalls, once it has one.
  let vm = new Vm()
  let caller: Vm | undefined
  const reader = new KernelAnswersReader({
    take: (entry) => {
      if (entry.kind !== 'command') return
      const { command, answer, line } = entry
      const { name, args } = command
      if (name === 'hcall') {
        const { windows, slots } = caller ?? vm
        guests.set(line, { window: windows.get(args['arg1'] as bigint), memory: [...slots.values()] })
      }
      if (answer === undefined || answer.value < 0n) return
      if (name === 'vm') vm = new Vm()
      else if (name === 'vcpu') caller = vm
      else if (name === 'ram' || name === 'slot') {
        const { slot = 0n, gpa = 0n, bytes = 0n } = args as Record<string, bigint>
        vm.slots.set(slot, { gpa, bytes })
      } else if (name === 'tce64' || name === 'tce32')
        vm.windows.set(args['liobn'] as bigint, windowOf(command))
    },
  })
  reader.push(Buffer.from(transcript, 'latin1'))
  reader.end()
  return guests
}

/** The hypercalls of a run whose input the recording shows in full: of KVM, and steps of QEMU's pseries. */
export function hcallInputs({ recording, calls }: RecordedRun): JudgedInput[] {
  const found = calls.filter(({ call }) => isHcallName(call))
  if (recording.kind === PSERIES_STEPS)
    return found.map((seen) => ({ ...seen, memory: [{ gpa: 0n, bytes: BigInt(PSERIES_RAM_BYTES) }] }))
  if (recording.kind !== 'kernel-answers') return []
  const guests = guestsOf(recording.text)
  return found.map((seen) => ({ ...seen, window: undefined, memory: undefined, ...guests.get(seen.line) }))
}
