import { describe, expect, it } from 'vitest'
import { run } from './run.ts'

const fit = (line: string) => run(['fit', ...line.split(' ').filter((w) => w !== '')])

describe('iommulator fit', () => {
  it.each([
    ['--ram 16G --memlock 17G', 0],
    ['--ram 16G --memlock 16G', 1],
    ['--ram 16G --memlock 16G --cap-ipc-lock', 0],
    ['--ram 16G --memlock unlimited', 0],
    ['--ram 16G --window 16G --window 16G', 1],
    ['--ram 16G --window 16G --window 16G --without-default', 0],
    ['--ram 2G --vfio v1 --groups 2 --memlock 4G', 1],
  ])('%s: exit code %i, in text and in JSON', async (line, code) => {
    expect((await fit(line)).code).toBe(code)
    const { code: again, out } = await fit(`${line} --json`)
    expect(again).toBe(code)
    expect(JSON.parse(out)).toMatchObject({ schema: 'iommulator/fit/1', fits: code === 0 })
  })

  it('windows have their own pages and levels, or those of --page and --levels, or what will do', async () => {
    const { out } = await fit(
      '--ram 1G --window 1T 1T:64K 1T:64K:2 --window 1T:4K --page 2M --levels 3 --json',
    )
    const { request } = JSON.parse(out)
    expect(request.windows).toEqual([
      { windowBytes: '0x10000000000', pageShift: 21, levels: 3 },
      { windowBytes: '0x10000000000', pageShift: 16, levels: 3 },
      { windowBytes: '0x10000000000', pageShift: 16, levels: 2 },
      { windowBytes: '0x10000000000', pageShift: 12, levels: 3 },
    ])
    const alone = JSON.parse((await fit('--ram 1G --window 1T --json')).out)
    expect(alone.request.windows).toEqual([{ windowBytes: '0x10000000000', pageShift: 16, levels: 2 }])
  })

  it.each([
    ['', '--ram is missing: say how much memory the machine has'],
    ['--ram x', '--ram x: this is no size; write 64K, 16G or 0x400000000'],
    ['--ram 0', '--ram 0: a machine has memory'],
    ['--ram 8P', '--ram 8P: at most 4503599627370496'],
    ['--ram 1G --groups 0', '--groups 0: a container without a group does nothing'],
    ['--ram 1G --window 1G:3K', '--window 1G:3K: 3K: a page is a power of two'],
    ['--ram 1G --window 1G --page 3K', '--page 3K: a page is a power of two'],
    ['--ram 1G --levels 9', '--levels 9: it says how windows are made, and there is no --window'],
    ['--ram 1G --page 4K', '--page 4K: it says how windows are made'],
    ['--ram 1G --window 1G:4K:1:1', '--window 1G:4K:1:1: write SIZE, SIZE:PAGE or SIZE:PAGE:LEVELS'],
    ['--ram 1G --window 1G:64K:x', '--window 1G:64K:x: x: this is no size; write 64K, 16G or 0x400000000'],
    ['--ram 1G --memlock lots', '--memlock lots: this is no size; write 64K, 16G or 0x400000000'],
    ['--ram 1G --vfio v3', "option '--vfio <version>' argument 'v3' is invalid"],
    ['--ram 1G --host-page 16K', "option '--host-page <size>' argument '16K' is invalid"],
    ['--ram 1G --huge 4M', "option '--huge <size>' argument '4M' is invalid"],
  ])('%s: exit code 2', async (line, why) => {
    const { code, out, err } = await fit(line)
    expect([code, out]).toEqual([2, ''])
    expect(err).toContain(why)
  })

  it('long lists are cut in the text only', async () => {
    const line = '--ram 2G --vfio v1 --groups 200'
    expect((await fit(line)).out).toContain('  ... and 376 calls more\n')
    expect(JSON.parse((await fit(`${line} --json`)).out).steps).toHaveLength(400)
  })

  it('lines fit a terminal', async () => {
    const { out } = await fit(
      '--ram 64T --host-page 4K --window 64T:64K:5 --window 1G:2M --memlock 3T --groups 12',
    )
    expect(Math.max(...out.split('\n').map((l) => l.length))).toBeLessThanOrEqual(100)
  })
})
