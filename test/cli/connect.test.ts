import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { installKernel } from '../support/fake-peers.ts'
import { installVtd } from '../support/fake-vtd.ts'
import { run } from './run.ts'

describe('iommulator connect', () => {
  let folder = ''
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'iommulator-test-'))
    vi.stubEnv('PATH', folder)
    vi.stubEnv('XDG_CACHE_HOME', folder)
  })
  afterEach(() => {
    vi.unstubAllEnvs()
    rmSync(folder, { recursive: true })
  })

  it('says what is missing, how to get it, and that it is the environment', async () => {
    const { code, out, err } = await run(['connect', 'kernel', '--random', '10'])
    expect({ code, out }).toEqual({ code: 4, out: '' })
    expect(err).toMatch(/iommulator: qemu-system-ppc64 is not installed; .*sudo sh .*setup\.sh\n$/)
  })

  it.each([
    [['connect'], /missing required argument 'peer'/],
    [['connect', 'qemu'], /there is no peer called "qemu"; there is: kernel, qemu-pseries/],
    [['connect', 'qemu-pseries', '--seed', 'x'], /--seed x: a whole number/],
    [['connect', 'kernel', '--random', 'many'], /--random many: a whole number from 1 to 10000000/],
    [['connect', 'kernel', '--random', '0'], /--random 0: a whole number from 1 to 10000000/],
    [['connect', 'kernel', '--socket', 's'], /--socket is for vhost-user, not for kernel/],
    [['connect', 'kernel', '--mode', 'legacy'], /--mode is for qemu-vtd, not for kernel/],
    [['connect', 'qemu-prq', '--mode', 'legacy'], /--mode is for qemu-vtd, not for qemu-prq/],
    [['connect', 'kernel', '--qemu', 'q'], /--qemu is for qemu-vtd and qemu-prq, not for kernel/],
    [['connect', 'qemu-pseries', '--most', '0'], /--most 0: a whole number from 1 to 1000/],
    [['connect', 'kernel', '--profile', 'bogus'], /bogus/],
    [['connect', 'qemu-pseries', '--profile', 'bogus'], /bogus/],
    [['connect', 'kernel', '--dma-every', '-1'], /--dma-every -1: a whole number/],
  ])('%j is a wrong use', async (argv, why) => {
    const { code, err } = await run(argv)
    expect(code).toBe(2)
    expect(err).toMatch(why)
    expect(err).not.toMatch(/starting|is not installed/)
  })

  it("QEMU's hypercalls need QEMU, and the firmware", async () => {
    const without = await run(['connect', 'qemu-pseries'])
    expect(without).toMatchObject({ code: 4, out: '' })
    expect(without.err).toMatch(
      /^iommulator: qemu-system-ppc64 is not installed; .*peers\/pseries\/setup\.sh\n$/,
    )
    writeFileSync(join(folder, 'qemu-system-ppc64'), '', { mode: 0o755 })
    const { code, err } = await run(['connect', 'qemu-pseries'])
    expect(code).toBe(4)
    expect(err).toMatch(
      /^iommulator: there is no .*mailbox\.bin; get everything .*peers\/pseries\/setup\.sh\n$/,
    )
  })

  it("QEMU's VT-d unit needs QEMU; modes that there are not are refused", async () => {
    const without = await run(['connect', 'qemu-vtd'])
    expect(without).toMatchObject({ code: 4, out: '' })
    expect(without.err).toMatch(
      /^iommulator: qemu-system-x86_64 is not installed; .*peers\/vtd\/setup\.sh\n$/,
    )
    const wrong = await run([
      'connect',
      'qemu-vtd',
      '--qemu',
      installVtd(folder, '7.2.22'),
      '--mode',
      'other',
    ])
    expect(wrong.code).toBe(2)
    expect(wrong.err).toMatch(/--mode other: one of legacy, scalable, first-level/)
  })

  it('a unit that answers otherwise is a difference, with the smallest script', async () => {
    const qemu = installVtd(folder, '7.2.22')
    const path = join(folder, 'steps.txt')
    writeFileSync(path, 'script a legacy\nword 0x100000 0x1\nreg 0x18 4 0x80000000\n')
    const { code, out } = await run(['connect', 'qemu-vtd', '--qemu', qemu, path])
    expect(code).toBe(1)
    expect(out).toMatch(/peer +QEMU's intel-iommu \(7\.2\.22\)/)
    expect(out).toContain('    reg 0x18 4 0x80000000\n')
    expect(out).not.toContain('    word 0x100000')
    const json = await run(['connect', 'qemu-vtd', '--qemu', qemu, '--json', path])
    expect(JSON.parse(json.out)).toMatchObject({
      schema: 'iommulator/connect-vtd/1',
      scripts: 1,
      steps: 2,
      requests: 0,
      differences: [{ script: ['reg 0x18 4 0x80000000'], isMinimal: true, unit: { mode: 'legacy' } }],
    })
  })

  describe('qemu-prq', () => {
    const TOLD = `if (name === 'page') return 'OK 0'
      if (name === 'translate') return 'OK 1 0 0xfff 0'`
    /** A machine in place of QEMU 11, and the library of the set-up script. */
    const installed = (): string => {
      const cache = join(folder, 'iommulator', 'vtd-peer')
      mkdirSync(cache, { recursive: true })
      writeFileSync(join(cache, 'endpoints.so'), '')
      return installVtd(folder, '11.1.3', '', TOLD)
    }

    it('needs the library, and a QEMU that has page requests', async () => {
      const without = await run(['connect', 'qemu-prq'])
      expect(without).toMatchObject({ code: 4, out: '' })
      expect(without.err).toMatch(/^iommulator: there is no .*endpoints\.so; get .*peers\/vtd\/setup\.sh\n$/)
      installed()
      const old = await run(['connect', 'qemu-prq', '--qemu', installVtd(folder, '10.0.2'), '--random', '1'])
      expect(old).toMatchObject({ code: 3, out: '' })
      expect(old.err).toContain('random-requests-1-0: QEMU 10.0.2 has no page requests\n')
    })

    it('a request that is answered otherwise is a difference, with the smallest script, and recorded', async () => {
      const qemu = installed()
      const path = join(folder, 'steps.txt')
      const record = join(folder, 'said.txt')
      const head = 'script a first-level,aw48,dt,svm nic0=0x21'
      writeFileSync(path, `${head}\nword 0x100000 0x1\nats nic0 0x1 0x0 1 p\npri nic0 0x1 0x1000 7 rl\n`)
      const argv = ['connect', 'qemu-prq', '--qemu', qemu, path]
      const { code, out } = await run([...argv, '--record', record])
      expect(code).toBe(1)
      expect(out).toMatch(/peer +QEMU's intel-iommu \(11\.1\.3\)/)
      expect(out).toMatch(/steps +3 in 1 script: 2 device requests$/m)
      expect(out).toContain('difference: ats: ')
      expect(readFileSync(record, 'utf8')).toContain(
        `${head}\nword 0x100000 0x1\nats nic0 0x1 0x0 1 p => to=none -\n`,
      )
    })

    it('runs random steps by seed', async () => {
      const { code, out, err } = await run([
        'connect',
        'qemu-prq',
        '--qemu',
        installed(),
        '--random',
        '1',
        '--json',
      ])
      expect(code).toBe(1)
      expect(err).toMatch(/steps\/s/)
      expect(JSON.parse(out)).toMatchObject({ schema: 'iommulator/connect-vtd/1', seed: 1, scripts: 1 })
    }, 60_000)
  })

  it('steps that end QEMU are refused before it is started', async () => {
    const path = join(folder, 'steps.txt')
    writeFileSync(path, 'script a\nrtas 0x2027 4 0 0x8000000 0x20000000 12 44\n')
    const { code, err } = await run(['connect', 'qemu-pseries', path])
    expect({ code, err }).toEqual({
      code: 3,
      err: 'iommulator: steps.txt, line 2: a window of 2^32 pages or more ends QEMU (Q9)\n',
    })
  })

  it.each(['kernel', 'qemu-pseries'])(
    'the file for the answers of %s is opened before anything starts',
    async (peer) => {
      const record = join(folder, 'nowhere', 'said.txt')
      expect(await run(['connect', peer, '--random', '1', '--record', record])).toEqual({
        code: 4,
        out: '',
        err: `iommulator: cannot write ${record}: there is no such folder\n`,
      })
    },
  )

  it('what the file for the answers held stays where nothing runs', async () => {
    const record = join(folder, 'said.txt')
    writeFileSync(record, 'a long run\n')
    for (const peer of ['kernel', 'qemu-pseries']) {
      expect((await run(['connect', peer, '--record', record])).code).toBe(4)
    }
    expect(readFileSync(record, 'utf8')).toBe('a long run\n')
  })

  it.skipIf(!existsSync('/dev/full'))('a disk that is full ends a run with one line', async () => {
    installKernel(folder, {})
    const { code, err } = await run(['connect', 'kernel', '--random', '1', '--record', '/dev/full'])
    expect(code).toBe(4)
    expect(err).toMatch(/\niommulator: cannot write \/dev\/full: no space is left\n$/)
  })

  it('the recording of the other peer is refused before anything is started', async () => {
    const said = (peer: string, name: string) => run(['connect', peer, `recordings/${name}.answers.xz`])
    expect(await said('kernel', 'pseries-random')).toMatchObject({
      code: 3,
      err: 'iommulator: pseries-random.answers.xz, line 1: these are steps for QEMU: iommulator connect qemu-pseries\n',
    })
    expect((await said('kernel', 'pseries-scenarios')).code).toBe(3)
    expect((await said('qemu-pseries', 'kernel-random')).code).toBe(3)
  })

  it('a file is read before anything is started', async () => {
    const path = join(folder, 'script.txt')
    writeFileSync(path, 'open 0\nopne 1\n')
    const { code, err } = await run(['connect', 'kernel', path])
    expect(code).toBe(3)
    expect(err).toBe('iommulator: script.txt, line 2: no command is called "opne" (did you mean "open"?)\n')
  })
})
