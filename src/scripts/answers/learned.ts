import { counted } from '../../check/words.ts'
import { item } from '../markdown.ts'
import type { ErratumCount } from './erratum-evidence.ts'
import type { RecordedRun } from './recorded-run.ts'
import { summed } from './rule-counts.ts'
import { NOT_RUN } from './rule-pages.ts'

/** Something that was read otherwise, or not at all, in sources and manuals before a run said it. */
interface Learned {
  readonly text: string
  /** What says so: answers that rest on an erratum, answered lines, or messages of a kernel. */
  readonly by: { readonly erratum: string } | { readonly line: RegExp } | { readonly message: RegExp }
}

const LEARNED: readonly Learned[] = [
  {
    text: 'The source of 6.1.192 counts all pages of a hypercall in the range check; 6.12.95 looks at the first page only (X14).',
    by: { erratum: 'X14' },
  },
  {
    text: 'Where hardware tables are behind the window, that call clears what lies behind the table: at times the kernel of the host ends the process with an Oops in iommu_tce_xchg_no_kill.',
    by: { message: /NIP \[.*\] iommu_tce_xchg_no_kill/ },
  },
  {
    text: 'A v1 container takes a group whose PE has dynamic windows: before Linux 6.4 VFIO_SET_IOMMU answers EPERM, since then 0.',
    by: { erratum: 'v1-kernel-tables' },
  },
  {
    text: 'VFIO_IOMMU_SPAPR_TCE_CREATE of a window that is smaller than one of its pages answers 0: what it computes of the size wraps.',
    by: { line: /^create 16 0x8000 1 => 0 / },
  },
  {
    text: 'VFIO_IOMMU_SPAPR_TCE_CREATE keeps the charge of every table that it could not make (X10).',
    by: { erratum: 'X10' },
  },
  {
    text: 'A PUT, STUFF or INDIRECT leaves r4 as it was passed, the LIOBN, also where it is refused.',
    by: { line: /^hcall 0x(?:20|138|13c) (0x[0-9a-f]+) .*=> -4 (?:0 )?r4=\1$/ },
  },
  {
    text: 'An RTAS call that is refused writes its status and no other cell.',
    by: { line: /^rtas .*=> -[13]$/ },
  },
  {
    text: 'QEMU reads zeros from a list outside memory, and answers H_SUCCESS (Q6).',
    by: { erratum: 'Q6' },
  },
  {
    text: 'With the default window gone and the other one there, QEMU gives a new window the bus address of the other (Q8).',
    by: { erratum: 'Q8' },
  },
  {
    text: 'A hypercall that nobody has answers H_FUNCTION and leaves r4.',
    by: { line: /^hcall 0x3f4 (0x[0-9a-f]+).*=> -2 r4=\1$/ },
  },
]

/** Lines of recordings: those that were answered, or all. */
function inLines(pattern: RegExp, runs: readonly RecordedRun[], isAnswer: boolean) {
  return runs.map(({ recording, same }) => {
    const lines = recording.text.split('\n')
    const asked = isAnswer ? same : lines.map((_, i) => i + 1)
    const found = asked.filter((line) => pattern.test(lines[line - 1] ?? ''))
    return { name: recording.name, count: { count: found.length, first: found[0] ?? 0 } }
  })
}

function shownBy(by: Learned['by'], runs: readonly RecordedRun[], counts: readonly ErratumCount[]) {
  if ('line' in by) return inLines(by.line, runs, true)
  if ('message' in by) return inLines(by.message, runs, false)
  return counts
    .filter(({ erratum }) => erratum.id === by.erratum)
    .map(({ recording, count, first }) => ({ name: recording, count: { count, first } }))
}

/** What runs said that was not known, or known wrongly, each with the answers that say it. */
export const learnedList = (runs: readonly RecordedRun[], counts: readonly ErratumCount[]): string =>
  LEARNED.map(({ text, by }) => {
    const { total, place } = summed(shownBy(by, runs, counts))
    const what = counted(total, 'message' in by ? 'message' : 'answer')
    return item(`${text} (${total === 0 ? NOT_RUN : `${what}, the first ${place}`})`)
  }).join('\n')
