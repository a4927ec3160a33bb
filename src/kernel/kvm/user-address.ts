import { hiOfPage, loOfPage, pageOf } from '../../bits/u64.ts'
import { NO_UA } from '../../memory/guest-memory.ts'
import { TCE_LIST_BYTES, TCE_PERM } from '../../table/tce-entry.ts'
import type { MmIommu } from '../mm-port.ts'
import type { KvmVm } from './kvm-vm.ts'

const PAGE_4K_SHIFT = 12
const PAGE_4K_MASK = 2 ** PAGE_4K_SHIFT - 1
/** First 4 KiB page that no guest has. */
const PAGES_END = 2 ** 40

/** Where in the process of its VMM an address of a guest lies. */
export class UserAddress {
  // Results of `find`.
  uaHi = 0
  uaLo = 0
  readonly #memory: MmIommu

  constructor(memory: MmIommu) {
    this.#memory = memory
  }

  /** The user address of a TCE: all bits but the permissions. False where it begins in no slot. */
  find(vm: KvmVm, hi: number, lo: number): boolean {
    const page = pageOf(hi, lo, PAGE_4K_SHIFT)
    const uaPage = page < PAGES_END ? vm.memory.uaPageOf(page) : NO_UA
    if (uaPage === NO_UA) return false
    this.uaHi = hiOfPage(uaPage, PAGE_4K_SHIFT)
    this.uaLo = loOfPage(uaPage, PAGE_4K_SHIFT) | (lo & PAGE_4K_MASK & ~TCE_PERM)
    return true
  }

  /** Whether a 4 KiB page of the guest is in a slot. */
  hasPage(vm: KvmVm, page: number): boolean {
    return page < PAGES_END && vm.memory.uaPageOf(page) !== NO_UA
  }

  /** Whether real mode finds a list of TCEs without the page tables of the process. */
  isListRegistered(vm: KvmVm, listPage: number): boolean {
    const page = vm.memory.uaPageOf(listPage)
    const [hi, lo] = [hiOfPage(page, PAGE_4K_SHIFT), loOfPage(page, PAGE_4K_SHIFT)]
    const region = this.#memory.lookup(vm.mm, hi, lo, TCE_LIST_BYTES)
    return region >= 0 && this.#memory.toHpa(region, hi, lo, PAGE_4K_SHIFT) === 0
  }
}
