import { closeSync, openSync, readSync } from 'node:fs'
import { IommulatorError } from '../bits/errors.ts'
import { type Dump, DumpMemory } from '../machine/walk/dump-memory.ts'
import { readTablesJson } from '../machine/walk/tables-json.ts'
import { openInput } from './input.ts'

const PAGE_BYTES = 4096
/** How a dump of tables as JSON begins. */
const BRACE = 0x7b
/** Of a packed image so many bytes are kept at most: pages that hold something. */
const KEPT_BYTES_MAX = 2 * 1024 ** 3

/** A dump that is open. */
export interface OpenDump extends Dump {
  close(): void
}

/** An image as it is: pages are read from the file when they are asked for. */
function openImage(path: string, bytes: number): OpenDump {
  const file = openSync(path, 'r')
  const page = new Uint8Array(PAGE_BYTES)
  const memory = new DumpMemory((at) => {
    if ((at + 1) * PAGE_BYTES > bytes) return undefined
    readSync(file, page, 0, PAGE_BYTES, at * PAGE_BYTES)
    return page
  })
  return { memory, registers: new Map(), close: () => closeSync(file) }
}

/** The pages of an image that comes in pieces. */
class Pages {
  readonly pages = new Map<number, Uint8Array>()
  bytes = 0
  #page = new Uint8Array(PAGE_BYTES)
  #used = 0

  push(piece: Uint8Array): void {
    for (let at = 0; at < piece.length; ) {
      const part = piece.subarray(at, at + PAGE_BYTES - this.#used)
      this.#page.set(part, this.#used)
      this.#used += part.length
      at += part.length
      if (this.#used === PAGE_BYTES) this.#end()
    }
  }

  #end(): void {
    if (this.#page.some((byte) => byte !== 0)) {
      this.pages.set(this.bytes / PAGE_BYTES, this.#page)
      this.#page = new Uint8Array(PAGE_BYTES)
    }
    this.bytes += PAGE_BYTES
    this.#used = 0
  }
}

async function collect(pieces: AsyncIterable<Uint8Array>, path: string): Promise<OpenDump> {
  const found = new Pages()
  const empty = new Uint8Array(PAGE_BYTES)
  for await (const piece of pieces) {
    found.push(piece)
    if (found.pages.size * PAGE_BYTES <= KEPT_BYTES_MAX) continue
    throw new IommulatorError('ERR_INPUT', `${path} is too large to be held: unpack it first`, { file: path })
  }
  const end = found.bytes / PAGE_BYTES
  const memory = new DumpMemory((page) => (page < end ? (found.pages.get(page) ?? empty) : undefined))
  return { memory, registers: new Map(), close: () => undefined }
}

/**
 * Opens a dump of a guest's memory: a raw image from address 0 on, packed by gzip or xz or not, or its tables as JSON.
 *
 * @throws IommulatorError ERR_INPUT
 */
export async function openDump(path: string, stdin: NodeJS.ReadableStream): Promise<OpenDump> {
  const input = await openInput(path, stdin)
  const pieces = input.pieces()
  const { value: first } = await pieces.next()
  const head: Uint8Array = first?.slice() ?? new Uint8Array(0)
  if (head[0] !== BRACE && path !== '-' && input.packing === 'plain' && input.totalBytes !== undefined) {
    await pieces.return(undefined)
    return openImage(path, input.totalBytes)
  }
  async function* all(): AsyncGenerator<Uint8Array> {
    yield head
    yield* pieces
  }
  if (head[0] !== BRACE) return collect(all(), input.name)
  const parts: Uint8Array[] = []
  for await (const piece of all()) parts.push(piece.slice())
  const dump = readTablesJson(input.name, Buffer.concat(parts).toString('utf8'))
  return { ...dump, close: () => undefined }
}
