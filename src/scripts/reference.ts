import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { referencePages } from './reference-pages.ts'
import { schemaFiles } from './schema-files.ts'

mkdirSync('docs/reference', { recursive: true })
mkdirSync('schema', { recursive: true })
for (const [name, text] of Object.entries(await referencePages()))
  writeFileSync(join('docs/reference', name), text)
for (const [name, text] of Object.entries(schemaFiles())) writeFileSync(join('schema', name), text)
