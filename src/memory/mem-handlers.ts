import type { CallHandler } from '../bits/answer.ts'
import { bytesOf, bytesText } from '../bits/byte-text.ts'
import { rulesOf } from '../bits/call.ts'
import { ERRNO_CODES } from '../bits/codes.ts'
import type { Access } from './address-space.ts'
import { type Args, type Decision, handlerOf } from './handler.ts'
import { PAGE_4K_BYTES, PAGE_4K_SHIFT } from './host-memory.ts'
import { MEM_BYTES_MAX } from './limits.ts'
import { MEM_READ, MEM_WRITE } from './mem-calls.ts'
import type { BusMemory } from './ports.ts'
import type { ProcessTable } from './process.ts'

const READ = rulesOf(MEM_READ)
const WRITE = rulesOf(MEM_WRITE)
const { EFAULT, ENOMEM } = ERRNO_CODES

/** 64-bit words as they lie in memory. */
function bytesOfWords(words: readonly bigint[], isLittle: boolean): Uint8Array {
  const view = new DataView(new ArrayBuffer(words.length * 8))
  words.forEach((word, i) => {
    view.setBigUint64(i * 8, word, isLittle)
  })
  return new Uint8Array(view.buffer)
}

/** Bytes of a bus, page by page, until one has no memory. Addresses past 2^52 have none. */
function moveOnBus(bus: BusMemory, address: bigint, data: Uint8Array, write: boolean): Access {
  for (let moved = 0; moved < data.length; ) {
    const at = address + BigInt(moved)
    const offset = Number(at & BigInt(PAGE_4K_BYTES - 1))
    const page = Number(at >> BigInt(PAGE_4K_SHIFT))
    const bytes = Math.min(data.length - moved, PAGE_4K_BYTES - offset)
    const isThere = page < 2 ** 40 && bus.isRam(page)
    const ok =
      isThere &&
      (write
        ? bus.writePage(page, offset, data, moved, bytes)
        : bus.readPage(page, offset, data, moved, bytes))
    if (!ok) return { moved, code: EFAULT }
    moved += bytes
  }
  return { moved: data.length, code: 0 }
}

/**
 * The handlers of the calls of verb `mem`. `guest` is the memory behind `gpa` addresses; where a machine has
 * none, no such address has memory.
 */
export function memHandlers(processes: ProcessTable, guest: BusMemory | undefined): CallHandler[] {
  const { stage } = processes.host

  const move = (args: Args, data: Uint8Array, write: boolean): Access | undefined => {
    const address = args['address'] as bigint
    if (args['space'] === 'gpa') {
      return guest === undefined ? { moved: 0, code: EFAULT } : moveOnBus(guest, address, data, write)
    }
    const mm = processes.find(args['process'] as string | undefined)?.mm
    return write ? mm?.write(address, data) : mm?.read(address, data)
  }

  const read = (args: Args): Decision => {
    if (args['space'] === 'ua' && processes.find(args['process'] as string | undefined) === undefined) {
      return { place: READ['no-such-process'] }
    }
    const bytes = Number(args['bytes'] as bigint)
    if (bytes > MEM_BYTES_MAX) return { place: READ['too-long'] }
    const data = new Uint8Array(bytes)
    const { moved, code } = move(args, data, false) ?? { moved: 0, code: EFAULT }
    const outputs = { data: bytesText(data.subarray(0, moved)), moved: BigInt(moved) }
    return { place: code === 0 ? READ.done : READ['no-memory'], outputs, out: BigInt(moved) }
  }

  const write = (args: Args): Decision => {
    if (args['space'] === 'ua' && processes.find(args['process'] as string | undefined) === undefined) {
      return { place: WRITE['no-such-process'] }
    }
    const { data, words } = args
    if ((data === undefined) === (words === undefined)) return { place: WRITE['data-and-words'] }
    const bytes =
      data === undefined
        ? bytesOfWords(words as readonly bigint[], args['order'] === 'little')
        : bytesOf(data as string)
    if (bytes.length > MEM_BYTES_MAX) return { place: WRITE['too-long'] }
    const { moved, code } = move(args, bytes, true) ?? { moved: 0, code: EFAULT }
    if (moved > 0) {
      const { log, cause } = stage
      const [space, address] = [args['space'] as string, args['address'] as bigint]
      log.emit('memory.write', cause, { space, address, bytes: moved })
    }
    const outputs = { moved: BigInt(moved) }
    const place = code === 0 ? WRITE.done : code === ENOMEM ? WRITE['no-frames'] : WRITE['no-memory']
    return { place, outputs, out: BigInt(moved) }
  }

  return [handlerOf(stage, MEM_READ, read), handlerOf(stage, MEM_WRITE, write)]
}
