import { describe, expect, it } from 'vitest'
import { createLogExplainer } from '../../../src/machine/explain.ts'
import { CAUSE_FORMATS, createTraceCauses } from '../../../src/machine/explain-trace.ts'
import { FTRACE } from '../../../src/reader/ftrace-format.ts'
import type { FaultLog } from '../../../src/report/explain/fault-log.ts'
import { bytesOf, ftraceOf } from '../../log-rows.ts'

const fault = (seconds: string, address: string, access = 'Read', reason = '06'): string =>
  `[${seconds.padStart(12)}] DMAR: [DMA ${access} NO_PASID] Request device [00:01.0] fault addr ${address} [fault reason 0x${reason}] text`

/** A log with the causes that a trace adds, and how many of its faults that explains. */
function withTrace(lines: readonly string[], trace: Uint8Array): { faults: FaultLog; explained: number } {
  const explainer = createLogExplainer()
  explainer.push(bytesOf(`${lines.join('\n')}\n`))
  const { faults } = explainer.end()
  const causes = createTraceCauses(FTRACE.id, faults)
  causes.push(trace)
  return { faults, explained: causes.end() }
}

const traceLine = (seconds: string, event: string): string =>
  `          <idle>-0       [000] d.h2. ${seconds.padStart(12)}: ${event}`
const map = (seconds: string): string =>
  traceLine(
    seconds,
    'map: IOMMU: iova=0x0000000000010000 - 0x0000000000011000 paddr=0x0000000002cef000 size=4096',
  )
const unmap = (seconds: string): string =>
  traceLine(
    seconds,
    'unmap: IOMMU: iova=0x0000000000010000 - 0x0000000000011000 size=4096 unmapped_size=4096',
  )
const told = (faults: FaultLog): string[] => faults.groups[0]?.because.map(({ text }) => text) ?? []

const MAPPED = 'trace line 1: 0x10000-0x10fff was mapped'
const UNMAPPED = 'trace line 2: 0x10000-0x10fff was unmapped: the device came too late'
const AGAIN = 'trace line 3: 0x10000-0x10fff was mapped'
const NONE = 'the trace has no mapping of its address before it'

describe("a kernel's own trace beside its log", () => {
  const trace = bytesOf(`${[map('1.000000'), unmap('2.000000'), map('3.000000')].join('\n')}\n`)

  it.each<[seconds: string, causes: string[]]>([
    ['0.500000', [NONE]],
    ['1.500000', [MAPPED]],
    ['2.500000', [MAPPED, UNMAPPED]],
    ['3.500000', [AGAIN]],
  ])('a fault at %s s sees what was mapped then', (seconds, causes) => {
    const { faults, explained } = withTrace([fault(seconds, '0x10000')], trace)
    expect(told(faults)).toEqual(causes)
    expect(explained).toBe(causes[0] === NONE ? 0 : 1)
  })

  it('faults of a log are looked for in the order of their times', () => {
    const { faults } = withTrace(
      [fault('0.500000', '0x10000'), fault('2.500000', '0x10000', 'Write', '05')],
      trace,
    )
    const traced = faults.groups.map(({ because }) =>
      because.map(({ text }) => text).filter((text) => text.includes('trace')),
    )
    expect(traced).toEqual([[NONE], [MAPPED, UNMAPPED]])
  })

  it('a log without times cannot be laid beside it', () => {
    const { faults, explained } = withTrace([fault('2.5', '0x10000').slice(15)], trace)
    expect(told(faults)).toEqual([])
    expect(explained).toBe(0)
  })

  it('one that was recorded', async () => {
    const at = (seconds: string): string => fault(seconds, '0xffffa000')
    const recorded = await ftraceOf('vtd/x86-ftrace')
    const { faults } = withTrace([at('2.030000')], recorded)
    expect(told(faults)).toEqual([
      'trace line 13: 0xffffa000-0xffffafff was mapped',
      'trace line 14: 0xffffa000-0xffffafff was unmapped: the device came too late',
    ])
    expect(told(withTrace([at('1.999000')], recorded).faults)).toEqual([NONE])
  })

  it('both kinds of traces are taken', () => {
    expect(CAUSE_FORMATS).toEqual(['qemu-trace', 'linux-ftrace'])
  })
})
