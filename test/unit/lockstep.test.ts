import { describe, expect, it } from 'vitest'
import { formatAgentScript } from '../../src/machine/lockstep/agent-script.ts'
import { compareScript, smallest } from '../../src/machine/lockstep/compare.ts'
import { compareAll, isEqual } from '../../src/machine/lockstep/comparison.ts'
import { comparisonJson, comparisonText } from '../../src/machine/lockstep/comparison-report.ts'
import { ModelPeer } from '../../src/machine/lockstep/model-peer.ts'
import { randomScript } from '../../src/machine/lockstep/random-script.ts'
import { changedPeer, GROUPS, PEER_HEAD, scriptOf } from '../support/lockstep.ts'

const plain = (text: string): string => text
const PAINT = { bold: plain, dim: plain, red: plain, green: plain, yellow: plain, cyan: plain }
const KERNEL = new ModelPeer(PEER_HEAD)
const RIGHT = new ModelPeer(PEER_HEAD, 'intended')

function* scripts(seed: number, count: number, dmaEvery = 5) {
  for (let number = 0; number < count; number++)
    yield randomScript({ seed, groups: GROUPS, dmaEvery }, number)
}

describe('a peer that answers as the model does', () => {
  it('has no difference', async () => {
    const result = await compareAll(KERNEL, scripts(1, 8), { differencesMax: 1 })
    expect(isEqual(result)).toBe(true)
    expect(result.equal + result.unjudged + result.notRun).toBe(result.commands)
    expect(result.equal).toBeGreaterThan(350)
    expect(result.unjudged).toBeLessThan(100)
  })

  it('a process that dies dies on both sides', async () => {
    const script = scriptOf(['vmlck', 'peek 0x100000000 4', 'vmlck'])
    const { equal, notRun, differences } = await compareScript(KERNEL, script)
    expect({ equal, notRun, differences }).toEqual({ equal: 1, notRun: 2, differences: [] })
  })
})

describe('the host below the kernel', () => {
  // As Linux 6.12.95 answered on QEMU's powernv9 with 2 GiB of memory.
  it.each([
    [13, '-1 EINVAL'],
    [2, '0'],
  ])("has windows of the kernel's own as long as its memory: %i GiB behind one", async (entries, answer) => {
    const made = ['group 0', 'kvm', 'vm 0', `tce64 0x80000000 30 0x0 ${entries}`, 'vfiodev', 'vfioadd 0']
    const said = await KERNEL.run(scriptOf([...made, 'vfiotce 0 0']))
    expect(said).toContain(`vfiotce 0 0 => ${answer}\n`)
  })
})

describe('a planted fault', () => {
  const REGISTERED = [
    'open 0',
    'group 0',
    'attach 0',
    'iommu 7',
    'anon 0x100000000 0x100000 0x41',
    'register 0x100000000 0x100000',
  ]
  const GUEST = [
    'anon 0x500000000 0x100000',
    'kvm',
    'vm 0',
    'ram 0x100000 0x500000000',
    'vcpu',
    'hcall_enable 0x138 1',
    'hcall_enable 0x13c 1',
    'tce64 0x80000000 16 0 0x10',
    'tcepoke 0 0xf 0x77',
  ]
  /** The model without an erratum is a model with a fault: each shows, with the smallest script. */
  it.each([
    [
      'X1',
      [...REGISTERED, 'map 0x10000 0x100000000 0x10000', 'unregister 0x100000000 0x100000'],
      'unregister: 0 against EBUSY',
    ],
    [
      'X10',
      ['open 0', 'group 0', 'attach 0', 'iommu 7', 'create 16 0x10000000000 1', 'vmlck'],
      'vmlck: 0 with other VmLck',
    ],
    ['iova-check-returns-1', [...REGISTERED, 'unmap 0x800 0x1000'], 'unmap: a number against EINVAL'],
    [
      'X14 of KVM',
      [...GUEST, 'hcall 0x138 0x80000000 0xf0000 0x0 0x2', 'tcedump 0 0xe 2'],
      'hcall 0x138: 0 against -4 (ioba-outside)',
    ],
    [
      'X2',
      [
        ...GUEST,
        'gpoke64 0x30000 0x40000003',
        'gpoke64 0x30000 0x40000000',
        'hcall 0x13c 0x80000000 0x0 0x30000 0x1',
      ],
      'hcall 0x13c: -4 against 0 (done)',
    ],
  ])('%s is found in noise, and nothing can be left out', async (_id, needed, kind) => {
    const noise = [
      'vmlck',
      'info',
      'ext 7',
      'groupstatus 0',
      'anon 0x200000000 0x10000 0x11',
      'version',
      'use 0',
    ]
    const noisy = needed.flatMap((line, i) => [...(i % 2 === 0 ? [noise[i % noise.length]!] : []), line])
    const compared = await compareScript(KERNEL, scriptOf(noisy), { profile: 'intended' })
    const found = await smallest(KERNEL, compared, { profile: 'intended' })
    expect(found?.kind).toContain(kind)
    expect(found?.isMinimal).toBe(true)
    const small = found!.script.commands
    const fails = async (commands: typeof small) =>
      (await compareScript(KERNEL, { name: 'x', commands }, { profile: 'intended' })).differences.length > 0
    expect(await fails(small)).toBe(true)
    for (const i of small.keys()) expect(await fails(small.toSpliced(i, 1))).toBe(false)
    expect(small.length).toBeLessThanOrEqual(needed.length)
  })

  it('in KVM comes with what both sides see in the tables', async () => {
    const script = scriptOf([...GUEST, 'hcall 0x138 0x80000000 0xf0000 0x0 0x2'])
    const result = await compareAll(KERNEL, [script], { differencesMax: 1, profile: 'intended' })
    expect(result.differences[0]?.state.at(-1)?.command).toBe('tcedump 0 0x0 8')
  })

  it('is found by random commands, and the state of both sides is asked', async () => {
    const kinds: string[] = []
    const result = await compareAll(RIGHT, scripts(3, 60, 0), {
      differencesMax: 1,
      onDifference: (kind) => kinds.push(kind),
    })
    expect(result.differences.map((d) => d.kind)).toEqual(kinds)
    expect(kinds).toHaveLength(1)
    const [first] = result.differences
    expect(first?.state.map(({ command }) => command)).toEqual([
      'vmlck',
      'info',
      'groupstatus 0',
      'groupstatus 1',
    ])
    for (const { script, isMinimal } of result.differences) {
      expect(isMinimal).toBe(true)
      expect(script.commands.length).toBeLessThan(12)
    }
  })

  it('an answer that is wrong once, and not again, is said to be so', async () => {
    let isFirst = true
    const peer = changedPeer(KERNEL, (text) => {
      const changed = isFirst ? text.replace('VmLck=0kB', 'VmLck=64kB') : text
      isFirst = false
      return changed
    })
    const result = await compareAll(peer, [scriptOf(['vmlck'])], { differencesMax: 1 })
    expect(result.passing).toEqual(['vmlck: 0 with other VmLck (done)'])
    expect(isEqual(result)).toBe(false)
  })

  it('a process that dies where the model goes on is a difference', async () => {
    const peer = changedPeer(KERNEL, (text) => text.replace(/vmlck.*[\s\S]*$/, 'ORACLE script end rc=139\n'))
    const { differences } = await compareScript(peer, scriptOf(['open 0', 'version', 'vmlck', 'version']))
    expect(differences).toEqual([
      {
        line: 4,
        what: 'answer',
        call: 'vmlck',
        log: 'nothing: the process ended',
        model: '0 VmLck=0kB VmPin=0kB',
        rule: 'ended',
      },
    ])
  })

  it('bytes that a device moved elsewhere are a difference', async () => {
    const changed = changedPeer(KERNEL, (text) =>
      text.replace(/^(peek .* => 0 )(.)/m, (_all, asked, digit) => `${asked}${digit === '0' ? '1' : '0'}`),
    )
    const scriptsOfDevices = Array.from({ length: 4 }, (_, n) =>
      randomScript({ seed: 9, groups: GROUPS, dmaEvery: 1 }, n),
    )
    const kinds = new Set(
      scriptsOfDevices.map(({ commands }) => commands.some(({ name }) => name === 'hcall')),
    )
    expect(kinds.size).toBe(2)
    for (const script of scriptsOfDevices) {
      const { differences } = await compareScript(changed, script)
      expect(differences.map(({ call }) => call.split(' ', 1)[0])).toEqual(['peek'])
    }
  })
})

describe('the report', () => {
  it('shows both sides, the script and their state; the JSON has the same', async () => {
    const script = scriptOf([
      'open 0',
      'version',
      'group 0',
      'attach 0',
      'iommu 7',
      'create 16 0x10000000000 1',
      'vmlck',
    ])
    const result = await compareAll(KERNEL, [script], { differencesMax: 1, profile: 'intended' })
    const text = comparisonText(result, { peer: 'a kernel', seed: 4 }, PAINT)
    expect(text).toContain('difference: vmlck: 0 with other VmLck (done)')
    expect(text).toContain('script with 6 commands (nothing can be left out):')
    expect(text).toContain('    create 16 0x10000000000 1\n    vmlck\n')
    expect(text).toMatch(/answers differ\n$/)
    const json = JSON.parse(JSON.stringify(comparisonJson(result, { peer: 'a kernel', seed: 4 })))
    expect(json).toMatchObject({
      schema: 'iommulator/connect/1',
      seed: 4,
      commands: 7,
      equal: 6,
      differences: [{ command: 'vmlck', model: '0 VmLck=8192kB VmPin=0kB', isMinimal: true }],
    })
    expect(json.differences[0].script).toEqual(
      formatAgentScript(result.differences[0]!.script).trimEnd().split('\n'),
    )
  })

  it('says that nothing differs, and what was not judged', async () => {
    const peer = changedPeer(KERNEL, (text) => text.replace(/^# sh.*$/m, 'sh true => 0'))
    const result = await compareAll(peer, [scriptOf(['sh true', 'vmlck'])], { differencesMax: 1 })
    const text = comparisonText(result, { peer: 'a kernel' }, PAINT)
    expect(text).toMatch(
      /differences +0\n\nanswers that are not judged\n {2}a shell [\s\S]*no answer differs\n$/,
    )
  })
})
