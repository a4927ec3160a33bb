import type { Value } from '../../bits/answer.ts'
import type { MachineDescription } from '../description.ts'
import type { Expectation } from '../operation.ts'
import { isAmount } from './call-schema.ts'
import { amount, type DocumentMap, type DocumentValue, present, unless } from './document-value.ts'
import { powernvDocument } from './powernv-document.ts'
import { pseriesDocument } from './pseries-document.ts'
import { q35Document } from './q35-document.ts'
import type { ExpectedFinding, Scenario, Step } from './scenario.ts'
import { x86Document } from './x86-document.ts'

function machineDocument(m: MachineDescription): DocumentMap {
  if (m.kind === 'q35') return q35Document(m)
  if (m.kind === 'x86') return x86Document(m)
  return m.kind === 'powernv' ? powernvDocument(m) : pseriesDocument(m)
}

/** Amounts get their unit, as their name says; other values stay what they are. */
function valueDocument(name: string, value: Value): DocumentValue {
  if (typeof value === 'bigint' && isAmount(name)) return amount(value)
  if (Array.isArray(value)) return value.map((v: Value) => valueDocument(name, v))
  return typeof value === 'object' ? valuesDocument(value as Readonly<Record<string, Value>>) : value
}

const valuesDocument = (values: Readonly<Record<string, Value>>): DocumentMap =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, valueDocument(name, value)]))

function expectDocument({ code, rule, outputs }: Expectation): DocumentValue {
  if (code !== undefined && rule === undefined && outputs === undefined) return code
  return present({ code, rule, outputs: outputs === undefined ? undefined : valuesDocument(outputs) })
}

function stepDocument({ operation, expect }: Step): DocumentMap {
  const { verb, call, args, by, start } = operation
  return present({
    [verb]: call,
    args: Object.keys(args).length === 0 ? undefined : valuesDocument(args),
    by: by === undefined ? undefined : present({ ...by }),
    start,
    expect: expect === undefined ? undefined : expectDocument(expect),
  })
}

const lanesDocument = (lanes: Scenario['concurrent']): DocumentMap | undefined =>
  lanes === undefined
    ? undefined
    : Object.fromEntries(lanes.map(({ name, steps }) => [name, steps.map(stepDocument)]))

const findingDocument = ({ rule, step }: ExpectedFinding): DocumentMap => present({ rule, step })

/**
 * A scenario as the plain value that a file of it holds; defaults are left out. `readScenario` of it gives the
 * scenario again, save for the lines of its operations.
 */
export function scenarioDocument(scenario: Scenario): DocumentMap {
  const findings = scenario.findings.map(findingDocument)
  return present({
    version: scenario.version,
    title: scenario.title,
    doc: scenario.doc,
    machine: machineDocument(scenario.machine),
    settled: unless(scenario.settled, false),
    steps: scenario.steps.map(stepDocument),
    concurrent: lanesDocument(scenario.concurrent),
    order: scenario.order,
    after: scenario.after?.map(stepDocument),
    expect: findings.length === 0 ? undefined : { findings },
  })
}
