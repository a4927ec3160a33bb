import type { CallDecl, Verb } from '../../bits/call.ts'
import { VHOST_CALLS } from '../../kernel/vhost/calls.ts'
import { CALLS } from '../../machine/registry.ts'
import { callAnchors } from '../call-order.ts'
import { alignedGrid, item, paragraph } from '../markdown.ts'
import { errataPage } from './errata-page.ts'
import { hcallTables } from './hcall-differences.ts'
import { type RecordedRun, runRecording } from './recorded-run.ts'
import type { Recording } from './recordings.ts'
import { rtasTables } from './rtas-differences.ts'
import { RuleCounts } from './rule-counts.ts'
import { answersTo, type CallFamily, CONFIRMED, DIFFERS, familyPage, NOT_RUN, stateOf } from './rule-pages.ts'

const HEAD = '<!-- Made by `npm run docs` from the recordings; do not edit. -->\n'

const VHOST: readonly CallDecl[] = VHOST_CALLS

/** Verbs of the kernel of an x86 machine, which no recording is of. */
const OF_X86: readonly Verb[] = ['svm', 'sva', 'sys', 'cpu']

const of = (has: (decl: CallDecl) => boolean): CallDecl[] => CALLS.filter(has)

const FAMILIES: readonly CallFamily[] = [
  {
    file: 'real-answers-vfio.md',
    title: 'Recorded answers: VFIO',
    intro:
      'Files, containers, groups and devices of VFIO, and errors of PCI (EEH), as the kernel of a POWER host answers.',
    calls: of((decl) => decl.layer === 'kernel' && !VHOST.includes(decl) && !OF_X86.includes(decl.verb)),
  },
  {
    file: 'real-answers-vhost.md',
    title: 'Recorded answers: vhost-net',
    intro: 'Ioctls of vhost-net, the messages of its IOTLB, and the eventfds and taps of its queues.',
    calls: of((decl) => VHOST.includes(decl)),
  },
  {
    file: 'real-answers-kvm.md',
    title: 'Recorded answers: KVM',
    intro:
      'Ioctls of KVM, its VFIO device, TCE tables in the kernel, and the hypercalls that the kernel answers itself. A guest never sees H_TOO_HARD: the call goes to user space.',
    calls: of(({ layer }) => layer === 'kvm'),
  },
  {
    file: 'real-answers-host.md',
    title: 'Recorded answers: processes and memory',
    intro: 'Memory, limits and capabilities of the process that makes the calls.',
    calls: of(({ layer, verb }) => layer === 'host' && verb === 'proc'),
  },
  {
    file: 'real-answers-qemu.md',
    title: "Recorded answers: QEMU's hypercalls and RTAS calls",
    intro:
      'Hypercalls and RTAS calls as QEMU itself answers them. All trace logs of QEMU stand in one column: how many answers, in how many logs, and where the first is.',
    calls: of(({ layer }) => layer === 'qemu'),
  },
]
const DIFFERENCES = 'real-answers-differences.md'
const ERRATA_PAGE = 'real-answers-errata.md'

const WHAT: Readonly<Record<Recording['kind'], string>> = {
  'kernel-answers': 'a kernel',
  'qemu-trace': 'QEMU, its trace',
  'pseries-steps': 'QEMU, asked',
  'linux-ftrace': 'a kernel, its trace',
}

function recordingTable(runs: readonly RecordedRun[]): string {
  const rows = runs.map(({ recording, profile, same, different, unjudged }) => [
    `\`${recording.name}\``,
    WHAT[recording.kind],
    `\`${profile}\``,
    String(same.length + different.length + unjudged),
    String(same.length),
    String(different.length),
    String(unjudged),
  ])
  return alignedGrid(['recording', 'of', 'profile', 'answers', 'the same', 'others', 'not judged'], rows)
}

function callTable(counts: readonly RuleCounts[]): string {
  const rows = FAMILIES.flatMap(({ file, calls }) => {
    const anchors = callAnchors(calls)
    return calls.map((decl) => {
      const states = decl.answers.map(({ rule }) => stateOf(counts, decl, rule))
      const count = (state: string) => String(states.filter((s) => s === state).length)
      const link = `[${decl.name}](${file}#${anchors.get(decl) ?? ''})`
      const answers = String(answersTo(counts, decl))
      return [link, decl.layer, answers, count(CONFIRMED), count(DIFFERS), count(NOT_RUN)]
    })
  })
  return alignedGrid(['call', 'answered by', 'answers', `rules ${CONFIRMED}`, DIFFERS, NOT_RUN], rows)
}

const LIMITS = [
  'A rule of the interface that the recorded machine does not have stays `not run`: QEMU never answers by `ioba-unaligned` (Q1). Nor can a real program ask for `no-such-process`, which is the word of the model for an operation of nobody.',
  'Two rules with the same code cannot be told apart by an answer: which of them it was is what the model says.',
  'A command of a transcript may be several calls (`device` opens a device and maps its registers): its answer counts for each of them.',
  'What DMA moved is compared too (in `peek`), but has no code, and is not counted here. Nor are calls of drivers of a guest: none of the recordings shows what they answer.',
  'A trace of QEMU shows of a list of TCEs only the last one, and prints nothing of calls that QEMU refuses early. What a line leaves open, the model completes.',
] as const

function overview(runs: readonly RecordedRun[], counts: readonly RuleCounts[]): string {
  return [
    '# What a real kernel answers',
    '',
    paragraph(
      'The model declares for every call its rules in the order of the checks, and the code of each. These pages say which of them real machines have answered. All recordings of real answers are run through the model; each answer is counted for the rule by which the model gave the same one.',
    ),
    '',
    item(
      `**${CONFIRMED}**: recorded answers are those of this rule; the table has their number, and the line of the first.`,
    ),
    item(
      `**${DIFFERS}**: the model answers by this rule where the recording has something else. A test fails where there is one.`,
    ),
    item(
      `**${NOT_RUN}**: no recording has got there. The rule rests on what its source says, and on nothing else.`,
    ),
    '',
    paragraph(
      '`xz -dc recordings/NAME.answers.xz | sed -n LINEp` (or `.trace.xz`) shows the line of a place.',
    ),
    '',
    '## The recordings',
    '',
    paragraph(
      '[How each was made](../../recordings/README.md). The profile is that of the machine that was recorded; the model runs with its errata. The emulated host bridges below a kernel have Q13 to Q16 as well.',
    ),
    '',
    recordingTable(runs),
    '',
    '## The calls',
    '',
    ...FAMILIES.map(({ file, title, intro }) => item(`[${title}](${file}). ${intro}`)),
    item(`[Where QEMU, KVM and the interface differ](${DIFFERENCES}): the same inputs to all of them.`),
    item(`[What the recordings say of errata](${ERRATA_PAGE}).`),
    '',
    callTable(counts),
    '',
    '## What a count does not say',
    '',
    ...LIMITS.map(item),
    '',
    '## With runs of your own',
    '',
    paragraph(
      'Record answers ([next to a real kernel](../guide/peers.md)), pack them, and make these pages again. Every `NAME.answers.xz` and `NAME.trace.xz` in `recordings` is taken, whatever its name; transcripts name their kernel, and are run with its errata.',
    ),
    '',
    '```sh',
    'iommulator connect kernel --random 5000 --seed 11 --record mine.answers',
    'iommulator connect qemu-pseries --random 20000 --seed 11 --record mine-too.answers',
    'xz --check=crc64 mine.answers mine-too.answers && mv mine*.answers.xz recordings/',
    'npm run docs',
    '```',
    '',
  ].join('\n')
}

const differencesPage = (runs: readonly RecordedRun[]): string =>
  [
    '# Where QEMU, KVM and the interface differ',
    '',
    paragraph(
      "Every input is given to the model's QEMU 7.2, to its KVM of Linux 6.12.95, and to QEMU without errata, which is what the interface promises. What they answer is put beside what was recorded of exactly such inputs: how often, and where first. `not run`: no recording has such an input.",
    ),
    '',
    '## Hypercalls',
    '',
    paragraph(
      'The window has 1024 pages of 64 KiB at 1 << 59, the guest 64 MiB of memory, and no hardware table is behind the window. Calls with a count of pages are for 3 of them. `to user space`: KVM does not answer, and QEMU does (the column before). `N written`: entries that a refused call has changed; no answer shows it, but reads of the same window that follow do. The last column names the [errata](errata.md) without which the cells of QEMU or of KVM would be others.',
    ),
    '',
    hcallTables(runs),
    paragraph(
      'PAPR allows 512 pages in one H_STUFF_TCE (PAPR 2.12, 14.5.4.2.3, as Linux 9d2ccf00bddc quotes it); neither QEMU nor KVM refuses more, newer firmware does. Recorded inputs that are wrong in other combinations are not in these tables; all of them are in the [tables of rules](real-answers.md).',
    ),
    '',
    '## RTAS calls for dynamic windows',
    '',
    paragraph(
      'QEMU alone answers them, KVM has no part in it. A new machine with its default window for each row. An answer is the status (-1 hardware error, -3 parameter error) and the cells that are written: of a query the windows that can open, the pages of the largest one (in two cells of 6), page sizes and none for migration; of a create the LIOBN and the bus address.',
    ),
    '',
    rtasTables(runs),
  ].join('\n')

/** The pages about the rules that real machines have answered by, by file name: all but that of the errata. */
export function rulePages(runs: readonly RecordedRun[]): Readonly<Record<string, string>> {
  const counts = runs.map((run) => new RuleCounts(run))
  const pages = {
    'real-answers.md': overview(runs, counts),
    ...Object.fromEntries(FAMILIES.map((family) => [family.file, familyPage(family, counts)])),
    [DIFFERENCES]: differencesPage(runs),
  }
  return Object.fromEntries(Object.entries(pages).map(([file, text]) => [file, HEAD + text]))
}

/** All pages that are made from recordings, by file name. The one about errata takes some seconds. */
export function realAnswerPages(recordings: readonly Recording[]): Readonly<Record<string, string>> {
  const runs = recordings.map((recording) => runRecording(recording))
  return { ...rulePages(runs), [ERRATA_PAGE]: HEAD + errataPage(runs) }
}
