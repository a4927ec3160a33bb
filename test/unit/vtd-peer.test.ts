import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readVtdScripts, type VtdScript } from '../../src/machine/lockstep/vtd-step.ts'
import { readVtdUnit } from '../../src/machine/lockstep/vtd-unit-options.ts'
import { findVtdFiles } from '../../src/peer/vtd-files.ts'
import { VtdPeer, type VtdPeerOptions } from '../../src/peer/vtd-peer.ts'
import { fakeVtdMachine } from '../support/fake-vtd.ts'

const FILES = { qemu: '/nowhere/qemu', version: '7.2.22', setpriv: undefined }
/** A program that speaks qtest: see `fakeVtdMachine`. */
const machine = (extra: string, id?: string) => ({
  command: process.execPath,
  args: ['-e', fakeVtdMachine(extra, id)],
})
const peerOf = (options: VtdPeerOptions) => new VtdPeer(FILES, { answerMs: 20_000, ...options })
const lost = (why: RegExp) =>
  expect.objectContaining({ code: 'ERR_PEER', message: expect.stringMatching(why) })
const scriptOf = (text: string): VtdScript => {
  const [{ name, unit, entries } = { name: '', unit: readVtdUnit('legacy'), entries: [] }] = readVtdScripts(
    text,
    'test',
  )
  return { name, unit, steps: entries.map(({ step }) => step) }
}

describe('the VT-d peer', () => {
  const script = scriptOf(
    [
      'look 0x18 4',
      'reg 0x18 4 0x80000000',
      'reg 0x18 4 0x80000000',
      'reg 0x38 4 0x1',
      'reg 0x58 8 0x200000001',
      'word 0x200000 0x1122334455667788 0x1',
      'dma edu1 read 0x200000 16 8',
      'dma edu1 write 0x201008 12 8',
      'dma edu0 write 0x201008 4',
      'word 0x124000 0x5',
      'reg 0x88 8 0x10',
      'peek 0x200000 16',
    ].join('\n'),
  )
  const answers = [
    '0x0',
    'GCMD=0x80000000',
    '-',
    'FECTL=0x1',
    '+0x58=0x1 +0x5c=0x2',
    undefined,
    '-',
    '0x201008:88776655443322110100000000000000',
    '0x201008:0000000044332211',
    undefined,
    'IQT=0x10',
    '88776655443322110100000000000000',
  ]

  it('answers steps in order with what has changed, each script on a machine of its own', async () => {
    const peer = peerOf({ program: machine("if (name === 'writel' && a === 0xfed90018) say('IRQ raise 0')") })
    expect(await Promise.all([peer.run(script), peer.run(script)])).toEqual([answers, answers])
    await peer.stop()
  })

  it('memory that a device or the unit has changed is told, tables with accessed bits too', async () => {
    const status = "if (name === 'writeq' && a === 0xfed90088) write(0x124008, [1])"
    const accessed = "if (name === 'writeq' && a % 0x100000 === 0x98) write(0x117000, [0x27])"
    const peer = peerOf({ program: machine(`${status}; ${accessed}`) })
    expect(await peer.run(scriptOf('reg 0x88 8 0x10\ndma edu4 read 0x1000 1'))).toEqual([
      'IQT=0x10 0x124008:0100000000000000',
      '0x117000:2700000000000000',
    ])
  })

  it('takes no step that ends QEMU, and no unit that it has not', async () => {
    const peer = peerOf({ program: machine('') })
    const bad = { kind: 'reg', offset: 0x38, widthBytes: 8, value: 0n } as const
    await expect(peer.run({ ...script, steps: [bad] })).rejects.toThrow(/^reg 0x38 8 0x0: .* ends QEMU$/)
    await expect(peer.run({ ...script, unit: readVtdUnit('first-level,aw48') })).rejects.toThrow(
      /^test: QEMU 7\.2\.22 has no first-level tables/,
    )
  })

  it.each<[string, VtdPeerOptions, RegExp]>([
    ['does not exist', { program: { command: '/nowhere/qemu', args: [] } }, /ENOENT/],
    [
      'ends at once',
      {
        program: { command: process.execPath, args: ['-e', 'console.error("bad option"); process.exit(1)'] },
      },
      /QEMU ended \(1\): bad option/,
    ],
    ['says nothing', { program: machine("return ''"), answerMs: 300 }, /no answer within 0.3 s/],
    ['has another device', { program: machine('', '0x12345678') }, /has no edu0: its id reads 0x12345678/],
    [
      'ends on the way',
      { program: machine("if (name === 'writel' && a === 0xfed90038) process.exit(3)") },
      /the peer is lost: QEMU ended \(3\)/,
    ],
  ])('a machine that %s is an error of the environment', async (_what, options, why) => {
    const before = readdirSync(tmpdir()).filter((name) => name.startsWith('iommulator-vtd-')).length
    await expect(peerOf(options).run(script)).rejects.toEqual(lost(why))
    const after = readdirSync(tmpdir()).filter((name) => name.startsWith('iommulator-vtd-')).length
    expect(after).toBeLessThanOrEqual(before)
  })
})

describe('what it is started from', () => {
  it('is looked for on the path, or named; what is wrong with it is said', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'iommulator-test-'))
    const program = (name: string, says: string, code = 0): string => {
      const path = join(folder, name)
      writeFileSync(path, `#!/bin/sh\necho '${says}'\nexit ${code}\n`, { mode: 0o755 })
      return path
    }
    try {
      const env = { PATH: folder, HOME: folder }
      await expect(findVtdFiles(undefined, env)).rejects.toThrow(
        /^qemu-system-x86_64 is not installed; get everything that is needed with: sudo sh .*peers\/vtd\/setup\.sh$/,
      )
      const qemu = program('qemu-system-x86_64', 'QEMU emulator version 7.2.22 (Debian 1:7.2)')
      expect(await findVtdFiles(undefined, env)).toEqual({ qemu, version: '7.2.22', setpriv: undefined })
      const newer = program('newer', 'QEMU emulator version 10.0.2')
      expect(await findVtdFiles(newer, env)).toMatchObject({ qemu: newer, version: '10.0.2' })
      mkdirSync(join(folder, 'empty'))
      await expect(findVtdFiles(join(folder, 'nothing'), env)).rejects.toThrow(/nothing is no program/)
      await expect(findVtdFiles(program('other', 'hello'), env)).rejects.toThrow(/does not say which QEMU/)
      await expect(findVtdFiles(program('broken', '', 3), env)).rejects.toThrow(/broken does not start/)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
