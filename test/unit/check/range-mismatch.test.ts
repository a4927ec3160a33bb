import { describe, expect, it } from 'vitest'
import { RangeMismatch } from '../../../src/check/range-mismatch.ts'
import { Uses } from '../../../src/check/uses.ts'
import { WindowShadows } from '../../../src/check/window-shadow.ts'
import { RecordLog } from '../../../src/trace/record-log.ts'

const MAP = 'VFIO_IOMMU_MAP_DMA'
const REGISTER = 'VFIO_IOMMU_SPAPR_REGISTER_MEMORY'
const UNREGISTER = 'VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY'
const UA = 0x1_0000_0000n
const PAGE = 0x1_0000n

type Inside = (cause: number) => void

/** Records of a host with pages of 64 KiB, hardware table 7 with as large ones, and the checker. */
function world({ systemShift = 16 } = {}) {
  const log = new RecordLog()
  const windows = new WindowShadows()
  const checker = new RangeMismatch({ windows, uses: new Uses(windows) })
  log.subscribe(checker)
  if (systemShift > 0) {
    const frames = { pageShift: systemShift, first: 0, count: 8, owner: 'vmm', generation: 1 }
    log.emit('page.own', null, { ...frames, pageShift: 12, space: 'gpa' })
    log.emit('page.own', null, { ...frames, space: 'hpa' })
    log.emit('page.own', null, { ...frames, pageShift: 12, space: 'gpa' })
  }
  log.emit('hw.table', null, { table: 7, pageShift: 16, levels: 1, busOffset: 0n, entries: 64, charged: 1 })
  const call = (name: string, asked: readonly [bigint, bigint, bigint], code: number, inside: Inside) => {
    const [a1, a2, a3] = asked
    const enter = log.emit('call.enter', null, { call: name, line: 1, by: 'vmm:0', a0: 3n, a1, a2, a3 })
    inside(enter)
    log.emit('call.return', enter, { call: name, layer: 'kernel', code, rule: '', out: 0n })
  }
  const entries = (cause: number, count: number, tce = 0x3n, table = 7) => {
    const was = { before: 0n, beforeStep: -1 }
    log.emit('hw.set', cause, { table, entry: 0, count, ...was, tce, step: 16 })
  }
  const region = { region: 0, process: 'vmm', used: 1, mapped: 1 }
  const has = (cause: number, kind: 'new' | 'get', ua: bigint, pages: number) => {
    if (kind === 'get') log.emit('region.get', cause, { ...region, ua, pages })
    else log.emit('region.new', cause, { ...region, ua, pages, pageShift: 16, device: 0 })
  }
  const put = (cause: number, ua: bigint, pages: number, code = 0) =>
    log.emit('region.put', cause, { ...region, used: code < 0 ? 1 : 0, ua, pages, code })
  return {
    log,
    checker,
    entries,
    has,
    put,
    map: (pages: bigint, code: number, inside: Inside = () => {}) =>
      call(MAP, [UA, 0n, pages * PAGE], code, inside),
    register: (pages: bigint, code: number, inside: Inside = () => {}) =>
      call(REGISTER, [UA, pages * PAGE, 0n], code, inside),
    unregister: (pages: bigint, code: number, inside: Inside = () => {}) =>
      call(UNREGISTER, [UA, pages * PAGE, 0n], code, inside),
    call,
    found: () => checker.findings.map((f) => f.message),
  }
}

describe('range-mismatch of a mapping', () => {
  it('is kept where as much is mapped as was asked for, in one record or more', () => {
    const w = world()
    w.map(4n, 0, (call) => w.entries(call, 4))
    w.map(4n, 0, (call) => {
      w.entries(call, 1)
      w.entries(call, 3, 0x1_0001n)
    })
    w.map(0n, 0)
    expect(w.found()).toEqual([])
  })

  it('is broken where less is mapped, with the call and its answer for proof', () => {
    const w = world()
    w.map(2n, 0, (call) => w.entries(call, 1))
    expect(w.found()).toEqual([`${MAP} was asked to map 128 KiB and mapped 64 KiB`])
    const [finding] = w.checker.findings
    expect(finding?.because.map(({ seq }) => w.log.kindOf(seq))).toEqual(['call.enter', 'call.return'])
  })

  it('is broken by an answer above 0 that callers take for success', () => {
    const w = world()
    w.map(1n, 1)
    expect(w.found()).toEqual([`${MAP} was asked to map 64 KiB and mapped nothing`])
  })

  it('says nothing of a call that was refused', () => {
    const w = world()
    w.map(2n, -12, (call) => w.entries(call, 1))
    expect(w.found()).toEqual([])
  })

  it('counts no entry that is cleared, and none of another cause', () => {
    const w = world()
    w.map(2n, 0, (call) => {
      w.entries(call - 1, 1)
      w.entries(call, 1)
      w.entries(call, 1, 0x1_0000n)
    })
    expect(w.found()).toEqual([`${MAP} was asked to map 128 KiB and mapped 64 KiB`])
  })

  it('is not judged where the table is not known, and that shows', () => {
    const w = world()
    w.map(8n, 0, (call) => w.entries(call, 5, 3n, 99))
    expect([w.found(), w.checker.skipped]).toEqual([[], 1])
  })
})

describe('range-mismatch of a hypercall', () => {
  const LIST = 'H_PUT_TCE_INDIRECT'
  const hcall = (code: number, inside: Inside = () => {}) => {
    const w = world()
    w.call(LIST, [0n, 0n, 3n], code, (call) => {
      w.entries(call - 1, 5)
      inside(call)
    })
    return w
  }

  it('is broken where it was refused and has changed entries, whether they are live or not', () => {
    const mapped = world()
    mapped.call(LIST, [0n, 0n, 3n], -4, (call) => {
      mapped.entries(call, 1)
      mapped.entries(call, 2, 0x1_0000n)
    })
    expect(mapped.found()).toEqual([`${LIST} was refused, and had changed 3 entries of a hardware table`])
    const [finding] = mapped.checker.findings
    expect(finding?.because.map(({ seq }) => mapped.log.kindOf(seq))).toEqual([
      'call.enter',
      'hw.set',
      'call.return',
    ])
    const one = world()
    one.call('H_STUFF_TCE', [0n, 0n, 3n], 2, (call) => one.entries(call, 1, 0n, 99))
    expect(one.found()).toEqual(['H_STUFF_TCE was refused, and had changed 1 entry of a hardware table'])
  })

  it('is kept where nothing was changed, where it was not refused, and where user space answers', () => {
    expect(hcall(-4).found()).toEqual([])
    const done = world()
    for (const code of [0, 9999]) done.call(LIST, [0n, 0n, 3n], code, (call) => done.entries(call, 3))
    done.call('VFIO_IOMMU_UNMAP_DMA', [0n, 0n, 3n], -22, (call) => done.entries(call, 3))
    expect(done.found()).toEqual([])
  })
})

describe('range-mismatch of a registration', () => {
  it('is kept where exactly the range comes, new or shared, and goes', () => {
    const w = world()
    w.register(4n, 0, (call) => w.has(call, 'new', UA, 4))
    w.register(4n, 0, (call) => w.has(call, 'get', UA, 4))
    w.unregister(4n, 0, (call) => w.put(call, UA, 4))
    expect(w.found()).toEqual([])
  })

  it('is broken where nothing was registered, whatever the number that was answered', () => {
    const w = world()
    w.register(2n, 1)
    w.register(2n, 0)
    w.register(2n, -14)
    const text = `${REGISTER} was asked for 128 KiB at 0x100000000 and registered nothing`
    expect(w.found()).toEqual([text, text])
  })

  it.each([
    ['longer', UA, 4],
    ['elsewhere', UA + PAGE, 1],
  ])('is broken where the range that goes is %s', (_what, ua, pages) => {
    const w = world()
    w.unregister(1n, 0, (call) => w.put(call, ua, pages))
    expect(w.found()).toHaveLength(1)
    expect(w.found()[0]).toContain('was asked for 64 KiB at 0x100000000 and gave back')
    expect(w.checker.findings[0]?.because).toHaveLength(3)
  })

  it('leaves to another rule what could not be given back', () => {
    const w = world()
    w.unregister(4n, 0, (call) => w.put(call, UA, 4, -16))
    expect(w.found()).toEqual([])
  })

  it('is not judged while the system page is not known, and that shows', () => {
    const w = world({ systemShift: 0 })
    w.unregister(1n, 0, (call) => w.put(call, UA, 4))
    expect([w.found(), w.checker.skipped]).toEqual([[], 1])
  })

  it('takes no other call for one of these', () => {
    const w = world()
    w.call('VFIO_IOMMU_UNMAP_DMA', [0n, 4n * PAGE, 0n], 0, () => {})
    w.call('VFIO_SET_IOMMU', [7n, 0n, 0n], 0, () => {})
    expect(w.found()).toEqual([])
  })

  it('takes no effect of one call for that of the next', () => {
    const w = world()
    w.map(1n, -14, (call) => w.entries(call, 1))
    w.map(1n, 0)
    w.register(1n, -12, (call) => w.has(call, 'new', UA, 1))
    w.register(1n, 0)
    expect(w.found()).toHaveLength(2)
  })

  it('is not judged where the record of the call is gone, and that shows', () => {
    const log = new RecordLog({ keepRecords: 4 })
    const windows = new WindowShadows()
    const checker = new RangeMismatch({ windows, uses: new Uses(windows) })
    log.subscribe(checker)
    const asked = { a0: 3n, a1: UA, a2: PAGE, a3: PAGE }
    const enter = log.emit('call.enter', null, { call: MAP, line: 1, by: 'vmm:0', ...asked })
    for (let i = 0; i < 40_000; i++) log.emit('warning', enter, { layer: 'kernel', text: 'something else' })
    log.emit('call.return', enter, { call: MAP, layer: 'kernel', code: 0, rule: '', out: 0n })
    expect(log.firstKept).toBeGreaterThan(enter)
    expect([checker.findings, checker.skipped]).toEqual([[], 1])
  })
})
