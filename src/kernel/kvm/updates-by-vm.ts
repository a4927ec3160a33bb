import { updateErrata } from './entry-updates.ts'
import type { Kvm } from './kvm.ts'
import type { KvmVm } from './kvm-vm.ts'
import { TableUpdates } from './table-updates.ts'

/** What changes hardware tables for each VM, in virtual and in real mode. */
export class UpdatesByVm {
  readonly #kvm: Kvm
  readonly #virtual = new WeakMap<KvmVm, TableUpdates>()
  readonly #real = new WeakMap<KvmVm, TableUpdates>()
  // What was asked for last: mostly it is the same again.
  #vm: KvmVm | undefined
  #isReal = false
  #last: TableUpdates | undefined

  constructor(kvm: Kvm) {
    this.#kvm = kvm
  }

  of(vm: KvmVm, isReal: boolean): TableUpdates {
    if (vm === this.#vm && isReal === this.#isReal) return this.#last as TableUpdates
    const known = isReal ? this.#real : this.#virtual
    let updates = known.get(vm)
    if (updates === undefined) {
      const { profile, processes, memory, onBug } = this.#kvm
      const errata = updateErrata(profile)
      updates = new TableUpdates({ host: processes.host, memory, mm: vm.mm, errata, onBug, isReal })
      known.set(vm, updates)
    }
    this.#vm = vm
    this.#isReal = isReal
    this.#last = updates
    return updates
  }
}
