import { beforeAll, describe, expect, it } from 'vitest'
import { PHB_PAGE_SHIFTS, tableVerdict } from '../../src/machine/fit/fit-request.ts'
import { formatAgentLine } from '../../src/reader/kernel-answers-line.ts'
import { KernelAnswersReader, type TranscriptEntry } from '../../src/reader/kernel-answers-reader.ts'
import { answers } from '../log-rows.ts'

type Command = Extract<TranscriptEntry, { kind: 'command' }>

describe('what fit says of windows, against the recorded answers of Linux 6.12.95', () => {
  const commands: Command[] = []
  beforeAll(async () => {
    const reader = new KernelAnswersReader({ take: (e) => e.kind === 'command' && commands.push(e) })
    reader.push(await answers())
    reader.end()
  })

  const said = ({ command: { args } }: Command): string => {
    const [pageShift, levels] = [Number(args['pageShift']), Number(args['levels'])]
    if (!(PHB_PAGE_SHIFTS.phb4 as readonly number[]).includes(pageShift)) return 'EINVAL'
    return tableVerdict({ pageShift, windowBytes: args['bytes'] as bigint, levels }, 16).code
  }
  const answered = ({ answer }: Command): string => answer?.errno ?? 'OK'

  it('every TCE_CREATE without flags that finds a free window is answered so', () => {
    // A third window, flags, and a container of v1 are no question of the table.
    const asked = commands.filter(
      (c) =>
        c.command.name === 'create' &&
        c.command.args['flags'] === 0n &&
        !['ENOSPC', 'ENOTTY'].includes(answered(c)),
    )
    expect(asked).toHaveLength(20)
    expect(asked.map((c) => `${said(c)} ${formatAgentLine(c)}`)).toEqual(
      asked.map((c) => `${answered(c)} ${formatAgentLine(c)}`),
    )
  })

  it('what failed calls leave charged is what VmLck shows at the end of the first script', () => {
    const end = commands.findIndex((c) => c.command.name === 'groupclose')
    const first = commands.slice(0, end)
    const failed = first.filter(
      (c) => c.command.name === 'create' && c.command.args['flags'] === 0n && c.answer?.value === -1n,
    )
    const kept = failed.map(({ command: { args } }) => {
      const pageShift = Number(args['pageShift'])
      if (!(PHB_PAGE_SHIFTS.phb4 as readonly number[]).includes(pageShift)) return 0
      const made = tableVerdict(
        { pageShift, windowBytes: args['bytes'] as bigint, levels: Number(args['levels']) },
        16,
      )
      return 'chargedBytes' in made ? made.chargedBytes / 1024 : 0
    })
    const locked = first.findLast((c) => c.command.name === 'vmlck')?.answer?.fields['lockedKib']
    // 16 MiB were registered once and given back once while mapped, so that they stay.
    expect(BigInt(kept.reduce((sum, kib) => sum + kib, 0)) + 16_384n).toBe(locked)
  })
})
