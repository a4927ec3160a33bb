import { describe, expect, it } from 'vitest'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { deviceTlbRange, readDescriptor } from '../../src/hw/vtd/invalidation.ts'
import { CONTEXT_TABLE, DOMAIN, DSC, ROOT_TABLE, SOURCE, storeWord, vtdWorld } from '../support/vtd.ts'

/** The tables of the vectors: root 0x10000, context 0x11000, three levels from 0x12000 on, device 00:03.0. */
const VECTOR_SOURCE = 0x18

function vectorWorld(options: Parameters<typeof vtdWorld>[0] = {}) {
  const world = vtdWorld(options)
  const { memory, unit } = world
  const word = (address: number, value: bigint) => storeWord(memory, address, value)
  word(0x1_0000, 0x1_1001n)
  word(0x1_1180, 0x1_2001n)
  word(0x1_1188, 0x501n)
  word(0x1_2008, 0x1_3003n)
  word(0x1_3008, 0x1_4003n)
  word(0x1_4008, 0xabc_d003n)
  const translate = (iova: bigint, isWrite = false, source = VECTOR_SOURCE) =>
    unit.translate(source, hiOf(iova), loOf(iova), isWrite)
  return { ...world, word, translate }
}

const found = ({ unit }: ReturnType<typeof vectorWorld>) => ({
  target: unit.tables.target,
  perm: unit.tables.perm,
  pages: unit.tables.pages,
})

describe('a walk in legacy mode', () => {
  it('V3: three levels to a page of 4 KiB', () => {
    const world = vectorWorld()
    expect(world.translate(0x4020_1234n)).toBe(0)
    expect(found(world)).toEqual({ target: 0xabcd, perm: 3, pages: 1 })
    expect(world.unit.contexts.domain).toBe(5)
  })

  it('V4: a page of 2 MiB, aligned', () => {
    const world = vectorWorld()
    world.word(0x1_3008, 0x8000_0083n)
    expect(world.translate(0x4020_1234n)).toBe(0)
    expect(found(world)).toEqual({ target: 0x8_0001, perm: 3, pages: 512 })
    world.word(0x1_3008, 0x8000_1083n)
    expect(world.translate(0x4020_1234n)).toBe(0xc)
  })

  it('a page of 1 GiB, and its alignment', () => {
    const world = vectorWorld()
    world.word(0x1_2008, 0x8000_0083n)
    expect(world.translate(0x4020_1234n)).toBe(0)
    expect(found(world)).toEqual({ target: 0x8_0201, perm: 3, pages: 0x4_0000 })
    world.word(0x1_2008, 0x9000_0083n)
    expect(world.translate(0x4020_1234n)).toBe(0xc)
  })

  it('four levels with 48 bits', () => {
    const world = vectorWorld({ addressBits: 48 })
    world.word(0x1_1180, 0x1_5001n)
    world.word(0x1_1188, 0x502n)
    world.word(0x1_5000, 0x1_2003n)
    expect(world.translate(0x4020_1234n)).toBe(0)
    expect(world.translate(0x80_4020_1234n)).toBe(0x6)
    world.word(0x1_5008, 0x1_2003n)
    expect(world.translate(0x80_4020_1234n)).toBe(0)
    world.word(0x1_5008, 0x1_2083n)
    expect(world.translate(0x80_4020_1234n)).toBe(0xc)
  })

  it('permissions are those of all levels', () => {
    const world = vectorWorld()
    world.word(0x1_3008, 0x1_4001n)
    expect(world.translate(0x4020_1000n)).toBe(0)
    expect(found(world).perm).toBe(1)
    expect(world.translate(0x4020_1000n, true)).toBe(0x5)
  })

  it.each([
    ['V5: write of a page for reading', 0x1_4008, 0xabc_d001n, true, 0x5],
    ['V5: read of a page for writing', 0x1_4008, 0xabc_d002n, false, 0x6],
    ['V5: read of an entry of 0', 0x1_4008, 0n, false, 0x6],
    ['permission before reserved bits', 0x1_4008, 0x4000_0000_0abc_d002n, false, 0x6],
    ['TM without a device-TLB', 0x1_4008, 0x4000_0000_0abc_d003n, false, 0xc],
    ['SNP without snoop control', 0x1_4008, 0xabc_d803n, false, 0xc],
    ['SNP above the leaf', 0x1_3008, 0x1_4803n, false, 0xc],
    ['an address above the host width', 0x1_4008, 0x80_0000_0003n, false, 0xc],
    ['bits that are ignored', 0x1_4008, 0xbff0_0000_0abc_d603n, false, 0],
    ['PS at the last level', 0x1_4008, 0xabc_d083n, false, 0],
    ['V6: context not present', 0x1_1180, 0n, false, 0x2],
    ['V7: root not present', 0x1_0000, 0n, false, 0x1],
    ['V7: reserved in the root entry', 0x1_0000, 0x1_1003n, false, 0xa],
    ['V7: upper word of the root entry', 0x1_0008, 1n, false, 0xa],
    ['V7: context table beyond memory', 0x1_0000, 0x7000_0001n, false, 0x9],
    ['root: P before reserved bits', 0x1_0000, 0x1_1002n, false, 0x1],
    ['V8: width that is not there', 0x1_1188, 0x502n, false, 0x3],
    ['V8: T 3', 0x1_1180, 0x1_200dn, false, 0x3],
    ['T 1 without a device-TLB', 0x1_1180, 0x1_2005n, false, 0x3],
    ['V8: reserved in the context entry', 0x1_1180, 0x1_2011n, false, 0xb],
    ['V8: reserved in its upper word', 0x1_1188, 0x581n, false, 0xb],
    ['bits of the upper word that are ignored', 0x1_1188, 0x579n, false, 0],
    ['context: reserved bits before its type', 0x1_1180, 0x1_201dn, false, 0xb],
    ['V10: a page of interrupts', 0x1_4008, 0xfee0_0003n, false, 0xe],
    ['V10: 2 MiB with interrupts', 0x1_3008, 0xfee0_0083n, false, 0xe],
    ['first table beyond memory', 0x1_1180, 0x7000_0001n, false, 0x3],
    ['second table beyond memory', 0x1_2008, 0x7000_0003n, false, 0x7],
  ])('%s', (_what, address, value, isWrite, fault) => {
    const world = vectorWorld({ hasDeviceTlb: false })
    world.word(address, value)
    expect(world.translate(0x4020_1234n, isWrite)).toBe(fault)
  })

  it('V6: FPD counts in an entry that is not present', () => {
    const world = vectorWorld()
    world.word(0x1_1180, 2n)
    expect(world.translate(0x4020_1234n)).toBe(0x2)
    expect(world.unit.contexts.fpd).toBe(true)
  })

  it('V7: root table beyond memory; V9: an address beyond the width', () => {
    const world = vectorWorld()
    expect(world.translate(0x80_0000_0000n)).toBe(0x4)
    world.unit.enable(0x7_0000)
    expect(world.translate(0x4020_1234n)).toBe(0x8)
  })

  it('T 1 with a device-TLB translates; T 2 lets addresses through', () => {
    const world = vectorWorld()
    world.word(0x1_1180, 0x1_2005n)
    expect(world.translate(0x4020_1234n)).toBe(0)
    world.word(0x1_1180, 0x1_2009n)
    expect(world.translate(0x123_4567n, true)).toBe(0)
    expect(found(world)).toEqual({ target: 0x1234, perm: 3, pages: 1 })
  })
})

describe('what a device-TLB descriptor covers', () => {
  it.each([
    [0x4020_1000n, 0x4020_1000n, 0x4020_1fffn],
    [0x4020_0001n, 0x4020_0000n, 0x4020_1fffn],
    [0x402f_f001n, 0x4020_0000n, 0x403f_ffffn],
    [0x1_2345_f001n, 0x1_2344_0000n, 0x1_2347_ffffn],
    [0x7fff_ffff_ffff_f001n, 0n, 0xffff_ffff_ffff_ffffn],
    [0xffff_ffff_ffff_f001n, 0n, 0xffff_ffff_ffff_ffffn],
    [0xffff_ffff_ffff_f000n, 0xffff_ffff_ffff_f000n, 0xffff_ffff_ffff_ffffn],
  ])('0x%s', (hi, iova, last) => {
    expect(deviceTlbRange(hi)).toEqual({ iova, last })
  })
})

describe('descriptors', () => {
  it.each([
    ['V17: context of a device', 0x0000_0018_0005_0031n, 0n, { scope: 'device', source: 0x18, domain: 5 }],
    ['V17: with a function mask', 0x0003_001d_0000_0031n, 0n, { source: 0x1d, functionMask: 3 }],
    ['V17: context, all', 0x11n, 0n, { what: 'context', scope: 'all' }],
    ['context of a domain', 0x5_0021n, 0n, { what: 'context', scope: 'domain', domain: 5 }],
    ['V16: domain', 0x5_00e2n, 0n, { what: 'iotlb', scope: 'domain', domain: 5 }],
    ['V16: pages', 0x5_00f2n, 0x4020_1000n, { scope: 'pages', address: 0x4020_1000n, addressMask: 0 }],
    ['V16: all', 0xd2n, 0n, { what: 'iotlb', scope: 'all' }],
    ['pages with a hint', 0x5_00f2n, 0x4020_1052n, { scope: 'pages', addressMask: 18 }],
    ['V14: device-TLB', 0x0000_0310_0004_0003n, 0x402f_f001n, { what: 'device-tlb', source: 0x310 }],
    ['V18: wait', 0x0000_0002_0000_0025n, 0x2_0000n, { what: 'wait', address: 0x2_0000n, data: 2 }],
    ['wait with a fence', 0x0000_0002_0000_0065n, 0x2_0000n, { what: 'wait' }],
    ['V16: reserved bit 8', 0x5_01e2n, 0n, { what: 'refused' }],
    ['V16: reserved bit 7 of the upper word', 0x5_00f2n, 0x4020_1080n, { what: 'refused' }],
    ['V16: granularity 0', 0x5_00c2n, 0n, { what: 'refused' }],
    ['V16: AM 19', 0x5_00f2n, 0x4020_1013n, { what: 'refused' }],
    ['context: granularity 0', 0x1n, 0n, { what: 'refused' }],
    ['context: upper word', 0x11n, 1n, { what: 'refused' }],
    ['context: reserved bit 9', 0x211n, 0n, { what: 'refused' }],
    ['device-TLB: reserved bit 21', 0x20_0003n, 0n, { what: 'refused' }],
    ['device-TLB: reserved bit 1 above', 3n, 2n, { what: 'refused' }],
    ['wait: reserved bit 8', 0x125n, 0x2_0000n, { what: 'refused' }],
    ['wait: reserved bit 0 above', 0x25n, 1n, { what: 'refused' }],
    ['device-TLB with a PFSID', 0x10_0000_0000_1003n, 0n, { what: 'unmodelled' }],
    ['wait that drains page requests', 0xa5n, 0n, { what: 'unmodelled' }],
    ['wait that interrupts', 0x15n, 0n, { what: 'unmodelled' }],
    ['wait that only fences', 0x45n, 0n, { what: 'unmodelled' }],
    ['interrupt entries', 0x4n, 0n, { what: 'unmodelled' }],
    ['PASID IOTLB', 0x26n, 0n, { what: 'unmodelled' }],
    ['no type', 0n, 0n, { what: 'unmodelled' }],
  ])('%s', (_what, lo, hi, wanted) => {
    expect(readDescriptor(lo, hi)).toMatchObject(wanted)
  })
})

describe('the queue', () => {
  const QUEUE = 0x8000

  function queueWorld() {
    const world = vtdWorld()
    world.notifier.start(world.device, world.listener)
    const put = (index: number, [lo, hi]: readonly [bigint, bigint]) => {
      storeWord(world.memory, QUEUE + index * 16, lo)
      storeWord(world.memory, QUEUE + index * 16 + 8, hi)
    }
    world.unit.setQueue(BigInt(QUEUE), 0)
    return { ...world, put }
  }
  const WAIT = [0x0000_0002_0000_0025n, 0x5000n] as const

  it('V29: three descriptors, in order, and the head behind them', () => {
    const world = queueWorld()
    world.put(0, DSC.pages(0x4020_1000n))
    world.put(1, DSC.pages(0x4020_3000n))
    world.put(2, WAIT)
    expect(world.unit.setTail(0x30)).toBe('done')
    expect(world.unit.head).toBe(0x30)
    expect(world.take()).toEqual([
      [0x4020_1000n, 0x1000n],
      [0x4020_3000n, 0x1000n],
    ])
    expect(world.early).toEqual([0, 0])
    expect(world.status()).toBe(2)
    expect(world.unit.setTail(0x30)).toBe('done')
  })

  it('V29: the queue wraps', () => {
    const world = queueWorld()
    for (let i = 0; i < 255; i++) world.put(i, DSC.pages(0x1000n))
    world.put(255, DSC.pages(0x2000n))
    expect(world.unit.setTail(0xff0)).toBe('done')
    world.take()
    world.put(0, DSC.pages(0x3000n))
    expect(world.unit.setTail(0x10)).toBe('done')
    expect(world.take().map(([iova]) => iova)).toEqual([0x2000n, 0x3000n])
  })

  it('a descriptor that is refused stops it there', () => {
    const world = queueWorld()
    world.put(0, DSC.pages(0x1000n))
    world.put(1, [0x5_01e2n, 0n])
    world.put(2, WAIT)
    expect(world.unit.setTail(0x30)).toBe('refused')
    expect([world.unit.head, world.unit.why, world.status()]).toEqual([
      0x10,
      'reserved bits of an IOTLB descriptor',
      0,
    ])
    expect(world.unit.setTail(0x30)).toBe('stopped')
    expect(world.unit.submit(...WAIT)).toBe('stopped')
  })

  it.each([
    ['V29: beyond its end', 0x1000],
    ['between two descriptors', 0x18],
  ])('a tail %s', (_what, tail) => {
    const world = queueWorld()
    expect(world.unit.setTail(tail)).toBe('refused')
    expect(world.unit.isStopped).toBe(true)
  })

  it('a queue that is not in memory, or not set', () => {
    const world = queueWorld()
    world.unit.setQueue(0x7000_0000n, 0)
    expect(world.unit.setTail(0x10)).toBe('refused')
    expect(vtdWorld().unit.setTail(0x10)).toMatchObject({ what: 'unmodelled' })
  })

  it('what is not modelled leaves the head', () => {
    const world = queueWorld()
    world.put(0, [0x4n, 0n])
    expect(world.unit.setTail(0x10)).toMatchObject({ what: 'unmodelled' })
    expect(world.unit.head).toBe(0)
    expect(world.unit.submit(0x0000_0002_0000_0025n, 0x7000_0000n)).toMatchObject({ what: 'unmodelled' })
  })

  it('QEMU that ends does not go on', () => {
    const world = vtdWorld({ profile: 'qemu-7.2.22' })
    world.notifier.start(world.device, world.listener)
    world.unit.setQueue(BigInt(QUEUE), 0)
    const [lo, hi] = DSC.deviceTlb(0x7fff_ffff_ffff_f001n)
    storeWord(world.memory, QUEUE, lo)
    storeWord(world.memory, QUEUE + 8, hi)
    storeWord(world.memory, QUEUE + 16, WAIT[0])
    storeWord(world.memory, QUEUE + 24, WAIT[1])
    world.unit.setTail(0x20)
    expect([world.life.isDead, world.status(), world.unit.head]).toEqual([true, 0, 0])
  })
})

it('the support lays out what it says', () => {
  const world = vtdWorld()
  world.map(0x4020_1000n, 0x3000n)
  expect(world.unit.find(SOURCE)).toBe(0)
  expect(world.unit.contexts).toMatchObject({ domain: DOMAIN, levels: 3, root: world.tables.root })
  expect([ROOT_TABLE, CONTEXT_TABLE]).toEqual([0x10, 0x11])
})
