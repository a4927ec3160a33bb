import { beforeAll, describe, expect, it } from 'vitest'
import { createReplay } from '../../src/machine/replay/log-replay.ts'
import type { ReplayResult } from '../../src/machine/replay/result.ts'
import { VHOST_COMMANDS } from '../../src/reader/kernel-answers-vhost.ts'
import { vhostAnswers } from '../log-rows.ts'

/** What vhost-net of Linux 6.12.95 answered, recorded by `iommulator connect kernel --record`. */
describe('the answers of a real vhost-net', () => {
  let text = ''
  const replay = (transcript: string, profile?: string): ReplayResult => {
    const run = createReplay({
      from: 'kernel-answers',
      source: 'kernel-vhost',
      bare: true,
      ...(profile !== undefined && { profile }),
    })
    run.push(Buffer.from(transcript, 'latin1'))
    return run.end()
  }
  beforeAll(async () => {
    text = Buffer.from(await vhostAnswers()).toString('latin1')
  })

  it('are those of the model: ioctls, messages, and what queues do behind them', () => {
    const { answers, divergences, unjudged, log } = replay(text)
    expect(divergences).toEqual([])
    expect(answers).toEqual({ total: 2000, matched: 1999, diverged: 0, unjudged: 1 })
    expect(unjudged.map(({ why }) => why)).toEqual(['a read of a vhost device that waits'])
    expect([log.damaged.count, log.unknown]).toEqual([0, []])
  })

  it('are of every command, and of every errno that vhost has but for want of memory', () => {
    const names = new Set([...text.matchAll(/^(\w+) .* => /gm)].map((m) => m[1]))
    expect(Object.keys(VHOST_COMMANDS).filter((name) => !names.has(name))).toEqual([])
    const errnos = (name: string) =>
      [...new Set([...text.matchAll(new RegExp(`^${name} .* => -1 (\\w+)`, 'gm'))].map((m) => m[1]))]
        .sort()
        .join(' ')
    expect(errnos('vhmem')).toBe('E2BIG EFAULT EOPNOTSUPP EPERM')
    expect(errnos('vhnum')).toBe('EBUSY EINVAL ENOBUFS EPERM')
    expect(errnos('vhaddr')).toBe('EINVAL ENOBUFS EOPNOTSUPP EPERM')
    expect(errnos('vhkick')).toBe('EBADF EINVAL ENOBUFS EPERM')
    expect(errnos('vhbackend')).toBe('EFAULT ENOBUFS ENOTSOCK EPERM')
    expect(errnos('vhmsg')).toBe('EBADF EFAULT EINVAL')
    expect(errnos('vhread')).toBe('EAGAIN EBADF EBADFD EINTR')
    expect(errnos('forked vhowner')).toBe('EBUSY')
  })

  it('show the errata of this kernel', () => {
    const calls = (erratum: string) =>
      replay(text, `linux-6.12.95,-${erratum}`).divergences.map(({ call }) => call.split(' ', 1)[0])
    expect(calls('vhost-no-ring-reset')).toEqual([])
    expect(calls('vhost-no-buffer-count')).toContain('peek')
    expect(calls('vhost-stale-metadata').length).toBeGreaterThan(0)
  })

  it('show what changed before this kernel', () => {
    const calls = (erratum: string) =>
      replay(text, `linux-6.12.95,${erratum}`).divergences.map(({ call }) => call.split(' ', 1)[0])
    expect(calls('vhost-no-ring-reset')).toEqual(expect.arrayContaining(['vhfeatures', 'vhsetfeatures']))
    expect(calls('vhost-late-wake').length).toBeGreaterThan(0)
    expect(calls('vhost-empty-update')).toContain('vhmsg')
    expect(calls('vhost-empty-invalidate')).toContain('vhmsg')
    expect(calls('vhost-keeps-messages')).toContain('vhpoll')
  })

  it('are seen to be others: an errno, a message, a byte of a ring, a count of signals, a frame', () => {
    const changed = text
      .replace(/^(vhaddr .* => -1) EOPNOTSUPP$/m, '$1 EINVAL')
      .replace(/^(vhread 0 72 => 72 0[12]0000000000000000000020)0/m, '$11')
      .replace(/^(peek 0x100010100 36 => 0 0000)01/m, '$102')
      .replace(/^(evcount 4 => 0 count=)1$/m, '$12')
      .replace(/^(collect 2 => 60 ff)ff/m, '$1fe')
      .replace(/^(forked vhreset 0 => -1) EPERM$/m, '$1 EBUSY')
    const { divergences } = replay(changed)
    expect(divergences.map(({ call }) => call.split(' ', 1)[0]).sort()).toEqual([
      'collect',
      'evcount',
      'forked',
      'peek',
      'vhaddr',
      'vhread',
    ])
  })
})
