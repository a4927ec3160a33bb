import type { rulesOf } from '../../bits/call.ts'
import { hasLowBits } from '../../bits/u64.ts'
import { TCE_PERM } from '../../table/tce-entry.ts'
import type { GuestTceTable } from './guest-tce-table.ts'
import type { KVM_H_PUT_TCE, KVM_H_PUT_TCE_INDIRECT } from './hcall-calls.ts'
import type { HcallErrata } from './hcall-errata.ts'
import { UNMODELLED } from './hcall-results.ts'
import type { KvmVm } from './kvm-vm.ts'
import type { TableUpdates } from './table-updates.ts'
import type { UserAddress } from './user-address.ts'

/** In place of a rule: nothing is wrong. */
export const FITS = -1
export const OLD_REFUSAL = 'a refusal of a hardware table before Linux 4.20'
const HALF_REAL = 'a TCE that is not aligned, where real mode may have had all that it needs'

/** The places of the rules of a hypercall that writes TCEs. */
export type TceRules = ReturnType<
  typeof rulesOf<typeof KVM_H_PUT_TCE> | typeof rulesOf<typeof KVM_H_PUT_TCE_INDIRECT>
>

/** What is wrong with TCEs that a guest wants to have written. */
export class TceFaults {
  /** What the model does not know, after UNMODELLED. */
  why = ''
  readonly #errata: HcallErrata
  readonly #address: UserAddress

  constructor(errata: HcallErrata, address: UserAddress) {
    this.#errata = errata
    this.#address = address
  }

  /**
   * A place of the rules, FITS or UNMODELLED. The address of a TCE with permissions that is in memory of the guest is in
   * the `UserAddress` then.
   */
  of(
    vm: KvmVm,
    { pageShift, attachments }: GuestTceTable,
    hi: number,
    lo: number,
    rules: TceRules,
    updates: TableUpdates,
    isReal: boolean,
  ): number {
    const { blamesGuest, hasRealMode, ignoresErrors, looksAtLowBits } = this.#errata
    const isUnaligned = hasLowBits(hi, lo & ~TCE_PERM, pageShift)
    if (looksAtLowBits && attachments.length === 0) return isUnaligned ? rules['tce-unaligned-early'] : FITS
    if ((lo & TCE_PERM) === 0) return FITS
    if (isUnaligned) {
      if (blamesGuest) return rules['tce-unaligned-early']
      if (isReal) return rules['tce-unaligned-real']
      return hasRealMode && !vm.isRadix ? this.#unknown(HALF_REAL) : rules['tce-unaligned']
    }
    const address = this.#address
    if (!address.find(vm, hi, lo))
      return blamesGuest ? rules['tce-outside-ram-early'] : rules['tce-outside-ram']
    for (let t = 0; t < attachments.length; t++) {
      const { pageShift: shift } = (attachments[t] as (typeof attachments)[number]).table
      if (!updates.isRegistered(address.uaHi, address.uaLo, shift))
        return ignoresErrors ? this.#unknown(OLD_REFUSAL) : rules['not-registered']
    }
    return FITS
  }

  #unknown(why: string): number {
    this.why = why
    return UNMODELLED
  }
}
