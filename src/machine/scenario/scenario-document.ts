import type { Value } from '../../bits/answer.ts'
import {
  DEVICE_KINDS,
  MACHINE_DEFAULTS,
  type MachineDescription,
  type PhbDescription,
  ramEnd,
} from '../description.ts'
import type { Expectation } from '../operation.ts'
import { sizeText } from '../schema/number-text.ts'
import { isAmount } from './call-schema.ts'
import type { ExpectedFinding, Scenario, Step } from './scenario.ts'

/** A value of a scenario file: maps keep the order of their keys. */
export type DocumentValue =
  | string
  | number
  | bigint
  | boolean
  | readonly DocumentValue[]
  | { readonly [key: string]: DocumentValue }
type DocumentMap = Record<string, DocumentValue>

/** Keys with a value; the others are left out of a file. */
const present = (keys: Readonly<Record<string, DocumentValue | undefined>>): DocumentMap =>
  Object.fromEntries(Object.entries(keys).filter((e): e is [string, DocumentValue] => e[1] !== undefined))

const unless = <T>(value: T, initial: T): T | undefined => (value === initial ? undefined : value)

/** Bytes with their unit where they have one. */
function amount(bytes: bigint): DocumentValue {
  const written = sizeText(bytes)
  if (written.endsWith('B')) return written
  return bytes <= Number.MAX_SAFE_INTEGER ? Number(bytes) : bytes
}

const sameList = <T>(a: readonly T[], b: readonly T[]): boolean =>
  a.length === b.length && a.every((v, i) => v === b[i])

function ramDocument({ ram }: MachineDescription): DocumentValue {
  const [first, ...others] = ram
  const isPlain = first?.gpa === 0n && first.owner === MACHINE_DEFAULTS.owner && others.length === 0
  if (isPlain) return amount(first.bytes)
  return ram.map((r) => ({ gpa: r.gpa, bytes: amount(r.bytes), owner: r.owner }))
}

function phbDocument(phb: PhbDescription, at: number): DocumentMap {
  const sizes = phb.pageShifts.map((shift) => amount(1n << BigInt(shift)))
  return present({
    name: phb.name,
    index: unless(phb.index, at),
    buid: unless(phb.buid, MACHINE_DEFAULTS.buid + BigInt(phb.index)),
    pageSizes: sameList(phb.pageShifts, MACHINE_DEFAULTS.pageShifts) ? undefined : sizes,
    ddw: unless(phb.ddw, phb.bare === undefined && MACHINE_DEFAULTS.ddw),
    maxWindowEntries: unless(phb.maxWindowEntries, MACHINE_DEFAULTS.maxWindowEntries),
    listener: unless(phb.listener, MACHINE_DEFAULTS.listener),
    bare: phb.bare && { gpa: phb.bare.gpa, bytes: amount(phb.bare.bytes) },
    devices:
      phb.devices.length === 0
        ? undefined
        : phb.devices.map((d) =>
            present({
              name: d.name,
              kind: d.kind,
              slot: d.slot,
              function: unless(d.function, 0),
              dmaMask: unless(d.dmaMask, DEVICE_KINDS[d.kind].dmaMask),
            }),
          ),
  })
}

function machineDocument(m: MachineDescription): DocumentMap {
  const vio = m.vio.map((v) => {
    const window = unless(v.windowBytes, MACHINE_DEFAULTS.vioWindowBytes)
    return present({
      name: v.name,
      reg: BigInt(v.reg),
      window: window === undefined ? undefined : amount(window),
    })
  })
  return present({
    kind: m.kind,
    profile: m.profile,
    ram: ramDocument(m),
    maxRam: m.maxRamBytes === ramEnd(m.ram) ? undefined : amount(m.maxRamBytes),
    pmemory: unless(m.hasPmemory, false),
    pageShift: m.pageShift,
    hostPageShift: unless(m.hostPageShift, MACHINE_DEFAULTS.hostPageShift),
    cpus: unless(m.cpus, MACHINE_DEFAULTS.cpus),
    hypertas: sameList(m.hypertas, MACHINE_DEFAULTS.hypertas) ? undefined : m.hypertas,
    bootOptions: m.bootOptions.length === 0 ? undefined : m.bootOptions,
    phbs: m.phbs.map(phbDocument),
    vio: vio.length === 0 ? undefined : vio,
  })
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
  const { verb, call, args, by } = operation
  return present({
    [verb]: call,
    args: Object.keys(args).length === 0 ? undefined : valuesDocument(args),
    by: by === undefined ? undefined : present({ ...by }),
    expect: expect === undefined ? undefined : expectDocument(expect),
  })
}

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
    expect: findings.length === 0 ? undefined : { findings },
  })
}
