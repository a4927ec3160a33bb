import { beforeAll, describe, expect, it } from 'vitest'
import { AGENT_COMMANDS } from '../../src/reader/kernel-answers-format.ts'
import {
  agentCommandOf,
  formatAgentCommand,
  formatAgentLine,
  readAgentLine,
} from '../../src/reader/kernel-answers-line.ts'
import { KernelAnswersReader, type TranscriptEntry } from '../../src/reader/kernel-answers-reader.ts'
import { VHOST_COMMANDS } from '../../src/reader/kernel-answers-vhost.ts'
import { run } from '../cli/run.ts'
import { answers } from '../log-rows.ts'

const RECORDING = 'recordings/kernel-6.12-64k.answers.xz'

/** How often each command stands in the recording, counted without the reader: by its first word. */
const COUNTS = {
  open: 4,
  version: 1,
  ext: 5,
  groupstatus: 3,
  group: 4,
  iommu: 5,
  attach: 4,
  info: 7,
  enable: 3,
  vmlck: 33,
  anon: 4,
  register: 16,
  unregister: 12,
  map: 29,
  unmap: 14,
  remove: 17,
  create: 23,
  detach: 3,
  close: 3,
  groupclose: 2,
  device: 2,
  poke: 6,
  dma: 18,
  peek: 11,
  eeh: 3,
  devclose: 1,
  kvm: 2,
  kvmcap: 3,
  vm: 2,
  vmcap: 4,
  radix: 2,
  ram: 2,
  hcall_enable: 4,
  vcpu: 2,
  tce64: 12,
  hcall: 49,
  tcedump: 6,
  gpoke64: 6,
  tceclose: 1,
  vfiodev: 1,
  vfiotce: 7,
  vfioadd: 1,
  vfiodel: 1,
  disable: 2,
}

describe('the recorded answers of Linux 6.12.95', () => {
  const entries: TranscriptEntry[] = []
  const reader = new KernelAnswersReader({ take: (entry) => entries.push(entry) })
  let lines: string[] = []
  let summary: ReturnType<KernelAnswersReader['end']>
  beforeAll(async () => {
    const bytes = await answers()
    lines = Buffer.from(bytes).toString('latin1').split('\n')
    reader.push(bytes)
    summary = reader.end()
  })
  const commands = () => entries.flatMap((e) => (e.kind === 'command' ? [e] : []))

  it('are all read: nothing is damaged or unknown', () => {
    const { declared, ...rest } = summary
    expect(rest).toEqual({
      lines: 477,
      bytes: 23_118,
      events: 340,
      comments: 12,
      marks: 19,
      messages: 99,
      noise: 6,
      empty: 1,
      unknown: [],
      damaged: { count: 0, first: [] },
      truncated: false,
    })
    expect(Object.fromEntries(declared.map(({ name, count }) => [name, count]))).toEqual(COUNTS)
  })

  it('are written again as they were', () => {
    expect(commands().map((e) => formatAgentLine(e))).toEqual(commands().map(({ line }) => lines[line - 1]))
  })

  it('name the kernel, the devices and the scripts', () => {
    const marks = entries.flatMap((e) => (e.kind === 'mark' ? [e] : []))
    expect(marks[0]).toEqual({
      kind: 'mark',
      line: 1,
      mark: 'kernel',
      fields: { release: '6.12.95+deb12-powerpc64le-64k', seconds: '2.00' },
    })
    const of = (name: string) => marks.filter((m) => m.mark === name).map((m) => m.fields)
    expect(of('pci')).toEqual([
      { device: '0001:01:00.0', vendorId: 0x1234n, deviceId: 0x11e8n, group: 0n },
      { device: '0002:01:00.0', vendorId: 0x1234n, deviceId: 0x11e8n, group: 1n },
    ])
    expect(of('pciWithoutGroup')).toHaveLength(6)
    expect(of('script').map((f) => f['script'])).toEqual([
      'pnv-1-vfio-v2.txt',
      'pnv-2-dma.txt',
      'pnv-3-kvm.txt',
      'pnv-4-kvm-vfio.txt',
      'pnv-5-vfio-v1.txt',
    ])
    expect(of('scriptEnd')).toEqual(Array.from({ length: 5 }, () => ({ code: 0n })))
  })

  it('have their values, errnos and fields', () => {
    const at = (line: number) => commands().find((e) => e.line === line)
    const lineOf = (text: string) => lines.indexOf(text) + 1
    expect(at(lineOf('create 16 0x40000000 2 => 0 start=0x800000000000000'))).toMatchObject({
      command: { name: 'create', args: { pageShift: 16n, bytes: 1n << 30n, levels: 2n, flags: 0n } },
      answer: { value: 0n, errno: undefined, fields: { start: 1n << 59n } },
    })
    expect(at(lineOf('map 0x80000000 0x100000000 0x10000 => -1 ENXIO'))).toMatchObject({
      command: { args: { iova: 1n << 31n, flags: 3n } },
      answer: { value: -1n, errno: 'ENXIO', fields: {} },
    })
    expect(at(lineOf('hcall 0x20 0x80000000 0x1abc 0x201001 => -4 0 r4=0x80000000'))?.answer).toEqual({
      value: -4n,
      errno: '0',
      fields: { r4: 1n << 31n },
    })
    expect(at(lineOf('tcedump 0 0 4 => 0 0x0 0x200003 0x0 0x0'))?.answer?.fields).toEqual({
      tces: [0n, 0x200003n, 0n, 0n],
    })
  })

  it("keep the kernel's messages in their place", () => {
    const before = entries.findIndex((e) => e.kind === 'message' && e.text.startsWith('Failed to allocate'))
    expect(entries[before]).toMatchObject({ seconds: '3.399302' })
    const after = entries[before + 1]
    expect(after?.kind === 'command' && formatAgentLine(after)).toBe(
      'create 16 0x10000000000 1 => -1 ENOMEM start=0x0',
    )
  })

  it('hold all commands but these', () => {
    const others = Object.keys(AGENT_COMMANDS).filter((name) => !Object.hasOwn(VHOST_COMMANDS, name))
    expect(others.filter((name) => !Object.hasOwn(COUNTS, name))).toEqual([
      'use',
      'ioctl',
      'unmapmem',
      'rlimit',
      'dropcap',
      'sh',
      'quit',
      'slot',
      'vmclose',
      'vcpuclose',
      'tce32',
      'tceunmap',
      'tcepoke',
      'vfioclose',
      'rawioctl',
    ])
  })

  it('are the same commands when they are built from their values', () => {
    for (const { command } of commands()) {
      const built = agentCommandOf(command.name, command.args as never)
      expect(readAgentLine(`${formatAgentCommand(built)} => ? unknown command`)).toMatchObject({
        command: { name: command.name, args: command.args },
      })
    }
  })

  it('can be replayed from the command line, as what they are or as what they are said to be', async () => {
    const guessed = await run(['replay', RECORDING, '--json'])
    const said = await run([
      'replay',
      RECORDING,
      '--json',
      '--from',
      'kernel-answers',
      '--profile',
      'linux-6.12.95',
    ])
    expect(said).toEqual({ ...guessed, err: '' })
    expect(guessed.code).toBe(1)
    expect(JSON.parse(guessed.out)).toMatchObject({
      schema: 'iommulator/replay/1',
      from: 'kernel-answers',
      profile: 'linux-6.12.95',
      clean: false,
      log: { lines: 477, events: 340, marks: 19, comments: 12, messages: 99, noise: 6, damaged: 0 },
      answers: { total: 340, diverged: 0 },
      divergences: [],
    })
    const intended = await run(['replay', RECORDING, '--json', '--profile', 'intended'])
    expect(intended.code).toBe(1)
    expect(JSON.parse(intended.out).answers).toMatchObject({ total: 340, diverged: 17 })
  })
})
