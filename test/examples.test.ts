import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

/** What each example prints last: the point that it makes. */
const POINT: Readonly<Record<string, string>> = {
  'replay-log.mjs': 'use-after-unmap: lines 2, 4, 5',
  'time-travel.mjs': '#6: the entry holds 0x5003',
  'use-after-unmap.mjs': '1 promise broken',
}

describe('examples run on the built package', () => {
  it('every example is tested', () => {
    expect(readdirSync('examples').sort()).toEqual(Object.keys(POINT).sort())
  })

  it.each(Object.keys(POINT))('%s', (name) => {
    const out = execFileSync(process.execPath, [`examples/${name}`], { encoding: 'utf8' })
    expect(out.trimEnd().split('\n').at(-1)).toBe(POINT[name])
    expect(readFileSync(`examples/${name}`, 'utf8').split('\n').length).toBeLessThan(60)
  })
})
