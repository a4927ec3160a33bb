import { describe, expect, it } from 'vitest'
import { type FitResult, fit } from '../../src/machine/fit/fit.ts'
import { backingShift, type FitRequest } from '../../src/machine/fit/fit-request.ts'

const KIB = 1024
const MIB = 1024 * KIB
const GIB = 1024 * MIB
const TIB = 1024 * GIB
const HOST_PAGE = 64 * KIB

const BASE: FitRequest = {
  version: 'v2',
  phb: 'phb3',
  ramBytes: GIB,
  hostPageShift: 16,
  hugeShift: undefined,
  windows: [],
  keepsDefault: true,
  groups: 1,
  memlockBytes: undefined,
  hasIpcLock: false,
}
const of = (change: Partial<FitRequest>): FitResult => fit({ ...BASE, ...change })
const window = (pageShift: number, windowBytes: number, levels: number) => ({
  pageShift,
  windowBytes: BigInt(windowBytes),
  levels,
})
/** Call, answer, rule and what is locked after it. */
const answers = (result: FitResult) => result.steps.map((s) => [s.call, s.code, s.rule, s.lockedPages])
const created = (result: FitResult) => answers(result).filter(([call]) => call === 'TCE_CREATE')

describe('registered memory', () => {
  it('1 GiB takes 16384 pages of 64 KiB, 262144 of 4 KiB', () => {
    expect(of({}).steps[0]).toMatchObject({ formula: '1 GiB / 64 KiB', pages: 16384, lockedPages: 16384 })
    expect(of({ hostPageShift: 12 }).steps[0]).toMatchObject({ formula: '1 GiB / 4 KiB', pages: 262_144 })
  })

  it('a limit is counted in whole pages, and met exactly is met', () => {
    const steps = (memlockBytes: number) => answers(of({ memlockBytes, keepsDefault: false }))[0]
    expect(steps(16384 * HOST_PAGE)).toEqual(['REGISTER_MEMORY', 'OK', 'done', 16384])
    expect(steps(16384 * HOST_PAGE - 1)).toEqual(['REGISTER_MEMORY', 'ENOMEM', 'limit', 0])
    expect(of({ memlockBytes: 0, hasIpcLock: true }).fits).toBe(true)
    expect(of({ memlockBytes: 0, hasIpcLock: true }).limitPages).toBeUndefined()
  })

  it('memory that is no whole number of host pages is refused, and nothing can be mapped then', () => {
    const { steps, fits } = of({ ramBytes: GIB + 4 * KIB })
    expect(steps[0]).toMatchObject({
      code: 'EINVAL',
      rule: 'unaligned',
      why: '1073745920 is no multiple of 65536',
    })
    expect(steps.at(-1)).toMatchObject({ call: 'MAP_DMA', code: 'EPERM', rule: 'not-enabled' })
    expect(fits).toBe(false)
  })
})

describe('windows of a v2 container', () => {
  const ram = 16 * GIB
  const RAM = 262_144

  it('the default window removed: the first window is at 0, the second at 1 << 59, a third is refused', () => {
    const three = [window(16, ram, 1), window(16, ram, 2), window(16, ram, 1)]
    const result = of({ ramBytes: ram, keepsDefault: false, windows: three })
    expect(created(result)).toEqual([
      ['TCE_CREATE', 'OK', 'done', RAM + 64],
      ['TCE_CREATE', 'OK', 'done', RAM + 64 + 66],
      ['TCE_CREATE', 'ENOSPC', 'no-free-window', RAM + 64 + 66],
    ])
    expect(result.windows.map((w) => [w.start, w.entries, w.chargedBytes])).toEqual([
      [0n, 0x40000, 4_194_304],
      [1n << 59n, 0x40000, 4_325_376],
    ])
    expect(result.steps.map((s) => s.formula)).toEqual([
      '16 GiB / 64 KiB',
      '',
      '2 x 262144 x 8 / 65536',
      '2 x (262144 x 8 + 65536) / 65536',
      '',
      '',
      '',
    ])
  })

  it('the default window is made and charged by the first call that needs a window', () => {
    const result = of({ ramBytes: ram, windows: [window(16, ram, 1)] })
    expect(created(result)).toEqual([
      ['TCE_CREATE', 'OK', 'done', RAM + 128],
      ['TCE_CREATE', 'OK', 'done', RAM + 192],
    ])
    expect(result.windows.map((w) => w.start)).toEqual([0n, 1n << 59n])
    expect(answers(of({ ramBytes: ram })).slice(1)).toEqual([
      ['MAP_DMA', 'OK', 'done', RAM + 128],
      ['MAP_DMA', 'OK', 'done', RAM + 128],
    ])
  })

  it.each([
    ['a page that the PHB has not', window(21, ram, 1), 'EINVAL', 'page-size-unknown', 0],
    ['six levels', window(16, ram, 6), 'EINVAL', 'bad-geometry', 0],
    ['a window that is no power of two', window(16, 3 * GIB, 1), 'EINVAL', 'bad-geometry', 0],
    ['three levels of a host page', window(16, ram, 3), 'EINVAL', 'table-refused', 68],
    ['a first level that is too long', window(16, TIB, 1), 'ENOMEM', 'no-memory', 4096],
    ['both: the form comes first', window(16, 2 ** 60, 2), 'EINVAL', 'table-refused', 2 ** 32 + 1024],
  ])('%s: the charge of a table that is refused later stays', (_what, w, code, rule, kept) => {
    const result = of({ ramBytes: ram, keepsDefault: false, windows: [w] })
    expect(created(result)).toEqual([['TCE_CREATE', code, rule, RAM + kept]])
    expect(result.windows).toEqual([])
  })

  it('the limit is asked before the form of the table, the page size before both', () => {
    const memlockBytes = RAM * HOST_PAGE
    const refused = (w: FitRequest['windows'][0]) =>
      created(of({ ramBytes: ram, keepsDefault: false, windows: [w], memlockBytes }))[0]
    expect(refused(window(16, ram, 3))).toEqual(['TCE_CREATE', 'ENOMEM', 'limit', RAM])
    expect(refused(window(21, ram, 3))).toEqual(['TCE_CREATE', 'EINVAL', 'page-size-unknown', RAM])
    expect(refused(window(16, ram, 6))).toEqual(['TCE_CREATE', 'EINVAL', 'bad-geometry', RAM])
    const pending = of({ ramBytes: ram, windows: [window(21, ram, 6)], memlockBytes })
    expect(created(pending)).toEqual([['TCE_CREATE', 'ENOMEM', 'default-window-limit', RAM]])
  })

  it('a window smaller than its page reaches over a host page of entries', () => {
    const [made] = of({ keepsDefault: false, windows: [window(16, 32 * KIB, 1)] }).windows
    expect(made).toMatchObject({
      windowBytes: 32 * KIB,
      entries: 8192,
      reachBytes: 512 * MIB,
      chargedBytes: 131_072,
    })
  })

  it('groups share the container: nothing is charged twice', () => {
    expect(of({ groups: 200 }).lockedPages).toBe(of({ groups: 1 }).lockedPages)
  })
})

describe('page sizes that RAM can back', () => {
  it.each([
    ['ordinary pages', undefined, GIB, 16],
    ['hugetlb pages of 16 MiB', 24, GIB, 24],
    ['RAM that ends within one', 24, GIB + 2 * MIB, 21],
    ['hugetlb pages of 1 GiB', 30, 64 * GIB, 30],
  ])('%s', (_what, hugeShift, ramBytes, shift) => {
    expect(backingShift({ ...BASE, hugeShift, ramBytes })).toBe(shift)
  })

  it('a window of larger pages can be made, but not mapped into', () => {
    const large = { keepsDefault: false, windows: [window(24, GIB, 1)] }
    expect(of(large).steps.at(-1)).toMatchObject({
      code: 'EINVAL',
      rule: 'not-registered',
      why: 'the IOMMU page is 16 MiB, RAM is backed by 64 KiB',
    })
    expect(of({ ...large, hugeShift: 24 }).fits).toBe(true)
  })
})

describe('what a kernel of 6.12 showed as VmLck', () => {
  const phb = 'phb4' as const
  it('16 MiB, default window, 1 GiB of 64K pages in 2 levels: 24960 KiB', () => {
    const { lockedPages } = of({ phb, ramBytes: 16 * MIB, windows: [window(16, GIB, 2)] })
    expect(lockedPages * 64).toBe(24_960)
  })

  it('64 MiB and a window of 2 GiB in place of the default one: 66048 KiB', () => {
    const { lockedPages } = of({
      phb,
      ramBytes: 64 * MIB,
      keepsDefault: false,
      windows: [window(16, 2 * GIB, 1)],
    })
    expect(lockedPages * 64).toBe(66_048)
  })

  it('a v1 container: 2097152 KiB enabled, 2105344 KiB after the first mapping', () => {
    const { steps } = of({ phb, version: 'v1' })
    expect(steps.map((s) => s.lockedPages * 64)).toEqual([2_097_152, 2_105_344])
  })
})

describe('v1 containers', () => {
  it('charge the whole window for each group, whatever the memory', () => {
    const { lockedPages, windows } = of({ version: 'v1', groups: 3, ramBytes: 8 * GIB })
    expect(lockedPages).toBe(3 * (32_768 + 128))
    expect(windows).toHaveLength(1)
  })

  it('the group that passes the limit is refused', () => {
    const { steps, fits } = of({ version: 'v1', groups: 3, memlockBytes: 98_304 * HOST_PAGE })
    expect(steps.at(-1)).toMatchObject({
      call: 'ENABLE',
      about: 'container 3, 32-bit window',
      code: 'ENOMEM',
      why: '65792 + 32768 = 98560 pages, the limit is 98304',
    })
    expect(fits).toBe(false)
    const within = of({ version: 'v1', memlockBytes: 32_768 * HOST_PAGE })
    expect(answers(within).at(-1)).toEqual(['MAP_DMA', 'ENOMEM', 'default-window-limit', 32_768])
  })

  it('have no windows to make or to remove', () => {
    const { steps } = of({ version: 'v1', keepsDefault: false, windows: [window(16, GIB, 1)] })
    expect(steps.slice(2).map((s) => [s.call, s.code, s.rule])).toEqual([
      ['TCE_REMOVE', 'ENOTTY', 'not-v2'],
      ['TCE_CREATE', 'ENOTTY', 'not-v2'],
    ])
  })
})

describe('the window planner', () => {
  it('4 GiB with pages of 16 MiB: 256 entries, one call', () => {
    const plan = of({ ramBytes: 4 * GIB, hugeShift: 24 }).plans[2]
    expect(plan).toMatchObject({
      pageBytes: 16 * MIB,
      windowBytes: 4 * GIB,
      tces: 256,
      indirectCalls: 1,
      why: '',
    })
  })

  it('128 GiB of 64K pages is the most for one level', () => {
    const levels = (ramBytes: number) => of({ ramBytes }).plans.map((p) => p.levels)
    expect(levels(128 * GIB)[1]).toBe(1)
    expect(levels(128 * GIB + HOST_PAGE)[1]).toBe(2)
  })

  it('pages that the RAM does not back, and tables that pass the limit, are refused with their reason', () => {
    const { plans } = of({ ramBytes: 16 * GIB, memlockBytes: (262_144 + 128 + 64) * HOST_PAGE })
    expect(plans.map((p) => [p.pageBytes, p.why])).toEqual([
      [4 * KIB, '263298 pages to lock, the limit is 262336'],
      [64 * KIB, ''],
      [16 * MIB, 'RAM is backed by pages of 64 KiB'],
      [256 * MIB, 'RAM is backed by pages of 64 KiB'],
    ])
  })

  it('a plan can be carried out: its window is made and maps all RAM', () => {
    for (const ramBytes of [HOST_PAGE, 3 * GIB, 100 * GIB, 2 * TIB]) {
      for (const plan of of({ ramBytes, hugeShift: 24 }).plans.filter((p) => p.why === '')) {
        const pageShift = Math.log2(plan.pageBytes)
        const made = of({
          ramBytes,
          hugeShift: 24,
          windows: [window(pageShift, plan.windowBytes, plan.levels)],
        })
        expect(made.fits).toBe(true)
        expect(made.windows[1]!.reachBytes).toBeGreaterThanOrEqual(ramBytes)
        expect(made.windows[1]!.chargedBytes).toBe(plan.chargedBytes)
        expect(plan.tces * plan.pageBytes).toBeGreaterThanOrEqual(ramBytes)
        expect(plan.indirectCalls).toBe(Math.ceil(plan.tces / 512))
      }
    }
  })

  it('v1 has its 32-bit window', () => {
    const plans = (ramBytes: number) => of({ version: 'v1', ramBytes }).plans
    expect(plans(2 * GIB)).toMatchObject([{ pageBytes: 4096, tces: 524_288, indirectCalls: 1024, why: '' }])
    expect(plans(2 * GIB + HOST_PAGE)[0]!.why).toBe('the window has 2 GiB, RAM ~2.0 GiB')
  })
})
