import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { VhostRun } from '../support/vhost-run.ts'
import { run } from './run.ts'

const LAZY = ['recordings/vtd/vh-x86-lazy.trace.xz', 'recordings/vtd/vh-x86-lazy.vhost.jsonl.xz'] as const
const folder = mkdtempSync(join(tmpdir(), 'pair-'))

function fileOf(name: string, bytes: Uint8Array): string {
  const path = join(folder, name)
  writeFileSync(path, bytes)
  return path
}

const clean = new VhostRun().start().ring().miss(0xffff_8000n).stop()

describe('replay of two logs', () => {
  it('takes them in any order', async () => {
    const [one, other] = [await run(['replay', ...LAZY]), await run(['replay', ...[...LAZY].reverse()])]
    expect(one.out).toBe(other.out)
    expect(one).toMatchObject({ code: 1, err: '' })
    expect(one.out).toContain('recordings/vtd/vh-x86-lazy.trace.xz replayed as qemu-7.2.22')
  })

  it('is clean where nothing is wrong; one may be packed, and one come from standard input', async () => {
    const trace = fileOf('clean.trace.gz', gzipSync(clean.traceBytes))
    const { code, out } = await run(
      ['replay', trace, '-'],
      Buffer.from(clean.messageBytes).toString('latin1'),
    )
    expect(out).toContain('clean: every message is explained, and no promise is broken')
    expect(code).toBe(0)
  })

  it('prints one JSON object', async () => {
    const { code, out } = await run(['replay', ...LAZY, '--json'])
    const result = JSON.parse(out) as { vhost: { log: object; messages: object; reasons: object[] } }
    expect(code).toBe(1)
    expect(result.vhost.messages).toEqual({ total: 107, matched: 107, unmatched: 0 })
    expect(result.vhost.log).toMatchObject({ lines: 113, events: 113, damaged: 0 })
    expect(result.vhost.reasons[0]).toEqual({ why: 'set-up and end of the device', count: 31, firstLine: 3 })
  })

  it('shows what has no partner, and what contradicts', async () => {
    const odd = new VhostRun().start().ring().miss(0xffff_8000n).invalidate(0xffff_8000n)
    const messages = fileOf('odd.jsonl', Buffer.concat([odd.messageBytes, Buffer.from('{"t":\n')]))
    const { code, out } = await run(['replay', fileOf('odd.trace', odd.traceBytes), messages])
    expect(code).toBe(1)
    expect(out).toContain('messages without a partner\n  lines of the message log that cannot be read')
    expect(out.replaceAll(/\s+/g, ' ')).toContain('no flush takes it back (invalidate-without-cause)')
    expect(out).toContain('not clean: 1 divergence, 0 findings')
    expect(out).toMatch(/message log +12 lines: 11 entries, 1 damaged/)
  })

  it('says where two logs hardly go together', async () => {
    const { code, out } = await run(['replay', LAZY[0], 'recordings/vtd/vh-x86-cm.vhost.jsonl.xz'])
    expect(code).toBe(1)
    expect(out).toContain('so many have none that the two logs may be of different runs')
    expect(out).toMatch(/^not clean: .* findings, \d+ messages without a partner$/m)
    const { out: alike } = await run(['replay', ...LAZY])
    expect(alike).not.toContain('different runs')
  })

  it.each([
    ['a message log alone', [LAZY[1]], 'give the trace of QEMU of the same run as well'],
    [
      'a dump of tables alone',
      ['recordings/vtd/x86-tab-strict.tables.json.xz'],
      'x86-tab-strict.tables.json.xz is a dump of tables: give the trace of QEMU of the same run as well',
    ],
    [
      'two traces',
      [LAZY[0], LAZY[0]],
      'two logs are the trace of QEMU, and of the same run the message log of a back end, the trace of',
    ],
    ['a file that is not there', [LAZY[0], 'nothing'], 'cannot read nothing: there is no such file'],
    [
      'a log of no kind',
      [LAZY[0], fileOf('text', Buffer.from('It was a dark night.\n'))],
      'text: no known log format',
    ],
  ])('refuses %s', async (_what, args, why) => {
    const { code, err } = await run(['replay', ...args])
    expect(code).toBe(3)
    expect(err).toContain(why)
  })

  it('refuses two logs and --from', async () => {
    const { code, err } = await run(['replay', ...LAZY, '--from', 'qemu'])
    expect(code).toBe(2)
    expect(err).toContain('--from says what one log is')
  })

  it('a trace of intel-iommu alone is judged, and says that there is another log', async () => {
    const { code, out } = await run(['replay', LAZY[0]])
    expect(code).toBe(0)
    expect(out).toContain('clean: every translation is explained, and every fault expected')
    expect(out).toContain('give the message log of the back end of the same run as well')
  })

  it('takes the trace of the kernel beside that of QEMU, in any order', async () => {
    const both = ['recordings/vtd/x86-ftrace.trace.xz', 'recordings/vtd/x86-ftrace.ftrace.xz']
    const [one, other] = [await run(['replay', ...both]), await run(['replay', ...both.reverse()])]
    expect(one).toMatchObject({ code: 0, err: '' })
    expect(other.out).toBe(one.out)
    expect(one.out).toContain('descriptors     133: 133 matched, 0 without a partner')
    expect(one.out).toContain('the kernel maps the page there  648')
    const json = JSON.parse((await run(['replay', ...both, '--json'])).out)
    expect(json.ftrace).toMatchObject({ maps: 129, log: { events: 389, damaged: 2 } })
  })

  it('takes the trace of a kernel alone', async () => {
    const { code, out } = await run(['replay', 'recordings/vtd/x86-ftrace.ftrace.xz'])
    expect(code).toBe(0)
    expect(out).toContain('mappings     129 maps, 127 unmaps')
    expect(out).toContain('clean: maps, unmaps and flushes go together')
  })
})
