import { describe, expect, it } from 'vitest'
import { randomPseriesScript } from '../../src/machine/lockstep/pseries-random.ts'
import {
  formatPseriesRecording,
  formatPseriesStep,
  readPseriesScripts,
  readPseriesStep,
  refusalOf,
} from '../../src/machine/lockstep/pseries-step.ts'

const read = (line: string): string => {
  const step = readPseriesStep(line)
  return typeof step === 'string' ? step : formatPseriesStep(step)
}

describe('steps of a pseries machine', () => {
  it.each([
    'hcall 0x20 0x80000000 0x1000 0x4000003',
    'rtas 0x2026 6 0x0 0x8000000 0x20000000',
    'list 0x2000000 4 0x4000003 0x1000',
    'poke 0x4000000 00ff',
    'peek 0x4000000 16',
    'dma read 0x1000 64',
    'dma write 0x800000000000000 4095',
    // The largest that QEMU lives through.
    'rtas 0x2027 4 0x0 0x8000000 0x20000000 0xc 0x2b',
    'rtas 0x2027 4 0x0 0x8000000 0x20000000 0x3f 0x0',
  ])('%s is read as it is written', (line) => {
    expect(read(line)).toBe(line)
  })

  it.each([
    ['hcal 0x20', 'no step is called "hcal" (did you mean "hcall"?)'],
    ['hcall', '"hcall" is not of the form hcall R3 R4 ...'],
    ['hcall 0x20 -1', '"hcall 0x20 -1" is not of the form hcall R3 R4 ...'],
    ['hcall 0xe0', 'hypercall 0xe0 is none of 0x20, 0x1c, 0x138, 0x13c, 0x3f4'],
    ['hcall 0xf000 0x1000', 'hypercall 0xf000 is none of'],
    ['rtas 0x2027 4 0 0x8000000 0x20000000 64 64', 'a page shift of 64 or more is undefined in QEMU'],
    ['rtas 0x2027 4 0 0x8000000 0x20000000 12 44', 'a window of 2^32 pages or more ends QEMU (Q9)'],
    ['rtas 0x2016 2 0', 'RTAS call 0x2016 is none of'],
    ['rtas 0x2026 0 0 0 0', 'an RTAS call has a cell for its status'],
    ['rtas 0x2026 7 0 0 0', 'at most 9 cells'],
    ['rtas 0x2028 1 0x100000000', 'is not of the form rtas TOKEN NRET CELL ...'],
    ['list 0x2000000 513 0 0', 'a list has 1 to 512 words'],
    ['list 0x1000 1 0 0', 'not all memory between 0x200000 and 0x10000000'],
    ['poke 0x100000 00', 'not all memory between'],
    ['poke 0x4000000 0', 'is not of the form poke'],
    ['peek 0xfffffff 2', 'not all memory between'],
    ['peek 0x4000000 4097', '1 to 4096 bytes'],
    ['dma read 0x0 4096', 'a request has 1 to 4095 bytes: others end QEMU (Q11, Q12)'],
    ['dma read 0x0 0', 'a request has 1 to 4095 bytes'],
    ['dma both 0x0 8', 'is not of the form dma'],
  ])('%s is refused', (line, why) => {
    expect(readPseriesStep(line)).toEqual(expect.stringContaining(why))
  })

  it('scripts of a file keep their names and answers', () => {
    const text =
      '# two\nscript a\npeek 0x4000000 1 => 00\ndma read 0x0 8\nscript b\nhcall 0x3f4 0x1 => -2 r4=0x1\n'
    const scripts = readPseriesScripts(text, 'file')
    expect(scripts.map(({ name, entries }) => [name, entries.map(({ answer }) => answer)])).toEqual([
      ['a', ['00', undefined]],
      ['b', ['-2 r4=0x1']],
    ])
    const again = scripts.map(({ name, entries }) =>
      formatPseriesRecording(
        { name, steps: entries.map(({ step }) => step) },
        entries.map(({ answer }) => answer),
      ),
    )
    expect(`# two\n${again.join('')}`).toBe(text)
  })

  it('a file without steps, or with a line that is none, is wrong input', () => {
    expect(() => readPseriesScripts('# nothing\n', 'empty.txt')).toThrow('empty.txt holds no step')
    expect(() => readPseriesScripts('peek 0x4000000 1\npeek\n', 'bad.txt')).toThrow(
      /^bad.txt, line 2: "peek"/,
    )
  })
})

describe('random scripts', () => {
  const scripts = Array.from({ length: 60 }, (_, number) => randomPseriesScript(11, number))

  it('are the same for the same seed, and others for another', () => {
    expect(randomPseriesScript(11, 3)).toEqual(scripts[3])
    expect(randomPseriesScript(12, 3).steps).not.toEqual(scripts[3]?.steps)
  })

  it('hold no step that QEMU must not be given, and read back as they are', () => {
    for (const { name, steps } of scripts) {
      expect(steps.map(refusalOf).filter((why) => why !== undefined)).toEqual([])
      const text = formatPseriesRecording({ name, steps }, [])
      expect(readPseriesScripts(text, 'x')[0]?.entries.map(({ step }) => step)).toEqual(steps)
    }
  })

  it('hold every kind of step, every call, and words that grant access to memory of scripts only', () => {
    const calls = new Set(
      scripts.flatMap(({ steps }) => steps.map((s) => formatPseriesStep(s).split(' ', 2).join(' '))),
    )
    for (const call of [
      'hcall 0x20',
      'hcall 0x1c',
      'hcall 0x138',
      'hcall 0x13c',
      'hcall 0x3f4',
      'dma read',
      'dma write',
    ])
      expect(calls).toContain(call)
    for (const token of ['0x2026', '0x2027', '0x2028', '0x2029']) expect(calls).toContain(`rtas ${token}`)
    const low = scripts
      .flatMap(({ steps }) => steps)
      .flatMap((s) =>
        s.kind === 'hcall' && (s.registers[0] === 0x20n || s.registers[0] === 0x138n)
          ? [s.registers[3] ?? 0n]
          : [],
      )
      .filter((tce) => (tce & 3n) !== 0n && tce < 0x400_0000n)
    expect(low).toEqual([])
  })
})
