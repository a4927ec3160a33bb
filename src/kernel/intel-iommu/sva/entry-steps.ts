import { type Task, type Work, type WorkArg, work } from '../../steps.ts'
import type { Attached } from '../attachments.ts'
import { ALL_ORDER } from '../descriptors.ts'
import type { SvaBook } from './sva-book.ts'
import { causeOf, NOT_STARTED, PROCESS_DOMAIN, PROCESS_LEVELS, type SvaParts } from './sva-parts.ts'

const NO_DOMAIN = 'a device without a domain: Linux gives it one when it finds it'

/** Why an entry could not be written. */
export type EntryRefusal = 'no-first-level' | 'no-entry' | 'entry-present'

/**
 * The steps that make an entry of a PASID, take it away, and flush what was reached through it.
 * (Linux v6.1 drivers/iommu/intel/pasid.c, intel_pasid_setup_first_level, intel_pasid_tear_down_entry; svm.c,
 * intel_flush_svm_range_dev)
 */
export class EntrySteps {
  readonly #parts: SvaParts
  readonly #book: SvaBook

  constructor(parts: SvaParts, book: SvaBook) {
    const { tasks } = parts
    this.#parts = parts
    this.#book = book
    tasks.define('sva.clear', {
      doc: 'clears the entry of a PASID of a device',
      run: (_task, args) => this.#clear(args),
    })
    tasks.define('sva.flush-entry', {
      doc: 'flushes the entry of a PASID',
      run: (_task, [domain, pasid]) => this.#flusher.pasidEntry(Number(domain), Number(pasid)) as undefined,
    })
    tasks.define('sva.flush-pasid', {
      doc: 'flushes all translations of a PASID',
      run: (_task, [domain, pasid, isSecond]) => {
        if (isSecond === 1) this.#flusher.domain(Number(domain))
        else this.#flusher.pasid(Number(domain), Number(pasid))
        return undefined
      },
    })
    tasks.define('sva.flush-device', {
      doc: 'flushes a PASID in the TLB of a device',
      run: (_task, [device, pasid]) => {
        const attached = this.attached(device)
        if (attached === undefined) return undefined
        // Once, also where the device needs it twice. (Linux v6.1 pasid.c, devtlb_invalidation_with_pasid)
        const target = { ...parts.driver.attachments.flushed(attached.device), isTwice: false }
        this.#flusher.pasidDeviceTlb(target, Number(pasid), 0n, ALL_ORDER)
        return undefined
      },
    })
    tasks.define('sva.release', {
      doc: 'the entries of an address space that ends are cleared, and their faults are silent',
      run: (_task, [pasid]) => this.#release(Number(pasid)),
    })
    tasks.define('sva.invalidate', {
      doc: 'pages of an address space are flushed, device by device, in aligned blocks',
      run: (_task, [pasid, first, pages]) => this.#invalidate(Number(pasid), Number(first), Number(pages)),
    })
    tasks.define('sva.flush-pages', {
      doc: 'flushes a block of pages of a PASID',
      run: (_task, [pasid, first, order]) => {
        const pages = 2 ** Number(order)
        this.#flusher.pasidPages(PROCESS_DOMAIN, Number(pasid), Number(first), pages, false)
        return undefined
      },
    })
    tasks.define('sva.flush-device-pages', {
      doc: 'flushes a block of pages of a PASID in the TLB of a device',
      run: (_task, [device, pasid, first, order]) =>
        this.#flushDevice(device, pasid, Number(first), Number(order)),
    })
  }

  /** The device behind a name, where the driver has attached it. */
  attached(device: WorkArg | undefined): Attached | undefined {
    const found = this.#parts.driver.device(String(device))
    return found === undefined ? undefined : this.#parts.driver.attachmentOf(found)
  }

  /** The same for a call, which ends unmodelled where the driver has not. */
  attachedFor(task: Task, device: WorkArg | undefined): Attached | undefined {
    const attached = this.#parts.driver.isOn ? this.attached(device) : undefined
    if (attached === undefined) task.finishUnknown(this.#parts.driver.isOn ? NO_DOMAIN : NOT_STARTED)
    return attached
  }

  /** Writes the entry of a PASID; why not where it may not. */
  write(device: string, pasid: number, space: { mm: string; pgd: number }): EntryRefusal | undefined {
    const { driver, stage } = this.#parts
    const { features } = driver.core.registers
    if (!features.hasFirstLevel) return 'no-first-level'
    const attached = this.attached(device)
    const table = attached === undefined ? undefined : driver.attachments.tableOf(attached.device)
    if (table === undefined || pasid >= table.pasids) return 'no-entry'
    if (table.isPresent(pasid)) return 'entry-present'
    const isSupervisor = space.mm === ''
    const isSet = table.set(pasid, {
      kind: 'first',
      domain: PROCESS_DOMAIN,
      root: space.pgd,
      levels: driver.core.levels,
      firstLevels: PROCESS_LEVELS,
      snoopsWalks: features.hasWalkSnoop,
      hasSupervisor: isSupervisor,
      isWriteProtected: isSupervisor,
    })
    if (!isSet) return 'no-entry'
    const written = { unit: driver.core.options.port.name, device, pasid, mm: space.mm, pgd: space.pgd }
    stage.log.emit('svm.entry', causeOf(stage), { ...written, present: 1, supervisor: isSupervisor ? 1 : 0 })
    return undefined
  }

  /** After an entry that was not present: a caching unit is made to look again. */
  flushNew(pasid: number): void {
    const { core } = this.#parts.driver
    if (core.flushesNew) {
      core.flusher.pasidEntry(PROCESS_DOMAIN, pasid)
      core.flusher.pasid(PROCESS_DOMAIN, pasid)
    } else core.control.flushWriteBuffer()
  }

  get #flusher() {
    return this.#parts.driver.core.flusher
  }

  /** @param args device, PASID, and whether its faults are silent from then on */
  #clear([device, pasid, isSilent]: readonly WorkArg[]): readonly Work[] {
    const { driver, stage } = this.#parts
    const attached = this.attached(device)
    const table = attached === undefined ? undefined : driver.attachments.tableOf(attached.device)
    const old = table?.clear(Number(pasid), isSilent === 1)
    if (attached === undefined || old === undefined) return []
    const mm = this.#book.spaceOf(Number(pasid))?.mm ?? ''
    const name = driver.core.options.port.name
    const cleared = { unit: name, device: attached.device.name, pasid: Number(pasid), mm }
    stage.log.emit('svm.entry', causeOf(stage), { ...cleared, pgd: 0, present: 0, supervisor: 0 })
    const isSecond = old.isFlushedByPasid ? 0 : 1
    const flushes = [
      work('sva.flush-entry', old.domain, Number(pasid)),
      work('sva.flush-pasid', old.domain, Number(pasid), isSecond),
    ]
    const hasTlb = attached.hasAts && driver.core.flushesDeviceTlbs
    return hasTlb ? [...flushes, work('sva.flush-device', attached.device.name, Number(pasid))] : flushes
  }

  #release(pasid: number): readonly Work[] {
    const bonds = this.#book.spaceOf(pasid)?.bonds ?? []
    return bonds.map(({ device }) => work('sva.clear', device, pasid, 1))
  }

  #invalidate(pasid: number, first: number, pages: number): readonly Work[] {
    let order = 0
    while (2 ** order < pages) order++
    const block = 2 ** order
    const begin = Math.floor(first / block) * block
    const works: Work[] = []
    for (const { device } of this.#book.spaceOf(pasid)?.bonds ?? []) {
      const hasTlb = this.attached(device)?.hasAts === true
      for (let page = begin; page < first + pages; page += block) {
        works.push(work('sva.flush-pages', pasid, page, order))
        if (hasTlb) works.push(work('sva.flush-device-pages', device, pasid, page, order))
      }
    }
    return works
  }

  #flushDevice(
    device: WorkArg | undefined,
    pasid: WorkArg | undefined,
    first: number,
    order: number,
  ): undefined {
    const { driver } = this.#parts
    const attached = this.attached(device)
    if (attached === undefined) return undefined
    const target = driver.attachments.flushed(attached.device)
    this.#flusher.pasidDeviceTlb(target, Number(pasid), BigInt(first) << 12n, order)
    return undefined
  }
}
