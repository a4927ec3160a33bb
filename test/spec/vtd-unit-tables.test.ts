import { describe, expect, it } from 'vitest'
import type { VtdUnitPort } from '../../src/hw/vtd-devices/unit-port.ts'
import { GCMD, PERM, type UnitWorldOptions, unitWorld } from '../support/vtd-unit.ts'

/** The tables of the vectors: root 0x10000, context 0x11000, three levels from 0x12000 on, device 00:03.0. */
function vectors(options: UnitWorldOptions = {}) {
  const world = unitWorld({ ...options, hasTables: true })
  const { put, write, unit } = world
  put(0x1_0000, [0x1_1001n])
  put(0x1_1180, [0x1_2001n, 0x501n])
  put(0x1_2008, [0x1_3003n])
  put(0x1_3008, [0x1_4003n])
  put(0x1_4008, [0x0abc_d003n])
  write('RTADDR', 0x1_0000n)
  write('GCMD', GCMD.SRTP)
  write('GCMD', GCMD.TE)
  const at = unit.offsetOf('FRCD_LO')
  return {
    ...world,
    ask: (iova: bigint, need: number = PERM.READ) => unit.translate(world.request(iova, { need })),
    record: () => [unit.mmioRead(at, 8), unit.mmioRead(at + 8, 8)],
  }
}
/** QEMU 7.2.22 as far as these vectors go. */
const QEMU = ['D10', 'D16', 'D17', 'D49', 'D81', 'D3', 'D4', 'D6', 'D60', 'D61']

describe('a unit with its tables and caches', () => {
  it('is what devices ask', () => {
    const port: VtdUnitPort = unitWorld().unit
    expect(port.nextEntry()).toBe(1)
  })

  it('V3: translates, remembers, and is told to forget', () => {
    const { ask, unit, put, startQueue, submit, write } = vectors()
    expect(ask(0x4020_1234n)).toBe(0)
    expect(unit.translation).toMatchObject({ page: 0xabcd, shift: 12, perm: 3, domain: 5 })
    put(0x1_4008, [0x0beb_d003n])
    ask(0x4020_1234n)
    expect(unit.translation.page).toBe(0xabcd)
    startQueue()
    write('GCMD', GCMD.QIE | GCMD.TE)
    submit([0x5_00f2n, 0x4020_1000n])
    ask(0x4020_1234n)
    expect(unit.translation.page).toBe(0xbebd)
  })

  it.each([
    ['hardware', [], 0x8000_0005_0000_0018n, 0xc000_0006_0000_0018n],
    ['QEMU 7.2', QEMU, 0x80ff_ff05_0000_0018n, 0xc0ff_ff06_0000_0018n],
  ])('V5 of %s', (_who, errata, written, read) => {
    const readOnly = vectors({ errata })
    readOnly.put(0x1_4008, [0x0abc_d001n])
    expect(readOnly.ask(0x4020_1000n, PERM.WRITE)).toBe(5)
    expect(readOnly.record()).toEqual([0x4020_1000n, written])
    expect(readOnly.read('FSTS')).toBe(2n)
    for (const entry of [0x0abc_d002n, 0n]) {
      const world = vectors({ errata })
      world.put(0x1_4008, [entry])
      expect(world.ask(0x4020_1000n)).toBe(6)
      expect(world.record()[1]).toBe(read)
    }
  })

  it.each([
    ['hardware', []],
    ['QEMU 7.2', QEMU],
  ])('V6 and V7 of %s: what is wrong with root and context entries', (_who, errata) => {
    for (const [address, word, fault] of [
      [0x1_1180, 0n, 2],
      [0x1_0000, 0n, 1],
      [0x1_0000, 0x1_1003n, 0xa],
      [0x1_0008, 1n, 0xa],
      [0x1_0000, 0x7fff_f001n, 9],
      [0x1_1180, 0x1_2011n, 0xb],
    ] as const) {
      const world = vectors({ errata })
      world.put(address, [word])
      expect(world.ask(0x4020_1000n)).toBe(fault)
      expect(world.record()[1]).toBe(0xc000_0000_0000_0018n | (BigInt(fault) << 32n))
    }
    const silent = vectors({ errata })
    silent.put(0x1_1180, [2n])
    expect(silent.ask(0x4020_1000n)).toBe(2)
    expect(silent.read('FSTS')).toBe(0n)
  })

  it('V7: a root table beyond memory', () => {
    const world = vectors()
    world.write('RTADDR', 0x7fff_f000n)
    world.write('GCMD', GCMD.TE | GCMD.SRTP)
    expect(world.ask(0x4020_1000n)).toBe(8)
  })

  it('D4: what QEMU has cached of a page it refuses without a record', () => {
    const world = vectors({ errata: QEMU })
    world.put(0x1_4008, [0x0abc_d001n])
    world.ask(0x4020_1000n)
    expect(world.ask(0x4020_1000n, PERM.WRITE)).toBe(0)
    expect(world.unit.translation.perm).toBe(PERM.READ)
    expect(world.read('FSTS')).toBe(0n)
  })

  it('V33: a page-selective invalidation of QEMU 7.2 takes more', () => {
    for (const [errata, kept] of [
      [QEMU, 0x0beb_d],
      [[], 0x0abc_d],
    ] as const) {
      const world = vectors({ errata })
      world.put(0x1_3000 + 8 * 0xaa, [0x1_5003n])
      world.put(0x1_5000 + 8 * 0x101, [0x0abc_d003n])
      const other = 0x4000_0000n | (0xaan << 21n) | (0x101n << 12n)
      world.ask(other)
      world.put(0x1_5000 + 8 * 0x101, [0x0beb_d003n])
      world.write('IVA', 0x4020_1000n)
      world.write('IOTLB', 0xb000_0005_0000_0000n)
      world.ask(other)
      expect(world.unit.translation.page).toBe(kept)
    }
  })

  it('records are in order: what was read, what was kept, the answer, the fault', () => {
    const world = vectors()
    world.put(0x1_4008, [0n])
    world.ask(0x4020_1000n)
    const kinds = world.events('vtd.').map((e) => e.kind)
    // Tables that lead on are remembered.
    const rest = kinds.filter((kind) => kind !== 'vtd.fill' && kind !== 'vtd.register')
    expect(rest).toEqual([
      ...['vtd.root', 'vtd.root', 'vtd.context', 'vtd.walk', 'vtd.translate', 'vtd.fault', 'vtd.event'],
    ])
  })
})
