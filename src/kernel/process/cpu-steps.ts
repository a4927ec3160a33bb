import { bytesOf, bytesText, hexDigits } from '../../bits/byte-text.ts'
import { VM } from '../process-port.ts'
import { type Task, type Work, type WorkArg, work } from '../steps.ts'
import { type MmStruct, mmapSem, pageOfAddress } from './mm-struct.ts'
import { PTE } from './page-tables.ts'
import type { Processes } from './processes.ts'
import { USER_END } from './vmas.ts'

const PAGE_BYTES = 4096
const OFFSETS = 0xfffn
const HEX = 'hex:'

/** The steps of what a process does with its memory. A call begins with `cpu_load` or `cpu_store`. */
export function defineCpuSteps(processes: Processes): void {
  const { tasks, tables, memory } = processes

  /** The page that the processor finds by the tables, -1 for a page fault. It sets accessed and dirty. */
  const translate = (mm: MmStruct, page: number, isWrite: boolean): number => {
    const table = page < USER_END ? tables.find(mm.pgd, page, 1) : -1
    if (table < 0) return -1
    tables.load(table, page, 1)
    const { hi, lo, target } = tables
    const needed = PTE.PRESENT | PTE.USER | (isWrite ? PTE.RW : 0)
    if ((lo & needed) !== needed) return -1
    tables.store(table, page, 1, hi, lo | PTE.ACCESSED | (isWrite ? PTE.DIRTY : 0))
    return target
  }

  const fault = (mm: MmStruct, address: bigint, isWrite: boolean, again: Work): readonly Work[] => [
    work('lock', mmapSem(mm.name)),
    work('do_user_addr_fault', mm.name, address, isWrite ? 1 : 0, ...endOf(again)),
    work('unlock', mmapSem(mm.name)),
    again,
  ]

  tasks.define('cpu_load', {
    doc: 'a process reads its memory, up to the end of a page',
    run: (task, [name, from, count, got]) => {
      const mm = processes.space(name)
      const [address, bytes] = [BigInt(from as bigint), Number(count)]
      if (bytes === 0) {
        task.finish('done', dataOf(String(got)))
        return undefined
      }
      const page = translate(mm, pageOfAddress(address), false)
      if (page < 0) return fault(mm, address, false, work('cpu_load', mm.name, address, bytes, got as string))
      const offset = Number(address & OFFSETS)
      const data = new Uint8Array(Math.min(bytes, PAGE_BYTES - offset))
      memory.readPage(page, offset, data, 0, data.length)
      const all = `${got}${hexDigits(data)}`
      return [work('cpu_load', mm.name, address + BigInt(data.length), bytes - data.length, all)]
    },
  })
  tasks.define('cpu_store', {
    doc: 'a process writes its memory, up to the end of a page',
    run: (task, [name, from, rest, moved]) => {
      const mm = processes.space(name)
      const address = BigInt(from as bigint)
      const data = bytesOf(`${HEX}${rest}`)
      if (data.length === 0) {
        task.finish('done', { moved: BigInt(moved as number) })
        return undefined
      }
      const page = translate(mm, pageOfAddress(address), true)
      if (page < 0) {
        return fault(mm, address, true, work('cpu_store', mm.name, address, rest as string, Number(moved)))
      }
      const offset = Number(address & OFFSETS)
      const bytes = Math.min(data.length, PAGE_BYTES - offset)
      memory.writePage(page, offset, data, 0, bytes)
      const left = String(rest).slice(2 * bytes)
      return [work('cpu_store', mm.name, address + BigInt(bytes), left, Number(moved) + bytes)]
    },
  })

  tasks.define('do_user_addr_fault', {
    doc: 'a page fault of a process: its area is looked for, and asked for its rights',
    run: (task, [name, from, write, ...got]) => {
      const mm = processes.space(name)
      const address = BigInt(from as bigint)
      const isWrite = Number(write) === 1
      const area = pageOfAddress(address) < USER_END ? mm.findVma(address, true) : undefined
      if (area === undefined) return kill(task, mm, 'not-mapped', got)
      const isPermitted = isWrite ? (area.flags & VM.WRITE) !== 0 : area.flags !== 0
      if (!isPermitted) return kill(task, mm, 'not-permitted', got)
      const isFile = area.file === undefined ? 0 : 1
      return [...mm.handleFault(address, isWrite), work('mm_fault_error', mm.name, isFile, ...got)]
    },
  })
  tasks.define('mm_fault_error', {
    doc: 'a page fault that could not be handled ends in a signal',
    run: (task, [name, isFile, ...got]) => {
      if (task.value === 'done') return undefined
      const mm = processes.space(name)
      if (Number(isFile) === 1) return kill(task, mm, 'no-backing', got)
      task.finishUnknown('no memory is left: which process the OOM killer ends')
      return kill(task, mm, '', got)
    },
  })

  /** The access is over: what it was to do after the fault is not done. */
  const kill = (
    task: Task,
    mm: MmStruct,
    rule: string,
    got: readonly WorkArg[],
  ): readonly Work[] | undefined => {
    const isAccess = ({ step }: Work) => step === 'cpu_load' || step === 'cpu_store' || step === 'unlock'
    const rest = task.works.filter((w) => !isAccess(w))
    task.works = rest
    if (rule !== '') {
      const [data] = got
      task.finish(rule, typeof data === 'string' ? dataOf(data) : { moved: BigInt(Number(data ?? 0)) })
    }
    return [work('unlock', mmapSem(mm.name))]
  }
}

/** What an access has done so far: bytes that were read, or how many were written. */
const endOf = ({ step, args }: Work): readonly WorkArg[] => [
  step === 'cpu_load' ? (args[3] as string) : (args[3] as number),
]

const dataOf = (text: string) => {
  const data = bytesOf(text)
  return { data: bytesText(data), moved: BigInt(data.length) }
}

/** How a load begins, and a store. */
export const loadWork = (mm: string, address: bigint, bytes: number): Work =>
  work('cpu_load', mm, address, bytes, HEX)
export const storeWork = (mm: string, address: bigint, data: Uint8Array): Work =>
  work('cpu_store', mm, address, hexDigits(data), 0)
