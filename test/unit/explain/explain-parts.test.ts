import { describe, expect, it } from 'vitest'
import { Prng } from '../../../src/bits/prng.ts'
import type { FoundLine } from '../../../src/reader/kernel-log/kernel-log-reader.ts'
import { VTD_LINES } from '../../../src/reader/kernel-log/vtd-lines.ts'
import { WordFinder } from '../../../src/reader/kernel-log/word-finder.ts'
import { AddressRanges, RANGES_MAX } from '../../../src/report/explain/address-ranges.ts'
import {
  BECAUSE_MAX,
  FAULTS_MAX,
  FaultLog,
  KEPT_MAX,
  REMEMBERED_MAX,
} from '../../../src/report/explain/fault-log.ts'
import { MachineFacts } from '../../../src/report/explain/machine-facts.ts'
import { Redactor } from '../../../src/report/explain/redactor.ts'
import { RepeatedLines } from '../../../src/report/explain/repeated-lines.ts'

const lineAt = (line: number, timeUs = -1, text = 'text'): FoundLine => ({
  family: VTD_LINES,
  template: VTD_LINES.templates[0]!,
  line,
  timeUs,
  origin: 'kernel',
  text,
  found: [],
})

/** Runs of pages by brute force: sorted addresses, cut where more than a page lies between two. */
function naiveRanges(addresses: readonly bigint[]) {
  const sorted = [...new Set(addresses)].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  const runs: { first: bigint; last: bigint }[] = []
  for (const address of sorted) {
    const run = runs.at(-1)
    if (run !== undefined && address - run.last <= 4096n) run.last = address
    else runs.push({ first: address, last: address })
  }
  return runs
}

describe('addresses as runs of pages', () => {
  it.each([1, 2, 3, 4, 5])('are what sorting all of them gives, seed %i', (seed) => {
    const prng = new Prng(seed)
    for (let round = 0; round < 200; round++) {
      const ranges = new AddressRanges()
      const addresses: bigint[] = []
      const spread = prng.pick([20, 60, 300, 5000])
      for (let i = prng.below(120); i >= 0; i--) {
        const address = BigInt(prng.below(spread)) * 4096n + (prng.oneIn(20) ? BigInt(prng.below(4096)) : 0n)
        addresses.push(address)
        ranges.add(address)
        if (ranges.isOneRun) break
      }
      const naive = naiveRanges(addresses)
      if (ranges.isOneRun) {
        expect(naive.length).toBeGreaterThan(RANGES_MAX / 2)
        expect(ranges.ranges).toEqual([{ first: naive[0]?.first, last: naive.at(-1)?.last }])
      } else expect(ranges.ranges).toEqual(naive)
    }
  })

  it('too many are one run, which still grows at both ends', () => {
    const ranges = new AddressRanges()
    for (let i = 1; i <= RANGES_MAX; i++) ranges.add(BigInt(i) * 0x10000n)
    expect(ranges.isOneRun).toBe(false)
    ranges.add(BigInt(RANGES_MAX + 1) * 0x10000n)
    expect(ranges.isOneRun).toBe(true)
    ranges.add(0x1000n)
    ranges.add(0xffff_ffff_ffff_f000n)
    expect(ranges.ranges).toEqual([{ first: 0x1000n, last: 0xffff_ffff_ffff_f000n }])
  })
})

describe('words in a text', () => {
  it('are found as a search for each finds them', () => {
    const prng = new Prng(7)
    const letters = 'abAB: '
    const word = (length: number) =>
      Array.from({ length }, () => letters[prng.below(letters.length)]).join('')
    for (let round = 0; round < 2000; round++) {
      const words = Array.from({ length: 1 + prng.below(6) }, () => word(4 + prng.below(3)))
      const finder = new WordFinder<string>()
      for (const w of words) finder.add(w, w)
      const text = word(prng.below(40))
      const seen = new Set<string>()
      finder.find(text, (w) => {
        seen.add(w)
        return undefined
      })
      expect(seen).toEqual(new Set(words.filter((w) => text.includes(w))))
    }
  })

  it('the first that is wanted ends the search', () => {
    const finder = new WordFinder<number>()
    finder.add('world', 2)
    finder.add('hello', 1)
    expect(finder.find('hello world', (n) => n)).toBe(1)
    expect(finder.find('hello world', (n) => (n === 2 ? 'two' : undefined))).toBe('two')
    expect(finder.find('hel', (n) => n)).toBeUndefined()
  })
})

describe('lines that stand in a log twice', () => {
  const seen = (...lines: readonly (readonly [us: number, text: string])[]) => {
    const repeated = new RepeatedLines()
    return lines.map(([us, text]) => repeated.isRepeated(lineAt(1, us, text)))
  }
  it.each([
    [
      'the same again after the time went back',
      [
        [5_000_000, 'a'],
        [0, 'x'],
        [5_000_000, 'a'],
      ],
      [false, false, true],
    ],
    [
      'the same at once: two faults',
      [
        [5_000_000, 'a'],
        [5_000_000, 'a'],
      ],
      [false, false],
    ],
    [
      'another text',
      [
        [5_000_000, 'a'],
        [0, 'x'],
        [5_000_000, 'b'],
      ],
      [false, false, false],
    ],
    [
      'another time',
      [
        [5_000_000, 'a'],
        [0, 'x'],
        [5_000_001, 'a'],
      ],
      [false, false, false],
    ],
    [
      'no time',
      [
        [-1, 'a'],
        [-1, 'a'],
      ],
      [false, false],
    ],
    [
      'processors out of order',
      [
        [5_000_000, 'a'],
        [4_900_000, 'b'],
        [5_000_000, 'a'],
      ],
      [false, false, false],
    ],
  ] as const)('%s', (_what, lines, expected) => {
    expect(seen(...lines)).toEqual(expected)
  })
})

describe('a log of faults is bounded', () => {
  const words = { kind: 'dma', title: 't', fields: {}, rows: [], because: [], checks: [] }

  it('kinds of faults', () => {
    const log = new FaultLog()
    for (let i = 0; i < FAULTS_MAX + 5; i++)
      log.fault({ key: `${i}`, line: lineAt(i), describe: () => words })
    expect(log.groups).toHaveLength(FAULTS_MAX)
    expect(log.overflowed).toBe(5)
    expect(log.fault({ key: '3', line: lineAt(9), describe: () => words })?.times).toBe(2)
  })

  it('reasons, earlier lines, notes and facts', () => {
    const log = new FaultLog()
    const group = log.fault({ key: 'a', line: lineAt(1), describe: () => words })!
    for (let i = 0; i < 100; i++) log.explain(group, { line: i, text: 'why' })
    log.explain(group, { line: 1, text: 'why' })
    expect(group.because).toHaveLength(BECAUSE_MAX)
    for (let i = 0; i < 100; i++) log.remember('cause', lineAt(i), 'why', '00:01.0')
    expect(log.earlier('cause', '00:01.0')).toHaveLength(REMEMBERED_MAX)
    expect(log.earlier('cause', '00:01.0')[0]).toEqual({ line: 99, text: 'why' })
    for (let i = 0; i < KEPT_MAX + 5; i++) {
      log.note(`n${i}`, lineAt(i), 'note')
      log.fact(`f${i}`, lineAt(i), 'fact')
      log.remember(`t${i}`, lineAt(i), 'why')
    }
    expect(log.notes).toHaveLength(KEPT_MAX)
    expect(log.facts).toHaveLength(KEPT_MAX)
    // Of topics the newest are kept.
    expect(log.earlier(`t${KEPT_MAX + 4}`)).toHaveLength(1)
    expect(log.earlier('t5')).toHaveLength(1)
    expect(log.earlier('t4')).toEqual([])
  })

  it('earlier lines are of a device, or of none in particular', () => {
    const log = new FaultLog()
    log.remember('cause', lineAt(1), 'one', '00:01.0')
    log.remember('cause', lineAt(2), 'two', '00:02.0')
    log.remember('cause', lineAt(3), 'all')
    expect(log.earlier('cause', '00:01.0').map(({ line }) => line)).toEqual([3, 1])
    expect(log.earlier('cause').map(({ line }) => line)).toEqual([3])
    // Many lines of one device do not push out those of another.
    for (let i = 4; i < 100; i++) log.remember('cause', lineAt(i), 'more', '00:02.0')
    expect(log.earlier('cause', '00:01.0').map(({ line }) => line)).toEqual([3, 1])
    expect(log.earlier('other', '00:01.0')).toEqual([])
  })

  it('devices have one name, with and without segment 0', () => {
    const machine = new MachineFacts()
    machine.device('0000:00:02.0', 1, 'a')
    machine.device('0001:00:02.0', 2, 'b')
    expect(machine.linesOf('00:02.0')).toEqual([{ line: 1, text: 'a' }])
    expect(machine.linesOf('0001:00:02.0')).toEqual([{ line: 2, text: 'b' }])
    expect(machine.devices).toBe(2)
  })
})

describe('what tells of one machine', () => {
  const redacted = (text: string, hosts: readonly string[] = []) => new Redactor(hosts).text(text)
  it.each([
    ['an address', 'at 0x9c000000 and 0x9d000000, again 0x9c000000', 'at addr#1 and addr#2, again addr#1'],
    ['the same address in other digits', '0x9C000000 is 0x000000009c000000', 'addr#1 is addr#1'],
    ['an address without 0x', 'lies at 9c000abc', 'lies at addr#1'],
    ['words of the log', 'line 3: "fault addr 8c000, 12345"', 'line 3: "fault addr addr#1, addr#2"'],
    ['a MAC address', 'eth0: 52:54:00:12:34:56', 'eth0: mac#1'],
    ['an IP address', 'from 10.0.2.15', 'from ip#1'],
    ['a MAC address with dashes, the same', '52-54-00-12-34-5A is 52:54:00:12:34:5a', 'mac#1 is mac#1'],
    ['a name of a port, eight octets', 'port 50:01:43:80:12:34:56:78', 'port mac#1'],
    ['an IPv6 address', 'from 2001:db8:0:0:1:2:3:4 to 2001:db8:0:0:1:2:3:5', 'from ip#1 to ip#2'],
    [
      'an IPv6 address with ::, again',
      '2001:db8::1, fe80::5054:ff:fe12:3456, 2001:DB8::1',
      'ip#1, ip#2, ip#1',
    ],
    ['an IPv6 address and its mask or zone', '2001:db8::/32 fe80::1%eth0', 'ip#1/32 ip#2%eth0'],
    [
      'an IPv6 address in brackets, and before a colon',
      '[2001:db8::1]:22 2001:db8::1: refused',
      '[ip#1]:22 ip#1: refused',
    ],
    ['an IPv6 address behind a word', 'src:2001:db8::1 SRC=::1', 'src:ip#1 SRC=ip#2'],
    ['an IPv4 address in IPv6', 'at ::ffff:10.0.2.15', 'at ip#1'],
    ['a UUID', 'id 123e4567-e89b-12d3-a456-426614174000', 'id id#1'],
    ['a serial number', 'Serial Number: XYZ-77 and serial=XYZ-77', 'Serial Number: id#1 and serial=id#1'],
  ])('%s is replaced', (_what, text, expected) => {
    expect(redacted(text)).toBe(expected)
  })

  it('the host is replaced where it is a word', () => {
    expect(redacted('box: boxes of box.', ['box'])).toBe('host#1: boxes of host#1.')
    expect(redacted('a.b wrote', ['a.b', ''])).toBe('host#1 wrote')
    expect(redacted('axb wrote', ['a.b'])).toBe('axb wrote')
  })

  it.each([
    'DMA read by 00:04.0 with PASID 0x5 was blocked, 2474123 times',
    'lines 39 to 44444444, 6.115058 to 8.179415 s',
    'reason 0x06, page 0x1000, 0000:03:02.0, [8086:10d3], class 0x0200',
    'Linux 6.1.0-50-amd64 with drivers/iommu/intel',
    'c1:00.0, 0000:03:00.0, 10000:e1:00.0, bus 00:1f.3: 0000:00:1c.0/0000:03:00.0',
    'at 09:22:17 and 2024-03-14 09:22:17.123456',
    'RIP: 0010:dmar_fault+0x1/0x2, PE#fd, 1002:67df:1458:22f7, std::add :: kernel::dma',
    '00 01 02 03 04 05 06 07 dead beef: 0x1 [bus 00-ff]',
  ])('"%s" stays', (text) => {
    expect(redacted(text)).toBe(text)
  })

  it('in JSON: all texts, but the capabilities', () => {
    const redactor = new Redactor()
    expect(
      redactor.json({
        cap: '0xd2008c22260206',
        base: '0xfed90000',
        n: 1,
        list: [{ first: '0xfed90000' }],
        no: null,
      }),
    ).toEqual({ cap: '0xd2008c22260206', base: 'addr#1', n: 1, list: [{ first: 'addr#1' }], no: null })
  })
})
