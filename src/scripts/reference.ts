import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { referencePages } from './reference-pages.ts'
import { schemaFiles } from './schema-files.ts'

mkdirSync('schema', { recursive: true })
const pages = await referencePages()
// A page of what is declared no more would stay.
rmSync('docs/reference', { recursive: true, force: true })
for (const [name, text] of Object.entries(pages)) {
  const path = join('docs/reference', name)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
}
for (const [name, text] of Object.entries(schemaFiles())) writeFileSync(join('schema', name), text)
