import { describe, expect, it } from 'vitest'
import { createLogExplainer } from '../../src/machine/explain.ts'
import { createTraceCauses } from '../../src/machine/explain-trace.ts'
import { explainText } from '../../src/report/explain/explain-text.ts'
import type { Explanation } from '../../src/report/explain/explainer.ts'
import { run } from '../cli/run.ts'
import { consoleOf, recording } from '../log-rows.ts'

const CONSOLE = 'recordings/vtd/x86-strict.console.txt.xz'

async function explained(name: string, trace = name): Promise<Explanation> {
  const explainer = createLogExplainer()
  explainer.push(await consoleOf(`vtd/${name}`))
  const explanation = explainer.end()
  const causes = createTraceCauses('qemu-trace', explanation.faults)
  causes.push(await recording(`vtd/${trace}`))
  causes.end()
  return explanation
}

/** What the reads and the writes of `edu` are in every console of a guest that has it. */
const EDU = [
  ['00:04.0', 'read', 6, ['0x1000', '0x12345000']],
  ['00:04.0', 'write', 5, ['0x1000', '0x7ffff000']],
] as const
/** Two faults have no line: the kernel had printed too much. */
const UNPRINTED = [
  'write by 00:04.0 at 0x12345000, reason 0x05',
  'read by 00:04.0 at 0x7ffff000, reason 0x06',
]
/** The disk of vhost-user is left running by the firmware. */
const ring = (device: string) => [[device, 'read', 6, ['0x1ffde000']]] as const

describe('faults of recorded consoles, with the trace of the same boot', () => {
  it.each([
    ['x86-lazy', EDU, UNPRINTED],
    ['x86-strict', EDU, UNPRINTED],
    ['x86-cm-strict', EDU, UNPRINTED],
    ['x86-sm', EDU, UNPRINTED],
    ['x86-diotlb-noats', EDU, UNPRINTED],
    ['vh-x86-strict', ring('00:01.0'), []],
    ['vh-x86-cm', ring('00:01.0'), []],
    ['vh-x86-nodiotlb', ring('00:01.0'), []],
    ['vh-x86-lazy', ring('00:01.0'), []],
    ['vh-x86-ats-strict', ring('01:00.0'), []],
    ['vh-x86-ats-lazy', ring('01:00.0'), []],
  ])('%s', async (name, faults, unprinted) => {
    const { faults: found } = await explained(name)
    expect(
      found.groups.map(({ words, addresses }) => [
        words.device,
        words.fields['access'],
        words.fields['reason'],
        addresses.ranges.map(({ first }) => `0x${first.toString(16)}`),
      ]),
    ).toEqual(faults)
    for (const { because, addresses } of found.groups) {
      const told = because.map(({ text }) => text)
      expect(
        told.filter((text) => /^trace line \d+: the context entry of the device was read/.test(text)),
      ).toHaveLength(1)
      const refused = told.filter((text) => text.endsWith(': nothing was ever seen mapped there'))
      expect(refused).toHaveLength(addresses.ranges.length)
    }
    const only = found.notes.map(({ text }) => text).filter((text) => text.startsWith('only in the trace'))
    expect(only.map((text) => text.replace(/^.*line \d+ on: |, \d+ times$/g, ''))).toEqual(unprinted)
  })

  it.each(['vh-x86-strict', 'vh-x86-cm', 'vh-x86-ats-lazy'])(
    '%s: the address is in memory that the firmware kept',
    async (name) => {
      const [fault] = (await explained(name)).faults.groups
      const known = fault?.about.map(({ text }) => text) ?? []
      expect(known.some((text) => text.includes('right behind the memory that the kernel uses'))).toBe(true)
    },
  )

  it('a trace of another boot explains none, and says so', async () => {
    const { faults } = await explained('vh-x86-strict', 'x86-strict')
    expect(faults.groups[0]?.because).toEqual([])
    expect(faults.notes.map(({ text }) => text)).toContain(
      'the trace has none of the 1 kind of DMA fault of this log: is it of the same boot?',
    )
  })
})

describe('iommulator explain LOG --trace TRACE', () => {
  it('says what the library says, with status 1', async () => {
    const { code, out } = await run(['explain', CONSOLE, '--trace', 'recordings/vtd/x86-strict.trace.xz'])
    expect(code).toBe(1)
    expect(out).toBe(explainText(await explained('x86-strict')))
  })

  it.each([
    ['no trace', ['--trace', CONSOLE], 'no known log format'],
    [
      'a log of another kind',
      ['--trace', 'recordings/kernel-ioctls.answers.xz'],
      '--trace takes a trace of QEMU',
    ],
    ['nothing', ['--trace', 'recordings/none.trace.xz'], 'recordings/none.trace.xz'],
  ])('refuses %s', async (_what, options, why) => {
    const { code, err } = await run(['explain', CONSOLE, ...options])
    expect(code).toBe(3)
    expect(err).toContain(why)
  })

  it('standard input is the log or the trace, not both', async () => {
    const { code, err } = await run(['explain', '-', '--trace', '-'])
    expect(code).toBe(3)
    expect(err).toContain('standard input is one file')
  })
})
