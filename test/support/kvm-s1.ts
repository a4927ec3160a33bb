import type { Answer, Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import { resolveProfile } from '../../src/bits/errata.ts'
import { FileTable } from '../../src/kernel/files.ts'
import { KVM_ERRATA } from '../../src/kernel/kvm/errata.ts'
import * as hcalls from '../../src/kernel/kvm/hcall-calls.ts'
import { hcallHandlers } from '../../src/kernel/kvm/hcall-handlers.ts'
import { Kvm } from '../../src/kernel/kvm/kvm.ts'
import { KvmVcpu, TCE_HCALLS } from '../../src/kernel/kvm/kvm-vm.ts'
import { VFIO_ERRATA } from '../../src/kernel/vfio/errata.ts'
import { completeArguments } from '../../src/machine/arguments.ts'
import { openWindow } from './ioda.ts'
import { GIB16, S1, type S1Options, setUpS1, U } from './kvm-tables.ts'

export const LIOBN = 0x8000_0001n
/** A second table: 4 KiB pages of the guest over as small ones, at bus address 0. */
export const SMALL = 0x8000_0000n
/** Where lists of TCEs lie in the guest. */
export const LIST = 0x10_0000n

/** Setup S1 of the vectors with a guest that makes hypercalls: a table of the guest over that of the hardware. */
export function guestOnS1(options: S1Options & { readonly isHash?: boolean } = {}) {
  const { profile: name = 'intended', isHash = false } = options
  const s = setUpS1(options)
  const kvm = new Kvm({
    processes: s.processes,
    files: new FileTable(s.journal),
    memory: s.memory,
    profile: resolveProfile([...KVM_ERRATA, ...VFIO_ERRATA], name),
    hasV3Mmu: !isHash,
    onBug: (why) => s.bugs.push(why),
  })
  s.processes.actor = 'qemu'
  const vm = kvm.createVm(s.qemu.mm)
  for (const hcall of TCE_HCALLS) vm.setAnswers(hcall, true)
  vm.setSlot({ slot: 0, gpa: 0n, bytes: GIB16, vaddr: U })
  kvm.files.open('qemu', new KvmVcpu(vm))
  const small = openWindow(s.pe, { pageShift: 12, windowBytes: 1n << 30n })
  const tables = [small, s.table]
  kvm.attach(kvm.createTable(vm, LIOBN, S1), tables)
  kvm.attach(kvm.createTable(vm, SMALL, { pageShift: 12, offset: 0n, entries: 0x4_0000n }), tables)
  const handlers = new Map(hcallHandlers(kvm).map((h) => [h.decl as CallDecl, h]))
  const call = (decl: CallDecl, args: Record<string, Value>): Answer =>
    handlers.get(decl)!.run(completeArguments(decl, args))
  const list = (tces: readonly bigint[]) => {
    const bytes = new Uint8Array(tces.length * 8)
    tces.forEach((tce, i) => {
      new DataView(bytes.buffer).setBigUint64(i * 8, tce)
    })
    s.qemu.mm.write(U + LIST, bytes)
  }
  return {
    ...s,
    small,
    mapped: () => s.memory.mappedOf(s.region),
    put: (ioba: bigint, tce: bigint, liobn = LIOBN) => call(hcalls.KVM_H_PUT_TCE, { liobn, ioba, tce }),
    get: (ioba: bigint, liobn = LIOBN) => call(hcalls.KVM_H_GET_TCE, { liobn, ioba }).outputs['tce'],
    stuff: (ioba: bigint, value: bigint, npages: bigint, liobn = LIOBN) =>
      call(hcalls.KVM_H_STUFF_TCE, { liobn, ioba, value, npages }),
    indirect: (ioba: bigint, tces: readonly bigint[], liobn = LIOBN) => {
      list(tces)
      const npages = BigInt(tces.length)
      return call(hcalls.KVM_H_PUT_TCE_INDIRECT, { liobn, ioba, list: LIST, npages })
    },
  }
}
