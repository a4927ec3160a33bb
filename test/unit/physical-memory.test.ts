import { describe, expect, it } from 'vitest'
import { Journal } from '../../src/bits/state.ts'
import { HostMemory } from '../../src/memory/host-memory.ts'
import { PhysicalMemory } from '../../src/memory/physical-memory.ts'

const PAGES = 16

function memoryOf() {
  const host = new HostMemory({ journal: new Journal(), ramBytes: PAGES * 4096, maxBytes: 2 ** 24 })
  const memory = new PhysicalMemory(host)
  const told: string[] = []
  memory.watcher = {
    watches: (page) => page === 3 || page === PAGES,
    willWrite: (page, offset, bytes) => {
      memory.loadU64be(3, 0)
      told.push(`will ${page} ${offset} ${bytes}: ${memory.wordLo}`)
    },
    wrote: (page, offset, bytes) => {
      memory.loadU64be(3, 0)
      told.push(`wrote ${page} ${offset} ${bytes}: ${memory.wordLo}`)
    },
  }
  return { host, memory, told }
}

describe('the memory of a machine without a hypervisor', () => {
  it('is the host memory, word by word and byte by byte', () => {
    const { host, memory } = memoryOf()
    memory.storeU64be(5, 8, 1, 0x0203)
    host.loadU64be(5, 8)
    expect([host.wordHi, host.wordLo]).toEqual([1, 0x0203])
    expect(memory.loadU64le(5, 8)).toBe(true)
    expect([memory.wordHi, memory.wordLo]).toEqual([0x0302_0000, 0x0100_0000])
    const words = new Int32Array(4)
    memory.loadWords(5, 2, words)
    expect([...words]).toEqual([0, 0, 1, 0x0203])
    const bytes = new Uint8Array(2)
    memory.readPage(5, 14, bytes, 0, 2)
    expect([...bytes]).toEqual([2, 3])
  })

  it('tells of writes to watched pages before and after, and of no others', () => {
    const { memory, told } = memoryOf()
    memory.storeU64be(2, 0, 0, 1)
    memory.storeU64be(3, 0, 0, 7)
    memory.writePage(3, 7, Uint8Array.of(9), 0, 1)
    expect(told).toEqual(['will 3 0 8: 0', 'wrote 3 0 8: 7', 'will 3 7 1: 7', 'wrote 3 7 1: 9'])
  })

  it('a write that finds no memory is not told as done', () => {
    const { memory, told } = memoryOf()
    expect([memory.isRam(PAGES - 1), memory.isRam(PAGES)]).toEqual([true, false])
    expect(memory.storeU64be(PAGES, 0, 0, 1)).toBe(false)
    expect(memory.writePage(PAGES, 0, Uint8Array.of(1), 0, 1)).toBe(false)
    expect(told).toEqual([`will ${PAGES} 0 8: 0`, `will ${PAGES} 0 1: 0`])
    expect(memory.loadU64be(PAGES, 0)).toBe(false)
  })
})
