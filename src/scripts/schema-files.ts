import { CATALOGUE } from '../machine/registry.ts'
import { scenarioJsonSchema } from '../machine/scenario/scenario-schema.ts'

/** The published JSON Schemas, by the name of their file in `schema/`. */
export const schemaFiles = (): Readonly<Record<string, string>> => ({
  'scenario.schema.json': `${JSON.stringify(scenarioJsonSchema(CATALOGUE), null, 1)}\n`,
})
