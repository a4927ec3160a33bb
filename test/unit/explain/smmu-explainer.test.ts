import { describe, expect, it } from 'vitest'
import type { FaultGroup } from '../../../src/report/explain/fault-log.ts'
import { SmmuExplainer } from '../../../src/report/explain/smmu-explainer.ts'
import { explained, rowOf } from '../../support/explain.ts'

const UNIT = 'arm-smmu-v3 arm-smmu-v3.2.auto:'
const word = (value: bigint): string => `${UNIT} \t0x${value.toString(16).padStart(16, '0')}`
const event = (...words: bigint[]): string[] => [
  `${UNIT} event 0x${((words[0] ?? 0n) & 0xffn).toString(16).padStart(2, '0')} received:`,
  ...words.map(word),
]
const groups = (...lines: string[]): readonly FaultGroup[] => explained(lines, new SmmuExplainer()).groups
const only = (...lines: string[]): FaultGroup => {
  const all = groups(...lines)
  expect(all).toHaveLength(1)
  return all[0] as FaultGroup
}

/** As a real machine has it: a stalled read of stream 0x3102. */
const REAL = event(0x0000_3102_0000_0010n, 0x0000_0208_8000_007fn, 0x1000n, 0n)

describe('events of which the log has words only', () => {
  const said = (event: string, more: string) =>
    `${UNIT} event: ${event} client: 0000:01:00.0 sid: 0x100 ${more}`
  const ADDRESSES = 'ssid: 0x0 iova: 0xffffd000 ipa: 0x0'

  it('is a fault as one with its record is', () => {
    const { words, addresses } = only(said('F_TRANSLATION', ADDRESSES))
    expect(words).toMatchObject({ kind: 'event', title: 'F_TRANSLATION of 01:00.0', device: '01:00.0' })
    expect(words.fields).toMatchObject({ event: 0x10, stream: 0x100, substream: null })
    expect(addresses.ranges).toEqual([{ first: 0xffff_d000n, last: 0xffff_d000n }])
  })

  it.each<[line: string, access: string, where: string]>([
    [
      'unpriv data write s1 "Input address caused fault" stag: 0x0',
      'unprivileged data write',
      'stage 1: the address itself',
    ],
    [
      'priv inst read s2 "Stage 1 translation table fetch" ttd_read stall stag: 0x0',
      'privileged instruction read that waits for an answer (stalled)',
      'stage 2: a table of stage 1 was to be read',
    ],
    [
      'unpriv data read s1 "CD fetch" stag: 0x0',
      'unprivileged data read',
      'stage 1: the context descriptor was to be read',
    ],
    ['unpriv data read s1 "Reserved" stag: 0x0', 'unprivileged data read', 'stage 1: reserved'],
  ])('%s', (line, access, where) => {
    const fault = only(said('F_PERMISSION', ADDRESSES), `${UNIT} ${line}`)
    expect(fault.words.kind).toBe('dma')
    expect(rowOf(fault, 'access')).toBe(access)
    expect(rowOf(fault, 'failed at')).toBe(where)
  })

  it('with its record it is one fault, and the next words are another', () => {
    const all = groups(...REAL, said('F_TRANSLATION', ADDRESSES), said('F_TRANSLATION', ADDRESSES))
    expect(all.map(({ times, words }) => [times, words.device])).toEqual([
      [1, '01:00.0'],
      [1, '01:00.0'],
    ])
  })

  it('a substream, and an event without an address', () => {
    const { words, addresses } = only(said('C_BAD_CD', 'ssid: 0x5'))
    expect(words.fields).toMatchObject({ event: 10, substream: 5 })
    expect(addresses.ranges).toEqual([])
    expect(only(said('UNKNOWN', 'ssid: 0x0')).words.title).toBe('UNKNOWN of 01:00.0')
  })
})

describe('errors of a unit', () => {
  it.each<[what: string, text: string, title: string]>([
    [
      'a command that does not end',
      'CMD_SYNC timeout at 0x0000b1b7 [hwprod 0x0000b1c0, hwcons 0x0000b1b7]',
      'the SMMU arm-smmu-v3.2.auto did not complete its commands',
    ],
    ['the same, older', 'CMD_SYNC timeout', 'the SMMU arm-smmu-v3.2.auto did not complete its commands'],
    [
      'a command that is not taken',
      'CMDQ error (cons 0x01000123): Illegal command',
      'the SMMU arm-smmu-v3.2.auto stopped at a command: Illegal command',
    ],
    [
      'a global error',
      'unexpected global error reported (0x00000105), this could be serious',
      'the SMMU arm-smmu-v3.2.auto reports an error of its own',
    ],
  ])('%s', (_what, text, title) => {
    expect(only(`${UNIT} ${text}`).words.title).toBe(title)
  })

  it('the bits of a global error are told', () => {
    const fault = only(`${UNIT} unexpected global error reported (0x00000101), this could be serious`)
    expect(rowOf(fault, 'means')).toBe(
      '0x101: a command was not taken (CMDQ_ERR); the unit is in service failure mode, and translates no more (SFM_ERR)',
    )
    const unknown = only(`${UNIT} unexpected global error reported (0x00000200), this could be serious`)
    expect(rowOf(unknown, 'means')).toBe('0x200: no bit that is known')
  })

  it('the words of a command are none of an event', () => {
    const [event] = groups(
      ...REAL.slice(0, 2),
      `${UNIT} skipping command in error state:`,
      word(1n),
      word(2n),
    )
    expect(rowOf(event as FaultGroup, 'words')).toBe('only 1 of 4 stand in the log')
  })
})

describe('events of an SMMU', () => {
  it('of a real machine', () => {
    const fault = only(...REAL)
    expect(fault.words.fields).toEqual({
      event: 0x10,
      eventName: 'F_TRANSLATION',
      stream: 0x3102,
      substream: null,
      access: 'read',
      stage: 1,
    })
    expect(rowOf(fault, 'access')).toBe('unprivileged data read that waits for an answer (stalled)')
    expect(rowOf(fault, 'failed at')).toBe('stage 1: the address itself')
    expect(rowOf(fault, 'stream')).toBe('0x3102: 31:00.2 if the firmware numbers streams as PCI does')
    expect(fault.addresses.ranges).toEqual([{ first: 0x1000n, last: 0x1000n }])
  })

  it.each<[what: string, second: bigint, access: string, where: string]>([
    ['a write', 0n, 'unprivileged data write', 'stage 1: the context descriptor was to be read'],
    ['a read', 1n << 35n, 'unprivileged data read', 'stage 1: the context descriptor was to be read'],
    [
      'a fetch',
      (1n << 34n) | (1n << 35n),
      'unprivileged instruction read',
      'stage 1: the context descriptor was to be read',
    ],
    ['privileged', 1n << 33n, 'privileged data write', 'stage 1: the context descriptor was to be read'],
    ['a table', 1n << 40n, 'unprivileged data write', 'stage 1: a table of stage 1 was to be read'],
    ['stage 2', (1n << 39n) | (2n << 40n), 'unprivileged data write', 'stage 2: the address itself'],
  ])('%s', (_what, second, access, where) => {
    const fault = only(...event(0x10n, second, 0x1000n, 0x7fff_f678n))
    expect(rowOf(fault, 'access')).toBe(access)
    expect(rowOf(fault, 'failed at')).toBe(where)
    expect(rowOf(fault, 'IPA')).toBe(where.startsWith('stage 2') ? '0x7ffff000' : undefined)
  })

  it('the substream counts where the record says that it is there', () => {
    const substream = 0x5n << 12n
    expect(only(...event(0x10n | substream, 0n, 0n, 0n)).words.fields['substream']).toBeNull()
    expect(only(...event(0x10n | (1n << 11n) | substream, 0n, 0n, 0n)).words.fields['substream']).toBe(5)
  })

  it('a record about substreams has one without a bit that says so', () => {
    expect(only(...event(0x08n | (0x5n << 12n), 0n, 0n, 0n)).words.fields['substream']).toBe(5)
  })

  it.each([
    [0x02, 'one bus', 'a DMA alias'],
    [0x04, 'fills the entries', 'kexec'],
    [0x08, 'nothing near it was ever bound', 'unbound'],
    [0x0a, 'nothing is bound', 'unbound'],
  ])('event 0x%s is about streams: no page is looked for', (number, means, check) => {
    const fault = only(...event(BigInt(number), 0n, 0n, 0n))
    expect(rowOf(fault, 'means')).toContain(means)
    expect(fault.words.checks.join(' ')).toContain(check)
    expect(fault.words.checks.join(' ')).not.toContain('iommu:map')
  })

  it.each([
    [0x02, 'C_BAD_STREAMID'],
    [0x04, 'C_BAD_STE'],
    [0x0a, 'C_BAD_CD'],
    [0x11, 'F_ADDR_SIZE'],
    [0x12, 'F_ACCESS'],
    [0x13, 'F_PERMISSION'],
    [0x25, 'F_VMS_FETCH'],
    [0x77, 'an event'],
  ])('event 0x%s is %s', (number, name) => {
    const fault = only(...event(BigInt(number), 0n, 0x1000n, 0n))
    expect(fault.words.fields['eventName']).toBe(name)
    // Only faults of a translation have an address in their third word.
    expect(fault.addresses.ranges.length).toBe(number >= 0x10 && number <= 0x13 ? 1 : 0)
  })

  it('a newer kernel names the device', () => {
    const fault = only(
      ...event(0x0002_0600_0000_0010n, 0x0000_0200_0000_0000n, 0xff9b_c000n, 0n),
      `${UNIT} event: F_TRANSLATION client: 0001:06:00.0 sid: 0x20600 ssid: 0x0 iova: 0xff9bc000 ipa: 0x0`,
      `${UNIT} unpriv data write s1 "Input address caused fault" stag: 0x0`,
    )
    expect(fault.words).toMatchObject({ title: 'F_TRANSLATION of 0001:06:00.0', device: '0001:06:00.0' })
    expect(fault.times).toBe(1)
  })

  it('words of two units do not mix', () => {
    const other = (line: string): string => line.replaceAll('v3.2.auto', 'v3.5.auto')
    const [head = '', first = '', second = '', third = '', fourth = ''] = REAL
    const fault = only(head, first, other(word(0xffn)), second, third, fourth)
    expect(fault.words.fields['stream']).toBe(0x3102)
    expect(fault.addresses.ranges[0]?.first).toBe(0x1000n)
  })

  it('a record that is cut says so', () => {
    expect(rowOf(only(...REAL.slice(0, 3)), 'words')).toBe('only 2 of 4 stand in the log')
    expect(rowOf(only(...REAL), 'words')).toBeUndefined()
  })

  it('like events are one fault, others are not', () => {
    const all = groups(
      ...REAL,
      ...REAL,
      ...event(0x0000_3103_0000_0010n, 0x0000_0208_8000_0080n, 0x1000n, 0n),
    )
    expect(all.map(({ times }) => times)).toEqual([2, 1])
  })

  it('a full queue is a fault, and what was not printed is counted', () => {
    const log = explained(
      [
        `${UNIT} EVTQ overflow detected -- events lost`,
        'arm_smmu_evtq_thread: 25830 callbacks suppressed',
        'arm_smmu_dump_event: 7 callbacks suppressed',
      ],
      new SmmuExplainer(),
    )
    expect(log.groups.map(({ words }) => words.kind)).toEqual(['queue'])
    expect(log.suppressed.map(({ lines }) => lines)).toEqual([25_837])
  })
})
