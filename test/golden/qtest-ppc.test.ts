import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { iova } from '../../src/bits/brand.ts'
import { hex, hiOf, loOf, wordOf } from '../../src/bits/u64.ts'
import type { MachineEvent } from '../../src/trace/event.ts'
import { type Pseries, pseries } from '../support/pseries.ts'

const linesOf = (file: string): string[] =>
  readFileSync(new URL(file, import.meta.url), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))

const STEPS = linesOf('./qtest-ppc.answers.txt')
const TRACE = linesOf('./qtest-ppc.trace.txt').map((line) => line.replace(/table=0x[0-9a-f]+/, 'table=0x0'))
const BUID = '0x800000020000000'

/** A hypercall with its registers: the answer as the recording shows it. */
function hcall(m: Pseries, registers: readonly bigint[]): string {
  const [opcode = 0n, r4 = 0n, ...rest] = registers
  const lanes = [r4, ...rest].flatMap((r) => [hiOf(r), loOf(r)]) as [number]
  const calls: Record<string, (...lanes: [number]) => number> = {
    '0x20': (...l) => m.hcalls.putTce(...(l as unknown as [number, number, number, number, number, number])),
    '0x1c': (...l) => m.hcalls.getTce(...(l as unknown as [number, number, number, number])),
    '0x138': (...l) =>
      m.hcalls.stuffTce(
        ...(l as unknown as [number, number, number, number, number, number, number, number]),
      ),
    '0x13c': (...l) =>
      m.hcalls.putTceIndirect(
        ...(l as unknown as [number, number, number, number, number, number, number, number]),
      ),
  }
  const call = calls[hex(opcode)]
  const code = call === undefined ? m.hcalls.unknown(0, Number(opcode), hiOf(r4), loOf(r4)) : call(...lanes)
  return `${code} r4=${hex(wordOf(m.hcalls.r4Hi, m.hcalls.r4Lo))}`
}

/** One step of the recording, done by the model; the answer where the step has one. */
function step(m: Pseries, text: string): string | undefined {
  const [head = '', ...words] = text.split(' ')
  const numbers = words.map((w) => (/^(0x[0-9a-f]+|\d+)$/.test(w) ? BigInt(w) : 0n))
  const [first = 0n, second = 0n] = numbers
  const said = JSON.parse(/".*"$/.exec(text)?.[0] ?? '""') as string
  if (head === 'hcall') return hcall(m, numbers)
  if (head === 'rtas') {
    const [status, ...outs] = m.rtas.call(Number(first), numbers.slice(2).map(Number), Number(second))
    return [status, ...outs.map((o) => hex(o >>> 0))].join(' ')
  }
  if (head === 'list') {
    const [, count = 0n, from = 0n, by = 0n] = numbers
    m.memory.list(
      Number(first),
      Array.from({ length: Number(count) }, (_, i) => from + by * BigInt(i)),
    )
  } else if (head === 'write') m.memory.write(Number(first), said)
  else if (head === 'zero') m.memory.bytes.fill(0, Number(first), Number(first + second))
  else if (head === 'ram')
    return JSON.stringify(m.memory.text(Number(first), Number(second))).replaceAll('\0', '\\u0000')
  else if (words[0] === 'read') m.edu.transfer(iova(numbers[1] ?? 0n), Number(numbers[2]), false, 0)
  else m.edu.transfer(iova(numbers[1] ?? 0n), Number(numbers[2]), true, 0)
  return undefined
}

/** The lines that QEMU's trace points print for what the model recorded while a step ran. */
function traceOf(m: Pseries, text: string, events: readonly MachineEvent[]): string[] {
  const out: string[] = []
  for (const e of events) {
    if (e.kind === 'window.open') out.push(`spapr_iommu_new_table liobn=${hex(e.liobn)} table=0x0 fd=-1`)
    if (e.kind === 'dma.translate') {
      const window = m.phb.tables.map((t) => t.window).find((w) => w?.number === e.window)!
      const mask = (1n << BigInt(window.pageShift)) - 1n
      const at = `liobn=${hex(window.liobn)} ${hex(e.address - window.busOffset)}`
      out.push(`spapr_iommu_xlate ${at} -> ${hex(e.gpa)} perm=${e.perm} mask=${hex(mask)}`)
    }
    if (e.kind === 'call.return') out.push(...callLines(m, text, e.code))
  }
  return out
}

function callLines(m: Pseries, text: string, ret: number): string[] {
  const [head, ...words] = text.split(' ')
  const numbers = words.map((w) => BigInt(w))
  if (head === 'hcall') return hcallLines(m, numbers, ret)
  const [token, , addr = 0n, , , ps = 0n, ws = 0n] = numbers
  if (ret !== 0) return []
  const device = `buid=${BUID} addr=${hex(addr)}`
  if (token === 0x2026n) {
    const left = 2 - m.phb.openWindows
    return [
      `spapr_iommu_ddw_query ${device}, ${left} windows available, max window size=0x80000000, mask=0x107`,
    ]
  }
  if (token === 0x2028n) return [`spapr_iommu_ddw_remove liobn=${hex(addr)}`]
  if (token === 0x2029n) return [`spapr_iommu_ddw_reset ${device}`]
  const liobn = BigInt(m.rtas.outs[0] ?? 0)
  const start = m.table(liobn).window?.busOffset ?? 0n
  const sizes = `page size=${hex(1n << ps)}, requested=${hex(1n << ws)}, start addr=${hex(start)}`
  return [`spapr_iommu_ddw_create ${device}, ${sizes}, liobn=${hex(liobn)}`]
}

function hcallLines(m: Pseries, registers: readonly bigint[], ret: number): string[] {
  const [opcode = 0n, liobn = 0n, ioba = 0n, a3 = 0n, npages = 0n] = registers
  const window = liobn >> 32n === 0n ? m.liobns.find(0, Number(liobn))?.window : undefined
  const page = BigInt.asUintN(64, -1n << BigInt(window?.pageShift ?? 0))
  const pci = (liobn & 0x8000_0000n) === 0n ? 'spapr_iommu' : 'spapr_iommu_pci'
  const at = `liobn=${hex(liobn)}`
  if (opcode === 0x20n) return [`${pci}_put ${at} ioba=${hex(ioba & page)} tce=${hex(a3)} ret=${ret}`]
  if (opcode === 0x1cn) {
    const tce = ret === 0 ? wordOf(m.hcalls.r4Hi, m.hcalls.r4Lo) : 0n
    return [`${pci}_get ${at} ioba=${hex(ioba & page)} ret=${ret} tce=${hex(tce)}`]
  }
  if (window === undefined || window === null) return []
  // A call that is refused for its counts or its list prints nothing.
  const done = written(m)
  const pageBytes = 1n << BigInt(window.pageShift)
  if (opcode === 0x138n) {
    if (npages > BigInt(window.entries)) return []
    const end = (ioba & page) + done * pageBytes
    return [`${pci}_stuff ${at} ioba=${hex(end)} tcevalue=${hex(a3)} npages=${npages} ret=${ret}`]
  }
  if (opcode !== 0x13cn || npages > 512n || (a3 & 0xfffn) !== 0n) return []
  // After a failure the loop stands at the entry that failed; one less is printed, and the value read there.
  const stands = ret === 0 ? npages : done
  const index = stands === 0n ? 0n : stands - 1n
  const last = npages === 0n ? 0n : ret === 0 ? npages - 1n : done
  m.memory.loadU64be(Number(a3 >> 12n), Number(last) * 8)
  const tce = npages === 0n ? 0n : wordOf(m.memory.wordHi, m.memory.wordLo)
  return [
    `${pci}_indirect ${at} ioba=${hex(ioba)} tcelist=${hex(a3)} iobaN=${hex(index)} tceN=${hex(tce)} ret=${ret}`,
  ]
}

/** Entries that the last call wrote. */
function written(m: Pseries): bigint {
  let count = 0
  for (let seq = m.log.length - 1; seq >= 0; seq--) {
    const { event } = m.log.read(seq)
    if (event.kind === 'call.enter') return BigInt(count)
    if (event.kind === 'tce.set') count += event.count
  }
  return BigInt(count)
}

it('gives every recorded answer, and the records say every line of the trace', () => {
  const m = pseries({ ramBytes: 256 << 20 })
  const boot = m.log.records(0).next().value!
  const trace = traceOf(m, '', [boot.event])
  let answers = 0
  for (const text of STEPS) {
    const [todo = '', wanted] = text.split(' => ')
    const from = m.log.length
    const got = step(m, todo)
    if (wanted !== undefined) {
      expect(`${todo} => ${got}`).toBe(text)
      answers++
    }
    trace.push(
      ...traceOf(
        m,
        todo,
        [...m.log.records(from)].map((r) => r.event),
      ),
    )
  }
  expect(answers).toBeGreaterThan(90)
  expect(trace).toEqual(TRACE)
})
