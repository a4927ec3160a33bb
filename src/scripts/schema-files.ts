import { CATALOGUE } from '../machine/registry.ts'
import { scenarioJsonSchema } from '../machine/scenario/scenario-schema.ts'
import { explainJsonSchema } from '../report/explain/explain-schema.ts'

/** The published JSON Schemas, by the name of their file in `schema/`. */
export const schemaFiles = (): Readonly<Record<string, string>> => ({
  'explain.schema.json': `${JSON.stringify(explainJsonSchema(), null, 1)}\n`,
  'scenario.schema.json': `${JSON.stringify(scenarioJsonSchema(CATALOGUE), null, 1)}\n`,
})
