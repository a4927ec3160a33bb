import { PreregisteredMemory } from '../../src/kernel/prereg/preregistered-memory.ts'
import type { Process } from '../../src/memory/process.ts'
import { makeHost, UNLIMITED } from './host.ts'

/** A host with preregistered memory and a process that has `pages` pages of memory at `AT`. */
export function makePrereg(
  options: {
    pageShift?: number
    frames?: number
    journal?: boolean
    pages?: number
    errata?: readonly string[]
    failsAt?: number
    onAllocate?: () => boolean
  } = {},
) {
  const { pageShift = 16, frames = 64, pages = 16, errata = [] } = options
  const made = makeHost({ pageShift, frames, journal: options.journal ?? false })
  let allocations = 0
  const memory = new PreregisteredMemory({
    host: made.host,
    has: (id) => errata.includes(id),
    onAllocate: options.onAllocate ?? (() => ++allocations !== options.failsAt),
  })
  made.processes.watch(memory)
  const qemu = made.processes.spawn('qemu', UNLIMITED)
  const page = 1n << BigInt(pageShift)
  mapAt(qemu, AT, BigInt(pages) * page)
  return { ...made, memory, qemu, page }
}

export const AT = 0x7000_0000_0000n

/** Maps memory of a process, huge pages where `hugeShift` says so. */
export function mapAt(
  process: Process,
  address: bigint,
  bytes: bigint,
  options: { hugeShift?: number; write?: boolean } = {},
) {
  const { hugeShift = 0, write = true } = options
  const request = { address, bytes, read: true, write, fixed: true, noreplace: false, hugeShift }
  return process.mm.mmap(request).place
}
