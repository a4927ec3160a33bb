import type { Answer, Value } from '../../bits/answer.ts'
import type { CallDecl, Verb } from '../../bits/call.ts'
import * as kvm from '../../kernel/kvm/calls.ts'
import { CREATE_PE_DMA_WINDOW } from '../../kernel/qemu/calls.ts'
import { TCE_HCALL_R3 } from '../../kernel/tce-hcalls.ts'
import { OPEN } from '../../kernel/vfio/calls.ts'
import { createMachine } from '../../machine/create-machine.ts'
import { describeMachine } from '../../machine/description.ts'
import type { Machine } from '../../machine/machine.ts'
import { PROC_MMAP } from '../../memory/proc-calls.ts'
import type { HcallName } from './input-faults.ts'

/** Guest memory and the window that the examples use: the same for QEMU and for KVM. */
export const RAM_BYTES = 64n << 20n
export const WINDOW = { liobn: 0x8000_0001n, busOffset: 1n << 59n, pageShift: 16, entries: 1024 } as const
/** A LIOBN of a host bridge whose second window is not open, and one of nobody. */
export const CLOSED_LIOBN = 0x8000_0101n
export const NOBODY_LIOBN = 0x8000_7777n
export const PAGE_BYTES = 1n << BigInt(WINDOW.pageShift)
/** Every entry holds it before an example: a page of memory without permissions. */
const BEFORE = 5n * PAGE_BYTES
/** Entries that are looked at, from each end of the window. */
const LOOK = 8

/** What a hypercall answers, and how many entries at the ends of the window it changed. */
export interface HcallOutcome {
  readonly code: string
  readonly rule: string
  readonly changed: number
}

/** A guest with one window: it can make hypercalls and write its memory. */
export interface HcallWorld {
  readonly hcall: (name: HcallName, args: Readonly<Record<string, Value>>) => Answer
  readonly writeList: (gpa: bigint, words: readonly bigint[]) => void
}

type Args = Readonly<Record<string, Value>>

function performer(machine: Machine) {
  return ({ verb, name }: { readonly verb: Verb; readonly name: string }, args: Args): Answer => {
    const answer = machine.perform({ verb, call: name, args })
    if (answer.state !== 'done') throw new Error(`${name}: ${answer.rule}`)
    return answer
  }
}

const must = (answer: Answer): Answer => {
  if (!/^(?:OK|H_SUCCESS|RTAS_OUT_SUCCESS)$/.test(answer.code)) throw new Error(`set up: ${answer.rule}`)
  return answer
}

/** QEMU's own handlers. */
export function qemuWorld(profile: string): HcallWorld {
  const machine = createMachine(describeMachine({ profile, ram: RAM_BYTES, phbs: [{}, {}] }))
  const perform = performer(machine)
  must(perform(CREATE_PE_DMA_WINDOW, { buid: machinePhb(machine), page_shift: 16n, window_shift: 26n }))
  return {
    hcall: (name, args) => perform({ verb: 'hcall', name }, args),
    writeList: (address, words) => must(perform({ verb: 'mem', name: 'write' }, { address, words })),
  }
}

function machinePhb({ description }: Machine): bigint {
  const phb = description.kind === 'pseries' ? description.phbs[0] : undefined
  if (phb === undefined) throw new Error('no host bridge')
  return phb.buid
}

const GUEST_AT = 0x1_0000_0000n

/** KVM of a host with pages of 64 KiB, without hardware tables behind the window. */
export function kvmWorld(profile: string): HcallWorld {
  const machine = createMachine(describeMachine({ kind: 'powernv', profile, phbs: [{ pes: [{}] }] }))
  const perform = performer(machine)
  const fd = (decl: CallDecl, args: Args): bigint => must(perform(decl, args)).outputs['fd'] as bigint
  must(perform(PROC_MMAP, { address: GUEST_AT, bytes: RAM_BYTES, fixed: true }))
  const vm = fd(kvm.KVM_CREATE_VM, { fd: fd(OPEN, { path: '/dev/kvm' }), type: 0n })
  must(perform(kvm.KVM_SET_USER_MEMORY_REGION, { fd: vm, bytes: RAM_BYTES, vaddr: GUEST_AT }))
  for (const arg0 of [TCE_HCALL_R3.H_STUFF_TCE, TCE_HCALL_R3.H_PUT_TCE_INDIRECT])
    must(perform(kvm.KVM_ENABLE_CAP, { fd: vm, cap: 104n, arg0, arg1: 1n }))
  const vcpu = fd(kvm.KVM_CREATE_VCPU, { fd: vm, id: 0n })
  must(
    perform(kvm.KVM_CREATE_SPAPR_TCE_64, {
      fd: vm,
      liobn: WINDOW.liobn,
      page_shift: BigInt(WINDOW.pageShift),
      offset: WINDOW.busOffset / PAGE_BYTES,
      entries: BigInt(WINDOW.entries),
    }),
  )
  return {
    hcall: (name, args) => perform({ verb: 'hcall', name }, { vcpu, ...args }),
    writeList: (gpa, words) =>
      must(perform({ verb: 'mem', name: 'write' }, { space: 'ua', address: GUEST_AT + gpa, words })),
  }
}

const { liobn, busOffset, entries } = WINDOW

function valuesOf(world: HcallWorld): bigint[] {
  const near = Array.from({ length: LOOK }, (_, i) => [i, entries - 1 - i]).flat()
  return near.map((entry) => {
    const ioba = busOffset + BigInt(entry) * PAGE_BYTES
    return must(world.hcall('H_GET_TCE', { liobn, ioba })).outputs['r4'] as bigint
  })
}

/** Makes a hypercall in a window that is as before the first one. */
export function outcomeOf(world: HcallWorld, name: HcallName, args: Args): HcallOutcome {
  must(world.hcall('H_STUFF_TCE', { liobn, ioba: busOffset, value: BEFORE, npages: BigInt(entries) }))
  const { code, rule } = world.hcall(name, args)
  return { code, rule, changed: valuesOf(world).filter((tce) => tce !== BEFORE).length }
}
