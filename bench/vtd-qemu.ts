/**
 * `npm run bench:vtd-qemu [-- --qemu PATH] [--launches 3]`: what a DMA through QEMU's intel-iommu costs, beside one of ours
 * with all records and checkers. The network card e1000 goes through a ring of transmit descriptors of one byte each, two
 * DMA reads a descriptor, all of it inside one write to its tail register; with translation and without. Processor time
 * of QEMU's threads, as the kernel counts it.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Qtest } from '../src/peer/qtest.ts'
import { factLines, machineFacts } from './facts.ts'
import type { LoopCost } from './floors.ts'
import { Xorshift } from './patterns.ts'
import { medianOf } from './stopwatch.ts'
import { columns, figure } from './table.ts'

const { values } = parseArgs({
  options: {
    qemu: { type: 'string', default: 'qemu-system-x86_64' },
    launches: { type: 'string', default: '3' },
  },
})

const RAM_MIB = 512
const PAGE_BYTES = 4096
const ANSWER_MS = 60_000
/** What is mapped one to one: 256 MiB. Above are tables, from 256 MiB on. */
const MAPPED_PAGES = 1 << 16
const ROOT = 0x1000_0000
const CONTEXT = ROOT + 0x1000
const LEVEL_3 = ROOT + 0x2000
const LEVEL_2 = ROOT + 0x3000
const LEVEL_1 = ROOT + 0x4000
const RING = 0x200_0000
const DATA = 0x400_0000

const UNIT = 0xfed9_0000
const RTADDR = UNIT + 0x20
const GCMD = UNIT + 0x18
const SRTP = 0x4000_0000
const TE = 0x8000_0000

/** The card: where it sits, its registers, and bits of commands. (Intel 8254x manual, Transmit Descriptor) */
const DEVFN = 0x18
const BAR = 0xe000_0000
const TCTL = BAR + 0x400
const TDBAL = BAR + 0x3800
const TDLEN = BAR + 0x3808
const TDH = BAR + 0x3810
const TDT = BAR + 0x3818
const TCTL_EN = 2
const DESCRIPTOR_BYTES = 16
const END_OF_PACKET = 1
/** As many as the ring and the card's buffer of 64 KiB hold. */
const DESCRIPTORS = 65_000
const KICKS = 9

/** Pages of the data: one, few, and more than QEMU's IOTLB holds. */
const PAGES = [1, 512, 16_384] as const

class Machine {
  readonly #child: ChildProcess
  readonly #qtest: Qtest

  constructor() {
    const args = ['-machine', 'q35,accel=tcg', '-m', `${RAM_MIB}`, '-S', '-nodefaults', '-display', 'none']
    const devices = ['-device', 'intel-iommu', '-device', 'e1000,addr=3,romfile=']
    const child = spawn(values.qemu, [...args, ...devices, '-qtest', 'stdio', '-qtest-log', 'none'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#child = child
    this.#qtest = new Qtest({ input: child.stdin, output: child.stdout, answerMs: ANSWER_MS })
    child.once('exit', (code) => this.#qtest.close(`QEMU ended with ${code}`))
  }

  async start(): Promise<void> {
    const config = (register: number) => (0x8000_0000 | (DEVFN << 8) | register) >>> 0
    const write = async (register: number, value: number) => {
      await this.#qtest.command(`outl 0xcf8 0x${config(register).toString(16)}`)
      await this.#qtest.command(`outl 0xcfc 0x${value.toString(16)}`)
    }
    await write(0x10, BAR)
    await write(4, 6)
    await this.#tables()
    await this.#writel(TDBAL, RING)
    await this.#writel(TDLEN, (DESCRIPTORS + 8) * DESCRIPTOR_BYTES)
    await this.#writel(TCTL, TCTL_EN)
  }

  /** Translation on: 39 bits, three levels, 4 KiB pages, one to one. */
  async translate(): Promise<void> {
    await this.#qtest.writeWord(RTADDR, BigInt(ROOT))
    await this.#writel(GCMD, SRTP)
    await this.#writel(GCMD, TE)
  }

  /** Descriptors of one byte in random pages; the last one ends the packet. */
  async fillRing(pages: number): Promise<void> {
    const ring = new DataView(new ArrayBuffer(DESCRIPTORS * DESCRIPTOR_BYTES))
    const random = new Xorshift()
    for (let i = 0; i < DESCRIPTORS; i++) {
      const at = i * DESCRIPTOR_BYTES
      ring.setBigUint64(at, BigInt(DATA + (random.next() % pages) * PAGE_BYTES), true)
      ring.setUint16(at + 8, 1, true)
      ring.setUint8(at + 11, i === DESCRIPTORS - 1 ? END_OF_PACKET : 0)
    }
    await this.#qtest.write(RING, new Uint8Array(ring.buffer))
  }

  /** Nanoseconds of a descriptor: the median of some kicks, the first of which warms up. */
  async kicks(): Promise<number> {
    const costs: number[] = []
    for (let kick = 0; kick < KICKS; kick++) {
      await this.#writel(TDT, 0)
      await this.#writel(TDH, 0)
      const before = this.#cpuNs()
      await this.#writel(TDT, DESCRIPTORS)
      const after = this.#cpuNs()
      const head = await this.#qtest.command(`readl 0x${TDH.toString(16)}`)
      if (Number(head) !== DESCRIPTORS) throw new Error(`the card went to descriptor ${head} only`)
      if (kick > 0) costs.push((after - before) / DESCRIPTORS)
    }
    return medianOf(costs)
  }

  end(): void {
    this.#child.kill()
  }

  async #tables(): Promise<void> {
    const words = (count: number, word: (i: number) => bigint): Uint8Array => {
      const view = new DataView(new ArrayBuffer(count * 8))
      for (let i = 0; i < count; i++) view.setBigUint64(i * 8, word(i), true)
      return new Uint8Array(view.buffer)
    }
    const tables = MAPPED_PAGES / 512
    await this.#qtest.clear(ROOT, LEVEL_1 - ROOT)
    await this.#qtest.writeWord(ROOT, BigInt(CONTEXT) | 1n)
    await this.#qtest.writeWord(CONTEXT + DEVFN * 16, BigInt(LEVEL_3) | 1n)
    await this.#qtest.writeWord(CONTEXT + DEVFN * 16 + 8, 0x101n)
    await this.#qtest.writeWord(LEVEL_3, BigInt(LEVEL_2) | 3n)
    await this.#qtest.write(
      LEVEL_2,
      words(tables, (i) => BigInt(LEVEL_1 + i * PAGE_BYTES) | 3n),
    )
    await this.#qtest.write(
      LEVEL_1,
      words(MAPPED_PAGES, (i) => (BigInt(i) << 12n) | 3n),
    )
  }

  #writel(address: number, value: number): Promise<string> {
    return this.#qtest.command(`writel 0x${address.toString(16)} 0x${value.toString(16)}`)
  }

  /** Processor time of all threads. (Linux Documentation/scheduler/sched-stats.rst) */
  #cpuNs(): number {
    const tasks = `/proc/${this.#child.pid}/task`
    let ns = 0
    for (const task of readdirSync(tasks)) {
      ns += Number(readFileSync(join(tasks, task, 'schedstat'), 'utf8').split(' ')[0])
    }
    return ns
  }
}

/** Cost of a case of ours, in a process of its own. */
function ours(id: string): number {
  const child = join(fileURLToPath(new URL('.', import.meta.url)), 'child.js')
  const text = execFileSync(process.execPath, [child, id, 'ours', `${1 << 18}`], { encoding: 'utf8' })
  return (JSON.parse(text) as LoopCost).ns
}

const OURS: Readonly<Record<(typeof PAGES)[number], string>> = {
  1: 'vtd/dma/hit/all',
  512: 'vtd/dma/hit/all',
  16384: 'vtd/dma/miss/all',
}

const out = (line: string) => process.stdout.write(`${line}\n`)
for (const line of factLines(machineFacts(undefined))) out(line)
out(`qemu      ${execFileSync(values.qemu, ['--version'], { encoding: 'utf8' }).split('\n')[0]}`)
out('')

const costs = PAGES.map(() => ({ off: [] as number[], on: [] as number[], ours: [] as number[] }))
for (let launch = 0; launch < Number(values.launches); launch++) {
  const machine = new Machine()
  await machine.start()
  for (const isOn of [false, true]) {
    if (isOn) await machine.translate()
    for (const [i, pages] of PAGES.entries()) {
      await machine.fillRing(pages)
      costs[i]?.[isOn ? 'on' : 'off'].push(await machine.kicks())
    }
  }
  machine.end()
  for (const [i, pages] of PAGES.entries()) costs[i]?.ours.push(ours(OURS[pages]))
}

const ringHit = (medianOf(costs[0]?.on ?? []) - medianOf(costs[0]?.off ?? [])) / 2
const rows = PAGES.map((pages, i) => {
  const [off, on, own] = [costs[i]?.off, costs[i]?.on, costs[i]?.ours].map((c) => medianOf(c ?? [])) as [
    number,
    number,
    number,
  ]
  // Of two DMAs the one to the ring is a hit in any case.
  const dma = pages === 16_384 ? on - off / 2 - ringHit : on / 2
  return [
    `${pages}`,
    figure(off),
    figure(on),
    figure((on - off) / 2),
    figure(dma),
    figure(own),
    (dma / own).toFixed(2),
  ]
})
const head = ['pages', 'off', 'on', 'half of on-off', 'a DMA', 'ours, all', 'QEMU/ours']
for (const line of columns(
  head,
  rows,
  head.map(() => 'right' as const),
))
  out(line)
out('')
out(
  'ns a descriptor with translation off and on (two DMA reads), ns a DMA. Ours: vtd/dma/hit/all, vtd/dma/miss/all.',
)
