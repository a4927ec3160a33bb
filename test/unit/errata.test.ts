import { describe, expect, it } from 'vitest'
import {
  compareVersions,
  declareErrata,
  type Erratum,
  inRange,
  resolveProfile,
} from '../../src/bits/errata.ts'

const erratum = (id: string, family: 'linux' | 'qemu', versions: Erratum['versions']): Erratum => ({
  id,
  title: 'A deviation.',
  kind: 'defect',
  family,
  versions,
  wrong: '',
  right: '',
  source: 'a test',
  evidence: 'source',
  scenario: 'x.yaml',
})
const ALL = declareErrata([
  erratum('B1', 'linux', [{ until: '4.18' }]),
  erratum('B2', 'linux', [{ since: '4.9', until: '6.1.192' }, { since: '6.5' }]),
  erratum('X1', 'linux', [{}]),
  erratum('Q1', 'qemu', [{ since: '7.2' }]),
])
const ids = (name: string) => resolveProfile(ALL, name).ids

describe('versions', () => {
  it.each([
    ['6.1', '6.1', 0],
    ['6.1', '6.1.0', 0],
    ['6.1.192', '6.1', 1],
    ['4.9', '4.18', -1],
    ['10.0', '9.9.9', 1],
    ['5', '5.0.1', -1],
  ])('%s against %s', (a, b, order) => {
    expect(Math.sign(compareVersions(a, b))).toBe(order)
    expect(Math.sign(compareVersions(b, a))).toBe(order === 0 ? 0 : -order)
  })

  it('lie in a range from its first to before its last', () => {
    const range = { since: '4.9', until: '6.1' }
    expect(['4.8.99', '4.9', '6.0.99', '6.1'].map((v) => inRange(v, range))).toEqual([
      false,
      true,
      true,
      false,
    ])
    expect(inRange('0.1', {})).toBe(true)
  })
})

describe('a profile', () => {
  it.each([
    ['intended', []],
    ['linux-6.1', ['B2', 'X1']],
    ['linux-6.1.192', ['X1']],
    ['linux-4.8', ['B1', 'X1']],
    ['linux-6.12', ['B2', 'X1']],
    ['qemu-7.2+linux-6.1.192', ['X1', 'Q1']],
    ['qemu-7.1', []],
    ['linux-6.1,-X1', ['B2']],
    ['linux-6.1 -x1 +b1', ['B1', 'B2']],
    ['intended+Q1', ['Q1']],
    ['B2+B1', ['B1', 'B2']],
  ])('%s', (name, expected) => {
    expect(ids(name)).toEqual(expected)
    const profile = resolveProfile(ALL, name)
    for (const { id } of ALL) expect(profile.has(id)).toBe(expected.includes(id as never))
    expect(profile.name).toBe(name)
  })

  it.each([
    ['qemu7.2', 'did you mean "qemu-7.2"'],
    ['linux-6.x', 'unknown profile'],
    ['linux-6.1-X1', 'unknown profile'],
    ['intnded', 'did you mean "intended"'],
    ['intended+B22', 'did you mean "B2"'],
    ['freebsd-14', 'known: intended, linux-VERSION'],
  ])('%s is refused', (name, words) => {
    expect(() => ids(name)).toThrow(expect.objectContaining({ code: 'ERR_PROFILE' }))
    expect(() => ids(name)).toThrow(words)
  })
})

describe('a declaration of errata', () => {
  const wrong = expect.objectContaining({ code: 'ERR_DECLARATION' })

  it('does not load with an id twice', () => {
    expect(() => declareErrata([erratum('A', 'linux', [{}]), erratum('A', 'qemu', [{}])])).toThrow(wrong)
  })

  it.each([
    [{ since: 'v6.1' }],
    [{ until: '6.x' }],
    [{ since: '' }],
    [{ since: '6.1', until: '6.1' }],
    [{ since: '7', until: '6.9' }],
  ])('does not load with the versions %j', (range) => {
    expect(() => declareErrata([erratum('A', 'linux', [range])])).toThrow(wrong)
  })
})
