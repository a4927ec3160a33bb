import { describe, expect, it } from 'vitest'
import { bytesText, counted, directionText } from '../../../src/check/words.ts'
import { Narrator } from '../../../src/report/narrator.ts'
import { EVENT_KINDS, EVENTS, type EventKind } from '../../../src/trace/event.ts'
import { NONE } from '../../../src/trace/event-codes.ts'
import { RecordLog } from '../../../src/trace/record-log.ts'
import { World } from '../check/world.ts'

/** What is said of a record of each kind. A kind without an example does not compile. */
const EXAMPLES: Record<EventKind, readonly [fields: Record<string, bigint | number | string>, text: string]> =
  {
    'run.begin': [
      { source: 'boot.trace', profile: 'qemu-7.2' },
      'the run of boot.trace begins, profile qemu-7.2',
    ],
    'run.end': [{ settled: 1 }, 'the run ends; every driver has ended'],
    'call.enter': [
      { call: 'H_PUT_TCE', line: 4, by: 'guest:0', a0: 0x8000_0000n, a1: 0x1000n, a2: 0x5003n, a3: 0n },
      'guest:0 calls H_PUT_TCE(0x80000000, 0x1000, 0x5003, 0x0)',
    ],
    'call.return': [
      { call: 'H_PUT_TCE', layer: 'qemu', code: -4, rule: 'ioba-outside', out: 0n },
      'qemu answers H_PUT_TCE with -4 (ioba-outside)',
    ],
    'window.open': [
      { window: 2, liobn: 0x8000_0001, pageShift: 16, busOffset: 1n << 59n, entries: 1, unit: 'phb0' },
      'LIOBN 0x80000001 opens at bus address 0x800000000000000: 1 entry of 64 KiB, phb0',
    ],
    'window.close': [{ window: 1, liobn: 0x8000_0000, why: 'reset' }, 'LIOBN 0x80000000 closes (reset)'],
    'window.move': [
      { window: 1, liobn: 0x8000_0000, how: 1 },
      'the table of LIOBN 0x80000000 moves and keeps its contents (inferred: the log does not show it)',
    ],
    'tce.set': [
      { window: 1, first: 2, count: 3, tce: 0x9002n, step: 12, how: 0 },
      'a table update mapped bus address 0x2000 + 12 KiB (LIOBN 0x80000000, entries 2 to 4) to memory 0x9000 and on, 4 KiB apart: the device may write',
    ],
    'tce.seen': [
      { window: 1, entry: 2, tce: 0x9003n, verdict: 2, line: 5 },
      'the log shows bus address 0x2000 (LIOBN 0x80000000, entry 2) holding 0x9003, not as inferred',
    ],
    'iommu.notify': [
      { window: 1, first: 2, count: 1, tce: 0n, step: -1, map: 0 },
      'listeners are told to unmap bus address 0x2000 (LIOBN 0x80000000, entry 2)',
    ],
    'dma.request': [
      { device: 'nic', iova: 0x2000n, bytes: 1, write: 1, line: 0 },
      'nic writes 1 byte at bus address 0x2000',
    ],
    'dma.translate': [
      { window: 7, entry: 2, address: 0x2000n, gpa: 0x9000n, perm: 3, need: 2, allowed: 1, line: 0 },
      'a device wrote to entry 2 of window 7 and reached memory 0x9000',
    ],
    'dma.miss': [
      { unit: 'phb0', iova: 0x2000n, write: 1 },
      'a device tried to write bus address 0x2000, which is in no window of phb0',
    ],
    'dma.done': [{ device: 'nic', moved: 8, code: 0 }, 'nic is done: 8 bytes moved, code 0'],
    'dma.grant': [
      { window: 1, first: 2, count: 1, gpa: 0x9000n, bytes: 512, dir: 1, owner: 'buffer', device: 'nic' },
      'the DMA API granted nic bus address 0x2000 (LIOBN 0x80000000, entry 2): 512 bytes of memory at 0x9000 of buffer, to read',
    ],
    'dma.revoke': [
      { window: 1, first: 2, count: 1, device: 'nic' },
      'the DMA API took bus address 0x2000 (LIOBN 0x80000000, entry 2) back from nic',
    ],
    'dma.direct': [
      { device: 'nic', offset: 1n << 59n, limit: 0n },
      'the DMA API gave nic direct access: bus address = 0x800000000000000 + physical address',
    ],
    'alloc.take': [
      { window: 1, first: 0, count: 1, pool: 5 },
      'the allocator marked bus address 0x0 (LIOBN 0x80000000, entry 0) as reserved',
    ],
    'alloc.free': [
      { window: 1, first: 1, count: 2 },
      'the allocator marked bus address 0x1000 + 8 KiB (LIOBN 0x80000000, entries 1 to 2) as free',
    ],
    'page.own': [
      { space: 'gpa', pageShift: 16, first: 2, count: 1, owner: 'free', generation: 2 },
      'gpa 0x20000 + 64 KiB is free',
    ],
    'memory.slot': [
      { gpa: 0n, bytes: 1n << 30n, ua: 0n, owner: 'partition:a', present: 0 },
      'memory 0x0 + 1 GiB of partition:a goes',
    ],
    'memory.write': [{ space: 'ua', address: 0x1000n, bytes: 8 }, 'software wrote 8 bytes at ua 0x1000'],
    'memory.corrupt': [
      { space: 'hpa', address: 0x2000n, bytes: 8, what: 'tce', table: 3, entry: (1n << 64n) - 2n },
      'tce of entry -2 of hardware table 3 went astray: 8 bytes at hpa 0x2000 are undefined from now on',
    ],
    'hw.set': [
      { table: 3, entry: 2, count: 1, before: 0x5003n, beforeStep: -1, tce: 0n, step: -1 },
      'the kernel cleared entry 2 of hardware table 3; before: 0x5003',
    ],
    'hw.table': [
      { table: 3, pageShift: 16, levels: 2, busOffset: 1n << 59n, entries: 16_384, charged: 0x4_0000 },
      'hardware table 3 is made for bus address 0x800000000000000: 16384 entries of 64 KiB in 2 levels, 256 KiB charged',
    ],
    'hw.ref': [
      { table: 3, delta: -1, references: 0, holder: 'container 1' },
      'container 1 lets go of hardware table 3: it is freed',
    ],
    'hw.window': [
      { unit: 'phb0', pe: 5, index: 1, tve: 0x100_0000n, table: 3, window: 4 },
      'window 1 of PE 5 of phb0 is set to 0x1000000, hardware table 3',
    ],
    'hw.fill': [
      { unit: 'phb0', pe: 5, address: 0x1_0000n, pageShift: 16, tce: 0x5003n },
      'phb0 remembers for PE 5 that bus address 0x10000 + 64 KiB has 0x5003',
    ],
    'hw.store': [
      { unit: 'phb0', offset: 0x210, value: 5n, step: 16, count: 2 },
      '2 stores to register 0x210 of phb0, from 0x5 on',
    ],
    'hw.firmware': [
      {
        unit: 'phb0',
        call: 126,
        scope: 0,
        pe: 5,
        pageBytes: 0x1_0000,
        address: 0x2_0000n,
        count: 3,
        code: -1,
        calls: 3,
      },
      'firmware call 126 (phb0, 0, PE 5, 0x10000, 0x20000, 3), and 2 more for the pages behind, answers -1',
    ],
    'hw.kill': [
      { unit: 'phb0', scope: 0, pe: 5, address: 0x2_0000n, pageShift: 16, count: 1 },
      'phb0 forgets 1 page of PE 5 from bus address 0x20000 on',
    ],
    'pe.freeze': [
      { unit: 'phb0', pe: 5, address: 0x2_0000n, write: 1, why: 'no permission' },
      'phb0 freezes PE 5: a write at bus address 0x20000, no permission',
    ],
    'pe.thaw': [{ unit: 'phb0', pe: 5, stops: 1 }, 'MMIO of PE 5 of phb0 goes again'],
    'pe.stop': [{ unit: 'phb0', pe: 5 }, 'software freezes PE 5 of phb0'],
    'pe.reset': [{ unit: 'phb0', pe: 5, reset: 1 }, 'hot reset of PE 5 of phb0'],
    'phb.fence': [{ unit: 'phb0', up: 1 }, 'phb0 is fenced'],
    'eeh.check': [
      { device: 'edu0', rule: 'isolated-before', ignored: 2 },
      'EEH checks edu0: isolated-before, 2 reads ignored',
    ],
    'eeh.interrupt': [
      { unit: 'phb0', pe: 5, phb: 0, handled: 1 },
      'an error interrupt tells of PE 5 of phb0: it is isolated',
    ],
    'eeh.state': [{ unit: 'phb0', pe: 5, phb: 0, state: 3 }, 'EEH state of PE 5 of phb0 is 0x3'],
    'eeh.step': [
      { unit: 'phb0', pe: 0, phb: 1, step: 'resume', result: 'NONE', freezes: 1 },
      'EEH recovers phb0: resume, drivers say NONE, 1 freeze within an hour',
    ],
    'eeh.driver': [
      { device: 'edu0', driver: 'edu', call: 'slot_reset', answer: 'RECOVERED' },
      'edu of edu0 answers slot_reset with RECOVERED',
    ],
    'mm.map': [{ process: 'vmm', ua: 0x1000n, bytes: 4096n, present: 1 }, 'vmm maps 0x1000 + 4 KiB'],
    'mm.pin': [{ process: 'vmm', ua: 0x1000n, count: 2, delta: -1 }, '2 pages of vmm at 0x1000 unpinned'],
    'mm.locked': [{ process: 'vmm', delta: -3, total: 5 }, 'locked_vm of vmm - 3 = 5 pages'],
    'mm.exit': [{ process: 'vmm' }, 'vmm ended'],
    'mm.free': [{ process: 'vmm' }, 'nobody holds the address space of vmm any more'],
    'region.new': [
      { region: 1, process: 'vmm', ua: 0x1000n, pages: 4, used: 1, mapped: 1, pageShift: 14, device: 0 },
      'region 1, 4 pages of vmm at 0x1000, is registered (used 1, mapped 1)',
    ],
    'region.get': [
      { region: 1, process: 'vmm', ua: 0x1000n, pages: 4, used: 2, mapped: 1 },
      'region 1, 4 pages of vmm at 0x1000, is registered once more (used 2, mapped 1)',
    ],
    'region.put': [
      { region: 1, process: 'vmm', ua: 0x1000n, pages: 4, used: 1, mapped: 3, code: -16 },
      'region 1, 4 pages of vmm at 0x1000, is not given up: -16 (used 1, mapped 3)',
    ],
    'region.map': [
      { region: 1, process: 'vmm', ua: 0x1000n, pages: 1, used: 1, mapped: 2, delta: 1 },
      'a mapping of region 1, 1 page of vmm at 0x1000, comes (used 1, mapped 2)',
    ],
    'iotlb.new': [{ iotlb: 1, device: 'net', limit: 2048 }, 'net begins with an empty IOTLB (number 1)'],
    'iotlb.fill': [
      { iotlb: 1, map: 3, iova: 0x1000n, last: 0x1fffn, ua: 0x7f00_0000_1000n, perm: 3 },
      'map 3 enters IOTLB 1: [0x1000, 0x1fff] is user address 0x7f0000001000, for the device to read and write',
    ],
    'iotlb.drop': [
      { iotlb: 1, iova: 0x1000n, last: 0x1fffn, maps: 1, why: 'invalidate' },
      'IOTLB 1 drops what overlaps [0x1000, 0x1fff]: 1 map (invalidate)',
    ],
    'iotlb.evict': [
      { iotlb: 1, map: 2, iova: 0n, last: 0xfffn },
      'IOTLB 1 is full: its oldest map, 2 of [0x0, 0xfff], makes room',
    ],
    'iotlb.miss': [
      { iotlb: 1, queue: 0, iova: 0x2000n, access: 1, line: 0 },
      'queue 0 of IOTLB 1 asks for bus address 0x2000, to read',
    ],
    'iotlb.refuse': [
      { iotlb: 1, queue: 0, iova: 0x2000n, access: 2, code: -1 },
      'queue 0 of IOTLB 1 may not write bus address 0x2000: -1',
    ],
    'iotlb.use': [
      { iotlb: 1, map: 3, iova: 0x1010n, ua: 0x7f00_0000_1010n, bytes: 16, write: 1, part: 0, line: 0 },
      'the vhost device of IOTLB 1 writes 16 bytes of its buffer at bus address 0x1010 through map 3, at user address 0x7f0000001010',
    ],
    'vhost.message': [
      {
        device: 'net',
        from: 'qemu',
        type: 2,
        iova: 0x1000n,
        bytes: 0x1000n,
        ua: 0x7f00_0000_1000n,
        perm: 3,
        code: 0,
      },
      'qemu sends UPDATE 0x1000 + 4 KiB is user address 0x7f0000001000 (net)',
    ],
    'vhost.queue': [{ device: 'net', queue: 1, state: 'waits', code: -11 }, 'queue 1 of net: waits (-11)'],
    'domain.attach': [
      { device: 'net', source: 0x100, domain: 5, ats: 1 },
      'net (0x100) is in domain 5, with a TLB of its own (ATS)',
    ],
    'domain.map': [
      { domain: 5, iova: 0x1000n, bytes: 0x1000n, gpa: 0x9000n, perm: 1, how: 1 },
      'domain 5 maps bus address 0x1000 + 4 KiB to memory 0x9000, to read (seen by a translation)',
    ],
    'domain.unmap': [
      { domain: 5, iova: 0x1000n, bytes: 0x1000n, how: 0 },
      'domain 5 unmaps bus address 0x1000 + 4 KiB',
    ],
    'domain.flush': [
      { unit: 'vtd', scope: 2, domain: 5, source: 0, pasid: NONE, iova: 0n, bytes: 0n, hint: 0, line: 0 },
      'vtd is told to forget domain 5',
    ],
    'domain.wait': [{ unit: 'vtd', line: 0 }, 'vtd says that all flushes before are done'],
    'domain.notify': [
      { device: 'net', flag: 4, iova: 0n, last: 0xfedf_ffffn, ua: 0n, perm: 0 },
      'QEMU tells the listener of net: DEVIOTLB_UNMAP [0x0, 0xfedfffff]',
    ],
    'vtd.register': [
      { unit: 'vtd0', offset: 0x18, bytes: 4, value: 0x8000_0000n, write: 1, line: 0 },
      'software writes 0x80000000 to register 0x18 of vtd0',
    ],
    'vtd.root': [
      { unit: 'vtd0', address: 0x10000n, mode: 1, enabled: 1, line: 0 },
      'vtd0 has its root table at 0x10000 (scalable), translation is on',
    ],
    'vtd.context': [
      {
        ...{ unit: 'vtd0', source: 0x18, rootAddress: 0x10000n, address: 0x11180n },
        ...{ lo: 0x12001n, domain: 5, fault: 0 },
      },
      'vtd0 reads the context entry of 00:03.0 at 0x11180: 0x12001, domain 5',
    ],
    'vtd.pasid': [
      {
        ...{ unit: 'vtd0', source: 0x18, pasid: 7, directory: 0x20000n, address: 0x21140n },
        ...{ lo: 0x30084n, domain: 5, fault: 0x59 },
      },
      'vtd0 reads the entry of PASID 0x7 of 00:03.0 at 0x21140: 0x30084, domain 5: fault 0x59',
    ],
    'vtd.walk': [
      {
        ...{ unit: 'vtd0', source: 0x18, pasid: NONE, stage: 2, iova: 0x4020_1000n },
        ...{ t1: 0x14, t2: 0x13, t3: 0x12, t4: 0, t5: 0, fault: 0 },
      },
      'vtd0 walks the second-level tables for 0x40201000 of 00:03.0: levels 3 at 0x12000, 2 at 0x13000, 1 at 0x14000',
    ],
    'vtd.fill': [
      {
        ...{ unit: 'vtd0', cache: 1, entry: 9, source: 0x18, domain: 5, pasid: NONE },
        ...{ iova: 0x4020_1000n, shift: 12, target: 0xabc_d000n, perm: 3 },
      },
      'the IOTLB keeps 0x40201000 + 4 KiB of domain 5 as 0xabcd000 (entry 9)',
    ],
    'vtd.translate': [
      {
        ...{ unit: 'vtd0', source: 0x18, pasid: 7, iova: 0x4020_1234n, target: 0xabc_d234n },
        ...{ perm: 3, need: 1, fault: 0, entry: 9, line: 0 },
      },
      'a request of 00:03.0 with PASID 0x7 at 0x40201234, to read, reaches memory 0xabcd234 (entry 9)',
    ],
    'vtd.fault': [
      {
        ...{ unit: 'vtd0', source: 0x18, pasid: NONE, reason: 6, iova: 0x1000n },
        ...{ access: 2, record: NONE, why: 'overflow', line: 0 },
      },
      'fault 0x6 of 00:03.0, read at 0x1000, is not recorded (overflow)',
    ],
    'vtd.event': [
      { unit: 'vtd0', event: 'fault', address: 0xfee0_0000n, data: 0x31, sent: 1 },
      'vtd0 sends the fault interrupt (0x31 to 0xfee00000)',
    ],
    'vtd.page-request': [
      {
        ...{ unit: 'vtd0', source: 0x310, pasid: 5, iova: 0x7f00_0000n },
        ...{ flags: 28, group: 7, result: 'queued', line: 0 },
      },
      '03:02.0 requests the page of 0x7f000000 with PASID 0x5 (read, write, last of its group; group 7): queued',
    ],
    'vtd.response': [
      { unit: 'vtd0', source: 0x310, pasid: 5, group: 7, code: 1, line: 0 },
      'software answers group 7 of 03:02.0 with PASID 0x5: invalid request',
    ],
    'vtd.refuse': [
      { unit: 'vtd', reason: 4, offset: 0x30, lo: 0x500e2n, hi: 0x80n, line: 0 },
      'the invalidation queue of vtd stops at 0x30: a descriptor with a reserved field (0x500e2 0x80)',
    ],
    'mm.users': [{ mm: 'P', users: 0, count: 1, why: 'exit_mm' }, 'exit_mm: mm_users of P is 0, mm_count 1'],
    'mm.vma': [
      { mm: 'P', first: 0x1000, count: 2, flags: 1, present: 1 },
      'P has 0x1000000 + 8 KiB, with rights to read',
    ],
    'mm.table': [
      { mm: 'P', page: 0x2000, level: 4, state: 0 },
      'the page table of P at 0x2000000 (level 4) is freed',
    ],
    'mm.fault': [
      { mm: 'P', address: 0x1000n, write: 1, result: 'done' },
      'the kernel handles a fault of P: a write at 0x1000, done',
    ],
    'mm.notify': [
      { mm: 'P', notifier: 'svm', call: 'invalidate_range', start: 0x1000n, end: 0x3000n },
      'the address space of P calls invalidate_range of svm for 0x1000 up to 0x3000',
    ],
    'file.refs': [{ file: '/dev/a', refs: 2, why: 'mmap' }, 'mmap: /dev/a has 2 references'],
    'svm.tables': [
      { unit: 'vtd0', table: 'PASID', page: 0, order: 14, entries: 0x20000 },
      'no memory for the PASID table of vtd0: order 14 (64 MiB) is not to be had',
    ],
    'svm.pasid': [{ unit: 'vtd0', pasid: 1, mm: 'P', state: 1 }, 'PASID 0x1 of vtd0 is handed out, for P'],
    'svm.entry': [
      { unit: 'vtd0', device: '', pasid: 1, mm: 'P', pgd: 0x2000, present: 1, supervisor: 0 },
      'the driver of vtd0 points the entry of PASID 0x1 to the page table of P at 0x2000000',
    ],
    'svm.bind': [
      { unit: 'vtd0', device: 'a', source: 0x310, mm: 'P', pasid: 1, users: 1 },
      'a is bound to P by PASID 0x1, 1 time',
    ],
    'svm.object': [
      { unit: 'vtd0', what: 'intel_svm', pasid: 1, device: '', state: 0 },
      'the driver of vtd0 frees intel_svm of PASID 0x1',
    ],
    'svm.request': [
      {
        ...{ unit: 'vtd0', source: 0x310, pasid: 1, iova: 0x1000n, flags: 4, group: 1 },
        ...{ result: 'success', response: 'group', offset: 16 },
      },
      'the page request thread takes the request of 03:02.0 for 0x1000 with PASID 0x1 (write): success; response: group',
    ],
    'svm.callback': [
      { device: 'a', source: 0x310, pasid: 1, address: 0x10n, rwxp: 4, result: 'invalid', wanted: 0x310 },
      'the fault callback of a is told: page 0x10 of PASID 0x1, rwxp 4, invalid; the request is of 03:02.0',
    ],
    'svm.thread': [
      { unit: 'vtd0', state: 1, head: 0, tail: 32 },
      'the page request thread of vtd0 begins: head 0x0, tail 0x20',
    ],
    'svm.use-after-free': [
      { what: 'svm', by: 'prq_event_thread', line: 0 },
      'prq_event_thread uses svm, which is freed',
    ],
    'task.step': [{ task: 'exit', step: 'exit_mm', line: 0 }, 'exit: exit_mm'],
    'vtd.word': [
      { unit: 'vtd0', address: 0x14008n, before: 0xabc_d003n, after: 0n, line: 0 },
      'the word at 0x14008, which vtd0 has read, changes from 0xabcd003 to 0x0',
    ],
    'vtd.table': [
      { unit: 'vtd0', page: 0x14, state: 0, domain: 5 },
      'the page at 0x14000 is no table of domain 5 any more',
    ],
    'device.add': [
      { device: 'nic', unit: 'phb0', mask: 0xffff_ffffn },
      'nic appears below phb0, DMA mask 0xffffffff',
    ],
    'device.remove': [{ device: 'nic' }, 'the driver of nic ended'],
    warning: [{ layer: 'linux', text: 'iommu_alloc failed' }, 'linux warns: iommu_alloc failed'],
    dead: [{ layer: 'qemu', why: 'assertion' }, 'qemu stopped for good: assertion'],
    unmodelled: [{ what: 'a call', line: 3 }, 'not modelled: a call'],
  }

describe('records in words', () => {
  it.each(EVENT_KINDS)('%s', (kind) => {
    const log = new RecordLog()
    log.emit('window.open', null, {
      window: 1,
      liobn: 0x8000_0000,
      pageShift: 12,
      busOffset: 0n,
      entries: 64,
      unit: 'phb0',
    })
    const [fields, text] = EXAMPLES[kind]
    expect(Object.keys(fields)).toEqual(Object.keys(EVENTS[kind].fields))
    const seq = log.emit(kind, null, fields as never)
    expect(new Narrator(log).tell(seq).text).toBe(text)
  })

  it('a call inside a call is named with both, and the line comes from the nearest that has one', () => {
    const w = new World()
    w.open()
    const set = w.call('dma_map_page', (outer) =>
      w.call('H_PUT_TCE', (c) => w.set({ first: 1, tce: 0x5001n }, c), 0, outer),
    )
    expect(new Narrator(w.log).tell(set)).toEqual({
      seq: set,
      line: 2,
      text: 'H_PUT_TCE in dma_map_page mapped bus address 0x1000 (LIOBN 0x80000000, entry 1) to memory 0x5000: the device may read',
    })
  })

  it('ranges of entries and of mappings are told as such', () => {
    const log = new RecordLog()
    const set = { table: 3, entry: 2, count: 4, before: 0x5003n, beforeStep: 16, tce: 0n, step: -1 }
    const map = { region: 1, process: 'vmm', ua: 0x1000n, pages: 9, used: 1, mapped: 2, delta: -4 }
    const told = [log.emit('hw.set', null, set), log.emit('region.map', null, map)].map(
      (seq) => new Narrator(log).tell(seq).text,
    )
    expect(told).toEqual([
      'the kernel cleared entries 2 to 5 of hardware table 3; before: 0x5003 and on, 64 KiB apart',
      '4 mappings of region 1, 9 pages of vmm at 0x1000, go (used 1, mapped 2)',
    ])
  })

  it('a window is known after it closed', () => {
    const w = new World()
    w.open()
    const set = w.map(1, 0n)
    w.close()
    expect(new Narrator(w.log).tell(set).text).toBe(
      'H_PUT_TCE cleared bus address 0x1000 (LIOBN 0x80000000, entry 1)',
    )
  })

  it('what the log does not show is said', () => {
    const w = new World()
    w.open()
    const unknown = w.map(1, 0n, { how: 2 })
    const inferred = w.map(1, 0x5001n, { how: 1 })
    const words = new Narrator(w.log)
    expect(words.tell(unknown).text).toContain('(the log does not show what)')
    expect(words.tell(inferred).text).toContain('(inferred: the log does not show it)')
  })
})

describe('words', () => {
  it.each<[number, string]>([
    [0, '0 bytes'],
    [1, '1 byte'],
    [4096, '4 KiB'],
    [1536, '1.5 KiB'],
    [1025, '~1.0 KiB'],
    [16 * 2 ** 20, '16 MiB'],
    [2 ** 63, '8 EiB'],
  ])('%i bytes are %s', (bytes, text) => {
    expect(bytesText(bytes)).toBe(text)
  })

  it('plurals and directions', () => {
    expect([counted(1, 'entry', 'entries'), counted(2, 'entry', 'entries')]).toEqual(['1 entry', '2 entries'])
    expect([0, 1, 2, 3].map(directionText)).toEqual(['nothing', 'read', 'write', 'read and write'])
  })
})
