import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Input, openInput } from '../../src/cli/input.ts'

const RECORDING = 'recordings/ppc-ddw-64k.trace.xz'
const xz = readFileSync(RECORDING)
let dir = ''
let text: Buffer

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'iommulator-input-'))
  text = await contents(await openInput(RECORDING, process.stdin))
})
afterAll(() => rmSync(dir, { recursive: true }))

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void
const heldBytes = (): number => {
  collect()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

async function contents(input: Input): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of input.pieces()) {
    expect(piece.length).toBeLessThanOrEqual(256 * 1024)
    pieces.push(Buffer.from(piece))
  }
  return Buffer.concat(pieces)
}

const file = (name: string, bytes: Uint8Array): string => {
  const path = join(dir, name)
  writeFileSync(path, bytes)
  return path
}
const opened = (name: string, bytes: Uint8Array) => openInput(file(name, bytes), process.stdin)
const flipped = (bytes: Buffer, at: number): Buffer => {
  const copy = Buffer.from(bytes)
  copy[at < 0 ? copy.length + at : at]! ^= 1
  return copy
}

describe('what a file holds', () => {
  it('an xz file is unpacked, and says how far it has been read', async () => {
    const input = await openInput(RECORDING, process.stdin)
    expect(input).toMatchObject({ name: RECORDING, packing: 'xz', totalBytes: xz.length })
    expect((await contents(input)).equals(text)).toBe(true)
    expect(input.bytesRead).toBe(xz.length)
    expect(text.toString('latin1').split('\n').length).toBe(1723)
  })

  it('plain and gzip files give the same, whatever they are called', async () => {
    const plain = await opened('log.gz', text)
    expect(plain).toMatchObject({ packing: 'plain', totalBytes: text.length })
    expect((await contents(plain)).equals(text)).toBe(true)
    const gzip = await opened('log.txt', gzipSync(text))
    expect(gzip.packing).toBe('gzip')
    expect((await contents(gzip)).equals(text)).toBe(true)
  })

  it('several streams or members one after another are one', async () => {
    const twice = Buffer.concat([text, text])
    expect((await contents(await opened('a', Buffer.concat([xz, xz])))).equals(twice)).toBe(true)
    const padded = Buffer.concat([xz, Buffer.alloc(8), xz, Buffer.alloc(4)])
    expect((await contents(await opened('b', padded))).equals(twice)).toBe(true)
    expect(
      (await contents(await opened('c', Buffer.concat([gzipSync(text), gzipSync(text)])))).equals(twice),
    ).toBe(true)
  })

  it('an empty file, and one shorter than any magic', async () => {
    expect((await contents(await opened('empty', Buffer.alloc(0)))).length).toBe(0)
    expect((await contents(await opened('short', Buffer.from('ab')))).toString()).toBe('ab')
  })

  it('a file that unpacks to a thousand times its length is never held as a whole', async () => {
    const input = await opened('bomb', gzipSync(Buffer.alloc(128 << 20)))
    let bytes = 0
    let mostHeld = 0
    const before = heldBytes()
    for await (const piece of input.pieces()) {
      bytes += piece.length
      if (bytes % (8 << 20) === 0) mostHeld = Math.max(mostHeld, heldBytes() - before)
    }
    expect(bytes).toBe(128 << 20)
    expect(mostHeld).toBeLessThan(32 << 20)
  })

  it('whoever stops early can open the next file', async () => {
    for (let i = 0; i < 3; i++) {
      for await (const piece of (await openInput(RECORDING, process.stdin)).pieces()) {
        expect(piece.length).toBeGreaterThan(0)
        break
      }
    }
    expect((await contents(await openInput(RECORDING, process.stdin))).equals(text)).toBe(true)
  })
})

describe('standard input', () => {
  it.each([1, 7, 100_000])('in chunks of %d bytes, packed or not', async (chunk) => {
    const chunks = (bytes: Buffer): Readable => {
      const list: Buffer[] = []
      for (let at = 0; at < bytes.length; at += chunk) list.push(bytes.subarray(at, at + chunk))
      return Readable.from(list)
    }
    const some = text.subarray(0, 20_000)
    for (const [bytes, packing] of [
      [some, 'plain'],
      [gzipSync(some), 'gzip'],
    ] as const) {
      const input = await openInput('-', chunks(bytes))
      expect(input).toMatchObject({ name: 'standard input', packing, totalBytes: undefined })
      const pieces: Buffer[] = []
      for await (const piece of input.pieces()) pieces.push(Buffer.from(piece))
      expect(Buffer.concat(pieces).equals(some)).toBe(true)
      expect(input.bytesRead).toBe(bytes.length)
    }
    const packed = await openInput('-', chunks(Buffer.concat([xz, xz])))
    expect((await contents(packed)).length).toBe(2 * text.length)
  })

  it('an empty one, and one that gives text', async () => {
    expect((await contents(await openInput('-', Readable.from([])))).length).toBe(0)
    expect((await contents(await openInput('-', Readable.from(['ab', 'c'])))).toString()).toBe('abc')
  })
})

describe('a file that cannot be read: ERR_INPUT with its name and why', () => {
  const gz = () => gzipSync(text)
  const cases: readonly (readonly [what: string, bytes: () => Buffer, why: string])[] = [
    ['xz that is cut', () => xz.subarray(0, 1000), 'it ends early'],
    ['xz that is cut in its header', () => xz.subarray(0, 9), 'it ends early'],
    ['xz that is cut in its footer', () => xz.subarray(0, -3), 'it ends early'],
    ['xz with a flipped bit', () => flipped(xz, 1500), 'its data is damaged'],
    ['xz with a wrong checksum', () => flipped(xz, -40), 'its data is damaged'],
    [
      'xz that text follows',
      () => Buffer.concat([xz, Buffer.from('text'.repeat(10))]),
      'bytes that are no xz data follow it',
    ],
    ['xz of which a second stream is cut', () => Buffer.concat([xz, xz.subarray(0, 500)]), 'it ends early'],
    ['gzip that is cut', () => gz().subarray(0, 500), 'it ends early'],
    ['gzip with a flipped bit', () => flipped(gz(), 300), 'its data is damaged'],
    ['gzip with a wrong checksum', () => flipped(gz(), -7), 'its data is damaged (incorrect data check)'],
    ['zstd', () => Buffer.from('28b52ffd0000', 'hex'), 'it is packed by zstd, which is not supported'],
    ['bzip2', () => Buffer.from('BZh91AY&SY'), 'it is packed by bzip2'],
    ['a zip archive', () => Buffer.from('PK\x03\x04....'), 'it is a zip archive'],
  ]
  it.each(cases)('%s', async (_what, bytes, why) => {
    const path = file('bad', bytes())
    const reading = openInput(path, process.stdin).then(contents)
    await expect(reading).rejects.toMatchObject({ code: 'ERR_INPUT', where: { file: path } })
    await expect(reading).rejects.toThrow(`cannot read ${path}: ${why}`)
  })

  it('no such file, and a directory', async () => {
    const missing = join(dir, 'none', 'x')
    await expect(openInput(missing, process.stdin)).rejects.toThrow(
      `cannot read ${missing}: there is no such file`,
    )
    await expect(openInput(dir, process.stdin)).rejects.toThrow(`cannot read ${dir}: it is a directory`)
  })

  it('standard input that fails', async () => {
    const broken = new Readable({
      read() {
        this.destroy(new Error('the pipe broke'))
      },
    })
    await expect(openInput('-', broken)).rejects.toMatchObject({
      code: 'ERR_INPUT',
      message: 'cannot read standard input: the pipe broke',
    })
  })
})
