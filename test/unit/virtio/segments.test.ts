import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Segments } from '../../../src/hw/virtio/segments.ts'
import { TestMemory } from '../../support/virtio.ts'

/** Pieces of a memory of 256 bytes, some in views and some at places. */
const piece = fc.record({ start: fc.nat(200), bytes: fc.nat(50), isView: fc.boolean() })

interface Listed {
  readonly memory: TestMemory
  readonly segments: Segments
  /** Address of each byte of the list, in order: the naive list. */
  readonly naive: number[]
}

function listOf(pieces: readonly { start: number; bytes: number; isView: boolean }[], limit = 100): Listed {
  const memory = new TestMemory(Uint8Array.from({ length: 256 }, (_, i) => i))
  memory.allowed.fill(3)
  const segments = new Segments(memory, limit)
  const naive: number[] = []
  for (const { start, bytes, isView } of pieces) {
    if (isView) segments.addView(memory.bytes, start, bytes)
    else segments.addPlace(start, bytes)
    for (let i = 0; i < bytes; i++) naive.push(start + i)
  }
  return { memory, segments, naive }
}

const pieces = fc.array(piece, { maxLength: 8 })
const access = fc.record({ at: fc.nat(300), bytes: fc.nat(120), isWrite: fc.boolean(), drop: fc.nat(9) })

describe('a list of segments', () => {
  it('reads, writes and drops as a plain list of bytes does', () => {
    fc.assert(
      fc.property(pieces, fc.array(access, { maxLength: 12 }), (list, accesses) => {
        const { memory, segments, naive } = listOf(list)
        expect(segments.bytes).toBe(naive.length)
        accesses.forEach(({ at, bytes, isWrite, drop }, n) => {
          if (drop === 0) {
            const gone = Math.min(at, naive.length)
            segments.drop(gone)
            naive.splice(0, gone)
            expect(segments.bytes).toBe(naive.length)
            return
          }
          const skip = Math.min(at, naive.length)
          const part = Math.min(bytes, naive.length - skip)
          const buffer = Uint8Array.from({ length: part + 6 }, (_, i) => i * 7 + n)
          if (isWrite) {
            const right = memory.bytes.slice()
            for (let i = 0; i < part; i++) right[naive[skip + i] as number] = buffer[3 + i] as number
            segments.write(skip, buffer, 3, part)
            expect(memory.bytes).toEqual(right)
          } else {
            const right = buffer.slice()
            for (let i = 0; i < part; i++) right[3 + i] = memory.bytes[naive[skip + i] as number] as number
            segments.read(skip, buffer, 3, part)
            expect(buffer).toEqual(right)
          }
        })
      }),
      { numRuns: 2_000, seed: 1 },
    )
  })

  it('joins neighbours, and counts what was added', () => {
    const { segments } = listOf([
      { start: 0, bytes: 10, isView: true },
      { start: 10, bytes: 10, isView: true },
      { start: 20, bytes: 0, isView: false },
      { start: 20, bytes: 10, isView: false },
    ])
    expect([segments.count, segments.added, segments.bytes]).toEqual([2, 3, 30])
  })

  it('takes no more than its limit', () => {
    const { segments } = listOf(
      Array.from({ length: 4 }, (_, i) => ({ start: i * 50, bytes: 1, isView: true })),
      3,
    )
    expect([segments.count, segments.bytes, segments.isFull]).toEqual([3, 3, true])
    segments.clear()
    expect(segments.isFull).toBe(false)
  })

  it('does not reach past its end, nor a view past its own', () => {
    const { memory, segments } = listOf([{ start: 0, bytes: 10, isView: true }])
    const buffer = new Uint8Array(20)
    expect(() => segments.read(5, buffer, 0, 6)).toThrow('a read stays in its segments')
    expect(() => segments.write(11, buffer, 0, 0)).toThrow('a write stays in its segments')
    expect(() => segments.read(0, buffer, 11, 10)).toThrow('a read stays in its segments')
    expect(() => segments.drop(11)).toThrow('no more is dropped than there is')
    expect(() => segments.addView(memory.bytes, 250, 7)).toThrow('a segment lies in its view')
    expect(() => segments.addView(memory.bytes, -1, 7)).toThrow('a segment lies in its view')
  })
})
