import { codesOf, rulesOf } from '../../bits/call.ts'
import { H_CODES } from '../../bits/codes.ts'
import { hasLowBits, numberOf, pageOf } from '../../bits/u64.ts'
import type { DmaDir, HwTable } from '../../table/hw-table.ts'
import { TCE_LIST_BYTES, TCE_LIST_MAX, TCE_PERM } from '../../table/tce-entry.ts'
import { NO_ANSWER } from '../ports.ts'
import { killAll, writeAll } from './attached-tables.ts'
import type { GuestTceTable } from './guest-tce-table.ts'
import { KVM_H_GET_TCE, KVM_H_PUT_TCE, KVM_H_PUT_TCE_INDIRECT, KVM_H_STUFF_TCE } from './hcall-calls.ts'
import { type HcallErrata, hcallErrata } from './hcall-errata.ts'
import { BEHIND_MAX, NO_PAGE_BUG, NOT_ASKED, PAGES_MAX, UNMODELLED } from './hcall-results.ts'
import type { Kvm } from './kvm.ts'
import { HCALL_BITS, type KvmVm } from './kvm-vm.ts'
import type { TableUpdates } from './table-updates.ts'
import { FITS, OLD_REFUSAL, TceFaults, type TceRules } from './tce-faults.ts'
import { TceList } from './tce-list.ts'
import { UpdatesByVm } from './updates-by-vm.ts'
import { UserAddress } from './user-address.ts'

const PUT = rulesOf(KVM_H_PUT_TCE)
const INDIRECT = rulesOf(KVM_H_PUT_TCE_INDIRECT)
const STUFF = rulesOf(KVM_H_STUFF_TCE)
/** Refusals of a list with which erratum `B6` leaves a lock held. */
const LEAVES_LOCK: readonly number[] = [INDIRECT['poison-outside-ram'], INDIRECT['tce-outside-ram-early']]
const GET = rulesOf(KVM_H_GET_TCE)
const PUT_CODES = codesOf(KVM_H_PUT_TCE)
const INDIRECT_CODES = codesOf(KVM_H_PUT_TCE_INDIRECT)
const STUFF_CODES = codesOf(KVM_H_STUFF_TCE)

const PAGE_SHIFT = 12

/**
 * Hypercalls for TCEs in the kernel: in virtual mode, and for hash guests of older kernels in real mode first.
 * Arguments are 64-bit registers in two lanes, high first; results are places of rules, NO_ANSWER where the kernel
 * stopped, or UNMODELLED. Nothing here allocates JavaScript objects. (Linux v6.1 arch/powerpc/kvm/book3s_64_vio.c; real mode: v5.3 and v5.17 book3s_64_vio_hv.c)
 */
export class KvmHcalls {
  r4Hi = 0
  r4Lo = 0
  /** What the model does not know, after UNMODELLED. */
  why = ''
  /** Whether the last answer was given in real mode. */
  inRealMode = false
  /** The place of what real mode answered before virtual mode did all again; NOT_ASKED where it did not. */
  realPlace = NOT_ASKED
  /** Entries of the guest's table, from the start of its window on, that the last call wrote. */
  firstWritten = 0
  written = 0
  readonly #errata: HcallErrata
  readonly #updates: UpdatesByVm
  readonly #list = new TceList()
  /** Whether what is done now is done in real mode. */
  #isReal = false
  /** Whether real mode may have read the list: it lies in the page tables of the process, which the model does not look at. */
  #mayHaveBeenReal = false
  readonly #address: UserAddress
  readonly #faults: TceFaults
  readonly #kvm: Kvm

  constructor(kvm: Kvm) {
    this.#address = new UserAddress(kvm.memory)
    this.#errata = hcallErrata(kvm.profile, kvm.hasV3Mmu)
    this.#updates = new UpdatesByVm(kvm)
    this.#faults = new TceFaults(this.#errata, this.#address)
    this.#kvm = kvm
  }

  putTce(
    vm: KvmVm,
    liobnHi: number,
    liobnLo: number,
    iobaHi: number,
    iobaLo: number,
    tceHi: number,
    tceLo: number,
  ): number {
    const table = this.#begin(vm, liobnHi, liobnLo)
    if (!vm.answers(HCALL_BITS.H_PUT_TCE)) return PUT['not-enabled']
    if (table === undefined) return PUT['liobn-unknown']
    if (hasLowBits(iobaHi, iobaLo, table.pageShift)) return PUT['ioba-unaligned']
    const entry = pageOf(iobaHi, iobaLo, table.pageShift)
    if (!this.#isInside(table, entry, 1)) return PUT['ioba-outside']
    if (this.#kvm.vhosts.leavesPut(tceLo)) return PUT['taking-back-left']
    if (this.#isOld(vm)) return UNMODELLED
    const isReal = this.inRealMode && ((tceHi | tceLo) === 0 || this.#hasPages(table, entry, 1))
    if (isReal) {
      this.#enterRealMode(vm)
      const place = this.#putOne(vm, table, entry, tceHi, tceLo)
      this.#isReal = false
      if (PUT_CODES[place] !== H_CODES.H_TOO_HARD) return place
      this.realPlace = place
    }
    this.inRealMode = false
    return this.#putOne(vm, table, entry, tceHi, tceLo)
  }

  putTceIndirect(
    vm: KvmVm,
    liobnHi: number,
    liobnLo: number,
    iobaHi: number,
    iobaLo: number,
    listHi: number,
    listLo: number,
    npagesHi: number,
    npagesLo: number,
  ): number {
    const table = this.#begin(vm, liobnHi, liobnLo)
    if (!vm.answers(HCALL_BITS.H_PUT_TCE_INDIRECT)) return INDIRECT['not-enabled']
    if (table === undefined) return INDIRECT['liobn-unknown']
    const npages = numberOf(npagesHi, npagesLo)
    if (npages > TCE_LIST_MAX) return INDIRECT['too-many']
    if ((listLo & (TCE_LIST_BYTES - 1)) !== 0) return INDIRECT['list-unaligned']
    if (hasLowBits(iobaHi, iobaLo, table.pageShift)) return INDIRECT['ioba-unaligned']
    const entry = pageOf(iobaHi, iobaLo, table.pageShift)
    if (!this.#isInside(table, entry, npages)) return INDIRECT['ioba-outside']
    const listPage = pageOf(listHi, listLo, PAGE_SHIFT)
    if (!this.#address.hasPage(vm, listPage)) return INDIRECT['list-outside-ram']
    if (npages === 0) {
      killAll(this.#updatesOf(vm), table, entry, 0)
      return INDIRECT.done
    }
    if (!vm.memory.loadWords(listPage, npages, this.#list.tces)) return INDIRECT['list-outside-ram']
    if (this.#kvm.vhosts.leavesList(this.#list.tces, npages)) return INDIRECT['taking-back-left']
    if (this.#isOld(vm)) return UNMODELLED
    const hasPages = this.inRealMode && this.#hasPages(table, entry, npages)
    const isReal = hasPages && this.#address.isListRegistered(vm, listPage)
    this.#mayHaveBeenReal = hasPages && !isReal
    if (isReal) {
      this.#enterRealMode(vm)
      const place = this.#putList(vm, table, entry, npages)
      this.#isReal = false
      if (INDIRECT_CODES[place] !== H_CODES.H_TOO_HARD) return place
      this.realPlace = place
    }
    this.inRealMode = false
    return this.#putList(vm, table, entry, npages)
  }

  stuffTce(
    vm: KvmVm,
    liobnHi: number,
    liobnLo: number,
    iobaHi: number,
    iobaLo: number,
    valueHi: number,
    valueLo: number,
    npagesHi: number,
    npagesLo: number,
  ): number {
    const table = this.#begin(vm, liobnHi, liobnLo)
    if (!vm.answers(HCALL_BITS.H_STUFF_TCE)) return STUFF['not-enabled']
    if (table === undefined) return STUFF['liobn-unknown']
    if (hasLowBits(iobaHi, iobaLo, table.pageShift)) return STUFF['ioba-unaligned']
    const npages = numberOf(npagesHi, npagesLo)
    const entry = pageOf(iobaHi, iobaLo, table.pageShift)
    if (!this.#isInside(table, entry, npages)) return STUFF['ioba-outside']
    if ((valueLo & TCE_PERM) !== 0) {
      this.inRealMode &&= this.#hasPages(table, entry, npages)
      return STUFF['value-grants-access']
    }
    if (this.#kvm.vhosts.leavesStuff(valueHi, valueLo)) return STUFF['taking-back-left']
    if (npages > PAGES_MAX) return this.#unknown(`H_STUFF_TCE of more than ${PAGES_MAX} pages`)
    if (table.entriesBehind(entry - table.offset, npages) > BEHIND_MAX)
      return this.#unknown(`H_STUFF_TCE of more than ${BEHIND_MAX} entries behind the end of a table`)
    if (this.#isOld(vm)) return UNMODELLED
    const mayBeReal = (valueHi | valueLo) === 0 || this.#hasPages(table, entry, npages)
    if (this.inRealMode && mayBeReal) {
      this.#enterRealMode(vm)
      const place = this.#stuff(vm, table, entry, npages, valueHi, valueLo)
      this.#isReal = false
      if (STUFF_CODES[place] !== H_CODES.H_TOO_HARD) return place
      this.realPlace = place
    }
    this.inRealMode = false
    return this.#stuff(vm, table, entry, npages, valueHi, valueLo)
  }

  getTce(vm: KvmVm, liobnHi: number, liobnLo: number, iobaHi: number, iobaLo: number): number {
    const table = this.#begin(vm, liobnHi, liobnLo)
    if (!vm.answers(HCALL_BITS.H_GET_TCE)) return GET['not-enabled']
    if (table === undefined) return GET['liobn-unknown']
    if (hasLowBits(iobaHi, iobaLo, table.pageShift)) return GET['ioba-unaligned']
    const entry = pageOf(iobaHi, iobaLo, table.pageShift)
    if (!this.#isInside(table, entry, 1)) return GET['ioba-outside']
    table.load(entry - table.offset)
    this.r4Hi = table.hi
    this.r4Lo = table.lo
    return GET.done
  }

  #putOne(vm: KvmVm, table: GuestTceTable, entry: number, hi: number, lo: number): number {
    if (this.#putsAtOnce(vm, table, entry, hi, lo)) return PUT.done
    const fault = this.#faultOf(vm, table, hi, lo, PUT)
    if (fault !== FITS) return fault
    const done = this.#write(vm, table, entry, entry, (lo & TCE_PERM) as DmaDir, true)
    if (done !== H_CODES.H_SUCCESS) return done === H_CODES.H_TOO_HARD ? PUT['table-refused'] : done
    if (this.#missesPage(table, entry, 1)) return this.#stop()
    table.store(entry - table.offset, hi, lo)
    this.#wrote(entry - table.offset, 1)
    return PUT.done
  }

  /**
   * Whether a TCE is one that nothing is wrong with, for one table, and was put. What the kernel looks at before it
   * writes is then what the writing looks at.
   */
  #putsAtOnce(vm: KvmVm, table: GuestTceTable, entry: number, hi: number, lo: number): boolean {
    const { only, pageShift } = table
    if (only === undefined || this.#missesPage(table, entry, 1)) return false
    const dir = (lo & TCE_PERM) as DmaDir
    if (dir !== 0 && (hasLowBits(hi, lo & ~TCE_PERM, pageShift) || !this.#address.find(vm, hi, lo)))
      return false
    const updates = this.#updatesOf(vm)
    if (!updates.writeOne(only, pageShift, entry, this.#address.uaHi, this.#address.uaLo, dir)) return false
    table.store(entry - table.offset, hi, lo)
    this.#wrote(entry - table.offset, 1)
    return true
  }

  #stuff(
    vm: KvmVm,
    table: GuestTceTable,
    entry: number,
    npages: number,
    valueHi: number,
    valueLo: number,
  ): number {
    const updates = this.#updatesOf(vm)
    const { attachments, pageShift } = table
    for (let t = 0; t < attachments.length; t++) {
      const hw = (attachments[t] as (typeof attachments)[number]).table
      if (updates.unmapPages(hw, pageShift, entry, npages) === npages) continue
      if (this.#errata.ignoresErrors) return this.#unknown(OLD_REFUSAL)
      killAll(updates, table, entry, npages)
      return STUFF['table-refused']
    }
    if (npages > 0 && this.#missesPage(table, entry, npages)) return this.#stop()
    table.fill(entry - table.offset, npages, valueHi, valueLo)
    this.#wrote(entry - table.offset, npages)
    killAll(updates, table, this.#errata.killsBehind ? entry + npages : entry, npages)
    return STUFF.done
  }

  /** Looks at the whole list, then writes it: hardware tables first, then the entry, page by page. */
  #putList(vm: KvmVm, table: GuestTceTable, entry: number, npages: number): number {
    const { tces: list, uas } = this.#list
    const { mapsPoison, clearsFirst, checksAsItGoes } = this.#errata
    const first = checksAsItGoes ? npages : this.#checkedAtOnce(vm, table, npages)
    for (let i = first; i < npages; i++) {
      const fault = this.#faultOf(vm, table, list[i * 2] as number, list[i * 2 + 1] as number, INDIRECT)
      if (fault !== FITS) return fault
      uas[i * 2] = this.#address.uaHi
      uas[i * 2 + 1] = this.#address.uaLo
    }
    if (this.#isPlain(table, entry, npages)) return this.#putPlainList(vm, table, entry, npages)
    let result: number = H_CODES.H_SUCCESS
    let place = INDIRECT['table-refused']
    let i = 0
    for (; i < npages; i++) {
      const hi = list[i * 2] as number
      const lo = list[i * 2 + 1] as number
      const dir = (lo & TCE_PERM) as DmaDir
      const fault = checksAsItGoes ? this.#faultOf(vm, table, hi, lo, INDIRECT) : FITS
      const isOutside = !this.#address.find(vm, hi, lo) && mapsPoison
      if (fault !== FITS || isOutside) {
        place = fault === FITS ? INDIRECT['poison-outside-ram'] : fault
        if (LEAVES_LOCK.includes(place)) place = this.#leaveLock(vm, place)
        result = H_CODES.H_TOO_HARD
        break
      }
      result = this.#write(vm, table, entry + i, clearsFirst ? entry : entry + i, dir, false)
      if (result !== H_CODES.H_SUCCESS) break
      table.store(entry + i - table.offset, hi, lo)
    }
    this.#wrote(entry - table.offset, i)
    if (result !== H_CODES.H_SUCCESS && result !== H_CODES.H_TOO_HARD) return result
    killAll(this.#updatesOf(vm), table, entry, npages)
    return result === H_CODES.H_SUCCESS ? INDIRECT.done : place
  }

  /** How many of the first TCEs of a list nothing is wrong with: found together, for one table. */
  #checkedAtOnce(vm: KvmVm, { only, pageShift }: GuestTceTable, npages: number): number {
    if (only === undefined) return 0
    return this.#updatesOf(vm).checkList(only, vm.memory, pageShift, this.#list, npages)
  }

  /**
   * Whether pages can be written to hardware one after the other, and then all of them to the guest's table: with one
   * table, no allocation in between, and nothing but what is right.
   */
  #isPlain(table: GuestTceTable, entry: number, npages: number): boolean {
    const { mapsPoison, clearsFirst, checksAsItGoes, ignoresErrors } = this.#errata
    const isRight = !mapsPoison && !clearsFirst && !checksAsItGoes && !ignoresErrors
    return isRight && table.only !== undefined && table.hasPages(entry - table.offset, npages)
  }

  #putPlainList(vm: KvmVm, table: GuestTceTable, entry: number, npages: number): number {
    const updates = this.#updatesOf(vm)
    const hw = table.only as HwTable
    const done = updates.mapList(hw, table.pageShift, entry, this.#list, npages)
    const { result } = updates
    table.storeList(entry - table.offset, done, this.#list.tces)
    this.#wrote(entry - table.offset, done)
    if (result === NO_ANSWER) return NO_ANSWER
    if (result !== H_CODES.H_SUCCESS) updates.clearTce(hw, table.pageShift, entry + done)
    killAll(updates, table, entry, npages)
    return result === H_CODES.H_SUCCESS ? INDIRECT.done : INDIRECT['table-refused']
  }

  /** Erratum `B6`: the lock that protects the slots of a VM stays held by a call that is refused. */
  #leaveLock(vm: KvmVm, place: number): number {
    // Real mode takes the lock of the page with the list, and only where that is not preregistered.
    if (!this.#errata.leavesLock || this.#isReal) return place
    if (this.#mayHaveBeenReal) return this.#unknown('which lock a list of a hash guest leaves held')
    vm.leaveLocked()
    return place
  }

  /** Maps or takes back a page, whose user address was found last, in all hardware tables: see `writeAll`. */
  #write(vm: KvmVm, table: GuestTceTable, entry: number, clear: number, dir: DmaDir, isPut: boolean): number {
    const isMapped = dir !== 0 || (!isPut && this.#errata.mapsPoison)
    const { ignoresErrors } = this.#errata
    const cleared = ignoresErrors ? -1 : clear
    const result = writeAll(this.#updatesOf(vm), table, entry, cleared, this.#address, dir, isMapped, isPut)
    const isSaid = result === NO_ANSWER || result === H_CODES.H_SUCCESS
    return isSaid || !ignoresErrors ? result : this.#unknown(OLD_REFUSAL)
  }

  #wrote(first: number, count: number): void {
    this.firstWritten = first
    this.written = count
  }

  #enterRealMode(vm: KvmVm): void {
    this.#isReal = true
    this.#updatesOf(vm).enter()
  }

  /** The LIOBN is what the guest finds in r4, unless a value takes its place. */
  #begin(vm: KvmVm, liobnHi: number, liobnLo: number): GuestTceTable | undefined {
    this.r4Hi = liobnHi
    this.r4Lo = liobnLo
    this.inRealMode = this.#errata.hasRealMode && !vm.isRadix
    this.realPlace = NOT_ASKED
    // A bound of the model may have ended the call before this one in real mode.
    this.#isReal = false
    this.written = 0
    this.#updatesOf(vm).enter()
    const { tables } = vm
    for (let i = 0; i < tables.length; i++) {
      const table = tables[i] as GuestTceTable
      if (table.liobnLo === liobnLo && table.liobnHi === liobnHi) return table
    }
    return undefined
  }

  /** Whether entries [entry, entry + count) are in the window, as far as the kernel looks. */
  #isInside(table: GuestTceTable, entry: number, count: number): boolean {
    return table.holds(entry, this.#errata.looksAtFirstPage ? 1 : count)
  }

  /** Whether real mode has all pages of some entries of a guest's table. */
  #hasPages(table: GuestTceTable, entry: number, count: number): boolean {
    return this.#errata.hasWholeTables || table.hasPages(entry - table.offset, count)
  }

  /** Erratum `B13`: whether real mode writes through the address of a page that is not there. */
  #missesPage(table: GuestTceTable, entry: number, count: number): boolean {
    return this.#isReal && this.#errata.clearsMissingPages && !this.#hasPages(table, entry, count)
  }

  #stop(): number {
    this.#kvm.onBug(NO_PAGE_BUG)
    return NO_ANSWER
  }

  /** What is wrong with a TCE that is to be written, as a place of the rules; FITS where nothing is. */
  #faultOf(vm: KvmVm, table: GuestTceTable, hi: number, lo: number, rules: TceRules): number {
    const fault = this.#faults.of(vm, table, hi, lo, rules, this.#updatesOf(vm), this.#isReal)
    if (fault === UNMODELLED) this.why = this.#faults.why
    return fault
  }

  /** Whether the call is one of a hash guest before real mode answered as it did last. */
  #isOld(vm: KvmVm): boolean {
    if (!this.#errata.hasOldRealMode || vm.isRadix) return false
    this.#unknown('a hypercall of a hash guest before Linux 4.20')
    return true
  }

  #unknown(why: string): number {
    this.why = why
    return UNMODELLED
  }

  #updatesOf(vm: KvmVm): TableUpdates {
    return this.#updates.of(vm, this.#isReal)
  }
}
