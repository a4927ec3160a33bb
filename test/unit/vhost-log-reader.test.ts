import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { VHOST_LOG, type VhostEntry } from '../../src/reader/vhost-log-format.ts'
import { vhostEntryOf } from '../../src/reader/vhost-log-line.ts'
import { VhostLogReader } from '../../src/reader/vhost-log-reader.ts'
import { bytesOf, messageLog } from '../log-rows.ts'

function read(pieces: Iterable<Uint8Array | string>) {
  const entries: VhostEntry[] = []
  const reader = new VhostLogReader({ take: (entry) => entries.push(entry) })
  for (const piece of pieces) reader.push(typeof piece === 'string' ? bytesOf(piece) : piece)
  return { entries, summary: reader.end() }
}

const UPDATE =
  '{"t":5,"dir":"from-qemu","msg":"IOTLB_MSG","size":"0x1000","flags":9,"iova":"0xffffe000","uaddr":"0x7f3a38a18000","perm":3,"type":"UPDATE"}'
const MISS = '{"t":4,"dir":"to-qemu","msg":"IOTLB_MISS","iova":"0xffffe110","perm":1}'

describe('the message log of a back end', () => {
  it('an UPDATE and a MISS', () => {
    const { entries, summary } = read([`${MISS}\n${UPDATE}\r\n\n`])
    expect(entries).toEqual([
      { what: 'miss', line: 1, timeUs: 4, fields: { iova: 0xffffe110n, perm: 1, queue: undefined } },
      {
        what: 'request',
        name: 'IOTLB_MSG',
        request: 22,
        flags: 9,
        line: 2,
        timeUs: 5,
        fields: { type: 'UPDATE', iova: 0xffffe000n, size: 0x1000n, uaddr: 0x7f3a38a18000n, perm: 3 },
      },
    ])
    expect(summary).toMatchObject({ lines: 3, events: 2, empty: 1, damaged: { count: 0 }, truncated: false })
  })

  it.each(VHOST_LOG.lines.filter((l) => l.example !== undefined).map((l) => [l.name, l] as const))(
    'the example of %s is one',
    (name, { example = '', fields }) => {
      const line = vhostEntryOf(JSON.parse(example), 1)
      expect(line).toMatchObject({ state: 'entry', name })
      const entry = (line as { entry: VhostEntry }).entry as { fields: object }
      expect(Object.keys(entry.fields)).toEqual(Object.keys(fields).map((f) => f.replace('?', '')))
    },
  )

  it('a message that nobody has declared is counted, and still stands where it stood', () => {
    const log = [
      '{"t":1,"dir":"from-qemu","msg":99,"size":0,"flags":1}',
      '{"t":2,"dir":"from-qemu","msg":"SET_MOOD","size":0,"flags":1}',
      '{"t":3,"dir":"to-qemu","msg":"CONFIG_CHANGE"}',
      '{"t":4,"event":"tea"}',
      '{"t":4,"event":"tea"}',
    ]
    const { entries, summary } = read([log.join('\n')])
    expect(entries).toEqual([
      { what: 'odd request', line: 1, timeUs: 1, request: 99, flags: 1 },
      { what: 'damaged', line: 2 },
    ])
    expect(summary.unknown).toEqual([
      { name: '99', count: 1, firstLine: 1 },
      { name: 'SET_MOOD', count: 1, firstLine: 2 },
      { name: 'CONFIG_CHANGE', count: 1, firstLine: 3 },
      { name: 'tea', count: 2, firstLine: 4 },
    ])
    expect(summary).toMatchObject({ lines: 5, events: 0, truncated: true })
  })

  const damaged: readonly (readonly [line: string, why: string])[] = [
    ['hello', 'it is no JSON'],
    ['[1]', 'it is no object'],
    ['null', 'it is no object'],
    ['{}', 't is no whole number'],
    ['{"t":-1,"event":"closed"}', 't is no whole number'],
    ['{"t":1}', 'dir is neither from-qemu nor to-qemu'],
    ['{"t":1,"dir":"from-qemu","msg":"SET_OWNER"}', 'flags is no whole number'],
    ['{"t":1,"dir":"from-qemu","msg":"SET_OWNER","flags":4294967296}', 'flags do not fit 32 bits'],
    [UPDATE.replace('"0x1000"', '4096'), 'size is no word "0x..."'],
    [UPDATE.replace('"0x1000"', '"0x01000"'), 'size is no word "0x..."'],
    [UPDATE.replace('"0x1000"', '"0x12345678123456789"'), 'size is no word "0x..."'],
    [UPDATE.replace('"perm":3', '"perm":1e99'), 'perm is no whole number'],
    [MISS.replace('"perm":1', '"perm":0'), 'perm is not 1 to 3'],
    [
      '{"t":1,"dir":"from-qemu","msg":"SET_VRING_ENABLE","flags":1,"index":0,"on":2}',
      'on is neither true nor false',
    ],
    ['{"t":1,"event":"blk","type":0,"sector":0,"segs":{}}', 'segs is no list'],
    ['{"t":1,"event":"blk","type":0,"sector":0,"segs":[["0x0"]]}', 'a segment is no pair'],
    [
      `{"t":1,"event":"blk","type":0,"sector":0,"segs":[${'0,'.repeat(4096)}0]}`,
      'segs has more than 4096 entries',
    ],
    ['{"t":1,"event":"blk","type":0,"sector":-1,"segs":[]}', 'sector is no number from 0 on'],
    ['{"t":1,"event":"error","e":5}', 'e is no short text'],
    [
      '{"t":1,"dir":"from-qemu","msg":"SET_MEM_TABLE","flags":9,"regions":[{"gpa":"0x0","size":"0x0","uaddr":"0x0","off":"0x0"}]}',
      'a region goes past the end of its addresses',
    ],
    [
      '{"t":1,"dir":"from-qemu","msg":"SET_MEM_TABLE","flags":9,"regions":[{"gpa":"0x1000","size":"0xfffffffffffffff0","uaddr":"0x0","off":"0x0"}]}',
      'a region goes past the end of its addresses',
    ],
    ['{"t":1,"dir":"from-qemu","msg":"SET_MEM_TABLE","flags":9,"regions":[5]}', 'a region is no object'],
    [`{"t":1,"event":"${'x'.repeat(65536)}"}`, 'the line is longer than 65536 bytes'],
  ]
  it.each(damaged)('%.60j: %s', (line, reason) => {
    const { entries, summary } = read([`${MISS}\n${line}\n${MISS}\n`])
    expect(entries.map((e) => [e.what, e.line])).toEqual([
      ['miss', 1],
      ['damaged', 2],
      ['miss', 3],
    ])
    expect(summary.damaged).toMatchObject({
      count: 1,
      first: [{ line: 2, offsetBytes: MISS.length + 1, reason }],
    })
  })

  it('a sector that a guest made up is as large as it likes', () => {
    const { summary } = read(['{"t":1,"event":"blk","type":0,"sector":18612541424926720,"segs":[]}\n'])
    expect(summary).toMatchObject({ events: 1, damaged: { count: 0 } })
  })

  it('what stands in a log reaches no prototype', () => {
    const { summary } = read([
      '{"__proto__":{"t":1,"event":"closed"}}\n{"t":1,"event":"constructor"}\n',
      '{"t":1,"dir":"from-qemu","msg":"toString","flags":1}\n',
    ])
    expect(summary.damaged.first.map((d) => d.reason)).toEqual(['t is no whole number'])
    expect(summary.unknown.map((u) => u.name)).toEqual(['constructor', 'toString'])
  })
})

/** Counts of `grep -c '"msg":"..."'` and the like. */
const RECORDED: Readonly<Record<string, readonly [lines: number, iotlb: number, misses: number]>> = {
  'vh-ppc-32bit': [1176, 761, 380],
  'vh-ppc-ddw': [40, 3, 2],
  'vtd/guest-amd64-lazy': [633, 198, 142],
  'vtd/vh-x86-lazy': [113, 39, 37],
  'vtd/vh-x86-strict': [974, 560, 363],
  'vtd/vh-x86-nodiotlb': [983, 569, 363],
  'vtd/vh-x86-cm': [1171, 757, 363],
  'vtd/vh-x86-ats-strict': [883, 469, 363],
  'vtd/vh-x86-ats-lazy': [811, 389, 371],
}

describe('recorded message logs', () => {
  it.each(Object.entries(RECORDED))('%s', async (name, [lines, iotlb, misses]) => {
    const { entries, summary } = read([await messageLog(name)])
    expect(summary).toMatchObject({
      lines,
      events: lines,
      unknown: [],
      damaged: { count: 0 },
      empty: 0,
      truncated: false,
    })
    expect(entries.filter((e) => e.what === 'miss').length).toBe(misses)
    expect(entries.filter((e) => e.what === 'request' && e.name === 'IOTLB_MSG').length).toBe(iotlb)
  })

  it('where the pieces are cut makes no difference', async () => {
    const bytes = await messageLog('vtd/vh-x86-lazy')
    const whole = read([bytes])
    for (let step = 1; step < 200; step += 13) {
      const pieces: Uint8Array[] = []
      for (let at = 0; at < bytes.length; at += step) pieces.push(bytes.subarray(at, at + step))
      expect(read(pieces)).toEqual(whole)
    }
  })

  it('100 000 mutated lines: nothing is thrown, and every line is accounted for', async () => {
    const prng = new Prng(7)
    const log = Buffer.from(await messageLog('vtd/vh-x86-ats-lazy'))
    const good = log.toString('latin1').trim().split('\n')
    let counted = 0
    const reader = new VhostLogReader({ take: () => counted++ }, { damagedKept: 10 })
    let lines = 0
    for (let n = 0; n < 100_000; n++) {
      const bytes = Buffer.from(`${prng.pick(good)}\n`, 'latin1')
      for (let times = prng.below(4); times > 0; times--) {
        const at = prng.below(bytes.length - 1)
        const byte = prng.oneIn(2) ? (bytes[at] as number) ^ (1 << prng.below(8)) : prng.below(256)
        if (byte !== 0x0a) bytes[at] = byte
      }
      reader.push(bytes)
      lines++
    }
    const summary = reader.end()
    const unknown = summary.unknown.reduce((n, u) => n + u.count, 0)
    expect(summary.lines).toBe(lines)
    expect(summary.events + unknown + summary.damaged.count + summary.empty).toBe(lines)
    expect(summary.events).toBeGreaterThan(20_000)
    expect(summary.damaged.count).toBeGreaterThan(20_000)
    expect(counted).toBeGreaterThan(summary.events + summary.damaged.count - 1)
  })
})
