import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { planQ35 } from '../../src/machine/lockstep/scenario/q35-plan.ts'
import { formatVtdUnit } from '../../src/machine/lockstep/vtd-unit-options.ts'
import { installVtd } from '../support/fake-vtd.ts'
import { scenarioOf } from '../support/scenarios.ts'
import { run } from './run.ts'

/** The registers of QEMU 7.2 after a reset, with the default unit of scenarios. */
const RESET = [
  [0x00, '0x10n'],
  [0x08, '0xd2008c22260206n'],
  [0x10, '0xf00f4an'],
  [0x38, '0x80000000n'],
  [0xa0, '0x80000000n'],
]
  .map(([at, value]) => `write(0xfed90000 + ${at}, word(${value}, ${at === 8 ? 8 : 4}));`)
  .join('')
const SEED = `if (!memory.isSeeded) { memory.isSeeded = true; ${RESET} }`
const MACHINE = `  kind: q35
  profile: qemu-7.2.22
  ram: 64 MiB
  iommu: { driver: none }
  devices:
    - { name: disk, kind: edu, slot: 3 }
    - { name: nic, kind: edu, bus: 1, slot: 0 }
`
const STEPS = [
  '{ mem: write, args: { address: 0x100000, words: [0x1122334455667788] }, expect: OK }',
  '{ dma: read, args: { device: disk, iova: 0x100002, bytes: 4 }, expect: { outputs: { data: 3DUf, moved: 4 } } }',
  '{ dma: write, args: { device: nic, iova: 0x200000, data: abcd }, expect: MEMTX_OK }',
  '{ mem: read, args: { address: 0x200000, bytes: 4 }, expect: { outputs: { data: abcd } } }',
  '{ mmio: read, args: { device: vtd0, offset: 0x8, bytes: 8 }, expect: { outputs: { value: 0xd2008c22260206 } } }',
  '{ mmio: write, args: { device: vtd0, offset: 0x40, value: 0xfee00000 }, expect: MEMTX_OK }',
]
const text = (machine: string, steps: readonly string[]): string =>
  `version: 1\ntitle: a test\nmachine:\n${machine}steps:\n${steps.map((step) => `  - ${step}\n`).join('')}`

let folder = ''
const path = (name: string): string => join(folder, name)
const write = (name: string, content: string): string => {
  writeFileSync(path(name), content)
  return path(name)
}
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iommulator-test-'))
  vi.stubEnv('PATH', folder)
})
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(folder, { recursive: true })
})
const connect = (qemu: string, ...rest: readonly string[]) =>
  run(['connect', 'qemu-vtd', '--qemu', qemu, ...rest])

describe('connect qemu-vtd SCENARIO', () => {
  it('holds the answers of QEMU against the model and what is expected, on a machine of its own', async () => {
    const argv = JSON.stringify(path('argv'))
    const qemu = installVtd(
      folder,
      '7.2.22',
      `${SEED} require('fs').writeFileSync(${argv}, process.argv.join(' '))`,
    )
    const file = write('one.yaml', text(MACHINE, STEPS))
    const { code, out } = await connect(qemu, file, '--record', path('said.txt'))
    expect(out).toMatch(/^peer +QEMU's intel-iommu \(7\.2\.22\)$/m)
    expect(out).toMatch(/^steps +6 done, 0 left out$/m)
    expect(out).toMatch(/^expected +3 kept, 0 on the scenario's own machine only, 0 not kept$/m)
    expect(out).toMatch(/no answer differs\n$/)
    expect(code).toBe(0)
    const args = readFileSync(path('argv'), 'utf8')
    expect(args).toContain(
      'intel-iommu,aw-bits=39,caching-mode=off,device-iotlb=off,intremap=on,snoop-control=off ',
    )
    expect(args.match(/edu,addr=\S+?multi/g)).toEqual(['edu,addr=3.0,multi', 'edu,addr=0.0,bus=bridge,multi'])
    const said = readFileSync(path('said.txt'), 'utf8')
    expect(said).toMatch(/^script one legacy,aw39,ir edu0=0x18,edu1=0x100$/m)
    // A recording is a script that runs again.
    const again = await connect(qemu, path('said.txt'))
    expect(again.code).toBe(0)
    expect(again.out).toMatch(/^differences +0$/m)
  })

  it('shows the step that is answered otherwise, with its place, and ends with 1', async () => {
    const qemu = installVtd(
      folder,
      '7.2.22',
      `${SEED} if (name === 'readq' && at === 0xfed90008) return 'OK 0x1'`,
    )
    const file = write('one.yaml', text(MACHINE, STEPS))
    const { code, out, err } = await connect(qemu, file, file)
    expect(code).toBe(1)
    expect(err).toContain(`${file} differs: look CAP: other values; making its script smaller\n`)
    expect(out).toMatch(/^scenarios +1; 1 not run \(--most\)$/m)
    expect(out).toContain(`${file}:16: step 5 shows it first\n`)
    expect(out).toContain('  on the machine of: script one legacy,aw39,ir edu0=0x18,edu1=0x100\n')
    expect(out).toContain(`${file}:16: step 5: value 1, not 0xd2008c22260206`)
    expect(out).toMatch(/not all is as expected\n$/)
    const json = await connect(qemu, file, '--json')
    expect(JSON.parse(json.out)).toMatchObject({
      schema: 'iommulator/connect-scenarios/1',
      isAsExpected: false,
      scenarios: [
        {
          difference: {
            step: 'look 0x8 8',
            scenarioStep: 5,
            line: 16,
            isMinimal: true,
            devices: { edu0: 0x18, edu1: 0x100 },
          },
        },
      ],
    })
  })

  it('an expectation that nobody keeps ends with 1; what a device has read is seen at the end', async () => {
    const qemu = installVtd(folder, '7.2.22', SEED)
    const steps = STEPS.map((step) => step.replace('3DUf', '3DUg'))
    const file = write('one.yaml', text(MACHINE, steps))
    const { code, out } = await connect(qemu, file)
    expect(code).toBe(1)
    expect(out).toContain(`expected, and not so\n  ${file}:13: step 2: data 3DUf, not 3DUg`)
  })

  it('what it cannot do is said with its place before anything starts', async () => {
    const qemu = installVtd(folder, '7.2.22', "process.stderr.write('started'); process.exit(1)")
    const file = write('one.yaml', text(MACHINE, [...STEPS, '{ tick: advance, args: { ticks: 1 } }']))
    const { code, out, err } = await connect(qemu, file)
    expect({ code, out }).toEqual({ code: 3, out: '' })
    expect(err).toBe(
      `iommulator: the qemu-vtd peer cannot do this:\n${file}:18: step 7, tick advance: the peer has no step for tick advance\n--partial does the others, and counts these\n`,
    )
    const other = await connect(qemu, 'scenarios/tour/one-dma.yaml', '--partial')
    expect(other.err).toMatch(
      /one-dma\.yaml:\d+: a machine of kind pseries: iommulator connect qemu-pseries\n/,
    )
    const partial = await connect(installVtd(folder, '7.2.22', SEED), file, '--partial')
    expect(partial.code).toBe(0)
    expect(partial.out).toMatch(/^steps +6 done, 1 left out$/m)
  })

  it('what stands side by side is among that: no peer has lanes', async () => {
    const qemu = installVtd(folder, '7.2.22', "process.stderr.write('started'); process.exit(1)")
    const lanes =
      'concurrent:\n  a: [{ tick: advance, args: { ticks: 1 } }]\nafter:\n  - { tick: advance, args: { ticks: 1 } }\n'
    const file = write('one.yaml', `${text(MACHINE, STEPS).trimEnd()}\n${lanes}`)
    const { code, out, err } = await connect(qemu, file)
    expect({ code, out }).toEqual({ code: 3, out: '' })
    expect(err).toBe(
      `iommulator: the qemu-vtd peer cannot do this:\n${file}:19: concurrent.a: a peer takes no steps side by side\n${file}:21: after: it comes behind what is side by side\n--partial does the others, and counts these\n`,
    )
  })
})

describe('a plan for the VT-d peer', () => {
  const planOf = (machine: string, ...steps: readonly string[]) =>
    planQ35(scenarioOf(machine.trimEnd(), ...steps), 'test', '7.2.22')
  const NOTHING = '{ mmio: read, args: { device: vtd0, offset: 0 } }'

  it.each([
    ['driver: none', 'legacy,aw39,ir'],
    ['driver: none, awBits: 48, cachingMode: true, deviceIotlb: true', 'legacy,aw48,cm,dt,ir'],
    ['driver: none, snoopControl: true', 'legacy,aw39,ir,sc'],
    ['driver: none, preset: qemu-no-intremap', 'legacy,aw39'],
    ['driver: none, preset: qemu-48', 'legacy,aw48,ir'],
    ['driver: none, preset: qemu-scalable', 'scalable,aw39,ir'],
  ])('{ %s } is the unit %s', (iommu, unit) => {
    const { script, leftOut } = planOf(MACHINE.replace('driver: none', iommu), NOTHING)
    expect(leftOut).toEqual([])
    expect(formatVtdUnit(script.unit)).toBe(unit)
  })

  it.each([
    ['driver: none', 'driver: legacy', 'iommu', /no kernel that drives the unit/],
    [
      'driver: none',
      'driver: none, cap: 0xd2008c22260207',
      'iommu',
      /^no options give the unit of QEMU 7\.2\.22 CAP 0xd2008c22260207, /,
    ],
    [
      'driver: none',
      'driver: none, preset: qemu-first-level',
      'iommu',
      /^QEMU 7\.2\.22 has no first-level tables/,
    ],
    ['driver: none', 'driver: none, hostAddressBits: 48', 'iommu', /and addresses of 48 bits$/],
    ['64 MiB', '128 MiB', 'ram', /^the peer has 64 MiB of memory$/],
    ['  devices:', '  virtio: [{ name: net9, bus: 2 }]\n  devices:', 'virtio', /no virtio devices$/],
    ['kind: edu, slot: 3', 'kind: endpoint, slot: 3', 'devices', /QEMU's edu$/],
    ['slot: 3', 'slot: 3, dmaMask: 0xfff', 'devices', /form every address$/],
    ['slot: 3', 'slot: 6', 'devices', /^its root port is in slot 6$/],
    ['slot: 3', 'bus: 2, slot: 0', 'devices', /^its buses are 0, and 1 behind a root port$/],
  ])('%s as %s is not on the machine of the peer', (from, to, field, why) => {
    const { leftOut } = planOf(MACHINE.replace(from, to), NOTHING)
    expect(leftOut).toHaveLength(1)
    expect(leftOut[0]?.path.slice(0, 2)).toEqual(['machine', field])
    expect(leftOut[0]?.why).toMatch(why)
  })

  it('has five devices', () => {
    const more = [7, 8, 9, 10].map((slot) => `    - { name: d${slot}, kind: edu, slot: ${slot} }\n`)
    const read = '{ dma: read, args: { device: d10, iova: 0, bytes: 4 } }'
    const { leftOut } = planOf(MACHINE + more.join(''), NOTHING, read)
    expect(leftOut.map(({ what, why }) => `${what}: ${why}`)).toEqual([
      'device d10: the peer has 5 devices',
      'dma read: the peer has no such device',
    ])
  })

  it.each([
    ['{ mem: write, args: { address: 0x1000, data: abc } }', /in words of 8 bytes$/],
    ['{ mem: write, args: { address: 0x1000 } }', /`data`, or `words`$/],
    ['{ mem: write, args: { address: 0xa0000, words: [1] } }', /^not all memory below 0xa0000/],
    ['{ mem: read, args: { space: ua, address: 0x1000, bytes: 8 } }', /guest addresses only$/],
    ['{ mem: read, args: { address: 0x1000, bytes: 8192 } }', /^1 to 4096 bytes$/],
    ['{ mmio: read, args: { device: disk, offset: 0 } }', /registers of the unit only$/],
    [
      '{ mmio: write, args: { device: disk, offset: 0x98, bytes: 8, value: 1 } }',
      /registers of the unit only$/,
    ],
    ['{ mmio: read, args: { device: vtd0, offset: 0, bytes: 2 } }', /reads registers with 4 or 8 bytes$/],
    [
      '{ mmio: write, args: { device: vtd0, offset: 0, bytes: 1, value: 1 } }',
      /writes registers with 4 or 8/,
    ],
    ['{ mmio: write, args: { device: vtd0, offset: 0x38, bytes: 8, value: 1 } }', /ends QEMU$/],
    [
      '{ dma: read, args: { device: disk, iova: 0, bytes: 4, pasid: 1 } }',
      /no PASID, privilege or execution$/,
    ],
    ['{ dma: read, args: { device: disk, buffer: b, bytes: 4 } }', /^no driver of the peer has buffers$/],
    ['{ dma: write, args: { device: disk, iova: 0, bytes: 4 } }', /name `data`$/],
    ['{ dma: write, args: { device: disk, iova: 0, data: ab, bytes: 1 } }', /^the peer writes all of `data`/],
    ['{ dma: write, args: { device: disk, iova: 0xfee00000, data: "hex:00070000" } }', /wake the processor$/],
    ['{ dma: read, args: { device: disk, iova: 0, bytes: 4, at: 4092 } }', /which ends QEMU \(Q11, Q12\)$/],
    ['{ dma: read, args: { device: disk, iova: 0, bytes: 0 } }', /^a request has 1 to 4095 bytes/],
    ['{ dma: read, args: { device: disk, iova: 0, bytes: 4001 } }', /is used up$/],
  ])('%s is left out, and nothing else', (step, why) => {
    const { leftOut, script } = planOf(MACHINE, NOTHING, step, NOTHING)
    expect(leftOut).toMatchObject([{ step: 2, path: ['steps', 1], why: expect.stringMatching(why) }])
    expect(script.steps.filter(({ kind }) => kind === 'look')).toHaveLength(2)
  })

  it('leaves out what would end QEMU, found by the model, and goes on behind it', () => {
    const { leftOut, script } = planOf(
      MACHINE,
      '{ mem: write, args: { address: 0x20000, order: little, words: [0x200000035, 0x21000] } }',
      '{ mmio: write, args: { device: vtd0, offset: 0x90, bytes: 8, value: 0x20000 } }',
      '{ mmio: write, args: { device: vtd0, offset: 0x18, value: 0x04000000 } }',
      '{ mmio: write, args: { device: vtd0, offset: 0x88, bytes: 8, value: 0x10 } }',
      NOTHING,
    )
    expect(leftOut).toMatchObject([{ step: 4, why: 'it would end QEMU' }])
    expect(script.steps).toHaveLength(4)
  })

  it('words have the order that the scenario says', () => {
    const { script } = planOf(
      MACHINE,
      '{ mem: write, args: { address: 0x20000, order: little, words: [0x1122] } }',
      '{ mem: write, args: { address: 0x20000, words: [0x1122] } }',
      '{ mem: write, args: { address: 0x20000, data: "hex:0000000000001122" } }',
    )
    const swapped = 0x2211_0000_0000_0000n
    expect(script.steps).toMatchObject([{ words: [0x1122n] }, { words: [swapped] }, { words: [swapped] }])
  })
})
