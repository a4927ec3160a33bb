import { describe, expect, it } from 'vitest'
import type { ReplayResult } from '../../src/machine/replay/result.ts'
import { replayLines } from '../support/transcript.ts'

const judged = (r: ReplayResult) => ({
  matched: r.answers.matched,
  diverged: r.divergences.map((d) => `${d.call} => ${d.model}`),
  unjudged: r.unjudged.map((u) => `${u.count} ${u.why}`),
})
const REFUSED = '? unknown command'
const RING = [
  'vhopen 0 => 0',
  'anon 0x100000000 0x100000 0 => 0',
  'vhowner 0 => 0',
  'vhmem 0 1 0x0 0x0 0x100000 0x100000000 => 0',
  'vhsetfeatures 0 0x100000000 => 0',
  'tap 2 => 0',
  'eventfd 3 0 => 0',
  'vhkick 0 1 3 => 0',
  'vhnum 0 1 4 => 0',
  'vhaddr 0 1 0 0x100010000 0x100010100 0x100010080 => 0',
  'vhbackend 0 1 2 => 0',
]

describe('commands about vhost', () => {
  it('are refused where the program has no room, no tap, or no bytes', () => {
    const lines = [
      'vhopen 8',
      'vhowner 9',
      'eventfd 8 0',
      'deliver 2 00',
      'collect 0',
      'vhwrite 0 0',
      'vhwrite 0 XX',
      'vhread 0 4097',
      'bytes 0x100000000 0',
    ].map((line) => `${line} => ${REFUSED}`)
    expect(judged(replayLines(lines)).diverged).toEqual([])
    const taken = judged(replayLines(['vhopen 8 => 0', 'vhread 0 4097 => -1 EBADF']))
    expect(taken.diverged).toEqual([`vhopen 8 => ${REFUSED}`, `vhread 0 4097 => ${REFUSED}`])
  })

  it('of a child act on its memory and the same files; what a child would keep is not known', () => {
    const lines = [
      'vhopen 0 => 0',
      'vhowner 0 => 0',
      'forked vhreset 0 => -1 EPERM',
      'forked vhowner 0 => -1 EBUSY',
      'forked vhopen 1 => 0',
      'forked nothing => 0',
    ]
    expect(judged(replayLines(lines))).toEqual({
      matched: 4,
      diverged: [],
      unjudged: ['1 a child that keeps something', '1 a command of a child that is not declared'],
    })
  })

  it('leave in doubt what a queue did that the model does not have', () => {
    const lines = [
      ...RING,
      'bytes 0x100010000 00000200000000000b00000000000000 => 0',
      'bytes 0x100010080 000001000000 => 0',
      'evsignal 3 => 0',
      'vhgetbase 0 1 => 0 num=9',
      'peek 0x100010100 4 => 0 ffffffff',
    ]
    const { matched, diverged, unjudged } = judged(replayLines(lines))
    expect([matched, diverged]).toEqual([RING.length + 2, []])
    expect(unjudged).toEqual([
      '1 a worker that takes a frame without its whole header, over and over',
      '1 rests on the devices of vhost, not known since evsignal',
      '1 rests on the contents of memory, not known since evsignal',
    ])
  })
})
