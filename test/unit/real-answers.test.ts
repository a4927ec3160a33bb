import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { erratumCounts } from '../../src/scripts/answers/erratum-evidence.ts'
import { HCALL_EXAMPLES } from '../../src/scripts/answers/hcall-examples.ts'
import { hcallInputs } from '../../src/scripts/answers/hcall-inputs.ts'
import { WINDOW } from '../../src/scripts/answers/hcall-worlds.ts'
import { type HcallInput, INPUT_FAULTS, inputFaults } from '../../src/scripts/answers/input-faults.ts'
import { learnedList } from '../../src/scripts/answers/learned.ts'
import { rulePages } from '../../src/scripts/answers/pages.ts'
import { type RecordedRun, runRecording } from '../../src/scripts/answers/recorded-run.ts'
import { type Recording, readRecordings, recordingOf } from '../../src/scripts/answers/recordings.ts'
import { exampleInput, RTAS_EXAMPLES } from '../../src/scripts/answers/rtas-differences.ts'
import { alignedGrid, anchorsOf } from '../../src/scripts/markdown.ts'

let recordings: Recording[] = []
let runs: RecordedRun[] = []
let pages: Readonly<Record<string, string>> = {}
beforeAll(async () => {
  recordings = await readRecordings('recordings')
  runs = recordings.map((recording) => runRecording(recording))
  pages = rulePages(runs)
}, 120_000)

const NAMES = readdirSync('recordings').flatMap(
  (file) => /^(.+)\.(?:answers|trace)\.xz$/.exec(file)?.[1] ?? [],
)

/** The pages with another text of one recording. */
function pagesWith(name: string, text: string): Readonly<Record<string, string>> {
  return rulePages(
    runs.map((run) => (run.recording.name === name ? runRecording(recordingOf(name, text)) : run)),
  )
}

/** One answer of a recording is another one: of a command, of a step, of a traced call. */
const planted = (text: string): string =>
  text
    .replace(/^(attach \d+) => 0$/m, '$1 => -1 EIO')
    .replace(/^(vhowner \d+) => 0$/m, '$1 => -1 EIO')
    .replace(/^(hcall 0x20 .*) => 0 r4/m, '$1 => -4 r4')
    .replace(/^((?:\S+ )?spapr_iommu_(?:pci_)?(?:put|stuff|indirect) .*) ret=0$/m, '$1 ret=-7')

const cellsOf = (page: string | undefined, row: RegExp): string[] =>
  (page?.split('\n').find((line) => row.test(line)) ?? '').split('|').map((cell) => cell.trim())

describe('the pages of recorded answers', () => {
  it('are made of every recording there is, with no answer that the model does not give', () => {
    expect(recordings.map(({ name }) => name)).toEqual(NAMES)
    for (const { recording, same, different } of runs) {
      expect([recording.name, different]).toEqual([recording.name, []])
      expect(same.length).toBeGreaterThan(0)
    }
  })

  it.each(NAMES)('say it where an answer of %s is another', (name) => {
    const { text } = recordings.find((r) => r.name === name)!
    expect(planted(text)).not.toBe(text)
    const changed = pagesWith(name, planted(text))
    expect(cellsOf(changed['real-answers.md'], new RegExp(`^\\| \`${name}\``))[6]).not.toBe('0')
    expect(Object.values(changed).join('\n')).toMatch(/ differ /)
  })

  it('count an answer less where a recording loses one', () => {
    const { text } = recordings.find((r) => r.name === 'kernel-6.12-64k')!
    const changed = pagesWith('kernel-6.12-64k', text.replace(/^version => 0\n/m, ''))
    const row = /^\| \[VFIO_GET_API_VERSION\]/
    const count = Number(cellsOf(pages['real-answers.md'], row)[3])
    expect(count).toBeGreaterThan(1)
    expect(cellsOf(changed['real-answers.md'], row)[3]).toBe(String(count - 1))
  })

  it('take a recording of any name, and nothing else', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'recordings-'))
    try {
      copyFileSync('recordings/kernel-random.answers.xz', join(dir, 'mine.answers.xz'))
      copyFileSync('recordings/pseries-random.answers.xz', join(dir, 'other.answers.xz'))
      copyFileSync('recordings/ppc-ftrace.trace.xz', join(dir, 'third.trace.xz'))
      writeFileSync(join(dir, 'README.md'), '# no recording\n')
      const found = await readRecordings(dir)
      expect(found.map(({ name, kind }) => [name, kind])).toEqual([
        ['mine', 'kernel-answers'],
        ['other', 'pseries-steps'],
        ['third', 'qemu-trace'],
      ])
      const [mine, other] = found
      expect(rulePages([runRecording(mine!)])['real-answers-vfio.md']).toContain('| mine ')
      expect(rulePages([runRecording(other!)])['real-answers-kvm.md']).not.toContain('confirmed')
    } finally {
      rmSync(dir, { recursive: true })
    }
  })

  it('hold links that lead somewhere', () => {
    const headings = new Map<string, ReadonlySet<string>>()
    const anchorsIn = (file: string) => {
      const known = headings.get(file)
      if (known !== undefined) return known
      const text = pages[file] ?? readFileSync(`docs/reference/${file}`, 'utf8')
      const found = text.split('\n').flatMap((line) => /^#+ (.*)$/.exec(line)?.[1] ?? [])
      const anchors = new Set(anchorsOf(found))
      headings.set(file, anchors)
      return anchors
    }
    const errata = readFileSync('docs/reference/real-answers-errata.md', 'utf8')
    const links = [...Object.values(pages), errata].flatMap((text) => [
      ...text.matchAll(/\]\(([\w-]+\.md)#([^)]*)\)/g),
    ])
    expect(links.length).toBeGreaterThan(100)
    const dead = links.filter(([, file = '', anchor = '']) => !anchorsIn(file).has(anchor))
    expect(dead.map(([link]) => link)).toEqual([])
  })
})

describe('inputs of hypercalls', () => {
  const wrote = (list: readonly bigint[] = []) => list.map((tce) => ({ tce, count: 1, step: -1 }))

  it.each(HCALL_EXAMPLES.map((e) => [e.call, e.faults.join(' '), e] as const))(
    '%s: %s',
    (_, faults, example) => {
      const { call, args, list } = example
      const isFound = !/liobn-unknown|liobn-wide|window-closed/.test(faults)
      const [liobn, ioba] = [args['liobn'] as bigint, args['ioba'] as bigint]
      const third = (args['tce'] ?? args['value'] ?? args['list'] ?? 0n) as bigint
      const input: HcallInput = {
        line: 1,
        call,
        args: [liobn, ioba, third, (args['npages'] ?? 0n) as bigint],
        window: isFound ? WINDOW : undefined,
        open: new Map(),
        wrote: wrote(list),
        layer: 'qemu',
        rule: faults.startsWith('liobn') ? 'liobn-unknown' : 'done',
        memory: [{ gpa: 0n, bytes: 64n << 20n }],
      }
      expect(inputFaults(input).join(' ')).toBe(faults)
    },
  )

  it('of KVM know the memory and the windows of their VM, as far as its script has come', () => {
    const text = [
      'vm 0 => 0',
      'ram 0x1000000 => 0 at 0x100000000',
      'tce64 0x80000001 16 0x10 0x20 => 0 table 0 mmap ok',
      'hcall 0x20 0x80000001 0x100000 0x4000003 => 0 EXIT-TO-USER nr=0x20 args 0x80000001 0x100000 0x4000003 0x0',
      'slot 1 0x4000000 0x100000 0x100000000 => 0',
      'hcall 0x20 0x80000001 0x310000 0x4000003 => -4 0 r4=0x80000001',
      'slot 1 0x4000000 0x0 0x100000000 => 0',
      'hcall 0x20 0x80000001 0x100000 0x4000003 => 0 EXIT-TO-USER nr=0x20 args 0x80000001 0x100000 0x4000003 0x0',
      'vcpu => 0 first exit nr=0x7f0',
      'vm 0 => 0',
      'hcall 0x20 0x80000001 0x310000 0x3 => -4 0 r4=0x80000001',
      'vcpu => 0 first exit nr=0x7f0',
      'hcall 0x20 0x80000001 0x100000 0x3 => 0 EXIT-TO-USER nr=0x20 args 0x80000001 0x100000 0x3 0x0',
    ].join('\n')
    const asked = (line: number, ioba: bigint, tce: bigint, rule: string) => ({
      ...{ line, call: 'H_PUT_TCE', args: [0x8000_0001n, ioba, tce, 0n] as const, rule },
      ...{ window: undefined, open: new Map(), wrote: [], layer: 'kvm', isSame: true },
    })
    const inputs = hcallInputs({
      recording: { name: 'kvm', kind: 'kernel-answers', text: `${text}\n` },
      ...{ profile: 'linux-6.12.95', same: [], different: [], unjudged: 0 },
      calls: [
        asked(4, 0x10_0000n, 0x400_0003n, 'tce-outside-ram'),
        asked(6, 0x31_0000n, 0x400_0003n, 'ioba-outside'),
        asked(8, 0x10_0000n, 0x400_0003n, 'tce-outside-ram'),
        asked(11, 0x31_0000n, 3n, 'ioba-outside'),
        asked(13, 0x10_0000n, 3n, 'liobn-unknown'),
      ],
    })
    expect(inputs.map((input) => inputFaults(input))).toEqual([
      ['tce-outside'],
      ['ioba-behind'],
      ['tce-outside'],
      ['ioba-behind'],
      ['liobn-unknown'],
    ])
  })

  it('have one answer each: what is recorded of an input is what the model answers to it', () => {
    const rows = (pages['real-answers-differences.md'] ?? '')
      .split('\n')
      .filter((line) => /^\| .* H_/.test(line))
    expect(rows.length).toBe(HCALL_EXAMPLES.length)
    const recorded = rows.flatMap((row) => {
      const cells = row.split('|').map((cell) => cell.trim())
      return [cells[3], cells[5]]
    })
    for (const cell of recorded) expect(cell).toMatch(/^(?:not run|\d+ \([\w.-]+:\d+\))$/)
    expect(recorded.filter((cell) => cell !== 'not run').length).toBeGreaterThan(50)
  })

  it('are told apart where one fault is added', () => {
    const seen = new Set(HCALL_EXAMPLES.map(({ call, faults }) => `${call} ${faults.join(' ')}`))
    expect(seen.size).toBe(HCALL_EXAMPLES.length)
    const used = new Set(HCALL_EXAMPLES.flatMap(({ faults }) => faults))
    expect(Object.keys(INPUT_FAULTS).filter((fault) => !used.has(fault as never))).toEqual([
      'not-enabled',
      'hardware',
    ])
  })
})

describe('inputs of calls for dynamic windows', () => {
  const rows = () =>
    (pages['real-answers-differences.md'] ?? '').split('\n').filter((line) => /^\| .* `-?\d/.test(line))

  it('are all different', () => {
    const inputs = RTAS_EXAMPLES.map((e) => exampleInput(e).input)
    expect(new Set(inputs).size).toBe(RTAS_EXAMPLES.length)
  })

  it('have one answer each, most of them recorded', () => {
    const recorded = rows().map((row) => row.split('|')[4]?.trim() ?? '')
    expect(recorded.length).toBe(RTAS_EXAMPLES.length)
    for (const cell of recorded) expect(cell).toMatch(/^(?:not run|\d+ \([\w.-]+:\d+\))$/)
    expect(recorded.filter((cell) => cell !== 'not run').length).toBeGreaterThan(15)
  })

  it('are shown with the answer where a recording has another one', () => {
    const { text } = recordings.find(({ name }) => name === 'pseries-random')!
    const run = runRecording(recordingOf('pseries-random', text))
    const lines = text.split('\n')
    const at = lines.findIndex((line) => line.startsWith('rtas 0x2026 6 ') && line.includes(' => 0 '))
    lines[at] = lines[at]!.replace(/ => 0 .*/, ' => 0 0x7')
    const other = { ...run, recording: { ...run.recording, text: lines.join('\n') } }
    const changed = rulePages([other])['real-answers-differences.md'] ?? ''
    expect(changed).toContain(`\`0 0x7\` 1 (pseries-random:${at + 1})`)
  })
})

describe('errata in recorded answers', () => {
  it('are shown by the answers that would be others', () => {
    const run = runs.find(({ recording }) => recording.name === 'kernel-6.12-64k')!
    const counts = erratumCounts(run)
    const of = (id: string) => {
      const { isThere, count, first } = counts.find(({ erratum }) => erratum.id === id)!
      return [isThere, count, first]
    }
    expect(of('X14')).toEqual([true, 3, 328])
    expect(of('v1-kernel-tables')).toEqual([false, 23, 443])
    expect(of('X7')).toEqual([true, 0, 0])
    expect(counts.map(({ erratum }) => erratum.id)).not.toContain('Q1')
    expect(learnedList([run], counts)).toMatch(/\(X14\)\. \(3\s+answers, the first\s+kernel-6\.12-64k:328\)/)
    expect(learnedList([], [])).toContain('(not run)')
  })
})

describe('tables', () => {
  it('stand in columns', () => {
    expect(alignedGrid(['a', 'bb'], [['ccccc', 'd|e']])).toBe(
      ['| a     | bb   |', '|-------|------|', '| ccccc | d\\|e |'].join('\n'),
    )
  })
})
