import { expect, it } from 'vitest'
import { resolveProfile } from '../../src/bits/errata.ts'
import { KVM_ERRATA } from '../../src/kernel/kvm/errata.ts'
import { backingErrata, backs, windowEntries } from '../../src/kernel/kvm/guest-window.ts'
import { FakeTable } from '../support/fake-platform.ts'
import { OFFSET, S1 } from '../support/kvm-tables.ts'

const errata = (profile: string) => backingErrata(resolveProfile(KVM_ERRATA, profile))
const table = (pageShift: number, offset: number, entries: number) =>
  new FakeTable(1, { pageShift, offset, entries, levels: 1, leaves: entries, bytes: 0 })
const HW = table(16, OFFSET, 0x4_0000)

/** Setup S1, and what differs from it: page size, base, length. */
const WINDOWS = {
  S1,
  'larger pages of the hardware': { ...S1, pageShift: 12, offset: 1n << 47n, entries: 0x40_0000n },
  'equal pages': { pageShift: 16, offset: BigInt(OFFSET), entries: 0x4_0000n },
  'another base': { ...S1, offset: S1.offset + 1n },
  shorter: { ...S1, entries: 0x3ffn },
  'shorter, equal pages': { pageShift: 16, offset: BigInt(OFFSET), entries: 0x3_ffffn },
  longer: { ...S1, entries: 0x401n },
} as const

it.each([
  ['intended', ['S1', 'equal pages', 'shorter', 'shorter, equal pages']],
  ['linux-4.19', ['S1', 'equal pages', 'shorter', 'shorter, equal pages']],
  ['linux-4.18', ['S1', 'equal pages']],
  ['linux-4.12', ['equal pages']],
])('profile %s: the hardware table of S1 backs %j', (profile, backed) => {
  const names = Object.entries(WINDOWS).filter(([, window]) => backs(HW, window, errata(profile)))
  expect(names.map(([name]) => name)).toEqual(backed)
})

it('a recording: windows of 16 MiB, 64 KiB and 4 KiB pages against 2 GiB of 64 KiB pages at 0', () => {
  const hw = table(16, 0, 0x8000)
  const tries = [
    { pageShift: 24, offset: 0n, entries: 0x80n },
    { pageShift: 16, offset: 0n, entries: 0x8000n },
    { pageShift: 12, offset: 0n, entries: 0x8_0000n },
    { pageShift: 24, offset: 0n, entries: 0x100n },
    { pageShift: 24, offset: 1n, entries: 0x10n },
  ]
  expect(tries.map((window) => backs(hw, window, errata('linux-6.12.95')))).toEqual([
    true,
    true,
    false,
    false,
    false,
  ])
})

it('bytes wrap at 64 bits: a table of all addresses backs nothing', () => {
  const all = table(16, 0, 2 ** 48)
  expect(backs(all, { pageShift: 16, offset: 0n, entries: 1n }, errata('intended'))).toBe(false)
})

it('B7: a window is rounded up to whole system pages of entries', () => {
  expect(windowEntries(0x401n, 16, errata('linux-4.18'))).toBe(0x2000n)
  expect(windowEntries(0x2000n, 16, errata('linux-4.18'))).toBe(0x2000n)
  expect(windowEntries(0x201n, 12, errata('linux-4.18'))).toBe(0x400n)
  expect(windowEntries(0x401n, 16, errata('linux-4.19'))).toBe(0x401n)
})
