import { describe, expect, it } from 'vitest'
import { generateLog } from '../../bench/generate-log.ts'
import { readLog } from '../log-rows.ts'

const MB = 1_000_000
const generated = (options: Parameters<typeof generateLog>[0]) => Buffer.concat([...generateLog(options)])

describe('a generated log', () => {
  it('is the same for the same seed, another for another, and as long as it should be', () => {
    const log = generated({ seed: 1, sizeBytes: MB })
    expect(log.equals(generated({ seed: 1, sizeBytes: MB }))).toBe(true)
    expect(log.equals(generated({ seed: 2, sizeBytes: MB }))).toBe(false)
    expect(log.length).toBeGreaterThanOrEqual(MB)
    expect(log.length).toBeLessThan(MB + 65536)
  })

  it('has unknown events only where they are asked for', () => {
    expect(readLog([generated({ seed: 1, sizeBytes: MB })]).summary.unknown).toEqual([])
    const { unknown, damaged } = readLog([generated({ seed: 1, sizeBytes: MB, unknownEvery: 50 })]).summary
    expect(unknown.map((u) => u.name).sort()).toEqual(['spapr_cas_pvr', 'virtio_notify'])
    expect(damaged.count).toBe(0)
  })

  it('translates only what is mapped, as it is mapped, and unmaps all in the end', () => {
    const { rows, summary } = readLog([generated({ seed: 3, sizeBytes: 2 * MB })])
    expect(summary.damaged.count).toBe(0)
    const direct = { liobn: 0x80000001n, start: 1n << 59n, pageBits: 16n }
    const other = { liobn: 0x80000000n, start: 0n, pageBits: 12n }
    const tces = new Map<string, bigint>()
    const wrong: string[] = []
    let translations = 0
    for (const { name, fields, line } of rows) {
      const f = fields as Record<string, bigint>
      const { start, pageBits, liobn } = f['liobn'] === direct.liobn ? direct : other
      const page = 1n << pageBits
      const key = (address: bigint) => `${liobn}:${address >> pageBits}`
      const map = (address: bigint, tce: bigint) => {
        if (tces.has(key(address))) wrong.push(`line ${line} maps what is mapped`)
        tces.set(key(address), tce)
      }
      if (name === 'spapr_iommu_pci_put') map(f['ioba']! - start, f['tce']!)
      if (name === 'spapr_iommu_pci_indirect') {
        for (let i = 0n; i <= f['lastIndex']!; i++) {
          map(f['ioba']! - start + i * page, f['lastTce']! - (f['lastIndex']! - i) * page)
        }
      }
      if (name === 'spapr_iommu_pci_stuff') {
        for (let i = 1n; i <= f['npages']!; i++) {
          const was = tces.delete(key(f['iobaEnd']! - start - i * page))
          if (was !== line > 513) wrong.push(`line ${line} clears what is ${was ? '' : 'not '}mapped`)
        }
      }
      if (name === 'spapr_iommu_xlate') {
        translations++
        const tce = tces.get(key(f['windowOffset']!)) ?? 0n
        const fits = (tce & ~(page - 1n)) === f['translated'] && Number(tce & 3n) === fields['perm']
        if (!fits || fields['mask'] !== Number(page - 1n)) wrong.push(`line ${line} does not follow`)
      }
    }
    expect(wrong).toEqual([])
    expect(translations).toBeGreaterThan(rows.length / 3)
    expect([...tces.keys()].filter((k) => k.startsWith(`${other.liobn}:`))).toEqual([])
  })
})
