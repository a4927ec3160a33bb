import { EVENT_KINDS, type EventKind, KIND } from '../trace/event.ts'
import type { RecordLog, RecordSink } from '../trace/record-log.ts'

/** Kinds of records that a run can produce. A reader says what its log covers; a rule says what it needs. */
export type Coverage = ReadonlySet<EventKind>

/** Every kind of record: for whoever makes records of all kinds by himself. */
export const WHOLE_MACHINE: Coverage = new Set(EVENT_KINDS)

/**
 * A QEMU trace log shows hypercalls, windows, table updates and translations. It does not show who owns a page, what
 * the guest's DMA API granted, its allocator, or the end of a driver.
 */
export const QEMU_TRACE: Coverage = new Set<EventKind>([
  'run.begin',
  'run.end',
  'call.enter',
  'call.return',
  'window.open',
  'window.close',
  'window.move',
  'tce.set',
  'tce.seen',
  'iommu.notify',
  'dma.translate',
  'unmodelled',
])

/** Of a machine with a VT-d unit it shows caches, translations, faults and invalidations, and no table in memory. */
export const QEMU_VTD_TRACE: Coverage = new Set<EventKind>([
  'run.begin',
  'run.end',
  'unmodelled',
  'domain.attach',
  'domain.map',
  'domain.flush',
  'domain.wait',
  'vtd.root',
  'vtd.context',
  'vtd.fill',
  'vtd.translate',
  'vtd.fault',
])

/** A trace of a kernel shows what is mapped and flushed, and nothing that a device does. */
export const LINUX_TRACE: Coverage = new Set<EventKind>([
  'run.begin',
  'run.end',
  'domain.map',
  'domain.unmap',
  'domain.flush',
  'domain.wait',
])

/** Both of them, of one boot. */
export const QEMU_AND_LINUX_TRACE: Coverage = new Set<EventKind>([...QEMU_VTD_TRACE, ...LINUX_TRACE])

/** The same with what a vhost-user back end saw of the run. */
export const QEMU_TRACE_AND_MESSAGES: Coverage = new Set<EventKind>([
  ...QEMU_TRACE,
  'memory.slot',
  'iotlb.new',
  'iotlb.fill',
  'iotlb.drop',
  'iotlb.evict',
  'iotlb.miss',
  'iotlb.use',
  'vhost.message',
  'domain.attach',
  'domain.map',
  'domain.unmap',
  'domain.flush',
  'domain.wait',
])

const without = (absent: readonly EventKind[]): Coverage =>
  new Set(EVENT_KINDS.filter((kind) => !absent.includes(kind)))

/** What only a VT-d unit and its driver leave. */
const VTD: readonly EventKind[] = [
  'domain.attach',
  'domain.map',
  'domain.unmap',
  'domain.flush',
  'domain.wait',
  'domain.notify',
  'vtd.register',
  'vtd.root',
  'vtd.context',
  'vtd.pasid',
  'vtd.walk',
  'vtd.fill',
  'vtd.translate',
  'vtd.fault',
  'vtd.event',
  'vtd.page-request',
  'vtd.response',
  'vtd.refuse',
  'vtd.word',
  'vtd.table',
]

/** What only a kernel leaves that gives devices the address spaces of processes. */
const SVM: readonly EventKind[] = [
  'mm.users',
  'mm.vma',
  'mm.table',
  'mm.fault',
  'mm.notify',
  'file.refs',
  'svm.tables',
  'svm.pasid',
  'svm.entry',
  'svm.bind',
  'svm.object',
  'svm.request',
  'svm.callback',
  'svm.thread',
  'svm.use-after-free',
  'task.step',
]

/** A guest below QEMU: nobody pins or registers memory for it, and no PHB walks tables of a host. */
export const PSERIES_MACHINE: Coverage = without([
  ...VTD,
  ...SVM,
  'hw.set',
  'hw.table',
  'hw.ref',
  'hw.window',
  'hw.fill',
  'hw.store',
  'hw.firmware',
  'hw.kill',
  'mm.pin',
  'mm.locked',
  'region.new',
  'region.get',
  'region.put',
  'region.map',
])

/** An x86 guest below QEMU: no TCEs, and its kernel maps pages without a DMA API that grants them. */
export const Q35_MACHINE: Coverage = new Set<EventKind>([
  'run.begin',
  'run.end',
  'call.enter',
  'call.return',
  'dma.request',
  'dma.done',
  'page.own',
  'memory.slot',
  'memory.write',
  'iotlb.new',
  'iotlb.fill',
  'iotlb.drop',
  'iotlb.evict',
  'iotlb.miss',
  'iotlb.refuse',
  'iotlb.use',
  'vhost.message',
  'vhost.queue',
  ...VTD,
  'mm.map',
  'mm.exit',
  'mm.free',
  'device.add',
  'warning',
  'dead',
  'unmodelled',
])

/** An x86 machine without a hypervisor: its processes and their page tables, and the driver of the VT-d unit. */
export const X86_MACHINE: Coverage = new Set<EventKind>([
  'run.begin',
  'run.end',
  'call.enter',
  'call.return',
  'dma.request',
  'dma.done',
  'page.own',
  'memory.write',
  ...VTD,
  ...SVM,
  'device.add',
  'warning',
  'dead',
  'unmodelled',
])

/** What only the kernel of a guest leaves, which a POWER host does not run, and what only a log shows. */
const GUEST_KERNEL: readonly EventKind[] = [
  ...VTD,
  ...SVM,
  'tce.seen',
  'dma.grant',
  'dma.revoke',
  'dma.direct',
  'alloc.take',
  'alloc.free',
  'device.remove',
]

/** A POWER host with a guest that QEMU runs: its windows and tables are seen, whoever writes them. */
export const POWERNV_WITH_GUEST: Coverage = without(GUEST_KERNEL)

/**
 * A bare-metal POWER host, be it a scenario's or that of a transcript of kernel answers, which is re-run on a whole
 * one. It has no guest's kernel: no driver grants anything, and no LIOBN stands for a window.
 */
export const POWERNV_MACHINE: Coverage = without([
  'window.open',
  'window.close',
  'window.move',
  'tce.set',
  'iommu.notify',
  ...GUEST_KERNEL,
])

/** Counts the records of some kinds: what a run has really shown. */
export class SeenKinds implements RecordSink {
  readonly kinds: readonly EventKind[]
  readonly #counts = new Float64Array(EVENT_KINDS.length)

  constructor(kinds: readonly EventKind[] = EVENT_KINDS) {
    this.kinds = kinds
  }

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    this.#counts[kind] = (this.#counts[kind] as number) + 1
  }

  countOf(kind: EventKind): number {
    return this.#counts[KIND[kind]] as number
  }

  coverage(): Coverage {
    return new Set(EVENT_KINDS.filter((kind) => this.countOf(kind) > 0))
  }
}

/** The kinds of records that a kept log holds. */
export function seenIn(log: RecordLog): Coverage {
  const seen = new SeenKinds()
  for (let seq = log.firstKept; seq < log.length; seq++) seen.see(log, seq)
  return seen.coverage()
}
