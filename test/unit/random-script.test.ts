import { beforeAll, describe, expect, it } from 'vitest'
import { formatAgentScript, readAgentScripts } from '../../src/machine/lockstep/agent-script.ts'
import { ModelPeer } from '../../src/machine/lockstep/model-peer.ts'
import { randomScript } from '../../src/machine/lockstep/random-script.ts'
import { GROUPS, PEER_HEAD } from '../support/lockstep.ts'

const scripts = (seed: number, count: number, dmaEvery = 0) =>
  Array.from({ length: count }, (_, number) => randomScript({ seed, groups: GROUPS, dmaEvery }, number))

describe('random scripts', () => {
  it('are the same for the same seed and number, and others otherwise', () => {
    const texts = (seed: number) => scripts(seed, 30, 4).map(formatAgentScript)
    expect(texts(7)).toEqual(texts(7))
    expect(new Set([...texts(7), ...texts(8)]).size).toBe(60)
  })

  it('can be written and read again', () => {
    for (const script of scripts(3, 100, 5)) {
      const [again] = readAgentScripts(formatAgentScript(script), script.name)
      expect(formatAgentScript(again!)).toBe(formatAgentScript(script))
    }
  })

  describe('on the model', () => {
    const peer = new ModelPeer(PEER_HEAD)
    const seen = new Map<string, number>()
    const texts: string[] = []
    beforeAll(() => {
      for (const script of scripts(1, 70, 10)) {
        const text = peer.write(script)
        texts.push(text)
        for (const [, name, value] of text.matchAll(/^(\w+).* => (-1 \w+|0)/gm)) {
          const key = `${name} ${value}`
          seen.set(key, (seen.get(key) ?? 0) + 1)
        }
      }
    }, 60_000)

    it('reach every call', () => {
      const missing = [
        ...[
          'open',
          'use',
          'close',
          'group',
          'groupstatus',
          'attach',
          'detach',
          'groupclose',
          'iommu',
          'enable',
        ],
        ...['disable', 'info', 'register', 'unregister', 'create', 'remove', 'map', 'unmap', 'device', 'dma'],
        ...['anon', 'unmapmem', 'vmlck', 'rlimit', 'dropcap', 'poke', 'peek', 'ext', 'version'],
      ].filter((name) => !seen.has(`${name} 0`))
      expect(missing).toEqual([])
      // Most mappings are more than a question about the first check.
      expect(seen.get('map 0')).toBeGreaterThan(150)
    })

    it('reach its refusals', () => {
      const missing = [
        ...['register -1 EINVAL', 'register -1 EBUSY', 'register -1 ENOMEM', 'register -1 EFAULT'],
        ...['unregister -1 ENOENT', 'unregister -1 EINVAL', 'unregister -1 EPERM'],
        ...[
          'create -1 EINVAL',
          'create -1 ENOSPC',
          'create -1 ENOMEM',
          'create -1 ENOTTY',
          'remove -1 EINVAL',
        ],
        ...[
          'map -1 EINVAL',
          'map -1 ENXIO',
          'map -1 EPERM',
          'map -1 EFAULT',
          'map -1 ENOMEM',
          'unmap -1 EINVAL',
        ],
        ...['unmap -1 ENXIO', 'attach -1 EINVAL', 'attach -1 EBADF', 'group -1 EBUSY'],
        ...['enable -1 EBUSY', 'enable -1 ENOTTY', 'iommu -1 EINVAL', 'info -1 EINVAL'],
      ].filter((key) => !seen.has(key))
      expect(missing).toEqual([])
    })

    it('never ask a kernel to write past a table', () => {
      expect(texts.filter((text) => text.includes('past the table'))).toEqual([])
    })
  })
})
