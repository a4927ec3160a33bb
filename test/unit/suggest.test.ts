import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { didYouMean, holding, nearest } from '../../src/bits/suggest.ts'

const CALLS = ['H_PUT_TCE', 'H_GET_TCE', 'H_STUFF_TCE', 'H_PUT_TCE_INDIRECT', 'read', 'write', 'x']

describe('did you mean', () => {
  it.each([
    ['H_PUT_TCEE', 'H_PUT_TCE'],
    ['h_put_tce', 'H_PUT_TCE'],
    ['H_PTU_TCE', 'H_PUT_TCE'],
    ['H_STUF_TCE', 'H_STUFF_TCE'],
    ['H_PUT_TCE_INDRIECT', 'H_PUT_TCE_INDIRECT'],
    ['wirte', 'write'],
    ['raed', 'read'],
    ['y', 'x'],
  ])('%s: %s', (word, meant) => {
    expect(nearest(word, CALLS)).toBe(meant)
    expect(didYouMean(word, CALLS)).toBe(` (did you mean "${meant}"?)`)
  })

  it.each(['mumble', 'H_ENTER', 'zzzz', '', 'q'.repeat(500)])('nothing for "%s"', (word) => {
    expect(didYouMean(word, ['H_PUT_TCE', 'write'])).toBe('')
    expect(didYouMean(word, [])).toBe('')
  })

  it.each<[string, string[]]>([
    ['tce', ['H_PUT_TCE', 'H_GET_TCE', 'H_STUFF_TCE', 'H_PUT_TCE_INDIRECT']],
    ['put-tce', ['H_PUT_TCE', 'H_PUT_TCE_INDIRECT']],
    ['h_indirect', ['H_PUT_TCE_INDIRECT']],
    ['H_REMOVE_TCE', []],
  ])('every part of %s', (word, known) => {
    expect(holding(word, CALLS)).toEqual(known)
  })

  it('finds a known word after one edit of any kind, and the word itself first', () => {
    const letters = fc.string({ unit: fc.constantFrom(...'abcdefgh'), minLength: 4, maxLength: 12 })
    fc.assert(
      fc.property(
        letters,
        fc.nat(11),
        fc.constantFrom('insert', 'drop', 'replace', 'swap'),
        (word, place, edit) => {
          const at = place % (word.length - 1)
          const [head, here, next, tail] = [word.slice(0, at), word[at]!, word[at + 1]!, word.slice(at + 2)]
          const typo = {
            insert: `${head}z${here}${next}${tail}`,
            drop: `${head}${next}${tail}`,
            replace: `${head}z${next}${tail}`,
            swap: `${head}${next}${here}${tail}`,
          }[edit]
          const known = ['Q'.repeat(word.length), `${word}zz`, word]
          expect(nearest(typo, [known[0]!, word])).toBe(word)
          expect(nearest(word, known)).toBe(word)
        },
      ),
    )
  })
})
