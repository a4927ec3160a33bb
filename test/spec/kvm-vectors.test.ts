import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import {
  KVM_H_GET_TCE,
  KVM_H_PUT_TCE,
  KVM_H_PUT_TCE_INDIRECT,
  KVM_H_STUFF_TCE,
} from '../../src/kernel/kvm/hcall-calls.ts'
import { CLOSE } from '../../src/kernel/vfio/calls.ts'
import { withGuest } from '../support/kvm.ts'

/*
 * The vectors of the specification for KVM, as calls, with and without what kernels do otherwise:
 *
 * | vector          | what                                  | where                                             |
 * |-----------------|---------------------------------------|---------------------------------------------------|
 * | T1, T2          | making a table, its charge            | here; every rule in kvm-vm.test.ts                |
 * | T3, T4, T5      | poison, bounds, order of checks       | here; every rule in kvm-hcalls.test.ts            |
 * | T6, T7, T17     | 256 entries, counts, a half page      | kvm-vectors-s1; by steps in kvm-table-updates     |
 * | T8              | a TCE that is not aligned             | kvm-vectors-s1, real mode included                |
 * | T9 (B1)         | real mode and a missing level         | kvm-vectors-s1, kvm-table-updates, kvm-hcalls     |
 * |                 |                                       | (window at 0), scenario                           |
 * |                 |                                       | host-memory-corruption-real-mode                  |
 * | T10 (B3)        | kills of H_STUFF_TCE                  | kvm-vectors-s1; scenario b3-kills-behind-range    |
 * | T18 (X2)        | poison in a list                      | kvm-vectors-s1; scenario x2-poison-is-mapped      |
 */

const KERNELS = ['linux-6.1', 'linux-6.12.95'] as const
const PROFILES = ['intended', ...KERNELS] as const
const L = 0x8000_0000n
const LIST = 0x9_0000n

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
})
