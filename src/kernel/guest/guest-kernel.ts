import { Cells, keyOf } from '../../bits/state.ts'
import { hiOf, loOf } from '../../bits/u64.ts'
import { KIND } from '../../trace/event.ts'
import { Buffers } from './buffers.ts'
import { Ddw } from './ddw.ts'
import { DdwRtas } from './ddw-rtas.ts'
import { type DeviceNode, windowNode } from './device-tree.ts'
import { DirectWindow } from './direct-window.ts'
import { DmaApi } from './dma-api.ts'
import { DmaDevice } from './dma-device.ts'
import { GuestLog } from './guest-log.ts'
import type { GuestKernelOptions } from './guest-options.ts'
import type { IommuTable } from './iommu-table.ts'
import { LparBackend, type MultiTce } from './lpar-backend.ts'
import { NO_PAGES, PageAllocator } from './page-allocator.ts'
import { ScatterLists } from './scatter-list.ts'
import { SystemRam } from './system-ram.ts'
import { TableSetup } from './table-setup.ts'

const KERNEL_BYTES = 32n << 20n
const ALL_ONES_64 = 0xffff_ffff_ffff_ffffn

/** How the kernel took a DMA mask. */
export type MaskResult = 'direct' | 'direct-limited' | 'table' | 'no-table' | 'window-above-mask'

/**
 * The DMA side of a guest kernel: tables for every window at boot, a 64-bit window where a driver can use one,
 * the DMA API, and memory that comes and goes.
 *
 * Everything that it does to the machine goes out through its ports; it knows no hypervisor and no hardware.
 * (Linux v6.1, arch/powerpc/platforms/pseries/iommu.c and arch/powerpc/kernel)
 *
 * @example
 * const kernel = new GuestKernel(options)
 * kernel.boot()
 * kernel.setMask(kernel.device('nic'), (1n << 64n) - 1n) // 'direct' where the firmware has DDW
 */
export class GuestKernel {
  readonly options: GuestKernelOptions
  readonly log: GuestLog
  readonly memory: SystemRam
  readonly pages: PageAllocator
  readonly dma: DmaApi
  readonly lists: ScatterLists
  readonly ddw: Ddw
  readonly buffers: Buffers
  readonly #setup: TableSetup
  readonly #devices = new Map<string, DmaDevice>()
  readonly #isBooted: Cells
  /** List page of each CPU, + 1. */
  readonly #listPages: Cells
  readonly #kernelOwner: number

  constructor(options: GuestKernelOptions) {
    const { stage, journal, profile, pageShift, hcall, ram } = options
    this.options = options
    this.log = new GuestLog(stage)
    this.memory = new SystemRam(journal, pageShift, options.maxRamBytes)
    const ends = options.memory.map((m) => Number(m.gpa + m.bytes))
    const spanBytes = Math.max(Number(options.maxRamBytes), ...ends)
    this.pages = new PageAllocator({ stage, journal, pageShift, spanBytes })
    this.dma = new DmaApi({ stage, log: this.log, pages: this.pages, profile })
    this.lists = new ScatterLists(this.dma, pageShift, profile)
    this.buffers = new Buffers(journal)
    this.#isBooted = new Cells(journal, keyOf('guest-kernel'), 1)
    this.#listPages = new Cells(journal, keyOf('tce_page'), options.cpus)
    this.#kernelOwner = stage.log.names.intern('kernel')
    const { log } = this
    const shared = {
      hcall,
      ram,
      log,
      profile,
      multiTce: multiTceOf(options),
      listPage: () => this.#listPage(),
    }
    this.#setup = new TableSetup(options, log, new LparBackend(shared))
    this.ddw = new Ddw({
      rtas: new DdwRtas(options.rtas, log),
      direct: new DirectWindow({ ...shared, pageShift }),
      memory: this.memory,
      log,
      journal,
      profile,
      pageShift,
      hasPmemory: options.hasPmemory === true,
      makeTable: (group, window) => this.#setup.makeDynamic(group, window),
      refresh: () => this.#setup.refresh(),
    })
    this.#findDevices()
  }

  get isBooted(): boolean {
    return this.#isBooted.get(0) !== 0
  }

  device(name: string): DmaDevice | undefined {
    return this.#devices.get(name)
  }

  /** The node of a PHB or device, by its path or by the name of the PHB. */
  node(name: string): DeviceNode | undefined {
    const { nodes, phbs } = this.#setup
    return nodes.find((n) => n.path === name) ?? phbs.find((p) => p.phb.name === name)?.node
  }

  /** Tables that are there now. */
  get tables(): IommuTable[] {
    return this.#setup.tables
  }

  /** Finds its memory, takes over windows of an earlier kernel, and sets up a table for every window it finds. */
  boot(): void {
    this.#isBooted.set(0, 1)
    this.#findMemory()
    this.ddw.adopt(this.#setup.nodes)
    this.#setup.boot()
    for (const device of this.#devices.values()) {
      device.group = this.#setup.groupFor(device.node)
      if (device.group === undefined) this.log.warn(`no DMA window is found for ${device.name}`)
    }
  }

  /** dma_set_mask or, for `isCoherent`, dma_set_coherent_mask: decides how the device reaches memory. */
  setMask(device: DmaDevice, mask: bigint, isCoherent = false): MaskResult {
    const result = this.#supports(device, mask)
    if (result === 'no-table' || result === 'window-above-mask') return result
    if (isCoherent) device.coherentMask = mask
    else device.mask = mask
    device.settle(this.memory.lastPage)
    if (result !== 'table') this.#tellDirect(device)
    return result
  }

  /** Memory [first, first + pages) comes. Answers 0, or a code that a window gave against it. */
  online(first: number, pages: number): number {
    const rc = this.ddw.goingOnline(first, pages)
    if (rc !== 0) {
      this.ddw.offline(first, pages)
      return rc
    }
    const end = first + pages
    this.memory.plug({ first, end })
    this.pages.addRange(first, end)
    this.#settleAll()
    return 0
  }

  /** Memory goes. False, and nothing happens, where a page of it is in use. */
  offline(first: number, pages: number): boolean {
    const end = first + pages
    if (!this.pages.removeRange(first, end)) return false
    this.memory.remove({ first, end })
    this.ddw.offline(first, pages)
    this.#settleAll()
    return true
  }

  /** A driver takes a device; `owner` is the word for whom its mappings are. */
  bindDriver(device: DmaDevice, owner: string): void {
    device.hasDriver = true
    device.owner = this.options.stage.log.names.intern(owner)
  }

  /** The driver of a device ends; its mappings stay as it left them. */
  removeDriver(device: DmaDevice): void {
    const { log, cause } = this.options.stage
    device.hasDriver = false
    log.append(KIND['device.remove'], cause, device.id)
  }

  /** A node is unplugged with its window and its tables, and with all nodes below it before. */
  detach(node: DeviceNode): void {
    for (const child of this.#setup.nodes) if (child.parent === node) this.detach(child)
    this.ddw.detach(node)
    this.#setup.drop(node)
  }

  #findDevices(): void {
    const { journal, stage } = this.options
    for (const { phb, deviceNodes } of this.#setup.phbs) {
      phb.devices.forEach(({ name, bus = 0, devfn }, i) => {
        const node = deviceNodes[i] as DeviceNode
        const id = stage.log.names.intern(name)
        const configAddress = (bus << 16) | (devfn << 8)
        this.#devices.set(name, new DmaDevice(journal, { name, id, node, configAddress, buid: phb.buid }))
      })
    }
  }

  #findMemory(): void {
    const { memory, pageShift, kernelBytes = KERNEL_BYTES } = this.options
    const pageOf = (address: bigint) => Number(address >> BigInt(pageShift))
    let held = pageOf(kernelBytes)
    for (const { gpa, bytes } of memory) {
      const range = { first: pageOf(gpa), end: pageOf(gpa + bytes) }
      this.memory.add(range)
      const free = range.first + Math.min(held, Math.floor((range.end - range.first) / 2))
      this.pages.hold(range.first, free, this.#kernelOwner)
      this.pages.addRange(free, range.end)
      held = 0
    }
  }

  #settleAll(): void {
    for (const device of this.#devices.values()) device.settle(this.memory.lastPage)
  }

  /** dma_supported: bypass first, then the table. */
  #supports(device: DmaDevice, mask: bigint): MaskResult {
    if (this.#bypasses(device, mask)) {
      device.isBypassed = device.busLimit === 0n
      if (!device.isBypassed) this.log.warn(`direct DMA of ${device.name} is limited`)
      return device.isBypassed ? 'direct' : 'direct-limited'
    }
    const { table } = device
    if (table === undefined) return 'no-table'
    if (BigInt(table.offset) > mask >> BigInt(table.pageShift)) return 'window-above-mask'
    device.isBypassed = false
    return 'table'
  }

  #bypasses(device: DmaDevice, mask: bigint): boolean {
    const isBare = this.#setup.phbOf(device.node)?.bare !== undefined
    if (isBare || this.options.bootOptions.includes('disable_ddw') || mask < ALL_ONES_64) return false
    const node = windowNode(device.node)
    const group = node && this.#setup.groupOf(node)
    return node !== undefined && group !== undefined && this.ddw.enable(device, node, group)
  }

  #tellDirect(device: DmaDevice): void {
    if (device.isToldDirect) return
    device.isToldDirect = true
    const { log, cause } = this.options.stage
    const { dmaOffset: at, busLimit: limit } = device
    log.append(KIND['dma.direct'], cause, device.id, loOf(at), hiOf(at), loOf(limit), hiOf(limit))
  }

  /** The list page of the CPU that acts; -1 where there is no memory for it. */
  #listPage(): number {
    const { cpu } = this.options.stage
    this.#listPages.ensure(cpu + 1)
    if (this.#listPages.get(cpu) === 0) {
      const page = this.pages.alloc(0, this.#kernelOwner)
      if (page === NO_PAGES) return -1
      this.#listPages.set(cpu, page + 1)
    }
    return (this.#listPages.get(cpu) - 1) * 2 ** this.options.pageShift
  }
}

function multiTceOf({ hypertas, bootOptions, multiTce }: GuestKernelOptions): MultiTce {
  const isOn = hypertas.includes('hcall-multi-tce') && !bootOptions.includes('multitce=off')
  return multiTce ?? { putIndirect: isOn, stuff: isOn }
}
