import { describe, expect, it } from 'vitest'
import { declareLogFormat, formatLine, logEvent } from '../../src/reader/log-format.ts'
import { QEMU_TRACE } from '../../src/reader/qemu-trace-format.ts'
import { readLog } from '../log-rows.ts'

const about = { doc: '', example: '' }

describe('a log event that does not load', () => {
  it.each([
    ['a name that is no event name', 'Put', 'a', 'no event name'],
    ['a kind of field that there is not', 'put', '{a:x63}', 'no kind of field is called x63'],
    ['a field named twice', 'put', '{a:u32} {a:u32}', 'field a stands twice'],
    ['two fields with nothing between them', 'put', '{a:u32}{b:u32}', 'where field a ends'],
    ['a hexadecimal field that a letter follows', 'put', '{a:x64}bytes', 'where field a ends'],
    ['a decimal field that a digit follows', 'put', '{a:u32}0', 'where field a ends'],
    ['a text that a field follows at once', 'put', '{a:text}{b:u32}', 'where field a ends'],
    ['two digits that a third follows', 'put', '{a:x8}f', 'where field a ends'],
    ['two texts', 'put', '{a:text} is {b:text}.', 'can be read in two ways'],
    ['a text whose end comes again', 'put', '{a:text} is {b:u32} is {c:u32}', 'can be read in two ways'],
    ['a line end within', 'put', 'a\n{a:u32}', 'other than printable ASCII'],
    [
      'more lanes than there are',
      'put',
      '{a:x64} {b:x64} {c:x64} {d:x64} {e:x64} {f:x64} {g:u32}',
      '13 lanes',
    ],
  ])('%s', (_what, name, template, why) => {
    expect(() => logEvent(name, template, about)).toThrow(why)
    expect(() => logEvent(name, template, about)).toThrow(
      expect.objectContaining({ code: 'ERR_DECLARATION' }),
    )
  })

  it('a decimal field may be followed by a letter', () => {
    expect(formatLine(logEvent('put', '{a:u32}bytes', about), { a: 3 })).toBe('put 3bytes')
  })

  it('an event that stands twice in a format', () => {
    const event = logEvent('put', 'a', about)
    const format = { id: 'x', title: 'x', source: 'x' }
    expect(() => declareLogFormat(format, [event, event], {})).toThrow('it stands twice')
  })
})

describe('a format of its own', () => {
  const FORMAT = declareLogFormat(
    { id: 'x', title: 'x', source: 'x' },
    [
      logEvent('begun', '', about),
      logEvent('ended', 'now', about),
      logEvent('up', '{by:text}!', about),
      logEvent('moved', 'a fairly long text {n:d32}', about),
    ],
    { by: 'Who.', n: 'How far.' },
  )

  it('numbers its events and their lanes', () => {
    expect(FORMAT.number).toEqual({ begun: 0, ended: 1, up: 2, moved: 3 })
    expect(FORMAT.slot).toEqual({ begun: {}, ended: {}, up: { by: 0 }, moved: { n: 0 } })
    expect(QEMU_TRACE.slot.spapr_iommu_pci_put).toEqual({ liobn: 0, ioba: 2, tce: 4, ret: 6 })
  })

  it('is read: events without fields, short names, empty texts', () => {
    const { rows, summary } = readLog(
      ['begun \nended now\nup !\nup a!!\nmoved a fairly long text -7\nup\n'],
      {
        format: FORMAT,
      },
    )
    expect(rows.map(({ name, fields }) => [name, fields])).toEqual([
      ['begun', {}],
      ['ended', {}],
      ['up', { by: '' }],
      ['up', { by: 'a!' }],
      ['moved', { n: -7 }],
    ])
    expect(summary.damaged.first).toEqual([
      { line: 6, offsetBytes: 57, reason: 'the line is cut after the event name', excerpt: 'up' },
    ])
  })
})

describe('the QEMU format', () => {
  it('every field name has a meaning, every event a text, an example and its own name', () => {
    for (const event of QEMU_TRACE.events) {
      expect(event.doc).toMatch(/\.$/)
      expect(event.example.startsWith(`${event.name} `)).toBe(true)
    }
    const used = new Set(QEMU_TRACE.events.flatMap((e) => e.fields.map((f) => f.name)))
    expect(Object.keys(QEMU_TRACE.fieldDocs).sort()).toEqual([...used].sort())
  })
})
