import { hex } from '../../../bits/u64.ts'
import { type AgentCommand, agentCommandOf } from '../../../reader/kernel-answers-line.ts'
import type { RandomGroup } from '../random-script.ts'

/** Files of which the agent has one. */
export type OnlyFile = 'kvm' | 'vm' | 'vcpu' | 'vfio'

/** What the agent keeps of a file of the scenario's process. */
export type AgentFile =
  | { readonly kind: 'container'; readonly slot: number }
  | { readonly kind: 'group'; readonly group: number }
  | { readonly kind: 'device'; readonly name: string }
  | { readonly kind: 'table'; readonly table: number }
  | { readonly kind: OnlyFile }
  /** The step that made it was left out. */
  | { readonly kind: 'missing'; readonly step: number }

export type AgentFileKind = Exclude<AgentFile['kind'], 'missing'>

/** Files of each kind that the agent has room for. */
const CONTAINERS = 8
const GROUPS = 16
export const TABLES = 8
/** A container, and a group, that are never opened. */
const NO_SLOT = CONTAINERS - 1
const NO_GROUP = GROUPS - 1

/** A device of the scenario on the peer. */
export interface PeerDevice {
  readonly group: number
  /** PCI address on the peer. */
  readonly address: string
  readonly dmaMask: bigint
}

/**
 * The variables of the agent, as far as a scenario's descriptors stand for them.
 *
 * A descriptor that the scenario's process does not have becomes a variable that holds none.
 */
export class AgentVariables {
  readonly #files = new Map<bigint, AgentFile>()
  /** Names of mappings of tables, with the tables. */
  readonly maps = new Map<string, number>()
  /** Tables made so far: their numbers. */
  tables = 0
  /** The container that commands are about. */
  #slot = 0
  /** Device whose registers `dma` uses. */
  bar: string | undefined

  fileOf(fd: bigint): AgentFile | undefined {
    return this.#files.get(fd)
  }

  bind(fd: bigint, file: AgentFile): void {
    this.#files.set(fd, file)
  }

  free(fd: bigint): void {
    this.#files.delete(fd)
  }

  has(kind: AgentFileKind): boolean {
    return [...this.#files.values()].some((file) => file.kind === kind)
  }

  /** A container that is not in use; undefined where all are. */
  freeSlot(): number | undefined {
    const used = new Set([...this.#files.values()].map((f) => (f.kind === 'container' ? f.slot : -1)))
    const slot = Array.from({ length: NO_SLOT }, (_, i) => i).find((i) => !used.has(i))
    if (slot !== undefined) this.#slot = slot
    return slot
  }

  /** Whether a group's file is open. */
  hasGroup(group: number): boolean {
    return [...this.#files.values()].some((f) => f.kind === 'group' && f.group === group)
  }

  /** Makes a container the one that commands are about; a text says why it cannot be. */
  use(fd: bigint): AgentCommand[] | string {
    const slot = this.slotOf(fd)
    if (typeof slot === 'string') return slot
    if (slot === this.#slot) return []
    this.#slot = slot
    return [agentCommandOf('use', { slot })]
  }

  slotOf(fd: bigint): number | string {
    const file = this.fileOf(fd)
    if (file === undefined) return NO_SLOT
    return file.kind === 'container' ? file.slot : this.#notA('container', fd, file)
  }

  groupOf(fd: bigint): number | string {
    const file = this.fileOf(fd)
    if (file === undefined) return NO_GROUP
    return file.kind === 'group' ? file.group : this.#notA('group', fd, file)
  }

  tableOf(fd: bigint): number | string {
    const file = this.fileOf(fd)
    if (file === undefined) return `${fd} is no descriptor: the agent names a table by its number`
    return file.kind === 'table' ? file.table : this.#notA('table', fd, file)
  }

  /** Why a descriptor is not the agent's only file of a kind; undefined where it is, or where neither is there. */
  only(kind: OnlyFile, fd: bigint): string | undefined {
    const file = this.fileOf(fd)
    if (file?.kind === kind) return undefined
    if (file !== undefined) return this.#notA(kind, fd, file)
    return this.has(kind) ? `${fd} is no descriptor: the agent uses the ${kind} that it has` : undefined
  }

  #notA(wanted: string, fd: bigint, file: AgentFile): string {
    return file.kind === 'missing'
      ? `descriptor ${fd} comes from step ${file.step}, which is left out`
      : `descriptor ${fd} is a ${file.kind}, and the agent passes only a ${wanted} here`
  }
}

/** Groups and devices of a scenario, in their order, on those of the peer. */
export class PeerDevices {
  readonly #groups = new Map<number, RandomGroup>()
  readonly #devices = new Map<string, PeerDevice>()
  readonly #addresses = new Map<string, string>()

  addGroup(group: number, peer: RandomGroup): void {
    this.#groups.set(group, peer)
  }

  addDevice(name: string, address: string, group: number, dmaMask: bigint): void {
    const peer = this.#groups.get(group)
    if (peer === undefined) return
    this.#devices.set(name, { group: peer.group, address: peer.device, dmaMask })
    this.#addresses.set(address, peer.device)
  }

  /** Number on the peer of a group of the scenario; of one that it does not have, a number that the peer has not. */
  group(group: number): number {
    const there = new Set([...this.#groups.values()].map((g) => g.group))
    return this.#groups.get(group)?.group ?? (there.has(group) || group >= NO_GROUP ? NO_GROUP : group)
  }

  device(name: string): PeerDevice | undefined {
    return this.#devices.get(name)
  }

  /** The group of the peer with a device at an address. */
  at(address: string): RandomGroup | undefined {
    return [...this.#groups.values()].find((g) => g.device === address)
  }

  /** An address of the scenario's machine on the peer. */
  address(address: string): string {
    return this.#addresses.get(address) ?? address
  }
}

/** Whether a DMA addresses what the scenario's device can form. */
export function maskFault({ dmaMask }: PeerDevice, iova: bigint, bytes: bigint): string | undefined {
  const last = iova + (bytes > 0n ? bytes - 1n : 0n)
  return ((iova | last) & ~dmaMask) !== 0n
    ? `the device of the peer forms addresses of 64 bits, that of the scenario of ${hex(dmaMask)}`
    : undefined
}
