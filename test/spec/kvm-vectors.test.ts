import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import * as kvm from '../../src/kernel/kvm/calls.ts'
import {
  KVM_H_GET_TCE,
  KVM_H_PUT_TCE,
  KVM_H_PUT_TCE_INDIRECT,
  KVM_H_STUFF_TCE,
} from '../../src/kernel/kvm/hcall-calls.ts'
import { CLOSE } from '../../src/kernel/vfio/calls.ts'
import { withAttached, withGuest } from '../support/kvm.ts'
import { PAGE, UA } from '../support/vfio.ts'
import { poke } from '../support/vfio-rows.ts'

/*
 * The vectors of the specification for KVM, as calls, with and without what kernels do otherwise:
 *
 * | vector          | what                                  | where                                        |
 * |-----------------|---------------------------------------|----------------------------------------------|
 * | T1, T2          | making a table, its charge            | here; every rule in kvm-vm.test.ts           |
 * | T3, T4, T5      | poison, bounds, order of checks       | here; every rule in kvm-hcalls.test.ts       |
 * | T6, T7, T17     | 256 entries, counts, a half page      | kvm-table-updates.test.ts; T17 as calls here |
 * | T8              | a TCE that is not aligned             | here                                         |
 * | T9 (B1)         | real mode and a missing level         | kvm-table-updates, kvm-hcalls (window at 0), |
 * |                 |                                       | scenario host-memory-corruption-real-mode    |
 * | T10 (B3)        | kills of H_STUFF_TCE                  | kvm-hcalls; scenario b3-kills-behind-range   |
 * | T18 (X2)        | poison in a list                      | here                                         |
 */

const KERNELS = ['linux-6.1', 'linux-6.12.95'] as const
const PROFILES = ['intended', ...KERNELS] as const
const L = 0x8000_0000n
const LIST = 0x9_0000n
/** Guest pages of 16 MiB would take 256 entries: 1 MiB takes 16, by the same rules. */
const WIDE = { page_shift: 20n, entries: 0x100n }

type World = ReturnType<typeof withGuest>
const put = (world: World, ioba: bigint, tce: bigint, liobn = L) =>
  world.call(KVM_H_PUT_TCE, { liobn, ioba, tce })
const get = (world: World, ioba: bigint) => world.call(KVM_H_GET_TCE, { liobn: L, ioba }).outputs['tce']
const stuff = (world: World, ioba: bigint, value: bigint, npages: bigint) =>
  world.call(KVM_H_STUFF_TCE, { liobn: L, ioba, value, npages }).code
const indirect = (world: World, args: Record<string, Value>) =>
  world.call(KVM_H_PUT_TCE_INDIRECT, { liobn: L, ioba: 0n, list: LIST, npages: 1n, ...args })

describe.each(PROFILES)('with profile %s', (profile) => {
  /** 1 GiB in 4 KiB pages at bus address 0. */
  const withT2 = () => {
    const world = withGuest({ profile })
    return { ...world, fd: world.fdOf(world.table({ liobn: L, entries: 0x4_0000n })) }
  }

  it('T1: page shift, size and the end of a window', () => {
    const world = withGuest({ profile })
    const make = (more: Record<string, Value>) => world.table({ liobn: L, ...more }).code
    expect([make({ page_shift: 11n }), make({ page_shift: 35n }), make({ entries: 0n })]).toEqual([
      'EINVAL',
      'EINVAL',
      'EINVAL',
    ])
    expect(make({ offset: 2n ** 52n - 1n, entries: 2n })).toBe('EINVAL')
    expect(make({ offset: 2n ** 52n - 2n, entries: 1n })).toBe('OK')
  })

  it('T2: 33 pages are charged, once', () => {
    const world = withT2()
    const locked = () => world.qemu.mm.locked.pages
    expect([locked(), world.table({ liobn: L }).code, locked()]).toEqual([33n, 'EBUSY', 33n])
    expect(world.table({ liobn: 1n, flags: 1n }).code).toBe('EINVAL')
    world.call(CLOSE, { fd: world.fd })
    expect(locked()).toBe(0n)
  })

  it('T3: zeros take no page, poison does', () => {
    const world = withT2()
    const before = world.host.frames.free
    expect([get(world, 0n), put(world, 0x1000n, 0n).code, world.host.frames.free]).toEqual([
      0n,
      'H_SUCCESS',
      before,
    ])
    expect([put(world, 0x1000n, 0xdead_000n).code, get(world, 0x1000n)]).toEqual(['H_SUCCESS', 0xdead_000n])
    expect(world.host.frames.free).toBe(before - 1)
    expect([put(world, 0x2000n, 0x5003n).code, get(world, 0x2000n)]).toEqual(['H_SUCCESS', 0x5003n])
  })

  it('T4: bounds, of which kernels look at the first page only (X14)', () => {
    const world = withT2()
    expect([put(world, 0x1800n, 3n).code, put(world, 0x4000_0000n, 3n).code]).toEqual([
      'H_PARAMETER',
      'H_PARAMETER',
    ])
    const isRight = profile === 'intended'
    expect(stuff(world, 0x4000_0000n, 0n, 0n)).toBe(isRight ? 'H_SUCCESS' : 'H_PARAMETER')
    put(world, 0x3fff_f000n, 3n)
    expect(stuff(world, 0x3fff_f000n, 0n, 2n)).toBe(isRight ? 'H_PARAMETER' : 'H_SUCCESS')
    expect(get(world, 0x3fff_f000n)).toBe(isRight ? 3n : 0n)
  })

  it('T5: a list is held against its form before its place', () => {
    const world = withT2()
    expect(indirect(world, { npages: 513n }).rule).toBe('too-many')
    expect(indirect(world, { list: 0x1800n }).rule).toBe('list-unaligned')
    expect(indirect(world, { liobn: 99n, npages: 513n })).toMatchObject({
      code: 'H_TOO_HARD',
      rule: 'liobn-unknown',
    })
    expect(indirect(world, { list: 0x5_0000_0000n })).toMatchObject({
      code: 'H_TOO_HARD',
      rule: 'list-outside-ram',
    })
    expect(stuff(world, 0n, 1n, 1n)).toBe('H_PARAMETER')
  })

  it('T8: a TCE that is not aligned goes to user space', () => {
    const world = withAttached({ profile }, { liobn: L, ...WIDE })
    expect(put(world, 0n, 0x50_1003n)).toMatchObject({ code: 'H_TOO_HARD', rule: 'tce-unaligned' })
    expect([world.hw.live(), world.mapped(), get(world, 0n)]).toEqual([[], 1, 0n])
  })

  it('T17: half a page is cleared, and kernels keep the counts (X5)', () => {
    const world = withAttached({ profile, registeredBytes: 0x58_0000n }, { liobn: L, ...WIDE })
    expect(put(world, 0x10_0000n, 0x50_0003n)).toMatchObject({ code: 'H_TOO_HARD', rule: 'table-refused' })
    expect([world.hw.live(), get(world, 0x10_0000n)]).toEqual([[], 0n])
    expect(world.mapped()).toBe(profile === 'intended' ? 1 : 9)
  })

  it('T18: poison in a list unmaps, and kernels count it as a mapping (X2)', () => {
    const world = withAttached({ profile }, { liobn: L, ...WIDE })
    poke(world, UA + LIST, new Uint8Array(8))
    expect(put(world, 0n, 0x10_0003n).code).toBe('H_SUCCESS')
    expect(world.mapped()).toBe(17)
    expect(indirect(world, {}).code).toBe('H_SUCCESS')
    expect([get(world, 0n), world.mapped()]).toEqual([0n, profile === 'intended' ? 1 : 17])
    expect(world.hw.live().filter(([, , dir]) => dir !== 0)).toEqual([])
  })
})

it('T8: in real mode of 5.18 it is answered, where the page of the table is there', () => {
  const world = withAttached({ profile: 'linux-5.18' }, { liobn: L, page_shift: 16n })
  world.call(kvm.KVM_PPC_CONFIGURE_V3_MMU, { fd: world.vm })
  expect(put(world, 0n, 3n).code).toBe('H_SUCCESS')
  expect(put(world, PAGE, 0x5003n)).toMatchObject({ code: 'H_PARAMETER', rule: 'tce-unaligned-real' })
})
