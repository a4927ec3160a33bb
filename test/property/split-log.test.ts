import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { QEMU_TRACE } from '../../src/reader/qemu-trace-format.ts'
import { bytesOf, readLog } from '../log-rows.ts'
import { ByteText, LineMutator } from '../mutate-lines.ts'

const PUT = 'spapr_iommu_pci_put liobn=0x80000000 ioba=0x1000 tce=0x48cc001 ret=0'

/** A log with every kind of line: declared, stamped, unknown, damaged, empty, just short enough and too long. */
const LOG = bytesOf(
  [
    '\xef\xbb\xbfvhost_iotlb_miss (nil) step 1',
    ...QEMU_TRACE.events.map((e) => e.example),
    `4711@1700000000.012345:${PUT}\r`,
    '',
    '\r',
    'virtio_notify ',
    'spapr_iommu_pci_put liobn=0x80000000 ioba=0x1000 tc',
    `x ${'y'.repeat(4094)}`,
    `x ${'y'.repeat(4095)}`,
    PUT,
  ].join('\n'),
)

const options = { markDamaged: true }
const whole = readLog([LOG], options)

describe('where the pieces are cut makes no difference', () => {
  it('the log has every kind of line', () => {
    const { lines, events, unknown, damaged, empty, truncated } = whole.summary
    expect({ lines, events, unknown: unknown.length, damaged: damaged.count, empty, truncated }).toEqual({
      lines: QEMU_TRACE.events.length + 9,
      events: QEMU_TRACE.events.length + 3,
      unknown: 1,
      damaged: 3,
      empty: 2,
      truncated: true,
    })
  })

  it('in two, at every byte', () => {
    for (let at = 0; at <= LOG.length; at++) {
      const { rows, summary } = readLog([LOG.subarray(0, at), LOG.subarray(at)], options)
      // To compare all rows takes longer than to read them: at every 16th byte that is done.
      if (at % 16 === 0) expect(rows).toEqual(whole.rows)
      expect(rows.length).toBe(whole.rows.length)
      expect(summary).toEqual(whole.summary)
    }
  })

  it('into single bytes', () => {
    expect(
      readLog(
        Array.from(LOG, (byte) => Uint8Array.of(byte)),
        options,
      ),
    ).toEqual(whole)
  })

  it('a mutated log, in pieces of any length', () => {
    const prng = new Prng(5)
    const mutator = new LineMutator(prng, { longLines: true })
    const text = new ByteText()
    for (let i = 0; i < 4000; i++) mutator.addTo(text)
    const bytes = text.taken()
    const expected = readLog([bytes], options)
    for (const most of [3, 100, 5000, 300_000]) {
      const pieces: Uint8Array[] = []
      for (let at = 0; at < bytes.length; ) {
        const end = Math.min(bytes.length, at + 1 + prng.below(most))
        pieces.push(bytes.subarray(at, end))
        at = end
      }
      expect(readLog(pieces, options)).toEqual(expected)
    }
  })
})
