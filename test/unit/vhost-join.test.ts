import { describe, expect, it } from 'vitest'
import { resolveProfile } from '../../src/bits/errata.ts'
import { Judge } from '../../src/check/judge.ts'
import { ERRATA } from '../../src/machine/registry.ts'
import { isClean, type ReplayResult } from '../../src/machine/replay/result.ts'
import { JoinedReplay } from '../../src/machine/replay/vhost/joined-replay.ts'
import { VhostJoin } from '../../src/machine/replay/vhost/vhost-join.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { bytesOf, messageLog, recording } from '../log-rows.ts'
import { VhostRun } from '../support/vhost-run.ts'

const PAGE = 0xffff_8000n
const rulesOf = (r: ReplayResult): string[] => r.divergences.map((d) => d.rule)
const foundIn = (r: ReplayResult): string[] => r.findings.map((f) => f.rule)
const unmatchedIn = ({ vhost }: ReplayResult) =>
  Object.fromEntries((vhost?.unmatched ?? []).map((u) => [u.why, u.count]))

describe('a run without fault', () => {
  it('is clean: a miss, a use, a flush of the page', () => {
    const r = new VhostRun()
      .start()
      .ring()
      .miss(PAGE + 0x110n)
      .read(PAGE)
      .flushPages(PAGE)
      .invalidate(PAGE)
      .wait()
      .stop()
      .replay()
    expect(r.divergences).toEqual([])
    expect(isClean(r)).toBe(true)
    expect(r.vhost).toMatchObject({ requests: 1, bytes: 4096, maps: 1, overtaken: 0 })
  })

  it('with ATS the flush of the device TLB is what it hears', () => {
    const r = new VhostRun({ hasAts: true })
      .start()
      .ring()
      .miss(PAGE)
      .flushPages(PAGE)
      .descriptor('device', PAGE, 0x8_0000_0003n)
      .invalidate(PAGE)
      .wait()
      .replay()
    expect(r.divergences).toEqual([])
    expect(r.findings).toEqual([])
  })

  it('a flush of the whole device TLB leaves out where interrupts are', () => {
    const r = new VhostRun({ hasAts: true })
      .start()
      .ring()
      .descriptor('device', 0x7fff_ffff_ffff_f001n, 0x8_0000_0003n)
      .invalidate(0xfef0_0000n, 0xffff_ffff_0110_0000n)
      .invalidate(0n, 0xfee0_0000n)
      .wait()
      .replay()
    expect(r.divergences).toEqual([])
    expect(r.vhost?.maps).toBe(0)
  })

  it('a page that a walk finds gone is told; one that it had not seen is not', () => {
    const r = new VhostRun()
      .start()
      .ring()
      .flushDomain()
      .line(
        'vtd_page_walk_level walk (base=0x2724000, level=3) iova range 0x0 - 0x8000000000',
        'vtd_page_walk_one domain 0x3 iova 0xfffff000 -> gpa 0x10000000 mask 0xfff perm 0',
      )
      .invalidate(0xffff_f000n)
      .wait()
      .replay()
    expect(r.divergences).toEqual([])
    expect(r.vhost?.reasons.map((x) => x.why)).toContain('INVALIDATE: a page that a walk found gone')
  })

  it('a miss that has no translation, and a used ring that has none', () => {
    const fault = (iova: string) => [
      'vhost_iotlb_miss 0x1 step 1',
      `vtd_dmar_fault sid 0x8 fault 6 addr ${iova} write 0`,
      'vhost_iotlb_miss 0x1 step 2',
    ]
    const r = new VhostRun()
      .start()
      .line(...fault('0xfffff940'))
      .ask(PAGE)
      .line(...fault('0xffff8000'))
      .replay()
    expect(r.vhost?.reasons.map((x) => x.why)).toContain('MISS: the IOMMU has no translation')
    expect(isClean(r)).toBe(true)
  })

  it('the context of the device is read again: whatever QEMU tells then has a reason', () => {
    const r = new VhostRun()
      .start()
      .ring()
      .descriptor('context-cache')
      .line('vtd_inv_desc_cc_devices context invalidate devices sid 0x8 fmask 0x0')
      .line('vtd_inv_desc_cc_device context invalidate device 00:01.00')
      .invalidate(0n, 0x8000_0000n)
      .wait()
      .replay()
    expect(r.divergences).toEqual([])
  })

  it('a machine that starts again: firmware uses the disk while the kernel sets its IOMMU up', () => {
    const run = new VhostRun().start().ring().miss(PAGE).stop().line('vtd_reset_exit ')
    run.start(0x1fff_d000n).line('vhost_iotlb_miss 0x1 step 1')
    run.update(0x1fff_d940n, {}, { gpa: 0x1fff_d000n }).endLookUp()
    run.line('vtd_reg_dmar_root addr 0x267f000 scalable 0', 'vtd_dmar_enable enable 1')
    // The domain has the number that ours had before; whose it is now nobody has seen.
    run.flushPages(PAGE).wait().stop().start().ring().miss(PAGE).flushPages(PAGE).invalidate(PAGE).wait()
    const r = run.replay()
    expect(r.divergences).toEqual([])
    expect(isClean(r)).toBe(true)
  })

  it.each([false, true])('remapping is switched off; with ATS (%s) nobody hears of it', (hasAts) => {
    const run = new VhostRun({ hasAts }).start().ring().line('vtd_dmar_enable enable 0')
    if (!hasAts) run.invalidate(0xfef0_0000n, 0x10_0000n).invalidate(0xff00_0000n, 0x100_0000n)
    run.line('vtd_as_unmap_whole Device 00:01.0 start 0xfef00000 size 0x1100000')
    if (!hasAts) run.invalidate(0n, 0xfee0_0000n)
    const r = run.line('vtd_as_unmap_whole Device 00:01.0 start 0x0 size 0xfee00000').replay()
    expect(r.divergences).toEqual([])
    expect(isClean(r)).toBe(true)
  })

  it('without a flush of its pages a page may be looked up again', () => {
    const r = new VhostRun().start().ring().miss(PAGE).miss(PAGE).replay()
    expect(isClean(r)).toBe(true)
  })

  it('a back end that says of each access is believed, and its requests are not counted twice', () => {
    const use = { iova: '0xffff8000', uaddr: '0x7f0010000000', bytes: 4096, write: true, part: 0 }
    const run = new VhostRun().start().ring().miss(PAGE).own('use', use).read(PAGE)
    const replay = new JoinedReplay({ source: 'run' })
    replay.trace(run.traceBytes)
    replay.messages(run.messageBytes)
    expect(isClean(replay.end())).toBe(true)
    expect([...replay.log.records()].filter(({ event }) => event.kind === 'iotlb.use').length).toBe(1)
  })
})

describe('what trace and messages say against each other', () => {
  const faults: readonly (readonly [what: string, run: VhostRun, rule: string])[] = [
    [
      'an UPDATE that leads elsewhere',
      new VhostRun()
        .start()
        .ring()
        .ask(PAGE)
        .lookUp(PAGE)
        .update(PAGE, { uaddr: '0x7f0010001000' })
        .endLookUp(),
      'update-differs',
    ],
    [
      'an UPDATE of another size',
      new VhostRun().start().ring().ask(PAGE).lookUp(PAGE).update(PAGE, { size: '0x2000' }).endLookUp(),
      'update-differs',
    ],
    [
      'an UPDATE of no bytes',
      new VhostRun().start().ring().ask(PAGE).lookUp(PAGE).update(PAGE, { size: '0x0' }).endLookUp(),
      'update-impossible',
    ],
    [
      'an UPDATE without rights',
      new VhostRun().start().ring().ask(PAGE).lookUp(PAGE).update(PAGE, { perm: 0 }).endLookUp(),
      'update-impossible',
    ],
    [
      'an UPDATE past the end',
      new VhostRun()
        .start()
        .ring()
        .ask(PAGE)
        .lookUp(PAGE)
        .update(PAGE, { iova: '0xffffffffff008000', size: '0xffffffffffffffff' })
        .endLookUp(),
      'update-impossible',
    ],
    [
      'an UPDATE that nobody asked for',
      new VhostRun().start().ring().lookUp(PAGE).update(PAGE).endLookUp(),
      'update-unasked',
    ],
    [
      'an INVALIDATE out of nothing',
      new VhostRun().start().ring().miss(PAGE).invalidate(PAGE),
      'invalidate-without-cause',
    ],
    [
      'an INVALIDATE of more than was flushed',
      new VhostRun().start().ring().miss(PAGE).flushPages(PAGE).invalidate(PAGE, 0x2000n).wait(),
      'invalidate-without-cause',
    ],
    [
      'a flush that was not told',
      new VhostRun().start().ring().miss(PAGE).flushPages(PAGE).wait(),
      'listener-not-told',
    ],
    [
      'a flush that was told by half',
      new VhostRun().start().ring().miss(PAGE).flushPages(PAGE, 1).invalidate(PAGE).wait(),
      'listener-not-told',
    ],
    [
      'a flush of the device TLB that was not told',
      new VhostRun({ hasAts: true }).start().ring().descriptor('device', PAGE, 0x8_0000_0003n).wait(),
      'listener-not-told',
    ],
    [
      'remapping that is switched off, told by half',
      new VhostRun()
        .start()
        .ring()
        .line('vtd_dmar_enable enable 0')
        .invalidate(0n, 0x4000_0000n)
        .line('vtd_as_unmap_whole Device 00:01.0 start 0x0 size 0x80000000'),
      'listener-not-told',
    ],
    ['a use of what no message gave', new VhostRun().start().ring().read(PAGE), 'use-without-map'],
    [
      'an answer to nothing',
      new VhostRun().start().line('vhost_user_read req:5 flags:0x5'),
      'answer-not-due',
    ],
    [
      'an answer with other flags',
      new VhostRun()
        .request('SET_OWNER')
        .line('vhost_user_write req:1 flags:0x1', 'vhost_user_read req:1 flags:0x1')
        .got('GET_FEATURES'),
      'answer-not-due',
    ],
    [
      'an answer that is missing',
      new VhostRun()
        .request('GET_FEATURES')
        .line('vhost_user_write req:1 flags:0x1')
        .got('GET_FEATURES')
        .request('SET_OWNER'),
      'answer-missing',
    ],
  ]
  it.each(faults)('%s', (_what, run, rule) => {
    const r = run.replay()
    expect(rulesOf(r)).toContain(rule)
    expect(isClean(r)).toBe(false)
  })

  it('pseries: entries that were cleared, and what was told of them', () => {
    const table = ['spapr_iommu_new_table liobn=0x80000000 table=0x5639f3157a30 fd=-1']
    const stuff = (pages: number) =>
      `spapr_iommu_pci_stuff liobn=0x80000000 ioba=0x3000 tcevalue=0x0 npages=${pages} ret=0`
    const begin = () => new VhostRun().line(...table).start(0x1000n)
    const told = begin().invalidate(0x2000n).line(stuff(1)).replay()
    expect(told.divergences).toEqual([])
    expect(rulesOf(begin().line(stuff(1)).replay())).toEqual(['listener-not-told'])
    expect(rulesOf(begin().invalidate(0x2000n).line(stuff(2)).replay())).toEqual(['listener-not-told'])
    expect(rulesOf(begin().invalidate(0x5000n).line(stuff(1)).replay())).toEqual([
      'invalidate-without-cause',
      'listener-not-told',
    ])
    expect(rulesOf(begin().invalidate(0x2000n).replay())).toEqual(['invalidate-without-cause'])
    const put = 'spapr_iommu_pci_put liobn=0x80000000 ioba=0x2000 tce=0x0 ret=0'
    expect(begin().invalidate(0x2000n).line(put).replay().divergences).toEqual([])
  })
})

describe('other versions of QEMU', () => {
  it('before 7.2.5 nobody may hear of flushed pages: no divergence, and a stale map all the same', () => {
    const run = new VhostRun().start().ring().miss(PAGE).flushPages(PAGE).wait()
    const r = run.replay('qemu-7.2.4')
    expect(r.divergences).toEqual([])
    expect(foundIn(r)).toEqual(['stale-iotlb'])
    expect(rulesOf(run.replay('qemu-7.2.5'))).toEqual(['listener-not-told'])
  })

  it('from 8.0 on a flush of a domain is told', () => {
    const run = new VhostRun()
      .start()
      .ring()
      .miss(PAGE)
      .flushDomain()
      .invalidate(0xfef0_0000n, 0xffff_ffff_0110_0000n)
      .invalidate(0n, 0xfee0_0000n)
      .wait()
    expect(run.replay('qemu-10.0').divergences).toEqual([])
    expect(rulesOf(run.replay('qemu-7.2.22'))).toEqual([
      'invalidate-without-cause',
      'invalidate-without-cause',
    ])
  })
})

describe('evidence of a stale map', () => {
  it('a domain flush whose walk finds the page gone, and nobody was told', () => {
    const r = new VhostRun()
      .start()
      .ring()
      .miss(PAGE)
      .flushDomain()
      .walkNothing()
      .wait()
      .miss(PAGE - 0x1000n)
      .read(PAGE)
      .replay()
    expect(r.divergences).toEqual([])
    const stale = r.findings.filter((f) => f.rule === 'stale-iotlb')
    expect(stale.map((f) => f.inferred)).toEqual([false, false])
    expect(stale[1]?.message).toMatch(
      /^vhost wrote 4096 bytes to memory 0x10000000 through bus address 0xffff8000/,
    )
  })

  it('a flush of pages that was not told: the driver is taken to have unmapped what it flushes', () => {
    const r = new VhostRun().start().ring().miss(PAGE).flushPages(PAGE).wait().replay()
    expect(r.findings.map((f) => [f.rule, f.inferred])).toEqual([['stale-iotlb', true]])
  })

  it.each([
    [
      'the walk finds it mapped',
      (run: VhostRun) =>
        run
          .flushDomain()
          .line(
            'vtd_page_walk_level walk (base=0x2724000, level=3) iova range 0x0 - 0x8000000000',
            'vtd_page_walk_one domain 0x3 iova 0xffff8000 -> gpa 0x10000000 mask 0xfff perm 3',
          )
          .wait(),
    ],
    [
      'the flush is of another domain',
      (run: VhostRun) =>
        run
          .descriptor('iotlb')
          .line('vtd_inv_desc_iotlb_domain iotlb invalidate whole domain 0x9')
          .walkNothing()
          .wait(),
    ],
    ['no wait says that the flush is done', (run: VhostRun) => run.flushDomain().walkNothing()],
    ['a driver starts anew before it is used', (run: VhostRun) => run.stop().flushDomain().start().ring()],
  ] as const)('there is none where %s', (_what, act) => {
    const r = act(new VhostRun().start().ring().miss(PAGE)).replay()
    expect(foundIn(r)).toEqual([])
  })

  it('a request that was under way when its maps went has used them before', () => {
    const r = new VhostRun()
      .start()
      .ring()
      .miss(PAGE)
      .flushPages(PAGE)
      .invalidate(PAGE)
      .wait()
      .read(PAGE)
      .replay()
    expect(r.vhost?.overtaken).toBe(1)
    expect(isClean(r)).toBe(true)
    const again = new VhostRun()
      .start()
      .ring()
      .miss(PAGE)
      .flushPages(PAGE)
      .invalidate(PAGE)
      .wait()
      .read(PAGE)
      .read(PAGE)
      .replay()
    expect(rulesOf(again)).toEqual(['use-without-map'])
  })
})

describe('a pointer that the back end remembers', () => {
  it('of a map that is gone is out of date', () => {
    const use = { iova: '0xffff8000', uaddr: '0x7f0010000000', bytes: 2, write: false, part: 6 }
    const run = new VhostRun()
      .start()
      .ring()
      .miss(PAGE)
      .own('use', use)
      .flushPages(PAGE)
      .invalidate(PAGE)
      .wait()
    expect(foundIn(run.replay())).toEqual([])
    const r = run.own('use', use).replay()
    expect(foundIn(r)).toEqual(['stale-metadata'])
    expect(r.findings[0]?.message).toContain('map 2')
  })
})

describe('logs that do not go together everywhere', () => {
  const run = () => {
    const r = new VhostRun().request('GET_FEATURES').request('SET_OWNER').start().ring()
    for (let i = 1n; i < 100n; i++) r.miss(PAGE - i * 0x1000n, { gpa: i * 0x1000n })
    return r.stop()
  }

  it('a message that the trace does not have', () => {
    const r = run()
    const at = r.trace.indexOf('vhost_user_write req:3 flags:0x1')
    r.trace.splice(at, 1)
    expect(unmatchedIn(r.replay())).toEqual({ 'messages that the trace does not show': 1 })
  })

  it.each([3, 40, 150])('a message that the message log does not have: number %i', (at) => {
    const r = run()
    const froms = r.messages.flatMap((m, i) => (m.includes('from-qemu') ? [i] : []))
    r.messages.splice(froms[at] as number, 1)
    const result = r.replay()
    expect(unmatchedIn(result)['messages that the message log does not have']).toBe(1)
    expect(result.vhost?.messages.matched).toBeGreaterThan(180)
  })

  it('lines that are damaged, in either log', () => {
    const r = run()
    const update = r.messages.findIndex((m) => m.includes('UPDATE') && m.includes('0xfffc0000'))
    r.messages[update] = '{"t":5,"dir":"from-'
    const write = r.trace.findIndex((l) => l.startsWith('vhost_user_write req:22'))
    r.trace[write] = 'vhost_user_write req:2'
    const result = r.replay()
    expect(unmatchedIn(result)).toMatchObject({
      'lines of the message log that cannot be read': 1,
      'messages that the message log does not have': 1,
      'messages that the trace does not show': 1,
    })
    expect(result.vhost?.messages.matched).toBeGreaterThan(180)
  })

  it('logs of two runs have next to nothing in common, and nothing breaks', () => {
    const r = run()
    const other = new VhostRun().start().ring()
    for (let i = 1n; i < 200n; i++)
      other
        .miss(PAGE - i * 0x2000n)
        .flushPages(PAGE)
        .invalidate(PAGE)
        .wait()
    r.messages.splice(0, r.messages.length, ...other.messages)
    expect(r.replay().vhost?.messages.unmatched).toBeGreaterThan(100)
  })

  it('a flush that the back end was told of after its log ends is held against nobody', () => {
    const r = new VhostRun().start().ring().miss(PAGE).read(PAGE)
    const { length } = r.messages
    r.flushPages(PAGE).invalidate(PAGE).wait()
    r.messages.length = length
    const result = r.replay()
    expect(unmatchedIn(result)).toEqual({ 'messages that the message log does not have': 1 })
    expect(result.divergences).toEqual([])
    expect(result.findings).toEqual([])
    expect(result.vhost?.flushes.map((f) => f.why)).toContain('of pages: the back end was told')
  })

  it('a trace that ends early, and a message log that does', () => {
    const short = run()
    short.trace.length = 60
    expect(unmatchedIn(short.replay())['messages that the trace does not show']).toBeGreaterThan(50)
    const other = run()
    other.messages.length = 60
    expect(unmatchedIn(other.replay())['messages that the message log does not have']).toBeGreaterThan(50)
  })
})

describe('a live run', () => {
  function liveJoin() {
    const log = new RecordLog()
    const judge = new Judge()
    judge.attach(log)
    const join = new VhostJoin({ log, profile: resolveProfile(ERRATA, 'qemu-7.2'), isLive: true })
    return { join, judge, log }
  }

  it('lines of the trace need not wait for the next message', () => {
    const run = new VhostRun().start().ring().miss(PAGE).flushDomain().walkNothing().wait()
    const { join, judge } = liveJoin()
    join.messages(run.messageBytes)
    const wait = run.trace.length - 1
    join.trace(
      bytesOf(
        run.trace
          .slice(0, wait)
          .map((l) => `${l}\n`)
          .join(''),
      ),
    )
    expect(judge.findings).toEqual([])
    join.trace(bytesOf(`${run.trace[wait]}\n`))
    expect(judge.findings.map((f) => f.rule)).toEqual(['stale-iotlb'])
  })

  it('a line that is ahead of its message waits for it', () => {
    const run = new VhostRun().start().ring()
    const { join, log } = liveJoin()
    join.trace(run.traceBytes)
    expect(log.length).toBe(0)
    for (const line of run.messages) join.messages(bytesOf(`${line}\n`))
    expect([...log.records()].at(-1)?.event.kind).toBe('iotlb.fill')
  })

  it('the guest that crashed: the warning comes before its last request is done', async () => {
    const { join, judge } = liveJoin()
    const trace = Buffer.from(await recording('vtd/vh-x86-lazy'))
      .toString('latin1')
      .split('\n')
    const messages = Buffer.from(await messageLog('vtd/vh-x86-lazy'))
      .toString('latin1')
      .trim()
      .split('\n')
    const writes = trace.flatMap((line, i) => (line.startsWith('vhost_user_write') ? [i] : []))
    let at = 0
    let sent = 0
    let warned = -1
    messages.forEach((line, i) => {
      join.messages(bytesOf(`${line}\n`))
      if (!line.includes('from-qemu')) return
      // The trace file shows the line of a message some messages later.
      const upTo = (writes[Math.max(0, sent - 2)] as number) + 1
      join.trace(
        bytesOf(
          trace
            .slice(at, upTo)
            .map((l) => `${l}\n`)
            .join(''),
        ),
      )
      at = upTo
      sent++
      if (warned < 0 && judge.findings.some((f) => f.rule === 'stale-iotlb')) warned = i
    })
    const crash = messages.findIndex((line) => line.includes('"blk"') && line.includes('0xfffd0000'))
    expect(warned).toBeGreaterThan(0)
    expect(crash - warned).toBeGreaterThan(40)
  })
})
