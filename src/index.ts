/**
 * The library: a machine, operations on it, its answers and records, and the judgement of them. Everything here
 * runs in a browser worker as well; reading files is the caller's job.
 */
export type { Answer, LayerAnswer, Value } from './bits/answer.ts'
export type { AnswerDecl, ArgDecl, CallDecl, RuleOf, Verb } from './bits/call.ts'
export { type Erratum, type Profile, resolveProfile } from './bits/errata.ts'
export { type ErrorCode, IommulatorError } from './bits/errors.ts'
export { VERSION } from './bits/version.ts'
export { decode, encode, type Field, type Word } from './bits/word.ts'
export {
  POWERNV_MACHINE as POWERNV_COVERAGE,
  PSERIES_MACHINE as PSERIES_COVERAGE,
  QEMU_TRACE as QEMU_TRACE_COVERAGE,
  WHOLE_MACHINE,
} from './check/coverage.ts'
export { Judge } from './check/judge.ts'
export type { Evidence, Finding, Rule, Verdict } from './check/rule.ts'
export { RULES } from './check/rules.ts'
export { createMachine } from './machine/create-machine.ts'
export { describeMachine, type MachineDescription, type MachineInput } from './machine/description.ts'
export { Machine, type MachineOptions } from './machine/machine.ts'
export type { Actor, Expectation, Operation } from './machine/operation.ts'
export { CALLS, CATALOGUE, ERRATA, LOG_FORMATS, WORDS } from './machine/registry.ts'
export { TimeTravel } from './machine/time-travel.ts'
export type { EventKind, MachineEvent, TraceRecord } from './trace/event.ts'
export { toJsonLine } from './trace/jsonl.ts'
export { RecordLog, type RecordSink } from './trace/record-log.ts'
