import { Prng } from '../../bits/prng.ts'
import type { AgentScript } from './agent-script.ts'
import { BelievedContainer, Draft } from './random-draft.ts'
import { AREAS, DEVICE_AREAS, DMA_BYTES, DriverCalls } from './random-driver-calls.ts'
import { TABLES_MAX } from './random-guest.ts'
import { Hypercalls } from './random-hypercalls.ts'
import { KvmCalls } from './random-kvm-calls.ts'

/** A group of the peer's host, with a device that can do DMA. */
export interface RandomGroup {
  readonly group: number
  readonly device: string
}

export interface RandomOptions {
  readonly groups: readonly RandomGroup[]
  /** Opens a device and lets it move bytes: slow on an emulated host, which resets the bus each time. */
  readonly hasDma: boolean
  /** Makes a guest, whose hypercalls the kernel answers. */
  readonly hasGuest: boolean
  readonly commands: number
}

const PAGE = 0x1_0000n
/** Slots of containers that scripts use. */
const SLOTS = 3
/** A group that no host of ours has. */
const NO_GROUP = 9
/** Operations of VFIO_EEH_PE_OP: get state, options, end of a reset, configure, and none. */
const EEH_OPS = [4, 4, 4, 4, 0, 1, 2, 3, 5, 8, 10, 0xffff] as const
const [EEH_GET_STATE, EEH_END_RESET, EEH_INJECT] = [4, 5, 9] as const
const EEH_RESETS = [6, 7] as const
const LIMITS = [0n, PAGE, 0x10_0000n, 0x40_0000n, 0x100_0000n, 0xffff_ffff_ffff_ffffn] as const

/** Writes one script. */
class ScriptWriter {
  readonly #options: RandomOptions
  readonly #draft: Draft
  readonly #driver: DriverCalls
  readonly #kvm: KvmCalls
  readonly #guest: Hypercalls
  readonly #prng: Prng

  constructor(prng: Prng, options: RandomOptions) {
    this.#prng = prng
    this.#options = options
    this.#draft = new Draft(prng)
    this.#driver = new DriverCalls(this.#draft)
    this.#kvm = new KvmCalls(this.#draft, this.#driver)
    this.#guest = new Hypercalls(this.#draft)
  }

  write(): AgentScript['commands'] {
    const { commands } = this.#draft
    if (this.#options.hasGuest) this.#guestScript()
    else if (this.#options.hasDma) this.#deviceScript()
    else if (!this.#prng.oneIn(8)) this.#prologue()
    else if (this.#prng.oneIn(2)) this.#areas(0)
    const step = this.#options.hasGuest ? () => this.#guestStep() : () => this.#step()
    while (commands.length < this.#options.commands) step()
    this.#guest.lookAtAll()
    this.#draft.add('vmlck', {})
    return commands
  }

  #group(): number {
    return this.#prng.oneIn(40) ? NO_GROUP : this.#prng.pick(this.#options.groups).group
  }

  // --- what most scripts begin with ---

  /** @param always how many areas every script has */
  #areas(always: number): void {
    for (const [i, { from, bytes, fill }] of AREAS.entries()) {
      if (i >= always && this.#prng.oneIn(4)) continue
      this.#draft.add('anon', { vaddr: from, bytes, ...(fill !== undefined && { fill }) })
    }
    if (this.#prng.oneIn(3)) this.#draft.add('unmapmem', { vaddr: AREAS[3].from + PAGE, bytes: PAGE })
  }

  #joined(slot: number, group: number, type: number): void {
    this.#openContainer(slot)
    this.#openGroup(group)
    this.#attach(group)
    this.#iommu(type)
  }

  #prologue(): void {
    const [group, other] = this.#prng.oneIn(2) ? [0, 1] : [1, 0]
    const groupOf = (at: number): number => this.#options.groups[at]?.group ?? 0
    const type = (): number => (this.#prng.oneIn(6) ? 2 : 7)
    this.#joined(0, groupOf(group), type())
    this.#areas(1)
    const isAlone = !this.#prng.oneIn(3) || this.#options.groups.length < 2
    if (!isAlone) {
      const share = this.#prng.oneIn(2)
      if (share) {
        this.#openGroup(groupOf(other))
        this.#attach(groupOf(other))
      } else this.#joined(1, groupOf(other), type())
    }
    if (this.#draft.container?.type === 2) this.#draft.add('enable', {})
    else if (!this.#prng.oneIn(5)) this.#driver.register({ from: AREAS[0].from, bytes: AREAS[0].bytes })
  }

  /** A device's script: memory that both sides can look at, and a device whose buffer is known. */
  #deviceScript(): void {
    const [{ group, device }] = this.#options.groups as readonly [RandomGroup, ...RandomGroup[]]
    this.#joined(0, group, 7)
    this.#areas(DEVICE_AREAS)
    for (const { from, bytes } of AREAS.slice(0, DEVICE_AREAS)) this.#driver.register({ from, bytes })
    this.#draft.add('device', { group, name: device })
    this.#draft.hasDevice = true
    this.#driver.mapAt(0n, AREAS[0].from, PAGE)
    this.#draft.add('dma', { direction: 'r', iova: 0n, bytes: DMA_BYTES })
  }

  /** A guest's script: windows of one container or two, tables of the guest before them, and hypercalls. */
  #guestScript(): void {
    const groups = this.#options.groups.map(({ group }) => group)
    const [first = 0, second = first] = this.#prng.oneIn(2) ? groups : groups.toReversed()
    const others = second !== first && this.#prng.oneIn(3) ? [second] : []
    const type = this.#prng.oneIn(12) ? 2 : 7
    const windows = this.#kvm.windows()
    this.#areas(DEVICE_AREAS)
    this.#joined(0, first, type)
    if (type === 2) this.#draft.add('enable', {})
    for (const { from, bytes } of AREAS.slice(0, DEVICE_AREAS)) this.#driver.register({ from, bytes })
    this.#kvm.memory()
    windows()
    for (const group of others) {
      const isShared = this.#prng.oneIn(2)
      if (isShared) {
        this.#openGroup(group)
        this.#attach(group)
      } else {
        this.#joined(1, group, type)
        windows()
        this.#use(0)
      }
    }
    const device = this.#options.groups.find(({ group }) => group === first)
    if (this.#options.hasDma && device !== undefined) {
      this.#draft.add('device', { group: first, name: device.device })
      this.#draft.hasDevice = true
    }
    this.#kvm.guest()
    this.#kvm.tables([first, ...others])
    if (!this.#draft.hasDevice) return
    this.#guest.scratch()
  }

  #guestStep(): void {
    const { hasDevice, guest } = this.#draft
    if (guest.reached.length === 0 && guest.tables.length < TABLES_MAX && !this.#prng.oneIn(4)) {
      this.#kvm.reach()
      return
    }
    this.#draft.choose([
      [50, () => this.#guest.any()],
      [9, () => this.#guest.look()],
      [10, () => this.#kvm.any()],
      [12, () => this.#driver.any()],
      [7, () => this.#draft.add('vmlck', {})],
      [hasDevice ? 0 : 1, () => this.#lifecycle()],
      [hasDevice ? 0 : 1, () => this.#limits()],
      [1, () => this.#memory()],
      [2, () => this.#errors()],
      [hasDevice ? 45 : 0, () => this.#guest.dma()],
      [hasDevice ? 5 : 0, () => this.#driver.dma()],
    ])
  }

  #step(): void {
    const { container, hasDevice } = this.#draft
    if (container === undefined || container.type === 0) {
      this.#draft.choose([
        [12, () => this.#lifecycle()],
        [2, () => this.#driver.any()],
        [1, () => this.#limits()],
      ])
      return
    }
    this.#draft.choose([
      [hasDevice ? 1 : 3, () => this.#lifecycle()],
      [40, () => this.#driver.any()],
      [6, () => this.#draft.add('vmlck', {})],
      [1, () => this.#limits()],
      [1, () => this.#memory()],
      [1, () => this.#errors()],
      [hasDevice ? 40 : 0, () => this.#driver.dma()],
    ])
  }

  // --- files ---

  #openContainer(slot: number): void {
    this.#draft.add('open', { slot })
    this.#draft.current = slot
    this.#draft.containers.set(slot, new BelievedContainer())
  }

  #openGroup(group: number): void {
    this.#draft.add('group', { group })
    this.#draft.openGroups.add(group)
  }

  #attach(group: number): void {
    this.#draft.add('attach', { group })
    const { container, containers, openGroups } = this.#draft
    const isTaken = [...containers.values()].some((c) => c.groups.has(group))
    if (openGroups.has(group) && !isTaken) container?.groups.add(group)
  }

  #iommu(type: number): void {
    this.#draft.add('iommu', { type })
    const { container } = this.#draft
    const isFirst = container !== undefined && container.groups.size > 0 && container.type === 0
    if (isFirst && (type === 2 || type === 7)) container.type = type
  }

  #leave(group: number): void {
    for (const container of this.#draft.containers.values()) {
      if (container.groups.delete(group) && container.groups.size === 0) container.reset()
    }
  }

  #lifecycle(): void {
    const { containers, openGroups } = this.#draft
    const slot = this.#prng.below(SLOTS)
    const group = this.#group()
    this.#draft.choose([
      [containers.size === 0 ? 20 : 2, () => this.#openContainer(slot)],
      [containers.has(slot) ? 5 : 1, () => this.#use(slot)],
      [openGroups.has(group) ? 1 : 8, () => this.#openGroup(group)],
      [openGroups.has(group) ? 8 : 1, () => this.#attach(group)],
      [8, () => this.#iommu(this.#prng.pick([7, 7, 7, 2, 2, 1, 3, 8]))],
      [2, () => this.#draft.add('groupstatus', { group })],
      [1, () => this.#draft.add('ext', { extension: this.#prng.below(12) })],
      [1, () => this.#draft.add('version', {})],
      [1, () => this.#draft.add('ioctl', { nr: 100 + this.#prng.below(24), argument: 0n })],
      [
        1,
        () => {
          this.#draft.add('detach', { group })
          this.#leave(group)
        },
      ],
      [
        1,
        () => {
          this.#draft.add('groupclose', { group })
          openGroups.delete(group)
          this.#leave(group)
        },
      ],
      [
        1,
        () => {
          this.#draft.add('close', { slot })
          containers.delete(slot)
        },
      ],
    ])
  }

  #use(slot: number): void {
    this.#draft.add('use', { slot })
    this.#draft.current = slot
  }

  /** Error handling of PCI: its state, options, and numbers that are none. */
  #errors(): void {
    const { hasDevice } = this.#draft
    this.#draft.choose([
      [30, () => this.#draft.add('eeh', { op: this.#prng.pick(EEH_OPS) })],
      [
        6,
        () => {
          const type = this.#prng.pick([0, 1, 2])
          this.#draft.add('eeh', { op: EEH_INJECT, type, func: this.#prng.below(22) })
        },
      ],
      [hasDevice ? 0 : 1, () => this.#reset()],
    ])
  }

  /** A reset takes seconds, and outlives its script where nobody ends it. A device that was reset needs a driver. */
  #reset(): void {
    this.#draft.add('eeh', { op: this.#prng.pick(EEH_RESETS) })
    if (this.#prng.oneIn(2)) this.#draft.add('eeh', { op: EEH_GET_STATE })
    this.#draft.add('eeh', { op: EEH_END_RESET })
  }

  // --- the process ---

  #limits(): void {
    this.#draft.choose([
      [2, () => this.#draft.add('dropcap', {})],
      [3, () => this.#draft.add('rlimit', { bytes: this.#prng.pick(LIMITS) })],
    ])
  }

  #memory(): void {
    const area = this.#prng.pick(AREAS)
    const page = BigInt(this.#prng.below(Number(area.bytes / PAGE))) * PAGE
    this.#draft.choose([
      [1, () => this.#draft.add('anon', { vaddr: area.from, bytes: area.bytes })],
      [1, () => this.#draft.add('anon', { vaddr: 0x4_0000_0000n, bytes: 0x10_0000n })],
      // Not where a device is: what it wrote is read back.
      [
        this.#draft.hasDevice ? 0 : 1,
        () => this.#draft.add('unmapmem', { vaddr: area.from + page, bytes: PAGE }),
      ],
    ])
  }
}

/**
 * A random script of the agent that mostly makes sense: what overlaps, is misaligned or ends at an edge; both windows,
 * several containers and groups; memory that is registered in part; wrong flags and limits; guests with several tables,
 * what is behind them, and their hypercalls. The same state of the
 * generator gives the same script.
 *
 * @example
 * randomCommands(new Prng(1), {
 *   commands: 40,
 *   groups: [{ group: 0, device: '0001:01:00.0' }],
 *   hasDma: false,
 *   hasGuest: true,
 * })
 */
export const randomCommands = (prng: Prng, options: RandomOptions): AgentScript['commands'] =>
  new ScriptWriter(prng, options).write()

/** Scripts of a seed, by their number: any one can be had alone. */
export interface RandomScripts {
  readonly seed: number
  readonly groups: readonly RandomGroup[]
  /** One script in so many opens a device; 0 for none. */
  readonly dmaEvery: number
}

/** Commands of a script: short enough to be run often, long enough to get somewhere. */
const COMMANDS = { least: 30, spread: 40, ofDevice: 120, ofGuest: 40 } as const

/** The script of a seed with a number from 0 on. */
export function randomScript({ seed, groups, dmaEvery }: RandomScripts, number: number): AgentScript {
  const prng = new Prng(Math.imul(seed, 0x9e37_79b1) + number)
  const hasDma = dmaEvery > 0 && groups.length > 0 && number % dmaEvery === dmaEvery - 1
  const hasGuest = prng.oneIn(2)
  const commands =
    (hasDma ? COMMANDS.ofDevice : COMMANDS.least + prng.below(COMMANDS.spread)) +
    (hasGuest ? COMMANDS.ofGuest : 0)
  const name = `random-${seed}-${number}`
  return { name, commands: randomCommands(prng, { commands, groups, hasDma, hasGuest }) }
}
