import { describe, expect, it } from 'vitest'
import { KernelAnswersReader, type TranscriptEntry } from '../../src/reader/kernel-answers-reader.ts'

function read(text: string) {
  const entries: TranscriptEntry[] = []
  const reader = new KernelAnswersReader({ take: (entry) => entries.push(entry) })
  reader.push(Buffer.from(text, 'latin1'))
  return { entries, summary: reader.end() }
}

describe('a line that is no command', () => {
  it.each([
    ['what other programs print', 'Booting Linux...'],
    ['colours of a terminal', '\u001b[0;32mok\u001b[0m'],
    ['a bell and a tab', 'done\u0007\tnow'],
    ['another alphabet', 'fertig: gr\u00fcn'],
  ])('%s is noise', (_what, line) => {
    const { entries, summary } = read(`${line}\n`)
    expect([entries, summary.noise, summary.damaged.count]).toEqual([[], 1, 0])
  })

  it.each(['\u0000\u0000\u0000', 'regis\u0001ter 0x1000', 'x\u007f', '\u0010 => 0'])(
    '%j is damaged: a command may have stood there',
    (line) => {
      const { entries, summary } = read(`vmlck => 0 VmLck=0kB VmPin=0kB\n${line}\n`)
      expect(entries.map((e) => e.kind)).toEqual(['command', 'damaged'])
      expect(summary.damaged).toMatchObject({
        count: 1,
        first: [{ line: 2, reason: 'it holds bytes that no console prints' }],
      })
    },
  )
})
