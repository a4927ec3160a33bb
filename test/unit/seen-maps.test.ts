import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { DomainPages } from '../../src/machine/replay/vhost/domain-pages.ts'
import { type SeenMap, SeenMaps } from '../../src/machine/replay/vhost/seen-maps.ts'
import { RecordLog } from '../../src/trace/record-log.ts'

describe('mappings that lines have shown', () => {
  it('are found as by a look at each of them, for ranges few and many, small and large', () => {
    const prng = new Prng(5)
    const seen = new SeenMaps()
    let naive: SeenMap[] = []
    for (let n = 0; n < 4000; n++) {
      if (prng.oneIn(3)) {
        let at = prng.below(3000)
        const ranges = Array.from({ length: 1 + prng.below(4) }, () => {
          const firstPage = at
          const endPage = firstPage + 1 + prng.below(prng.oneIn(4) ? 2000 : 40)
          at = endPage + prng.below(300)
          return { firstPage, endPage }
        })
        const isIn = (m: SeenMap) =>
          ranges.some((r) => r.firstPage < m.firstPage + m.pages && m.firstPage < r.endPage)
        const wanted = naive.filter(isIn).sort((a, b) => a.firstPage - b.firstPage)
        naive = naive.filter((m) => !isIn(m))
        const found = [...seen.remove(ranges)].sort((a, b) => a.firstPage - b.firstPage)
        expect(found).toEqual(wanted)
      } else {
        const isLarge = prng.oneIn(10)
        const firstPage = isLarge ? 512 * prng.below(6) : prng.below(3000)
        const map = { firstPage, pages: isLarge ? 512 : 1, gpa: BigInt(prng.below(4)) << 12n, perm: 3 }
        const known = naive.find((m) => m.firstPage === firstPage)
        const isSame = known !== undefined && known.gpa === map.gpa && known.pages === map.pages
        expect(seen.add(map)).toBe(!isSame)
        naive = [...naive.filter((m) => m !== known), map]
      }
      expect(seen.count).toBe(naive.length)
    }
  })

  it('of all domains are forgotten at once where a log shows too many', () => {
    const log = new RecordLog({ keepRecords: 1000 })
    const pages = new DomainPages(log)
    const page = (n: number) => ({ iova: BigInt(n) << 12n, bytes: 0x1000n, gpa: 0n })
    for (let n = 0; n < 1 << 18; n++) pages.map(n & 3, page(n), 3)
    const before = log.length
    pages.unmap(0, [{ firstPage: 0, endPage: 1, line: 7 }], 0)
    expect(log.length).toBe(before + 1)
    expect(log.noteOf(before)).toBe(7)
    pages.map(0, page(1), 3)
    pages.map(0, page(2), 3)
    pages.unmap(1, [{ firstPage: 0, endPage: 1 << 20, line: 8 }], 0)
    expect(log.length).toBe(before + 3)
  })
})
