import { createReplay } from '../../src/machine/replay/log-replay.ts'
import type { ReplayResult } from '../../src/machine/replay/result.ts'
import { answers, bytesOf } from '../log-rows.ts'

/** What a host prints before its first script: a 6.12 kernel with 64 KiB pages, an edu device in each of two groups. */
export const HEAD = [
  'ORACLE kernel 6.12.95+deb12-powerpc64le-64k up 2.00',
  'ORACLE pci 0001:00:00.0 0x1014:0x04c1 group=',
  'ORACLE pci 0001:01:00.0 0x1234:0x11e8 group=0',
  'ORACLE pci 0002:01:00.0 0x1234:0x11e8 group=1',
  'ORACLE script test.txt',
]
export const HEAD_LINES = HEAD.length

/** Replays a transcript that is given as text. */
export function replayText(text: string, profile?: string): ReplayResult {
  const replay = createReplay({
    from: 'kernel-answers',
    source: 'test',
    ...(profile === undefined ? {} : { profile }),
  })
  replay.push(bytesOf(text))
  return replay.end()
}

/** Replays lines behind the head of a transcript. */
export const replayLines = (lines: readonly string[], profile?: string): ReplayResult =>
  replayText(`${[...HEAD, ...lines].join('\n')}\n`, profile)

/** The recording, and where each of its scripts stands in it. */
export class Recording {
  readonly lines: readonly string[]

  private constructor(lines: readonly string[]) {
    this.lines = lines
  }

  static async read(): Promise<Recording> {
    return new Recording(
      Buffer.from(await answers())
        .toString('latin1')
        .split('\n'),
    )
  }

  get text(): string {
    return this.lines.join('\n')
  }

  /** Lines of the head, of a script with its marks, and nothing else; their place in the recording is kept. */
  script(name: string): string {
    const starts = this.lines.flatMap((line, i) => (line.startsWith('ORACLE script ') ? [i] : []))
    const first = this.lines.findIndex((line) => line.startsWith(`ORACLE script ${name}`))
    const end = this.lines.findIndex((line, i) => i > first && line.startsWith('ORACLE script end'))
    const kept = (i: number) => i < (starts[0] ?? 0) || (i >= first && i <= end)
    return this.lines.map((line, i) => (kept(i) ? line : '')).join('\n')
  }
}
