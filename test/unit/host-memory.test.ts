import { describe, expect, it } from 'vitest'
import { Journal } from '../../src/bits/state.ts'
import { HostMemory } from '../../src/memory/host-memory.ts'

const make = (ramBytes = 2 ** 40, maxBytes = 2 ** 22) =>
  new HostMemory({ journal: new Journal(), ramBytes, maxBytes })

describe('HostMemory', () => {
  it('takes nothing for reads, and nothing for zeros', () => {
    const memory = make()
    const bytes = new Uint8Array([1, 2])
    expect([memory.loadU64be(77, 8), memory.wordHi, memory.wordLo]).toEqual([true, 0, 0])
    expect(memory.readPage(9000, 0, bytes, 0, 2)).toBe(true)
    memory.storeU64be(77, 8, 0, 0)
    memory.storeU32le(77, 8, 0)
    memory.writePage(78, 0, new Uint8Array(4096), 0, 4096)
    memory.zeroPages(0, 4)
    memory.copyPages(5, 6, 1)
    expect([memory.bytes, ...bytes]).toEqual([0, 0, 0])
  })

  it('takes 2 MiB with the first byte that is not 0', () => {
    const memory = make()
    memory.storeU64be(512, 0, 0, 1)
    memory.storeU64be(1023, 4088, 1, 0)
    expect(memory.bytes).toBe(2 ** 21)
  })

  it('refuses to grow past its bound, and leaves what is there', () => {
    const memory = make(2 ** 40, 2 ** 21)
    memory.storeU64be(0, 0, 0, 5)
    expect(() => memory.storeU64be(512, 0, 0, 1)).toThrow(
      expect.objectContaining({ code: 'ERR_MEMORY_LIMIT' }),
    )
    expect([memory.loadU64be(0, 0), memory.wordLo]).toEqual([true, 5])
  })

  it('has no memory past its end: reads give 0, writes vanish', () => {
    const memory = make(2 ** 20)
    const bytes = new Uint8Array([7])
    expect([memory.isRam(255), memory.isRam(256)]).toEqual([true, false])
    expect(memory.storeU64be(256, 0, 1, 1)).toBe(false)
    expect(memory.storeU32be(256, 0, 1)).toBe(false)
    expect(memory.writePage(256, 0, bytes, 0, 1)).toBe(false)
    expect([memory.readPage(256, 0, bytes, 0, 1), bytes[0]]).toEqual([false, 0])
    expect([memory.loadU64le(256, 0), memory.wordHi, memory.wordLo]).toEqual([false, 0, 0])
    expect(memory.loadU32le(2 ** 40, 0)).toBe(0)
    expect(memory.bytes).toBe(0)
  })

  it('keeps an access in its page', () => {
    const memory = make()
    const bytes = new Uint8Array(16)
    expect(() => memory.writePage(0, 4090, bytes, 0, 8)).toThrow('model bug')
    expect(() => memory.readPage(0, 4090, bytes, 0, 8)).toThrow('model bug')
  })
})
