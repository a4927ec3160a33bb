import { describe, expect, it } from 'vitest'
import { agentCommand, answerShape } from '../../src/reader/agent-command.ts'
import { AGENT_COMMANDS, type AgentCommandName } from '../../src/reader/kernel-answers-format.ts'
import {
  agentCommandOf,
  formatAgentCommand,
  formatAgentLine,
  readAgentLine,
} from '../../src/reader/kernel-answers-line.ts'
import { KernelAnswersReader, UNKNOWN_COMMANDS_MAX } from '../../src/reader/kernel-answers-reader.ts'
import { bytesOf } from '../log-rows.ts'

const names = Object.keys(AGENT_COMMANDS) as AgentCommandName[]

function summaryOf(text: string) {
  const kinds: string[] = []
  const reader = new KernelAnswersReader({ take: (e) => kinds.push(`${e.line} ${e.kind}`) })
  reader.push(bytesOf(text))
  return { ...reader.end(), kinds }
}

describe('a line of a transcript', () => {
  it.each(names.filter((n) => n !== 'quit'))('the example of %s is read and written again', (name) => {
    const { example } = AGENT_COMMANDS[name]
    const read = readAgentLine(example)
    if (read === undefined || !('command' in read)) throw new Error(`not read: ${JSON.stringify(read)}`)
    expect(read.command.name).toBe(name)
    expect(formatAgentLine(read)).toBe(example)
  })

  const damaged: readonly (readonly [line: string, why: string])[] = [
    ['map 0x1000 0x2000', 'argument bytes is missing'],
    ['map 0x1000 0x2000 => 0', 'argument bytes is missing'],
    ['map 0x1000 0x2000 0x1000', 'the line is cut before its answer'],
    ['map 0x1000 0x2000 0x1000 1 2 => 0', 'the command takes 4 arguments, not 5'],
    ['map 0x1000 [    3.39] 0x1000 => 0', 'argument vaddr is no number of 64 bits: "["'],
    ['map 0x10000000000000000 0x0 0x0 => 0', 'argument iova is no number of 64 bits: "0x10000000000000000"'],
    ['eeh 18446744073709551616 => 0', 'argument op is no number of 64 bits: "18446744073709551616"'],
    ['eeh 08 => 0', 'argument op is no number of 64 bits: "08"'],
    ['dma x 0x0 16 => 0', 'argument direction is none of r, w: "x"'],
    ['open 0 => ', 'the answer is no number of 64 bits: ""'],
    ['open 0 => x', 'the answer is no number of 64 bits: "x"'],
    ['open 0 => 9223372036854775808', 'the answer is no number of 64 bits: "9223372036854775808"'],
    ['open 0 => -1', 'no errno follows the negative value'],
    ['open 0 => 0 flags=0x1', 'behind the value stands "flags=0x1", not nothing'],
    ['create 16 0x1000 1 => 0 start=', 'behind the value stands "start=", not "start=0x{start:x64}"'],
    [
      'device 0 0001:01:00.0 => 0',
      'behind the value stands "", not "bar size 0x{barBytes:x64} mapped {mapped:word}"',
    ],
    ['peek 0x0 4 => 0 414141', 'data holds 3 of 4'],
    ['peek 0x0 2 => 0 414141', 'data holds 3 of 2'],
    ['peek 0x0 2 => -1 EFAULT 4141', 'the command has no such answer'],
    ['tcedump 0 0 1 => 0 0x1 0x2', 'tces holds 2 of 1'],
    ['quit => 0', 'the command has no such answer'],
  ]
  it.each(damaged)('%s', (line, why) => {
    const read = readAgentLine(line)
    if (line.includes(' => ') || why.includes('before its answer'))
      expect(read).toMatchObject({ damaged: why })
    // Without its answer and with other words than arguments, it may be anything that a console prints.
    else expect(read).toBeUndefined()
  })

  it.each([
    'open the pod bay doors',
    'total 0',
    'crw-rw-rw-    1 0        0          10, 196 Nov 20 22:28 vfio',
    'a => b',
    'link: x => 12',
    'spapr_iommu_post_load liobn=80000000 10 => 0x10 bus_offset=0x0 ps=12',
    'quit',
    'sh reboot',
    '',
  ])('is none of the agent: %j', (line) => {
    expect(readAgentLine(line)).toBeUndefined()
  })

  it('of an unknown command is named, whoever did not know it', () => {
    expect(readAgentLine('frobnicate 1 2 => 0')).toEqual({ unknown: 'frobnicate', isRefused: false })
    expect(readAgentLine('frobnicate => ? unknown command')).toEqual({
      unknown: 'frobnicate',
      isRefused: true,
    })
    const dma = 'dma r 0x0 16 => ? unknown command'
    const read = readAgentLine(dma)
    expect(read).toMatchObject({ command: { name: 'dma' }, answer: undefined })
    expect(read && 'command' in read && formatAgentLine(read)).toBe(dma)
  })

  it('numbers are read as strtoul does, and keep their spelling', () => {
    const line = 'poke 010 0X41 0 => 0'
    const read = readAgentLine(line)
    expect(read).toMatchObject({ command: { args: { vaddr: 8n, fill: 0x41n, bytes: 0n } } })
    expect(read && 'command' in read && formatAgentLine(read)).toBe(line)
  })

  it('a dump of no entries and a look at no bytes', () => {
    for (const line of ['tcedump 0 0x10 4 => 0', 'peek 0x0 0 => 0 ']) {
      const read = readAgentLine(line)
      expect(read && 'command' in read && formatAgentLine(read)).toBe(line)
    }
  })
})

describe('a command for the agent', () => {
  it('is spelled as declared, with optional arguments as far as they are given', () => {
    const text = (command: ReturnType<typeof agentCommandOf>) => formatAgentCommand(command)
    expect(text(agentCommandOf('create', { pageShift: 16, bytes: 1n << 30n, levels: 1 }))).toBe(
      'create 16 0x40000000 1',
    )
    expect(text(agentCommandOf('map', { iova: 0x1000, vaddr: 0, bytes: 4096, flags: 1 }))).toBe(
      'map 0x1000 0x0 0x1000 1',
    )
    expect(text(agentCommandOf('hcall', { nr: 0x20, arg3: 7 }))).toBe('hcall 0x20 0x0 0x0 0x7')
    expect(text(agentCommandOf('sh', { line: 'echo 1 > x' }))).toBe('sh echo 1 > x')
    expect(text(agentCommandOf('quit', {}))).toBe('quit')
  })

  it.each([
    ['a missing argument', () => agentCommandOf('eeh', {} as never)],
    ['an unknown one', () => agentCommandOf('eeh', { op: 1, flag: 1 } as never)],
    ['a word that is none', () => agentCommandOf('dma', { direction: 'x', iova: 0, bytes: 0 })],
    ['a word with a blank', () => agentCommandOf('device', { group: 0, name: 'a b' })],
    ['a number that does not fit', () => agentCommandOf('eeh', { op: 1n << 64n })],
    ['a negative number', () => agentCommandOf('eeh', { op: -1 })],
  ])('%s is refused', (_what, make) => {
    expect(make).toThrow(expect.objectContaining({ code: 'ERR_OPERATION' }))
  })

  it('an answer with other fields is refused', () => {
    const command = agentCommandOf('unmap', { iova: 0, bytes: 0 })
    const answer = { value: 0n, errno: undefined, fields: { start: 0n } }
    expect(() => formatAgentLine({ command, answer })).toThrow(/no answer of 0 has the fields start/)
  })
})

describe('the console around the commands', () => {
  it('every line is something', () => {
    const text = [
      '# a comment',
      '',
      'ORACLE script a.txt',
      '[    3.399302] Failed to allocate',
      '<4>[    3.399302] with a level',
      'ORACLE dmesg [    3.411278] from the log',
      'open 0 => 0\r\r',
      'frobnicate => 1',
      'frobnicate => 2',
      'ORACLE sings',
      'ORACLE',
      'hello',
      'map 0 0',
      'close 0 =>',
    ].join('\n')
    const { kinds, declared, unknown, damaged, ...rest } = summaryOf(text)
    expect(kinds).toEqual([
      '1 comment',
      '3 mark',
      '4 message',
      '5 message',
      '6 message',
      '7 command',
      '8 unknown',
      '9 unknown',
      '10 damaged',
      '11 damaged',
    ])
    expect(declared).toEqual([{ name: 'open', count: 1, firstLine: 7 }])
    expect(unknown).toEqual([{ name: 'frobnicate', count: 2, firstLine: 8 }])
    expect(damaged.first.map((d) => [d.line, d.reason])).toEqual([
      [10, 'no mark is called "sings"'],
      [11, 'no mark is called ""'],
    ])
    expect(rest).toMatchObject({
      lines: 14,
      comments: 1,
      marks: 1,
      messages: 3,
      noise: 3,
      empty: 1,
      truncated: true,
    })
  })

  it('unknown commands are counted by name up to a limit, and long lines never held', () => {
    const many = Array.from({ length: UNKNOWN_COMMANDS_MAX + 5 }, (_, i) => `c${i} => 0\n`).join('')
    const { unknown, damaged } = summaryOf(`${many}${'x'.repeat(100_000)}\n`)
    expect(unknown).toHaveLength(UNKNOWN_COMMANDS_MAX + 1)
    expect(unknown.at(-1)).toEqual({ name: '(other names)', count: 5, firstLine: UNKNOWN_COMMANDS_MAX + 1 })
    expect(damaged.first).toMatchObject([{ reason: 'the line is longer than 4096 bytes' }])
  })
})

describe('a declaration that contradicts itself does not load', () => {
  const number = { kind: 'dec', doc: '' } as const
  const about = { args: {}, doc: '', done: [''], example: '' }
  it.each([
    [
      'a needed argument after an optional one',
      () => agentCommand({ ...about, args: { a: { ...number, optional: true }, b: number } }),
    ],
    [
      'words after the rest',
      () => agentCommand({ ...about, args: { a: { kind: 'rest', doc: '' }, b: number } }),
    ],
    ['two answers alike', () => agentCommand({ ...about, done: ['a{x:x64}', 'b{x:x64}'] })],
    ['a count of nothing', () => agentCommand({ ...about, counts: { x: 'y' } })],
    ['a kind that is none', () => answerShape('{x:y64}')],
    ['a field twice', () => answerShape('{x:x64} {x:x64}')],
  ])('%s', (_what, declare) => {
    expect(declare).toThrow(expect.objectContaining({ code: 'ERR_DECLARATION' }))
  })
})
