import { describe, expect, it } from 'vitest'
import { shortened } from '../../src/machine/erratum-runs.ts'

describe('a difference of two runs, shortened', () => {
  const filler = 'x'.repeat(200)

  it('is as it is where it fits', () => {
    const same = 'a text of forty characters, and one mor'
    for (const texts of [
      { withIt: 'DROPPED', without: 'SUCCESS' },
      { withIt: `${same}e`, without: `${same}n` },
    ]) {
      expect(shortened(texts, 40)).toEqual(texts)
    }
  })

  it('is cut at its end where the texts part before', () => {
    const { withIt, without } = shortened({ withIt: `a${filler}`, without: `b${filler}` }, 40)
    expect([withIt, without]).toEqual([`a${'x'.repeat(39)}...`, `b${'x'.repeat(39)}...`])
  })

  it('shows the place where they part, also where one only goes on', () => {
    const { withIt, without } = shortened({ withIt: filler, without: `${filler}, and more` }, 40)
    expect(withIt).toBe(`...${'x'.repeat(24)}`)
    expect(without).toBe(`...${'x'.repeat(24)}, and more`)
  })
})
