import { describe, expect, it } from 'vitest'
import { BEARINGS } from '../../src/machine/replay/kernel-answers-doubt.ts'
import { createReplay } from '../../src/machine/replay/log-replay.ts'
import { replayText as reportText } from '../../src/machine/replay/replay-report.ts'
import { isClean, type ReplayResult } from '../../src/machine/replay/result.ts'
import { AGENT_COMMANDS } from '../../src/reader/kernel-answers-format.ts'
import { bytesOf } from '../log-rows.ts'
import { HEAD, HEAD_LINES, replayLines, replayText } from '../support/transcript.ts'

const OPEN = ['open 0 => 0', 'group 0 => 0', 'attach 0 => 0', 'iommu 7 => 0']
const MEMORY = ['anon 0x100000000 0x1000000 => 0', 'register 0x100000000 0x1000000 => 0']
const VMLCK = 'vmlck => 0 VmLck=16384kB VmPin=0kB'
const DEVICE = 'device 0 0001:01:00.0 => 0 bar size 0x100000 mapped yes'

/** What became of each line: it matched, it diverged (with what the model says), or it was not judged. */
const judged = (r: ReplayResult) => ({
  matched: r.answers.matched,
  diverged: r.divergences.map((d) => `${d.line - HEAD_LINES} ${d.model}`),
  unjudged: r.unjudged.map((u) => `${u.firstLine - HEAD_LINES} ${u.count} ${u.why}`),
})
const all = (matched: number) => ({ matched, diverged: [], unjudged: [] })

describe('the program of a transcript', () => {
  it.each<[string, readonly string[]]>([
    [
      'a device that is closed stays open where its registers are mapped',
      [...OPEN, DEVICE, 'devclose => 0', 'devclose => -1 EBADF', 'detach 0 => -1 EBUSY'],
    ],
    [
      'a file is not closed when another takes its variable: the container keeps its group',
      [
        ...OPEN,
        'open 0 => 0',
        'iommu 7 => -1 EINVAL',
        'attach 0 => -1 EINVAL',
        'group 0 => -1 EBUSY',
        'detach 0 => -1 EBADF',
      ],
    ],
    [
      'what lies past a window is its beginning, for the PHB of an emulated host (run on 6.12.95)',
      [
        ...OPEN,
        ...MEMORY,
        DEVICE,
        'map 0x0 0x100000000 0x10000 => 0',
        'poke 0x100000000 0x55 16 => 0',
        'dma r 0x80000000 16 => 0',
        'dma w 0x100 16 => 0',
        'peek 0x100000100 4 => 0 55555555',
      ],
    ],
    [
      'memory with a hole is registered up to it: the answer counts the pages (run on 6.12.95)',
      [
        ...OPEN,
        'anon 0x100000000 0x400000 0x41 => 0',
        'unmapmem 0x100230000 0x10000 => 0',
        'register 0x1001f0000 0x210000 => 4',
        'register 0x100230000 0x20000 => -1 EFAULT',
        'vmlck => 0 VmLck=0kB VmPin=0kB',
      ],
    ],
    [
      'a container and a group that were never opened are descriptor -1',
      [
        'version => -1 EBADF',
        'groupclose 3 => -1 EBADF',
        'close 7 => -1 EBADF',
        'group 1 => 0',
        'attach 1 => -1 EBADF',
      ],
    ],
    [
      'another container is chosen',
      [
        'open 0 => 0',
        'open 1 => 0',
        'use 0 => 0',
        'close 0 => 0',
        'version => -1 EBADF',
        'use 1 => 0',
        'version => 0',
      ],
    ],
    [
      'without registers there is no dma',
      ['dma r 0x0 16 => ? unknown command', ...OPEN, DEVICE, 'dma r 0x0 16 => 0'],
    ],
    [
      'a device that cannot be opened leaves the registers of the one before',
      [...OPEN, DEVICE, 'device 0 0001:01:00.1 => -1 ENODEV', 'dma r 0x0 16 => 0', 'devclose => -1 EBADF'],
    ],
    [
      'memory is read as it was set, as DMA left it',
      [
        ...OPEN,
        DEVICE,
        ...MEMORY,
        'map 0x10000 0x100000000 0x10000 => 0',
        'poke 0x100000000 0xc3 3 => 0',
        'peek 0x100000000 4 => 0 c3c3c300',
        'dma r 0x10000 2 => 0',
        'dma w 0x10008 4 => 0',
        'peek 0x100000006 6 => 0 0000c3c30000',
        'peek 0x100000000 0 => 0 ',
      ],
    ],
    [
      'memory is filled',
      [
        'anon 0x100000000 0x30000 0x41 => 0',
        'peek 0x10002fffe 2 => 0 4141',
        'anon 0x200000000 0x10000 0x1ff => 0',
        'peek 0x200000000 1 => 0 ff',
      ],
    ],
    [
      'limits count without the capability',
      [
        'rlimit 0x100000 => 0',
        ...OPEN,
        ...MEMORY,
        'unregister 0x100000000 0x1000000 => 0',
        'dropcap => 0',
        'register 0x100000000 0x1000000 => -1 ENOMEM',
        'register 0x100000000 0x100000 => 0',
        'vmlck => 0 VmLck=1024kB VmPin=0kB',
      ],
    ],
    [
      'any ioctl goes by its number',
      [...OPEN, 'ioctl 100 0x0 => 0', 'ioctl 113 0x0 => -1 EPERM', 'ioctl 255 0x0 => -1 ENOTTY'],
    ],
    [
      'memory goes',
      [
        'anon 0x100000000 0x20000 => 0',
        'anon 0x100000000 0x10000 => -1 EEXIST',
        'unmapmem 0x100000000 0x20000 => 0',
        'anon 0x100000000 0x10000 => 0',
        'unmapmem 0x1 0x1 => -1 EINVAL',
      ],
    ],
  ])('%s', (_what, lines) => {
    expect(judged(replayLines(lines))).toEqual(all(lines.length))
  })

  it('ends with its script: its files are closed, its memory is gone, what it leaked stays', () => {
    const one = [...OPEN, ...MEMORY, VMLCK]
    const lines = [
      ...one,
      'ORACLE script end rc=0',
      'ORACLE script test.txt',
      ...one,
      'ORACLE script other.txt',
      ...one,
    ]
    const r = replayLines(lines)
    expect(judged(r)).toEqual(all(3 * one.length))
    expect(r.ledger.calls.find((c) => c.call === 'exit')?.count).toBe(2)
  })

  it('that would have died at a command did not print what follows', () => {
    expect(
      judged(replayLines(['peek 0x200000000 1 => 0 00', 'poke 0x200000000 0x1 1 => 0'])).diverged,
    ).toEqual([
      '1 nothing: the memory is not there (SIGSEGV)',
      '2 nothing: the memory is not there (SIGSEGV)',
    ])
  })
})

describe('one wrong answer is one divergence', () => {
  it.each([
    ['another value', 'iommu 7 => 1', '4 0'],
    ['another errno', 'iommu 3 => -1 EINVAL', '4 -1 ENODEV'],
    ['a field', 'groupstatus 0 => 0 flags=0x7', '4 0 flags=0x3'],
    ['an answer where the model refuses', 'dma r 0x0 16 => 0', '4 ? unknown command'],
  ])('%s', (_what, line, model) => {
    const before = OPEN.slice(0, 3)
    expect(judged(replayLines([...before, line, 'version => 0']))).toEqual({
      matched: 4,
      diverged: [model],
      unjudged: [],
    })
  })
})

describe('what is not known', () => {
  const after = (lines: readonly string[], rest: readonly string[]) =>
    judged(replayLines([...OPEN, ...MEMORY, VMLCK, ...lines, ...rest]))

  /** A guest with a table of KVM, and what its VMM needs for more. */
  const GUEST = [
    'kvm => 0',
    'vm 0 => 0',
    'radix => 0',
    'ram 0x1000000 0x100000000 => 0 at 0x100000000',
    'vcpu => 0 first exit nr=0x7f0',
  ]

  it('locked_vm after a damaged line, to the end of the process', () => {
    const r = after(
      ['disable 1 => 0'],
      [VMLCK, 'version => 0', 'ORACLE script b.txt', 'vmlck => 0 VmLck=0kB VmPin=0kB'],
    )
    const why = ['9 1 rests on locked_vm, not known since a damaged line']
    expect(r).toEqual({ matched: 9, diverged: [], unjudged: why })
  })

  it('limits where locked_vm is not known', () => {
    const lines = ['kvm => 0', 'vm 0 => 0', 'disable 1 => 0', 'rlimit 0x1000 => 0', 'dropcap => 0']
    const r = after(lines, ['tce64 0x80000000 12 0 0x1000 => -1 ENOMEM'])
    expect(r.unjudged).toEqual(['13 1 rests on locked_vm, not known since a damaged line'])
  })

  it('entries and registered memory after a hypercall that is not known, and what they lead to', () => {
    const rest = [
      'map 0x10000 0x100000000 0x10000 => 0',
      'unmap 0x10000 0x10000 => 0 size=0x10000',
      'dma r 0x10000 16 => 0',
      'peek 0x100000000 1 => 0 00',
      'unregister 0x100000000 0x1000000 => -1 EBUSY',
      'info => 0 flags=0x1 dma32=0x0+0x80000000 pgsizes=0x40211000 maxwin=2 levels=5',
    ]
    const r = after([DEVICE, ...GUEST, 'hcall x => 0'], rest)
    expect(r).toEqual({
      matched: 16,
      diverged: [],
      unjudged: [
        '15 2 rests on the registered memory, not known since a damaged line',
        '17 1 rests on the entries of the tables, not known since a damaged line',
      ],
    })
  })

  it('what KVM is asked that is not about TCEs', () => {
    const lines = [...GUEST, 'kvmcap 10 => 32767', 'vmcap 63 => 1', 'hcall 0x4 => 0 r4=0x0']
    const r = after(lines, [VMLCK])
    expect(r).toEqual({
      matched: 14,
      diverged: [],
      unjudged: ['13 1 extension 10 of KVM', '15 1 a hypercall that is not about TCEs'],
    })
  })

  it('what the agent refuses: tables that it does not have or no longer shows, a guest that is not there', () => {
    const refused = ['tcedump 0 0 1', 'tceclose 0', 'vcpuclose', 'gpoke64 0x90000 0x3', 'vfiotce 0 8']
    const of = (lines: readonly string[]) => judged(replayLines(['kvm => 0', 'vm 0 => 0', ...lines]))
    expect(of(refused.map((line) => `${line} => ? unknown command`))).toMatchObject({
      matched: 2,
      diverged: [],
    })
    expect(of(refused.map((line) => `${line} => 0`)).diverged.map((text) => text.slice(2))).toEqual(
      refused.map(() => '? unknown command'),
    )
    expect(of(['hcall 0x1c 0x80000000 0x0 => 0 r4=0x0']).diverged).toEqual(['3 ? unknown command'])
    const table = [...GUEST, 'tce64 0x1 12 0 0x10 => 0 table 0 mmap ok', 'tceunmap 0 => 0']
    expect(judged(replayLines([...table, 'tcedump 0 0 1 => 0 0x0'])).diverged).toEqual([
      '8 ? unknown command',
    ])
    const full = Array.from({ length: 8 }, (_, i) => `tce64 ${i + 1} 12 0 0x10 => 0 table ${i} mmap ok`)
    expect(
      judged(replayLines([...GUEST, ...full, 'tce64 9 12 0 0x10 => 0 table 8 mmap ok'])).diverged,
    ).toEqual(['14 ? unknown command'])
  })

  it('files that are closed, slots, and entries that user space writes', () => {
    const lines = [
      ...GUEST,
      'tce64 0x80000000 16 0 0x10 => 0 table 0 mmap ok',
      'slot 1 0x1000000 0x100000 0x200000000 => 0',
      'slot 1 0x1000000 0x10000 0x200000000 => -1 EINVAL',
      'hcall 0x20 0x80000000 0x0 0x10f0003 => 0 r4=0x80000000',
      'tcepoke 0 0x1 0x77 => 0',
      'tcedump 0 0 3 => 0 0x10f0003 0x77 0x0',
      'slot 1 0x1000000 0x0 0x200000000 => 0',
      'hcall 0x20 0x80000000 0x0 0x10f0003 => 0 EXIT-TO-USER nr=0x20 args 0x80000000 0x0 0x10f0003 0x0',
      'vfiodev => 0',
      'vfiodev => -1 EBUSY',
      'vfioclose => -1 EBADF',
      'vmclose => 0',
      'vmclose => -1 EBADF',
      'vcpu => -1 EBADF',
      'tceclose 0 => 0',
      'tceclose 0 => -1 EBADF',
      'vmlck => 0 VmLck=128kB VmPin=0kB',
      'tceunmap 0 => 0',
      'vmlck => 0 VmLck=0kB VmPin=0kB',
      'hcall 0x1c 0x80000000 0x0 => 0 EXIT-TO-USER nr=0x1c args 0x80000000 0x0 0x0 0x0',
      'vcpuclose => 0',
    ]
    expect(judged(replayLines(lines))).toEqual(all(lines.length))
  })

  it('a guest that the model does not have', () => {
    const of = (line: string, head: readonly string[] = []) =>
      judged(replayLines([...head, 'kvm => 0', 'vm 0 => 0', 'ram 0x1000000 => 0 at 0x7fff93da0000', line]))
    const power8 = [
      'ORACLE pci 0001:00:00.0 0x1014:0x03dc group=',
      'ORACLE pci 0001:01:00.0 0x1234:0x11e8 group=0',
    ]
    const made = 'vcpu => 0 first exit nr=0x7f0'
    expect(of(made)).toEqual(all(4))
    expect(of(made, power8).unjudged).toEqual(['6 1 a guest without a radix MMU'])
    expect(of('gpoke64 0x90000 0x400003 => 0')).toEqual(all(4))
    expect(of('gpoke64 0x1000000 0x400003 => 0').diverged).toEqual([
      '4 nothing: the memory of the guest is not there (SIGSEGV)',
    ])
  })

  it('the buffer of a device, until the device reads memory that is known', () => {
    const mapped = [...OPEN, DEVICE, ...MEMORY, 'map 0x10000 0x100000000 0x10000 => 0']
    const lines = [
      ...mapped,
      'hcall x => 0',
      'dma r 0x10000 16 => 0',
      'ORACLE script b.txt',
      ...mapped,
      'dma w 0x10000 16 => 0',
      'peek 0x100000000 1 => 0 00',
      'poke 0x100000000 0x0 16 => 0',
      'dma r 0x10000 8 => 0',
      'dma w 0x10000 8 => 0',
      'dma w 0x10000 9 => 0',
    ]
    const r = judged(replayLines(lines))
    expect([r.matched, r.diverged]).toEqual([2 * mapped.length + 3, []])
    const since = 'not known since a damaged line'
    expect(r.unjudged).toEqual([
      `10 1 rests on the entries of the tables, ${since}`,
      `20 2 rests on the buffer of the device, ${since}`,
      `21 1 rests on the contents of memory, ${since}`,
    ])
  })

  it('of that buffer only what lies behind a gap', () => {
    const lines = [
      ...OPEN,
      DEVICE,
      ...MEMORY,
      'map 0x10000 0x100000000 0x10000 => 0',
      'poke 0x100000000 0x41 4 => 0',
      'dma r 0x10000 4 => 0',
      'dma r 0x10002 4 4 => 0',
      'dma r 0x10000 4 12 => 0',
      'dma w 0x10010 4 4 => 0',
      'peek 0x100000010 4 => 0 41410000',
      'dma w 0x10020 5 8 => 0',
      'peek 0x100000020 1 => 0 00',
    ]
    const replay = createReplay({ from: 'kernel-answers', source: 'test', isContinued: true })
    replay.push(bytesOf(`${[...HEAD, ...lines].join('\n')}\n`))
    const r = judged(replay.end())
    expect([r.matched, r.diverged]).toEqual([lines.length - 2, []])
    expect(r.unjudged).toEqual([
      `${lines.length - 1} 1 rests on the buffer of the device, not known since the start`,
      `${lines.length} 1 rests on the contents of memory, not known since the start`,
    ])
  })

  it('where the agent lies, and more than a modelled host has', () => {
    const lines = [
      'anon 0x10000000 0x10000 => -1 EEXIST',
      'anon 0x600000000000 0x40000000000 0x41 => 0',
      'register 0x600000000000 0x40000000000 => 0',
      'poke 0x600000000000 0x41 0x40000000000 => 0',
      'peek 0x7fff93da0000 1 => 0 00',
    ]
    const r = judged(replayLines([...OPEN, ...lines]))
    expect([r.matched, r.diverged]).toEqual([4, []])
    expect(r.unjudged.reduce((n, u) => n + Number(u.split(' ')[1]), 0)).toBe(5)
  })

  it('after a number that the agent has no room for, all of its process', () => {
    const r = judged(replayLines(['open 8 => 0', VMLCK, 'ORACLE live', 'vmlck => 0 VmLck=0kB VmPin=0kB']))
    expect([r.matched, r.diverged, r.unjudged.length]).toEqual([1, [], 2])
  })

  it('after a shell: who drives the devices, for good', () => {
    const r = judged(
      replayLines([
        'sh echo 1 => 0',
        'vmlck => 0 VmLck=0kB VmPin=0kB',
        ...OPEN,
        'ORACLE script b.txt',
        ...OPEN,
        'vmlck => 0 VmLck=0kB VmPin=0kB',
      ]),
    )
    expect(r.matched).toBe(1)
    expect(r.unjudged[0]).toBe('1 1 a shell is not modelled')
  })

  it('after an unknown command, all of its process; not where the agent did not take it', () => {
    const of = (line: string) => judged(replayLines([line, 'vmlck => 0 VmLck=0kB VmPin=0kB']))
    expect(of('frobnicate 1 => 0')).toEqual({
      matched: 0,
      diverged: [],
      unjudged: ['2 1 rests on locked_vm, not known since the unknown command frobnicate'],
    })
    expect(of('frobnicate 1 => ? unknown command')).toEqual(all(1))
  })

  it('what a damaged line may have changed, by its command', () => {
    const damaged = replayLines([...OPEN, ...MEMORY, 'unregister 0x100000000 => 0', VMLCK, 'version => 0'])
    expect(damaged.log.damaged.count).toBe(1)
    expect(judged(damaged)).toEqual({
      matched: 7,
      diverged: [],
      unjudged: ['8 1 rests on locked_vm, not known since a damaged line'],
    })
    const mark = judged(replayLines([...OPEN, 'ORACLE scribble', ...OPEN]))
    expect([mark.matched, mark.unjudged.length]).toEqual([4, 1])
  })

  it('after a command that the agent refused nothing is done', () => {
    const r = judged(replayLines(['open 0 => ? unknown command', 'version => -1 EBADF']))
    expect(r).toEqual({
      matched: 1,
      diverged: [],
      unjudged: ['1 1 the agent refused the command: "? unknown command"'],
    })
  })

  it('how much memory the host has', () => {
    const r = judged(
      replayLines(['anon 0x100000000 0x8000000000 => -1 ENOMEM', 'anon 0x100000000 0x10000 => 0']),
    )
    expect([r.matched, r.diverged, r.unjudged.length]).toEqual([0, [], 2])
  })

  it('leaves findings that rest on it in doubt', () => {
    const leak = [...OPEN, ...MEMORY, 'map 0x10000 0x100000000 0x10000 => 0']
    const unregister = 'unregister 0x100000000 0x1000000 => 0'
    const sure = replayLines([...leak, unregister])
    expect(sure.findings.map((f) => [f.rule, f.inferred])).toEqual([['orphaned-region', false]])
    const doubtful = replayLines([...leak, 'frobnicate => 0', unregister])
    expect(doubtful.findings.map((f) => [f.rule, f.inferred])).toEqual([['orphaned-region', true]])
    expect([isClean(sure), isClean(doubtful)]).toEqual([false, false])
  })

  it('every command says what it rests on and what it changes', () => {
    expect(Object.keys(BEARINGS).sort()).toEqual(Object.keys(AGENT_COMMANDS).sort())
  })
})

describe('the host of a transcript', () => {
  const texts = (r: ReplayResult) => r.assumptions.map((a) => `${a.line} ${a.text}`)

  it('is assumed where the log does not say', () => {
    const r = replayText('# a comment\nopen 0 => 0\ngroup 0 => 0\n')
    expect([r.profile, r.answers.matched]).toEqual(['linux-6.12.95', 2])
    expect(texts(r).map((t) => t.slice(0, 30))).toEqual([
      '2 the kernel is linux-6.12.95:',
      '2 group 0 holds 0001:01:00.0, ',
      '2 the host is QEMU’s powernv m'.replace('’', "'"),
      '2 the kernel has system pages ',
    ])
  })

  it('has the errata of the kernel that the log names, unless another profile is given', () => {
    const head = 'ORACLE kernel 6.1.0-50-powerpc64le up 2.00\nopen 0 => 0\n'
    expect(replayText(head).profile).toBe('linux-6.1.0')
    expect(replayText(head, 'intended').profile).toBe('intended')
    expect(() => createReplay({ from: 'kernel-answers', source: 'x', profile: 'linux' })).toThrow(
      'unknown profile',
    )
  })

  it('has pages of 4 KiB with Debian’s plain kernel', () => {
    const lines = [
      'ORACLE kernel 6.1.0-50-powerpc64le up 2.00',
      'anon 0x1000 0x1000 => 0',
      'anon 0x800 0x1000 => -1 EINVAL',
    ]
    expect(replayText(lines.join('\n')).answers).toMatchObject({ matched: 2, diverged: 0 })
  })

  it('is not emulated where no device is edu; such devices are not modelled', () => {
    const lines = [
      'ORACLE kernel 6.12.95-64k up 2.00',
      'ORACLE pci 0001:01:00.0 0x10de:0x1db6 group=4',
      ...OPEN.map((l) => l.replace(/(group|attach) 0/, '$1 4')),
      'device 4 0001:01:00.0 => 0 bar size 0x1000000 mapped yes',
      'dma r 0x0 16 => 0',
    ]
    const r = replayText(lines.join('\n'))
    expect([r.answers.matched, texts(r)]).toEqual([4, []])
    expect(r.unjudged.map((u) => u.why)).toEqual([
      'the device 0001:01:00.0 is not modelled',
      'rests on the files of the agent, not known since device',
    ])
  })

  it('has the host bridge that its root port tells', () => {
    const lines = (port: string, pages: string) => [
      'ORACLE kernel 6.12.95-64k up 2.00',
      `ORACLE pci 0001:00:00.0 0x1014:${port} group=`,
      'ORACLE pci 0001:01:00.0 0x1234:0x11e8 group=0',
      ...OPEN,
      `info => 0 flags=0x1 dma32=0x0+0x80000000 pgsizes=${pages} maxwin=2 levels=5`,
    ]
    const divergedOf = (port: string, pages: string) => replayText(lines(port, pages).join('\n')).divergences
    // 4 KiB, 64 KiB and 16 MiB on POWER8; radix pages of 2 MiB and 1 GiB since POWER9.
    expect(divergedOf('0x03dc', '0x11011000')).toEqual([])
    expect(divergedOf('0x04c1', '0x40211000')).toEqual([])
    expect(divergedOf('0x0652', '0x40211000')).toEqual([])
    expect(divergedOf('0x04c1', '0x11011000')).toHaveLength(1)
  })

  it('leaves out devices that a group cannot have', () => {
    const pci = (address: string, group: string) => `ORACLE pci ${address} 0x1234:0x11e8 group=${group}`
    const r = replayText(
      [
        pci('0001:01:00.0', '0'),
        pci('0001:01:00.0', '1'),
        pci('0001:02:00.0', '0'),
        pci('1:2', '3'),
        pci('0002:01:00.0', '-1'),
        'group 0 => 0',
      ].join('\n'),
    )
    expect(texts(r).filter((t) => t.includes('is left out'))).toHaveLength(4)
    expect(r.answers.matched).toBe(1)
  })

  it('that boots again is another one', () => {
    const r = replayLines([
      ...OPEN,
      'ORACLE kernel 6.12.95-64k up 2.00',
      'ORACLE pci 0001:01:00.0 0x1234:0x11e8 group=0',
      ...OPEN,
    ])
    expect(r.answers).toEqual({ total: 8, matched: 4, diverged: 0, unjudged: 4 })
    expect(texts(r).at(-1)).toContain('not replayed from here on: the host booted again')
  })

  it('starts the limit of its processes where the kernel does, and says so when it counts', () => {
    const r = replayLines([
      ...OPEN,
      'dropcap => 0',
      'anon 0x100000000 0x1000000 => 0',
      'register 0x100000000 0x1000000 => -1 ENOMEM',
      'register 0x100000000 0x800000 => 0',
    ])
    expect(r.answers).toMatchObject({ matched: 8, diverged: 0 })
    expect(texts(r).filter((t) => t.includes('RLIMIT_MEMLOCK'))).toEqual([
      '12 RLIMIT_MEMLOCK is 8 MiB, what the kernel starts with',
    ])
  })
})

describe('the report of a transcript', () => {
  const plain = (text: string) => text
  const paint = { bold: plain, dim: plain, red: plain, green: plain, yellow: plain, cyan: plain }

  it('counts every line, and says what is not judged and why', () => {
    const r = replayLines([
      '# one',
      '',
      'kvm => 0',
      '[    1.000000] two',
      'hello',
      'frobnicate => 0',
      'ORACLE x',
      'vmlck => 0 VmLck=0kB VmPin=0kB',
    ])
    const text = reportText(r, paint)
    expect(text).toContain('13 lines: 2 answers, 1 of commands that are not declared, 5 marks, 1 comment,')
    expect(text).toContain('answers  2: 1 matched (50.0 %), 0 diverged, 1 not judged')
    expect(text).toContain('  rests on locked_vm')
    expect(text).not.toContain('translations')
    expect(text).toContain('clean: every answer that can be judged is explained')
  })
})
