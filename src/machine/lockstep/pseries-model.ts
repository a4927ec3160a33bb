import type { Answer, Value } from '../../bits/answer.ts'
import { bytesOf, hexDigits } from '../../bits/byte-text.ts'
import type { Verb } from '../../bits/call.ts'
import { codeNumber } from '../../bits/codes.ts'
import { resolveProfile } from '../../bits/errata.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { U64_MAX } from '../../bits/u64.ts'
import {
  CREATE_PE_DMA_WINDOW,
  H_GET_TCE,
  H_PUT_TCE,
  H_PUT_TCE_INDIRECT,
  H_STUFF_TCE,
  QUERY_PE_DMA_WINDOW,
  REMOVE_PE_DMA_WINDOW,
  RESET_PE_DMA_WINDOW,
} from '../../kernel/qemu/calls.ts'
import type { RecordLog } from '../../trace/record-log.ts'
import { createMachine } from '../create-machine.ts'
import { describeMachine } from '../description.ts'
import type { Machine } from '../machine.ts'
import { ERRATA } from '../registry.ts'
import { hcallAnswer, type PseriesScriptPeer, rtasAnswer } from './pseries-peer-port.ts'
import { PSERIES_RAM_BYTES, PSERIES_SLOT, type PseriesScript, type PseriesStep } from './pseries-step.ts'

const DEVICE = 'edu0'
/** Records that are kept: nobody reads them here. */
const RECORDS_KEPT = 4096

/** Names of the registers behind the opcode, and of the cells, as the declarations have them. */
const HCALLS = new Map<bigint, { readonly call: string; readonly args: readonly string[] }>(
  (
    [
      [H_PUT_TCE, ['liobn', 'ioba', 'tce']],
      [H_GET_TCE, ['liobn', 'ioba']],
      [H_STUFF_TCE, ['liobn', 'ioba', 'value', 'npages']],
      [H_PUT_TCE_INDIRECT, ['liobn', 'ioba', 'list', 'npages']],
    ] as const
  ).map(([decl, args]) => [BigInt(decl.nr ?? 0), { call: decl.name, args }]),
)
const DEVICE_CELLS = 3
const RTAS = new Map<
  number,
  { readonly call: string; readonly args: readonly string[]; readonly of: boolean }
>(
  (
    [
      [QUERY_PE_DMA_WINDOW, [], true],
      [CREATE_PE_DMA_WINDOW, ['page_shift', 'window_shift'], true],
      [REMOVE_PE_DMA_WINDOW, ['liobn'], false],
      [RESET_PE_DMA_WINDOW, [], true],
    ] as const
  ).map(([decl, args, of]) => [decl.nr as number, { call: decl.name, args, of }]),
)

/** The cells of an RTAS call by name. A cell that the caller does not pass is 0; the call sees the count first. */
function cellsByName(token: number, args: readonly number[], nret: number): Record<string, Value> {
  const { args: names, of } = RTAS.get(token) as { args: readonly string[]; of: boolean }
  const word = (at: number): bigint => BigInt(args[at] ?? 0)
  const out: Record<string, Value> = { nargs: BigInt(args.length), nret: BigInt(nret) }
  if (of) {
    out['cfg_addr'] = word(0)
    out['buid'] = (word(1) << 32n) | word(2)
  }
  for (const [i, name] of names.entries()) out[name] = word(i + (of ? DEVICE_CELLS : 0))
  return out
}

/** The cells behind the status, from outputs by name. */
function outsOf(token: number, nret: number, outputs: Answer['outputs']): bigint[] {
  const word = (name: string): bigint => BigInt(outputs[name] as bigint)
  if (token === QUERY_PE_DMA_WINDOW.nr) {
    const largest = word('largest')
    const cells = nret === 6 ? [largest >> 32n, largest & 0xffff_ffffn] : [largest]
    return [word('windows'), ...cells, word('page_sizes'), word('migration')]
  }
  return token === CREATE_PE_DMA_WINDOW.nr ? [word('liobn'), word('addr_hi'), word('addr_lo')] : []
}

/** The machine that scripts run on, as the model has it. */
class ModelRun {
  readonly #machine: Machine
  /** Place of the step that is done, counted from 1: what records show as the line. */
  #place = 0

  constructor(profile: string, pageShifts: readonly number[] | undefined, watch?: (log: RecordLog) => void) {
    const device = { name: DEVICE, kind: 'edu', slot: PSERIES_SLOT, dmaMask: U64_MAX } as const
    this.#machine = createMachine(
      describeMachine({ profile, ram: BigInt(PSERIES_RAM_BYTES), phbs: [{ devices: [device], pageShifts }] }),
      { keepRecords: RECORDS_KEPT, ...(watch && { watch }) },
    )
  }

  /** @returns undefined where the step has no answer */
  answer(step: PseriesStep): string | undefined {
    this.#place++
    switch (step.kind) {
      case 'hcall':
        return this.#hcall(step.registers)
      case 'rtas':
        return this.#rtas(step.token, step.args, step.nret)
      case 'list': {
        const words = Array.from({ length: step.count }, (_, i) =>
          BigInt.asUintN(64, step.first + BigInt(i) * step.by),
        )
        this.#perform('mem', 'write', { address: BigInt(step.gpa), words })
        return undefined
      }
      case 'poke':
        this.#perform('mem', 'write', { address: BigInt(step.gpa), data: `hex:${step.data}` })
        return undefined
      case 'peek': {
        const { outputs } = this.#perform('mem', 'read', {
          address: BigInt(step.gpa),
          bytes: BigInt(step.bytes),
        })
        return hexDigits(bytesOf(outputs['data'] as string))
      }
      case 'dma':
        this.#perform('dma', step.direction, {
          device: DEVICE,
          iova: step.iova,
          bytes: BigInt(step.bytes),
          at: BigInt(step.at ?? 0),
        })
        return undefined
    }
  }

  #hcall([opcode = 0n, ...registers]: readonly bigint[]): string {
    const known = HCALLS.get(opcode)
    const args: Record<string, Value> = {}
    if (known === undefined) {
      args['opcode'] = opcode
      args['r4'] = registers[0] ?? 0n
    } else for (const [i, name] of known.args.entries()) args[name] = registers[i] ?? 0n
    const answer = this.#perform('hcall', known?.call ?? 'unknown', args)
    if (answer.state !== 'done') return notAnswered(answer)
    return hcallAnswer(codeNumber(answer.family, answer.code), answer.outputs['r4'] as bigint)
  }

  #rtas(token: number, args: readonly number[], nret: number): string {
    const { call } = RTAS.get(token) as { call: string }
    const answer = this.#perform('rtas', call, cellsByName(token, args, nret))
    if (answer.state !== 'done') return notAnswered(answer)
    const status = codeNumber(answer.family, answer.code)
    return rtasAnswer(status, status === 0 ? outsOf(token, nret, answer.outputs) : [])
  }

  #perform(verb: Verb, call: string, args: Record<string, Value>): Answer {
    return this.#machine.perform({ verb, call, args, line: this.#place })
  }
}

const notAnswered = ({ state, rule }: Answer): string => `${state}: ${rule}`

/** The model as QEMU is that runs beside it. */
export const PSERIES_PROFILE = 'qemu-7.2'

/**
 * The model's pseries machine. Each script has a new one.
 *
 * @example
 * await new PseriesModel().run({ name: 'a', steps }) // ['0 r4=0x80000000', undefined]
 */
export class PseriesModel implements PseriesScriptPeer {
  readonly title: string
  readonly #profile: string
  readonly #watch: ((log: RecordLog) => void) | undefined

  /**
   * @param watch subscribes to the records of each script before there is one; their line is the place of the step
   * @throws IommulatorError ERR_PROFILE for an unknown profile
   */
  constructor(profile: string = PSERIES_PROFILE, watch?: (log: RecordLog) => void) {
    resolveProfile(ERRATA, profile)
    this.#profile = profile
    this.#watch = watch
    this.title = `the model (${profile})`
  }

  run(script: PseriesScript): Promise<readonly (string | undefined)[]> {
    return Promise.resolve(this.answers(script))
  }

  /** The answers of a script. What the model cannot carry out is a text that no machine answers. */
  answers({ steps, pageShifts }: PseriesScript): (string | undefined)[] {
    const run = new ModelRun(this.#profile, pageShifts, this.#watch)
    return steps.map((step) => {
      try {
        return run.answer(step)
      } catch (error) {
        if (!(error instanceof IommulatorError)) throw error
        return `too much for the model: ${error.message}`
      }
    })
  }
}
