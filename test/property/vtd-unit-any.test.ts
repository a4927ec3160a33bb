import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import type { VtdPresetName } from '../../src/hw/vtd/capabilities.ts'
import { NO_PASID } from '../../src/hw/vtd/ports.ts'
import { VTD_REGISTERS, type VtdRegisterName } from '../../src/hw/vtd/register-format.ts'
import { devices, pageRequest, QUEUE, type UnitWorld, unitWorld } from '../support/vtd-unit.ts'

const NAMES = Object.keys(VTD_REGISTERS) as VtdRegisterName[]
const PRESETS: readonly VtdPresetName[] = [
  'qemu',
  'qemu-scalable',
  'qemu-11-svm',
  'intel-4-series',
  'skylake-graphics',
  'sapphire-rapids',
  'every-feature',
]
/** All that QEMU does otherwise in the unit itself, with all three versions at once. */
const ERRATA =
  `D7 D9 D10 D11 D12 D13 D14 D15 D17 D18 D38 D40 D42 D43 D44 D45 D80 D81 D82 D83 D84 D86 D87 D88 D89 D90 D91
  D92 D93 D94 D95 D96 D98 D99`.split(/\s+/)

const word = (p: Prng): bigint =>
  p.pick([
    () => 0n,
    () => 0xffff_ffff_ffff_ffffn,
    () => 1n << BigInt(p.below(64)),
    () => BigInt(QUEUE) | BigInt(p.below(8)) | (p.oneIn(2) ? 0x800n : 0n),
    () => BigInt(p.below(0x1000)),
    () => (BigInt(p.below(2 ** 31)) << 33n) | BigInt(p.below(2 ** 31)),
    () => 0x8400_0000n,
    () => 0xc000_0000n,
  ])()

/** One thing that software, a device or time does. */
function step(world: UnitWorld, p: Prng, seen: ReturnType<typeof devices>): void {
  const { unit } = world
  switch (p.below(10)) {
    case 0:
    case 1:
    case 2: {
      const at = unit.offsetOf(p.pick(NAMES))
      if (at >= 0) unit.mmioWrite(at, at % 8 === 0 && p.oneIn(2) ? 8 : 4, word(p))
      return
    }
    case 3: {
      const at = p.below(unit.registerBytes >> 2) * 4
      unit.mmioWrite(at, at % 8 === 0 && p.oneIn(2) ? 8 : 4, word(p))
      return
    }
    case 4:
      world.put(QUEUE + p.below(64) * 16, [word(p), word(p)])
      world.put(QUEUE + p.below(64) * 16, [BigInt(p.below(11)) | (BigInt(p.below(16)) << 4n), 0n])
      unit.mmioWrite(0x88, 4, BigInt(p.below(64) * 16))
      return
    case 5:
      world.translator.translation.fault = p.below(3) === 0 ? 0 : p.below(0x91)
      world.translator.isWalkFault = p.oneIn(2)
      unit.translate(
        world.request(word(p), {
          source: p.below(4),
          pasid: p.oneIn(2) ? NO_PASID : p.below(2 ** 20),
          need: 1 + p.below(7),
        }),
      )
      return
    case 6:
      unit.pageRequest(
        pageRequest({ address: word(p), isRead: p.oneIn(2), pasid: p.oneIn(3) ? NO_PASID : 5 }),
      )
      return
    case 8:
      clean(world)
      return
    case 7:
      unit.interrupt(p.below(0x1_0000), 0xfee0_0000 | (p.below(2 ** 20) & ~3), p.below(2 ** 31))
      return
    default:
      seen.port.end = p.pick(['done', 'done', 'late', 'lost', 'no-device'])
      if (p.oneIn(3)) unit.elapse()
      else unit.invalidationDone(p.below(4))
  }
}

/** Software deals with all there is, and asks to hear of the next. */
function clean({ unit, write }: UnitWorld): void {
  for (let r = 0; r < unit.features.faultRecords; r++) {
    unit.mmioWrite(unit.offsetOf('FRCD_HI') + 16 * r + 4, 4, 0x8000_0000n)
  }
  write('FSTS', 0x71n)
  for (const [name, bits] of [
    ['ICS', 1n],
    ['PRS', 3n],
  ] as const) {
    if (unit.offsetOf(name) >= 0) write(name, bits)
  }
}

const state = ({ unit }: UnitWorld): string => {
  const words: bigint[] = []
  for (let at = 0; at < unit.registerBytes; at += 4) words.push(unit.mmioRead(at, 4))
  return words.join(' ')
}

describe('anything may happen to a unit', () => {
  it.each(PRESETS.flatMap((preset) => [[preset, [] as string[]] as const, [preset, ERRATA] as const]))(
    '%s: nothing throws, and everything can be taken back (errata: %j)',
    (preset, errata) => {
      for (let seed = 1; seed <= 6; seed++) {
        const p = new Prng(seed)
        const world = unitWorld({ preset, errata })
        const seen = devices(world)
        for (let round = 0; round < 10; round++) {
          for (let i = 0; i < 40; i++) step(world, p, seen)
          const before = state(world)
          const { hash } = world.journal
          const mark = world.journal.mark()
          for (let i = 0; i < 40; i++) step(world, p, seen)
          world.journal.rollback(mark)
          expect(world.journal.hash).toBe(hash)
          expect(state(world)).toBe(before)
        }
      }
    },
  )

  it('bits that nobody may write stay as they are', () => {
    const p = new Prng(9)
    const world = unitWorld({ preset: 'every-feature' })
    const seen = devices(world)
    for (let i = 0; i < 3000; i++) {
      step(world, p, seen)
      expect(world.read('CAP')).toBe(0x19ed_078c_4078_0c66n)
      expect(world.read('GCMD')).toBe(0n)
      // PPF is the sum of all F.
      let isPending = false
      for (let r = 0; r < 8; r++) isPending ||= world.unit.mmioRead(0x40c + 16 * r, 4) >> 31n === 1n
      expect((world.read('FSTS') & 2n) !== 0n).toBe(isPending)
      // An event is pending only while it is masked, and only while there is something to say.
      for (const [control, status, bits] of [
        ['FECTL', 'FSTS', 0x73n],
        ['IECTL', 'ICS', 1n],
        ['PECTL', 'PRS', 3n],
      ] as const) {
        const value = world.read(control)
        if ((value & 0x4000_0000n) !== 0n) {
          expect(value & 0x8000_0000n).not.toBe(0n)
          expect(world.read(status) & bits).not.toBe(0n)
        }
      }
      // The head is inside the queue, and 0 while it is off.
      const isOn = (world.read('GSTS') & 0x0400_0000n) !== 0n
      expect(world.read('IQH') < (isOn ? 0x8_0000n : 1n)).toBe(true)
    }
  })
})
