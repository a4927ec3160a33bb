import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { PRESETS } from '../../src/hw/vtd/capabilities.ts'
import { PERM } from '../../src/hw/vtd/ports.ts'
import type { VtdRegisterName } from '../../src/hw/vtd/register-format.ts'
import type { MachineEvent } from '../../src/trace/event.ts'
import { NAIVE_REGISTERS, NaiveUnit } from '../support/naive-vtd-unit.ts'
import { devices, QUEUE, STATUS, unitWorld } from '../support/vtd-unit.ts'

const STEPS = Number(process.env['VTD_UNIT_STEPS'] ?? 6000)
/** Three fault recording registers, a queue, device-TLBs, interrupt remapping: what the naive unit is. */
const CAP = PRESETS.qemu.cap | (2n << 40n)
const ECAP = PRESETS['qemu-device-iotlb'].ecap
const BASES = [QUEUE, QUEUE + 0x2000] as const
const NOWHERE = 0x7fff_f000

/** What the records of the unit say, as the naive unit says it. */
function sentence(e: MachineEvent): string | undefined {
  switch (e.kind) {
    case 'vtd.root':
      // Bits 11:10 belong to the address there.
      return `root ${e.address | (BigInt(e.mode) << 10n)} ${e.enabled === 1}`
    case 'vtd.event':
      return e.sent === 1 ? `msi ${e.address} ${e.data}` : undefined
    case 'domain.wait':
      return 'wait'
    case 'domain.flush':
      return flush(e)
    default:
      return undefined
  }
}

function flush(e: Extract<MachineEvent, { kind: 'domain.flush' }>): string {
  const isAll = e.domain === 0xffff_ffff
  switch (e.scope) {
    case 1:
      return 'iotlb all'
    case 2:
      return `iotlb domain ${e.domain}`
    case 3:
      return `iotlb fine ${e.domain} ${e.iova} ${e.bytes}`
    case 4:
      return `device ${e.source}`
    case 5:
      if (isAll) return 'context all'
      return e.source === 0xffff_ffff
        ? `context domain ${e.domain}`
        : `context fine ${e.domain} ${e.source} ${e.hint}`
    default:
      return 'interrupts'
  }
}

/** Records have the first byte, aligned, and the bytes of pages; the naive unit what software wrote. */
const aligned = (text: string): string =>
  text.replace(/^(iotlb fine \d+) (\d+) (\d+)$/, (_all, head, address, order) => {
    const bytes = 4096n << BigInt(order)
    return `${head} ${BigInt(address) & ~(bytes - 1n)} ${bytes}`
  })

/** Descriptors: mostly right ones, with all their fields. */
function descriptor(p: Prng): readonly [bigint, bigint] {
  const did = BigInt(p.below(4)) << 16n
  const sid = BigInt(p.below(3)) << 32n
  const g = BigInt(p.oneIn(30) ? 0 : 1 + p.below(3)) << 4n
  const page = BigInt(p.below(0x1_0000)) << 12n
  const noise = p.oneIn(40) ? 1n << BigInt(p.below(64)) : 0n
  const choices: readonly (readonly [bigint, bigint])[] = [
    [1n | g | did | sid | (BigInt(p.below(4)) << 48n), 0n],
    [2n | g | did | (BigInt(p.below(4)) << 6n), page | BigInt(p.below(22)) | (BigInt(p.below(2)) << 6n)],
    [3n | sid | (BigInt(p.below(3)) << 16n), page | BigInt(p.below(2))],
    [4n | (g & 16n), 0n],
    [5n | (BigInt(p.below(8)) << 4n) | (BigInt(p.below(100)) << 32n), BigInt(STATUS + 4 * p.below(8))],
    [BigInt(p.below(16)), 0n],
  ]
  const [lo, hi] = choices[p.oneIn(30) ? 5 : p.pick([0, 1, 1, 2, 2, 3, 4, 4, 4])] as readonly [bigint, bigint]
  return p.oneIn(2) ? [lo ^ noise, hi] : [lo, hi ^ noise]
}

/** Both units, and one step on both at a time. */
class Pair {
  readonly world = unitWorld({ cap: CAP, ecap: ECAP })
  readonly naive: NaiveUnit
  readonly #p: Prng
  readonly #stored = new Map<bigint, bigint>()
  #seen = 0

  constructor(seed: number) {
    const p = new Prng(seed)
    this.#p = p
    const { world } = this
    const { port } = devices(world)
    const isThere = (address: bigint) => address < BigInt(world.memory.bytes.length)
    this.naive = new NaiveUnit({
      records: 3,
      maxOrder: 18n,
      load: (address) => (isThere(address) ? world.view.getBigUint64(Number(address), true) : undefined),
      store: (address, data) => {
        if (isThere(address)) this.#stored.set(address, data)
      },
      end: () => this.#end,
    })
    Object.defineProperty(port, 'end', { get: () => this.#end })
  }

  /** How devices end now: the same for both. */
  #end: 'done' | 'late' | 'lost' = 'done'

  step(): void {
    const p = this.#p
    const { world, naive } = this
    const { unit } = world
    switch (
      p.pick(['register', 'tail', 'tail', 'tail', 'fault', 'device', 'device', 'clear', 'command'] as const)
    ) {
      case 'register': {
        const name = p.pick(NAIVE_REGISTERS)
        if (name === 'GCMD' || name === 'IQA' || (name === 'IQT' && !p.oneIn(8))) return
        // Mostly legacy tables: with others nothing is taken from the queue.
        const mask = name === 'RTADDR' && !p.oneIn(30) ? ~0xc00n : -1n
        this.#write(name, (p.oneIn(2) ? p.u64() : p.u64() & p.u64()) & mask)
        return
      }
      case 'command':
        if (p.oneIn(2)) this.#write('IQA', BigInt(p.oneIn(20) ? NOWHERE : p.pick(BASES)) | BigInt(p.below(2)))
        if (!p.oneIn(4)) return
        // Mostly on: an empty queue is no test.
        this.#write(
          'GCMD',
          (p.u64() & 0x4b80_0000n) | (p.oneIn(5) ? 0n : 0x8000_0000n) | (p.oneIn(8) ? 0n : 0x0400_0000n),
        )
        return
      case 'tail':
        this.#submit()
        return
      case 'fault': {
        const source = p.below(5)
        const address = BigInt(p.below(2 ** 31))
        const isWrite = p.oneIn(2)
        world.translator.translation.fault = 5 + p.below(2)
        if (!unit.isEnabled) return
        const need = isWrite ? PERM.WRITE : PERM.READ
        unit.translate(world.request(address, { source, need }))
        naive.fault(BigInt(source), BigInt(world.translator.translation.fault), address, isWrite)
        return
      }
      case 'device': {
        this.#end = p.pick(['done', 'done', 'late', 'late', 'lost'])
        if (p.oneIn(3)) {
          unit.elapse()
          naive.elapse()
        }
        const source = p.below(3)
        for (let n = p.below(6); n > 0; n--) {
          unit.invalidationDone(source)
          naive.completed(source)
        }
        return
      }
      case 'clear': {
        const index = p.below(3)
        unit.mmioWrite(unit.offsetOf('FRCD_HI') + 16 * index + 4, 4, 0x8000_0000n)
        naive.clearRecord(index)
        if (p.oneIn(2)) this.#write('FSTS', 0x71n)
      }
    }
  }

  /** Descriptors from the head on, and the tail behind them; the first one again, where it was refused. */
  #submit(): void {
    const p = this.#p
    const { base, size } = this.naive.queue ?? { base: BigInt(QUEUE), size: 4096n }
    const head = this.naive.read('IQH')
    const count = p.below(7)
    for (let i = 0n; i < BigInt(count); i++) {
      const at = base + ((head + i * 16n) % size)
      if (at < BigInt(STATUS)) this.world.put(Number(at), descriptor(p))
    }
    if (!p.oneIn(4)) this.#write('FSTS', 0x71n)
    this.#write('IQT', p.oneIn(60) ? 0x4000n : (head + BigInt(count) * 16n) % size)
  }

  #write(name: string, value: bigint): void {
    this.world.write(name as VtdRegisterName, value)
    this.naive.write(name, value)
  }

  /** What differs, if anything. */
  difference(): string | undefined {
    const { world, naive } = this
    for (const name of NAIVE_REGISTERS) {
      const [is, expected] = [world.read(name as VtdRegisterName), naive.read(name)]
      if (is !== expected) return `${name}: ${is.toString(16)}, not ${expected.toString(16)}`
    }
    for (const [i, { lo, hi }] of naive.frcd.entries()) {
      const at = world.unit.offsetOf('FRCD_LO') + 16 * i
      const is = [world.unit.mmioRead(at, 8), world.unit.mmioRead(at + 8, 8)]
      if (is[0] !== lo || is[1] !== hi) return `FRCD ${i}: ${is.map((w) => w.toString(16))}`
    }
    for (const [address, data] of this.#stored) {
      const is = BigInt(world.view.getUint32(Number(address), true))
      if (is !== data) return `the status at ${address.toString(16)}: ${is}, not ${data}`
    }
    return this.#unsaid()
  }

  #unsaid(): string | undefined {
    const { log } = this.world
    const said: string[] = []
    for (const { event } of log.records(this.#seen)) {
      const text = sentence(event)
      if (text !== undefined) said.push(text)
    }
    this.#seen = log.length
    const expected = this.naive.said.splice(0).map(aligned)
    return said.join('; ') === expected.join('; ') ? undefined : `said ${said}, not ${expected}`
  }
}

function firstDifference(seed: number, steps: number): string | undefined {
  const pair = new Pair(seed)
  for (let i = 0; i < steps; i++) {
    pair.step()
    const difference = pair.difference()
    if (difference !== undefined) return `seed ${seed}, step ${i}: ${difference}`
  }
  return undefined
}

describe('a unit against one written apart from it', () => {
  it.each([1, 2, 3, 4])(
    'registers, queue, faults and events are the same at every step (seed %i)',
    (seed) => {
      expect(firstDifference(seed, STEPS)).toBeUndefined()
    },
  )
})
