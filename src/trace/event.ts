import { IommulatorError } from '../bits/errors.ts'

/**
 * How a field of an event is kept and shown.
 * `u32`, `i32`, `name` (an interned word) and `shift` (log2, -1 for none) take one slot of a record; `u64`
 * (bigint) and `page` (a number below 2^53: page numbers, entry indices, counts) take two, low lane first.
 */
export type FieldType = 'u32' | 'i32' | 'shift' | 'name' | 'u64' | 'page'

export interface EventDecl {
  readonly doc: string
  readonly fields: Readonly<Record<string, FieldType>>
}

/** Payload slots of a record. */
export const SLOTS = 12

export const slotsOf = (type: FieldType): number => (type === 'u64' || type === 'page' ? 2 : 1)

const slotsUsed = (fields: EventDecl['fields']): number =>
  Object.values(fields).reduce((n, t) => n + slotsOf(t), 0)

function declareEvents<const E extends Readonly<Record<string, EventDecl>>>(events: E): E {
  for (const [kind, { fields }] of Object.entries(events)) {
    const used = slotsUsed(fields)
    if ('kind' in fields)
      throw new IommulatorError('ERR_DECLARATION', `event ${kind} has a field called kind`)
    if (used > SLOTS) throw new IommulatorError('ERR_DECLARATION', `event ${kind} needs ${used} slots`)
  }
  return Object.freeze(events)
}

/**
 * Everything observable that can happen in a machine. Events are data: checkers, reports and pages read these
 * and nothing else. Table, map and ownership events are ranges (first, count, step), so that clearing 2^27
 * entries is one record.
 *
 * Common words: `line` is the line of the input (log or scenario) that led to it, 0 where there is none;
 * `window` is the number of a window's life, of a guest (`window.open`) or of a PE (`hw.window`): one that is made
 * anew gets a new one, and no two have the same; an `entry` counts from the start of its window or table; `how` says how the value is known: 0 seen, 1 inferred, 2 unknown.
 */
export const EVENTS = declareEvents({
  'run.begin': {
    doc: 'A machine starts. `source` is the scenario or the log, `profile` its errata.',
    fields: { source: 'name', profile: 'name' },
  },
  'run.end': {
    doc: 'Nothing more comes. `settled` is 1 where every driver is known to have ended, so that what is still mapped is a leak.',
    fields: { settled: 'u32' },
  },
  'call.enter': {
    doc: 'A call begins; the records of its effects name this one as their cause. `by` is process:cpu.',
    fields: { call: 'name', line: 'u32', by: 'name', a0: 'u64', a1: 'u64', a2: 'u64', a3: 'u64' },
  },
  'call.return': {
    doc: 'One layer has answered the call that is the cause: its code as a number, and the rule that gave it.',
    fields: { call: 'name', layer: 'name', code: 'i32', rule: 'name', out: 'u64' },
  },
  'window.open': {
    doc: 'A DMA window lives: LIOBN, IOMMU page size, bus address of its first byte, entries; `unit` is the PHB or VIO bus.',
    fields: {
      window: 'u32',
      liobn: 'u32',
      pageShift: 'u32',
      busOffset: 'u64',
      entries: 'page',
      unit: 'name',
    },
  },
  'window.close': {
    doc: 'A DMA window is gone with all its entries. `why` says by which call or reset.',
    fields: { window: 'u32', liobn: 'u32', why: 'name' },
  },
  'window.move': {
    doc: 'The table of a window was allocated anew with its contents (a listener came). `how` is 1 where a log only suggests it.',
    fields: { window: 'u32', liobn: 'u32', how: 'u32' },
  },
  'tce.set': {
    doc: 'Entries [first, first + count) of a window are written: the first holds `tce`, each next one 2^step more (all the same for step -1).',
    fields: { window: 'u32', first: 'page', count: 'page', tce: 'u64', step: 'shift', how: 'u32' },
  },
  'tce.seen': {
    doc: 'A log shows what an entry holds. `verdict`: 0 as known, 1 confirms an inference, 2 contradicts one, 3 teaches an unknown, 4 contradicts what was known.',
    fields: { window: 'u32', entry: 'page', tce: 'u64', verdict: 'u32', line: 'u32' },
  },
  'iommu.notify': {
    doc: 'The IOMMU tells the listeners of a window (vhost, VFIO) of MAP (1) or UNMAP (0) of entries, one event an entry.',
    fields: { window: 'u32', first: 'page', count: 'page', tce: 'u64', step: 'shift', map: 'u32' },
  },
  'dma.request': {
    doc: 'A device asks for `bytes` at a bus address; `write` is 1 where it writes memory.',
    fields: { device: 'name', iova: 'u64', bytes: 'u32', write: 'u32', line: 'u32' },
  },
  'dma.translate': {
    doc: 'A translation of the bus address `address` through an entry, whose page starts at `gpa` in memory: the permissions of the entry (1 read, 2 write), those needed (0 where a log does not say), 1 where they were there.',
    fields: {
      window: 'u32',
      entry: 'page',
      address: 'u64',
      gpa: 'u64',
      perm: 'u32',
      need: 'u32',
      allowed: 'u32',
      line: 'u32',
    },
  },
  'dma.miss': {
    doc: 'A bus address lies in no window of the PHB.',
    fields: { unit: 'name', iova: 'u64', write: 'u32' },
  },
  'dma.done': {
    doc: 'The request that is the cause is over: bytes that reached memory, and the code that the device sees.',
    fields: { device: 'name', moved: 'u32', code: 'i32' },
  },
  'dma.grant': {
    doc: 'The DMA API granted a device entries [first, first + count): memory [gpa, gpa + bytes) in direction `dir` (1 the device reads, 2 writes, 3 both), owned by `owner`.',
    fields: {
      window: 'u32',
      first: 'page',
      count: 'page',
      gpa: 'u64',
      bytes: 'page',
      dir: 'u32',
      owner: 'name',
      device: 'name',
    },
  },
  'dma.revoke': {
    doc: 'The DMA API took a grant back.',
    fields: { window: 'u32', first: 'page', count: 'page', device: 'name' },
  },
  'dma.direct': {
    doc: 'The DMA API lets a device use memory directly at `offset` + physical address: it is granted all RAM of the partition.',
    fields: { device: 'name', offset: 'u64', limit: 'u64' },
  },
  'alloc.take': {
    doc: 'The allocator of a window marks entries as used. `pool` is 0 to 3, 4 for the large pool, 5 for reserved at the start.',
    fields: { window: 'u32', first: 'page', count: 'page', pool: 'u32' },
  },
  'alloc.free': {
    doc: 'The allocator of a window marks entries as free.',
    fields: { window: 'u32', first: 'page', count: 'page' },
  },
  'page.own': {
    doc: 'Pages of an address space (`gpa`, `hpa`) belong to `owner` from now on; `generation` counts the lives of the first page.',
    fields: {
      space: 'name',
      pageShift: 'u32',
      first: 'page',
      count: 'page',
      owner: 'name',
      generation: 'u32',
    },
  },
  'memory.slot': {
    doc: 'Guest memory appears (1) or goes (0) at a GPA.',
    fields: { gpa: 'u64', bytes: 'u64', ua: 'u64', owner: 'name', present: 'u32' },
  },
  'memory.write': {
    doc: 'Software wrote memory of an address space (`gpa`, `ua`).',
    fields: { space: 'name', address: 'u64', bytes: 'u32' },
  },
  'memory.corrupt': {
    doc: 'Software computed an address outside what it meant (`what`) and would have written `bytes` there: what lies there is undefined from now on. Of a hardware table `table` (0 for none) it was to be the slot `entry`, a signed number.',
    fields: { space: 'name', address: 'u64', bytes: 'u32', what: 'name', table: 'u32', entry: 'u64' },
  },
  'hw.set': {
    doc: 'Entries [entry, entry + count) of a hardware TCE table, counted from the start of the window, are written: the first held `before` and each next one 2^beforeStep more (all the same for step -1); the first holds `tce` now and each next one 2^step more. Caches may still hold what was there.',
    fields: {
      table: 'u32',
      entry: 'page',
      count: 'page',
      before: 'u64',
      beforeStep: 'shift',
      tce: 'u64',
      step: 'shift',
    },
  },
  'hw.table': {
    doc: 'A hardware TCE table is made, with one reference: that of who made it. `busOffset` is the bus address of its first entry, `charged` the bytes that a process pays for it, 0 for a table of the kernel.',
    fields: {
      table: 'u32',
      pageShift: 'u32',
      levels: 'u32',
      busOffset: 'u64',
      entries: 'page',
      charged: 'page',
    },
  },
  'hw.ref': {
    doc: 'A reference of a hardware table comes (`delta` 1) or goes (-1): whose it is, and how many there are now. With the last one the table is freed.',
    fields: { table: 'u32', delta: 'i32', references: 'u32', holder: 'name' },
  },
  'hw.window': {
    doc: 'A PHB is told what the window number `index` of a PE (of P7IOC: its segment) does from now on: the TVE, and the hardware table behind it (0 for none). `window` is the number of the life that begins; a TVE of 0 ends the one before, and begins none.',
    fields: { unit: 'name', pe: 'u32', index: 'u32', tve: 'u64', table: 'u32', window: 'u32' },
  },
  'hw.fill': {
    doc: 'A PHB read the TCE of a page for a DMA of a PE, and remembers it.',
    fields: { unit: 'name', pe: 'u32', address: 'u64', pageShift: 'u32', tce: 'u64' },
  },
  'hw.store': {
    doc: 'Software stored `count` 64-bit values to a register of a PHB: the first `value`, each next one 2^step more (step -1 for a single one).',
    fields: { unit: 'name', offset: 'u32', value: 'u64', step: 'shift', count: 'page' },
  },
  'hw.firmware': {
    doc: 'Software called firmware to make a PHB forget TCEs: `scope` 0 for `count` pages from `address` on, 1 for a PE, 2 for all; `code` is what firmware answered. It did so `calls` times, each for the pages behind those before.',
    fields: {
      unit: 'name',
      call: 'u32',
      scope: 'u32',
      pe: 'u32',
      pageBytes: 'u32',
      address: 'u64',
      count: 'page',
      code: 'i32',
      calls: 'u32',
    },
  },
  'hw.kill': {
    doc: 'A PHB forgot TCEs: `scope` 0 `count` pages of 2^pageShift bytes from `address` on of a PE, 1 all of a PE, 2 everything, 3 one page that had to make room.',
    fields: { unit: 'name', scope: 'u32', pe: 'u32', address: 'u64', pageShift: 'shift', count: 'page' },
  },
  'pe.freeze': {
    doc: 'A PHB cut a PE off (both stop states latch) after a DMA (`write` 1: a write) that it could not carry out.',
    fields: { unit: 'name', pe: 'u32', address: 'u64', write: 'u32', why: 'name' },
  },
  'pe.thaw': {
    doc: 'Stop states of a PE are cleared: 1 MMIO, 2 DMA, 3 both.',
    fields: { unit: 'name', pe: 'u32', stops: 'u32' },
  },
  'pe.stop': {
    doc: 'Software had a PE frozen: both stop states are latched.',
    fields: { unit: 'name', pe: 'u32' },
  },
  'pe.reset': {
    doc: 'A reset of a PE is asserted (`reset` 1 hot, 3 fundamental) or taken back (0).',
    fields: { unit: 'name', pe: 'u32', reset: 'u32' },
  },
  'phb.fence': {
    doc: 'A PHB is fenced after an error of its own (1), or a reset of all of it took the fence away (0).',
    fields: { unit: 'name', up: 'u32' },
  },
  'eeh.check': {
    doc: 'A driver read all ones from a device: the rule by which the kernel tells whether the PE is frozen, and how many reads it has ignored since.',
    fields: { device: 'name', rule: 'name', ignored: 'u32' },
  },
  'eeh.interrupt': {
    doc: 'The kernel handles the error interrupt of a PHB: the PE that was frozen is recovered (`handled` 1), or known already or not its own (0).',
    fields: { unit: 'name', pe: 'u32', phb: 'u32', handled: 'u32' },
  },
  'eeh.state': {
    doc: 'What the kernel holds of a PE (bits of EEH_PE_*) changed; `pe` is 0 for the PHB itself where `phb` is 1.',
    fields: { unit: 'name', pe: 'u32', phb: 'u32', state: 'u32' },
  },
  'eeh.step': {
    doc: 'The kernel recovers a PE: the step that it has taken, and what the drivers have answered so far.',
    fields: { unit: 'name', pe: 'u32', phb: 'u32', step: 'name', result: 'name', freezes: 'u32' },
  },
  'eeh.driver': {
    doc: 'The kernel called a driver back while it recovers its device: which function, and what the driver answered.',
    fields: { device: 'name', driver: 'name', call: 'name', answer: 'name' },
  },
  'mm.map': {
    doc: 'A process maps (1) or unmaps (0) user addresses.',
    fields: { process: 'name', ua: 'u64', bytes: 'u64', present: 'u32' },
  },
  'mm.pin': {
    doc: 'Pages of a process are pinned (delta above 0) or unpinned. `ua` is 0 where who unpins knows the frames only.',
    fields: { process: 'name', ua: 'u64', count: 'page', delta: 'i32' },
  },
  'mm.locked': {
    doc: 'locked_vm of a process changed, in host pages.',
    fields: { process: 'name', delta: 'i32', total: 'page' },
  },
  'mm.exit': { doc: 'A process ended; what holds its files closes them next.', fields: { process: 'name' } },
  'mm.free': {
    doc: 'The last holder of the address space of a process that ended has let go: nothing may be pinned or charged for it any more.',
    fields: { process: 'name' },
  },
  'region.new': {
    doc: 'User memory is preregistered as a region: `pages` system pages from `ua` on. `used` counts registrations; `mapped` is 1 and 1 more for each live mapping; `pageShift` is the largest IOMMU page that it backs; `device` is 1 for memory of a device, which is neither pinned nor charged.',
    fields: {
      region: 'u32',
      process: 'name',
      ua: 'u64',
      pages: 'page',
      used: 'u32',
      mapped: 'u32',
      pageShift: 'u32',
      device: 'u32',
    },
  },
  'region.get': {
    doc: 'One registration more of a region: `used` and `mapped` are what it has now.',
    fields: { region: 'u32', process: 'name', ua: 'u64', pages: 'page', used: 'u32', mapped: 'u32' },
  },
  'region.put': {
    doc: 'One registration fewer of a region is asked for: `used` and `mapped` are what it has now. `used` 0 ends it; with `code` below 0 nothing changed.',
    fields: {
      region: 'u32',
      process: 'name',
      ua: 'u64',
      pages: 'page',
      used: 'u32',
      mapped: 'u32',
      code: 'i32',
    },
  },
  'region.map': {
    doc: 'Mappings of a region come (`delta` above 0, how many) or go: `mapped` is the count now. One that goes and was not counted leaves `mapped` as it was.',
    fields: {
      region: 'u32',
      process: 'name',
      ua: 'u64',
      pages: 'page',
      used: 'u32',
      mapped: 'u32',
      delta: 'i32',
    },
  },
  'iotlb.new': {
    doc: 'A vhost device begins with an empty IOTLB (Linux vhost: VIRTIO_F_ACCESS_PLATFORM is acknowledged); the one that it had before is gone with its maps. `limit` is how many maps it keeps.',
    fields: { iotlb: 'u32', device: 'name', limit: 'u32' },
  },
  'iotlb.fill': {
    doc: 'A map enters an IOTLB: the bytes [iova, last] are at user address `ua` on, for `perm` (1 the device reads, 2 writes, 3 both). `map` is its number, which no other map of the run has. Older maps of the same bytes stay, and win.',
    fields: { iotlb: 'u32', map: 'u32', iova: 'u64', last: 'u64', ua: 'u64', perm: 'u32' },
  },
  'iotlb.drop': {
    doc: 'Every map of an IOTLB that overlaps [iova, last] goes, whole: `maps` of them. `why` is invalidate or reset.',
    fields: { iotlb: 'u32', iova: 'u64', last: 'u64', maps: 'page', why: 'name' },
  },
  'iotlb.evict': {
    doc: 'An IOTLB is full: its oldest map makes room.',
    fields: { iotlb: 'u32', map: 'u32', iova: 'u64', last: 'u64' },
  },
  'iotlb.miss': {
    doc: 'A vhost device does not find a bus address, and asks for it (`access` 1 to read, 2 to write) on behalf of a queue, which waits.',
    fields: { iotlb: 'u32', queue: 'u32', iova: 'u64', access: 'u32', line: 'u32' },
  },
  'iotlb.refuse': {
    doc: 'A map of an IOTLB does not allow an access; the queue has an error.',
    fields: { iotlb: 'u32', queue: 'u32', iova: 'u64', access: 'u32', code: 'i32' },
  },
  'iotlb.use': {
    doc: 'A vhost device reaches `bytes` at a bus address through a map, at user address `ua` on; `part` is 0 for a buffer, 1 descriptors, 2 available ring, 3 used ring, and 4 more where a remembered pointer was used and no map looked at.',
    fields: {
      iotlb: 'u32',
      map: 'u32',
      iova: 'u64',
      ua: 'u64',
      bytes: 'u32',
      write: 'u32',
      part: 'u32',
      line: 'u32',
    },
  },
  'vhost.message': {
    doc: 'A message of the IOTLB protocol: `from` says who sent it, `type` is 1 MISS, 2 UPDATE, 3 INVALIDATE, 4 ACCESS_FAIL, `code` what came of it (0 taken).',
    fields: {
      device: 'name',
      from: 'name',
      type: 'u32',
      iova: 'u64',
      bytes: 'u64',
      ua: 'u64',
      perm: 'u32',
      code: 'i32',
    },
  },
  'vhost.queue': {
    doc: 'A queue of a vhost device comes to another state: runs, waits (for a miss), woken, stopped, failed.',
    fields: { device: 'name', queue: 'u32', state: 'name', code: 'i32' },
  },
  'domain.attach': {
    doc: 'A device, `source` its source id, is behind the page tables of a domain of a VT-d unit from now on; `ats` is 1 where it has a TLB of its own that the driver flushes.',
    fields: { device: 'name', source: 'u32', domain: 'u32', ats: 'u32' },
  },
  'domain.map': {
    doc: 'Page tables of a domain map [iova, iova + bytes) to `gpa` on, for `perm` (1 read, 2 write, 3 both, 0 where no line says it). `how` is 0 where the log or the driver says so, 1 where a translation shows it.',
    fields: { domain: 'u32', iova: 'u64', bytes: 'u64', gpa: 'u64', perm: 'u32', how: 'u32' },
  },
  'domain.unmap': {
    doc: 'Page tables of a domain do not map [iova, iova + bytes) any more. `how` is 0 where the log or the driver says so, 1 where it follows from a line, 2 where lines are lost, so that what is mapped is not known; `bytes` 0 is everything.',
    fields: { domain: 'u32', iova: 'u64', bytes: 'u64', how: 'u32' },
  },
  'domain.flush': {
    doc: 'Software has a VT-d unit forget: `scope` 1 everything in the IOTLB, 2 a domain, 3 pages [iova, iova + bytes) of a domain, 4 the TLB of the device `source` for that range, 5 the context entry of the device (`source` 0xffffffff: of more than one, of the domain or of all for `domain` 0xffffffff), 6 PASID entries of a domain (`pasid` 0xffffffff: all of its; `domain` 0xffffffff: everything), 7 pages of a PASID of a domain, 8 all of a PASID of a domain, 9 the TLB of the device for a range of a PASID, 10 interrupt entries. `bytes` 0 with scopes 4, 7 and 9 is the whole space. `hint` is 1 where software says that only entries that map pages have changed; for scope 5 it is the function mask.',
    fields: {
      unit: 'name',
      scope: 'u32',
      domain: 'u32',
      source: 'u32',
      pasid: 'u32',
      iova: 'u64',
      bytes: 'u64',
      hint: 'u32',
      line: 'u32',
    },
  },
  'domain.wait': {
    doc: 'An invalidation wait of a VT-d unit completed: software takes all flushes before it for done.',
    fields: { unit: 'name', line: 'u32' },
  },
  'domain.notify': {
    doc: 'QEMU tells the listener of a device of [iova, last] (`flag` 1 UNMAP, 2 MAP, 4 DEVIOTLB_UNMAP).',
    fields: { device: 'name', flag: 'u32', iova: 'u64', last: 'u64', ua: 'u64', perm: 'u32' },
  },
  'vtd.register': {
    doc: 'Software reads (`write` 0) or writes a register of a VT-d unit: what the bus carries.',
    fields: { unit: 'name', offset: 'u32', bytes: 'u32', value: 'u64', write: 'u32', line: 'u32' },
  },
  'vtd.root': {
    doc: 'A VT-d unit takes a root table (`mode` 0 legacy, 1 scalable, 2 extended, 3 abort), or switches translation on or off.',
    fields: { unit: 'name', address: 'u64', mode: 'u32', enabled: 'u32', line: 'u32' },
  },
  'vtd.context': {
    doc: 'A VT-d unit read the root and the context entry of a device from memory: where they are, the first word of the context entry, its domain. `fault` is what was wrong with them, 0 for nothing.',
    fields: {
      unit: 'name',
      source: 'u32',
      rootAddress: 'u64',
      address: 'u64',
      lo: 'u64',
      domain: 'u32',
      fault: 'u32',
    },
  },
  'vtd.pasid': {
    doc: 'A VT-d unit read the directory entry and the table entry of a PASID from memory: where they are, the first word of the table entry, its domain.',
    fields: {
      unit: 'name',
      source: 'u32',
      pasid: 'u32',
      directory: 'u64',
      address: 'u64',
      lo: 'u64',
      domain: 'u32',
      fault: 'u32',
    },
  },
  'vtd.walk': {
    doc: 'A VT-d unit walked page tables for an address: `stage` 1 first-level, 2 second-level. `t1` to `t5` are the 4 KiB pages of the tables of each level whose entry was read, 0 where none was. `fault` is what the walk met, 0 for nothing.',
    fields: {
      unit: 'name',
      source: 'u32',
      pasid: 'u32',
      stage: 'u32',
      iova: 'u64',
      t1: 'u32',
      t2: 'u32',
      t3: 'u32',
      t4: 'u32',
      t5: 'u32',
      fault: 'u32',
    },
  },
  'vtd.fill': {
    doc: 'A translation enters a cache: `cache` 1 IOTLB, 2 the TLB of the device, 3 a paging-structure cache (`target` is the table, `shift` what one of its entries covers). `entry` is its number, which no other of the run has. The vtd.context, vtd.pasid and vtd.walk records before it, back to its cause, say what it was read from.',
    fields: {
      unit: 'name',
      cache: 'u32',
      entry: 'u32',
      source: 'u32',
      domain: 'u32',
      pasid: 'u32',
      iova: 'u64',
      shift: 'u32',
      target: 'u64',
      perm: 'u32',
    },
  },
  'vtd.translate': {
    doc: 'A request of a device is translated: to `target`, with what the translation allows (`perm`) and what was needed, or `fault`. `entry` is the number of the cached translation (vtd.fill) that answered, new or old; 0 for none.',
    fields: {
      unit: 'name',
      source: 'u32',
      pasid: 'u32',
      iova: 'u64',
      target: 'u64',
      perm: 'u32',
      need: 'u32',
      fault: 'u32',
      entry: 'u32',
      line: 'u32',
    },
  },
  'vtd.fault': {
    doc: 'A VT-d unit blocked a request: the reason, T1 and T2 as `access` (0 write, 1 page request, 2 read, 3 atomic), the fault recording register that holds it (`record` 0xffffffff: none, and `why`: fpd, overflow, compressed, or a quirk).',
    fields: {
      unit: 'name',
      source: 'u32',
      pasid: 'u32',
      reason: 'u32',
      iova: 'u64',
      access: 'u32',
      record: 'u32',
      why: 'name',
      line: 'u32',
    },
  },
  'vtd.event': {
    doc: 'A VT-d unit has something to say (`event`: fault, invalidation, page-request): the interrupt is sent (1), or pending while it is masked (0).',
    fields: { unit: 'name', event: 'name', address: 'u64', data: 'u32', sent: 'u32' },
  },
  'vtd.page-request': {
    doc: 'A page request of a device: `flags` is 8 read, 4 write, 2 execute, 1 privileged, 16 last of its group, 32 with private data; `result` what the unit did with it.',
    fields: {
      unit: 'name',
      source: 'u32',
      pasid: 'u32',
      iova: 'u64',
      flags: 'u32',
      group: 'u32',
      result: 'name',
      line: 'u32',
    },
  },
  'vtd.response': {
    doc: 'Software answers a group of page requests: 0 success, 1 invalid request, 15 failure.',
    fields: { unit: 'name', source: 'u32', pasid: 'u32', group: 'u32', code: 'u32', line: 'u32' },
  },
  'vtd.refuse': {
    doc: 'The invalidation queue of a VT-d unit stops (IQE) at a descriptor or a tail that it refuses: `reason` is 1 for a bad tail, 2 a descriptor that cannot be read, 3 a bad type, 4 a reserved field, 5 the width, 6 a tail that is not aligned, 7 the kind of tables. `lo` and `hi` are the first two words of the descriptor, 0 where none was read; `offset` is where it is in the queue.',
    fields: { unit: 'name', reason: 'u32', offset: 'u32', lo: 'u64', hi: 'u64', line: 'u32' },
  },
  'vtd.word': {
    doc: 'A word in memory that a VT-d unit has read as an entry of a table changed.',
    fields: { unit: 'name', address: 'u64', before: 'u64', after: 'u64', line: 'u32' },
  },
  'vtd.table': {
    doc: 'A driver has a page for a table of a domain from now on (`state` 1), or gives it back (0).',
    fields: { unit: 'name', page: 'page', state: 'u32', domain: 'u32' },
  },
  'mm.users': {
    doc: 'mm_users and mm_count of an address space are now these. `why` names what changed them: `exit` where its process gave it up.',
    fields: { mm: 'name', users: 'u32', count: 'u32', why: 'name' },
  },
  'mm.vma': {
    doc: 'An address space has a range of user addresses (1) with these rights (1 read, 2 write, 4 execute), or has it no more (0).',
    fields: { mm: 'name', first: 'page', count: 'page', flags: 'u32', present: 'u32' },
  },
  'mm.table': {
    doc: 'A page is a page table of an address space from now on (`state` 1), of that level (4 is the pgd), or is given back (0).',
    fields: { mm: 'name', page: 'page', level: 'u32', state: 'u32' },
  },
  'mm.fault': {
    doc: 'The kernel handles a fault of an address space: `write` 1 for a write, `result` what came of it.',
    fields: { mm: 'name', address: 'u64', write: 'u32', result: 'name' },
  },
  'mm.notify': {
    doc: 'A notifier of an address space is registered, unregistered, or called (`call`: change_pte, invalidate_range, release) for [start, end).',
    fields: { mm: 'name', notifier: 'name', call: 'name', start: 'u64', end: 'u64' },
  },
  'file.refs': {
    doc: 'So many references an open file has now. `why` names what changed them; 0 is the last one, and the driver releases it.',
    fields: { file: 'name', refs: 'u32', why: 'name' },
  },
  'svm.tables': {
    doc: 'The PASID table of a VT-d unit of revisions 2.x is allocated (`order` of pages, `entries` that the driver uses of it), or could not be (`page` 0, `entries` that it wanted), or is freed (`entries` 0).',
    fields: { unit: 'name', table: 'name', page: 'page', order: 'u32', entries: 'u32' },
  },
  'svm.pasid': {
    doc: 'A PASID is handed out (`state` 1) or given back (0). `mm` is empty for the kernel`s; `unit` is empty where all units share the numbers.',
    fields: { unit: 'name', pasid: 'u32', mm: 'name', state: 'u32' },
  },
  'svm.entry': {
    doc: 'The driver writes the entry of a PASID: it leads to the page table `pgd` of `mm` (`present` 1), or nowhere (0). `device` is empty where all devices of the unit share the table.',
    fields: {
      unit: 'name',
      device: 'name',
      pasid: 'u32',
      mm: 'name',
      pgd: 'page',
      present: 'u32',
      supervisor: 'u32',
    },
  },
  'svm.bind': {
    doc: 'A device (`source` is its source-id) is bound to an address space by a PASID; `users` counts how often. 0: it is not bound any more.',
    fields: { unit: 'name', device: 'name', source: 'u32', mm: 'name', pasid: 'u32', users: 'u32' },
  },
  'svm.object': {
    doc: 'The driver allocates (`state` 1) or frees (0) what it keeps of a bind: `intel_svm` for a PASID, `intel_svm_dev` for a device of one.',
    fields: { unit: 'name', what: 'name', pasid: 'u32', device: 'name', state: 'u32' },
  },
  'svm.request': {
    doc: 'The page request thread has taken a request from the queue at `offset`: what came of it (`result`: success, invalid, failure), and which response follows (`response`: group, stream, none).',
    fields: {
      unit: 'name',
      source: 'u32',
      pasid: 'u32',
      iova: 'u64',
      flags: 'u32',
      group: 'u32',
      result: 'name',
      response: 'name',
      offset: 'u32',
    },
  },
  'svm.callback': {
    doc: 'The fault callback of the driver of a device, `source`: `rwxp` is 8 read, 4 write, 2 execute, 1 privileged; `wanted` is the source-id of the device that sent the request.',
    fields: {
      device: 'name',
      source: 'u32',
      pasid: 'u32',
      address: 'u64',
      rwxp: 'u32',
      result: 'name',
      wanted: 'u32',
    },
  },
  'svm.thread': {
    doc: 'The page request thread of a unit begins (1), with the head and the tail that it read, or has written the head (0).',
    fields: { unit: 'name', state: 'u32', head: 'u32', tail: 'u32' },
  },
  'svm.use-after-free': {
    doc: 'The kernel used what it has freed: `what` says which structure, `by` which function.',
    fields: { what: 'name', by: 'name', line: 'u32' },
  },
  'task.step': {
    doc: 'A task of the kernel does one step of its work, which others may come between.',
    fields: { task: 'name', step: 'name', line: 'u32' },
  },
  'device.add': {
    doc: 'A device appears below a unit; `mask` is its DMA mask.',
    fields: { device: 'name', unit: 'name', mask: 'u64' },
  },
  'device.remove': {
    doc: 'The driver of a device has ended: what is still granted to it is a leak.',
    fields: { device: 'name' },
  },
  warning: {
    doc: 'Software of the modelled machine printed a warning.',
    fields: { layer: 'name', text: 'name' },
  },
  dead: {
    doc: 'A part of the machine stopped for good (kernel BUG, QEMU assertion).',
    fields: { layer: 'name', why: 'name' },
  },
  unmodelled: {
    doc: 'The model does not know what the real machine does here.',
    fields: { what: 'name', line: 'u32' },
  },
})

export type EventKind = keyof typeof EVENTS
export const EVENT_KINDS = Object.keys(EVENTS) as EventKind[]

/** The number of each kind in the log. */
export const KIND = Object.freeze(
  Object.fromEntries(EVENT_KINDS.map((kind, number) => [kind, number])),
) as Readonly<Record<EventKind, number>>

type FieldValue<T extends FieldType> = T extends 'u64' ? bigint : T extends 'name' ? string : number

/** The fields of one kind of event, as readers see them. */
export type EventFields<K extends EventKind> = {
  readonly [F in keyof (typeof EVENTS)[K]['fields']]: (typeof EVENTS)[K]['fields'][F] extends FieldType
    ? FieldValue<(typeof EVENTS)[K]['fields'][F]>
    : never
}

export type MachineEvent = { [K in EventKind]: { readonly kind: K } & EventFields<K> }[EventKind]

/** An event in its place: `seq` orders it, `tick` is simulated time, `cause` is the record that led to it. */
export interface TraceRecord {
  readonly seq: number
  readonly tick: number
  readonly cause: number | null
  readonly event: MachineEvent
}

/** First slot of each field of a kind: how writers and readers of raw records find their columns. */
export function slotMap<K extends EventKind>(
  kind: K,
): Readonly<Record<keyof EventFields<K> & string, number>> {
  const out: Record<string, number> = {}
  let slot = 0
  for (const [name, type] of Object.entries<FieldType>(EVENTS[kind].fields)) {
    out[name] = slot
    slot += slotsOf(type)
  }
  return out as Record<keyof EventFields<K> & string, number>
}

/** Slot of the `line` field of each kind, by its number; -1 for kinds that have none. */
export const LINE_SLOTS: readonly number[] = EVENT_KINDS.map(
  (kind) => (slotMap(kind) as Readonly<Record<string, number>>)['line'] ?? -1,
)

/** Slots that a record of each kind has, by its number; what stands behind them says nothing. */
export const SLOTS_USED: readonly number[] = EVENT_KINDS.map((kind) => slotsUsed(EVENTS[kind].fields))
