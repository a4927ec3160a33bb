import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readVtdScripts, type VtdScript } from '../../src/machine/lockstep/vtd-step.ts'
import { readVtdUnit } from '../../src/machine/lockstep/vtd-unit-options.ts'
import { findRequestFiles, findVtdFiles } from '../../src/peer/vtd-files.ts'
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

describe('the VT-d peer with devices that send page requests', () => {
  const script = (steps: string): VtdScript => {
    const head = 'script a first-level,aw48,dt,svm edu0=0x20,nic0=0x21,nic2=0x28'
    const [{ name, unit, devices, entries } = { name: '', unit: readVtdUnit('legacy'), entries: [] }] =
      readVtdScripts(`${head}\n${steps}`, 'test')
    return { name, unit, ...(devices && { devices }), steps: entries.map(({ step }) => step) }
  }
  const peer = (told: string, answerMs = 20_000) =>
    new VtdPeer(
      { ...FILES, version: '11.1.3', endpoints: '/nowhere/endpoints.so' },
      {
        answerMs,
        program: {
          command: process.execPath,
          args: ['-e', fakeVtdMachine('', undefined, told)],
          hasChannel: true,
        },
      },
    )

  it('tells what came of a request, what it changed, and the responses that a write brought', async () => {
    const told = `
      if (name === 'page') {
        write(0x130000, [Number(pasid), Number(c)])
        return 'OK ' + (Number(b) === 8 ? -28 : Number(b) === 9 ? -1 : 0)
      }
      if (name === 'translate') {
        if (Number(a) >= 0x400000) return 'OK -12 0 0xfff 0'
        return Number(a) >= 0x200000 ? 'OK 1 0x600000 0x1fffff 2' : 'OK 1 0x5000 0xfff 19'
      }
      if (name === 'responses') return 'OK nic0:1:7:0 nic2:65:8:2'`
    const steps = [
      'pri nic0 0x1 0x201000 7 rwxpl',
      'pri nic2 0x2 0x201000 8 -',
      'pri nic0 - 0x201000 9 r',
      'ats nic0 0x1 0x1ff000 4096 -',
      'ats nic0 0x1 0x1ff800 4096 nxp',
      'ats nic0 0x1 0x3ff000 8192 -',
      'word 0x120000 0x1',
      'reg 0x88 8 0x10',
      'reg 0x20 8 0x1',
    ].join('\n')
    expect(await peer(told).run(script(steps))).toEqual([
      'end=queued 0x130000:011f000000000000',
      'end=dropped 0x130000:0200000000000000',
      'end=refused 0x130000:ff01000000000000',
      'to=0x5000/0x1000/rw -',
      'to=0x5000/0x1000/rw,0x600000/0x200000/w -',
      'to=0x600000/0x200000/w,none -',
      undefined,
      'heard=nic0:1:7:0,nic2:65:8:2 IQT=0x10',
      'RTADDR=0x1',
    ])
  })

  it('gives its devices their capabilities, and listens for those PASIDs that scripts have', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'iommulator-test-'))
    const file = JSON.stringify(join(folder, 'said'))
    try {
      await peer(`require('fs').appendFileSync(${file}, [name, device, pasid].join(' ') + ';')`).run(
        script('reg 0x20 8 0x1'),
      )
      const listens = (name: string) => [0, 1, 2, 65].map((pasid) => `listen ${name} ${pasid};`).join('')
      expect(readFileSync(join(folder, 'said'), 'utf8')).toBe(
        `attach nic0 ;${listens('nic0')}attach nic2 ;${listens('nic2')}`,
      )
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it.each([
    [
      'a device that is not there',
      "return 'FAIL no device'",
      20_000,
      /answered "FAIL no device" to attach nic0/,
    ],
    [
      'an answer that is none',
      "if (name === 'translate') return 'OK 1 x'",
      20_000,
      /answered "1 x" to translate nic0 0x1 0x201000 0/,
    ],
    ['no answer', "return ''", 300, /no answer within 0\.3 s/],
    ['an end', "if (name === 'translate') process.exit(3)", 20_000, /QEMU ended \(3\)/],
  ])('%s is an error of the environment', async (_what, told, answerMs, why) => {
    await expect(peer(told, answerMs).run(script('ats nic0 0x1 0x201000 1 -'))).rejects.toEqual(lost(why))
  })

  it('needs the library', async () => {
    const without = new VtdPeer({ ...FILES, version: '11.1.3' })
    await expect(without.run(script('ats nic0 0x1 0x201000 1 -'))).rejects.toThrow(
      /^a: its devices send page requests: that is for iommulator connect qemu-prq$/,
    )
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
      await expect(findRequestFiles(undefined, env)).rejects.toThrow(
        /^there is no .*\/vtd-peer\/endpoints\.so; get everything that is needed with: sudo sh .*setup\.sh$/,
      )
      const cache = join(folder, '.cache', 'iommulator', 'vtd-peer')
      mkdirSync(cache, { recursive: true })
      const endpoints = join(cache, 'endpoints.so')
      writeFileSync(endpoints, '')
      await expect(findRequestFiles(undefined, env)).rejects.toThrow(/qemu-trixie is no program/)
      expect(await findRequestFiles(newer, env)).toMatchObject({ qemu: newer, endpoints })
      mkdirSync(join(folder, 'empty'))
      await expect(findVtdFiles(join(folder, 'nothing'), env)).rejects.toThrow(/nothing is no program/)
      await expect(findVtdFiles(program('other', 'hello'), env)).rejects.toThrow(/does not say which QEMU/)
      await expect(findVtdFiles(program('broken', '', 3), env)).rejects.toThrow(/broken does not start/)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
