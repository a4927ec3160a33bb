import { IommulatorError } from '../bits/errors.ts'
import { put } from '../bits/word.ts'
import { CAP, ECAP } from '../hw/vtd/register-format.ts'
import type { MachineDescription } from './description.ts'
import { vtdShapeOf } from './q35/description.ts'
import { isAsExpected, type RunOptions, type RunResult, runScenario } from './run-scenario.ts'
import type { Scenario } from './scenario/scenario.ts'
import { x86Shape } from './x86/description.ts'

/** Capabilities of a VT-d unit that a matrix turns, and what they ask of a driver. */
export const MATRIX_BITS = {
  cm: { register: 'cap', field: 'CM', doc: 'caching mode: what is not present may be cached' },
  rwbf: { register: 'cap', field: 'RWBF', doc: 'a write buffer that must be flushed' },
  esrtps: { register: 'cap', field: 'ESRTPS', doc: 'a new root table drops all caches' },
  psi: { register: 'cap', field: 'PSI', doc: 'page-selective flushes' },
  c: { register: 'ecap', field: 'C', doc: 'the unit snoops caches of the processor' },
  qi: { register: 'ecap', field: 'QI', doc: 'an invalidation queue' },
  dt: { register: 'ecap', field: 'DT', doc: 'TLBs of devices' },
} as const
export type MatrixBit = keyof typeof MATRIX_BITS

/** Most bits of one matrix: 64 runs. */
const BITS_MAX = 6

/** One unit of a matrix, and what came of the scenario with it. */
export interface MatrixRun {
  /** Whether each of the bits is set, in their order. */
  readonly set: readonly boolean[]
  readonly result: RunResult
}

/** A scenario under every combination of some capabilities of its unit. */
export interface Matrix {
  readonly bits: readonly MatrixBit[]
  readonly runs: readonly MatrixRun[]
}

/**
 * Bits from their names, in the order given; each once.
 *
 * @throws IommulatorError ERR_NUMBER for a name that is none, or for too many
 */
export function matrixBits(names: readonly string[]): readonly MatrixBit[] {
  const known = Object.keys(MATRIX_BITS)
  const unknown = names.find((name) => !known.includes(name))
  if (unknown !== undefined || names.length === 0) {
    const what =
      unknown === undefined ? 'a matrix needs a capability' : `"${unknown}" is no capability of a matrix`
    throw new IommulatorError('ERR_NUMBER', `${what}; known: ${known.join(', ')}`)
  }
  const bits = [...new Set(names)] as MatrixBit[]
  if (bits.length > BITS_MAX) {
    throw new IommulatorError('ERR_NUMBER', `a matrix has at most ${BITS_MAX} capabilities`)
  }
  return bits
}

/** The machine with each bit of its unit set or not. */
function withBits(
  machine: MachineDescription,
  bits: readonly MatrixBit[],
  set: readonly boolean[],
): MachineDescription {
  if (machine.kind !== 'q35' && machine.kind !== 'x86') {
    throw new IommulatorError('ERR_MACHINE', 'a matrix takes a machine with a VT-d unit (kind: q35 or x86)')
  }
  let { cap, ecap } = machine.kind === 'x86' ? x86Shape(machine.iommu) : vtdShapeOf(machine.iommu)
  bits.forEach((bit, i) => {
    const { register, field } = MATRIX_BITS[bit]
    const value = set[i] === true ? 1n : 0n
    if (register === 'cap') cap = put(CAP, cap, field, value)
    else ecap = put(ECAP, ecap, field, value)
  })
  return machine.kind === 'x86'
    ? { ...machine, iommu: { ...machine.iommu, cap, ecap } }
    : { ...machine, iommu: { ...machine.iommu, cap, ecap } }
}

/**
 * Runs a scenario under every combination of capabilities of its unit: first with none of them, last with all, the
 * first bit turning fastest.
 *
 * @throws IommulatorError as `runScenario` does, and ERR_MACHINE where the machine has no VT-d unit
 */
export function runMatrix(scenario: Scenario, bits: readonly MatrixBit[], options: RunOptions = {}): Matrix {
  const runs = Array.from({ length: 2 ** bits.length }, (_, n): MatrixRun => {
    const set = bits.map((_bit, i) => ((n >> i) & 1) === 1)
    const machine = withBits(scenario.machine, bits, set)
    return { set, result: runScenario({ ...scenario, machine }, options) }
  })
  return { bits, runs }
}

/** What a run found: each rule with the number of its findings, by name. */
export function foundBy({ findings }: RunResult): readonly (readonly [rule: string, count: number])[] {
  const rules = [...new Set(findings.map((f) => f.rule))].sort()
  return rules.map((rule) => [rule, findings.filter((f) => f.rule === rule).length])
}

/** A step that a unit answers otherwise than the first unit of the matrix, or than the scenario says. */
export interface OtherAnswer {
  readonly step: number
  readonly call: string
  readonly said: string
  readonly instead: string
}

const said = ({ code, rule }: { readonly code: string; readonly rule: string }): string => `${code} (${rule})`

/** Steps of a run that are answered otherwise than in the first run, in their order. */
export function otherAnswers({ runs }: Matrix, { result }: MatrixRun): readonly OtherAnswer[] {
  const first = new Map((runs[0]?.result.steps ?? []).filter((s) => s.place !== '').map((s) => [s.place, s]))
  return result.steps.flatMap(({ step, operation, answer, place }): OtherAnswer[] => {
    const base = first.get(place)?.answer
    if (base === undefined || said(base) === said(answer)) return []
    const call = `${operation.verb} ${operation.call}`
    return [{ step, call, said: said(answer), instead: said(base) }]
  })
}

/** Whether every unit of a matrix does as the scenario expects. */
export const isMatrixAsExpected = ({ runs }: Matrix): boolean => runs.every((r) => isAsExpected(r.result))
