import { beforeAll, describe, expect, it } from 'vitest'
import { formatAgentScript, readAgentScripts } from '../../src/machine/lockstep/agent-script.ts'
import { ModelPeer } from '../../src/machine/lockstep/model-peer.ts'
import { randomScript } from '../../src/machine/lockstep/random-script.ts'
import { createReplay } from '../../src/machine/replay/log-replay.ts'
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
    /** Answers by command and how they begin; of hypercalls with their number. */
    const seen = new Map<string, number>()
    const texts: string[] = []
    beforeAll(() => {
      for (const script of scripts(1, 140, 10)) {
        const text = peer.write(script)
        texts.push(text)
        for (const [, name, args, answer] of text.matchAll(/^(\w+)(.*) => (.*)$/gm)) {
          const isCall = name === 'hcall'
          const value = /EXIT-TO-USER/.exec(answer!)?.[0] ?? /^-1 \w+|^-?\d+|^\?/.exec(answer!)?.[0]
          const key = `${isCall ? `hcall ${args!.split(' ')[1]}` : name} ${value}`
          seen.set(key, (seen.get(key) ?? 0) + 1)
        }
      }
    }, 120_000)
    const missing = (keys: readonly string[]) => keys.filter((key) => !seen.has(key))
    /** Which part of a command's answers is 0. */
    const share = (name: string): number => {
      const all = [...seen].filter(([key]) => key.startsWith(`${name} `))
      return (seen.get(`${name} 0`) ?? 0) / all.reduce((sum, [, count]) => sum + count, 0)
    }

    it('reach every call', () => {
      const names = [
        'open use close group groupstatus attach detach groupclose iommu enable disable info register unregister',
        'create remove map unmap device dma anon unmapmem vmlck rlimit dropcap poke peek ext version eeh',
        'kvm vm radix ram slot vcpu vmclose vcpuclose hcall_enable tce64 tce32 tceclose tceunmap tcepoke tcedump',
        'vfiodev vfioclose vfioadd vfiodel vfiotce gpoke64',
      ].flatMap((line) => line.split(' '))
      expect(missing(names.map((name) => `${name} 0`))).toEqual([])
      expect(missing(['kvmcap 0', 'kvmcap 1', 'vmcap 1'])).toEqual([])
    })

    it('reach their refusals', () => {
      const refusals: Readonly<Record<string, string>> = {
        register: 'EINVAL EBUSY ENOMEM EFAULT',
        unregister: 'ENOENT EINVAL EPERM',
        create: 'EINVAL ENOSPC ENOMEM ENOTTY',
        remove: 'EINVAL',
        map: 'EINVAL ENXIO EPERM EFAULT ENOMEM',
        unmap: 'EINVAL ENXIO',
        attach: 'EINVAL EBADF',
        group: 'EBUSY',
        enable: 'EBUSY ENOTTY',
        iommu: 'EINVAL',
        info: 'EINVAL',
        eeh: 'EINVAL ERANGE EIO',
        vm: 'EINVAL',
        vcpu: 'EINVAL',
        slot: 'EINVAL EEXIST',
        hcall_enable: 'EINVAL',
        tce64: 'EINVAL EBUSY ENOMEM',
        tce32: 'EINVAL EBUSY',
        vfiodev: 'EBUSY',
        vfioadd: 'EBADF EEXIST',
        vfiodel: 'EBADF ENOENT',
        vfiotce: 'EBADF ENOENT EINVAL',
      }
      const keys = Object.entries(refusals).flatMap(([name, codes]) =>
        codes.split(' ').map((code) => `${name} -1 ${code}`),
      )
      expect(missing(keys)).toEqual([])
    })

    it('reach every way in which a hypercall ends', () => {
      const ends = ['0x20', '0x1c', '0x138', '0x13c'].flatMap((nr) =>
        ['0', '-4', 'EXIT-TO-USER'].map((code) => `hcall ${nr} ${code}`),
      )
      expect(missing(ends)).toEqual([])
    })

    it('are more than questions about the first check', () => {
      expect(seen.get('map 0')).toBeGreaterThan(150)
      expect(share('hcall 0x20')).toBeGreaterThan(0.55)
      expect(share('hcall 0x1c')).toBeGreaterThan(0.65)
      expect(share('hcall 0x138')).toBeGreaterThan(0.55)
      expect(share('hcall 0x13c')).toBeGreaterThan(0.4)
      expect(share('tce64')).toBeGreaterThan(0.6)
      expect(share('vfiotce')).toBeGreaterThan(0.4)
      expect(share('tcedump')).toBeGreaterThan(0.85)
    })

    it('never ask a kernel to write past a table, and never stop one; they leave enough behind', () => {
      const of = (word: string) => texts.filter((text) => text.includes(word))
      expect([of('past the table'), of('stopped'), of('too much')]).toEqual([[], [], []])
      const rules = new Set<string>()
      for (const text of texts.slice(0, 36)) {
        const replay = createReplay({ from: 'kernel-answers', source: 'random' })
        replay.push(Buffer.from(PEER_HEAD + text, 'latin1'))
        const { findings, divergences } = replay.end()
        expect(divergences).toEqual([])
        for (const { rule } of findings) rules.add(rule)
      }
      expect([...rules]).not.toEqual(expect.arrayContaining(['host-memory-corruption']))
      expect([...rules]).not.toEqual(expect.arrayContaining(['out-of-table']))
      expect([...rules]).toEqual(
        expect.arrayContaining(['leak-pin', 'range-mismatch', 'table-reference-leak', 'orphaned-region']),
      )
    }, 120_000)
  })
})
