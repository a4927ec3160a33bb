import type { RuleOf } from '../../../bits/call.ts'
import { codeNumber } from '../../../bits/codes.ts'
import type { MmuNotifier } from '../../process-port.ts'
import { type Task, type Work, type WorkArg, work } from '../../steps.ts'
import { SVA_BIND } from './calls.ts'
import type { EntrySteps } from './entry-steps.ts'
import type { SvaBook } from './sva-book.ts'
import { causeOf, PASID_MUTEX, type SvaParts } from './sva-parts.ts'

type BindRule = RuleOf<typeof SVA_BIND>

/** Flags of a bind. (Linux v6.1 include/linux/intel-svm.h, SVM_FLAG_SUPERVISOR_MODE) */
export const BIND_SUPERVISOR = 1
/** Not the kernel's: the task is a call of its own, which a bind ends. */
export const BIND_IS_CALL = 2

const UNLOCK: readonly Work[] = [work('unlock', PASID_MUTEX)]
/** What pci_max_pasids says of a device without PASIDs (-EINVAL), as the unsigned number that it is taken for. */
const NO_PASIDS = 2 ** 32 - 22
const PAGE_SHIFT = 12n
const PAGE_MASK = 0xfffn

/** What a bind is about, while its steps are done. */
interface Binding {
  readonly device: string
  /** Empty for the kernel's. */
  readonly mm: string
  readonly flags: number
}

const bindingOf = ([device, mm, flags]: readonly WorkArg[]): Binding => ({
  device: String(device),
  mm: String(mm),
  flags: Number(flags),
})

const errnoOf = (rule: BindRule): number => {
  const answer = SVA_BIND.answers.find((a) => a.rule === rule)
  return codeNumber('errno', answer?.code ?? 'OK')
}

/**
 * A bind in steps. (Linux v6.1 drivers/iommu/iommu.c, iommu_sva_bind_device; intel/svm.c, intel_svm_bind, intel_svm_bind_mm; iommu-sva-lib.c,
 * iommu_sva_alloc_pasid)
 */
export class BindSteps {
  readonly #parts: SvaParts
  readonly #book: SvaBook
  readonly #entries: EntrySteps
  /** K6-last-pasid */
  readonly #losesLast: boolean
  /** K5-pasid-freed */
  readonly #freesPasid: boolean

  constructor(parts: SvaParts, book: SvaBook, entries: EntrySteps) {
    const { tasks, profile } = parts
    this.#parts = parts
    this.#book = book
    this.#entries = entries
    this.#losesLast = profile.has('K6-last-pasid')
    this.#freesPasid = profile.has('K5-pasid-freed')
    tasks.define('sva.bind-process', {
      doc: 'takes the address space of a process, for a bind',
      run: (task, [device, process, flags]) =>
        this.#bindProcess(task, String(device), String(process), Number(flags)),
    })
    tasks.define('sva.mmput', {
      doc: 'gives an address space back that was taken for a bind',
      run: (_task, [mm]) => parts.processes.mm(String(mm))?.put(),
    })
    tasks.define('sva.bind', {
      doc: 'looks whether an address space may be bound to a device',
      run: (task, args) => this.#begin(task, bindingOf(args)),
    })
    tasks.define('sva.bind.pasid', {
      doc: 'gives an address space its PASID',
      run: (task, args) => this.#allocate(task, bindingOf(args)),
    })
    tasks.define('sva.bind.space', {
      doc: 'asks to be told of changes of the address space, with its first device',
      run: (task, args) => this.#share(task, bindingOf(args)),
    })
    tasks.define('sva.bind.entry', {
      doc: 'writes the entry of the PASID',
      run: (task, args) => this.#enter(task, bindingOf(args)),
    })
    tasks.define('sva.bind.flush', {
      doc: 'makes the unit look at an entry again that was not present',
      run: (_task, [pasid]) => this.#entries.flushNew(Number(pasid)) as undefined,
    })
    tasks.define('sva.bind.list', {
      doc: 'the device is told of changes of the address space from now on',
      run: (task, args) => this.#list(task, bindingOf(args)),
    })
    tasks.define('sva.bind.forget', {
      doc: 'forgets an address space that no device is bound to',
      run: (_task, [pasid]) => this.#forget(Number(pasid)),
    })
  }

  /** Undefined where there is no such device, or no process that has an address space. */
  #bindProcess(task: Task, device: string, process: string, flags: number): readonly Work[] {
    if (this.#entries.attachedFor(task, device) === undefined) return []
    const mm = this.#parts.processes.mmOf(process)
    if (mm === undefined || !mm.get()) return this.#end(task, 'no-address-space', flags, [])
    return [work('sva.bind', device, mm.name, flags), work('sva.mmput', mm.name)]
  }

  #begin(task: Task, binding: Binding): readonly Work[] {
    const { device, mm, flags } = binding
    const attached = this.#entries.attachedFor(task, device)
    if (attached === undefined) return []
    if (attached.device.capabilities?.sharesGroup) return this.#end(task, 'group-shared', flags, [])
    if ((flags & BIND_SUPERVISOR) !== 0) {
      const { hasSupervisor } = this.#parts.driver.core.registers.features
      if (!hasSupervisor) return this.#end(task, 'supervisor-unsupported', flags, [])
      if (mm !== '') return this.#end(task, 'supervisor-of-process', flags, [])
    }
    return [work('lock', PASID_MUTEX), work('sva.bind.pasid', device, mm, flags)]
  }

  #allocate(task: Task, binding: Binding): readonly Work[] {
    const { device, mm, flags } = binding
    const most = (this.#pasidsOf(device) || NO_PASIDS) - 1
    const known = this.#book.pasidOf(mm)
    if (known !== undefined && (known > most || (this.#losesLast && known === most))) {
      return this.#end(task, 'pasid-out-of-range', flags)
    }
    if (known === undefined && this.#book.allocate(mm, most) === undefined) {
      return this.#end(task, 'no-pasid-left', flags)
    }
    return [work('sva.bind.space', device, mm, flags)]
  }

  #share(task: Task, { device, mm, flags }: Binding): readonly Work[] {
    const pasid = this.#pasidOf(mm)
    if (this.#book.spaceOf(pasid) === undefined) {
      const notifier = mm === '' ? undefined : this.#notifierOf(pasid)
      if (notifier !== undefined) this.#parts.processes.mm(mm)?.register(notifier)
      this.#book.setSpace({ pasid, mm, notifier, bonds: [] })
    }
    const bond = this.#book.bondOf(pasid, device)
    if (bond === undefined) return [work('sva.bind.entry', device, mm, flags)]
    const users = bond.users + 1
    const bonds = this.#book.spaceOf(pasid)?.bonds ?? []
    this.#book.setBonds(
      pasid,
      bonds.map((b) => (b === bond ? { device, users } : b)),
    )
    this.recordBond(device, mm, pasid, users)
    return this.#end(task, 'bound-again', flags, UNLOCK, { pasid, users })
  }

  #enter(task: Task, { device, mm, flags }: Binding): readonly Work[] {
    const { processes } = this.#parts
    const pasid = this.#pasidOf(mm)
    const space = mm === '' ? processes.kernel : processes.mm(mm)
    const refusal = this.#entries.write(device, pasid, { mm, pgd: space?.pgd ?? 0 })
    if (refusal === undefined) {
      return [work('sva.bind.flush', pasid), work('sva.bind.list', device, mm, flags)]
    }
    return [...this.leave(pasid), ...this.#end(task, refusal, flags)]
  }

  #list(task: Task, { device, mm, flags }: Binding): readonly Work[] {
    const pasid = this.#pasidOf(mm)
    const bonds = this.#book.spaceOf(pasid)?.bonds ?? []
    this.#book.setBonds(pasid, [...bonds, { device, users: 1 }])
    this.recordBond(device, mm, pasid, 1)
    return this.#end(task, 'done', flags, UNLOCK, { pasid, users: 1 })
  }

  /** What is left of an address space that no device is bound to: nobody is told of its changes any more. */
  leave(pasid: number): readonly Work[] {
    const space = this.#book.spaceOf(pasid)
    if (space === undefined || space.bonds.length > 0) return []
    const mm = space.notifier === undefined ? undefined : this.#parts.processes.mm(space.mm)
    const released = space.notifier === undefined ? [] : (mm?.unregister(space.notifier) ?? [])
    return [...released, work('sva.bind.forget', pasid)]
  }

  #forget(pasid: number): undefined {
    const mm = this.#book.spaceOf(pasid)?.mm
    this.#book.removeSpace(pasid)
    if (this.#freesPasid && mm !== undefined) this.#book.drop(mm)
  }

  recordBond(device: string, mm: string, pasid: number, users: number): void {
    const { stage, driver } = this.#parts
    const source = driver.device(device)?.source ?? 0
    const unit = driver.core.options.port.name
    stage.log.emit('svm.bind', causeOf(stage), { unit, device, source, mm, pasid, users })
  }

  /** The bind is over: for its caller, and for its call where it is one. What is still to be done follows. */
  #end(
    task: Task,
    rule: BindRule,
    flags: number,
    rest: readonly Work[] = UNLOCK,
    outputs: { readonly pasid?: number; readonly users?: number } = {},
  ): readonly Work[] {
    task.value = outputs.pasid ?? errnoOf(rule)
    if ((flags & BIND_IS_CALL) !== 0) {
      const named = Object.entries(outputs).map(([name, value]) => [name, BigInt(value)])
      task.finish(rule, Object.fromEntries(named))
    }
    return rest
  }

  #pasidOf(mm: string): number {
    return this.#book.pasidOf(mm) ?? 0
  }

  #pasidsOf(device: string): number {
    return this.#parts.driver.device(device)?.capabilities?.pasids ?? 0
  }

  /** Changes of single entries are not told: whoever makes them tells of their range. (Since Linux 4.14) */
  #notifierOf(pasid: number): MmuNotifier {
    return {
      name: `sva ${pasid}`,
      changePte: () => [],
      invalidateRange: (start, end) => {
        const pages = (end - start + PAGE_MASK) >> PAGE_SHIFT
        return [work('sva.invalidate', pasid, Number(start >> PAGE_SHIFT), Number(pages))]
      },
      release: () => [work('sva.release', pasid)],
    }
  }
}
