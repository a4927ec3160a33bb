import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { run } from './run.ts'

const TABLES = 'recordings/vtd/x86-tab-strict.tables.json.xz'
const OF_DEVICE = ['walk', '--mem', TABLES, '--source', '00:03.0']

describe('walk over the tables of a stopped guest', () => {
  it('prints every word with its fields, and where the address leads', async () => {
    const { code, out } = await run([...OF_DEVICE, '--iova', '0xfffff123'])
    expect(code).toBe(0)
    expect(out).toBe(`00:03.0: root table at 0x271e000, legacy mode
  0x271e000   root     0x2754001   CTP=0x2754 P
  0x2754180   context  0x275d001   SLPTPTR=0x275d P
  0x2754188   context  0x501       DID=0x5 AW=0x1
  0x275d018   level 3  0x29a2003   ADDR=0x29a2 W R
  0x29a2ff8   level 2  0x1be45003  ADDR=0x1be45 W R
  0x1be45ff8  level 1  0x1a549003  ADDR=0x1a549 W R
0xfffff123 leads to 0x1a549123: a page of 4 KiB (read, write), domain 5
`)
  })

  it('says why it is blocked, by the number and by what Linux prints', async () => {
    const { code, out } = await run([...OF_DEVICE, '--iova', '0x3000', '--access', 'write'])
    expect(code).toBe(1)
    expect(out).toContain('blocked, fault reason 0x5 (WRITE, LGN.2)')
    expect(out).toContain('"PTE Write access is not set"')
  })

  it('takes the width of the registers in the dump', async () => {
    const beyond = await run([...OF_DEVICE, '--iova', '0x8000000000'])
    expect(beyond.out).toContain('BEYOND_WIDTH')
    const none = await run([...OF_DEVICE.slice(0, 3), '--source', '0x28', '--iova', '0'])
    expect(none.out).toContain('CONTEXT_ENTRY_P')
  })

  it('an interrupt, and all as JSON', async () => {
    expect((await run([...OF_DEVICE, '--iova', '0xfee01004'])).out).toContain('is an interrupt')
    const { out } = await run([...OF_DEVICE, '--iova', '0xfffff000', '--json'])
    const { words, answer } = JSON.parse(out)
    expect(words[0]).toEqual({
      address: '0x271e000',
      of: 'root',
      word: 'VTD_ROOT_ENTRY',
      raw: '0x2754001',
      fields: { CTP: '0x2754', P: '0x1' },
    })
    expect(answer).toMatchObject({ fault: 0, page: '0x1a549000', bytes: 4096, perm: 3, domain: 5 })
  })
})

describe('walk over an image of memory', () => {
  let folder = ''
  const path = (name: string) => join(folder, name)
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'iommulator-walk-'))
    const image = Buffer.alloc(0x2_0000)
    const word = (address: number, value: bigint) => image.writeBigUInt64LE(value, address)
    // Scalable: RID_PASID 0 through four first-level tables, PASID 5 passed through.
    word(0x1000, 0x2001n)
    word(0x2000 + 0x18 * 32, 0x3009n)
    word(0x3000, 0x4001n)
    word(0x4000, 0x49n)
    word(0x4008, 0x80_0001n)
    word(0x4010, 0x5000n)
    word(0x4000 + 5 * 64, 0x10dn)
    for (const table of [0x5000, 0x6000, 0x7000]) word(table, BigInt(table + 0x1000) | 7n)
    word(0x8000, 0xabc_d007n)
    writeFileSync(path('image'), image)
    writeFileSync(path('image.gz'), gzipSync(image))
    writeFileSync(path('bare'), '{ "pages": 1 }')
    writeFileSync(path('flat'), '{ "pages": { "0": 1 } }')
    writeFileSync(path('text'), '{ "pages": { "0": { "1": 2 } } }')
    writeFileSync(path('odd'), '{ "pages": { "0": { "512": "0x1" } } }')
    writeFileSync(path('open'), '{ "pages"')
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  const walk = (name: string, ...more: string[]) =>
    run([
      'walk',
      '--mem',
      path(name),
      '--root',
      '0x1400',
      '--source',
      '0000:00:03.0',
      '--iova',
      '0x123',
      ...more,
    ])

  it('reads the image as it is, and packed', async () => {
    const { code, out } = await walk('image')
    expect(code).toBe(0)
    expect(out).toContain('scalable mode')
    expect(out).toMatch(/0x4010 +PASID +0x5000 +FLPTPTR=0x5/)
    expect(out).toMatch(/0x8000 +first level 1 +0xabcd007 +ADDR=0xabcd US RW P/)
    expect(out).toContain('0x123 leads to 0xabcd123: a page of 4 KiB (read, write), domain 1')
    expect((await walk('image.gz')).out).toBe(out)
  })

  it('takes a PASID, a kind of request and privilege', async () => {
    expect((await walk('image', '--pasid', '5')).out).toContain('0x123 stays 0x123: pass-through, domain 0')
    expect((await walk('image', '--pasid', '5', '--privileged')).out).toContain('PASID_SRE')
    expect((await walk('image', '--request', 'translation')).out).toContain('SM_DTE')
    expect((await walk('image', '--iova', '0x1000', '--access', 'read')).out).toContain('FL_P')
  })

  it('takes what the unit can do from its registers', async () => {
    const qemu = ['--cap', '0x00d2008c222f0606', '--ecap', '0x480080f00f4a']
    expect((await walk('image', ...qemu)).out).toContain('SM_CONTEXT_ENTRY_RSVD')
    expect((await walk('image', '--haw', '32')).code).toBe(0)
  })

  it.each<[string, string[], string, number]>([
    ['a width that no unit has', ['--haw', '64'], '--haw 64', 2],
    ['one register of two', ['--cap', '1'], '--ecap', 2],
    ['a device that is none', ['--source', '00:20.0'], 'a bus has 32 devices', 2],
    ['a function that is none', ['--source', '00:1f.8'], 'a device has 8 functions', 2],
    ['a device without a function', ['--source', '00:03'], 'no device in the form of 00:03.0', 2],
    ['a source that is none', ['--source', 'eth0'], '--source eth0', 2],
    ['a PASID of too many bits', ['--pasid', '0x100000'], '--pasid', 2],
    ['a profile that is none', ['--profile', 'qemu-seven'], 'qemu-seven', 2],
  ])('refuses %s', async (_what, more, message, exit) => {
    const { code, err, out } = await walk('image', ...more)
    expect([code, out]).toEqual([exit, ''])
    expect(err).toContain(message)
  })

  it.each([
    ['bare', 'it has no "pages"'],
    ['flat', 'an object with numbers'],
    ['text', 'the value of "1" is no text'],
    ['odd', 'a page has no word 512'],
    ['open', 'is no dump of tables'],
  ])('refuses a dump like %s', async (name, message) => {
    const { code, err } = await walk(name)
    expect(code).toBe(3)
    expect(err).toContain(message)
  })

  it('asks for what is missing', async () => {
    expect((await run(['walk'])).err).toContain('--mem')
    expect((await run(['walk', '--mem', path('image'), '--source', '0', '--iova', '0'])).err).toContain(
      '--root',
    )
    expect((await run(['walk', '--mem', path('image'), '--iova', '0'])).err).toContain('--source')
    expect((await run(['walk', '--mem', path('image'), '--source', '0'])).err).toContain('--iova')
  })
})
