import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { findKernelFiles, kernelCache } from '../../src/peer/kernel-files.ts'
import { KernelPeer, type KernelPeerOptions } from '../../src/peer/kernel-peer.ts'
import { SerialLine } from '../../src/peer/serial-line.ts'
import { PEER_HEAD, scriptOf } from '../support/lockstep.ts'

/** A program that keeps to the agent's protocol; `extra` is what it does with a command. */
const agentProgram = (
  extra: string,
  head = `noise\\r\\n${PEER_HEAD.replaceAll('\n', '\\r\\n')}ORACLE live\\r\\n`,
) => ({
  command: process.execPath,
  args: [
    '-e',
    `process.stdout.write('${head}')
     let name
     require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
       const say = (text) => process.stdout.write(text + '\\r\\n')
       if (line === 'poweroff') process.exit(0)
       else if (line.startsWith('script ')) say('ORACLE ' + line)
       else if (line === 'end') say('ORACLE script end rc=0')
       else { ${extra} }
     })`,
  ],
})
const ECHO = agentProgram("say(line + ' => 0')")
const start = (options: KernelPeerOptions) =>
  KernelPeer.start({ startMs: 20_000, scriptMs: 20_000, ...options })
const isGone = (pid: number | undefined): boolean => {
  try {
    process.kill(pid ?? 0, 0)
    return false
  } catch {
    return true
  }
}
const lost = (why: RegExp) =>
  expect.objectContaining({ code: 'ERR_PEER', message: expect.stringMatching(why) })

describe('the kernel peer', () => {
  it('takes scripts, keeps their answers apart, and switches off', async () => {
    const peer = await start({ program: ECHO })
    expect(peer.head).toBe(PEER_HEAD)
    const texts = await Promise.all(
      ['a', 'b', 'c'].map((name) => peer.run(scriptOf(['vmlck', 'version'], name))),
    )
    expect(texts).toEqual(
      ['a', 'b', 'c'].map(
        (name) => `ORACLE script ${name}\nvmlck => 0\nversion => 0\nORACLE script end rc=0\n`,
      ),
    )
    await peer.stop()
    expect(isGone(peer.pid)).toBe(true)
    await peer.stop()
  })

  it('leaves out what firmware says in between, also where its message is cut', async () => {
    const stamp = '[   46.205110393,3] SBE: You will likely have '
    const program = agentProgram(
      `if (line === 'vmlck') say('vml${stamp}slower I2C.\\r\\nck => 0')
       else if (line === 'version') say('${stamp}version => 0')
       else say('[   24.618485] Oops\\r\\n${stamp}\\r\\n' + line + ' => 0')`,
      `${stamp}${PEER_HEAD.replaceAll('\n', '\\r\\n')}${stamp}ORACLE live\\r\\n`,
    )
    const peer = await start({ program })
    expect(peer.head).toBe(PEER_HEAD)
    expect(await peer.run(scriptOf(['vmlck', 'version', 'info'], 'a'))).toBe(
      'ORACLE script a\nvmlck => 0\nversion => 0\n[   24.618485] Oops\ninfo => 0\nORACLE script end rc=0\n',
    )
    await peer.stop()
  })

  it.each<[string, KernelPeerOptions, RegExp]>([
    ['does not exist', { program: { command: '/nowhere/qemu', args: [] } }, /ENOENT/],
    [
      'ends at once',
      {
        program: { command: process.execPath, args: ['-e', 'console.error("bad option"); process.exit(1)'] },
      },
      /QEMU ended \(1\): bad option; it said nothing/,
    ],
    [
      'says nothing',
      { program: agentProgram('', 'OPAL\\n'), startMs: 300 },
      /within 0.3 s; the last that it said: "OPAL"/,
    ],
  ])('a machine that %s is an error of the environment', async (_what, options, why) => {
    await expect(start(options)).rejects.toEqual(lost(why))
  })

  it('a script that is never answered is one too; the machine is ended', async () => {
    const peer = await start({
      program: agentProgram("if (line === 'vmlck') say(line + ' => 0')"),
      scriptMs: 300,
    })
    await expect(peer.run(scriptOf(['vmlck'], 'one'))).resolves.toContain('vmlck => 0')
    const silent = await start({
      program: agentProgram('process.stdout.write = () => true'),
      scriptMs: 300,
    })
    await expect(silent.run(scriptOf(['vmlck', 'version']))).rejects.toEqual(lost(/within 0.3 s/))
    // What is answered too late belongs to no script.
    await expect(silent.run(scriptOf(['vmlck']))).rejects.toEqual(lost(/the peer is lost: it did not answer/))
    await Promise.all([peer.stop(), silent.stop()])
    expect([isGone(peer.pid), isGone(silent.pid)]).toEqual([true, true])
  }, 30_000)

  it('a machine that goes away is said to have', async () => {
    const peer = await start({ program: agentProgram('process.exit(3)') })
    await expect(peer.run(scriptOf(['vmlck']))).rejects.toEqual(lost(/the peer is lost: QEMU ended \(3\)/))
    await expect(peer.run(scriptOf(['vmlck']))).rejects.toEqual(lost(/the peer is lost: QEMU ended \(3\)/))
    await peer.stop()
  })

  it('a machine that only closes its console is lost too, and is ended', async () => {
    const peer = await start({
      program: agentProgram(
        "process.stdout.write = () => true; require('fs').closeSync(1); setInterval(() => {}, 1000)",
      ),
    })
    await expect(peer.run(scriptOf(['vmlck']))).rejects.toEqual(lost(/the peer is lost: it closed its side/))
    await peer.stop()
    expect(isGone(peer.pid)).toBe(true)
  })
})

describe('the serial line', () => {
  it('gives what stands up to a mark, and keeps the rest', async () => {
    const [input, output] = [new PassThrough(), new PassThrough()]
    const serial = new SerialLine({ input, output })
    const first = serial.until(/^two/m, 5000)
    output.write('one\r\ntw')
    output.write('o and more\r\nthree\n')
    expect(await first).toBe('one\ntwo and more\n')
    expect(await serial.until(/^three$/m, 5000)).toBe('three\n')
  })

  it('holds no more than it may', async () => {
    const [input, output] = [new PassThrough(), new PassThrough()]
    const serial = new SerialLine({ input, output, heldBytesMax: 1000 })
    const never = serial.until(/^mark/m, 5000)
    output.write('x'.repeat(1001))
    await expect(never).rejects.toEqual(lost(/more than 1000 bytes/))
    output.write(`${'y'.repeat(1000)}\nmark\n`)
    await expect(serial.until(/^mark/m, 5000)).rejects.toEqual(lost(/more than 1000 bytes.*"x{400}"$/))
  })
})

describe('what it is started from', () => {
  it('is looked for on the path and in the cache; what is missing is named, with the way to get it', () => {
    const folder = mkdtempSync(join(tmpdir(), 'iommulator-test-'))
    try {
      const missing = (env: Record<string, string>) => {
        try {
          return Object.values(findKernelFiles(env)).join(' ')
        } catch (error) {
          return (error as Error).message
        }
      }
      expect(missing({ PATH: folder, HOME: folder })).toMatch(
        /^qemu-system-ppc64 is not installed; get everything that is needed with: sudo sh .*peers\/kernel\/setup\.sh$/,
      )
      writeFileSync(join(folder, 'qemu-system-ppc64'), '', { mode: 0o755 })
      expect(missing({ PATH: folder, HOME: folder })).toMatch(
        /^there is no .*\.cache\/iommulator\/kernel-peer\/vmlinux; get/,
      )
      expect(kernelCache({ XDG_CACHE_HOME: '/c', HOME: '/h' })).toBe('/c/iommulator/kernel-peer')
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
