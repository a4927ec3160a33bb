import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createReplay } from '../../src/machine/replay/log-replay.ts'
import { isClean, type ReplayResult } from '../../src/machine/replay/result.ts'
import { readTablesJson } from '../../src/machine/walk/tables-json.ts'
import { run } from '../cli/run.ts'
import { recording, tablesOf } from '../log-rows.ts'
import { replayLines } from '../support/vtd-trace.ts'

interface Tables {
  readonly regs: Record<string, string>
  readonly pages: Record<string, Record<string, string>>
  readonly devs: readonly { readonly bus: number; readonly devfn: number; readonly lo: string }[]
}

const TRACE = recording('vtd/x86-tab-strict')
const TABLES = tablesOf('vtd/x86-tab-strict').then((bytes) => Buffer.from(bytes).toString('utf8'))

async function replay(tables: string): Promise<ReplayResult> {
  const running = createReplay({
    from: 'qemu-trace',
    source: 'boot',
    tables: readTablesJson('tables', tables),
  })
  running.push(await TRACE)
  return running.end()
}

describe('the tables of a recorded guest beside its trace', () => {
  it('are what the unit still holds; the other pages were unmapped, or are used anew', async () => {
    const r = await replay(await TABLES)
    expect(r.tables).toEqual({
      translations: { total: 200, same: 16, unmapped: 183, elsewhere: 1 },
      held: { total: 16, same: 16, stale: 0 },
      contexts: { total: 3, same: 3, other: 0 },
    })
    expect(isClean(r)).toBe(true)
  })

  it('show a translation that is held though it is unmapped, and a context that is held though it changed', async () => {
    const tables = JSON.parse(await TABLES) as Tables
    const device = tables.devs.find(({ devfn }) => devfn === 0x18)
    const root = BigInt(device?.lo ?? 0) & ~0xfffn
    // The last table of the addresses that drivers use first: those below 4 GiB, from the top.
    const below = (page: bigint, index: number) =>
      BigInt(tables.pages[String(page)]?.[index] ?? 0) & 0xffff_f000n
    const leaves = tables.pages[String(below(below(root, 3), 511))] ?? {}
    for (const index of Object.keys(leaves)) delete leaves[index]
    const r = await replay(JSON.stringify(tables))
    expect(r.tables?.held.stale).toBeGreaterThan(0)
    expect(r.tables?.held).toMatchObject({ total: 16 })

    const other = JSON.parse(await TABLES) as Tables
    const rootTable = other.pages[String(BigInt(other.regs['32'] ?? 0))] ?? {}
    const contexts = other.pages[String(BigInt(rootTable['0'] ?? 0) & ~0xfffn)] ?? {}
    contexts[String(0x18 * 2)] = '0x2000001'
    expect((await replay(JSON.stringify(other))).tables?.contexts).toEqual({ total: 3, same: 2, other: 1 })
  })

  it('say nothing of a trace without translations', () => {
    expect(replayLines(['vtd_context_cache_reset ']).tables).toBeUndefined()
  })
})

describe('iommulator replay TRACE TABLES', () => {
  const both = ['recordings/vtd/x86-tab-strict.trace.xz', 'recordings/vtd/x86-tab-strict.tables.json.xz']

  it('takes them in any order', async () => {
    const [one, other] = [await run(['replay', ...both]), await run(['replay', ...[...both].reverse()])]
    expect(one).toMatchObject({ code: 0, err: '' })
    expect(other.out).toBe(one.out)
    expect(one.out).toContain('still cached   16 translations, 0 of them not so in the tables')
    expect(JSON.parse((await run(['replay', ...both, '--json'])).out).tables.held.same).toBe(16)
  })

  it('refuses tables beside another log, and tables that are broken', async () => {
    const refused = await run(['replay', 'recordings/kernel-oops.answers.xz', both[1] as string])
    expect(refused.code).toBe(3)
    expect(refused.err).toContain('tables go with a trace of QEMU')
    const broken = join(mkdtempSync(join(tmpdir(), 'tables-')), 'x.tables.json')
    writeFileSync(broken, '{"regs": {"8": 12}, "pages": {}}')
    const bad = await run(['replay', both[0] as string, broken])
    expect(bad.code).toBe(3)
    expect(bad.err).toContain('is no dump of tables')
  })
})
