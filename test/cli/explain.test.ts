import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { LogText } from '../../src/cli/log-text.ts'
import { run, runLive } from './run.ts'

const dir = mkdtempSync(join(tmpdir(), 'iommulator-explain-'))
afterAll(() => rmSync(dir, { recursive: true }))
const file = (name: string, text: string | Uint8Array): string => {
  const path = join(dir, name)
  writeFileSync(path, text)
  return path
}

const LOG = `Nov 20 11:20:10 box kernel: [    0.004000] DMAR: dmar0: reg_base_addr fed90000 ver 1:0 cap d2008c22260206 ecap f00f4e
Nov 20 11:20:11 box kernel: [    0.930210] pci 0000:00:04.0: Adding to iommu group 4
Nov 20 11:20:15 box kernel: [    5.793582] DMAR: DRHD: handling fault status reg 2
Nov 20 11:20:15 box kernel: [    5.794272] DMAR: [DMA Read NO_PASID] Request device [00:04.0] fault addr 0x9c000000 [fault reason 0x06] PTE Read access is not set
Nov 20 11:20:20 box kernel: [   10.953461] dmar_fault: 5 callbacks suppressed
Nov 20 11:20:20 box kernel: [   10.953785] DMAR: box has a line that is new, at 9c000000
`

describe('explain', () => {
  const path = file('dmesg.txt', LOG)

  it('says each kind of fault, and ends with 1', async () => {
    const { code, out, err } = await run(['explain', path])
    expect({ code, err }).toEqual({ code: 1, err: '' })
    expect(out).toBe(`1  DMA read by 00:04.0 was blocked, once
   when        line 4, 5.794272 s
   address     0x9c000000
   reason      0x06 PTE Read access is not set
   means       A read met page tables that do not allow it: nothing is mapped
               there, or only for writing.
   failed at   the second-level page tables; the line does not say at which
               level
   known       line 2: 0000:00:04.0 is in IOMMU group 4
   check next  1. lspci -nnks 00:04.0: what the device is, and which driver has
                  it
               2. record iommu:map and iommu:unmap
                  (/sys/kernel/tracing/events/iommu) around the fault: was
                  0x9c000000 ever mapped, and was it unmapped before the fault
                  came?
               3. is the buffer mapped with DMA_FROM_DEVICE? Then the device may
                  only write it
               4. does a mapping end just below 0x9c000000? Then the device runs
                  past the end of its buffer

1 kind of fault, 1 in all; 6 lines, 5 understood, 1 not

machine
  line 1: dmar0: version 1.0, addresses of 39 bits, tables for 39 bits,
  device-TLBs, interrupt remapping

notes
  5 messages of Intel VT-d suppressed, because there were too many (last said in
  line 5); an interrupt with one fault counts as three of them, so about a third
  as many faults left no line: every count here is at least that
  line 3: fault status 0x2: PPF: A fault recording register holds a fault.
  1 line of Intel VT-d with no template here, line 6 first: "DMAR: box has a
  line that is new, at 9c000000"
`)
  })

  it('reads standard input, with and without -', async () => {
    const { out } = await run(['explain', path])
    expect((await run(['explain'], LOG)).out).toBe(out)
    expect((await run(['explain', '-'], LOG)).out).toBe(out)
  })

  it('reads packed logs, and lines that end as those of a console', async () => {
    const { out } = await run(['explain', path])
    expect((await run(['explain', file('dmesg.gz', gzipSync(LOG))])).out).toBe(out)
    expect((await run(['explain'], LOG.replaceAll('\n', '\r\n'))).out).toBe(out)
  })

  it('prints one JSON object', async () => {
    const { code, out } = await run(['explain', path, '--json'])
    expect(code).toBe(1)
    const json = JSON.parse(out)
    expect(json).toMatchObject({
      schema: 'iommulator-explain-1',
      log: { lines: 6, understood: 5, unknown: 1, unexplained: [{ family: 'vtd', firstLine: 6 }] },
      suppressed: [{ family: 'vtd', lines: 5 }],
      machine: [{ unit: 'dmar0', cap: '0xd2008c22260206' }],
    })
    expect(json.faults).toHaveLength(1)
    expect(json.faults[0]).toMatchObject({
      family: 'vtd',
      kind: 'dma',
      device: '00:04.0',
      access: 'read',
      pasid: null,
      reason: 6,
      reasonName: 'READ',
      condition: 'LGN.3',
      table: 'second-level',
      times: 1,
      firstLine: 4,
      firstUs: 5_794_272,
      addresses: [{ first: '0x9c000000', last: '0x9c000000' }],
      about: [{ line: 2, text: '0000:00:04.0 is in IOMMU group 4' }],
    })
  })

  it.each([[[]], [['--json']]])('--redact leaves no address and no host, %j', async (more) => {
    const { out } = await run(['explain', path, '--redact', ...more])
    expect(out).not.toMatch(/9c000000|fed90000|\bbox\b/)
    expect(out).toContain('addr#1')
    expect(out).toContain('host#1')
    expect(out).toContain('00:04.0')
  })

  it('a log without faults is clean, whatever else it holds', async () => {
    for (const text of ['', '\n', 'hello\n', '[    0.004000] DMAR: IOMMU enabled\n', '{}\n', '\0\xff\n']) {
      const { code, out, err } = await run(['explain'], text)
      expect({ code, err }).toEqual({ code: 0, err: '' })
      expect(out).toMatch(/^no fault; \d+ lines?, /)
    }
  })

  it('a log in UTF-16 with its mark, wherever its bytes are cut', async () => {
    const { out } = await run(['explain', path])
    const little = Buffer.from(`\ufeff${LOG}`, 'utf16le')
    expect((await run(['explain', file('le.txt', little)])).out).toBe(out)
    expect((await run(['explain', file('be.txt', Buffer.from(little).swap16())])).out).toBe(out)
    const text = new LogText('cut')
    const pieces = [...little].map((byte) => Buffer.from(text.utf8(Uint8Array.of(byte))))
    expect(Buffer.concat(pieces).toString()).toBe(LOG)
  })

  it.each([
    ['a program', () => readFileSync(process.execPath).subarray(0, 300_000)],
    [
      'random bytes',
      () =>
        Uint8Array.from(
          { length: 4096 },
          (
            (prng) => () =>
              prng.below(256)
          )(new Prng(3)),
        ),
    ],
    ['UTF-16 without its mark', () => Buffer.from(LOG, 'utf16le')],
  ])('%s is no log', async (_what, bytes) => {
    const name = file('binary', bytes())
    const { code, out, err } = await run(['explain', name])
    expect({ code, out }).toEqual({ code: 3, out: '' })
    expect(err).toContain(`iommulator: ${name} is no log: `)
    expect(err).toContain('are no text')
  })

  it.each([
    ['zeros that a crash left', Buffer.concat([Buffer.from(LOG), Buffer.alloc(100_000)])],
    ['zeros before the text', Buffer.concat([Buffer.alloc(70_000), Buffer.from(`\n${LOG}`)])],
    ['stray bytes of a serial line', Buffer.from(LOG.replaceAll('\n', '\n\0\x01\x7f\n'))],
    ['colours and bells', Buffer.from(`${'\x1b[31mred\x1b[0m\x07\n'.repeat(40)}${LOG}`)],
    ['no byte of UTF-8', Buffer.concat([Buffer.from('Ger\xe4t\n', 'latin1'), Buffer.from(LOG)])],
  ])('a log with %s is read', async (_what, bytes) => {
    const { code, out } = await run(['explain', file('stray.txt', bytes)])
    expect(code).toBe(1)
    expect(out).toContain('1  DMA read by 00:04.0 was blocked, once')
  })

  it('a log without a line that is understood, and with zeros, is clean', async () => {
    const text = `${'a line of another program\n'.repeat(20)}${'\0'.repeat(500)}`
    expect((await run(['explain', file('zeros.txt', text)])).code).toBe(0)
  })

  it('a file that is not there', async () => {
    const { code, err } = await run(['explain', join(dir, 'none')])
    expect({ code, err }).toEqual({
      code: 3,
      err: `iommulator: cannot read ${join(dir, 'none')}: there is no such file\n`,
    })
  })
})

describe('explain --follow', () => {
  const FAULT = LOG.split('\n')[3] ?? ''
  const wait = async (until: () => boolean) => {
    for (let i = 0; i < 200 && !until(); i++) await new Promise((done) => setTimeout(done, 20))
    expect(until()).toBe(true)
  }

  it('says a new kind of fault when it comes, and the whole at the end', async () => {
    const path = file('growing.txt', '')
    const running = runLive(['explain', path, '--follow'])
    appendFileSync(path, `${FAULT}\n`)
    await wait(() => running.out.includes('1  DMA read by 00:04.0 was blocked, once'))
    appendFileSync(path, `${FAULT}\n${FAULT.replace('Read NO', 'Write NO').replace('0x06', '0x05')}\n`)
    await wait(() => running.out.includes('2  DMA write by 00:04.0 was blocked, once'))
    expect(running.out).not.toContain('in all')
    running.interrupt()
    const { code, out } = await running.done
    expect(code).toBe(1)
    expect(out).toContain('1  DMA read by 00:04.0 was blocked, 2 times')
    expect(out).toContain('2 kinds of faults, 3 in all')
  })

  it.each([
    ['gzip', gzipSync(LOG), 'it is packed by gzip, and does not grow line by line: leave --follow out'],
    ['zstd', Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0), 'it is packed by zstd, which is not supported'],
  ])('a file that is packed by %s does not grow', async (name, bytes, why) => {
    const path = file(`log.${name}`, bytes)
    const { code, out, err } = await run(['explain', path, '--follow'])
    expect({ code, out }).toEqual({ code: 3, out: '' })
    expect(err).toContain(`cannot follow ${path}: ${why}`)
  })

  it.each([5000, 100_000])('what is no text is not followed on, %i bytes', async (bytes) => {
    const path = file('program', readFileSync(process.execPath).subarray(0, bytes))
    const { code, err } = await run(['explain', path, '--follow'])
    expect(code).toBe(3)
    expect(err).toContain('is no log: ')
  })

  it('follows standard input to its end', async () => {
    const { code, out } = await run(['explain', '--follow'], `${FAULT}\n`)
    expect(code).toBe(1)
    expect(out.match(/DMA read by 00:04\.0/g)).toHaveLength(2)
  })

  it('--json and --redact keep what they promise', async () => {
    const { out } = await run(['explain', '--follow', '--json'], `${FAULT}\n`)
    expect(JSON.parse(out).faults).toHaveLength(1)
    const redacted = await run(['explain', '--follow', '--redact'], LOG)
    expect(redacted.out).not.toMatch(/9c000000|\bbox\b/)
  })
})
