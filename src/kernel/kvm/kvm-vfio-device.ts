import { Held } from '../../bits/held.ts'
import type { Host } from '../../memory/host.ts'
import type { Process } from '../../memory/process.ts'
import type { TableGroup } from '../../table/hw-table.ts'
import type { FileTarget, GroupFile, IoctlRefusal, OpenFile } from '../files.ts'
import type { KvmVm } from './kvm-vm.ts'

/** What the kernel prints, once, where a group goes for which no table was attached. */
export const NO_GROUP_WARNING = 'kvm_spapr_tce_release_vfio_group: no table was attached for the group'

/** A group that was added: its file, and whether tables were attached for it. */
interface AddedGroup {
  readonly file: OpenFile
  readonly isKnown: boolean
}

/**
 * The VFIO device of a VM: the groups that it was told of, whose files it holds.
 * (Linux v6.1 and v6.12 virt/kvm/vfio.c)
 */
export class KvmVfioDevice implements FileTarget {
  readonly kind = 'kvm-vfio'
  readonly vm: KvmVm
  readonly #host: Host
  readonly #livesWithVm: boolean
  readonly #groups: Held<readonly AddedGroup[]>

  /** @param livesWithVm whether it goes with its VM and not with its file */
  constructor(host: Host, vm: KvmVm, livesWithVm: boolean) {
    this.vm = vm
    this.#host = host
    this.#livesWithVm = livesWithVm
    this.#groups = new Held<readonly AddedGroup[]>(host.journal, `vm ${vm.number} groups`, [], (list) =>
      list.reduce((n, { file, isKnown }) => n * 31 + file.number * 2 + Number(isKnown), 0),
    )
    vm.hold()
  }

  has(file: OpenFile): boolean {
    return this.#groups.value.some((g) => g.file === file)
  }

  add(file: OpenFile): void {
    file.hold()
    this.#groups.set([...this.#groups.value, { file, isKnown: false }])
  }

  /** Tables are attached for the group from now on. */
  know(file: OpenFile): TableGroup {
    this.#groups.set(this.#groups.value.map((g) => (g.file === file ? { file, isKnown: true } : g)))
    return (file.target as GroupFile).table
  }

  remove(file: OpenFile): void {
    const group = this.#groups.value.find((g) => g.file === file)
    if (group === undefined) return
    this.#groups.set(this.#groups.value.filter((g) => g !== group))
    this.#release(group)
  }

  /** All groups go, and the VM has no such device any more. */
  dispose(): void {
    const groups = this.#groups.value
    this.#groups.set([])
    this.vm.setDevice(null)
    for (const group of groups) this.#release(group)
  }

  released(): void {
    if (!this.#livesWithVm) this.dispose()
    this.vm.drop()
  }

  refusal(process: Process): IoctlRefusal {
    return this.vm.refusal(process)
  }

  /** Every table that the group has now counts one attachment fewer, wherever it is attached. */
  #release({ file, isKnown }: AddedGroup): void {
    if (isKnown) this.#detach((file.target as GroupFile).table)
    else this.#host.warnOnce(NO_GROUP_WARNING)
    file.drop()
  }

  #detach(group: TableGroup): void {
    for (const guest of this.vm.tables) {
      for (const attachment of guest.attachments) {
        const { table, count } = attachment
        if (!group.tables.includes(table)) continue
        const fewer = { table, count: count - 1 }
        guest.setAttachments(
          guest.attachments.flatMap((a) => (a !== attachment ? [a] : fewer.count > 0 ? [fewer] : [])),
        )
        if (fewer.count === 0) table.put('kvm')
      }
    }
  }
}
