import { VERBS } from '../../bits/call.ts'
import { type JsonSchema, jsonSchemaOf } from '../schema/json-schema.ts'
import {
  choice,
  count,
  flag,
  type Infer,
  list,
  map,
  named,
  optional,
  required,
  text,
  variant,
} from '../schema/schema.ts'
import { nameText, stepCases } from './call-schema.ts'
import type { Catalogue } from './catalogue.ts'
import { machineSchema } from './machine-schema.ts'

const STEPS_MOST = 1_000_000

const ONE_LINE = { pattern: '^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]+$', form: 'one line of text' }

const actor = map('by', {
  process: optional(nameText('process'), 'Process that acts.'),
  task: optional(nameText('task'), 'Task that acts.'),
  cpu: optional(count('cpu', 0, 2047), 'CPU that acts; 0 if left out.'),
})

const ELSEWHERE = 'a step that was started is taken on by `task: step`, `task: run` or `task: finish`'
const LANES_MOST = 16
const ORDER_MOST = 100_000

function stepSchema({ calls }: Catalogue) {
  const cases = stepCases(calls)
  const reserved: Record<string, string> = { run: ELSEWHERE, finish: ELSEWHERE }
  for (const verb of VERBS) {
    if (!Object.hasOwn(cases, verb)) reserved[verb] = `no call of verb ${verb} is modelled yet`
  }
  const common = {
    by: optional(actor, 'Who acts.'),
    start: optional(
      nameText('start'),
      'The call is only begun, as a task of this name; `task` steps do its work, and `expect` is its answer at its end.',
    ),
  }
  return variant('a step', { cases, common, reserved })
}

const expectation = (rules: readonly string[]) =>
  map('expect', {
    findings: optional(
      list(
        'findings',
        map('an expected finding', {
          rule: required(choice('rule', rules), 'The rule that must be found broken.'),
          step: optional(count('step', 1, STEPS_MOST), 'The step, from 1 on, at which it shows.'),
        }),
        { maxItems: 1000 },
      ),
      'Exactly the rules that must be found, each at least once.',
    ),
  })

const stepsOf = (what: string, step: ReturnType<typeof stepSchema>) =>
  list(what, step, { maxItems: STEPS_MOST })

/** The shape of a scenario file, from the registries. */
export function scenarioSchema(catalogue: Catalogue) {
  const step = stepSchema(catalogue)
  return map('the scenario', {
    version: required(choice('version', [1]), 'Version of this format.'),
    title: required(text('title', ONE_LINE), 'One line that says what it shows.'),
    doc: optional(text('doc', { maxChars: 10_000 }), 'Prose for whoever reads it.'),
    machine: optional(machineSchema(catalogue.errata), 'The machine; QEMU 7.2 pseries if left out.'),
    settled: optional(flag('settled'), 'Every driver has ended when the last step is done.'),
    steps: required(stepsOf('steps', step), 'What happens, in order.'),
    concurrent: optional(
      named('concurrent', nameText('lane'), stepsOf('a lane', step), { maxItems: LANES_MOST, minItems: 1 }),
      'What happens then, side by side: the steps of each lane in their order, with those of other lanes between them.',
    ),
    order: optional(
      list('order', nameText('an entry of order'), { maxItems: ORDER_MOST }),
      'Which lane takes a step, one entry a step. After it the first lane that can go on does.',
    ),
    after: optional(stepsOf('after', step), 'What happens when no lane can go on.'),
    expect: optional(expectation(catalogue.rules.map((r) => r.id)), 'What must come of it.'),
  })
}

export type ScenarioDocument = Infer<ReturnType<typeof scenarioSchema>>

/** The published JSON Schema (draft 2020-12) of scenario files. */
export const scenarioJsonSchema = (catalogue: Catalogue): JsonSchema =>
  jsonSchemaOf(scenarioSchema(catalogue), {
    title: 'iommulator scenario',
    description: 'A machine, what happens to it, and what must come of it.',
  })
