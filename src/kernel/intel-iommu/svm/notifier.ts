import type { MmuNotifier } from '../../process-port.ts'
import { type Work, type WorkArg, work } from '../../steps.ts'
import type { PasidDevice } from '../vtd-driver.ts'
import type { Svm } from './bindings.ts'
import type { SvmCore } from './core.ts'

const PAGE_BYTES = 4096n

/** A device as arguments of a step: it may have gone from the lists by the time. */
const argsOf = ({ domain, source, physical, depth, hasAts }: PasidDevice): readonly WorkArg[] => [
  domain,
  source,
  physical,
  depth,
  hasAts ? 1 : 0,
]

const deviceOf = (args: readonly WorkArg[]): PasidDevice => {
  const [domain = 0, source = 0, physical = 0, depth = 0, hasAts = 0] = args.map(Number)
  return { domain, source, physical, depth, hasAts: hasAts === 1, isTwice: false }
}

/** All that caches know of a PASID of a device: its entry, the IOTLB, and then the TLB of the device. */
export const flushAll = ({ pasid, mm }: Svm, device: PasidDevice): readonly Work[] => {
  const what = [pasid, mm === '' ? 1 : 0, ...argsOf(device)]
  return [
    work('svm flush entry', ...what),
    work('svm flush iotlb', ...what),
    work('svm flush device', ...what),
  ]
}

/**
 * What the kernel tells of an address space that devices share, and the flushes that come of it.
 * (Linux v4.9 drivers/iommu/intel-svm.c, intel_mmuops)
 */
export class SvmNotifiers {
  readonly #core: SvmCore
  readonly #made = new Map<string, MmuNotifier>()

  constructor(core: SvmCore) {
    this.#core = core
    const { tasks, flushes } = core
    tasks.define('svm flush entry', {
      doc: 'flushes the cached entry of a PASID',
      run: (_task, [pasid, , ...device]) => {
        flushes.entry(deviceOf(device), Number(pasid))
        return undefined
      },
    })
    tasks.define('svm flush iotlb', {
      doc: 'flushes all translations of a PASID from the IOTLB',
      run: (_task, [pasid, isKernel, ...device]) => {
        flushes.whole(deviceOf(device), Number(pasid), isKernel === 1)
        return undefined
      },
    })
    tasks.define('svm flush device', {
      doc: 'flushes all translations of a PASID from the TLB of a device',
      run: (_task, [pasid, , ...device]) => {
        flushes.wholeDevice(deviceOf(device), Number(pasid))
        return undefined
      },
    })
    tasks.define('svm flush pages', {
      doc: 'flushes pages of a PASID from the IOTLB',
      run: (_task, [pasid, address, pages, hint, ...device]) => {
        flushes.pages(deviceOf(device), Number(pasid), rangeOf(address, pages, hint))
        return undefined
      },
    })
    tasks.define('svm flush device pages', {
      doc: 'flushes pages of a PASID from the TLB of a device',
      run: (_task, [pasid, address, pages, hint, ...device]) => {
        flushes.devicePages(deviceOf(device), Number(pasid), rangeOf(address, pages, hint))
        return undefined
      },
    })
    tasks.define('svm range', {
      doc: 'flushes pages from every device that is bound, or defers it where none uses the PASID',
      run: (_task, [serial, address, pages, hint]) =>
        this.#range(Number(serial), [address as bigint, pages as bigint, hint as number]),
    })
    tasks.define('svm release', {
      doc: 'clears the entry of a PASID whose address space ends',
      run: (_task, [serial]) => this.#release(Number(serial)),
    })
  }

  /** The notifier of an address space: always the same one. */
  of({ serial, pasid }: Svm): MmuNotifier {
    const key = `${serial} ${pasid}`
    const known = this.#made.get(key)
    if (known !== undefined) return known
    const made: MmuNotifier = {
      name: `PASID ${pasid}`,
      changePte: (address) => [work('svm range', serial, address, 1n, 1)],
      invalidateRange: (start, end) => [
        work('svm range', serial, start, (end - start + PAGE_BYTES - 1n) / PAGE_BYTES, 0),
      ],
      release: () => [work('svm release', serial)],
    }
    this.#made.set(key, made)
    return made
  }

  /** intel_flush_svm_range */
  #range(serial: number, what: readonly WorkArg[]): readonly Work[] {
    const { bindings, tables } = this.#core
    const svm = bindings.bySerial(serial)
    if (svm === undefined || tables.defer(svm.pasid)) return []
    return svm.devices.flatMap(({ target }) => [
      work('svm flush pages', svm.pasid, ...what, ...argsOf(target)),
      work('svm flush device pages', svm.pasid, ...what, ...argsOf(target)),
    ])
  }

  /** intel_mm_release: no more is told once the page tables go, so that nothing may walk them any more. */
  #release(serial: number): readonly Work[] {
    const { bindings, tables, quirks, say } = this.#core
    const svm = bindings.bySerial(serial)
    if (svm === undefined) return []
    tables.clear(svm.pasid, svm.mm)
    if (quirks.releaseFlushesNothing) {
      if (svm.devices.length > 0) say('WARNING: intel_mm_release: a device is still bound')
      return []
    }
    return svm.devices.flatMap(({ target }) => flushAll(svm, target))
  }
}

const rangeOf = (address: WorkArg | undefined, pages: WorkArg | undefined, hint: WorkArg | undefined) => ({
  address: address as bigint,
  pages: pages as bigint,
  isLeafOnly: hint === 1,
})
