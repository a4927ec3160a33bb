import type { Profile } from '../../bits/errata.ts'
import { Held } from '../../bits/held.ts'
import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { floorLog2, hex, U64_MAX } from '../../bits/u64.ts'
import type { Life } from '../../hw/life.ts'
import { FAULT } from '../../hw/vtd/fault-reasons.ts'
import type { VtdInvalidation } from '../../hw/vtd/ports.ts'
import { INTERRUPT_END, INTERRUPT_START } from '../../memory/interrupt-range.ts'
import { NOTIFIER } from '../../trace/event-codes.ts'
import type { Stage } from '../../trace/stage.ts'
import { IovaTree } from './iova-tree.ts'
import type { VtdTables } from './vtd-tables.ts'

const PAGE_SHIFT = 12n
/** Pages as log2 that no range of addresses has more of. */
const ALL_ORDER = 52

type NotifierFlag = (typeof NOTIFIER)[keyof typeof NOTIFIER]

/** Part of a device's bus addresses that is one region of the IOMMU; `last` is inclusive. */
interface Section {
  readonly first: bigint
  readonly last: bigint
}

/** On q35 the interrupt addresses stand between two sections. (QEMU 7.2 hw/i386/intel_iommu.c, vtd_find_add_as) */
const SECTIONS: readonly Section[] = [
  { first: 0n, last: INTERRUPT_START - 1n },
  { first: INTERRUPT_END, last: U64_MAX },
]

/** Who hears that translations of a device are gone: bytes [iova, last] of bus addresses. QEMU waits for it to return. */
export interface UnmapListener {
  unmapped(iova: bigint, last: bigint): void
}

interface Notifier extends Section {
  readonly listener: UnmapListener
  readonly flag: NotifierFlag
}

/** A device as QEMU's unit knows it. */
export interface VtdDeviceOptions {
  readonly name: string
  /** Its source-id: bus, device and function. */
  readonly source: number
  /** virtio-net, which registers its notifiers anew when ATS is switched; others keep what they chose at start. */
  readonly followsAts: boolean
}

/** The bus addresses of one device, with who listens to them. (QEMU: VTDAddressSpace) */
export class VtdDevice {
  readonly options: VtdDeviceOptions
  /** In the order in which they hear: newest first. */
  readonly notifiers: Held<readonly Notifier[]>
  /** What the listeners have mapped, as far as flushes of domains have shown it. */
  readonly tree: IovaTree
  /** Whether ATS is on. */
  readonly #state: Cells

  constructor(options: VtdDeviceOptions, journal: Journal) {
    const { name } = options
    this.options = options
    this.notifiers = new Held<readonly Notifier[]>(journal, `notifiers of ${name}`, [], hashOfNotifiers)
    this.tree = new IovaTree(journal, name)
    this.#state = new Cells(journal, keyOf('vtd device', name), 1)
  }

  /** Whether the guest has switched ATS on in the device. */
  get hasAts(): boolean {
    return this.#state.get(0) !== 0
  }

  set hasAts(on: boolean) {
    this.#state.set(0, on ? 1 : 0)
  }
}

const hashOfNotifiers = (notifiers: readonly Notifier[]): number =>
  keyOf(...notifiers.map(({ flag, first }) => `${flag} ${first}`))

/**
 * From invalidations of QEMU's intel-iommu to listeners of the devices behind it, which are vhost devices: each section
 * of a device's addresses has a notifier, of the flavour that the version and ATS decide. All is done before the unit
 * goes on to the next descriptor. (QEMU hw/i386/intel_iommu.c, hw/virtio/vhost.c, softmmu/memory.c)
 */
export class VtdNotifier {
  readonly #tables: VtdTables
  readonly #stage: Stage
  readonly #life: Life
  readonly #journal: Journal
  /** Devices with notifiers: the one that came last first. */
  readonly #heard: Held<readonly VtdDevice[]>
  readonly #devices: VtdDevice[] = []
  readonly #walksOnly: boolean
  readonly #ignoresAts: boolean
  readonly #takesEveryFlag: boolean
  readonly #asserts: boolean
  readonly #unaligned: boolean

  /** @param name of the unit */
  constructor(
    name: string,
    tables: VtdTables,
    parts: { stage: Stage; journal: Journal; life: Life; profile: Pick<Profile, 'has'> },
  ) {
    const { stage, journal, life, profile } = parts
    this.#tables = tables
    this.#stage = stage
    this.#life = life
    this.#journal = journal
    this.#heard = new Held<readonly VtdDevice[]>(journal, `notified by ${name}`, [], (devices) =>
      keyOf(...devices.map((d) => d.options.name)),
    )
    this.#walksOnly = profile.has('VD1')
    this.#ignoresAts = profile.has('VD2')
    this.#takesEveryFlag = profile.has('VD3')
    this.#asserts = profile.has('VD4')
    this.#unaligned = profile.has('VD5')
  }

  addDevice(options: VtdDeviceOptions): VtdDevice {
    const device = new VtdDevice(options, this.#journal)
    this.#devices.push(device)
    return device
  }

  /** A vhost device starts: it listens to every section. QEMU ends where the unit takes no notifier. */
  start(device: VtdDevice, listener: UnmapListener): void {
    for (const section of SECTIONS) {
      const flag = this.#choose(device)
      if (flag === undefined) return
      this.#register(device, { ...section, listener, flag })
    }
  }

  /** A vhost device stops. */
  stop(device: VtdDevice, listener: UnmapListener): void {
    this.#replace(
      device,
      device.notifiers.value.filter((n) => n.listener !== listener),
    )
  }

  /**
   * The guest writes the ATS control register of a device. Since 7.2.5 virtio-net then registers its notifiers anew,
   * those of the upper section first: the lower one hears first from then on.
   */
  setAts(device: VtdDevice, on: boolean): void {
    device.hasAts = on
    if (this.#ignoresAts || !device.options.followsAts) return
    // QEMU goes through its own list, in which the upper section stands first.
    const known = [...device.notifiers.value].sort((a, b) => (a.first < b.first ? 1 : -1))
    for (const notifier of known) {
      const flag = this.#choose(device)
      if (flag === undefined) return
      this.#replace(
        device,
        device.notifiers.value.filter((n) => n !== notifier),
      )
      this.#register(device, { ...notifier, flag })
    }
  }

  /** Software has had the unit forget something. */
  invalidated(what: VtdInvalidation): void {
    if (what.what === 'device-tlb') this.#deviceTlb(what)
    else if (what.what === 'context') {
      if (what.scope === 'fine') this.#contextOfDevice(what.source, what.functionMask)
      else this.#allContexts()
    } else if (what.what === 'iotlb') {
      if (what.scope === 'all') for (const device of this.#heard.value) this.#sync(device)
      else if (what.scope === 'domain') for (const device of this.#of(what.domain)) this.#sync(device)
      else this.#pages(what)
    }
  }

  /** The flag that vhost registers with; undefined where there is none, and QEMU has ended. */
  #choose(device: VtdDevice): NotifierFlag | undefined {
    const { DEVIOTLB_UNMAP, UNMAP } = NOTIFIER
    if (this.#ignoresAts) {
      for (const flag of [DEVIOTLB_UNMAP, UNMAP]) if (this.#takes(flag)) return flag
    } else {
      const flag = device.hasAts ? DEVIOTLB_UNMAP : UNMAP
      if (this.#takes(flag)) return flag
    }
    this.#life.die(`vhost of ${device.options.name}: the vIOMMU takes no notifier of its kind`)
    return undefined
  }

  #takes(flag: NotifierFlag): boolean {
    const { hasSnoopControl, hasDeviceTlb } = this.#tables.features
    if (hasSnoopControl) return false
    return this.#takesEveryFlag || flag !== NOTIFIER.DEVIOTLB_UNMAP || hasDeviceTlb
  }

  #register(device: VtdDevice, notifier: Notifier): void {
    this.#replace(device, [notifier, ...device.notifiers.value])
  }

  #replace(device: VtdDevice, notifiers: readonly Notifier[]): void {
    const before = device.notifiers.value.length
    device.notifiers.set(notifiers)
    const heard = this.#heard.value
    if (before === 0 && notifiers.length > 0) this.#heard.set([device, ...heard])
    else if (before > 0 && notifiers.length === 0) this.#heard.set(heard.filter((d) => d !== device))
  }

  /** Devices with notifiers whose context entry names a domain now. */
  *#of(domain: number): Generator<VtdDevice> {
    for (const device of this.#heard.value) {
      if (this.#tables.find(device.options.source) === 0 && this.#tables.domain === domain) yield device
    }
  }

  #deviceTlb({ source, address, order }: VtdInvalidation): void {
    const device = this.#devices.find((d) => d.options.source === source)
    if (device === undefined) return
    const rest = order >= ALL_ORDER ? U64_MAX : (1n << (PAGE_SHIFT + BigInt(order))) - 1n
    const iova = address & ~rest & U64_MAX
    this.#notify(device, NOTIFIER.DEVIOTLB_UNMAP, iova, iova | rest)
  }

  #pages({ domain, address, order }: VtdInvalidation): void {
    const rest = (1n << (PAGE_SHIFT + BigInt(order))) - 1n
    const iova = this.#unaligned ? address : address & ~rest
    const last = BigInt.asUintN(64, iova + rest)
    for (const device of this.#of(domain)) this.#notify(device, NOTIFIER.UNMAP, iova, last)
  }

  #contextOfDevice(source: number, functionMask: number): void {
    const masked = [0, 4, 6, 7][functionMask] as number
    for (const device of this.#devices) {
      if ((device.options.source & ~masked) === (source & ~masked)) this.#sync(device)
    }
  }

  /** Every device is told that all is gone, and then as a global flush has it. */
  #allContexts(): void {
    for (const device of this.#heard.value) this.#unmapBlocks(device)
    for (const device of this.#heard.value) this.#sync(device)
  }

  /** Listeners of a device are told what has gone; right is: all of it. */
  #sync(device: VtdDevice): void {
    if (!this.#walksOnly) {
      for (const n of device.notifiers.value) this.#notifyOne(device, n, NOTIFIER.UNMAP, n.first, n.last)
      return
    }
    const isHeard = device.notifiers.value.some(({ flag }) => flag !== NOTIFIER.DEVIOTLB_UNMAP)
    if (!isHeard) return
    const fault = this.#tables.find(device.options.source)
    if (fault === FAULT.CONTEXT_ENTRY_P || fault === FAULT.SM_CONTEXT_ENTRY_P) this.#unmapBlocks(device)
    else if (fault === 0) this.#walk(device)
  }

  /** Naturally aligned powers of two, up to the width of bus addresses. */
  #unmapBlocks(device: VtdDevice): void {
    const end = (1n << BigInt(this.#tables.features.maxAddressBits)) - 1n
    for (const notifier of device.notifiers.value) {
      const last = notifier.last < end ? notifier.last : end
      for (let at = notifier.first; at <= last && !this.#life.isDead; ) {
        const bytes = blockBytes(at, last)
        this.#notifyOne(device, notifier, NOTIFIER.UNMAP, at, at + bytes - 1n)
        at += bytes
      }
      device.tree.remove(Number(notifier.first >> PAGE_SHIFT), Number(last >> PAGE_SHIFT) + 1)
    }
  }

  /** Compares the tables with what was mapped: only what was found by an earlier walk can be found gone. */
  #walk(device: VtdDevice): void {
    const { isPassThrough, isFirstLevel } = this.#tables
    if (isPassThrough || isFirstLevel) {
      const { log, cause, line } = this.#stage
      const why = isPassThrough ? 'is passed through' : 'has first-level tables'
      log.emit('unmodelled', cause, { what: `a listener of a device that ${why}`, line })
      return
    }
    this.#tables.visit((first, pages, target, perm) => {
      if (!this.#life.isDead) this.#walked(device, first, first + pages, target, perm)
    })
  }

  #walked(device: VtdDevice, first: number, end: number, target: number, perm: number): void {
    const { tree } = device
    const iova = BigInt(first) << PAGE_SHIFT
    const last = (BigInt(end) << PAGE_SHIFT) - 1n
    const isKnown = tree.overlaps(first, end)
    if (perm === 0) {
      if (!isKnown) return
      tree.remove(first, end)
      this.#notify(device, NOTIFIER.UNMAP, iova, last)
      return
    }
    if (isKnown) {
      if (tree.holds(first, end, target, perm)) return
      this.#notify(device, NOTIFIER.UNMAP, iova, last)
      tree.remove(first, end)
    }
    tree.insert(first, end, target, perm)
    this.#notify(device, NOTIFIER.MAP, iova, last)
  }

  #notify(device: VtdDevice, event: NotifierFlag, iova: bigint, last: bigint): void {
    for (const notifier of device.notifiers.value) this.#notifyOne(device, notifier, event, iova, last)
  }

  /** One event to one notifier: none of other sections, cropped to its own. */
  #notifyOne(
    device: VtdDevice,
    notifier: Notifier,
    event: NotifierFlag,
    eventIova: bigint,
    eventLast: bigint,
  ): void {
    const { first, last: end, flag, listener } = notifier
    if (this.#life.isDead || first > eventLast || end < eventIova) return
    const isInside = eventIova >= first && eventLast <= end
    if (this.#asserts && !isInside && flag !== NOTIFIER.DEVIOTLB_UNMAP) {
      // The assertion comes before the question whether the notifier wants the event.
      this.#life.die(
        `an event of bus addresses ${hex(eventIova)} to ${hex(eventLast)} leaves the section of a notifier`,
      )
      return
    }
    if ((event & flag) === 0) return
    const iova = eventIova < first ? first : eventIova
    const last = eventLast > end ? end : eventLast
    const { log } = this.#stage
    const before = this.#stage.cause
    if (log.on) {
      const fields = { device: device.options.name, flag: event, iova, last, ua: 0n, perm: 0 }
      this.#stage.cause = log.emit('domain.notify', before < 0 ? null : before, fields)
    }
    listener.unmapped(iova, last)
    this.#stage.cause = before
  }
}

/** Bytes of the largest naturally aligned power of two that begins at an address and ends at `last` or before. */
function blockBytes(at: bigint, last: bigint): bigint {
  const fits = 1n << BigInt(floorLog2(last - at + 1n))
  const aligned = at & -at
  return at === 0n || aligned > fits ? fits : aligned
}
