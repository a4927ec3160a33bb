import { beforeAll, describe, expect, it } from 'vitest'
import type { ReplayResult } from '../../src/machine/replay/result.ts'
import { Recording, replayText } from '../support/transcript.ts'

let recording: Recording
beforeAll(async () => {
  recording = await Recording.read()
})

const lineOf = ({ line, log, model }: ReplayResult['divergences'][number]) => `${line}: ${log} | ${model}`
const diverged = (r: ReplayResult) => r.divergences.map(lineOf)

/** Memory that is mapped is not unregistered (X1), and tables that could not be made are not paid for (X10). */
const INTENDED_VFIO = [
  '118: 0 | -1 EBUSY',
  '122: -1 ENOENT | -1 EBUSY',
  '145: 0 VmLck=16896kB VmPin=0kB | 0 VmLck=16384kB VmPin=0kB',
  '166: 0 VmLck=542208kB VmPin=0kB | 0 VmLck=16384kB VmPin=0kB',
  '169: 0 | -1 EBUSY',
  '171: 0 VmLck=804736kB VmPin=0kB | 0 VmLck=16384kB VmPin=0kB',
  '173: 0 VmLck=804736kB VmPin=0kB | 0 VmLck=16384kB VmPin=0kB',
  '175: 0 VmLck=804736kB VmPin=0kB | 0 VmLck=16384kB VmPin=0kB',
  '181: 0 VmLck=804736kB VmPin=0kB | 0 VmLck=0kB VmPin=0kB',
  '183: 0 VmLck=804736kB VmPin=0kB | 0 VmLck=0kB VmPin=0kB',
]

/** Hypercalls past the end of a window are refused (X14). */
const INTENDED_KVM = [
  '328: 0 r4=0x80000000 | -4 0 r4=0x80000000',
  '338: 0 r4=0x80000000 | -4 0 r4=0x80000000',
]
/** The same, and memory that a guest has mapped is not unregistered. */
const INTENDED_BOTH = [
  '423: 0 r4=0x80000000 | -4 0 r4=0x80000000',
  '424: 0 | -1 EBUSY',
  '427: -1 ENOENT | -1 EBUSY',
  '429: -1 ENOENT | 0',
  '430: 0 VmLck=70912kB VmPin=0kB | 0 VmLck=5376kB VmPin=0kB',
]
const INTENDED: Readonly<Record<string, readonly string[]>> = {
  'pnv-1': INTENDED_VFIO,
  'pnv-3': INTENDED_KVM,
  'pnv-4': INTENDED_BOTH,
}

describe.each([
  ['pnv-1', 127],
  ['pnv-2', 44],
  ['pnv-3', 64],
  ['pnv-4', 74],
  ['pnv-5', 31],
] as const)('%s: commands that ran on Linux 6.12.95', (name, total) => {
  it('have the answers of the kernel, every one', () => {
    const r = replayText(recording.script(name))
    expect(diverged(r)).toEqual([])
    expect(r.answers).toEqual({ total, matched: total, diverged: 0, unjudged: 0 })
    expect(r.profile).toBe('linux-6.12.95')
  })

  it('have others only where the kernel has defects', () => {
    const r = replayText(recording.script(name), 'intended')
    expect(diverged(r)).toEqual(INTENDED[name] ?? [])
    expect(r.answers).toMatchObject({ total, unjudged: 0 })
  })

  it('have the same answers before Linux 6.4, but for v1 over dynamic windows', () => {
    const changed = diverged(replayText(recording.script(name), 'linux-6.1'))
    if (name !== 'pnv-5') expect(changed).toEqual([])
    else expect(changed[0]).toContain('0 | -1 EPERM')
  })
})

describe('the whole recording', () => {
  it('diverges nowhere', () => {
    const r = replayText(recording.text)
    expect(diverged(r)).toEqual([])
    expect(r.answers).toEqual({ total: 340, matched: 340, diverged: 0, unjudged: 0 })
  })

  it('diverges without the errata of the kernel in the lines that show them, and in no others', () => {
    expect(diverged(replayText(recording.text, 'intended'))).toEqual([
      ...INTENDED_VFIO,
      ...INTENDED_KVM,
      ...INTENDED_BOTH,
    ])
  })

  it('names the emulated host as what it is taken to be', () => {
    const { assumptions } = replayText(recording.text)
    expect(assumptions).toHaveLength(1)
    expect(assumptions[0]).toMatchObject({ line: 4, state: 'open' })
    expect(assumptions[0]?.text).toContain('(Q13)')
  })

  it('would freeze the PE on hardware, at the first DMA that is refused', () => {
    const { divergences } = replayText(recording.script('pnv-2'), 'linux-6.12.95,-Q13')
    // A write through an entry that is for reading only; from there on registers read as all ones.
    expect(divergences[0]).toMatchObject({ line: 248, call: 'dma w 0x20200 16', rule: 'engine-runs' })
    expect(divergences.length).toBeGreaterThan(5)
  })

  it('finds the memory that the kernel lost: X1 on its region, X10 on its books', () => {
    const { findings } = replayText(recording.script('pnv-1'))
    const shown = findings.map((f) => [f.rule, f.because.at(-1)?.line])
    expect(shown).toContainEqual(['orphaned-region', 118])
    expect(new Set(findings.map((f) => f.rule))).toEqual(
      new Set(['orphaned-region', 'leak-pin', 'locked-vm-balance']),
    )
    expect(findings.every((f) => !f.inferred)).toBe(true)
    expect(replayText(recording.script('pnv-1'), 'intended').findings).toEqual([])
  })
})
