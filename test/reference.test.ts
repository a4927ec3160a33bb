import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { CALLS, ERRATA, WORDS } from '../src/machine/registry.ts'
import { referencePages } from '../src/scripts/reference-pages.ts'
import { schemaFiles } from '../src/scripts/schema-files.ts'

describe('generated pages are fresh (npm run docs makes them)', async () => {
  const pages = await referencePages()

  it.each(Object.keys(pages))('docs/reference/%s', (name) => {
    expect(readFileSync(`docs/reference/${name}`, 'utf8')).toBe(pages[name])
  })

  it.each(Object.keys(schemaFiles()))('schema/%s', (name) => {
    expect(readFileSync(`schema/${name}`, 'utf8')).toBe(schemaFiles()[name])
  })

  it('no page is left over', () => {
    const files = readdirSync('docs/reference', { recursive: true, encoding: 'utf8' })
    expect(files.filter((f) => f.endsWith('.md')).sort()).toEqual(Object.keys(pages).sort())
  })

  it('every declaration has its section', () => {
    for (const call of CALLS) expect(pages['calls.md']).toContain(`## ${call.name}\n`)
    for (const word of WORDS) expect(pages['words.md']).toContain(`## ${word.name}\n`)
    for (const { id } of ERRATA) expect(pages[`errata/${id}.md`]).toContain(`# ${id}: `)
  })
})
