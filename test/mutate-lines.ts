import type { Prng } from '../src/bits/prng.ts'
import { QEMU_TRACE } from '../src/reader/qemu-trace-format.ts'

/** Good lines of every kind, as the mutations' raw material. */
const GOOD: readonly string[] = [
  ...QEMU_TRACE.events.map((e) => e.example),
  ...QEMU_TRACE.events.map((e) => `4711@1700000000.012345:${e.example}`),
  ...QEMU_TRACE.events.slice(0, 12).map((e) => `${e.example}\r`),
  '2025-08-19T20:14:04.791413Z spapr_iommu_pci_put liobn=0x80000000 ioba=0x1000 tce=0x48cc001 ret=0',
  'spapr_iommu_put liobn=0xffffffffffffffff ioba=0x8000000000000000 tce=0x123456789abcdef0 ret=-9223372036854775808',
  'vhost_iotlb_miss (nil) step -1',
  'virtio_notify vdev 0x55ac8b391e60 vq 0x7f3a1c0040a0',
  'pci_update_mappings_add d=0x7f00 00:01.0 0,0x40+0x20',
  'spapr_iommu_new_table liobn=0x80000000 table=0x5618057df0a0 fd=2147483647',
  '\x1b[1mQEMU Starting\x1b[0m',
  '[    0.000000] Linux version 6.1.0-50-powerpc64le',
  'qemu-system-ppc64: warning: TCG does not support requested feature',
  '',
]

const DIGITS = '0123456789abcdef'
const ODD_BYTES = [0x00, 0x0d, 0x1b, 0x7f, 0x80, 0xc0, 0xed, 0xff, 0x20, 0x2d, 0x30, 0x28, 0x5f, 0x40, 0x3a]

/** Bytes that grow at the end. */
export class ByteText {
  bytes = new Uint8Array(1 << 16)
  length = 0

  add(bytes: Uint8Array): void {
    while (this.length + bytes.length > this.bytes.length) {
      const more = new Uint8Array(this.bytes.length * 2)
      more.set(this.bytes)
      this.bytes = more
    }
    this.bytes.set(bytes, this.length)
    this.length += bytes.length
  }

  taken(): Uint8Array {
    const bytes = this.bytes.slice(0, this.length)
    this.length = 0
    return bytes
  }
}

/**
 * Makes damaged lines: bits flipped, ends cut, lines joined, numbers made huge, NULs, bytes that are no
 * UTF-8, lines of a megabyte. Some stay as they are. Every line ends in a newline.
 */
export class LineMutator {
  readonly #prng: Prng
  readonly #good: readonly Buffer[]
  readonly #line = new Uint8Array(8192)
  readonly #longLines: boolean
  #length = 0

  constructor(prng: Prng, options: { readonly longLines: boolean; readonly good?: readonly string[] }) {
    this.#prng = prng
    this.#good = (options.good ?? GOOD).map((line) => Buffer.from(line, 'latin1'))
    this.#longLines = options.longLines
  }

  /** Adds one line to `out`; answers how many lines that were in the end (a mutation may put a newline in). */
  addTo(out: ByteText): number {
    const prng = this.#prng
    if (this.#longLines && prng.oneIn(50_000)) {
      const long = new Uint8Array(1 << 20).fill(prng.pick([0x00, 0x30, 0x61, 0xff]))
      long.set(prng.pick(this.#good))
      long[long.length - 1] = 0x0a
      out.add(long)
      return 1
    }
    const line = prng.pick(this.#good)
    this.#line.set(line)
    this.#length = line.length
    for (let times = prng.below(4); times > 0; times--) this.#mutate()
    this.#line[this.#length++] = 0x0a
    out.add(this.#line.subarray(0, this.#length))
    let lines = 0
    for (let i = 0; i < this.#length; i++) if (this.#line[i] === 0x0a) lines++
    return lines
  }

  #mutate(): void {
    const prng = this.#prng
    const at = prng.below(this.#length + 1)
    switch (prng.below(9)) {
      case 0: // a bit flips
        this.#line[at]! ^= 1 << prng.below(8)
        return
      case 1: // the end is cut
        this.#length = at
        return
      case 2: // a part is lost
        this.#replace(at, prng.below(6), [])
        return
      case 3: // another line follows without a newline
        if (this.#length < 2000) this.#replace(this.#length, 0, prng.pick(this.#good))
        return
      case 4: // a number grows
        this.#replace(at, 0, Buffer.from(prng.pick([...DIGITS]).repeat(prng.below(24)), 'latin1'))
        return
      case 5: // a digit changes
        this.#replace(at, 1, [DIGITS.charCodeAt(prng.below(16))])
        return
      case 6: // odd bytes come in
        this.#replace(at, prng.below(2), [prng.pick(ODD_BYTES)])
        return
      case 7: // the line is long, around the limit
        if (prng.oneIn(20)) this.#replace(at, 0, new Uint8Array(3970 + prng.below(200)).fill(0x61))
        return
      default: // the front is lost
        this.#replace(0, at, [])
    }
  }

  #replace(at: number, dropped: number, added: ArrayLike<number>): void {
    const end = Math.min(this.#length, at + dropped)
    if (this.#length - (end - at) + added.length > this.#line.length - 1) return
    this.#line.copyWithin(at + added.length, end, this.#length)
    this.#line.set(added, at)
    this.#length += added.length - (end - at)
  }
}
