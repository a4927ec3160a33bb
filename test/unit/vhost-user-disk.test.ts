import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import type { RingMemory } from '../../src/hw/virtio/ring-memory.ts'
import { Segments } from '../../src/hw/virtio/segments.ts'
import { DataSegments } from '../../src/peer/vhost-user/data-segments.ts'
import { FileStore } from '../../src/peer/vhost-user/file-store.ts'
import { type Libc, loadLibc } from '../../src/peer/vhost-user/libc.ts'

let why = ''
const libc = await loadLibc().catch((error: Error) => {
  why = ` (skipped: ${error.message})`
  return undefined
})

/** Everything lies in views. */
const NO_MEMORY: RingMemory = { reach: () => 'refused', load: () => undefined, store: () => undefined }

describe.skipIf(libc === undefined)(`a disk in a file${why}`, () => {
  const c = libc as Libc
  let folder = ''
  let path = ''
  const bytes = Uint8Array.from({ length: 64 * 512 }, (_, i) => new Prng(i).int32())

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'iommulator-test-'))
    path = join(folder, 'disk.img')
    writeFileSync(path, bytes)
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  /** Pieces of one array, which lie apart. */
  const pieces = (memory: Uint8Array, ...lengths: readonly number[]): Segments => {
    const segments = new Segments(NO_MEMORY)
    let at = 7
    for (const length of lengths) {
      segments.addView(memory, at, length)
      at += length + 100
    }
    return segments
  }

  it('is read into the pieces of a request, and written from them', () => {
    const store = FileStore.open(c, path, false)
    expect(store.sectors).toBe(64)
    const memory = new Uint8Array(8192)
    const segments = pieces(memory, 100, 1000, 436)
    expect(store.read(5, 3, segments)).toBe(true)
    const got = new Uint8Array(1536)
    segments.read(0, got, 0, 1536)
    expect(got).toEqual(bytes.slice(5 * 512, 8 * 512))
    expect(memory.subarray(0, 7).every((byte) => byte === 0)).toBe(true)
    expect(store.write(20, 3, segments)).toBe(true)
    expect(store.flush()).toBe(true)
    expect(new Uint8Array(readFileSync(path).subarray(20 * 512, 23 * 512))).toEqual(got)
    store.close()
  })

  it('takes only the first bytes of segments that are longer', () => {
    const store = FileStore.open(c, path, false)
    const memory = new Uint8Array(4096)
    expect(store.read(0, 1, pieces(memory, 513))).toBe(true)
    expect(memory[7 + 512]).toBe(0)
    store.close()
  })

  it('has zeros where zeros were asked for, and a hole where it was discarded', () => {
    const store = FileStore.open(c, path, false)
    expect(store.writeZeroes(1, 2, false)).toBe(true)
    expect(store.writeZeroes(4, 1, true)).toBe(true)
    expect(store.discard(8, 8)).toBe(true)
    const now = readFileSync(path)
    expect(now.subarray(512, 1536).every((byte) => byte === 0)).toBe(true)
    expect(now.subarray(2048, 2560).every((byte) => byte === 0)).toBe(true)
    expect(new Uint8Array(now.subarray(1536, 2048))).toEqual(bytes.slice(1536, 2048))
    expect(statSync(path).size).toBe(bytes.length)
    store.close()
  })

  it('answers an I/O error where its file became shorter, or cannot be written', () => {
    const store = FileStore.open(c, path, false)
    truncateSync(path, 1024)
    expect(store.read(1, 2, pieces(new Uint8Array(4096), 1024))).toBe(false)
    expect(store.read(1, 1, pieces(new Uint8Array(4096), 512))).toBe(true)
    store.close()
    const readOnly = FileStore.open(c, path, true)
    expect(readOnly.write(0, 1, pieces(new Uint8Array(4096), 512))).toBe(false)
    expect(readOnly.writeZeroes(0, 1, false)).toBe(false)
    readOnly.close()
  })
})

describe('the data of a request, as a message log shows it', () => {
  const taken = (reaches: readonly (readonly [number, number])[], chainBytes: number) => {
    const data = new DataSegments()
    for (const [lo, bytes] of reaches) data.add(0, lo, bytes)
    return data.take(chainBytes)
  }

  it.each([
    [
      'header, data, status',
      [
        [0x1000, 16],
        [0x2000, 4096],
        [0x3000, 1],
      ],
      [[0x2000n, 4096]],
    ],
    [
      'two buffers',
      [
        [0x1000, 16],
        [0x2000, 512],
        [0x4000, 512],
        [0x3000, 1],
      ],
      [
        [0x2000n, 512],
        [0x4000n, 512],
      ],
    ],
    [
      'no data',
      [
        [0x1000, 16],
        [0x3000, 1],
      ],
      [],
    ],
    [
      'all in one buffer each way',
      [
        [0x1000, 16 + 512],
        [0x3000, 1],
      ],
      [[0x1010n, 512]],
    ],
    [
      'a status behind the data',
      [
        [0x1000, 16],
        [0x2000, 513],
      ],
      [[0x2000n, 512]],
    ],
    [
      'a header in pieces',
      [
        [0x1000, 8],
        [0x1100, 8],
        [0x2000, 512],
        [0x3000, 1],
      ],
      [[0x2000n, 512]],
    ],
  ] as const)('%s', (_, reaches, segments) => {
    const bytes = reaches.reduce((n, [, length]) => n + length, 0)
    expect(taken(reaches, bytes)).toEqual(segments)
    // The same through a table, which is reached first.
    expect(taken([[0x9000, reaches.length * 16], ...reaches], bytes)).toEqual(segments)
  })

  it('is forgotten when it was taken', () => {
    const data = new DataSegments()
    data.add(1, 0x1000, 600)
    expect(data.take(600)).toEqual([[0x1_0000_1010n, 583]])
    expect(data.take(0)).toEqual([])
  })
})
