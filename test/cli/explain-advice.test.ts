import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { run } from './run.ts'

const DIR = 'src/report/explain'
const ADVISED = /iommulator ([a-z]+) ([A-Z][A-Z_0-9]*)( 0x<\w+>)?/g

/** Every command that a text of `explain` tells people to run, by its words. */
const commands = readdirSync(DIR).flatMap((file) =>
  [...readFileSync(`${DIR}/${file}`, 'utf8').matchAll(ADVISED)].map(([text, verb = '', name = '']) => ({
    text,
    verb,
    name,
  })),
)

describe('commands that explain tells people to run', () => {
  it('are seen', () => {
    expect(commands.map(({ text }) => text)).toContain('iommulator decode VTD_CAP 0x<cap>')
    expect(commands.map(({ text }) => text)).toContain('iommulator replay TRACE')
  })

  it.each(commands)('$text', async ({ verb, name }) => {
    const argv = verb === 'replay' ? ['recordings/vtd/x86-strict.trace.xz'] : [name, '0x1c0000c40660462']
    const { code, out } = await run([verb, ...argv])
    expect(code).toBe(0)
    expect(out).not.toBe('')
  })

  it.each(['VTD_DEV_TLB_INV_DSC_QW0', 'VTD_IEC_INV_DSC_QW0', 'VTD_INV_WAIT_DSC_QW0'])(
    '%s, which a text names beside its command',
    async (name) => {
      expect((await run(['decode', name, '0x1'])).code).toBe(0)
    },
  )
})
