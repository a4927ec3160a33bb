import { describe, expect, it } from 'vitest'
import { answerNumber, answerOf, dead, unmodelled } from '../../src/bits/answer.ts'
import { codesOf, declareCall, rulesOf } from '../../src/bits/call.ts'
import { CODE_FAMILIES, codeName, codeNumber } from '../../src/bits/codes.ts'

const base = {
  verb: 'hcall',
  family: 'hcall',
  layer: 'qemu',
  args: {},
  source: 'a test',
  doc: 'A call.',
} as const
const H_TEST = declareCall({
  ...base,
  name: 'H_TEST',
  answers: [
    { rule: 'bad', code: 'H_PARAMETER', when: 'It is bad.' },
    { rule: 'done', code: 'H_SUCCESS', when: 'It is good.' },
  ],
})
const wrong = expect.objectContaining({ code: 'ERR_DECLARATION' })

describe('a call', () => {
  it('knows the place and the code of each rule', () => {
    expect(rulesOf(H_TEST)).toEqual({ bad: 0, done: 1 })
    expect([...codesOf(H_TEST)]).toEqual([-4, 0])
    expect([Object.isFrozen(H_TEST), Object.isFrozen(rulesOf(H_TEST))]).toEqual([true, true])
  })

  it('does not load with a rule twice, or with a code of another family', () => {
    const [bad] = H_TEST.answers
    expect(() => declareCall({ ...base, name: 'X', answers: [bad, bad] })).toThrow(wrong)
    const foreign = [{ rule: 'bad', code: 'EINVAL' as 'H_BUSY', when: '' }] as const
    expect(() => declareCall({ ...base, name: 'X', answers: foreign })).toThrow(wrong)
  })

  it('answers with its words, and the layers before it', () => {
    const guest = { layer: 'guest', family: 'errno', code: 'OK', rule: 'asked' } as const
    const answer = answerOf(H_TEST, 0, { layers: [guest], outputs: { r4: 5n }, free: ['r4'] })
    expect(answer).toMatchObject({
      layer: 'qemu',
      code: 'H_PARAMETER',
      rule: 'bad',
      state: 'done',
      outputs: { r4: 5n },
    })
    expect(answer.layers.map((l) => l.code)).toEqual(['OK', 'H_PARAMETER'])
    expect([answerNumber(answer), answerNumber(guest)]).toEqual([-4, 0])
    expect(() => answerOf(H_TEST, 2)).toThrow('has no answer 2')
  })

  it('can be answered by nobody', () => {
    expect(unmodelled('no such thing')).toMatchObject({
      state: 'unmodelled',
      code: 'UNMODELLED',
      rule: 'no such thing',
    })
    expect(dead('assertion')).toMatchObject({ state: 'dead', code: 'DEAD', rule: 'assertion' })
  })
})

describe('codes', () => {
  it('have one number a name, and the first name of a number', () => {
    expect([codeNumber('errno', 'ENOMEM'), codeName('errno', -12), codeName('hcall', 0)]).toEqual([
      -12,
      'ENOMEM',
      'H_SUCCESS',
    ])
    expect(codeName('rtas', 99)).toBeUndefined()
    expect(() => codeNumber('errno', 'H_BUSY')).toThrow(wrong)
  })

  it.each(['hcall', 'rtas', 'errno', 'dma', 'model'] as const)('of %s have different numbers', (family) => {
    const numbers = Object.values(CODE_FAMILIES[family])
    expect(new Set(numbers).size).toBe(numbers.length)
  })
})
