import { Held } from '../bits/held.ts'
import { type Journal, keyOf } from '../bits/state.ts'
import type { Process } from '../memory/process.ts'
import type { TableGroup } from '../table/hw-table.ts'

/** Files that a process may have open (Linux: soft limit of RLIMIT_NOFILE). */
export const FILES_MAX = 1024
/** Descriptors 0 to 2 are the terminal's. */
const FIRST_FD = 3

/** Files of VFIO, files of KVM, and files of vhost. */
export type FileKind =
  | 'container'
  | 'group'
  | 'device'
  | 'kvm'
  | 'vm'
  | 'vcpu'
  | 'kvm-vfio'
  | 'tce-table'
  | 'vhost-net'
  | 'eventfd'
  | 'tap'

/** How a file refuses an ioctl that it does not know: ENOTTY, EINVAL, EIO, EPERM, EFAULT, ENOBUFS. */
export type IoctlRefusal =
  | 'unknown'
  | 'invalid'
  | 'other-vm'
  | 'other-process'
  | 'bad-pointer'
  | 'no-such-queue'

/** What is behind a file: told when its last holder is gone. */
export interface FileTarget {
  readonly kind: FileKind
  released(): void
  /** What a process is told of an ioctl that the file does not know, with its third argument. */
  refusal(process: Process, argument?: bigint): IoctlRefusal
}

/** A group of VFIO, as KVM sees it. */
export interface GroupFile extends FileTarget {
  readonly kind: 'group'
  readonly table: TableGroup
}

/**
 * An open file (struct file): its descriptors, mappings and other holders keep it; the last one that lets go
 * releases what is behind it.
 */
export class OpenFile {
  readonly number: number
  readonly target: FileTarget
  readonly #holders: Held<number>

  constructor(journal: Journal, number: number, target: FileTarget) {
    this.number = number
    this.target = target
    this.#holders = new Held(journal, `file ${number}`, 0, (n) => n)
    this.#holders.set(1)
  }

  get holders(): number {
    return this.#holders.value
  }

  hold(): void {
    this.#holders.set(this.holders + 1)
  }

  drop(): void {
    this.#holders.set(this.holders - 1)
    if (this.holders === 0) this.target.released()
  }
}

interface ProcessFiles {
  /** By descriptor, from `FIRST_FD` on. */
  readonly fds: readonly (OpenFile | null)[]
  readonly maps: readonly { readonly name: string; readonly file: OpenFile }[]
}

const NONE: ProcessFiles = { fds: [], maps: [] }

const hashOf = ({ fds, maps }: ProcessFiles): number =>
  fds.length + maps.length === 0
    ? 0
    : keyOf(...fds.map((f) => f?.number ?? 0), ...maps.flatMap((m) => [m.name, m.file.number]))

/**
 * Descriptors and file mappings of processes. Names of mappings are ours: they stand for the addresses that mmap
 * answers.
 */
export class FileTable {
  readonly #journal: Journal
  readonly #files = new Map<string, Held<ProcessFiles>>()
  readonly #opened: Held<number>
  readonly #paths = new Map<string, () => FileTarget>()

  constructor(journal: Journal) {
    this.#journal = journal
    this.#opened = new Held(journal, 'files opened', 0, (n) => n)
  }

  /** A path that processes can open: `make` is what each open file of it is. */
  serve(path: string, make: () => FileTarget): void {
    this.#paths.set(path, make)
  }

  /** What opening a path that is served leads to. */
  targetAt(path: string): FileTarget | undefined {
    return this.#paths.get(path)?.()
  }

  /** Whether a process has a descriptor left. */
  hasRoom(process: string): boolean {
    return this.#freeFd(process) < FILES_MAX
  }

  /** Opens a file; the process has room. Its holder is the descriptor. */
  open(process: string, target: FileTarget): { readonly fd: number; readonly file: OpenFile } {
    const fd = this.#freeFd(process)
    this.#opened.set(this.#opened.value + 1)
    const file = new OpenFile(this.#journal, this.#opened.value, target)
    const held = this.#of(process)
    const fds = [...held.value.fds]
    while (fds.length <= fd - FIRST_FD) fds.push(null)
    fds[fd - FIRST_FD] = file
    held.set({ ...held.value, fds })
    return { fd, file }
  }

  find(process: string, fd: number): OpenFile | undefined {
    return this.#of(process).value.fds[fd - FIRST_FD] ?? undefined
  }

  /** The file of a kind that has the lowest descriptor of a process. */
  lowest(process: string, kind: FileKind): OpenFile | undefined {
    return this.#of(process).value.fds.find((file) => file?.target.kind === kind) ?? undefined
  }

  /** Takes a descriptor away; false where there is none. What it held goes with its last holder. */
  close(process: string, fd: number): boolean {
    const file = this.find(process, fd)
    if (file === undefined) return false
    const held = this.#of(process)
    const fds = held.value.fds.with(fd - FIRST_FD, null)
    held.set({ ...held.value, fds: fds.slice(0, fds.findLastIndex((f) => f !== null) + 1) })
    file.drop()
    return true
  }

  mapping(process: string, name: string): OpenFile | undefined {
    return this.#of(process).value.maps.find((m) => m.name === name)?.file
  }

  map(process: string, name: string, file: OpenFile): void {
    const held = this.#of(process)
    held.set({ ...held.value, maps: [...held.value.maps, { name, file }] })
    file.hold()
  }

  unmap(process: string, name: string): void {
    const file = this.mapping(process, name)
    const held = this.#of(process)
    held.set({ ...held.value, maps: held.value.maps.filter((m) => m.name !== name) })
    file?.drop()
  }

  /** fork: the child has the same files, and the same mappings of them. */
  inherit(parent: string, child: string): void {
    const { value } = this.#of(parent)
    this.#of(child).set(value)
    for (const file of value.fds) file?.hold()
    for (const { file } of value.maps) file.hold()
  }

  /** The process ends: mappings go first, then descriptors in their order. */
  closeAll(process: string): void {
    const held = this.#of(process)
    const { fds, maps } = held.value
    held.set(NONE)
    for (const { file } of maps) file.drop()
    for (const file of fds) file?.drop()
  }

  #freeFd(process: string): number {
    const { fds } = this.#of(process).value
    const free = fds.indexOf(null)
    return FIRST_FD + (free < 0 ? fds.length : free)
  }

  #of(process: string): Held<ProcessFiles> {
    let held = this.#files.get(process)
    if (held === undefined) {
      held = new Held(this.#journal, `files of ${process}`, NONE, hashOf)
      this.#files.set(process, held)
    }
    return held
  }
}
