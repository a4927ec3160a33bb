import { FindingList } from '../../src/check/finding-list.ts'
import { SeenMaps } from '../../src/check/seen-maps.ts'
import { WindowShadows } from '../../src/check/window-shadow.ts'
import type { ReplayResult } from '../../src/machine/replay/result.ts'
import { JoinedFtraceReplay } from '../../src/machine/replay/vtd/ftrace-replay.ts'
import { bytesOf } from '../log-rows.ts'
import { VTD_LINE as L, STARTED } from './vtd-trace.ts'

const PREFIX = '          <idle>-0       [000] d.h2.     2.024434: '
const wide = (n: number): string => `0x${n.toString(16).padStart(16, '0')}`
const MEMORY = 0x100_0000

/** A boot that both QEMU and the guest's kernel trace: what is done to it leaves lines in both. Pages have 4 KiB. */
export class VtdBoot {
  readonly qemu: string[] = [...STARTED]
  readonly kernel: string[] = []
  readonly domain: number
  /** Whether the kernel traces. */
  isTraced = true
  readonly #iotlb = new Map<number, number>()
  readonly #mapped = new Map<number, number>()

  constructor(domain = 5) {
    this.domain = domain
  }

  map(page: number, target: number): this {
    this.#mapped.set(page, target)
    const [iova, paddr] = [page * 4096, MEMORY + target * 4096]
    return this.#say(`map: IOMMU: iova=${wide(iova)} - ${wide(iova + 4096)} paddr=${wide(paddr)} size=4096`)
  }

  unmap(page: number): this {
    this.#mapped.delete(page)
    const iova = page * 4096
    return this.#say(`unmap: IOMMU: iova=${wide(iova)} - ${wide(iova + 4096)} size=4096 unmapped_size=4096`)
  }

  /** The device reads a page: by what the IOTLB has, or by what is mapped. */
  dma(page: number): this {
    const held = this.#iotlb.get(page)
    const target = held ?? this.#mapped.get(page)
    if (target === undefined) return this
    const [iova, gpa] = [page * 4096, MEMORY + target * 4096]
    const line = held === undefined ? L.update : L.hit
    this.qemu.push(line(iova + 8, gpa + 3, this.domain), L.translate(iova, gpa))
    this.#iotlb.set(page, target)
    return this
  }

  flush(page: number, order = 0): this {
    const hi = page * 4096 + order
    for (let i = 0; i < 2 ** order; i++) this.#iotlb.delete(page + i)
    this.descriptor('iotlb_inv', this.#word(0x32), hi)
    this.qemu.push(L.flushPages(page * 4096, order, this.domain))
    return this.#wait()
  }

  flushDomain(): this {
    this.#iotlb.clear()
    this.descriptor('iotlb_inv', this.#word(0x22), 0)
    this.qemu.push(L.flushDomain(this.domain))
    return this.#wait()
  }

  /** A descriptor of interrupts: says nothing of pages. */
  interrupt(index: number): this {
    this.descriptor('iec_inv', index * 2 ** 32 + 0x14, 0)
    return this.#wait()
  }

  descriptor(kind: string, lo: number, hi: number): this {
    this.#say(`qi_submit: ${kind} dmar0: 0x${lo.toString(16)} 0x${hi.toString(16)} 0x0 0x0`)
    this.qemu.push(L.descriptor(kind === 'iec_inv' ? 'iec' : 'iotlb', hi, lo))
    return this
  }

  #word(type: number): number {
    return type + this.domain * 0x1_0000
  }

  #wait(): this {
    this.qemu.push(L.descriptor('wait', 0x10_7000, 0x2_0000_0025n), L.wait)
    return this
  }

  #say(text: string): this {
    if (this.isTraced) this.kernel.push(PREFIX + text)
    return this
  }
}

export interface JoinedRun {
  readonly result: ReplayResult
  /** Rules that the maps break, with the lines of their evidence. */
  readonly found: readonly (readonly [rule: string, lines: readonly number[]])[]
}

/** Replays both traces of a boot. @param cut how many bytes of QEMU's come next */
export function joinTraces(qemu: Uint8Array, kernel: Uint8Array, cut?: () => number): JoinedRun {
  const list = new FindingList()
  const maps = new SeenMaps(list, (log) => ({ log, windows: new WindowShadows() }))
  const running = new JoinedFtraceReplay({
    source: 'boot',
    watch: (log) => log.subscribe({ kinds: SeenMaps.KINDS, see: (of, seq) => maps.see(of, seq) }),
  })
  running.kernel(kernel)
  for (let at = 0; at < qemu.length; ) {
    const end = Math.min(qemu.length, at + (cut?.() ?? qemu.length))
    running.trace(qemu.subarray(at, end))
    at = end
  }
  const result = running.end()
  return { result, found: list.found.map((f) => [f.rule, f.because.map((b) => b.line)]) }
}

export const joinBoot = ({ qemu, kernel }: VtdBoot): JoinedRun =>
  joinTraces(bytesOf(`${qemu.join('\n')}\n`), bytesOf(`${kernel.join('\n')}\n`))
