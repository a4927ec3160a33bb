import { describe, expect, it } from 'vitest'
import { EehExplainer } from '../../../src/report/explain/eeh-explainer.ts'
import type { FaultGroup } from '../../../src/report/explain/fault-log.ts'
import { PowerpcExplainer } from '../../../src/report/explain/powerpc-explainer.ts'
import { causesOf, explained, rowOf } from '../../support/explain.ts'

const groups = (...lines: string[]): readonly FaultGroup[] =>
  explained(lines, new EehExplainer(), new PowerpcExplainer()).groups
const only = (...lines: string[]): FaultGroup => {
  const all = groups(...lines)
  expect(all).toHaveLength(1)
  return all[0] as FaultGroup
}

/** As a real machine has it, from the freeze to its end. */
const FREEZE = [
  'EEH: Recovering PHB#2-PE#fd',
  'EEH: PE location: UOPWR.A100034-Node0-Builtin SAS, PHB location: N/A',
  'EEH: Frozen PHB#2-PE#fd detected',
  'EEH: Call Trace:',
  'EEH: [(____ptrval____)] __eeh_send_failure_event+0x60/0x110',
  'EEH: [(____ptrval____)] eeh_check_failure+0x98/0x100',
  'EEH: [(____ptrval____)] aac_src_check_health+0x8c/0xc0',
  'EEH: [(____ptrval____)] aac_command_thread+0x718/0x930',
  'EEH: This PCI device has failed 1 times in the last hour and will be permanently disabled after 5 failures.',
  'PCI 0002:01:00.0#00fd: EEH: Invoking aacraid->error_detected(IO frozen)',
  "PCI 0002:01:00.0#00fd: EEH: aacraid driver reports: 'need reset'",
]
const RECOVERED = 'EEH: Recovery successful.'

describe('a frozen endpoint', () => {
  it('is one fault, whose lines come over seconds', () => {
    const fault = only(...FREEZE, RECOVERED)
    expect(fault.words.title).toBe('PHB#2-PE#fd (0002:01:00.0, aacraid) was frozen')
    expect(fault.words.fields).toEqual({
      phb: 2,
      pe: 0xfd,
      state: 'frozen',
      devices: '0002:01:00.0',
      driver: 'aacraid',
      timesInHour: 1,
      location: 'UOPWR.A100034-Node0-Builtin SAS',
      outcome: 'recovered (line 12)',
    })
    expect(fault.firstLine).toBe(1)
    expect(fault.times).toBe(1)
    expect(rowOf(fault, 'noticed')).toBe(
      'aac_src_check_health read all ones (line 7); the error itself came earlier',
    )
  })

  it.each([
    ['says so first', ['EEH: Frozen PHB#2-PE#fd detected', 'EEH: Recovering PHB#2-PE#fd']],
    ['says so last', ['EEH: Recovering PHB#2-PE#fd', 'EEH: Frozen PHB#2-PE#fd detected']],
    ['an old kernel', ['EEH: Frozen PE#fd on PHB#2 detected', 'EEH: PE location: N/A, PHB location: N/A']],
  ])('the kernel %s', (_what, lines) => {
    const fault = only(...lines)
    expect(fault.words.title).toBe('PHB#2-PE#fd was frozen')
    expect(rowOf(fault, 'outcome')).toBe('not in the log')
  })

  it('that freezes again is counted, and so is another', () => {
    const again = groups(...FREEZE, RECOVERED, ...FREEZE, RECOVERED, 'EEH: Frozen PHB#2-PE#fe detected')
    expect(again.map(({ times }) => times)).toEqual([2, 1])
  })

  it('without an end between two freezes, each is one', () => {
    const frozen = 'EEH: Frozen PHB#2-PE#fd detected'
    expect(groups(frozen, frozen).map(({ times }) => times)).toEqual([2])
  })

  it.each([
    ['EEH: Recovery successful.', 'recovered (line 12)'],
    ['EEH: Unable to recover from failure from PHB#2-PE#fd.', 'given up: its devices were removed (line 12)'],
    [
      'EEH: PHB#2-PE#fd has failed 6 times in the last hour and has been permanently disabled.',
      'disabled after too many failures in an hour (line 12)',
    ],
    ['EEH: PHB#2-PE#fd has failed 6 times in the', 'disabled after too many failures in an hour (line 12)'],
  ])('ends with "%s"', (line, outcome) => {
    expect(rowOf(only(...FREEZE, line), 'outcome')).toBe(outcome)
  })

  it('a driver that goes on reading is told of', () => {
    const line =
      'PCI 0002:01:00.0#00fd: EEH: 2100000 reads ignored for recovering device at location=unknown driver=aacraid'
    expect(causesOf(only(...FREEZE, line)).at(-1)).toEqual([
      12,
      '2100000 reads were ignored: its driver may loop',
    ])
  })
})

describe('why an endpoint was frozen', () => {
  it('someone broke it on purpose', () => {
    const injected = 'aacraid 0002:01:00.0: Going to break: [mem 0x3fe800000000-0x3fe800007fff 64bit]'
    expect(causesOf(only(injected, ...FREEZE))[0]).toEqual([
      1,
      'someone broke it on purpose (eeh_dev_break): [mem 0x3fe800000000-0x3fe800007fff 64bit]',
    ])
    const other = injected.replace('01:00.0', '02:00.0')
    expect(causesOf(only(other, ...FREEZE)).map(([line]) => line)).not.toContain(1)
  })

  it('a mapping failed before, and the windows of the endpoint', () => {
    const fault = groups(
      'pci 0002:01     : [PE# fd] Setting up window#0 0..7fffffff pg=10000',
      'pci 0002:01     : [PE# fd] Enabling 64-bit DMA bypass',
      'pci 0002:02     : [PE# fe] Setting up window#0 0..7fffffff pg=1000',
      'aacraid 0002:01:00.0: iommu_alloc failed, tbl 00000000a3c5c1f5 vaddr c000000133b00000 npages 16',
      ...FREEZE,
    ).at(-1) as FaultGroup
    expect(fault.words.rows.filter(([label]) => label === 'window')).toEqual([
      ['window', 'window 0: 0x0-0x7fffffff, 32768 pages of 64 KiB (line 1)'],
      ['window', '64-bit bypass: bus addresses with bit 59 reach memory directly (line 2)'],
    ])
    expect(causesOf(fault)[0]).toEqual([4, 'no room for a mapping of 16 entries in a row'])
  })
})

describe('a host bridge', () => {
  it.each([
    ['EEH: Fenced PHB#2 detected, location: N/A', 'PHB#2 was fenced off', 'fenced'],
    ['EEH: fenced PHB#2 detected', 'PHB#2 was fenced off', 'fenced'],
    ['EEH: dead PHB#2 detected, location: N/A', 'PHB#2 is dead', 'dead'],
    ['EEH: PHB#2 failure detected, location: N/A', 'PHB#2 has stopped', 'failed'],
    ['EEH: Recovering PHB#2, location: N/A', 'PHB#2 has stopped', 'failed'],
  ])('%s', (line, title, state) => {
    const { words } = only(line)
    expect(words).toMatchObject({ title, kind: 'host-bridge' })
    expect(words.fields).toMatchObject({ phb: 2, pe: null, state })
  })

  it('its recovery is no second fault', () => {
    expect(
      groups('EEH: Fenced PHB#2 detected, location: N/A', 'EEH: Recovering PHB#2, location: N/A'),
    ).toHaveLength(1)
  })
})

it('a machine without EEH says so once', () => {
  const log = explained(['EEH: No capable adapters found: recovery disabled.'], new EehExplainer())
  expect(log.facts.map(({ text }) => text)).toEqual(['no device of the machine can be recovered by EEH'])
})
