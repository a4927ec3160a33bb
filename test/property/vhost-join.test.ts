import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import { resolveProfile } from '../../src/bits/errata.ts'
import { Prng } from '../../src/bits/prng.ts'
import { Judge } from '../../src/check/judge.ts'
import { ERRATA } from '../../src/machine/registry.ts'
import { VhostJoin } from '../../src/machine/replay/vhost/vhost-join.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { messageLog, recording } from '../log-rows.ts'
import { VhostRun } from '../support/vhost-run.ts'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void
const usedBytes = (): number => {
  collect()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

function joinOf(options: { readonly isLive?: boolean } = {}) {
  const log = new RecordLog({ keepRecords: 1 << 16 })
  const judge = new Judge({ maxFindings: 10 })
  judge.attach(log)
  return { log, join: new VhostJoin({ log, profile: resolveProfile(ERRATA, 'qemu-7.2'), ...options }) }
}

const linesOf = (bytes: Uint8Array): string[] => Buffer.from(bytes).toString('latin1').trimEnd().split('\n')

/** A line as it was, changed in some bytes, twice, or not at all. */
function mutated(prng: Prng, lines: readonly string[], at: number): Buffer {
  const line = prng.oneIn(20) ? prng.pick(lines) : (lines[at] as string)
  if (prng.oneIn(25)) return Buffer.alloc(0)
  const bytes = Buffer.from(`${line}\n`.repeat(prng.oneIn(25) ? 2 : 1), 'latin1')
  if (!prng.oneIn(4)) return bytes
  for (let times = 1 + prng.below(3); times > 0; times--) {
    const place = prng.below(bytes.length)
    if (bytes[place] === 0x0a) continue
    const digit = '0123456789abcdef'.charCodeAt(prng.below(16))
    bytes[place] = prng.oneIn(2) ? digit : (bytes[place] as number) ^ (1 << prng.below(8))
    if (bytes[place] === 0x0a) bytes[place] = 0x30
  }
  return bytes
}

describe('mutated logs', () => {
  it.each(['vtd/vh-x86-lazy', 'vtd/vh-x86-ats-lazy', 'vtd/vh-x86-cm', 'vh-ppc-32bit'])(
    '%s: nothing is thrown, and every message is matched or counted',
    async (name) => {
      const wanted = /^(?!vtd_(?:ir|warn|reg))/
      const trace = linesOf(await recording(name)).filter((line) => wanted.test(line))
      const messages = linesOf(await messageLog(name))
      const prng = new Prng(11)
      let lines = 0
      for (let round = 0; lines < 26_000; round++) {
        const { join } = joinOf({ isLive: round % 2 === 1 })
        const at = { trace: 0, messages: 0 }
        while (at.trace < trace.length || at.messages < messages.length) {
          const which = prng.oneIn(8) ? (join.wants === 'trace' ? 'messages' : 'trace') : join.wants
          const log = which === 'trace' ? trace : messages
          if (at[which] >= log.length) {
            const other = which === 'trace' ? 'messages' : 'trace'
            join[other](mutated(prng, other === 'trace' ? trace : messages, at[other]++))
          } else join[which](mutated(prng, log, at[which]++))
          lines++
        }
        const summary = join.endTrace()
        const read = join.endMessages()
        join.finish()
        expect(summary.events + summary.damaged.count).toBeGreaterThan(0)
        const { messages: counted } = join.tally.result(join.maps)
        expect(counted.total).toBe(counted.matched + counted.unmatched)
        expect(counted.total).toBeGreaterThan(read.events / 4)
      }
    },
  )
})

describe('long logs', () => {
  it('need no more memory than short ones', () => {
    const { join, log } = joinOf()
    join.trace(new VhostRun().start().ring().traceBytes)
    join.messages(new VhostRun().start().ring().messageBytes)
    const piece = new VhostRun()
    for (let i = 1n; i <= 50n; i++) {
      const iova = 0xffff_8000n - i * 0x1000n
      piece
        .miss(iova, { gpa: i * 0x1000n })
        .read(iova)
        .flushPages(iova)
        .invalidate(iova)
        .wait()
    }
    const [trace, messages] = [piece.traceBytes, piece.messageBytes]
    const go = (times: number) => {
      for (let n = 0; n < times; n++) {
        join.trace(trace)
        join.messages(messages)
      }
    }
    // So many that old records make room for new ones.
    go(250)
    const before = usedBytes()
    go(250)
    expect(usedBytes() - before).toBeLessThan(4 << 20)
    expect(log.firstKept).toBeGreaterThan(0)
    join.endTrace()
    join.endMessages()
    join.finish()
    expect(join.tally.result(join.maps)).toMatchObject({ messages: { unmatched: 0 }, diverged: 0, maps: 1 })
    expect(join.tally.requests).toBe(25_000)
  })
})
