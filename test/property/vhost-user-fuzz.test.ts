import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { Journal } from '../../src/bits/state.ts'
import { MemoryBlockStore } from '../../src/hw/virtio/block-store.ts'
import { readHeader, wordPayload } from '../../src/peer/vhost-user/codec.ts'
import { HEADER_BYTES, HEADER_FLAGS, REPLY_FLAGS } from '../../src/reader/vhost-user-format.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import type { FakeDescriptors } from '../support/fake-descriptors.ts'
import { clearRings, fuzzMessage, fuzzRequest } from '../support/vhost-fuzz.ts'
import { BEHIND_IOMMU, DISK_SECTORS, PLAIN, RAM_BYTES, TestSession } from '../support/vhost-session.ts'

/** How many messages; a million are run now and then. */
const MESSAGES = Number(process.env['VHOST_USER_MESSAGES'] ?? 50_000)
const SESSION_MESSAGES = 100
/** What the garbage collector may leave for later. */
const GROWTH_BYTES_MAX = 256 << 20
const GUARD_BYTES = 4096
const GUARD = 0x5a

/** Guest memory between two stretches that nobody may touch. */
class GuardedRam {
  readonly #all = new Uint8Array(RAM_BYTES + 2 * GUARD_BYTES).fill(GUARD)
  readonly bytes = this.#all.subarray(GUARD_BYTES, GUARD_BYTES + RAM_BYTES).fill(0)

  get isTouched(): boolean {
    const isOther = (byte: number): boolean => byte !== GUARD
    return this.#all.subarray(0, GUARD_BYTES).some(isOther) || this.#all.subarray(-GUARD_BYTES).some(isOther)
  }
}

/** What sessions have in common, and what they came to. */
class Run {
  messages = 0
  requests = 0
  readonly faults = new Map<string, number>()
  readonly log = new RecordLog({ keepRecords: 1 << 14 })
  readonly store = new MemoryBlockStore('disk', DISK_SECTORS, new Journal())
}

/** A session of mutated messages from a seed. What went wrong, if anything did. */
function fuzzSession(
  seed: number,
  ram: GuardedRam,
  run: Run,
  plant?: (descriptors: FakeDescriptors) => void,
): string | undefined {
  const prng = new Prng(seed)
  const isTranslated = prng.oneIn(2)
  const t = new TestSession({ queues: 2, iotlbLimit: 16, ram: ram.bytes, log: run.log, store: run.store })
  const { descriptors, session } = t
  plant?.(descriptors)
  clearRings(ram.bytes)
  if (!prng.oneIn(8)) {
    t.begin(isTranslated ? BEHIND_IOMMU : PLAIN, RAM_BYTES + (plant === undefined ? 0 : GUARD_BYTES))
    t.setUp()
  }
  for (let n = 0; n < SESSION_MESSAGES && session.fault === undefined; n++) {
    run.messages++
    const { request, flags, payload, fds } = fuzzMessage(prng, isTranslated)
    const made = fds.map((kind) => descriptors.make(kind, kind === 'file' ? ram.bytes : undefined))
    descriptors.refusesMaps = prng.oneIn(200)
    descriptors.refusesWatches = prng.oneIn(200)
    descriptors.refusesSends = prng.oneIn(20)
    const { reply, fault } = t.take(request, flags, payload, made)
    if (reply !== undefined) {
      const header = readHeader(reply)
      const isRight = header.request === request && header.flags === REPLY_FLAGS
      if (!isRight || header.payloadBytes !== reply.length - HEADER_BYTES) return `reply to ${request}`
    }
    if (fault !== undefined) {
      run.faults.set(fault.rule, (run.faults.get(fault.rule) ?? 0) + 1)
      break
    }
    if (prng.oneIn(2)) fuzzRequest(prng, ram.bytes)
    for (const onEvent of [...descriptors.watched.values()]) if (prng.oneIn(3)) onEvent()
    if (prng.oneIn(5)) answer(t, prng)
    for (let turns = 0; session.fault === undefined && session.runQueues(); turns++) {
      if (turns > 1000) return 'queues run for ever'
    }
  }
  if (session.fault !== undefined) {
    run.faults.set(session.fault.rule, (run.faults.get(session.fault.rule) ?? 0) + 1)
  }
  run.requests += t.recorder.counts.requests
  if (!t.close()) return `${descriptors.open.size} descriptors, ${descriptors.mapped} regions are left`
  return ram.isTouched ? 'memory outside of the regions was written' : undefined
}

/** The front end answers a miss, or what was none. */
function answer({ descriptors }: TestSession, prng: Prng): void {
  const { VERSION, REPLY } = HEADER_FLAGS
  const header = {
    request: prng.oneIn(40) ? prng.below(8) : 1,
    flags: VERSION | REPLY,
    payloadBytes: 8,
  }
  const payload = wordPayload(prng.oneIn(2) ? 0 : prng.u64())
  if (prng.oneIn(5) || descriptors.sent.length > 0) {
    descriptors.sent.shift()
    descriptors.listener?.onMessage({ header, payload, fds: [] })
  }
}

describe('mutated vhost-user messages', () => {
  it(`${MESSAGES} do no harm`, { timeout: 600_000 }, () => {
    const ram = new GuardedRam()
    const run = new Run()
    let atFirstBytes = 0
    for (let seed = 1; run.messages < MESSAGES; seed++) {
      if (atFirstBytes === 0 && run.messages > MESSAGES / 10) atFirstBytes = process.memoryUsage().rss
      let wrong: string | undefined
      try {
        wrong = fuzzSession(seed, ram, run)
      } catch (error) {
        wrong = (error as Error).stack
      }
      expect(wrong, `seed ${seed}`).toBeUndefined()
    }
    // Memory does not grow with what was sent.
    expect(process.memoryUsage().rss - atFirstBytes).toBeLessThan(GROWTH_BYTES_MAX)
    // They go deep enough: requests of the disk are served, and most rules are broken.
    expect(run.requests).toBeGreaterThan(MESSAGES / 1000)
    expect(run.faults.size).toBeGreaterThan(20)
  })

  it.each([
    [
      'a descriptor that is not closed',
      /descriptors/,
      (d: FakeDescriptors) => {
        const close = d.close.bind(d)
        d.close = (fd) => (fd % 16 === 0 ? d.watched.delete(fd) : close(fd))
      },
    ],
    [
      'a region that reaches beyond its file',
      /outside of the regions/,
      (d: FakeDescriptors) => {
        const { fileBytes } = d
        d.fileBytes = (fd) => fileBytes.call(d, fd) + GUARD_BYTES
        d.map = (fd, bytes) => {
          const { buffer, byteOffset } = d.open.get(fd)?.memory ?? new Uint8Array(bytes)
          d.mapped++
          const close = (): void => {
            d.mapped--
          }
          return { bytes, window: () => new Uint8Array(buffer, byteOffset, bytes), close }
        }
      },
    ],
  ])('finds %s', (_, words, plant) => {
    const ram = new GuardedRam()
    const run = new Run()
    let wrong: string | undefined
    for (let seed = 1; wrong === undefined && seed < 3000; seed++) wrong = fuzzSession(seed, ram, run, plant)
    expect(wrong).toMatch(words)
  })
})
