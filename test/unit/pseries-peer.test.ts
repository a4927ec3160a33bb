import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { readPseriesScripts } from '../../src/machine/lockstep/pseries-step.ts'
import { findPseriesFiles } from '../../src/peer/pseries-files.ts'
import { PseriesPeer, type PseriesPeerOptions } from '../../src/peer/pseries-peer.ts'
import { Qtest } from '../../src/peer/qtest.ts'
import { mailboxMachine } from '../support/fake-peers.ts'

/** A program that speaks qtest: see `mailboxMachine`. */
const machine = (extra: string, id?: string) => ({
  command: process.execPath,
  args: ['-e', mailboxMachine(extra, id)],
})
const start = (options: PseriesPeerOptions) => PseriesPeer.start({ answerMs: 20_000, ...options })
const lost = (why: RegExp) =>
  expect.objectContaining({ code: 'ERR_PEER', message: expect.stringMatching(why) })
const scriptOf = (text: string) => ({
  name: 'test',
  steps: (readPseriesScripts(text, 'test')[0]?.entries ?? []).map(({ step }) => step),
})
const isGone = (pid: number | undefined): boolean => {
  try {
    process.kill(pid ?? 0, 0)
    return false
  } catch {
    return true
  }
}

describe('the pseries peer', () => {
  it('answers steps in order, scripts one after the other, and ends', async () => {
    const peer = await start({
      program: machine("if (name === 'writeq' && a === 0x1000) say('IRQ raise 0')"),
    })
    const script = scriptOf(
      [
        'poke 0x4000000 0102',
        'hcall 0x20 0x80000000 0x5 0x3',
        'hcall 0x1c 0x7 0xfffffffffffffffc',
        'list 0x4000008 2 0x1 0x2',
        'rtas 0x2028 1 0x80000000',
        'dma read 0x1000 8',
        'peek 0x4000000 24',
      ].join('\n'),
    )
    const [first, second] = await Promise.all([peer.run(script), peer.run(script)])
    const answers = [
      undefined,
      '5 r4=0x80000000',
      '-4 r4=0x7',
      undefined,
      '0',
      undefined,
      '010200000000000000000000000000010000000000000003',
    ]
    expect(first).toEqual(answers)
    expect(second).toEqual(answers)
    await peer.stop()
    expect(isGone(peer.pid)).toBe(true)
    await peer.stop()
  })

  it('more calls than a batch holds are several', async () => {
    const peer = await start({ program: machine('') })
    const steps = Array.from({ length: 2500 }, (_, i) => ({
      kind: 'hcall' as const,
      registers: [0x1cn, BigInt(i), BigInt(i)],
    }))
    const answers = await peer.run({ name: 'long', steps })
    expect(answers).toEqual(steps.map((_, i) => `${i} r4=0x${i.toString(16)}`))
    await peer.stop()
  })

  it('takes no step that ends QEMU', async () => {
    const peer = await start({ program: machine('') })
    const create = {
      kind: 'rtas',
      token: 0x2027,
      nret: 4,
      args: [0, 0x0800_0000, 0x2000_0000, 12, 63],
    } as const
    expect(() => peer.run({ name: 'bad', steps: [create] })).toThrow(/^rtas 0x2027 .*ends QEMU \(Q9\)$/)
    await peer.stop()
  })

  it.each<[string, PseriesPeerOptions, RegExp]>([
    ['does not exist', { program: { command: '/nowhere/qemu', args: [] } }, /ENOENT/],
    [
      'ends at once',
      {
        program: { command: process.execPath, args: ['-e', 'console.error("bad option"); process.exit(1)'] },
      },
      /QEMU ended \(1\): bad option/,
    ],
    ['says nothing', { program: machine("return ''"), answerMs: 300 }, /no answer within 0.3 s/],
    ['does not know the protocol', { program: machine("return 'FAIL no'") }, /answered "FAIL no" to/],
    [
      'gives no number',
      { program: machine("if (name === 'readq') return 'OK many'") },
      /answered "many" to readq 0x100008/,
    ],
    [
      'gives too few bytes',
      { program: machine("if (name === 'b64read') return 'OK AA=='") },
      /answered "AA==" to b64read/,
    ],
    [
      'has another device',
      { program: machine('', '0x12345678') },
      /no edu device: its id reads 0 0x12345678/,
    ],
    [
      'has no firmware',
      { program: machine("if (name === 'writeq' && a === 0x100000) process.exit(3)") },
      /the peer is lost: QEMU ended \(3\)/,
    ],
  ])('a machine that %s is an error of the environment', async (_what, options, why) => {
    await expect(start(options)).rejects.toEqual(lost(why))
  })

  it('a machine that ends on the way is said to have', async () => {
    const peer = await start({
      program: machine("if (name === 'b64read' && a === 0x4000000) process.exit(3)"),
    })
    await expect(peer.run(scriptOf('peek 0x4000000 1'))).rejects.toEqual(lost(/the peer is lost/))
    await expect(peer.run(scriptOf('peek 0x4000008 1'))).rejects.toEqual(lost(/the peer is lost/))
    await peer.stop()
  })
})

describe('qtest', () => {
  it('takes answers in pieces, and holds no more than a line', async () => {
    const [input, output] = [new PassThrough(), new PassThrough()]
    const qtest = new Qtest({ input, output, answerMs: 5000 })
    const [a, b] = [qtest.readWord(0), qtest.command('b')]
    output.write('OK 0x1')
    output.write('0\nIRQ raise 3\nOK\n')
    expect([await a, await b]).toEqual([16n, ''])
    const never = qtest.command('c')
    output.write('x'.repeat(17 << 20))
    await expect(never).rejects.toEqual(lost(/more than \d+ bytes in a line/))
  })

  it('an answer without a question ends it', async () => {
    const [input, output] = [new PassThrough(), new PassThrough()]
    const qtest = new Qtest({ input, output, answerMs: 5000 })
    output.write('OK\n')
    await new Promise((resolve) => setImmediate(resolve))
    await expect(qtest.command('a')).rejects.toEqual(lost(/said "OK" without being asked/))
  })
})

describe('what it is started from', () => {
  it('is looked for on the path and in the cache; what is missing is named, with the way to get it', () => {
    const folder = mkdtempSync(join(tmpdir(), 'iommulator-test-'))
    try {
      const env = { PATH: folder, HOME: folder }
      expect(() => findPseriesFiles(env)).toThrow(
        /^qemu-system-ppc64 is not installed; get everything that is needed with: sudo sh .*peers\/pseries\/setup\.sh$/,
      )
      const qemu = join(folder, 'qemu-system-ppc64')
      writeFileSync(qemu, '', { mode: 0o755 })
      expect(() => findPseriesFiles(env)).toThrow(
        /^there is no .*\.cache\/iommulator\/pseries-peer\/mailbox\.bin; get/,
      )
      const cache = join(folder, '.cache/iommulator/pseries-peer')
      mkdirSync(cache, { recursive: true })
      writeFileSync(join(cache, 'mailbox.bin'), '')
      expect(findPseriesFiles(env)).toEqual({
        qemu,
        setpriv: undefined,
        firmware: join(cache, 'mailbox.bin'),
      })
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
