import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { FLOORS, floorViolations, sourcesBelow } from './floors.ts'

describe('floors', () => {
  it('every import goes down, and only the edges know Node or a package', () => {
    expect(floorViolations(sourcesBelow('src'))).toEqual([])
  })

  // Planted faults: a gate that cannot fail is none.
  it.each([
    [
      'an upward import',
      'src/bits/x.ts',
      "import { a } from '../trace/event.ts'",
      'bits must not import trace',
    ],
    [
      'a checker that peeks into state',
      'src/check/x.ts',
      "import { a } from '../hw/edu.ts'",
      'check must not import hw',
    ],
    ['a Node module in the model', 'src/hw/x.ts', "import fs from 'node:fs'", "hw must not import 'node:fs'"],
    ['a package in the model', 'src/machine/x.ts', "import { parse } from 'yaml'", "must not import 'yaml'"],
    ['a dynamic import', 'src/table/x.ts', "await import('../cli/main.ts')", 'table must not import cli'],
    ['a bare import', 'src/bits/x.ts', "import '../hw/edu.ts'", 'bits must not import hw'],
    ['a re-export', 'src/bits/x.ts', "export { a } from '../hw/edu.ts'", 'bits must not import hw'],
    [
      'an import over lines',
      'src/bits/x.ts',
      "import {\n  a,\n  b,\n} from '../hw/edu.ts'",
      'bits must not import hw',
    ],
    [
      'a way around the ports',
      'src/kernel/vfio/x.ts',
      "import { a } from '../guest/ddw.ts'",
      'kernel/vfio must not import kernel/guest',
    ],
    ['a folder that is no floor', 'src/misc/x.ts', '', 'misc is no floor'],
  ])('sees %s', (_what, path, text, sentence) => {
    expect(floorViolations([{ path, text }]).join('\n')).toContain(sentence)
  })

  it('takes no text for an import', () => {
    const text = "const doc = `it is taken from 'node:fs' there`\n// import { a } from '../cli/main.ts'"
    expect(floorViolations([{ path: 'src/bits/x.ts', text }])).toEqual([])
  })

  it('the architecture page names every floor', () => {
    const page = readFileSync('docs/architecture.md', 'utf8')
    for (const floor of Object.keys(FLOORS)) expect(page).toContain(`\`${floor}\``)
  })

  it('every folder of the sources is a floor', () => {
    const folders = readdirSync('src', { withFileTypes: true }).filter((e) => e.isDirectory())
    expect(folders.map((e) => e.name).sort()).toEqual(Object.keys(FLOORS).sort())
  })
})
