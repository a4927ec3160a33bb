import { hex } from '../../bits/u64.ts'
import { bytesText, counted } from '../../check/words.ts'
import { table, wrapped } from '../../report/layout.ts'
import type { Paint } from '../../report/text.ts'
import type { FitResult, FitStep } from './fit.ts'

/** Calls that the text shows; the JSON has all. */
const STEPS_SHOWN_MAX = 24

const answerText = ({ code }: FitStep): string => (code === 'OK' ? '0' : `-${code}`)

function headText({ request }: FitResult): string {
  const { version, phb, ramBytes, hostPageShift, hugeShift, groups } = request
  const pages = hugeShift === undefined ? '' : ` in hugetlb pages of ${bytesText(2 ** hugeShift)}`
  const host = `host pages of ${bytesText(2 ** hostPageShift)}`
  return `VFIO SPAPR TCE ${version} on ${phb.toUpperCase()}: ${bytesText(ramBytes)} of RAM${pages}, ${host}, ${counted(groups, 'group')}`
}

function stepLines({ steps }: FitResult): string[] {
  const shown = steps.slice(0, STEPS_SHOWN_MAX)
  const rows = shown.map((s) => [
    s.call,
    s.about,
    s.formula,
    s.formula === '' ? '' : `${s.pages}`,
    `${s.lockedPages}`,
    answerText(s),
  ])
  const head = ['call', 'for', 'host pages to lock', '', 'locked', 'answer']
  const more = steps.length - shown.length
  return [
    'calls, and what they charge to locked_vm',
    ...table([head, ...rows], { indent: 2, right: [3, 4, 5] }),
    ...(more > 0 ? [`  ... and ${counted(more, 'call')} more`] : []),
  ]
}

function refusedLines({ steps }: FitResult): string[] {
  const refused = steps.filter((s) => s.code !== 'OK').slice(0, STEPS_SHOWN_MAX)
  if (refused.length === 0) return []
  const lines = refused.flatMap((s) => [
    `  ${s.call} ${s.about}: ${answerText(s)} (${s.rule})`,
    ...wrapped('    ', s.why),
  ])
  return ['', 'refused', ...lines]
}

function windowLines({ windows, request }: FitResult): string[] {
  if (windows.length === 0) return []
  const rows = windows.map((w) => [
    w.name,
    hex(w.start),
    bytesText(w.windowBytes),
    bytesText(w.pageBytes),
    `${w.levels}`,
    `${w.entries}`,
    bytesText(w.chargedBytes),
    bytesText(w.firstBytes),
    !w.canMap ? 'no' : w.reachBytes < request.ramBytes ? 'a part' : 'all',
  ])
  const head = ['window', 'at', 'asked for', 'page', 'levels', 'entries', 'charged', 'at once', 'maps RAM']
  const past = windows.filter((w) => w.reachBytes > w.windowBytes)
  const notes = past.flatMap((w) =>
    wrapped(
      '  ',
      `${w.name}: a table has at least a host page of entries, so the window reaches over ${bytesText(w.reachBytes)}.`,
    ),
  )
  return ['', 'windows', ...table([head, ...rows], { indent: 2, right: [4, 5] }), ...notes]
}

function planLines({ plans, request }: FitResult): string[] {
  const rows = plans.map((p) => [
    bytesText(p.pageBytes),
    bytesText(p.windowBytes),
    `${p.tces}`,
    `${p.indirectCalls}`,
    p.levels === 0 ? '-' : `${p.levels}`,
    bytesText(p.chargedBytes),
    p.why === '' ? 'yes' : `no: ${p.why}`,
  ])
  const head = ['page', 'window', 'TCEs', 'calls', 'levels', 'charged', 'possible']
  return [
    '',
    `one window that maps all ${bytesText(request.ramBytes)} 1:1 (calls: H_PUT_TCE_INDIRECT, 512 entries each)`,
    ...table([head, ...rows], { indent: 2, right: [2, 3, 4] }),
  ]
}

function noteLines({ request, limitPages }: FitResult): string[] {
  const { version, groups, memlockBytes, hasIpcLock, hostPageShift } = request
  const limit =
    memlockBytes === undefined
      ? 'No limit is given (--memlock).'
      : hasIpcLock
        ? 'CAP_IPC_LOCK lifts the limit.'
        : `Limit: ${bytesText(memlockBytes)} / ${bytesText(2 ** hostPageShift)} = ${limitPages} pages.`
  const shared =
    version === 'v1'
      ? 'A container of v1 takes one group of such a PHB and charges its whole 32-bit window; its table is made and charged at the first mapping (Linux 6.4 and later; before, v1 refuses such groups with -EPERM).'
      : groups > 1
        ? `The ${groups} groups share a container: memory and tables are charged once.`
        : ''
  const mappings = 'The number of mappings is not limited (dma_entry_limit is of type 1 containers).'
  return [limit, shared, mappings].filter((t) => t !== '').flatMap((t) => wrapped('  ', t))
}

/** The result as a person reads it: every number with the arithmetic that it comes from. */
export function fitText(result: FitResult, paint: Paint): string {
  const { steps, lockedPages, limitPages, fits, request } = result
  const refused = steps.filter((s) => s.code !== 'OK').length
  const bytes = bytesText(lockedPages * 2 ** request.hostPageShift)
  const left = limitPages === undefined ? '' : `; ${limitPages - lockedPages} of ${limitPages} are left`
  const verdict = fits
    ? paint.green(`fits: ${lockedPages} pages are locked, ${bytes}${left}`)
    : paint.red(
        `does not fit: of ${counted(steps.length, 'call')}, ${refused} ${refused === 1 ? 'is' : 'are'} refused`,
      )
  return `${[
    paint.bold(headText(result)),
    '',
    ...stepLines(result),
    ...noteLines(result),
    ...refusedLines(result),
    ...windowLines(result),
    ...planLines(result),
    '',
    verdict,
  ].join('\n')}\n`
}

/** The same as one stable object: fields are added, never renamed, without a new number. */
export const fitJson = (result: FitResult): object => ({ schema: 'iommulator/fit/1', ...result })
