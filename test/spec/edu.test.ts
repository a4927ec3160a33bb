import { beforeEach, describe, expect, it } from 'vitest'
import type { Answer, Value } from '../../src/bits/answer.ts'
import { iova } from '../../src/bits/brand.ts'
import type { CallDecl, RuleOf, Verb } from '../../src/bits/call.ts'
import { resolveProfile } from '../../src/bits/errata.ts'
import { Edu } from '../../src/hw/edu.ts'
import { DMA_READ, DMA_WRITE, MMIO_READ, MMIO_WRITE } from '../../src/hw/edu-calls.ts'
import { ATS_ENABLE, PRI_ENABLE } from '../../src/hw/vtd-devices/endpoint-calls.ts'
import { QEMU_ERRATA } from '../../src/kernel/qemu/errata.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import { makeEdu } from '../support/ioda.ts'
import { calls, LIOBN, type Pseries, pseries, RAM } from '../support/pseries.ts'
import { deviceWorld } from '../support/vtd-devices.ts'

const ALL_ONES = 0xffff_ffffn
const BUFFER = 0x4_0000n

let qemu: Pseries
let intended: Pseries
const read = (offset: bigint, bytes = 4n, m = qemu) =>
  m.run('mmio', 'read', { device: 'edu0', offset, bytes })
const write = (offset: bigint, value: bigint, bytes = 4n, m = qemu) =>
  m.run('mmio', 'write', { device: 'edu0', offset, value, bytes })
const value = (offset: bigint, bytes = 4n) => read(offset, bytes).outputs['value']

/** An edu device whose PE is frozen. */
const frozen = () => {
  const m = makeEdu()
  m.run(DMA_READ, { iova: 0n })
  return m
}

/** Programs the engine by its registers: `cmd` 1 reads memory, 3 writes it. */
const program = (src: bigint, dst: bigint, count: bigint, cmd: bigint) => {
  write(0x80n, src, 8n)
  write(0x88n, dst, 8n)
  write(0x90n, count, 8n)
  return write(0x98n, cmd, 8n)
}
const tick = () => {
  qemu.clock.advance(1)
  qemu.edu.elapse()
}

beforeEach(() => {
  qemu = pseries()
  intended = pseries({ profile: 'intended' })
  for (const m of [qemu, intended]) {
    calls(m).put(0x1000n, 0x50_0003n)
    calls(m).put(0x2000n, 0x50_1001n)
    calls(m).put(0x3000n, 0x50_2002n)
    m.memory.write(0x50_0000, 'page A')
    m.memory.write(0x50_1000, 'page B')
    m.memory.write(0x50_2000, 'page C')
  }
  calls(qemu).put(0x4000n, RAM | 3n)
})

describe('registers of edu', () => {
  const reads: Record<RuleOf<typeof MMIO_READ>, () => Answer[]> = {
    'pe-frozen': () => [frozen().run(MMIO_READ, {}), frozen().run(MMIO_READ, { offset: 2n, bytes: 16n })],
    'access-refused': () => [
      read(0n, 1n),
      read(0n, 2n),
      read(2n),
      read(0x84n, 8n),
      read(0x10_0000n),
      read(0x2n, 16n),
    ],
    'register-narrow': () => [read(0n, 8n), read(0x10n, 8n)],
    'no-register': () => [read(0x60n), read(0x64n), read(0x84n), read(0xa0n, 8n), read(0x40n)],
    done: () => [read(0n), read(0x80n), read(0x98n, 8n)],
  }
  it.each(MMIO_READ.answers)('read: $code by $rule: $when', ({ rule, code }) => {
    for (const got of reads[rule]()) expect(got).toMatchObject({ rule, code })
  })

  const writes: Record<RuleOf<typeof MMIO_WRITE>, () => Answer[]> = {
    'pe-frozen': () => [
      frozen().run(MMIO_WRITE, { offset: 4n, value: 1n }),
      frozen().run(MMIO_WRITE, { offset: 2n, value: 1n, bytes: 2n }),
    ],
    'access-refused': () => [write(4n, 1n, 2n), write(0x8cn, 1n, 8n), write(0x10_0000n, 1n)],
    'register-narrow': () => [write(0n, 1n, 8n), write(0x8n, 1n, 8n)],
    'no-register': () => [write(0n, 1n), write(0x24n, 1n), write(0x84n, 1n), write(0x9cn, 1n)],
    'engine-busy': () => {
      program(0x1000n, BUFFER, 4n, 1n)
      return [write(0x80n, 1n), write(0x90n, 1n, 8n), write(0x98n, 1n)]
    },
    'not-started': () => {
      const idle = write(0x98n, 2n)
      program(0x1000n, BUFFER, 4n, 1n)
      return [idle, write(0x98n, 0n)]
    },
    computing: () => {
      write(8n, 5n)
      return [write(8n, 6n)]
    },
    done: () => [write(4n, 1n), write(0x80n, 1n), write(0x98n, 1n), write(0x20n, 0x80n), write(0x60n, 2n)],
  }
  it.each(MMIO_WRITE.answers)('write: $code by $rule: $when', ({ rule, code }) => {
    for (const got of writes[rule]()) expect(got).toMatchObject({ rule, code, outputs: {} })
  })

  it('identify the device, and read as all ones where there is none', () => {
    expect(value(0n)).toBe(0x0100_00edn)
    expect(value(0x40n)).toBe(ALL_ONES)
    expect(value(0xa0n, 8n)).toBe((1n << 64n) - 1n)
    expect(value(0n, 8n)).toBe((1n << 64n) - 1n)
    expect(value(0n, 2n)).toBe(0n)
  })

  it('liveness holds the complement', () => {
    write(4n, 0x1234_5678n)
    expect(value(4n)).toBe(0xedcb_a987n)
  })

  it('a factorial takes a tick, and may raise an interrupt', () => {
    write(0x20n, 0x80n)
    write(8n, 5n)
    expect(value(0x20n)).toBe(0x81n)
    tick()
    expect([value(8n), value(0x20n), value(0x24n)]).toEqual([120n, 0x80n, 1n])
    write(0x64n, 1n)
    expect(value(0x24n)).toBe(0n)
    write(0x20n, 0n)
    for (const [n, product] of [
      [0n, 1n],
      [13n, 1932053504n],
      [33n, 2147483648n],
      [34n, 0n],
      [ALL_ONES, 0n],
    ] as const) {
      write(8n, n)
      tick()
      expect(value(8n)).toBe(product)
    }
    expect(value(0x24n)).toBe(0n)
  })

  it('software raises and acknowledges interrupts', () => {
    write(0x60n, 0x300n)
    write(0x64n, 0x100n)
    expect(value(0x24n)).toBe(0x200n)
  })

  it('4 bytes written to a wide register are all of it; 4 bytes read are its lower half', () => {
    write(0x80n, 0x1_2345_6789n, 8n)
    expect(value(0x80n)).toBe(0x2345_6789n)
    write(0x80n, 7n)
    expect(value(0x80n, 8n)).toBe(7n)
  })

  it('takes no value that does not fit the access, and no name that is no device', () => {
    expect(() => write(4n, 1n << 32n)).toThrow('4 bytes')
    expect(() => qemu.run('mmio', 'read', { device: 'edu1', offset: 0n })).toThrow('edu0')
    expect(() => calls(qemu).dmaWrite(0n, {})).toThrow('data')
  })
})

describe('DMA of edu, programmed by its registers', () => {
  it('runs at the next tick, from memory to the buffer and back', () => {
    program(0x1000n, BUFFER + 8n, 6n, 1n)
    expect(value(0x98n, 8n)).toBe(1n)
    expect(qemu.edu.bufferAt(8, 6)).toEqual(new Uint8Array(6))
    tick()
    expect(value(0x98n, 8n)).toBe(0n)
    program(BUFFER + 8n, 0x3000n, 6n, 7n)
    tick()
    expect(qemu.memory.text(0x50_2000, 6)).toBe('page A')
    expect(value(0x24n)).toBe(0x100n)
  })

  it('translates when it runs, not when it was programmed', () => {
    program(0x1000n, BUFFER, 6n, 1n)
    calls(qemu).put(0x1000n, 0x50_1003n)
    tick()
    expect(qemu.edu.bufferAt(0, 6)).toEqual(new TextEncoder().encode('page B'))
  })

  it('a count that wraps past 2^64 stays out of bounds', () => {
    write(0x80n, 0x1000n, 8n, intended)
    write(0x88n, BUFFER + 0x20n, 8n, intended)
    write(0x90n, (1n << 64n) - 0x10n, 8n, intended)
    write(0x98n, 1n, 8n, intended)
    const from = intended.log.length
    intended.clock.advance(1)
    intended.edu.elapse()
    expect(intended.effects(from)).toEqual([])
    expect(intended.edu.isRunning).toBe(false)
  })

  it('cuts addresses to its mask, and says so', () => {
    const profile = resolveProfile(QEMU_ERRATA, 'qemu-7.2')
    const { stage, journal, life, clock, phb } = qemu
    const narrow = new Edu({ name: 'narrow', space: phb.space }, { stage, journal, life, clock, profile })
    narrow.transfer(iova(0x5000_1000n), 6, false, 0)
    expect(narrow.warnings).toEqual(['narrow: DMA address 0x50001000 is cut to 0x1000'])
    expect(qemu.effects(0)).toContainEqual({ kind: 'warning', layer: 'qemu', text: narrow.warnings[0] })
    expect(narrow.bufferAt(0, 6)).toEqual(new TextEncoder().encode('page A'))
  })

  it('runs later where it was told so', () => {
    const profile = resolveProfile(QEMU_ERRATA, 'qemu-7.2')
    const { stage, journal, life, clock, phb } = qemu
    const slow = new Edu(
      { name: 'slow', space: phb.space, delayTicks: 3 },
      { stage, journal, life, clock, profile },
    )
    slow.write(0x80, 8, 0x1000n)
    slow.write(0x88, 8, BUFFER)
    slow.write(0x90, 8, 4n)
    slow.write(0x98, 8, 1n)
    for (const running of [true, true, false]) {
      clock.advance(1)
      slow.elapse()
      expect(slow.isRunning).toBe(running)
    }
  })
})

describe('DMA of edu in one go', () => {
  const both = (m: Pseries, iova: bigint, bytes: bigint, at = 0n) => [
    calls(m).dmaRead(iova, bytes, at),
    calls(m).dmaWrite(iova, { bytes, at }),
  ]
  /** What a device with vhost meets, whose page at 0x1000 it may read, and at 0x2000 read and write. */
  const ofVhost = (isReady: boolean, iova: bigint, bytes: bigint): Answer[] => {
    const machine = createMachine(
      describeMachine({ profile: 'intended', phbs: [{ virtio: [{ name: 'net0', kind: 'net' }] }] }),
    )
    const run = (verb: Verb, call: string, args: Record<string, Value>) =>
      machine.perform({ verb, call, args })
    if (isReady) run('virtio', 'ready', { device: 'net0' })
    for (const [ioba, tce] of [
      [0x1000n, 0x5001n],
      [0x2000n, 0x6003n],
    ] as const)
      run('hcall', 'H_PUT_TCE', { liobn: LIOBN, ioba, tce })
    return ['read', 'write'].map((call) => run('dma', call, { device: 'net0', iova, bytes }))
  }
  const ofUnit = (...first: (CallDecl | 'dropped')[]): Answer[] => {
    const { run, unit } = deviceWorld()
    for (const call of first) {
      if (call === 'dropped') unit.end = call
      else run(call)
    }
    return [run(DMA_READ, { iova: 0x1000n, bytes: 17n }), run(DMA_WRITE, { iova: 0x1000n, data: 'x' })]
  }
  const cases: Record<RuleOf<typeof DMA_READ> & RuleOf<typeof DMA_WRITE>, () => Answer[]> = {
    'handle-unknown': () => [
      qemu.run('dma', 'read', { device: 'edu0', buffer: 'nobody', bytes: 4n }),
      qemu.run('dma', 'write', { device: 'edu0', buffer: 'nobody', data: 'x' }),
    ],
    'tags-off': () => [
      qemu.run('dma', 'read', { device: 'edu0', iova: 0x1000n, bytes: 9999n, pasid: 0n }),
      qemu.run('dma', 'write', { device: 'edu0', iova: 0x1000n, data: 'x', privileged: true }),
    ],
    'engine-busy': () => {
      program(0x1000n, BUFFER, 4n, 1n)
      return [...both(qemu, 0x1000n, 4n), ...both(qemu, 0x5000_0000n, 5000n)]
    },
    'buffer-overrun': () => [
      ...both(intended, 0x1000n, 4097n),
      ...both(intended, 0x5000_0000n, 16n, 4081n),
      ...both(intended, 0x1000n, 1n, 5000n),
    ],
    'pe-frozen': () => [
      frozen().run(DMA_READ, { iova: 0n }),
      frozen().run(DMA_WRITE, { iova: 1n << 60n, data: 'x', bytes: 1n }),
    ],
    'outside-windows': () => [...both(qemu, 0x5000_0000n, 17n), ...both(intended, (1n << 64n) - 8n, 16n)],
    refused: () => [
      calls(qemu).dmaRead(0x3000n, 17n),
      calls(qemu).dmaWrite(0x2000n, { data: 'x' }),
      ...both(qemu, 0x5000n, 1n),
      calls(intended).dmaRead(0x3000n, 4096n),
    ],
    // These are of devices behind a VT-d unit, where nothing is mapped.
    'translation-fault': () => ofUnit(),
    'translation-refused': () => ofUnit(ATS_ENABLE),
    'page-requested': () => ofUnit(ATS_ENABLE, PRI_ENABLE),
    'page-request-lost': () => ofUnit(ATS_ENABLE, PRI_ENABLE, 'dropped'),
    'no-memory': () => both(qemu, 0x4000n, 17n),
    // These are of virtio devices: an address outside of all windows would be another rule elsewhere.
    'not-started': () => ofVhost(false, 1n << 60n, 17n),
    'iotlb-miss': () => [...ofVhost(true, 1n << 60n, 17n), ...ofVhost(true, 0x2ff0n, 17n)],
    'iotlb-refused': () => {
      const [, write] = ofVhost(true, 0x1000n, 17n)
      return [write as Answer]
    },
    done: () => [
      ...both(qemu, 0x1000n, 4095n),
      ...both(intended, 0x1000n, 4096n),
      ...both(intended, 0x1000n, 0n),
      calls(qemu).dmaRead(0x2000n, 17n),
      calls(qemu).dmaWrite(0x3000n, { data: 'x', at: 4094n }),
    ],
  }
  it.each(DMA_READ.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code, state: 'done' })
  })

  it('a request that is not made moves nothing, and goes by the name before it looks at the engine', () => {
    calls(qemu).dmaRead(0x1000n, 6n)
    const nobody = { device: 'edu0', buffer: 'nobody', bytes: 4n }
    expect(qemu.run('dma', 'read', nobody).outputs['moved']).toBe(0n)
    program(0x1000n, BUFFER, 4n, 1n)
    expect(qemu.run('dma', 'read', nobody).rule).toBe('handle-unknown')
    const busy = calls(qemu).dmaRead(0x1000n, 4n)
    expect([busy.rule, busy.outputs['moved']]).toEqual(['engine-busy', 0n])
  })

  it('a named buffer stands for its bus address, plus an offset', () => {
    const from = qemu.log.length
    const read = qemu.run('dma', 'read', { device: 'edu0', buffer: 'page-a', offset: 5n, bytes: 1n })
    expect(read.outputs).toEqual({ data: 'A', moved: 1n })
    expect(qemu.effects(from)[0]).toMatchObject({ kind: 'dma.request', iova: 0x1005n })
  })

  it.each([{ bytes: 4n }, { iova: 0x1000n, buffer: 'page-a', bytes: 4n }])(
    'needs one of a bus address and a buffer: %o',
    (where) => {
      expect(() => qemu.run('dma', 'read', { device: 'edu0', ...where })).toThrow(
        'one of `iova` and `buffer`',
      )
    },
  )

  it('delivers what memory holds, and zeros where it is refused', () => {
    expect(calls(qemu).dmaRead(0x1000n, 6n).outputs).toEqual({ data: 'page A', moved: 6n })
    expect(calls(qemu).dmaRead(0x3000n, 3n).outputs).toEqual({ data: 'hex:000000', moved: 0n })
    expect(calls(qemu).dmaWrite(0x3000n, { data: 'hex:2020', at: 3n }).outputs).toEqual({ moved: 2n })
    expect(qemu.memory.text(0x50_2000, 6)).toBe('  ge C')
  })

  it('what is put into the buffer leaves its neighbours alone', () => {
    calls(qemu).dmaRead(0x1000n, 6n)
    calls(qemu).dmaWrite(0x3000n, { data: 'Z', at: 1n })
    expect(qemu.edu.bufferAt(0, 6)).toEqual(new TextEncoder().encode('pZge A'))
  })

  it('changes no memory where it is refused', () => {
    calls(qemu).dmaWrite(0x2000n, { data: 'other' })
    expect(qemu.memory.text(0x50_1000, 6)).toBe('page B')
  })

  it('a request out of bounds ends QEMU, and so does one that uses the last byte (Q11, Q12)', () => {
    for (const [bytes, at] of [
      [4097n, 0n],
      [1n, 4096n],
      [4096n, 0n],
      [1n, 4095n],
      [0n, 0n],
    ] as const) {
      const m = pseries()
      const from = m.log.length
      expect(calls(m).dmaRead(0x1000n, bytes, at)).toMatchObject({
        state: 'dead',
        rule: 'edu-dma-out-of-bounds',
      })
      expect(m.effects(from)).toEqual([{ kind: 'dead', layer: 'qemu', why: 'edu-dma-out-of-bounds' }])
      expect(m.stage.cause).toBe(-1)
    }
  })

  it('one without the other: the last byte is refused and QEMU lives, or the whole buffer is fine', () => {
    expect(calls(pseries({ profile: 'intended+Q11' })).dmaRead(0x1000n, 4096n).rule).toBe('buffer-overrun')
    expect(calls(pseries({ profile: 'intended+Q12' })).dmaRead(0x1000n, 4096n).rule).toBe('refused')
    expect(calls(pseries({ profile: 'intended+Q12' })).dmaRead(0x1000n, 4097n).state).toBe('dead')
  })

  it('records the call, the request, each translation and the end', () => {
    const from = qemu.log.length
    calls(qemu).dmaRead(0x1ffcn, 8n)
    const records = [...qemu.log.records(from)]
    expect(records.map((r) => [r.event.kind, r.cause])).toEqual([
      ['call.enter', null],
      ['dma.request', from],
      ['dma.translate', from + 1],
      ['dma.translate', from + 1],
      ['dma.done', from + 1],
      ['call.return', from],
    ])
    expect(records[1]!.event).toMatchObject({ device: 'edu0', iova: 0x1ffcn, bytes: 8, write: 0 })
    expect(records[2]!.event).toMatchObject({
      window: 1,
      entry: 1,
      address: 0x1ffcn,
      gpa: 0x50_0000n,
      perm: 3,
      need: 1,
      allowed: 1,
    })
    expect(records[3]!.event).toMatchObject({
      entry: 2,
      address: 0x2000n,
      gpa: 0x50_1000n,
      perm: 1,
      allowed: 1,
    })
    expect(records[4]!.event).toMatchObject({ device: 'edu0', moved: 8, code: 0 })
  })
})
