import { beforeAll, describe, expect, it } from 'vitest'
import { createReplay } from '../../src/machine/replay/log-replay.ts'
import type { ReplayResult } from '../../src/machine/replay/result.ts'
import { ioctlAnswers } from '../log-rows.ts'

/** What Linux 6.12.95 answered to ioctls by number on files of KVM and VFIO, recorded by `iommulator connect kernel --record`. */
describe('the answers of a real kernel to ioctls by number', () => {
  let text = ''
  const replay = (transcript: string): ReplayResult => {
    const run = createReplay({ from: 'kernel-answers', source: 'kernel-ioctls', bare: true })
    run.push(Buffer.from(transcript, 'latin1'))
    return run.end()
  }
  beforeAll(async () => {
    text = Buffer.from(await ioctlAnswers()).toString('latin1')
  })

  it('are those of the model, all of them', () => {
    const { answers, divergences, log } = replay(text)
    expect(divergences).toEqual([])
    expect(answers).toEqual({ total: 137, matched: 137, diverged: 0, unjudged: 0 })
    expect([log.damaged.count, log.unknown]).toEqual([0, []])
  })

  it('are of every file and of every errno that a file may refuse with', () => {
    const refused = (file: string) =>
      [...new Set([...text.matchAll(new RegExp(`^rawioctl ${file} .* => -1 (\\w+)`, 'gm'))].map((m) => m[1]))]
        .sort()
        .join(' ')
    expect(refused('kvm')).toBe('EINVAL')
    expect(refused('vm')).toBe('EBADF EBUSY EFAULT ENODEV ENOTTY')
    expect(refused('vcpu')).toBe('EBADF EINVAL')
    expect(refused('vfio')).toBe('EBADF EFAULT ENOTTY ENXIO EPERM')
    expect([refused('tce'), refused('container')]).toEqual(['ENOTTY', 'ENOTTY'])
  })

  it('are seen to be others', () => {
    const changed = text
      .replace('rawioctl vm 0x2000ae77 0x0 => -1 ENOTTY', 'rawioctl vm 0x2000ae77 0x0 => -1 EINVAL')
      .replace('rawioctl vfio 0x8018aee2 0x0 => -1 EPERM', 'rawioctl vfio 0x8018aee2 0x0 => -1 EFAULT')
      .replace('rawioctl kvm 0x2000ae03 0x3f => 1', 'rawioctl kvm 0x2000ae03 0x3f => 0')
    expect(replay(changed).divergences).toHaveLength(3)
  })
})
