import { describe, expect, it } from 'vitest'
import { shortened } from '../../src/machine/erratum-runs.ts'

describe('a difference of two runs, shortened', () => {
  const filler = 'x'.repeat(200)

  it('is as it is where it fits', () => {
    expect(shortened({ withIt: 'DROPPED', without: 'SUCCESS' }, 72)).toEqual({
      withIt: 'DROPPED',
      without: 'SUCCESS',
    })
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
