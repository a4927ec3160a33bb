import { describe, expect, it } from 'vitest'
import { gpa, ua } from '../../src/bits/brand.ts'
import { TableWatch } from '../../src/hw/vtd/table-watch.ts'
import { GuestMemory } from '../../src/memory/guest-memory.ts'
import { eventsOfLog } from '../support/events.ts'
import { makeHost, UNLIMITED } from '../support/host.ts'

const UA = 0x7f00_0000_0000n
const BASE = { unit: 'vtd', source: 0x18, fault: 0 }
const WALK = { ...BASE, pasid: 0xffff_ffff, stage: 2, t1: 0, t2: 0, t3: 0, t4: 0, t5: 0 }

function make(options: { journal?: boolean } = {}) {
  const { host, processes, stage, journal } = makeHost(options)
  const { mm } = processes.spawn('qemu', UNLIMITED)
  mm.mmap({ address: UA, bytes: 1n << 24n, read: true, write: true, fixed: true, noreplace: false })
  const guest = new GuestMemory(host)
  guest.addSlot({ gpa: gpa(0n), bytes: 1n << 24n, mm, ua: ua(UA) })
  const watch = new TableWatch({ memory: guest, stage, journal })
  stage.log.subscribe(watch)
  guest.watcher = watch
  const bytes = new Uint8Array(4096)
  const view = new DataView(bytes.buffer)
  const store = (address: number, ...words: readonly bigint[]) => {
    words.forEach((word, i) => {
      view.setBigUint64(i * 8, word, true)
    })
    guest.writePage(address >>> 12, address & 0xfff, bytes, 0, words.length * 8)
  }
  const changes = () =>
    eventsOfLog(stage.log, 'vtd.word').map((event) =>
      event.kind === 'vtd.word' ? [event.address, event.before, event.after] : [],
    )
  return { guest, stage, journal, watch, store, changes, log: stage.log }
}

describe('words of tables', () => {
  it('that a walk has read are recorded when they change, and no others', () => {
    const { log, store, changes } = make()
    store(0x14000, 0x1003n, 0x2003n, 0x3003n)
    log.emit('vtd.walk', null, { ...WALK, iova: 0x4020_1234n, t1: 0x14, t2: 0x13, t3: 0x12 })
    store(0x14000, 0n, 0n, 0n)
    store(0x13000 + 8, 5n)
    store(0x12000 + 8, 6n)
    store(0x15000 + 8, 7n)
    expect(changes()).toEqual([
      [0x14008n, 0x2003n, 0n],
      [0x13008n, 0n, 5n],
      [0x12008n, 0n, 6n],
    ])
  })

  it.each([
    [1, 0x0000_0000_0000_3000n, 3],
    [2, 0x0000_0000_4060_0000n, 3],
    [3, 0x0000_007f_c000_0000n, 511],
    [4, 0x0000_8000_0000_0000n, 256],
    [5, 0x01ff_0000_0000_0000n, 511],
  ])('of level %i are found by the address', (level, iova, index) => {
    const { log, store, changes } = make()
    log.emit('vtd.walk', null, { ...WALK, iova, [`t${level}`]: 0x20 })
    for (let i = 0; i < 512; i++) store(0x20000 + i * 8, 1n)
    expect(changes()).toEqual([[0x20000n + BigInt(index * 8), 0n, 1n]])
  })

  it('of root, context and PASID tables are all recorded', () => {
    const { log, store, changes } = make()
    const entry = { ...BASE, lo: 0n, domain: 5 }
    log.emit('vtd.context', null, { ...entry, rootAddress: 0x1_0000n, address: 0x1_1180n })
    log.emit('vtd.pasid', null, { ...entry, pasid: 1, directory: 0x2_0000n, address: 0x2_1040n })
    for (const page of [0x10000, 0x11000, 0x20000, 0x21000, 0x22000]) store(page + 0xff8, 9n)
    expect(changes().map(([address]) => address)).toEqual([0x10ff8n, 0x11ff8n, 0x20ff8n, 0x21ff8n])
  })

  it('of tables that were not reached are nowhere', () => {
    const { log, store, changes } = make()
    log.emit('vtd.context', null, { ...BASE, lo: 0n, domain: 0, rootAddress: 0x1_0000n, address: 0n })
    store(8, 9n)
    expect(changes()).toEqual([])
  })

  it('are whole, whatever part of them is written, and unchanged ones are no change', () => {
    const { guest, log, store, changes } = make()
    store(0x14008, 0x1122_3344_5566_7788n)
    log.emit('vtd.walk', null, { ...WALK, iova: 0x1000n, t1: 0x14 })
    guest.writePage(0x14, 12, Uint8Array.of(0, 0xff), 1, 1)
    guest.writePage(0x14, 15, Uint8Array.of(0x11), 0, 1)
    guest.storeU64be(0x14, 8, 0, 0x0300_0000)
    expect(changes()).toEqual([
      [0x14008n, 0x1122_3344_5566_7788n, 0x1122_33ff_5566_7788n],
      [0x14008n, 0x1122_33ff_5566_7788n, 0x3_0000_0000n],
    ])
  })

  it('that two units have read are recorded for each, with who wrote as the cause', () => {
    const { log, stage, store } = make()
    for (const unit of ['a', 'b']) log.emit('vtd.walk', null, { ...WALK, unit, iova: 0n, t1: 0x14 })
    stage.line = 7
    stage.cause = 1
    store(0x14000, 1n)
    const words = [...log.records()].filter(({ event }) => event.kind === 'vtd.word')
    expect(words.map(({ cause, event }) => [cause, event])).toEqual(
      ['a', 'b'].map((unit) => [
        1,
        { kind: 'vtd.word', unit, address: 0x14000n, before: 0n, after: 1n, line: 7 },
      ]),
    )
  })

  it('are watched again only from the walk on, when a machine has gone back behind it', () => {
    const { log, journal, store, changes } = make({ journal: true })
    store(0x14000, 1n)
    const [mark, hash, length] = [journal.mark(), journal.hash, log.length]
    log.emit('vtd.context', null, { ...BASE, lo: 0n, domain: 5, rootAddress: 0x1_4000n, address: 0n })
    expect(journal.hash).not.toBe(hash)
    journal.rollback(mark)
    log.truncate(length)
    expect(journal.hash).toBe(hash)
    store(0x14000, 2n)
    expect(changes()).toEqual([])
    log.emit('vtd.walk', null, { ...WALK, iova: 0n, t1: 0x14 })
    store(0x14000, 3n, 4n)
    expect(changes()).toEqual([[0x14000n, 2n, 3n]])
  })

  it('that one write changes are told in the order of entries: what is present goes first and comes last', () => {
    const { log, store, changes } = make()
    const entry = { ...BASE, lo: 0n, domain: 5, rootAddress: 0x1_0000n, address: 0x1_1180n }
    log.emit('vtd.context', null, entry)
    store(0x11180, 0x12001n, 0x501n)
    store(0x11180, 0n, 0n)
    expect(changes()).toEqual([
      [0x11188n, 0n, 0x501n],
      [0x11180n, 0n, 0x12001n],
      [0x11180n, 0x12001n, 0n],
      [0x11188n, 0x501n, 0n],
    ])
  })

  it('of a table that a word comes to lead to are recorded, and of one below it', () => {
    const { log, store, changes } = make()
    log.emit('vtd.walk', null, { ...WALK, iova: 0n, t3: 0x12, fault: 6 })
    store(0x12000, 0x1_3003n)
    store(0x13008, 0x1_4003n)
    store(0x14010, 0x5003n)
    // What maps a page leads to no table.
    store(0x13010, 0x20_0083n)
    store(0x20_0000, 1n)
    store(0x5000, 1n)
    expect(changes().map(([address]) => address)).toEqual([0x12000n, 0x13008n, 0x14010n, 0x13010n])
  })

  it('in pages far behind are watched too', () => {
    const { log, watch } = make()
    const far = 2 ** 27 + 5
    expect(watch.watches(far)).toBe(false)
    log.emit('vtd.walk', null, { ...WALK, iova: 0n, t1: far })
    expect([watch.watches(far), watch.watches(far + 1), watch.watches(5)]).toEqual([true, false, false])
  })
})
