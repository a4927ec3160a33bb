import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Libc, loadLibc } from '../../src/peer/vhost-user/libc.ts'
import { vhostEntryOf } from '../../src/reader/vhost-log-line.ts'
import { FRONT_END_REQUESTS, type FrontEndRequest } from '../../src/reader/vhost-user-format.ts'
import { DiskGuest } from '../support/vhost-disk-guest.ts'
import { FrontEnd, GuestRam, until } from '../support/vhost-front-end.ts'
import { type Ran, runLive } from './run.ts'

let why = ''
const libc = await loadLibc().catch((error: Error) => {
  why = ` (skipped: ${error.message})`
  return undefined
})

interface LoggedMessage {
  readonly dir?: string
  readonly msg: FrontEndRequest
  readonly flags: number
  readonly type?: string
}

/** The lines of QEMU's trace for a message: an UPDATE is the answer to a miss. */
function traceOf({ msg, flags, type }: LoggedMessage): string {
  const line = `vhost_user_write req:${FRONT_END_REQUESTS[msg].nr} flags:0x${flags.toString(16)}\n`
  if (type !== 'UPDATE') return line
  return `vhost_iotlb_miss 0x5559a91f28a0 step 1\n${line}vhost_iotlb_miss 0x5559a91f28a0 step 2\n`
}

describe('iommulator connect vhost-user', () => {
  let folder = ''
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'iommulator-test-'))
  })
  afterEach(() => rmSync(folder, { recursive: true }))
  const at = (name: string): string => join(folder, name)
  const call = (...options: readonly string[]): Promise<Ran> =>
    runLive(['connect', 'vhost-user', ...options]).done

  it.each([
    [[], /needs --socket PATH/],
    [['--socket', 's'], /needs --disk FILE, or --memory SIZE/],
    [['--socket', 's', '--disk', 'd', '--memory', '1M'], /one of the two/],
    [['--socket', 's', '--memory', 'much'], /--memory much: a number from 1 to/],
    [['--socket', 's', '--memory', '4G'], /--memory 4G: a number from 1 to/],
    [
      ['--socket', 's', '--memory', '1M', '--iotlb-entries', '2M'],
      /--iotlb-entries 2M: a number from 1 to 1048576/,
    ],
    [['--socket', 's', '--memory', '1M', '--queues', '0'], /--queues 0: a number from 1 to 64$/m],
    [['--socket', 's', '--memory', '1000'], /--memory 1000: whole sectors of 512 bytes/],
    [['--socket', 's', '--memory', '1M', '--random', '5'], /--random is for other peers, not for vhost-user/],
    [['--socket', 's', '--memory', '1M', 'scenario.yaml'], /takes no files/],
  ])('%j is a wrong use', async (options, words) => {
    const { code, out, err } = await call(...options)
    expect({ code, out }).toEqual({ code: 2, out: '' })
    expect(err).toMatch(words)
  })

  it.each([
    ['--disk', '--log'],
    ['--disk', '--record'],
    ['--log', '--trace'],
    ['--log', '--record'],
  ])('%s and %s of one file are refused, and what it held stays', async (one, other) => {
    writeFileSync(at('file'), 'x'.repeat(1024))
    symlinkSync(at('file'), at('link'))
    const disk = one === '--disk' ? [] : ['--memory', '1M']
    const got = await call('--socket', at('s'), ...disk, one, at('file'), other, at('link'))
    expect({ code: got.code, err: got.err }).toEqual({
      code: 2,
      err: `iommulator: ${one} and ${other} are one file: ${at('link')}\n`,
    })
    expect(readFileSync(at('file'), 'utf8')).toBe('x'.repeat(1024))
  })

  it('two new files of one name are refused, and none is made', async () => {
    const got = await call('--socket', at('s'), '--memory', '1M', '--log', at('new'), '--record', at('new'))
    expect(got.code).toBe(2)
    expect(existsSync(at('new'))).toBe(false)
  })

  describe.skipIf(libc === undefined)(`serves a guest${why}`, () => {
    const c = libc as Libc
    /** A guest that writes a sector, and reads it back where the disk can be written. */
    const guestRun = async (socket: string, act: (guest: DiskGuest) => Promise<void>): Promise<void> => {
      const front = FrontEnd.connect(c, socket)
      const ram = new GuestRam(c, 4 << 20)
      try {
        const guest = new DiskGuest(front, ram, { hasIommu: true, hasEventIndex: true })
        await guest.negotiate()
        await guest.start()
        await act(guest)
      } finally {
        await front.close()
        ram.close()
      }
    }
    const listening = (running: { readonly err: string }): Promise<void> =>
      until('it listens', () => running.err.includes('listening at'))
    const text = (words: string): Uint8Array => new TextEncoder().encode(words.padEnd(512))

    it('a disk in a file: what the guest writes is there, and both logs say what happened', async () => {
      writeFileSync(at('disk.img'), '')
      truncateSync(at('disk.img'), 1 << 20)
      const files = ['--log', at('messages.jsonl'), '--record', at('records.jsonl')]
      const running = runLive([
        ...['connect', 'vhost-user', '--socket', at('s'), '--disk', at('disk.img'), '--once', ...files],
      ])
      await listening(running)
      await guestRun(at('s'), async (guest) => {
        expect(await guest.write(3, text('written by a guest'))).toBe(0)
        expect(await guest.read(3, 512)).toEqual(text('written by a guest'))
      })
      const { code, out, err } = await running.done
      expect({ code, err }).toEqual({
        code: 0,
        err: `listening at ${at('s')}\na front end is there\nthe front end is gone\n`,
      })
      expect(out).toMatch(/requests +2, which moved 1 KiB\n/)
      expect(out).toMatch(/stale-metadata +kept/)
      expect(readFileSync(at('disk.img')).subarray(1536, 2048)).toEqual(
        Buffer.from(text('written by a guest')),
      )
      const lines = readFileSync(at('messages.jsonl'), 'utf8').trimEnd().split('\n')
      const read = lines.map((line, i) => vhostEntryOf(JSON.parse(line), i + 1))
      expect(read.filter(({ state }) => state !== 'entry')).toEqual([])
      const requests = lines.filter((line) => line.includes('"event":"blk"')).map((line) => JSON.parse(line))
      expect(requests).toMatchObject([
        { type: 1, sector: 3, segs: [['0xf0100000', 512]] },
        { type: 0, sector: 3, segs: [['0xf0100000', 512]] },
      ])
      const kinds = readFileSync(at('records.jsonl'), 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => (JSON.parse(line) as { kind: string }).kind)
      for (const kind of [
        'memory.slot',
        'iotlb.new',
        'iotlb.fill',
        'iotlb.miss',
        'iotlb.use',
        'vhost.queue',
      ]) {
        expect(kinds).toContain(kind)
      }
    })

    it('a disk in memory, read-only, as one JSON object', async () => {
      const running = runLive([
        ...[
          'connect',
          'vhost-user',
          '--socket',
          at('s'),
          '--memory',
          '1M',
          '--read-only',
          '--once',
          '--json',
        ],
      ])
      await listening(running)
      await guestRun(at('s'), async (guest) => {
        expect(await guest.write(0, text('no'))).toBe(1)
      })
      const { code, out } = await running.done
      expect(code).toBe(0)
      expect(JSON.parse(out)).toMatchObject({
        schema: 'iommulator/vhost-user/1',
        clean: true,
        counts: { sessions: 1, requests: 1 },
        faults: [],
        joined: null,
      })
    })

    it('the trace of QEMU is read while it grows, and held against what came', async () => {
      const running = runLive([
        ...['connect', 'vhost-user', '--socket', at('s'), '--memory', '1M', '--once', '--json'],
        ...['--log', at('log'), '--trace', at('trace')],
      ])
      await listening(running)
      await guestRun(at('s'), async (guest) => {
        await guest.write(0, text('a'))
        await guest.unmap(guest.map(0x100_000))
      })
      await until('the front end is gone', () => running.err.includes('is gone'))
      await until('the log is written', () => readFileSync(at('log'), 'utf8').includes('"closed"'))
      // What QEMU would have written for the same messages; only now, as a QEMU that is slow.
      const logged = readFileSync(at('log'), 'utf8').trimEnd().split('\n')
      const sent = logged
        .map((line) => JSON.parse(line) as LoggedMessage)
        .filter(({ dir }) => dir === 'from-qemu')
      writeFileSync(at('trace'), sent.map(traceOf).join(''))
      const { out } = await running.done
      const { joined } = JSON.parse(out) as {
        readonly joined: { readonly messages: { readonly total: number } }
      }
      expect(joined).toMatchObject({
        messages: { matched: joined.messages.total, unmatched: 0 },
        divergences: [{ rule: 'invalidate-without-cause' }],
      })
      expect(joined.messages.total).toBeGreaterThanOrEqual(sent.length)
    })

    it('an interruption ends it with its report, and the socket is gone', async () => {
      const running = runLive(['connect', 'vhost-user', '--socket', at('s'), '--memory', '1M'])
      await listening(running)
      await guestRun(at('s'), async (guest) => {
        await guest.read(0, 512)
      })
      await until('the front end is gone', () => running.err.includes('is gone'))
      running.interrupt()
      const { code, out } = await running.done
      expect(code).toBe(130)
      expect(out).toMatch(/requests +1, /)
      expect(FrontEnd.connect.bind(FrontEnd, c, at('s'))).toThrow()
    })

    it('a front end that breaks a rule is named, and the next one is served', async () => {
      const running = runLive(['connect', 'vhost-user', '--socket', at('s'), '--memory', '1M'])
      await listening(running)
      const front = FrontEnd.connect(c, at('s'))
      front.sendRaw(new Uint8Array(12).fill(0xff))
      await until('the connection is closed', () => front.isClosed)
      await front.close()
      await guestRun(at('s'), async (guest) => {
        await guest.read(0, 512)
      })
      running.interrupt()
      const { out, err } = await running.done
      expect(err).toContain('the connection was closed: message-version: ')
      expect(out).toContain('front ends broke\n  message-version: ')
    })

    it('a broken front end alone ends it as bad input', async () => {
      const running = runLive(['connect', 'vhost-user', '--socket', at('s'), '--memory', '1M', '--once'])
      await listening(running)
      const front = FrontEnd.connect(c, at('s'))
      front.sendRaw(new Uint8Array(12).fill(0xff))
      await until('the connection is closed', () => front.isClosed)
      await front.close()
      expect((await running.done).code).toBe(3)
    })

    it('a log that cannot be written any more ends it with that reason, and the socket is gone', async () => {
      const running = runLive([
        'connect',
        'vhost-user',
        '--socket',
        at('s'),
        '--memory',
        '1M',
        '--log',
        '/dev/full',
      ])
      await listening(running)
      const front = FrontEnd.connect(c, at('s'))
      front.send('GET_FEATURES')
      const { code, err } = await running.done
      expect({ code, isThere: existsSync(at('s')) }).toEqual({ code: 4, isThere: false })
      expect(err).toContain('cannot write /dev/full: no space is left')
      await front.close()
    })

    it.each([
      [['--disk', 'none.img'], 3, /cannot open the disk .*none\.img: there is no such file/],
      [['--disk', '.'], 3, /cannot open the disk .*: it is a directory/],
      [['--disk', 'small.img'], 3, /cannot use .*small\.img as a disk: it has 3 bytes, less than a sector/],
      [['--memory', '1M', '--log', 'nowhere/log'], 4, /cannot write .*log: there is no such folder/],
      [['--memory', '1M', '--trace', '.'], 3, /cannot read .*: it is a directory/],
      [['--memory', '1M', '--trace', 'none', '--profile', 'bogus'], 2, /bogus/],
    ])('%j is refused', async ([flag = '', name = '', ...more], code, words) => {
      writeFileSync(at('small.img'), 'abc')
      const path = (word: string): string => (/^\d|^--|bogus/.test(word) ? word : at(word))
      const got = await call('--socket', at('s'), flag, path(name), ...more.map(path))
      expect({ code: got.code, out: got.out }).toEqual({ code, out: '' })
      expect(got.err).toMatch(words)
    })

    it('a path that is taken, or too long, is refused; a socket that nobody serves is replaced', async () => {
      writeFileSync(at('s'), 'a file')
      const taken = await call('--socket', at('s'), '--memory', '1M')
      expect(taken).toMatchObject({ code: 4, out: '' })
      expect(taken.err).toMatch(/cannot listen at .*: there is something at this path/)
      const long = await call('--socket', at('s'.repeat(120)), '--memory', '1M')
      expect(long.err).toMatch(/the path of a socket has 1 to 107 bytes/)
      rmSync(at('s'))
      const first = runLive(['connect', 'vhost-user', '--socket', at('s'), '--memory', '1M'])
      await listening(first)
      const second = await call('--socket', at('s'), '--memory', '1M')
      expect(second.err).toMatch(/cannot listen at .*: another process listens there/)
      first.interrupt()
      await first.done
      expect(first.err).not.toContain('a front end is there')
      const nowhere = await call('--socket', at('nowhere/s'), '--memory', '1M')
      expect(nowhere.err).toMatch(/cannot listen at .*: there is no such folder/)
    })
  })
})
