import { spawnSync } from 'node:child_process'
import { closeSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { VERSION } from '../../src/bits/version.ts'
import { COMMANDS } from '../../src/cli/commands/index.ts'
import { run } from './run.ts'

const NAMES = COMMANDS.map((c) => c.name)
const json = async (...argv: string[]) => JSON.parse((await run([...argv, '--json'])).out)

describe('the program', () => {
  it('names the file, the line and the step of an operation that cannot be done', async () => {
    const text =
      'version: 1\ntitle: t\nsteps:\n  - dma: read\n    args: { device: nosuch, iova: 0, bytes: 8 }\n'
    const { code, err } = await run(['run', '-'], text)
    expect(code).toBe(3)
    expect(err).toMatch(/^iommulator: -:4: step 1: no device is called "nosuch"/)
  })

  it('cuts a long value in the report, and not in the JSON', async () => {
    const path = 'scenarios/tour/one-dma.yaml'
    const data = `hex:${'ab'.repeat(200)}`
    const text = readFileSync(path, 'utf8').replace('data: hello }', `data: '${data}' }`)
    expect(text).toContain(data)
    const { out } = await run(['run', '-'], text)
    for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(100)
    expect(out).toContain('...(404 characters)')
    expect((await run(['run', '-', '--json'], text)).out).toContain(data)
  })

  it.runIf(process.platform === 'linux')('ends with one line where a disk is full', () => {
    const full = openSync('/dev/full', 'w')
    const argv = ['dist/cli/main.js', '--help']
    const { status, stderr } = spawnSync(process.execPath, argv, { stdio: ['ignore', full, 'pipe'] })
    closeSync(full)
    expect(status).toBe(4)
    expect(String(stderr)).toMatch(/^iommulator: cannot write: ENOSPC.*\n$/)
  })

  it('is the version that the package says', async () => {
    expect(VERSION).toBe(JSON.parse(readFileSync('package.json', 'utf8')).version)
    expect((await run(['--version'])).out.trim()).toBe(VERSION)
  })

  it('without words shows its help, which names every command', async () => {
    const { code, out } = await run([])
    expect(code).toBe(0)
    for (const { name, summary } of COMMANDS)
      expect(out).toMatch(new RegExp(`^ {2}${name}\\b.* ${summary}`, 'm'))
  })

  it.each(NAMES)('help %s fits 100 columns, has examples, and is the same as --help', async (name) => {
    const { code, out } = await run(['help', name])
    expect(code).toBe(0)
    expect(out).toContain('Examples:')
    for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(100)
    expect((await run([name, '--help'])).out).toBe(out)
  })

  it.each<[string, string[], number]>([
    ['an unknown command', ['replya', 'x'], 2],
    ['an unknown option', ['replay', 'x', '--frob'], 2],
    ['a missing argument', ['replay'], 2],
    ['a format that is none', ['replay', 'x', '--from', 'perf'], 2],
    ['an unknown profile', ['replay', 'recordings/vh-ppc-ddw.trace.xz', '--profile', 'qemu-seven'], 2],
    ['an unknown erratum', ['errata', 'X99'], 2],
    ['an unknown rule', ['rules', 'use-after'], 2],
    ['an unknown shell', ['completion', 'tcsh'], 2],
    ['help of an unknown command', ['help', 'nonsense'], 2],
    ['an empty profile', ['replay', 'recordings/vh-ppc-ddw.trace.xz', '--profile', ''], 2],
    ['a field that does not fit', ['decode', 'tce', 'READ=2'], 2],
    ['an unknown word', ['decode', 'TCEE', '1'], 2],
    ['a file that is not there', ['replay', 'no-such-file'], 3],
    ['a scenario that is not there', ['run', 'no-such-file.yaml'], 3],
    ['a file that is no log', ['replay', 'package.json'], 3],
    ['a file that is no scenario', ['run', 'package.json'], 3],
  ])('%s ends with a message, nothing on stdout, and its exit code', async (_what, argv, exit) => {
    const { code, out, err } = await run(argv)
    expect(code).toBe(exit)
    expect(out).toBe('')
    expect(err).not.toMatch(/\n {4}at /)
    expect(err.trim()).not.toBe('')
  })

  it.each([
    [['replya', 'x'], 'Did you mean replay?'],
    [['errata', 'X1O'], 'did you mean "X1'],
    [['rules', 'use-after-unmapp'], 'did you mean "use-after-unmap"'],
    [['decode', 'H_PUT_TC'], 'did you mean "H_PUT_TCE"'],
    [['decode', 'tce', 'REED=1'], 'did you mean "READ"'],
  ] as const)('%j says what was meant', async (argv, hint) => {
    expect((await run(argv)).err).toContain(hint)
  })

  it('ends quietly when its reader goes away', () => {
    const shell = spawnSync('sh', ['-c', `${process.execPath} dist/cli/main.js decode H_PUT_TCE | head -1`])
    expect(shell.stderr.toString()).toBe('')
    expect(shell.status).toBe(0)
  })
})

describe('every command', () => {
  it.each(COMMANDS.map((c) => [c.name, c] as const))(
    '%s: is called and told of as the list says',
    async (name, entry) => {
      const command = await entry.load()
      expect([command.name, command.summary]).toEqual([name, entry.summary])
    },
  )
})

describe('replay', () => {
  const file = join(tmpdir(), `iommulator-${process.pid}.log`)
  afterAll(() => rmSync(file, { force: true }))

  it.each([
    ['qemu', '', 'it is empty'],
    ['qemu', 'hello\nworld\n', 'none of its 2 lines is an event that the model knows'],
    ['kernel-answers', '\u0001\u0002 => x\n', 'none of its 1 lines is a command with its answer'],
  ])('prints nothing on stdout where a log --from %s holds nothing of it', async (from, text, why) => {
    writeFileSync(file, text)
    for (const more of [[], ['--json']]) {
      const { code, out, err } = await run(['replay', file, '--from', from, ...more])
      expect([code, out]).toEqual([3, ''])
      expect(err).toContain(why)
    }
  })

  it('says how many divergences it does not show, also where one takes several lines', async () => {
    const { out } = await run(['replay', 'recordings/kernel-6.12-64k.answers.xz', '--profile', 'intended'])
    const diverged = Number(/, ([0-9]+) diverged/.exec(out)?.[1])
    const more = Number(/ {2}\.\.\. and ([0-9]+) more \(--json has them\)/.exec(out)?.[1])
    expect([diverged, more]).toEqual([17, 7])
  })
})

describe('errata', () => {
  it('says of one that no release has that there is none', async () => {
    expect((await run(['errata', 'B10'])).out).toContain('defect; linux, in no release; evidence: source')
  })
})

describe('decode', () => {
  it.each([
    [['tce', '0x1234003'], { word: 'TCE', raw: '0x1234003', rest: '0x0' }],
    [['TCE', 'RPN=0x1234', 'READ', 'WRITE=1'], { word: 'TCE', raw: '0x1234003' }],
    [['liobn', '0x80000101'], { word: 'LIOBN', raw: '0x80000101' }],
    [['hret', '-4'], { name: 'H_PARAMETER', number: -4 }],
    [['hret', '0xfffffffffffffffc'], { name: 'H_PARAMETER', number: -4 }],
    [['hret', 'H_TOO_HARD'], { name: 'H_TOO_HARD', number: 9999 }],
    [['errno', '22'], { name: 'EINVAL', number: -22 }],
    [['errno', 'ebusy'], { name: 'EBUSY', number: -16 }],
    [['rtas_status', '-3'], { name: 'RTAS_OUT_PARAM_ERROR', number: -3 }],
  ] as const)('%j', async (argv, expected) => {
    expect(await json('decode', ...argv)).toMatchObject(expected)
  })

  it.each([
    ['rtas', '0x2026', 'ibm,query-pe-dma-window'],
    ['ioctl', '0x20003b71', 'VFIO_IOMMU_MAP_DMA'],
    ['ioctl', '0x3b71', 'VFIO_IOMMU_MAP_DMA'],
    ['ioctl', 'VFIO_SET_IOMMU', 'VFIO_SET_IOMMU'],
  ])('%s %s is %s', async (kind, value, name) => {
    expect((await json('decode', kind, value)).calls.map((c: { name: string }) => c.name)).toEqual([name])
  })

  it.each([
    ['0x20', 'H_PUT_TCE'],
    ['h_stuff_tce', 'H_STUFF_TCE'],
  ])('hcall %s is %s, of QEMU and of KVM', async (value, name) => {
    const { calls } = await json('decode', 'hcall', value)
    expect(calls.map((c: { name: string; layer: string }) => [c.name, c.layer])).toEqual([
      [name, 'qemu'],
      [name, 'kvm'],
    ])
  })

  it('shows what an ioctl by number answers, where no number is given', async () => {
    expect((await json('decode', 'ioctl')).calls.map((c: { name: string }) => c.name)).toEqual([
      'ioctl',
      'ioctl',
    ])
    expect((await run(['decode', 'ioctl', '0x3bff'])).err).toContain('declares no ioctl 0x3bff')
    // With the bit of powerpc set, a number is not taken for one of another architecture.
    expect((await run(['decode', 'ioctl', '0x60003b71'])).code).toBe(2)
  })

  it('shows bits that belong to no field, and refuses a value that is too wide', async () => {
    expect((await json('decode', 'tce', '0xffd')).rest).toBe('0xffc')
    expect((await run(['decode', 'liobn', '0x100000000'])).err).toContain('does not fit the 32 bits of LIOBN')
  })
})

describe('a name that is not known', () => {
  it.each([
    ['CAP', 'nothing is called "CAP"; near it: VTD_CAP, VTD_ECAP, '],
    ['vtd_context_lo', 'nothing is called "vtd_context_lo"; near it: VTD_CONTEXT_ENTRY_LO\n'],
    // Too many to be a help: the one that may be meant, and all.
    ['vtd', 'nothing is called "vtd"; known: TCE, '],
    ['lionb', 'nothing is called "lionb" (did you mean "LIOBN"?); known: TCE, '],
  ])('%s', async (name, said) => {
    const { code, err, out } = await run(['decode', name, '1'])
    expect([code, out]).toEqual([2, ''])
    expect(err).toContain(said)
  })
})

describe('lists', () => {
  it('errata of a profile are those of its versions', async () => {
    const ids = async (profile: string) =>
      (await json('errata', '--profile', profile)).errata.map((e: { id: string }) => e.id)
    expect(await ids('intended')).toEqual([])
    expect(await ids('qemu-7.2')).toContain('Q1')
    expect(await ids('qemu-7.2')).not.toContain('X11')
    expect(await ids('linux-6.1')).toContain('X11')
    expect(await ids('qemu-7.2,-Q1')).not.toContain('Q1')
  })

  it.each(['bash', 'zsh', 'fish'])('completion for %s offers every command', async (shell) => {
    const { out } = await run(['completion', shell])
    for (const name of NAMES) expect(out).toContain(name)
    expect(out).toContain('--profile')
  })

  it('bash reads its completion, and it completes', () => {
    const script = `source <(${process.execPath} dist/cli/main.js completion bash); COMP_WORDS=(iommulator rep); COMP_CWORD=1; _iommulator; echo "\${COMPREPLY[@]}"`
    expect(spawnSync('bash', ['-c', script]).stdout.toString().trim()).toBe('replay')
  })
})
