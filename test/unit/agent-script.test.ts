import { describe, expect, it } from 'vitest'
import { formatAgentScript, readAgentScripts, scriptName } from '../../src/machine/lockstep/agent-script.ts'
import { readAgentCommand } from '../../src/reader/kernel-answers-line.ts'
import { answers } from '../log-rows.ts'

const lines = (text: string, name = 'a.txt') =>
  readAgentScripts(text, name).map((s) => [s.name, ...formatAgentScript(s).trimEnd().split('\n')])

describe('scripts of the agent', () => {
  it('are commands, one a line, with comments', () => {
    expect(lines('# a window\nopen 0\n\n  create 16 0x40000000 1  \r\nvmlck')).toEqual([
      ['a.txt', 'open 0', 'create 16 0x40000000 1', 'vmlck'],
    ])
  })

  it('are the commands of a transcript, each script apart', () => {
    const text = [
      'ORACLE script one.txt',
      'open 0 => 0',
      '# text',
      'ORACLE script end rc=0',
      'ORACLE script two.txt',
      'noise',
      'group 0 => -1 ENOENT',
      'ORACLE script end rc=0',
    ]
    expect(lines(text.join('\n'))).toEqual([
      ['one.txt', 'open 0'],
      ['two.txt', 'group 0'],
    ])
    expect(lines('open 0 => 0\ngroup 0 => 0\n')).toEqual([['a.txt', 'open 0', 'group 0']])
  })

  it('are those of the recording', async () => {
    const scripts = readAgentScripts(Buffer.from(await answers()).toString('latin1'), 'all')
    expect(scripts.map(({ name, commands }) => [name, commands.length])).toEqual([
      ['pnv-1-vfio-v2.txt', 127],
      ['pnv-2-dma.txt', 44],
      ['pnv-3-kvm.txt', 64],
      ['pnv-4-kvm-vfio.txt', 74],
      ['pnv-5-vfio-v1.txt', 31],
    ])
  })

  it.each([
    ['open 0\nopne 1', 'a.txt, line 2: no command is called "opne" (did you mean "open"?)'],
    ['create 16', 'a.txt, line 1: create: argument bytes is missing'],
    ['map 0x1 0x2 zz', 'a.txt, line 1: map: argument bytes is no number of 64 bits: "zz"'],
    [
      '# QEMU\nscript a\nhcall 0x1c 0x80000000 0x0 => 0 r4=0x0',
      'a.txt, line 2: these are steps for QEMU: iommulator connect qemu-pseries',
    ],
    ['# nothing', 'a.txt holds no command of the agent'],
  ])('%j: %s', (text, why) => {
    expect(() => readAgentScripts(text, 'a.txt')).toThrow(
      expect.objectContaining({ code: 'ERR_OPERATION', message: why }),
    )
  })

  it('are bounded', () => {
    const why = 'a.txt: a script has more than 10000 commands'
    expect(() => readAgentScripts('vmlck\n'.repeat(10_001), 'a.txt')).toThrow(why)
    expect(readAgentScripts('vmlck\n'.repeat(10_000), 'a.txt')).toHaveLength(1)
  })

  it('have names that are one word', () => {
    expect([scriptName('a b/c.txt'), scriptName(''), scriptName('x'.repeat(99))]).toEqual([
      'a_b_c.txt',
      'script',
      'x'.repeat(40),
    ])
  })

  it('a command is read with its arguments', () => {
    expect(readAgentCommand(' unmap 0x20000  0x10000 ')).toEqual({
      name: 'unmap',
      words: ['0x20000', '0x10000'],
      args: { iova: 0x20000n, bytes: 0x10000n, flags: 0n },
    })
  })
})
