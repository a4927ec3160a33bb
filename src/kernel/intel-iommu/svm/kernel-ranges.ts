import { Held } from '../../../bits/held.ts'
import { keyOf } from '../../../bits/state.ts'
import { hiOf, loOf, swap32, wordOf } from '../../../bits/u64.ts'
import type { PagePort } from '../../process-port.ts'
import { type Work, work } from '../../steps.ts'
import type { SvmCore } from './core.ts'
import { flushAll } from './notifier.ts'

/** VMALLOC_START without KASLR. (Linux v4.9 arch/x86/include/asm/pgtable_64_types.h) */
const VMALLOC_START = 0xffff_c900_0000_0000n
const PAGE_SHIFT = 12n
const LEVEL_BITS = 9n
const INDEX_MASK = 0x1ffn
/** Bytes that one call allocates at most: 1 GiB. */
const PAGES_MAX = 2 ** 18
/** Entries of the kernel: present and writable; those that map are global, accessed and dirty too. */
const TABLE_BITS = 0x3n
const PAGE_BITS = 0x163n
const ADDRESS_MASK = ((1n << 40n) - 1n) << PAGE_SHIFT

interface Area {
  readonly address: bigint
  readonly targets: readonly number[]
}

/**
 * Memory that the kernel maps beside the map of all memory one to one: areas of vmalloc, each with a page behind it that
 * is not mapped. PASIDs of the kernel lead to them too. (Linux v4.9 mm/vmalloc.c; freed areas are unmapped at once here,
 * where Linux collects some of them first)
 */
export class KernelRanges {
  readonly #core: SvmCore
  readonly #pages: PagePort
  readonly #areas: Held<readonly Area[]>

  constructor(core: SvmCore, pages: PagePort) {
    const { tasks, driver } = core
    this.#core = core
    this.#pages = pages
    this.#areas = new Held<readonly Area[]>(driver.core.journal, 'areas of vmalloc', [], (areas) =>
      keyOf(...areas.flatMap((a) => [String(a.address), ...a.targets])),
    )
    tasks.define('vmalloc', {
      doc: 'maps pages one after the other where the kernel has addresses left',
      run: (task, [count]) => {
        const address = this.#allocate(Number(count))
        if (address === undefined) task.finish('no-memory')
        else task.finish('done', { address })
        return undefined
      },
    })
    tasks.define('vunmap', {
      doc: 'the entries of an area are cleared; PASIDs of the kernel are flushed',
      run: (_task, [address]) => this.#unmap(address as bigint),
    })
    tasks.define('vfree', {
      doc: 'the pages of an area are freed',
      run: (task, [address]) => {
        this.#free(address as bigint)
        task.finish('done')
        return undefined
      },
    })
  }

  has(address: bigint): boolean {
    return this.#areas.value.some((area) => area.address === address)
  }

  /** Pages that a call of vmalloc takes; 0 for what it never has. */
  pagesOf(bytes: bigint): number {
    const pages = Number((bytes + (1n << PAGE_SHIFT) - 1n) >> PAGE_SHIFT)
    return pages <= PAGES_MAX ? pages : 0
  }

  allocate(pages: number): readonly Work[] {
    return [work('vmalloc', pages)]
  }

  free(address: bigint): readonly Work[] {
    return [work('vunmap', address), work('vfree', address)]
  }

  #allocate(count: number): bigint | undefined {
    const areas = this.#areas.value
    const targets: number[] = []
    while (targets.length < count) {
      const page = this.#pages.allocate(0, 'kernel')
      if (page < 0) break
      targets.push(page)
    }
    const address = this.#hole(count)
    const isMapped = targets.length === count && this.#map(address, targets)
    if (!isMapped) {
      for (const page of targets) this.#pages.free(page, 0)
      return undefined
    }
    this.#areas.set([...areas, { address, targets }].sort((a, b) => (a.address < b.address ? -1 : 1)))
    return address
  }

  /** The lowest addresses that are free, with the page behind them. */
  #hole(count: number): bigint {
    let address = VMALLOC_START
    for (const area of this.#areas.value) {
      if (address + (BigInt(count + 1) << PAGE_SHIFT) <= area.address) break
      address = area.address + (BigInt(area.targets.length + 1) << PAGE_SHIFT)
    }
    return address
  }

  #map(address: bigint, targets: readonly number[]): boolean {
    return targets.every((target, i) => {
      const at = address + (BigInt(i) << PAGE_SHIFT)
      const table = this.#tableOf(at)
      if (table < 0) return false
      this.#store(table, at, 1n, (BigInt(target) << PAGE_SHIFT) | PAGE_BITS)
      return true
    })
  }

  #unmap(address: bigint): readonly Work[] {
    const { bindings, quirks } = this.#core
    const area = this.#areas.value.find((a) => a.address === address)
    area?.targets.forEach((_target, i) => {
      const at = address + (BigInt(i) << PAGE_SHIFT)
      this.#store(this.#tableOf(at), at, 1n, 0n)
    })
    if (quirks.leavesKernelRanges) return []
    const kernels = bindings.all.filter(({ mm }) => mm === '')
    return kernels.flatMap((svm) => svm.devices.flatMap(({ target }) => flushAll(svm, target)))
  }

  #free(address: bigint): void {
    const area = this.#areas.value.find((a) => a.address === address)
    this.#areas.set(this.#areas.value.filter((a) => a !== area))
    for (const page of area?.targets ?? []) this.#pages.free(page, 0)
  }

  /** The lowest table for an address, made where there is none; -1 where no page is left. */
  #tableOf(address: bigint): number {
    let table = this.#core.processes.kernel.pgd
    for (let level = 4n; level > 1n; level--) {
      const entry = this.#load(table, address, level)
      if ((entry & 1n) !== 0n) {
        table = Number((entry & ADDRESS_MASK) >> PAGE_SHIFT)
        continue
      }
      const made = this.#pages.allocate(0, 'kernel')
      if (made < 0) return -1
      this.#store(table, address, level, (BigInt(made) << PAGE_SHIFT) | TABLE_BITS)
      table = made
    }
    return table
  }

  #load(table: number, address: bigint, level: bigint): bigint {
    const { memory } = this.#core.driver.core.options.port
    memory.loadU64be(table, offsetOf(address, level))
    return wordOf(swap32(memory.wordLo), swap32(memory.wordHi))
  }

  #store(table: number, address: bigint, level: bigint, entry: bigint): void {
    const { memory } = this.#core.driver.core.options.port
    memory.storeU64be(table, offsetOf(address, level), swap32(loOf(entry)), swap32(hiOf(entry)))
  }
}

const offsetOf = (address: bigint, level: bigint): number =>
  Number((address >> (PAGE_SHIFT + LEVEL_BITS * (level - 1n))) & INDEX_MASK) * 8
