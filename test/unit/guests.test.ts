import { createHash } from 'node:crypto'
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { bootGuest, diskTestFault, guestArguments } from '../../src/peer/guests/boot-guest.ts'
import { GUEST_CONFIGURATIONS } from '../../src/peer/guests/configurations.ts'
import { findGuestFiles } from '../../src/peer/guests/guest-files.ts'
import { guestSeed, makeTestDisk, TEST_DISK_BYTES, testDiskFault } from '../../src/peer/guests/test-disk.ts'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'guests-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const named = (name: string) => GUEST_CONFIGURATIONS.find((one) => one.name === name) ?? expect.fail(name)
const [FILES, DISK] = [
  { kernel: 'K', initrd: 'I' },
  { by: 'vhost-user', socket: 'S' },
] as const
/** What stands behind each of QEMU's options of one name. */
const valuesOf = (args: readonly string[], option: string): string[] =>
  args.flatMap((word, i) => (word === option ? [args[i + 1] ?? ''] : []))

describe('configurations of guests', () => {
  it('are those that the disk test covers', () => {
    expect(GUEST_CONFIGURATIONS.map(({ name }) => name)).toEqual([
      'amd64-strict',
      'amd64-lazy',
      'amd64-caching-mode',
      'amd64-ats-strict',
      'amd64-ats-lazy',
      'ppc64el-window-32bit',
      'ppc64el-ddw',
    ])
  })

  it.each(GUEST_CONFIGURATIONS)(
    '$name: memory is shared, and the disk is behind the vIOMMU',
    (configuration) => {
      const args = guestArguments(configuration, FILES, { disk: DISK, zone: 'ab', trace: 'T' })
      const [memory] = valuesOf(args, '-object')
      expect(memory).toMatch(/^memory-backend-memfd,id=m0,size=\d+[MG],share=on$/)
      expect(memory).toContain(`size=${valuesOf(args, '-m')},`)
      expect(valuesOf(args, '-M')[0]).toContain('memory-backend=m0')
      const disk = valuesOf(args, '-device').at(-1)
      expect(disk).toMatch(
        /^vhost-user-blk-pci,chardev=c0,.*iommu_platform=on,disable-legacy=on,num-queues=1$/,
      )
      expect(valuesOf(args, '-append')[0]).toMatch(/^console=\w+ quiet .*guest\.zone=ab$/)
      expect(valuesOf(args, '-D')).toEqual(['T'])
      expect(valuesOf(args, '-trace')).toContain('enable=vhost_*')
    },
  )

  it('a device TLB is there behind a root port only', () => {
    for (const { name, machineArguments, diskProperties } of GUEST_CONFIGURATIONS) {
      const hasAts = diskProperties.includes('ats=on')
      expect(hasAts, name).toBe(name.includes('-ats-'))
      expect(machineArguments.join(' ').includes('device-iotlb=on'), name).toBe(hasAts)
      expect(diskProperties.includes('bus=rp0'), name).toBe(hasAts)
    }
  })

  it('a disk may be served by QEMU, have more queues, and go past the vIOMMU', () => {
    const args = guestArguments(named('amd64-ats-lazy'), FILES, {
      disk: { by: 'qemu', file: 'a,b.img' },
      run: 'bench',
      isTranslated: false,
      queues: 3,
    })
    expect(valuesOf(args, '-drive')).toEqual(['file=a,,b.img,if=none,id=d0,format=raw'])
    expect(valuesOf(args, '-device').at(-1)).toBe(
      'virtio-blk-pci,drive=d0,bus=rp0,ats=on,iommu_platform=off,disable-legacy=on,num-queues=3',
    )
    expect(valuesOf(args, '-smp')).toEqual(['3'])
    expect(valuesOf(args, '-append')[0]).toContain(' guest.run=bench')
    expect([valuesOf(args, '-trace'), valuesOf(args, '-D')]).toEqual([[], []])
  })
})

describe('what a guest is started from', () => {
  it('is named with the command that gets it, where it is missing', () => {
    const path = join(folder, 'bin')
    const cache = join(folder, 'cache')
    const env = { PATH: path, XDG_CACHE_HOME: cache }
    const missing = (what: string) =>
      expect.objectContaining({
        code: 'ERR_PEER',
        message: expect.stringMatching(new RegExp(`${what}.*; get .* sudo sh .*peers/guests/setup\\.sh$`)),
      })
    const find = () => findGuestFiles('ppc64el', env)
    expect(find).toThrow(missing('qemu-system-ppc64 is not installed'))
    mkdirSync(path)
    const qemu = join(path, 'qemu-system-ppc64')
    writeFileSync(qemu, '', { mode: 0o755 })
    expect(find).toThrow(missing('there is no .*/guests-peer/ppc64el/kernel'))
    const at = join(cache, 'iommulator', 'guests-peer', 'ppc64el')
    mkdirSync(at, { recursive: true })
    writeFileSync(join(at, 'kernel'), '')
    expect(find).toThrow(missing('there is no .*/guests-peer/ppc64el/initrd.gz'))
    writeFileSync(join(at, 'initrd.gz'), '')
    expect(find()).toEqual({
      qemu,
      setpriv: undefined,
      kernel: join(at, 'kernel'),
      initrd: join(at, 'initrd.gz'),
    })
  })
})

describe('the disk of a test', () => {
  /** Puts bytes where a guest would. */
  const put = (path: string, bytes: Uint8Array, at: number) => {
    const file = openSync(path, 'r+')
    writeSync(file, bytes, 0, bytes.length, at)
    closeSync(file)
  }

  it('has a zone for the guest to read, and is right once the other holds the seed', () => {
    const path = join(folder, 'disk.img')
    const zone = makeTestDisk(path)
    expect(statSync(path).size).toBe(TEST_DISK_BYTES)
    const bytes = readFileSync(path).subarray(TEST_DISK_BYTES - 2 * 2 ** 20, TEST_DISK_BYTES - 2 ** 20)
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(zone)
    expect(testDiskFault(path)).toBe('byte 68157440 of the disk is 0, not 48')
    put(path, guestSeed(), TEST_DISK_BYTES - 2 ** 20)
    expect(testDiskFault(path)).toBeUndefined()
  })

  it.each([
    ['a zone that was to stay', TEST_DISK_BYTES - 2 * 2 ** 20 + 70_000],
    ['the last byte', TEST_DISK_BYTES - 1],
  ])('sees one byte that is another in %s', (_what, at) => {
    const path = join(folder, 'fault.img')
    makeTestDisk(path)
    put(path, guestSeed(), TEST_DISK_BYTES - 2 ** 20)
    put(path, Uint8Array.of((readFileSync(path)[at] ?? 0) ^ 1), at)
    expect(testDiskFault(path)).toMatch(new RegExp(`^byte ${at} of the disk is `))
  })

  it('has the seed that the set-up script packs', () => {
    // As guests print it: "zone written".
    expect(createHash('sha256').update(guestSeed()).digest('hex')).toBe(
      'fcf52dce05dcb044438bdd987424b895022f5460276eab8ec774ed17109a6c44',
    )
  })
})

describe('a guest', () => {
  const SUM = 'c'.repeat(64)
  const HANGS = 'setInterval(() => 1, 1000)'
  /** A program that says something and ends, or does not. */
  const boot = (lines: readonly string[], rest = '', limitMs = 20_000) => {
    const seen: string[] = []
    const program = {
      command: process.execPath,
      args: ['-e', `process.stdout.write(${JSON.stringify(lines.join('\r\n'))} + '\\r\\n');${rest}`],
    }
    const run = bootGuest(named('amd64-strict'), {
      disk: DISK,
      program,
      limitMs,
      onLine: (l) => seen.push(l),
    })
    return run.then((result) => ({ ...result, seen }))
  }

  it('may be ended', async () => {
    const [gone, late] = [new AbortController(), new AbortController()]
    const program = { command: process.execPath, args: ['-e', `console.log('GUEST kernel 6.1');${HANGS}`] }
    const onLine = () => late.abort()
    const boot = (signal: AbortSignal) =>
      bootGuest(named('amd64-strict'), { disk: DISK, program, signal, onLine, limitMs: 20_000 })
    gone.abort()
    const runs = await Promise.all([boot(late.signal), boot(gone.signal)])
    expect(runs.map(({ ending, why }) => [ending, why])).toEqual([
      ['lost', 'it was ended'],
      ['lost', 'it was ended'],
    ])
    expect(runs[0]?.marks).toEqual(['kernel 6.1'])
  })

  it('that passes its test says so', async () => {
    const lines = ['SeaBIOS', `GUEST disk test passed 12 files 34 bytes sha256 ${SUM}`, 'GUEST end up 20.1']
    const run = await boot(lines)
    expect(run.ending).toBe('done')
    expect(run.passed).toEqual({ files: 12, bytes: 34, sha256: SUM })
    expect(run.marks).toEqual([`disk test passed 12 files 34 bytes sha256 ${SUM}`, 'end up 20.1'])
    expect(run.seen).toEqual(lines)
    expect(run.transcript).toBe(`${lines.join('\n')}\n`)
    expect(diskTestFault(run)).toBeUndefined()
  })

  it('that fails its test has not passed it, and says why', async () => {
    const run = await boot([
      '#1 SMP Debian 6.GUEST disk test failed: round 2: /mnt/3: FAILED;',
      'GUEST end up 9',
    ])
    expect([run.ending, run.passed]).toEqual(['done', undefined])
    expect(diskTestFault(run)).toBe('disk test failed: round 2: /mnt/3: FAILED;')
  })

  it.each([
    [
      'panics',
      ['[    2.268220] Kernel panic - not syncing: Fatal exception'],
      '',
      'panicked',
      /^QEMU ended \(0\)$/,
    ],
    ['ends in between', ['GUEST kernel 6.1'], 'process.exit(3)', 'lost', /^QEMU ended \(3\)$/],
    ['hangs', ['GUEST kernel 6.1'], HANGS, 'lost', /^it was not done within 1 s$/],
  ] as const)('that %s has passed nothing', async (_what, lines, rest, ending, why) => {
    const passed = `GUEST disk test passed 1 files 2 bytes sha256 ${SUM}`
    const run = await boot([passed, ...lines], rest, rest === HANGS ? 1000 : 20_000)
    expect([run.ending, run.passed]).toEqual([ending, undefined])
    expect(run.why).toMatch(why)
  })
})
