import { answerNumber } from '../../bits/answer.ts'
import type { CallDecl } from '../../bits/call.ts'
import * as kvm from '../../kernel/kvm/calls.ts'
import * as hcalls from '../../kernel/kvm/hcall-calls.ts'
import { CLOSE, OPEN } from '../../kernel/vfio/calls.ts'
import { MEM_WRITE } from '../../memory/mem-calls.ts'
import { PROC_MMAP } from '../../memory/proc-calls.ts'
import {
  type AgentArgs,
  type AgentSaid,
  answered,
  oneCall,
  outputOf,
  type ProcessCall,
  returned,
  u32,
  u64,
  unmodelled,
} from './kernel-answers-said.ts'

const NO_FD = 0xffff_ffffn
/** Tables that the agent has variables for. */
const TABLES = 8
const VFIO_TYPE = 4n
const ENABLE_HCALL = 104n
const RADIX_FLAGS = 3n
const RADIX_TABLE = 1n << 63n
/** What the guest's loop asks user space with. */
const LOOP_HCALL = 0x7f0n
const LOOP_AT = 0x1000n
/** The loop, little-endian: li r3,0x7f0; sc 1; sc 1; mr r5,r4; mr r4,r3; b back. */
const LOOP = 'hex:f007603822000044220000447823857c781b647cecffff4b'
const DIED: AgentSaid = { state: 'died', why: 'the guest has no memory, or there is no guest (SIGSEGV)' }

/** What the agent passes of a hypercall, by the name of the argument. */
const HCALLS: ReadonlyMap<bigint, { readonly decl: CallDecl; readonly args: readonly string[] }> = new Map([
  [0x20n, { decl: hcalls.KVM_H_PUT_TCE, args: ['liobn', 'ioba', 'tce'] }],
  [0x1cn, { decl: hcalls.KVM_H_GET_TCE, args: ['liobn', 'ioba'] }],
  [0x138n, { decl: hcalls.KVM_H_STUFF_TCE, args: ['liobn', 'ioba', 'value', 'npages'] }],
  [0x13cn, { decl: hcalls.KVM_H_PUT_TCE_INDIRECT, args: ['liobn', 'ioba', 'list', 'npages'] }],
])

/** What the program keeps of its virtual machine. */
interface KvmVariables {
  kvm: bigint
  vm: bigint
  vcpu: bigint | undefined
  /** Undefined where making it failed: the program uses what happens to be in its variable. */
  device: bigint | undefined
  /** User address of guest address 0. */
  ram: bigint | undefined
  readonly tables: { readonly fd: bigint; readonly map: string; readonly entries: bigint }[]
}

/** The bytes of a word as a big-endian guest reads it. */
const bigEndian = (word: bigint): string => `hex:${word.toString(16).padStart(16, '0')}`

/** Commands about KVM. `groupFd` answers the group that a command names. */
export function kvmRuns(call: ProcessCall, groupFd: (args: AgentArgs) => bigint) {
  const own: KvmVariables = {
    kvm: NO_FD,
    vm: NO_FD,
    vcpu: undefined,
    device: NO_FD,
    ram: undefined,
    tables: [],
  }
  let isRadix = false
  const write = (address: bigint, data: string) =>
    call(MEM_WRITE, { space: 'ua', address, data }).code === 'OK'
  const wild: AgentSaid = {
    state: 'unmodelled',
    why: `the agent has room for ${TABLES} tables, and those that it made`,
    isWild: true,
  }
  const made = (answer: ReturnType<ProcessCall>, entries: bigint, isNew: boolean): AgentSaid => {
    if (answer.code !== 'OK') return returned(answer)
    if (own.tables.length === TABLES) return wild
    const table = own.tables.length
    const map = `tce${table}`
    const fd = outputOf(answer, 'fd')
    own.tables.push({ fd, map, entries })
    const mapped = call(kvm.MMAP_TCE, { fd, map })
    if (mapped.state !== 'done') return returned(mapped)
    const fields = { table: BigInt(table), ...(isNew && { mmap: mapped.code === 'OK' ? 'ok' : 'failed' }) }
    return returned(answer, fields)
  }
  const tableOf = (args: AgentArgs) => own.tables[Number(u64(args, 'table'))]
  const ofGroup = (decl: CallDecl) => (args: AgentArgs) =>
    own.device === undefined
      ? unmodelled('the agent uses a descriptor that it did not get')
      : returned(call(decl, { fd: own.device, group: groupFd(args) }))

  return {
    kvm: () => {
      const answer = call(OPEN, { path: '/dev/kvm' })
      own.kvm = answer.code === 'OK' ? outputOf(answer, 'fd') : NO_FD
      return returned(answer)
    },
    kvmcap: oneCall(call, kvm.KVM_CHECK_EXTENSION, (args) => ({
      fd: own.kvm,
      extension: u64(args, 'extension'),
    })),
    vmcap: oneCall(call, kvm.KVM_CHECK_EXTENSION, (args) => ({
      fd: own.vm,
      extension: u64(args, 'extension'),
    })),
    vm: (args: AgentArgs) => {
      const answer = call(kvm.KVM_CREATE_VM, { fd: own.kvm, type: u64(args, 'type') })
      own.vm = answer.code === 'OK' ? outputOf(answer, 'fd') : NO_FD
      isRadix = false
      return returned(answer)
    },
    radix: () => {
      const answer = call(kvm.KVM_PPC_CONFIGURE_V3_MMU, {
        fd: own.vm,
        flags: RADIX_FLAGS,
        process_table: RADIX_TABLE,
      })
      isRadix = answer.code === 'OK'
      return returned(answer)
    },
    hcall_enable: oneCall(call, kvm.KVM_ENABLE_CAP, (args) => ({
      fd: own.vm,
      cap: ENABLE_HCALL,
      arg0: u64(args, 'nr'),
      arg1: u64(args, 'on'),
    })),
    ram: (args: AgentArgs) => {
      const bytes = u64(args, 'bytes')
      let vaddr = args['vaddr'] as bigint | undefined
      const isChosen = vaddr === undefined
      if (vaddr === undefined) {
        const mapped = call(PROC_MMAP, { bytes, read: true, write: true })
        if (mapped.code !== 'OK') return unmodelled('memory for the guest that the kernel refuses')
        vaddr = outputOf(mapped, 'address')
      }
      own.ram = vaddr
      const answer = call(kvm.KVM_SET_USER_MEMORY_REGION, { fd: own.vm, bytes, vaddr })
      const said = returned(answer, { vaddr })
      return said.state === 'answered' && isChosen ? { ...said, free: ['vaddr'] } : said
    },
    vcpu: () => {
      const answer = call(kvm.KVM_CREATE_VCPU, { fd: own.vm, id: 0n })
      if (answer.code !== 'OK') return unmodelled('a guest that cannot be made')
      own.vcpu = outputOf(answer, 'fd')
      if (own.ram === undefined) return DIED
      if (!isRadix) return unmodelled('a guest without a radix MMU')
      if (!write(own.ram + LOOP_AT, LOOP)) return DIED
      return answered(0n, { fields: { nr: LOOP_HCALL } })
    },
    tce64: (args: AgentArgs) =>
      made(
        call(kvm.KVM_CREATE_SPAPR_TCE_64, {
          fd: own.vm,
          liobn: u64(args, 'liobn'),
          page_shift: u32(args, 'pageShift'),
          flags: u32(args, 'flags'),
          offset: u64(args, 'offset'),
          entries: u64(args, 'entries'),
        }),
        u64(args, 'entries'),
        true,
      ),
    tce32: (args: AgentArgs) =>
      made(
        call(kvm.KVM_CREATE_SPAPR_TCE, {
          fd: own.vm,
          liobn: u64(args, 'liobn'),
          window_bytes: u32(args, 'windowBytes'),
        }),
        u32(args, 'windowBytes') >> 12n,
        false,
      ),
    tceclose: (args: AgentArgs) => {
      const table = tableOf(args)
      return table === undefined ? wild : returned(call(CLOSE, { fd: table.fd }))
    },
    tcedump: (args: AgentArgs) => {
      const table = tableOf(args)
      if (table === undefined) return wild
      const first = u64(args, 'first')
      const left = table.entries > first ? table.entries - first : 0n
      const count = u64(args, 'entries') < left ? u64(args, 'entries') : left
      if (count === 0n) return answered(0n)
      if (count > 0xffffn) return unmodelled('more entries than a line can hold')
      const answer = call(kvm.READ_TCE, { map: table.map, first, count })
      if (answer.state !== 'done') return returned(answer)
      return answer.code === 'OK'
        ? answered(0n, { fields: { tces: answer.outputs['tces'] as bigint[] } })
        : DIED
    },
    vfiodev: () => {
      const answer = call(kvm.KVM_CREATE_DEVICE, { fd: own.vm, type: VFIO_TYPE })
      own.device = answer.code === 'OK' ? outputOf(answer, 'device_fd') : undefined
      return returned(answer)
    },
    vfioadd: ofGroup(kvm.KVM_DEV_VFIO_GROUP_ADD),
    vfiodel: ofGroup(kvm.KVM_DEV_VFIO_GROUP_DEL),
    vfiotce: (args: AgentArgs) => {
      const table = tableOf(args)
      if (table === undefined || own.device === undefined) {
        return unmodelled('the agent uses a descriptor that it did not get')
      }
      return returned(
        call(kvm.KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE, {
          fd: own.device,
          group: groupFd(args),
          table: table.fd,
        }),
      )
    },
    gpoke64: (args: AgentArgs) => {
      if (own.ram === undefined) return DIED
      const address = BigInt.asUintN(64, own.ram + u64(args, 'gpa'))
      return write(address, bigEndian(u64(args, 'value'))) ? answered(0n) : DIED
    },
    hcall: (args: AgentArgs) => {
      const nr = u64(args, 'nr')
      const known = HCALLS.get(nr)
      if (own.vcpu === undefined) return DIED
      if (known === undefined) return unmodelled('a hypercall that is not about TCEs')
      const words = Object.fromEntries(known.args.map((name, i) => [name, u64(args, `arg${i + 1}`)]))
      const answer = call(known.decl, { vcpu: own.vcpu, ...words })
      if (answer.state !== 'done') return returned(answer)
      const { rule } = answer
      if (answer.code === 'H_TOO_HARD') {
        const passed = [1, 2, 3, 4].map((i) => [`arg${i}`, u64(args, `arg${i}`)] as const)
        return answered(0n, { rule, fields: { nr, ...Object.fromEntries(passed) } })
      }
      const value = BigInt(answerNumber(answer))
      const fields = { r4: outputOf(answer, 'r4') }
      // The program prints an errno with what is below 0, and there is none.
      return answered(value, { rule, fields, ...(value < 0n && { errno: '0' }) })
    },
  }
}
