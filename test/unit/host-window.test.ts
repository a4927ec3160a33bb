import { describe, expect, it } from 'vitest'
import { type HostWindowRequest, planHostWindow } from '../../src/kernel/qemu/host-window.ts'

/** What PHB4 has: 4 KiB, 64 KiB, 2 MiB, 1 GiB. */
const PHB4 = 0x4021_1000n
const GIB = 1n << 30n

const plan = (given: Partial<HostWindowRequest>) =>
  planHostWindow({
    guestPageShift: 12,
    bytes: GIB,
    ramPageShift: 16,
    pageSizes: PHB4,
    hostPageShift: 16,
    ...given,
  })

describe('the window of the host that QEMU asks for', () => {
  it.each([
    ['pages no larger than the guest has', {}, { pageShift: 12, levels: 1, levelsMax: 3 }],
    [
      'pages no larger than those behind its memory',
      { guestPageShift: 24, bytes: 4n * GIB },
      { pageShift: 16, levels: 1, levelsMax: 3 },
    ],
    [
      'larger ones where huge pages are behind its memory, but none that the host lacks',
      { guestPageShift: 24, bytes: 4n * GIB, ramPageShift: 24 },
      { pageShift: 21, levels: 1, levelsMax: 2 },
    ],
    // 2^43 bytes of 64 KiB are 2^27 entries of 8 bytes: 30 bits, and a level is taken to hold 24.
    [
      'a level more for each 24 bits of its table',
      { guestPageShift: 16, bytes: 1n << 43n },
      { pageShift: 16, levels: 2, levelsMax: 3 },
    ],
    [
      'levels by the system page',
      { guestPageShift: 16, bytes: 1n << 43n, ramPageShift: 16, hostPageShift: 12 },
      { pageShift: 16, levels: 2, levelsMax: 4 },
    ],
    // 2^32 entries are none in the 32 bits that QEMU counts them in.
    [
      'as many levels as it can guess where its count wraps to 0',
      { guestPageShift: 24, bytes: 1n << 48n },
      { pageShift: 16, levels: 3, levelsMax: 3 },
    ],
  ])('%s', (_, given, wanted) => {
    expect(plan(given)).toEqual(wanted)
  })

  it('is none where the host has no page so small', () => {
    expect(plan({ pageSizes: 1n << 16n })).toBeUndefined()
  })
})
