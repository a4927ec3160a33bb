import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ModelPeer } from '../../src/machine/lockstep/model-peer.ts'
import { planKernel } from '../../src/machine/lockstep/scenario/kernel-plan.ts'
import { KERNEL_HEAD } from '../../src/peer/kernel-peer.ts'
import { installKernel, installPseries } from '../support/fake-peers.ts'
import { GROUPS, PEER_HEAD } from '../support/lockstep.ts'
import { scenariosOf } from '../support/scenarios.ts'
import { run } from './run.ts'

const GUEST = 'scenarios/tour/kvm-guest.yaml'
const CONTAINER = 'scenarios/tour/vfio-container.yaml'
const PUT = `version: 1
title: a put
machine: { ram: 64 MiB, profile: qemu-7.2 }
steps:
  - hcall: H_PUT_TCE
    args: { liobn: 0x80000000, ioba: 0x1000, tce: 0x4000003 }
    expect: H_SUCCESS
`

let folder = ''
const path = (name: string): string => join(folder, name)
const write = (name: string, text: string): string => {
  writeFileSync(path(name), text)
  return path(name)
}
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iommulator-test-'))
  vi.stubEnv('PATH', folder)
  vi.stubEnv('XDG_CACHE_HOME', folder)
})
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(folder, { recursive: true })
})

/** What the model answers to a scenario, script by script, as a running kernel would. */
function transcriptsOf(file: string, change = (text: string) => text): Record<string, string> {
  const found = scenariosOf('powernv').find((s) => s.file === file)
  if (found === undefined) throw new Error(file)
  const { script } = planKernel(found.scenario, found.name, PEER_HEAD, GROUPS)
  const parts = change(new ModelPeer(PEER_HEAD).write(script)).split(/(?<=^ORACLE script end .*\n)/m)
  return Object.fromEntries(parts.map((part) => [/^ORACLE script (\S+)/.exec(part)?.[1] ?? '', part]))
}

describe('connect kernel SCENARIO', () => {
  it('says of each scenario what was equal, kept and left out, and writes what the kernel said', async () => {
    installKernel(folder, { ...transcriptsOf(GUEST), ...transcriptsOf(CONTAINER) })
    write('said.txt', 'older '.repeat(100_000))
    const { code, out, err } = await run([
      'connect',
      'kernel',
      GUEST,
      CONTAINER,
      '--partial',
      '--record',
      path('said.txt'),
    ])
    expect(err).toMatch(/^starting Linux .*\nLinux 6\.12\.95\S* runs after 0\.0 s\n$/)
    expect(out).toMatch(/^scenarios\s+2$/m)
    expect(out).toMatch(/^steps\s+40 done, 1 left out$/m)
    expect(out).toMatch(/^expected\s+36 kept, 1 on the scenario's own machine only, 0 not kept$/m)
    expect(out).toMatch(/^scenarios\/tour\/kvm-guest\.yaml +26 +0 +\d+ +0 +26 +0 +0$/m)
    expect(out).toContain(`  ${CONTAINER}:64: step 14, mmio read: the agent has no command for mmio read\n`)
    expect(out).toContain(`  ${CONTAINER}:56: step 12: code OK, not EBUSY (profile intended)\n`)
    expect(out).toMatch(/no answer differs\n$/)
    expect(code).toBe(0)
    const said = readFileSync(path('said.txt'), 'utf8')
    expect(said).toContain('\nORACLE script kvm-guest\nopen 0 => 0\n')
    expect(said).not.toContain('older')
  })

  it('shows the first difference with its script and both sides, and ends with 1', async () => {
    installKernel(
      folder,
      transcriptsOf(GUEST, (t) => t.replace(/^(vfiotce .*) => 0$/m, '$1 => -1 EIO')),
    )
    const { code, out, err } = await run(['connect', 'kernel', GUEST, GUEST])
    expect(code).toBe(1)
    expect(err).toContain(`${GUEST} differs: vfiotce: EIO against 0 (done); making its script smaller\n`)
    expect(out).toMatch(/^scenarios\s+1; 1 not run \(--most\)$/m)
    expect(out).toContain(
      'difference: vfiotce: EIO against 0 (done)\n  command  vfiotce 0 0\n  peer     -1 EIO\n',
    )
    expect(out).toMatch(/not all is as expected\n$/)
  })

  it('answers as one object', async () => {
    installKernel(folder, transcriptsOf(CONTAINER))
    const { code, out } = await run(['connect', 'kernel', CONTAINER, '--partial', '--json'])
    expect(code).toBe(0)
    const said = JSON.parse(out)
    expect(said).toMatchObject({
      schema: 'iommulator/connect-scenarios/1',
      profile: 'linux-6.12.95',
      planned: 1,
      isAsExpected: true,
    })
    expect(said.scenarios[0]).toMatchObject({
      file: CONTAINER,
      steps: 15,
      leftOut: [{ line: 64, step: 14, what: 'mmio read' }],
      otherwise: [{ line: 56, step: 12, kept: 'elsewhere', wrong: ['code OK, not EBUSY'] }],
      difference: null,
    })
  })

  it('says why answers are not judged, and how many, as text and as JSON', async () => {
    const last = /^(peek .*) => .*\n(?=ORACLE script end)/m
    const argv = ['connect', 'kernel', GUEST, CONTAINER, '--partial']
    installKernel(folder, {
      ...transcriptsOf(GUEST, (t) => t.replace(last, '$1 => ? unknown command\n')),
      ...transcriptsOf(CONTAINER, (t) => t.replace(last, '')),
    })
    const { code, out } = await run(argv)
    expect(code).toBe(0)
    expect(out).toMatch(/^answers\s+\d+ equal, 2 not judged$/m)
    expect(out).toMatch(
      /\n\nanswers that are not judged\n {2}the agent refused the command: "\? unknown command" +1\n {2}behind the end of a process +1\n\n/,
    )
    const { scenarios } = JSON.parse((await run([...argv, '--json'])).out)
    expect(scenarios).toMatchObject([
      { unjudged: 1, reasons: [{ why: 'the agent refused the command: "? unknown command"', count: 1 }] },
      { unjudged: 1, reasons: [{ why: 'behind the end of a process', count: 1 }] },
    ])
  })

  it('an expectation that neither the kernel nor the scenario itself keeps ends with 1', async () => {
    const wrong = write(
      'wrong.yaml',
      'version: 1\ntitle: w\nmachine: { kind: powernv }\nsteps:\n  - proc: open\n    args: { path: /dev/kvm }\n    expect: ENOENT\n',
    )
    const script = 'ORACLE script wrong\nkvm => 0\nvmlck => 0 VmLck=0kB VmPin=0kB\nORACLE script end rc=0\n'
    installKernel(folder, { wrong: script })
    const { code, out } = await run(['connect', 'kernel', wrong])
    expect(code).toBe(1)
    expect(out).toContain(`expected, and not so\n  ${wrong}:5: step 1: code OK, not ENOENT`)
  })

  it('what it cannot do is said with its place before anything starts', async () => {
    const { code, out, err } = await run(['connect', 'kernel', CONTAINER])
    expect({ code, out }).toEqual({ code: 3, out: '' })
    expect(err).toBe(
      `iommulator: the kernel peer cannot do this:\n${CONTAINER}:64: step 14, mmio read: the agent has no command for mmio read\n--partial does the others, and counts these\n`,
    )
    const inject = await run(['connect', 'kernel', 'scenarios/errata/null-user-slot.yaml'])
    expect(inject.code).toBe(3)
    expect(inject.err).toMatch(/null-user-slot\.yaml:11: machine\.inject: an allocation of a real kernel/)
    expect((await run(['connect', 'kernel', CONTAINER, '--partial'])).code).toBe(4)
  })

  it('the machine before the boot is the one that boots', () => {
    expect(KERNEL_HEAD.replace('0.00', '1.80')).toBe(PEER_HEAD)
  })
})

describe('connect qemu-pseries SCENARIO', () => {
  it('shows the first difference with its script, and ends with 1', async () => {
    installPseries(folder)
    const { code, out, err } = await run(['connect', 'qemu-pseries', write('put.yaml', PUT)])
    expect(err).toContain('put.yaml differs: hcall 0x20: 4096 against 0; making its script smaller\n')
    expect(out).toMatch(/^peer\s+QEMU's pseries$/m)
    expect(out).toContain('difference: hcall 0x20: 4096 against 0\n')
    expect(code).toBe(1)
  })

  it('takes JSON, and standard input', async () => {
    const json = JSON.stringify({
      version: 1,
      title: 'a list that no machine reads',
      machine: { ram: '64 MiB', profile: 'qemu-7.2' },
      steps: [{ tick: 'advance', args: { ticks: 1 } }],
    })
    for (const argv of [
      ['connect', 'qemu-pseries', '-'],
      ['connect', 'qemu-pseries', write('a.json', json)],
    ]) {
      const { code, err } = await run(argv, json)
      expect(code).toBe(3)
      expect(err).toMatch(/:1: step 1, tick advance: the peer has no step for tick advance\n/)
    }
  })
})

describe('files of other kinds', () => {
  it.each([
    [
      'kernel',
      'scenarios/tour/one-dma.yaml',
      /one-dma\.yaml:\d+: a machine of kind pseries: iommulator connect qemu-pseries\n/,
    ],
    ['qemu-pseries', GUEST, /kvm-guest\.yaml:9: a machine of kind powernv: iommulator connect kernel\n/],
  ])('%s and %s', async (peer, file, why) => {
    for (const more of [[], ['--partial']]) {
      const { code, err } = await run(['connect', peer, file, ...more])
      expect(code).toBe(3)
      expect(err).toMatch(why)
    }
  })

  it('scenarios stand on their own', async () => {
    const script = write('script.txt', 'vmlck\n')
    for (const more of [[script], ['--random', '10']]) {
      const { code, err } = await run(['connect', 'kernel', GUEST, ...more])
      expect(code).toBe(2)
      expect(err).toBe('iommulator: scenarios are run on their own: without scripts, and without --random\n')
    }
  })

  it('a scenario that is none is told with its places', async () => {
    const { code, err } = await run(['connect', 'qemu-pseries', write('bad.yaml', `${PUT}    expcet: OK\n`)])
    expect(code).toBe(3)
    expect(err).toMatch(/bad\.yaml:8:5: unknown key "expcet"/)
  })
})
