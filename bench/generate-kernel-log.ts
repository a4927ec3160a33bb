import { Prng } from '../src/bits/prng.ts'

export interface GenerateKernelLogOptions {
  /** The same seed gives the same bytes. */
  readonly seed: number
  readonly lines: number
  /** One line in this many is of something else than an IOMMU. */
  readonly otherEvery: number
}

const PIECE_LINES = 2000
const PAGES = 1 << 20
const OTHERS = [
  'usb 1-1: new high-speed USB device number 2 using xhci_hcd',
  'EXT4-fs (nvme0n1p2): mounted filesystem with ordered data mode. Quota mode: none.',
  'e1000e 0000:00:1f.6 eth0: NIC Link is Up 1000 Mbps Full Duplex, Flow Control: Rx/Tx',
]
const REASONS = [
  ['Read', '06', 'PTE Read access is not set'],
  ['Write', '05', 'PTE Write access is not set'],
  ['Read', '02', 'Present bit in context entry is clear'],
] as const

/** A kernel's log with a storm of faults: status lines, faults of a few devices at many pages, other lines. */
export function* generateKernelLog(options: GenerateKernelLogOptions): Generator<Uint8Array> {
  const { seed, lines, otherEvery } = options
  const prng = new Prng(seed)
  const encoder = new TextEncoder()
  let microseconds = 1_000_000
  for (let made = 0; made < lines; ) {
    let text = ''
    for (const end = Math.min(lines, made + PIECE_LINES); made < end; made++) {
      microseconds += 1 + prng.below(400)
      const stamp = (microseconds / 1e6).toFixed(6).padStart(12)
      text += `[${stamp}] ${message(prng, otherEvery)}\n`
    }
    yield encoder.encode(text)
  }
}

function message(prng: Prng, otherEvery: number): string {
  if (prng.oneIn(otherEvery)) return prng.pick(OTHERS)
  if (prng.oneIn(3)) return `DMAR: DRHD: handling fault status reg ${prng.oneIn(4) ? 3 : 2}`
  if (prng.oneIn(500)) return `dmar_fault: ${prng.below(1000)} callbacks suppressed`
  const [access, reason, words] = prng.pick(REASONS)
  const address = (prng.below(PAGES) * 4096).toString(16)
  return `DMAR: [DMA ${access} NO_PASID] Request device [0${prng.below(4)}:00.0] fault addr 0x${address} [fault reason 0x${reason}] ${words}`
}
