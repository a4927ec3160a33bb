import { hex } from '../bits/u64.ts'
import type { EventFields, EventKind } from '../trace/event.ts'
import { PAGE_REQUEST } from '../trace/event-codes.ts'
import { sourceText } from './describe-vtd.ts'
import { bytesText, counted } from './words.ts'

type SvmKind =
  | Extract<EventKind, `svm.${string}` | `task.${string}` | `file.${string}`>
  | 'mm.users'
  | 'mm.vma'
  | 'mm.table'
  | 'mm.fault'
  | 'mm.notify'

const PAGE_BYTES = 4096

const rangeText = (first: number, count: number): string =>
  `${hex(first * PAGE_BYTES)} + ${bytesText(count * PAGE_BYTES)}`

const flagsText = (flags: number): string =>
  [
    [1, 'read'],
    [2, 'write'],
    [4, 'execute'],
  ]
    .flatMap(([bit, name]) => ((flags & (bit as number)) === 0 ? [] : [name]))
    .join(', ') || 'nothing'

function wantedText(flags: number): string {
  const names = [
    [PAGE_REQUEST.READ, 'read'],
    [PAGE_REQUEST.WRITE, 'write'],
    [PAGE_REQUEST.EXECUTE, 'execute'],
  ] as const
  return names.flatMap(([bit, name]) => ((flags & bit) === 0 ? [] : [name])).join(', ') || 'nothing'
}

const ofMm = (mm: string): string => (mm === '' ? 'the kernel' : mm)

function notifyText(e: EventFields<'mm.notify'>): string {
  if (e.call === 'register' || e.call === 'unregister') {
    return `${e.notifier} ${e.call}s with the address space of ${e.mm}`
  }
  const range = e.call === 'release' ? '' : ` for ${hex(e.start)} up to ${hex(e.end)}`
  return `the address space of ${e.mm} calls ${e.call} of ${e.notifier}${range}`
}

function entryText(e: EventFields<'svm.entry'>): string {
  const who = `the driver of ${e.unit || 'the unit'}`
  const entry = `the entry of PASID ${hex(e.pasid)}${e.device === '' ? '' : ` of ${e.device}`}`
  if (e.present === 0) return `${who} clears ${entry}`
  const rights = e.supervisor === 1 ? ', with the rights of the kernel' : ''
  return `${who} points ${entry} to the page table of ${ofMm(e.mm)} at ${hex(e.pgd * PAGE_BYTES)}${rights}`
}

function tablesText(e: EventFields<'svm.tables'>): string {
  const what = `the ${e.table} table of ${e.unit || 'the unit'}`
  const block = `order ${e.order} (${bytesText(PAGE_BYTES * 2 ** e.order)})`
  if (e.page === 0) return `no memory for ${what}: ${block} is not to be had`
  return e.entries === 0
    ? `${what} at ${hex(e.page * PAGE_BYTES)} is freed, ${block}`
    : `${what} is at ${hex(e.page * PAGE_BYTES)}: ${block}, ${counted(e.entries, 'entry', 'entries')}`
}

/** One describer a kind: a kind without words does not compile. */
export const SVM_DESCRIBERS: { readonly [K in SvmKind]: (e: EventFields<K>) => string } = {
  'mm.users': (e) => `${e.why}: mm_users of ${e.mm} is ${e.users}, mm_count ${e.count}`,
  'mm.vma': (e) =>
    e.present === 1
      ? `${e.mm} has ${rangeText(e.first, e.count)}, with rights to ${flagsText(e.flags)}`
      : `${e.mm} has no more ${rangeText(e.first, e.count)}`,
  'mm.table': (e) =>
    e.state === 1
      ? `the page at ${hex(e.page * PAGE_BYTES)} becomes a page table of ${ofMm(e.mm)}, level ${e.level}`
      : `the page table of ${ofMm(e.mm)} at ${hex(e.page * PAGE_BYTES)} (level ${e.level}) is freed`,
  'mm.fault': (e) =>
    `the kernel handles a fault of ${e.mm}: ${e.write === 1 ? 'a write' : 'a read'} at ${hex(e.address)}, ${e.result}`,
  'mm.notify': notifyText,
  'file.refs': (e) => `${e.why}: ${e.file} has ${counted(e.refs, 'reference')}`,
  'svm.tables': tablesText,
  'svm.pasid': (e) =>
    `PASID ${hex(e.pasid)} of ${e.unit || 'the unit'} is ${e.state === 1 ? `handed out, for ${ofMm(e.mm)}` : 'given back'}`,
  'svm.entry': entryText,
  'svm.bind': (e) =>
    e.users === 0
      ? `${e.device} is not bound to ${ofMm(e.mm)} any more (PASID ${hex(e.pasid)})`
      : `${e.device} is bound to ${ofMm(e.mm)} by PASID ${hex(e.pasid)}, ${counted(e.users, 'time')}`,
  'svm.object': (e) =>
    `the driver of ${e.unit || 'the unit'} ${e.state === 1 ? 'allocates' : 'frees'} ${e.what}${e.device === '' ? ` of PASID ${hex(e.pasid)}` : ` of ${e.device}`}`,
  'svm.request': (e) =>
    `the page request thread takes the request of ${sourceText(e.source)} for ${hex(e.iova)} with PASID ${hex(e.pasid)} ` +
    `(${wantedText(e.flags)}): ${e.result}; response: ${e.response}`,
  'svm.callback': (e) =>
    `the fault callback of ${e.device} is told: page ${hex(e.address)} of PASID ${hex(e.pasid)}, rwxp ${e.rwxp}, ` +
    `${e.result}; the request is of ${sourceText(e.wanted)}`,
  'svm.thread': (e) =>
    e.state === 1
      ? `the page request thread of ${e.unit || 'the unit'} begins: head ${hex(e.head)}, tail ${hex(e.tail)}`
      : `the page request thread of ${e.unit || 'the unit'} ends: head ${hex(e.head)}`,
  'svm.use-after-free': (e) => `${e.by} uses ${e.what}, which is freed`,
  'task.step': (e) => `${e.task}: ${e.step}`,
}
