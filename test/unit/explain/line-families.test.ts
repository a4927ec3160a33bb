import { describe, expect, it } from 'vitest'
import { LINE_FAMILIES } from '../../../src/reader/kernel-log/families.ts'
import { type FoundLine, KernelLogReader } from '../../../src/reader/kernel-log/kernel-log-reader.ts'
import { declareLineFamily, kernelLine } from '../../../src/reader/kernel-log/line-format.ts'
import { LogPrefix } from '../../../src/reader/kernel-log/log-prefix.ts'

const read = (text: string, families = LINE_FAMILIES) => {
  const found: FoundLine[] = []
  const unexplained: number[] = []
  const reader = new KernelLogReader(families, {
    found: (line) => found.push(line),
    unexplained: (_, line) => unexplained.push(line),
  })
  reader.push(new TextEncoder().encode(text))
  return { found, unexplained, summary: reader.end() }
}

describe.each(LINE_FAMILIES)('lines of $title', ({ templates }) => {
  it.each(templates)('$id takes its example, and no other template does', (template) => {
    const { found } = read(template.example)
    expect(found.map((line) => line.template.id)).toEqual([template.id])
  })

  it.each(templates)('$id does not take its example cut or with more text', ({ id, example, fields }) => {
    const isOpen = ['text', 'long'].includes(fields.at(-1)?.kind ?? '')
    const takes = (text: string) => read(text).found.some((line) => line.template.id === id)
    if (!isOpen) expect(takes(`${example.trimEnd()} and more`)).toBe(false)
    expect(takes(example.slice(0, example.length >> 2))).toBe(false)
  })
})

describe('all families', () => {
  it('have ids of their own', () => {
    const ids = LINE_FAMILIES.flatMap(({ templates }) => templates.map(({ id }) => id))
    expect(new Set(ids).size).toBe(ids.length)
    expect(new Set(LINE_FAMILIES.map(({ id }) => id)).size).toBe(LINE_FAMILIES.length)
  })
})

describe('a template', () => {
  const about = { era: 'all', doc: 'A line.', example: 'x' }
  it.each([
    ['an unknown kind', 'abcd {a:what}', 'no kind of field'],
    ['a field twice', 'abcd {a:x} {a:x}', 'stands twice'],
    ['a number without an end', 'abcd {a:x}{b:d}', 'no text shows where'],
    ['digits that go on', 'abcd {a:x}fault', 'no text shows where'],
    ['three texts', 'abcd {a:text} b {b:text} c {c:text}', 'at most 2'],
    ['nothing to look for', '{a:word} {b:word}', 'no literal'],
  ])('with %s does not load', (_what, template, why) => {
    expect(() => kernelLine('bad', template, about)).toThrow(why)
  })

  it('stands once in its family', () => {
    const template = kernelLine('same', 'abcd {a:x}', about)
    const family = { id: 'f', title: 'F', source: 's', isModelled: true, mentions: [] }
    expect(() => declareLineFamily({ ...family, templates: [template, template] })).toThrow('stands twice')
  })
})

describe('what stands before a message', () => {
  const MESSAGE = 'DMAR: DRHD: handling fault status reg 2'
  it.each([
    ['printk', `[    5.793582] ${MESSAGE}`, 5_793_582],
    ['a thread', `[    5.793582][  T123] ${MESSAGE}`, 5_793_582],
    ['a level', `<3>[    5.793582] ${MESSAGE}`, 5_793_582],
    ['a level alone', `<3>${MESSAGE}`, -1],
    ['dmesg --decode', `kern  :err   : [    5.793582] ${MESSAGE}`, 5_793_582],
    ['dmesg --ctime', `[Fri Nov 20 11:20:11 2026] ${MESSAGE}`, -1],
    ['dmesg, ISO', `2026-11-20T11:20:11,123456+01:00 ${MESSAGE}`, -1],
    ['the journal', `Oct 14 18:41:49 host kernel: ${MESSAGE}`, -1],
    ['the journal with a stamp', `Oct 14 18:41:49.056494 host kernel: [   85.570395] ${MESSAGE}`, 85_570_395],
    ['the journal without a blank', `Oct 14 18:41:49.056494 kernel:[   85.570395] ${MESSAGE}`, 85_570_395],
    ['short-monotonic', `[    5.793582] host kernel: ${MESSAGE}`, 5_793_582],
    ['a name behind the stamp', `[    0.938401] kernel: ${MESSAGE}`, 938_401],
    ['ISO', `2026-11-20T11:20:11+0100 host kernel: ${MESSAGE}`, -1],
    ['Unix time', `1700000000.123456 host kernel: ${MESSAGE}`, -1],
    ['a serial line', `[    5.793582] ${MESSAGE}\r\r`, 5_793_582],
    ['a prompt that was overwritten', `login: \r[    5.793582] ${MESSAGE}\r`, 5_793_582],
    [
      'colours',
      `\x1b[33m[    5.793582] \x1b[0m\x1b[31mDMAR: DRHD:\x1b[0m handling fault status reg 2`,
      5_793_582,
    ],
    ['a thread, by dmesg', `[    5.793582] [  T123] ${MESSAGE}`, 5_793_582],
    ['a processor, by dmesg', `[    5.793582] [      C3] ${MESSAGE}`, 5_793_582],
    ['dmesg --human, of a new minute', `[Mar14 09:22] ${MESSAGE}`, -1],
    ['dmesg --human, of an early day', `[Mar 4 09:22] ${MESSAGE}`, -1],
    ['dmesg --human, of the same minute', `[  +0.000004] ${MESSAGE}`, -1],
    ['dmesg --human, after ten seconds', `[ +19.800001] ${MESSAGE}`, -1],
    ['dmesg --human with a thread', `[  +0.000004] [  T123] ${MESSAGE}`, -1],
    ['dmesg --notime with a thread', `[  T123] ${MESSAGE}`, -1],
    ['dmesg, ISO with a thread', `2026-11-20T11:20:11,123456+01:00 [  T123] ${MESSAGE}`, -1],
    ['dmesg --show-delta', `[    5.793582 <    0.000010>] ${MESSAGE}`, 5_793_582],
    ['dmesg --show-delta --notime', `[<   20.100000>] ${MESSAGE}`, -1],
    ['dmesg --show-delta --ctime', `[Fri Nov 20 23:52:10 2026 <   20.100000>] ${MESSAGE}`, -1],
    ['dmesg --ctime --decode', `kern  :err   : [Fri Nov 20 23:52:10 2026] [  T123] ${MESSAGE}`, -1],
    ['dmesg --ctime in German', `[Mi Mär  4 09:22:17 2026] ${MESSAGE}`, -1],
    ['dmesg --ctime in French', `[ven. 20 nov. 23:52:10 2026] ${MESSAGE}`, -1],
    ['/dev/kmsg', `3,1234,5793582,-;${MESSAGE}`, 5_793_582],
    ['/dev/kmsg with a thread', `3,1234,5793582,-,caller=T123;${MESSAGE}`, 5_793_582],
    ['dmesg --json on one line', JSON.stringify({ pri: 3, time: 5.793582, msg: MESSAGE }), 5_793_582],
    ['the journal, short-full', `Thu 2024-03-14 09:22:17 CET host kernel: ${MESSAGE}`, -1],
    [
      'the journal, short-full, a zone without a name',
      `Thu 2024-03-14 09:22:17 +03 host kernel: ${MESSAGE}`,
      -1,
    ],
    ['the journal, short-delta', `[    5.793582 <    0.000010 >] host kernel: ${MESSAGE}`, 5_793_582],
    ['the journal, short-delta, first', `[    5.793582                ] host kernel: ${MESSAGE}`, 5_793_582],
    ['the journal in German', `Mär 14 09:22:17 host kernel: ${MESSAGE}`, -1],
    ['the journal in French', `févr. 14 09:22:17 host kernel: [    5.793582] ${MESSAGE}`, 5_793_582],
    ['the journal in Japanese', ` 3月 14 09:22:17 host kernel: ${MESSAGE}`, -1],
    ['a second line as dmesg indents it', `${' '.repeat(44)}${MESSAGE}`, -1],
    ['a quoted mail', `> > [    5.793582] ${MESSAGE}`, 5_793_582],
    ['nothing', MESSAGE, -1],
    ['JSON', JSON.stringify({ MESSAGE, SYSLOG_IDENTIFIER: 'kernel' }), -1],
    ['JSON with a time', JSON.stringify({ MESSAGE, _SOURCE_MONOTONIC_TIMESTAMP: '5793582' }), 5_793_582],
    ['JSON of bytes', JSON.stringify({ MESSAGE: [...new TextEncoder().encode(MESSAGE)] }), -1],
  ])('%s', (_what, line, timeUs) => {
    const { found, summary } = read(`${line}\n`)
    expect(found.map((l) => [l.text, l.timeUs, l.origin])).toEqual([[MESSAGE, timeUs, 'kernel']])
    expect(summary).toMatchObject({ lines: 1, understood: 1, unknown: 0 })
  })

  it('dmesg --json: the time of an entry stands in the line before its message', () => {
    const message = `DMAR: a "new" line\n${MESSAGE}`
    const json = JSON.stringify(
      {
        dmesg: [
          { pri: 3, time: 5.793582, msg: message },
          { pri: 3, msg: MESSAGE },
        ],
      },
      null,
      3,
    )
    const { found, unexplained, summary } = read(`${json}\n`)
    expect(found.map(({ text, timeUs, line }) => [text, timeUs, line])).toEqual([
      [MESSAGE, 5_793_582, 6],
      [MESSAGE, -1, 10],
    ])
    expect(unexplained).toEqual([6])
    expect(summary).toMatchObject({ lines: 13, understood: 2 })
  })

  it('two lines of the kernel on one: each is read', () => {
    const { found } = read(
      `3,1,5793582,-;${MESSAGE} \\x0a${MESSAGE}\nMar 14 09:22:17 host kernel: x#012${MESSAGE}`,
    )
    expect(found.map(({ line, timeUs, text }) => [line, timeUs, text.trimEnd()])).toEqual([
      [1, 5_793_582, MESSAGE],
      [1, 5_793_582, MESSAGE],
      [2, -1, MESSAGE],
    ])
  })

  it.each([
    ['[0000:00:02.0] no time of day'],
    ['[  1.5] five digits are missing'],
    ['[C] no number'],
    ['3,1234 no record of a kernel;'],
    ['12:30 a time without its day'],
  ])('"%s" has nothing before its message', (line) => {
    expect(new LogPrefix().message(line)).toBe(line)
  })

  it.each([
    ['another program of the journal', `Oct 14 18:41:49 host mydaemon[1]: ${MESSAGE}`],
    ['another program in JSON', JSON.stringify({ MESSAGE, SYSLOG_IDENTIFIER: 'mydaemon' })],
    ['an echo', `echo ${MESSAGE}`],
    ['JSON without a message', '{"a":1}'],
    ['broken JSON', `{"MESSAGE":"${MESSAGE}`],
  ])('%s is not the kernel', (_what, line) => {
    const { found, summary } = read(line)
    expect(found).toEqual([])
    expect(summary).toMatchObject({ lines: 1, understood: 0, unknown: 1 })
  })

  it('says who printed a line', () => {
    const status = kernelLine('status', 'hello {a:d} there', { era: 'all', doc: 'A line.', example: 'x' })
    const family = declareLineFamily({
      id: 'f',
      title: 'F',
      source: 's',
      isModelled: true,
      mentions: [],
      templates: [status],
    })
    const lines = [
      'hello 1 there',
      'qemu-system-x86_64: hello 2 there',
      '2026-11-20T11:20:11.123456Z qemu-system-ppc64: hello 3 there',
      'Oct 14 18:41:49 host libvirtd[77]: hello 4 there',
      'Oct 14 18:41:49.056589 VM hypervisor: (XEN) hello 5 there',
      '(XEN) [2026-11-20 11:20:11] hello 6 there',
      JSON.stringify({ MESSAGE: 'hello 7 there', SYSLOG_IDENTIFIER: 'qemu-kvm' }),
    ]
    const { found } = read(lines.join('\n'), [family])
    expect(found.map(({ line, origin }) => [line, origin])).toEqual([
      [1, 'kernel'],
      [2, 'qemu'],
      [3, 'qemu'],
      [4, 'qemu'],
      [5, 'xen'],
      [6, 'xen'],
      [7, 'qemu'],
    ])
  })
})

describe('counts', () => {
  it('every line is counted once; those that look like ours are told of', () => {
    const long = `DMAR: ${'a'.repeat(20_000)}`
    const text = `\n[    1.0] other\nDMAR: something new\n${long}\n[    5.793582] DMAR: DRHD: handling fault status reg 2`
    const { found, unexplained, summary } = read(text)
    expect(summary).toMatchObject({ lines: 5, understood: 1, unknown: 4, tooLong: 1 })
    expect(found.map(({ line }) => line)).toEqual([5])
    expect(unexplained).toEqual([3])
  })

  it.each([
    ['a cut fault', 'ASID] Request device [c1:00.0] fault addr 0x1000'],
    ['a cut reason', '0x1000 [fault reason 0x06] PTE Read'],
    ['EEH', 'EEH: Frozen PHB#0-P'],
    ['an SMMUv2', 'arm-smmu 9050000.iommu: Unexpected global fault, this could be serious'],
    ['an SMMUv3', 'arm-smmu-v3 arm-smmu-v3.0.auto: something new'],
    ['QEMU', 'qemu-system-x86_64: vfio error: something new'],
    ['a container of QEMU', 'qemu-system-x86_64: failed to setup container for group 12: something new'],
  ])('a line that no template takes is told of: %s', (_what, line) => {
    const { found, unexplained } = read(line)
    expect([found, unexplained]).toEqual([[], [1]])
  })

  it('an entry of the journal may hold two lines', () => {
    const MESSAGE =
      'DMAR:[DMA Write] Request device [02:00.0] fault addr ffa00000 \nDMAR:[fault reason 05] PTE Write access is not set'
    const { found, summary } = read(JSON.stringify({ MESSAGE }))
    expect(found.map(({ template, line }) => [template.id, line])).toEqual([
      ['vtd-fault-old', 1],
      ['vtd-reason-old', 1],
    ])
    expect(summary).toMatchObject({ lines: 1, understood: 1 })
  })
})
