/** Scenarios: from a plain value (what YAML or JSON gives) to a judged run, and back to text. */
export { runJson, runText } from './machine/run-report.ts'
export { isAsExpected, type RunResult, runScenario, type StepResult } from './machine/run-scenario.ts'
export { formatScenario } from './machine/scenario/format-scenario.ts'
export { readScenario, type Scenario, type Step } from './machine/scenario/scenario.ts'
export { scenarioJsonSchema } from './machine/scenario/scenario-schema.ts'
