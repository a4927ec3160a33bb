import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { ScenarioError } from '../../src/cli/scenario-error.ts'
import { parseScenario, SCENARIO_BYTES_MOST } from '../../src/cli/yaml-scenario.ts'
import type { PseriesDescription } from '../../src/machine/pseries/description.ts'
import { toOperations } from '../../src/machine/scenario/scenario.ts'
import { SAMPLE } from './sample-catalogue.ts'

const EVERY = 'test/cli/valid-scenarios/every-kind.yaml'
const parse = (text: string) => parseScenario(text, 'x.yaml', SAMPLE)

function problemsOf(text: string): readonly string[] {
  try {
    parse(text)
  } catch (error) {
    if (error instanceof ScenarioError) return error.problems.map((p) => `${p.line}:${p.column} ${p.message}`)
    throw error
  }
  return []
}

describe('a scenario file becomes operations', () => {
  const scenario = parseScenario(readFileSync(EVERY, 'utf8'), EVERY, SAMPLE)

  it('one step is one operation, with the line it stands on', () => {
    const [first, second] = toOperations(scenario, SAMPLE.calls)
    expect(first).toEqual({
      operation: {
        verb: 'hcall',
        call: 'H_PUT_TCE',
        args: { liobn: 0x8000_0000n, ioba: 0x1000n, tce: 0x8000_0000_0000_0003n },
        by: { process: 'guest', task: 'init', cpu: 1 },
        line: 34,
      },
      expect: { code: 'H_SUCCESS' },
    })
    // The arguments of the second are the alias of the first's.
    expect(second?.operation.args).toEqual(first?.operation.args)
    expect(second?.expect).toEqual({ code: 'H_TOO_HARD', rule: 'no-table' })
    expect(scenario.steps.map((s) => s.operation.line)).toEqual([34, 38, 39, 44, 47, 49, 60])
  })

  it('numbers keep all their bits, sizes become bytes, texts stay texts', () => {
    const [, , get, , write, map] = scenario.steps
    expect(get?.operation.args).toEqual({ liobn: 0x8000_0000n, ioba: 4096n })
    expect(get?.expect?.outputs).toEqual({ tce: 0x200003n })
    expect(write?.operation.args).toEqual({
      device: 'edu0',
      iova: 0x1000n,
      data: 'hex:de ad be ef',
      burst: 128n,
      relaxed: true,
    })
    expect(map?.operation.args).toMatchObject({
      segments: [
        { address: 0x10000n, bytes: 0x10000n },
        { address: 0x30000n, bytes: 512n },
      ],
      hints: [1n, 2n, 3n],
      maxBytes: 0x20000n,
      queue: 0xffffn,
    })
  })

  it('the machine has its defaults, and what must come of it', () => {
    const machine = scenario.machine as PseriesDescription
    expect(machine.ram).toEqual([
      { gpa: 0n, bytes: 512n << 20n, owner: 'guest' },
      { gpa: 0x2000_0000n, bytes: 0x1000_0000n, owner: 'other' },
    ])
    expect(machine.phbs.map((p) => [p.name, p.index, p.pageShifts, p.ddw])).toEqual([
      ['pci0', 0, [12, 16, 24], true],
      ['pci5', 5, [12, 16, 21, 24], false],
    ])
    expect(machine.phbs[0]?.devices[1]).toEqual({
      name: 'edu1',
      kind: 'edu',
      slot: 1,
      function: 0,
      dmaMask: 0x0fff_ffffn,
    })
    expect(scenario.settled).toBe(true)
    expect(scenario.findings).toEqual([{ rule: 'use-after-unmap', step: 5 }, { rule: 'double-map' }])
  })

  it('JSON is read as well', () => {
    const least = parse(readFileSync('test/cli/valid-scenarios/least.json', 'utf8'))
    expect(least.machine).toMatchObject({ kind: 'pseries', phbs: [{}] })
    expect(least.machine).toHaveProperty('ram', [{ gpa: 0n, bytes: 1n << 30n, owner: 'guest' }])
  })

  it('an operation that nobody declared is refused', () => {
    expect(() => toOperations(scenario, SAMPLE.calls.slice(2))).toThrow(
      /step 1: no hcall is called H_PUT_TCE/,
    )
  })
})

describe('hostile files end in an error, soon', () => {
  const HEAD = 'version: 1\ntitle: x\n'

  it.each([
    ['brackets in brackets', `${HEAD}steps: ${'['.repeat(20_000)}`, 'nested too deeply'],
    [
      'maps in maps',
      Array.from({ length: 1500 }, (_, i) => `${' '.repeat(i)}a:`).join('\n'),
      'nested too deeply',
    ],
    ['an alias of itself', `${HEAD}steps: &s [*s, *s, *s]\n`, 'nested too deeply'],
    [
      'a number of a million digits',
      `version: ${'9'.repeat(1_000_000)}\ntitle: x\nsteps: []\n`,
      'unknown version',
    ],
    ['a negative one', `version: -${'9'.repeat(1_000_000)}\ntitle: x\nsteps: []\n`, 'unknown version'],
    ['a map of 20,000 keys', `${HEAD}steps: []\n${numbered(20_000, 'k')}`, 'unknown key "k0"'],
    ['the same key 20,000 times', `${HEAD}${'steps: []\n'.repeat(20_000)}`, 'stands twice'],
    ['a list of 20,000 wrong steps', `${HEAD}steps:\n${'- x\n'.repeat(20_000)}`, 'a step must be a map'],
    ['20,000 errors of syntax', `${'- a: b: c\n'.repeat(20_000)}`, 'a second "key: value"'],
    ['many brackets, none closed', `${HEAD}${'a: [\n'.repeat(2000)}`, 'never closed'],
  ])('%s', (_what, text, message) => {
    const problems = problemsOf(text)
    expect(problems.length).toBeGreaterThan(0)
    expect(problems.length).toBeLessThanOrEqual(100)
    expect(problems.join('\n')).toContain(message)
  })

  it('a key of the language is no key of a map', () => {
    for (const key of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
      expect(problemsOf(`${HEAD}steps: []\n${key}: {}\n`)).toEqual([
        `4:1 unknown key "${key}" in the scenario (allowed: version, title, doc, machine, settled, steps, concurrent, order, after, expect)`,
      ])
      expect(problemsOf(`${HEAD}steps: [{ hcall: ${key} }]\n`)[0]).toContain(`unknown hcall "${key}"`)
      expect(problemsOf(`${HEAD}steps: [{ ${key}: a }]\n`)[0]).toContain('a step needs a key')
    }
  })

  it('one that is too large is not looked at', () => {
    expect(() => parse('#'.repeat(SCENARIO_BYTES_MOST + 1))).toThrow(
      /x\.yaml: a scenario file has at most 4194304 bytes/,
    )
    expect(problemsOf(`${HEAD}steps: []\n#${'#'.repeat(1 << 20)}`)).toEqual([])
  })

  it('characters that a terminal would act on do not reach it', () => {
    const controls = '\u001b[2J \u009b1m \u202e \u2028'
    const texts = [
      `bad${controls}: 1`,
      `a: 1\na: "${controls}"`,
      `a: *x${controls.replaceAll(' ', '')}`,
      `"k${controls}": 1\n"k${controls}": 2`,
    ]
    for (const text of texts) {
      let error: unknown
      try {
        parse(`${HEAD}steps: ["\\u001b\\x9b${controls.slice(1)}"]\n${text}\n`)
      } catch (e) {
        error = e
      }
      expect(error).toBeInstanceOf(ScenarioError)
      expect((error as ScenarioError).message).toMatch(/^[\n\x20-\x7e]*$/)
    }
  })
})

function numbered(count: number, prefix: string): string {
  return Array.from({ length: count }, (_, i) => `${prefix}${i}: 1\n`).join('')
}
