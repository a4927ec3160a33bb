import type { Value } from '../../../src/bits/answer.ts'
import type { Operation } from '../../../src/machine/operation.ts'
import type { NaiveAnswer } from './naive-host.ts'
import {
  alignOf,
  chargeOf,
  entriesOf,
  type NaiveContainer,
  type NaiveDriver,
  type NaiveFrame,
  type NaiveGroup,
  type NaiveMapping,
  type NaiveProcess,
  type NaiveRegion,
  type NaiveWindow,
} from './naive-parts.ts'

const STARTS = [0n, 1n << 59n] as const
const U64 = 2n ** 64n

type Args = Readonly<Record<string, Value>>

const word = (args: Args, name: string, initial = 0n): bigint => (args[name] as bigint | undefined) ?? initial

/** What the SPAPR TCE driver does for containers, of either version, and what processes have registered. */
export class NaiveDrivers {
  readonly regions: NaiveRegion[] = []
  readonly #pageShift: number

  constructor(pageShift: number) {
    this.#pageShift = pageShift
  }

  setIommu(container: NaiveContainer, type: bigint): string {
    if (container.groups.length === 0 || container.driver !== null) return 'EINVAL'
    if (type !== 2n && type !== 7n) return 'ENODEV'
    const driver: NaiveDriver = {
      isV2: type === 7n,
      isEnabled: false,
      lockedPages: 0,
      mm: null,
      groups: [],
      windows: [null, null],
      isPending: false,
      regions: [],
    }
    for (const group of container.groups) {
      const code = this.attach(driver, group)
      if (code !== 'OK') return code
    }
    container.driver = driver
    return 'OK'
  }

  attach(driver: NaiveDriver, group: NaiveGroup): string {
    const isP7 = group.platform === 'P7IOC'
    if (driver.isV2 && isP7) return 'EINVAL'
    if (!driver.isV2 && driver.groups.length > 0) return 'EBUSY'
    if (driver.groups.some((g) => (g.platform === 'P7IOC') !== isP7)) return 'EPERM'
    if (driver.groups.length === 0) driver.isPending = true
    driver.groups.unshift(group)
    return 'OK'
  }

  /** Groups are gone: windows with all that they map, registrations, charges. */
  release(driver: NaiveDriver): void {
    const { mm } = driver
    if (mm === null) return
    for (const window of driver.windows) if (window !== null) this.#dispose(window, mm)
    for (const region of driver.regions) this.#leave(region)
    if (driver.isEnabled && !driver.isV2) mm.locked -= driver.lockedPages
  }

  /** Where a bus address leads, or nowhere. */
  translate(
    driver: NaiveDriver,
    iova: bigint,
  ): { mapping: NaiveMapping; frame: NaiveFrame; offset: number } | undefined {
    for (const window of driver.windows) {
      const mapping = window?.map.get((iova >> BigInt(window.shift)) << BigInt(window.shift))
      if (mapping === undefined || window === null) continue
      const into = mapping.offset + Number(iova & ((1n << BigInt(window.shift)) - 1n))
      const frame = mapping.frames[Math.floor(into / 2 ** this.#pageShift)] as NaiveFrame
      return { mapping, frame, offset: into % 2 ** this.#pageShift }
    }
    return undefined
  }

  /** An ioctl of a driver by the process that it works for. */
  ioctl(op: Operation, driver: NaiveDriver, process: NaiveProcess): NaiveAnswer | undefined {
    const { args } = op
    switch (op.call) {
      case 'VFIO_IOMMU_SPAPR_TCE_GET_INFO':
        return info(driver, word(args, 'argsz', 32n))
      case 'VFIO_IOMMU_ENABLE':
        return { code: this.#enable(driver, process) }
      case 'VFIO_IOMMU_DISABLE':
        return { code: this.#disable(driver) }
      case 'VFIO_IOMMU_MAP_DMA':
        return { code: this.#map(args, driver, process) }
      case 'VFIO_IOMMU_UNMAP_DMA':
        return { code: this.#unmap(args, driver, process) }
      case 'VFIO_IOMMU_SPAPR_REGISTER_MEMORY':
        return { code: this.#register(args, driver, process) }
      case 'VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY':
        return { code: this.#unregister(args, driver) }
      case 'VFIO_IOMMU_SPAPR_TCE_CREATE':
        return this.#create(args, driver, process)
      case 'VFIO_IOMMU_SPAPR_TCE_REMOVE':
        return { code: this.#remove(args, driver, process) }
      default:
        return undefined
    }
  }

  #enable(driver: NaiveDriver, process: NaiveProcess): string {
    if (driver.isV2) return 'ENOTTY'
    if (driver.isEnabled) return 'EBUSY'
    driver.mm ??= process
    const pages = (driver.groups[0] as NaiveGroup).tce32Bytes / 2 ** this.#pageShift
    if (!this.#charge(driver.mm, process, pages)) return 'ENOMEM'
    driver.lockedPages = pages
    driver.isEnabled = true
    return 'OK'
  }

  #disable(driver: NaiveDriver): string {
    if (driver.isV2) return 'ENOTTY'
    if (driver.isEnabled && driver.mm !== null) driver.mm.locked -= driver.lockedPages
    driver.isEnabled = false
    return 'OK'
  }

  #charge(mm: NaiveProcess, caller: NaiveProcess, pages: number): boolean {
    const total = mm.locked + pages
    const limit = caller.limitBytes >> BigInt(this.#pageShift)
    if (pages > 0 && !caller.hasIpcLock && BigInt(total) > limit) return false
    mm.locked = total
    return true
  }

  #map(args: Args, driver: NaiveDriver, process: NaiveProcess): string {
    if (!driver.isEnabled) return 'EPERM'
    if (word(args, 'argsz', 32n) < 32n) return 'EINVAL'
    const flags = Number(word(args, 'flags', 3n))
    if (flags > 3) return 'EINVAL'
    const ready = this.#defaultWindow(driver, process)
    if (ready !== 'OK') return ready
    const [iova, vaddr, bytes] = [word(args, 'iova'), word(args, 'vaddr'), word(args, 'bytes')]
    const window = windowAt(driver, iova)
    if (window === undefined) return 'ENXIO'
    const page = 1n << BigInt(window.shift)
    if (bytes % page !== 0n || vaddr % page !== 0n || flags === 0) return 'EINVAL'
    if (iova % page !== 0n || iova + bytes > endOf(window)) return 'EINVAL'
    for (let done = 0n; done < bytes; done += page) {
      const made = driver.isV2
        ? this.#registered(driver, vaddr + done, window.shift, flags)
        : this.#pinned(process, vaddr + done, window.shift, flags)
      if (typeof made === 'string') {
        for (let back = 0n; back < done; back += page) this.#clear(window, iova + back)
        return made
      }
      this.#clear(window, iova + done)
      if (made.region !== null) made.region.mapped++
      window.map.set(iova + done, made)
    }
    return 'OK'
  }

  #registered(driver: NaiveDriver, vaddr: bigint, shift: number, dir: number): NaiveMapping | string {
    const first = Number(vaddr >> BigInt(this.#pageShift))
    const offset = Number(vaddr % BigInt(2 ** this.#pageShift))
    const count = Math.max(1, 2 ** (shift - this.#pageShift))
    const region = this.regions.find(
      (r) => r.mm === driver.mm && first >= r.page && first + count <= r.page + r.pages,
    )
    if (region === undefined || shift > region.shift) return 'EINVAL'
    const frames = region.frames.slice(first - region.page, first - region.page + count)
    return { frame: frames[0] as NaiveFrame, frames, offset, dir, region }
  }

  #pinned(process: NaiveProcess, vaddr: bigint, shift: number, dir: number): NaiveMapping | string {
    const page = process.pages.get(Number(vaddr >> BigInt(this.#pageShift)))
    if (page === undefined || !page.write) return 'EFAULT'
    if (page.frame.shift < shift) return 'EPERM'
    const offset = Number(vaddr % BigInt(2 ** this.#pageShift))
    return { frame: page.frame, frames: [page.frame], offset, dir, region: null }
  }

  #clear(window: NaiveWindow, iova: bigint): void {
    const { region } = window.map.get(iova) ?? {}
    window.map.delete(iova)
    if (region === undefined || region === null) return
    region.mapped--
    if (region.mapped === 0 && region.isLeft) this.#end(region)
  }

  #unmap(args: Args, driver: NaiveDriver, process: NaiveProcess): string {
    if (!driver.isEnabled) return 'EPERM'
    if (word(args, 'argsz', 24n) < 24n || word(args, 'flags') !== 0n) return 'EINVAL'
    const ready = this.#defaultWindow(driver, process)
    if (ready !== 'OK') return ready
    const [iova, bytes] = [word(args, 'iova'), word(args, 'bytes')]
    const window = windowAt(driver, iova)
    if (window === undefined) return 'ENXIO'
    const page = 1n << BigInt(window.shift)
    if (bytes % page !== 0n || iova % page !== 0n || iova + bytes > endOf(window)) return 'EINVAL'
    for (const at of [...window.map.keys()]) if (at >= iova && at < iova + bytes) this.#clear(window, at)
    return 'OK'
  }

  #register(args: Args, driver: NaiveDriver, process: NaiveProcess): string {
    if (!driver.isV2) return 'ENOTTY'
    driver.mm ??= process
    if (word(args, 'argsz', 24n) < 24n || word(args, 'flags') !== 0n) return 'EINVAL'
    const range = this.#range(args)
    if (range === undefined || word(args, 'vaddr') + word(args, 'bytes') >= U64) return 'EINVAL'
    const { mm } = driver
    const same = this.regions.find((r) => r.mm === mm && r.page === range.page && r.pages === range.pages)
    if (same !== undefined && driver.regions.includes(same)) return 'EBUSY'
    if (same !== undefined) {
      same.used += same.isLeft ? 0 : 1
      same.isLeft = false
      driver.regions.unshift(same)
      driver.isEnabled = true
      return 'OK'
    }
    const made = this.#newRegion(mm, process, range, word(args, 'vaddr') | word(args, 'bytes'))
    if (typeof made === 'string') return made
    this.regions.push(made)
    driver.regions.unshift(made)
    driver.isEnabled = true
    return 'OK'
  }

  #newRegion(
    mm: NaiveProcess,
    caller: NaiveProcess,
    { page, pages }: { page: number; pages: number },
    bits: bigint,
  ): NaiveRegion | string {
    if (pages === 0 || !this.#charge(mm, caller, pages)) return 'ENOMEM'
    const frames: NaiveFrame[] = []
    for (let i = 0; i < pages; i++) {
      const at = mm.pages.get(page + i)
      if (at?.write === true) frames.push(at.frame)
    }
    const overlaps = this.regions.some((r) => r.mm === mm && r.page < page + pages && page < r.page + r.pages)
    if (frames.length < pages || overlaps) {
      mm.locked -= pages
      return frames.length < pages ? 'EFAULT' : 'EINVAL'
    }
    const shift = Math.min(alignOf(bits), ...frames.map((f) => f.shift))
    return { mm, page, pages, shift, frames, used: 1, mapped: 0, isLeft: false }
  }

  #unregister(args: Args, driver: NaiveDriver): string {
    if (!driver.isV2) return 'ENOTTY'
    const { mm } = driver
    if (mm === null) return 'EPERM'
    if (word(args, 'argsz', 24n) < 24n || word(args, 'flags') !== 0n) return 'EINVAL'
    const range = this.#range(args)
    if (range === undefined) return 'EINVAL'
    const region = this.regions.find((r) => r.mm === mm && r.page === range.page && r.pages === range.pages)
    if (region === undefined || !driver.regions.includes(region)) return 'ENOENT'
    if (region.used === 1 && region.mapped > 0) return 'EBUSY'
    driver.regions = driver.regions.filter((r) => r !== region)
    this.#leave(region)
    return 'OK'
  }

  #range(args: Args): { page: number; pages: number } | undefined {
    const page = BigInt(2 ** this.#pageShift)
    const [vaddr, bytes] = [word(args, 'vaddr'), word(args, 'bytes')]
    if (vaddr % page !== 0n || bytes % page !== 0n) return undefined
    return { page: Number(vaddr / page), pages: Number(bytes / page) }
  }

  /** One holder less. Mappings of others keep a region until they go. */
  #leave(region: NaiveRegion): void {
    if (region.used > 1) region.used--
    else if (region.mapped > 0) region.isLeft = true
    else this.#end(region)
  }

  #end(region: NaiveRegion): void {
    region.mm.locked -= region.pages
    this.regions.splice(this.regions.indexOf(region), 1)
  }

  #defaultWindow(driver: NaiveDriver, process: NaiveProcess): string {
    if (!driver.isPending) return 'OK'
    driver.mm ??= process
    const bytes = BigInt((driver.groups[0] as NaiveGroup).tce32Bytes)
    const made = this.#newWindow(driver, process, 12, bytes, 1)
    if (made === 'OK') driver.isPending = false
    return made
  }

  #create(args: Args, driver: NaiveDriver, process: NaiveProcess): NaiveAnswer {
    if (!driver.isV2) return { code: 'ENOTTY' }
    driver.mm ??= process
    if (word(args, 'argsz', 40n) < 40n || word(args, 'flags') !== 0n) return { code: 'EINVAL' }
    const ready = this.#defaultWindow(driver, process)
    if (ready !== 'OK') return { code: ready }
    const before = driver.windows.indexOf(null)
    const [shift, levels] = [Number(word(args, 'page_shift')), Number(word(args, 'levels'))]
    const code = this.#newWindow(driver, process, shift, word(args, 'window_bytes'), levels)
    return { code, outputs: { start_addr: code === 'OK' ? (STARTS[before] as bigint) : 0n } }
  }

  #newWindow(
    driver: NaiveDriver,
    caller: NaiveProcess,
    shift: number,
    bytes: bigint,
    levels: number,
  ): string {
    const at = driver.windows.indexOf(null)
    if (at < 0) return 'ENOSPC'
    if (!(driver.groups[0] as NaiveGroup).shifts.includes(shift)) return 'EINVAL'
    const charge = chargeOf(shift, bytes, levels, this.#pageShift) / 2 ** this.#pageShift
    if (charge === 0) return 'EINVAL'
    const mm = driver.mm as NaiveProcess
    if (!this.#charge(mm, caller, charge)) return 'ENOMEM'
    const entries = entriesOf(shift, bytes, levels, this.#pageShift)
    if (typeof entries === 'string') {
      mm.locked -= charge
      return entries
    }
    driver.windows[at] = { start: STARTS[at] as bigint, shift, entries, charge, map: new Map() }
    return 'OK'
  }

  #remove(args: Args, driver: NaiveDriver, process: NaiveProcess): string {
    if (!driver.isV2) return 'ENOTTY'
    driver.mm ??= process
    if (word(args, 'argsz', 16n) < 16n || word(args, 'flags') !== 0n) return 'EINVAL'
    const at = word(args, 'start_addr')
    if (driver.isPending && at === 0n) {
      driver.isPending = false
      return 'OK'
    }
    const window = windowAt(driver, at)
    if (window === undefined) return 'EINVAL'
    this.#dispose(window, driver.mm)
    driver.windows[driver.windows.indexOf(window)] = null
    return 'OK'
  }

  #dispose(window: NaiveWindow, mm: NaiveProcess): void {
    for (const at of [...window.map.keys()]) this.#clear(window, at)
    mm.locked -= window.charge
  }
}

const endOf = ({ start, shift, entries }: NaiveWindow): bigint => start + (entries << BigInt(shift))

const windowAt = (driver: NaiveDriver, iova: bigint): NaiveWindow | undefined =>
  driver.windows.find((w): w is NaiveWindow => w !== null && iova >= w.start && iova < endOf(w))

function info(driver: NaiveDriver, argsz: bigint): NaiveAnswer {
  if (argsz < 16n) return { code: 'EINVAL' }
  const [group] = driver.groups
  const dma32_bytes = BigInt(group?.tce32Bytes ?? 0)
  return { code: 'OK', outputs: { flags: driver.isV2 ? 1n : 0n, dma32_start: 0n, dma32_bytes } }
}
