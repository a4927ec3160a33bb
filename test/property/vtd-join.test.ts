import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { isClean } from '../../src/machine/replay/result.ts'
import { FlushSearch, patternLength, type Words } from '../../src/machine/replay/vtd/flush-search.ts'
import { STANDING } from '../../src/machine/replay/vtd/ftrace-tally.ts'
import { joinBoot, VtdBoot } from '../support/vtd-boot.ts'

/** A driver that maps, lets the device work, unmaps and flushes, strictly or by the domain later. */
function randomBoot(prng: Prng, options: { readonly isLazy: boolean; readonly forgets: boolean }): VtdBoot {
  const boot = new VtdBoot()
  const free = Array.from({ length: 12 }, (_, i) => 0x10 + i)
  const live: number[] = []
  const waiting: number[] = []
  const take = (list: number[]) => list.splice(prng.below(list.length), 1)[0] as number
  boot.isTraced = false
  for (let i = 0; i < 3; i++) boot.interrupt(prng.below(20))
  boot.isTraced = true
  let target = 0
  let forgotten = !options.forgets
  for (let step = 0; step < 120; step++) {
    if (prng.oneIn(9)) boot.interrupt(step)
    if (free.length > 0 && prng.oneIn(2)) {
      const page = take(free)
      boot.map(page, target++)
      live.push(page)
    }
    for (const page of live) if (prng.oneIn(2)) boot.dma(page)
    if (live.length === 0 || prng.oneIn(3)) continue
    const page = take(live)
    boot.dma(page).unmap(page)
    if (!forgotten && step > 60) {
      // The flush is forgotten, and the address used again: for what the device may still reach.
      forgotten = true
      boot.map(page, target++)
      live.push(page)
    } else if (options.isLazy) {
      waiting.push(page)
      if (waiting.length > 5) {
        boot.flushDomain()
        free.push(...waiting.splice(0))
      }
    } else {
      boot.flush(page)
      free.push(page)
    }
  }
  return boot.interrupt(999)
}

describe('random boots', () => {
  it.each([
    ['strict', false],
    ['lazy', true],
  ])('%s: the traces go together, and nothing is found', (_what, isLazy) => {
    const prng = new Prng(11)
    for (let run = 0; run < 150; run++) {
      const { result, found } = joinBoot(randomBoot(prng, { isLazy, forgets: false }))
      const { ftrace } = result
      expect(result.divergences).toEqual([])
      expect(found).toEqual([])
      expect(ftrace?.flushes).toMatchObject({ matched: ftrace?.flushes.total, unmatched: 0, adrift: 0 })
      expect(ftrace?.standings.map(({ why }) => why)).toEqual([STANDING.MAPPED])
      expect(isClean(result)).toBe(true)
    }
  })

  it.each([
    ['strict', false],
    ['lazy', true],
  ])('%s: one flush that is forgotten is found', (_what, isLazy) => {
    const prng = new Prng(12)
    for (let run = 0; run < 150; run++) {
      const { found } = joinBoot(randomBoot(prng, { isLazy, forgets: true }))
      expect(found[0]?.[0]).toBe('stale-translation')
    }
  })
})

const words = (n: number): Words => ({ loHi: 0, loLo: n, hiHi: n >> 1, hiLo: 1 })

describe('looking for a place among descriptors', () => {
  it('finds what a plain search finds', () => {
    const prng = new Prng(3)
    for (let run = 0; run < 2000; run++) {
      const text = Array.from({ length: 1 + prng.below(40) }, () => prng.below(3))
      const pattern = Array.from({ length: 1 + prng.below(5) }, () => prng.below(3))
      const search = new FlushSearch(pattern.map(words))
      const found = text.findIndex((n) => search.next(words(n)))
      const plain = text.findIndex((_, i) => pattern.every((n, k) => text[i - pattern.length + 1 + k] === n))
      expect(found).toBe(plain)
    }
  })

  it('takes as many as no other place begins with', () => {
    const prng = new Prng(4)
    for (let run = 0; run < 500; run++) {
      const all = Array.from({ length: 60 + prng.below(60) }, () => prng.below(2))
      const from = prng.below(20)
      const length = patternLength(all.map(words), from, all.length)
      const count = all.length - from
      const alike = (n: number) =>
        all.some((_, i) => i !== from && all.slice(i, i + n).join() === all.slice(from, from + n).join())
      if (length === undefined) expect(alike(count)).toBe(true)
      else {
        expect(alike(length)).toBe(false)
        expect(length <= 32 || alike(length - 1)).toBe(true)
      }
    }
  })
})
