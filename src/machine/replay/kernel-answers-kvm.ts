import { answerNumber } from '../../bits/answer.ts'
import type { CallDecl } from '../../bits/call.ts'
import * as kvm from '../../kernel/kvm/calls.ts'
import * as kvmDevice from '../../kernel/kvm/device-calls.ts'
import * as hcalls from '../../kernel/kvm/hcall-calls.ts'
import { KVM_CAP, KVM_DEV_TYPE_VFIO } from '../../kernel/kvm-numbers.ts'
import { TCE_HCALL_R3 } from '../../kernel/tce-hcalls.ts'
import { CLOSE, MUNMAP_DEVICE, OPEN, RAW_IOCTL } from '../../kernel/vfio/calls.ts'
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
const RADIX_FLAGS = 3n
const RADIX_TABLE = 1n << 63n
/** What the guest's loop asks user space with. */
const LOOP_HCALL = 0x7f0n
const REFUSED: AgentSaid = { state: 'refused' }
const DIED: AgentSaid = { state: 'died', why: 'the memory of the guest is not there (SIGSEGV)' }

/** What the agent passes of a hypercall, by the name of the argument. */
const HCALLS: ReadonlyMap<bigint, { readonly decl: CallDecl; readonly args: readonly string[] }> = new Map([
  [TCE_HCALL_R3.H_PUT_TCE, { decl: hcalls.KVM_H_PUT_TCE, args: ['liobn', 'ioba', 'tce'] }],
  [TCE_HCALL_R3.H_GET_TCE, { decl: hcalls.KVM_H_GET_TCE, args: ['liobn', 'ioba'] }],
  [TCE_HCALL_R3.H_STUFF_TCE, { decl: hcalls.KVM_H_STUFF_TCE, args: ['liobn', 'ioba', 'value', 'npages'] }],
  [
    TCE_HCALL_R3.H_PUT_TCE_INDIRECT,
    { decl: hcalls.KVM_H_PUT_TCE_INDIRECT, args: ['liobn', 'ioba', 'list', 'npages'] },
  ],
])

/** What the program keeps of its virtual machine. */
interface KvmVariables {
  kvm: bigint
  vm: bigint
  vcpu: bigint | undefined
  device: bigint
  /** User address of guest address 0. */
  ram: bigint | undefined
  readonly tables: KeptTable[]
}

interface KeptTable {
  fd: bigint
  /** Name of its mapping; undefined where there is none. */
  map: string | undefined
  readonly entries: bigint
}

/** The bytes of a word as a big-endian guest reads it. */
const bigEndian = (word: bigint): string => `hex:${word.toString(16).padStart(16, '0')}`

/** Commands about the tables that the program keeps, each with its mapping. */
function tableRuns(call: ProcessCall, own: KvmVariables) {
  const made =
    (decl: CallDecl, argsOf: (args: AgentArgs) => Readonly<Record<string, bigint>>, is64: boolean) =>
    (args: AgentArgs): AgentSaid => {
      if (own.tables.length === TABLES) return REFUSED
      const answer = call(decl, { fd: own.vm, ...argsOf(args) })
      if (answer.code !== 'OK') return returned(answer)
      const table = own.tables.length
      const map = `tce${table}`
      const fd = outputOf(answer, 'fd')
      const mapped = call(kvm.MMAP_TCE, { fd, map })
      if (mapped.state !== 'done') return returned(mapped)
      const isMapped = mapped.code === 'OK'
      const entries = is64 ? u64(args, 'entries') : u32(args, 'windowBytes') >> 12n
      own.tables.push({ fd, map: isMapped ? map : undefined, entries })
      return returned(answer, { table: BigInt(table), ...(is64 && { mmap: isMapped ? 'ok' : 'failed' }) })
    }
  const tableOf = (args: AgentArgs): KeptTable | undefined => own.tables[Number(u64(args, 'table'))]
  return {
    tce64: made(
      kvm.KVM_CREATE_SPAPR_TCE_64,
      (args) => ({
        liobn: u64(args, 'liobn'),
        page_shift: u32(args, 'pageShift'),
        flags: u32(args, 'flags'),
        offset: u64(args, 'offset'),
        entries: u64(args, 'entries'),
      }),
      true,
    ),
    tce32: made(
      kvm.KVM_CREATE_SPAPR_TCE,
      (args) => ({ liobn: u64(args, 'liobn'), window_bytes: u32(args, 'windowBytes') }),
      false,
    ),
    tceclose: (args: AgentArgs) => {
      const table = tableOf(args)
      if (table === undefined) return REFUSED
      const answer = call(CLOSE, { fd: table.fd })
      table.fd = NO_FD
      return returned(answer)
    },
    tceunmap: (args: AgentArgs) => {
      const table = tableOf(args)
      if (table?.map === undefined) return REFUSED
      const answer = call(MUNMAP_DEVICE, { map: table.map })
      table.map = undefined
      return returned(answer)
    },
    tcepoke: (args: AgentArgs) => {
      const table = tableOf(args)
      if (table?.map === undefined || u64(args, 'entry') >= table.entries) return REFUSED
      return returned(
        call(kvm.WRITE_TCE, { map: table.map, entry: u64(args, 'entry'), tce: u64(args, 'tce') }),
      )
    },
    tcedump: (args: AgentArgs) => {
      const table = tableOf(args)
      if (table?.map === undefined) return REFUSED
      const first = u64(args, 'first')
      const left = table.entries > first ? table.entries - first : 0n
      const count = u64(args, 'entries') < left ? u64(args, 'entries') : left
      if (count === 0n) return answered(0n)
      if (count > 0xffffn) return unmodelled('more entries than a line can hold')
      const answer = call(kvm.READ_TCE, { map: table.map, first, count })
      const tces = answer.outputs['tces'] as bigint[]
      return answer.code === 'OK' ? answered(0n, { fields: { tces } }) : returned(answer)
    },
  }
}

/** Descriptors that commands about VFIO keep: the container in use, and the group that a command names. */
interface OtherFiles {
  readonly container: () => bigint
  readonly group: (args: AgentArgs) => bigint
}

/** Commands about KVM. */
export function kvmRuns(call: ProcessCall, { container, group: groupFd }: OtherFiles) {
  const own: KvmVariables = {
    kvm: NO_FD,
    vm: NO_FD,
    vcpu: undefined,
    device: NO_FD,
    ram: undefined,
    tables: [],
  }
  /** Closes a file whose number is forgotten then. */
  const close = (name: 'vm' | 'device') => () => {
    const answer = call(CLOSE, { fd: own[name] })
    own[name] = NO_FD
    return returned(answer)
  }
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
      return returned(answer)
    },
    radix: oneCall(call, kvm.KVM_PPC_CONFIGURE_V3_MMU, () => ({
      fd: own.vm,
      flags: RADIX_FLAGS,
      process_table: RADIX_TABLE,
    })),
    hcall_enable: oneCall(call, kvm.KVM_ENABLE_CAP, (args) => ({
      fd: own.vm,
      cap: KVM_CAP.PPC_ENABLE_HCALL,
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
    slot: oneCall(call, kvm.KVM_SET_USER_MEMORY_REGION, (args) => ({
      fd: own.vm,
      slot: u32(args, 'slot'),
      flags: u32(args, 'flags'),
      gpa: u64(args, 'gpa'),
      bytes: u64(args, 'bytes'),
      vaddr: u64(args, 'vaddr'),
    })),
    vcpu: () => {
      const answer = call(kvm.KVM_CREATE_VCPU, { fd: own.vm, id: 0n })
      if (answer.code !== 'OK') return returned(answer)
      const radix = call(kvm.KVM_CHECK_EXTENSION, { fd: own.kvm, extension: KVM_CAP.PPC_MMU_RADIX })
      if (radix.rule !== 'supported') return unmodelled('a guest without a radix MMU')
      // Its program lies in a slot that no other command knows.
      if (own.vcpu !== undefined) call(CLOSE, { fd: own.vcpu })
      own.vcpu = outputOf(answer, 'fd')
      return answered(0n, { fields: { nr: LOOP_HCALL } })
    },
    vmclose: close('vm'),
    vcpuclose: () => {
      if (own.vcpu === undefined) return REFUSED
      call(CLOSE, { fd: own.vcpu })
      own.vcpu = undefined
      return answered(0n)
    },
    ...tableRuns(call, own),
    vfiodev: () => {
      const answer = call(kvmDevice.KVM_CREATE_DEVICE, { fd: own.vm, type: KVM_DEV_TYPE_VFIO })
      own.device = answer.code === 'OK' ? outputOf(answer, 'device_fd') : NO_FD
      return returned(answer)
    },
    vfioclose: close('device'),
    vfioadd: oneCall(call, kvmDevice.KVM_DEV_VFIO_GROUP_ADD, (args) => ({
      fd: own.device,
      group: groupFd(args),
    })),
    vfiodel: oneCall(call, kvmDevice.KVM_DEV_VFIO_GROUP_DEL, (args) => ({
      fd: own.device,
      group: groupFd(args),
    })),
    vfiotce: (args: AgentArgs) =>
      u64(args, 'table') < TABLES
        ? returned(
            call(kvmDevice.KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE, {
              fd: own.device,
              group: groupFd(args),
              table: own.tables[Number(u64(args, 'table'))]?.fd ?? NO_FD,
            }),
          )
        : REFUSED,
    rawioctl: (args: AgentArgs) => {
      const files: Readonly<Record<string, bigint>> = {
        container: container(),
        kvm: own.kvm,
        vm: own.vm,
        vcpu: own.vcpu ?? NO_FD,
        vfio: own.device,
        tce: own.tables[0]?.fd ?? NO_FD,
      }
      const fd = files[args['file'] as string] as bigint
      const answer = call(RAW_IOCTL, { fd, cmd: u32(args, 'cmd'), arg: u64(args, 'argument') })
      const made = answer.outputs['fd'] as bigint | undefined
      if (made !== undefined) call(CLOSE, { fd: made })
      return returned(answer)
    },
    gpoke64: (args: AgentArgs) => {
      if (own.ram === undefined) return REFUSED
      const address = BigInt.asUintN(64, own.ram + u64(args, 'gpa'))
      const written = call(MEM_WRITE, { space: 'ua', address, data: bigEndian(u64(args, 'value')) })
      return written.code === 'OK' ? answered(0n) : DIED
    },
    hcall: (args: AgentArgs) => {
      const nr = u64(args, 'nr')
      const known = HCALLS.get(nr)
      if (own.vcpu === undefined) return REFUSED
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
