import type { Value } from '../../../bits/answer.ts'
import { bytesOf, hexDigits } from '../../../bits/byte-text.ts'
import { callNumber } from '../../../bits/call.ts'
import {
  CREATE_PE_DMA_WINDOW,
  H_GET_TCE,
  H_PUT_TCE,
  H_PUT_TCE_INDIRECT,
  H_STUFF_TCE,
  QUERY_PE_DMA_WINDOW,
  REMOVE_PE_DMA_WINDOW,
  RESET_PE_DMA_WINDOW,
} from '../../../kernel/qemu/calls.ts'
import { MEM_READ } from '../../../memory/mem-calls.ts'
import type { MachineEvent } from '../../../trace/event.ts'
import type { Machine } from '../../machine.ts'
import { DMA_BYTES_MAX, PSERIES_FIRMWARE_END, type PseriesStep } from '../pseries-step.ts'
import type { DeviceBuffers } from './device-buffers.ts'

export type StepArgs = Readonly<Record<string, Value>>

/** What a step of a scenario becomes. A text says why it cannot be done. */
export type PseriesTranslated =
  | string
  | {
      readonly steps: readonly PseriesStep[]
      /** The last of them answers the step. */
      readonly isAnswer?: true
      /** Where the device puts what it reads. */
      readonly read?: { readonly at: number; readonly bytes: number }
    }

type Event<K extends MachineEvent['kind']> = Extract<MachineEvent, { kind: K }>

const u64 = (args: StepArgs, name: string): bigint => (args[name] ?? 0n) as bigint
const one = (step: PseriesStep): PseriesTranslated => ({ steps: [step], isAnswer: true })

const LIST_BELOW = 'its list lies where the peer has a program of its own'
const LIST_BYTES = 4096n

/** Registers behind the number of a hypercall, by the names of its arguments. */
const HCALLS = [
  [H_PUT_TCE, ['liobn', 'ioba', 'tce']],
  [H_GET_TCE, ['liobn', 'ioba']],
  [H_STUFF_TCE, ['liobn', 'ioba', 'value', 'npages']],
  [H_PUT_TCE_INDIRECT, ['liobn', 'ioba', 'list', 'npages']],
] as const

/** Cells behind the device, where a call names one; `of` says whether it does. */
const RTAS_CALLS = [
  [QUERY_PE_DMA_WINDOW, [], true, 6],
  [CREATE_PE_DMA_WINDOW, ['page_shift', 'window_shift'], true, 4],
  [REMOVE_PE_DMA_WINDOW, ['liobn'], false, 1],
  [RESET_PE_DMA_WINDOW, [], true, 1],
] as const

const CELL = 0xffff_ffffn
const halves = (word: bigint): number[] => [Number(word >> 32n), Number(word & CELL)]

const hypercall = (nr: number, registers: readonly bigint[]): PseriesStep => ({
  kind: 'hcall',
  registers: [BigInt(nr), ...registers],
})

const hcallOf =
  (nr: number, names: readonly string[]) =>
  (args: StepArgs): PseriesTranslated => {
    const list = u64(args, 'list')
    const isBelow = nr === H_PUT_TCE_INDIRECT.nr && list < BigInt(PSERIES_FIRMWARE_END)
    // An unaligned list is refused before it is read.
    return isBelow && list % LIST_BYTES === 0n
      ? LIST_BELOW
      : one(
          hypercall(
            nr,
            names.map((name) => u64(args, name)),
          ),
        )
  }

const rtasOf =
  (token: number, names: readonly string[], of: boolean, nret: number) =>
  (args: StepArgs): PseriesTranslated => {
    const device = of ? [Number(u64(args, 'cfg_addr') & CELL), ...halves(u64(args, 'buid'))] : []
    const cells = [...device, ...names.map((name) => Number(u64(args, name)))]
    if (args['nargs'] !== undefined && u64(args, 'nargs') !== BigInt(cells.length)) {
      return 'the peer passes the cells that a call has'
    }
    const room = args['nret'] === undefined ? nret : Number(u64(args, 'nret'))
    return one({ kind: 'rtas', token, nret: room, args: cells })
  }

const needsGpa = (args: StepArgs): string | undefined =>
  args['space'] === undefined || args['space'] === 'gpa' ? undefined : 'the peer has guest addresses only'

function writeMemory(args: StepArgs): PseriesTranslated {
  const { data, words } = args
  if ((data === undefined) === (words === undefined)) return 'the peer writes `data`, or `words`'
  const digits =
    data === undefined
      ? (words as readonly bigint[]).map((word) => word.toString(16).padStart(16, '0')).join('')
      : hexDigits(bytesOf(data as string))
  return { steps: [{ kind: 'poke', gpa: Number(u64(args, 'address')), data: digits }] }
}

/** How the peer does calls that it can do, by verb and name; DMA and drivers apart. */
export const PSERIES_CALLS: Readonly<Record<string, (args: StepArgs) => PseriesTranslated>> = {
  ...Object.fromEntries(
    HCALLS.map(([decl, names]) => [`hcall ${decl.name}`, hcallOf(callNumber(decl), names)] as const),
  ),
  ...Object.fromEntries(
    RTAS_CALLS.map(
      ([decl, names, of, nret]) => [`rtas ${decl.name}`, rtasOf(callNumber(decl), names, of, nret)] as const,
    ),
  ),
  'hcall unknown': (args) => one(hypercall(Number(u64(args, 'opcode')), [u64(args, 'r4')])),
  'mem write': (args) => needsGpa(args) ?? writeMemory(args),
  'mem read': (args) =>
    needsGpa(args) ??
    one({ kind: 'peek', gpa: Number(u64(args, 'address')), bytes: Number(u64(args, 'bytes')) }),
}

/** A DMA as the scenario's machine did it: a named buffer has a bus address there. */
export function dmaOf(
  args: StepArgs,
  isWrite: boolean,
  machine: Machine,
  from: number,
  buffers: DeviceBuffers,
  device: string,
): PseriesTranslated {
  const request = eventsOf(machine, from, machine.log.length).find(
    (e): e is Event<'dma.request'> => e.kind === 'dma.request',
  )
  const end = Number(u64(args, 'at')) + Number(u64(args, 'bytes'))
  if (end > DMA_BYTES_MAX) return 'it reaches the end of the buffer of the device, which ends QEMU (Q11, Q12)'
  if (request === undefined) return 'the driver does not start the device'
  const { iova } = request
  const data = args['data'] === undefined ? undefined : bytesOf(args['data'] as string)
  if (isWrite && data === undefined) return 'what the buffer of the device holds is chosen here: name `data`'
  const bytes = data === undefined ? Number(u64(args, 'bytes')) : data.length
  const at = data === undefined ? buffers.forRead(device, bytes) : buffers.holding(device, data)
  if (at === undefined) return 'the buffer of the device is used up'
  const step: PseriesStep = { kind: 'dma', direction: isWrite ? 'write' : 'read', iova, bytes, at }
  return { steps: [step], ...(isWrite ? {} : { read: { at, bytes } }) }
}

function eventsOf({ log }: Machine, from: number, end: number): MachineEvent[] {
  const events: MachineEvent[] = []
  for (let seq = Math.max(from, log.firstKept); seq < end; seq++) events.push(log.read(seq).event)
  return events
}

const WORD_BYTES = 8

/** The words of a TCE list as the calls of the guest's kernel filled it: `index` is that of the call's record. */
function listOf(machine: Machine, events: readonly MachineEvent[], index: number): PseriesStep[] | undefined {
  const { a2: list, a3: npages } = events[index] as Event<'call.enter'>
  const isLast = !events.some(
    (e, i) => i > index && e.kind === 'call.enter' && e.call === H_PUT_TCE_INDIRECT.name && e.a2 === list,
  )
  if (isLast) {
    // What the kernel wrote is still there.
    const { verb, name: call } = MEM_READ
    const read = machine.perform({ verb, call, args: { address: list, bytes: npages * 8n } })
    if (read.code !== 'OK') return undefined
    return [{ kind: 'poke', gpa: Number(list), data: hexDigits(bytesOf(read.outputs['data'] as string)) }]
  }
  // An earlier batch shows in the entries that it set.
  const steps: PseriesStep[] = []
  let words = 0
  for (const e of events.slice(index + 1)) {
    if (e.kind === 'call.return') break
    if (e.kind !== 'tce.set') continue
    const by = e.step < 0 ? 0n : 1n << BigInt(e.step)
    steps.push({ kind: 'list', gpa: Number(list) + words * WORD_BYTES, count: e.count, first: e.tce, by })
    words += e.count
  }
  return BigInt(words) === npages ? steps : undefined
}

/**
 * The hypercalls and RTAS calls that the guest's kernel made while it did a step, with the lists that it wrote for
 * them. A text says which of them the peer cannot be asked.
 *
 * @param from first record of the step
 */
export function guestCalls(machine: Machine, from: number): PseriesStep[] | string {
  const events = eventsOf(machine, from, machine.log.length)
  const steps: PseriesStep[] = []
  for (const [index, e] of events.entries()) {
    if (e.kind !== 'call.enter') continue
    const hcall = HCALLS.find(([decl]) => decl.name === e.call)
    if (hcall !== undefined) {
      const [decl, names] = hcall
      if (decl === H_PUT_TCE_INDIRECT) {
        if (e.a2 < BigInt(PSERIES_FIRMWARE_END)) return LIST_BELOW
        const list = listOf(machine, events, index)
        if (list === undefined) return 'the list of a hypercall is not known'
        steps.push(...list)
      }
      steps.push(hypercall(callNumber(decl), [e.a0, e.a1, e.a2, e.a3].slice(0, names.length)))
      continue
    }
    const rtas = RTAS_CALLS.find(([decl]) => decl.name === e.call)
    if (rtas === undefined) continue
    const [decl, names, of, nret] = rtas
    const device = of ? [Number(e.a0), ...halves(e.a1)] : [Number(e.a0)]
    const rest = of ? [e.a2, e.a3].slice(0, names.length).map(Number) : []
    steps.push({ kind: 'rtas', token: callNumber(decl), nret, args: [...device, ...rest] })
  }
  return steps
}
