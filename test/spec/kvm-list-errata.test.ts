import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import { KVM_PPC_CONFIGURE_V3_MMU, KVM_SET_USER_MEMORY_REGION } from '../../src/kernel/kvm/calls.ts'
import { KVM_H_PUT_TCE_INDIRECT } from '../../src/kernel/kvm/hcall-calls.ts'
import { LOCKED_WARNING } from '../../src/kernel/kvm/kvm-vm.ts'
import { PROC_EXIT } from '../../src/memory/proc-calls.ts'
import { eventsOf } from '../support/host.ts'
import { GUEST_BYTES, LIOBN, withAttached, withTable } from '../support/kvm.ts'
import { PAGE, UA } from '../support/vfio.ts'
import { poke } from '../support/vfio-rows.ts'

const LIST = 0x9_0000n
/** No permissions, and no address of the guest. */
const POISON = GUEST_BYTES

type World = ReturnType<typeof withTable>

function indirect(world: World, tces: readonly bigint[]) {
  const bytes = new Uint8Array(tces.length * 8)
  tces.forEach((tce, i) => {
    new DataView(bytes.buffer).setBigUint64(i * 8, tce)
  })
  poke(world, UA + LIST, bytes)
  const npages = BigInt(tces.length)
  return world.call(KVM_H_PUT_TCE_INDIRECT, { liobn: LIOBN, ioba: 0n, list: LIST, npages })
}
/** The VMM changes the memory of its VM. */
const change = (world: World, more: Record<string, Value> = {}) =>
  world.call(KVM_SET_USER_MEMORY_REGION, {
    fd: world.vm,
    slot: 1n,
    gpa: 1n << 32n,
    bytes: PAGE,
    vaddr: UA,
    ...more,
  })

describe('B5: a list is looked at one by one', () => {
  it.each([
    ['linux-4.19', 3],
    ['early-tce-checks', 1],
    ['linux-4.20', 1],
    ['intended', 1],
  ])('with %s the region counts %i', (profile, mapped) => {
    const world = withAttached({ profile })
    const answer = indirect(world, [3n, PAGE | 3n, 0x1003n, 3n])
    expect(answer.code).toBe(
      profile === 'linux-4.20' || profile === 'intended' ? 'H_TOO_HARD' : 'H_PARAMETER',
    )
    expect([world.mapped(), world.hw.live().length]).toEqual([mapped, mapped - 1])
    expect(world.tces(0n, 4n)).toEqual(mapped === 3 ? [3n, PAGE | 3n, 0n, 0n] : [0n, 0n, 0n, 0n])
  })

  it('where caches are told at the end (B2), they are told of what was written', () => {
    const world = withAttached({ profile: 'B2,B5,early-tce-checks' })
    world.hw.kills.length = 0
    indirect(world, [3n, 0x1003n])
    expect(world.hw.kills).toEqual([[0, 2]])
  })
})

describe('B6: the lock of the slots stays held', () => {
  it.each([
    ['linux-4.14.141', true],
    ['linux-4.14.142', false],
    ['linux-4.19.69', true],
    ['linux-4.19.70', false],
    ['linux-5.2.11', true],
    ['linux-5.2.12', false],
    ['linux-5.3', false],
  ])('with %s: %s', (profile, isHeld) => {
    const world = withTable({ profile })
    expect(indirect(world, [3n, POISON])).toMatchObject({ code: 'H_PARAMETER', rule: 'poison-outside-ram' })
    expect(change(world)).toMatchObject(isHeld ? { state: 'dead' } : { rule: 'done' })
  })

  it('by any address outside memory where a list is looked at one by one', () => {
    const world = withTable({ profile: 'linux-4.19' })
    expect(indirect(world, [POISON | 3n]).rule).toBe('tce-outside-ram-early')
    expect(change(world).state).toBe('dead')
  })

  it('by no other refusal', () => {
    const world = withTable({ profile: 'linux-5.2' })
    expect([indirect(world, [7n]).rule, indirect(world, [POISON | 3n]).rule, change(world).rule]).toEqual([
      'tce-unaligned',
      'tce-outside-ram',
      'done',
    ])
    const early = withTable({ profile: 'linux-4.19' })
    expect([indirect(early, [7n]).rule, change(early).rule]).toEqual(['tce-unaligned-early', 'done'])
  })

  it('who changes, moves or takes away a slot waits; who changes nothing does not', () => {
    const wait = (more: Record<string, Value>) => {
      const world = withTable({ profile: 'X2,B6' })
      indirect(world, [POISON])
      return change(world, { slot: 0n, gpa: 0n, bytes: GUEST_BYTES, ...more })
    }
    expect(wait({}).rule).toBe('same')
    expect(wait({ bytes: PAGE }).rule).toBe('reshaped')
    expect([wait({ bytes: 0n }).state, wait({ gpa: 1n << 32n }).state]).toEqual(['dead', 'dead'])
  })

  it('a VM that goes leaves a warning', () => {
    const warnings = (tce: bigint) => {
      const world = withTable({ profile: 'linux-5.2' })
      indirect(world, [tce])
      world.call(PROC_EXIT)
      return eventsOf(world, 'warning').map((e) => ('text' in e ? e.text : ''))
    }
    expect([warnings(POISON), warnings(3n)]).toEqual([[LOCKED_WARNING], []])
  })

  it('a hash guest: real mode holds none where the list is preregistered, else the model does not know', () => {
    const hash = <W extends World>(world: W): W => {
      world.call(KVM_PPC_CONFIGURE_V3_MMU, { fd: world.vm })
      return world
    }
    const registered = hash(withAttached({ profile: 'linux-5.2' }))
    // Real mode needs the page of the table; virtual mode, which makes it, begins.
    expect([indirect(registered, [3n]).rule, indirect(registered, [POISON]).rule]).toEqual([
      'done',
      'poison-outside-ram',
    ])
    expect(change(registered).rule).toBe('done')
    const plain = hash(withTable({ profile: 'linux-5.2' }))
    expect([indirect(plain, [3n]).rule, indirect(plain, [POISON]).state]).toEqual(['done', 'unmodelled'])
    const missing = hash(withTable({ profile: 'linux-5.2' }))
    expect([indirect(missing, [POISON]).rule, change(missing).state]).toEqual(['poison-outside-ram', 'dead'])
  })

  it('goes back with the machine', () => {
    const world = withTable({ profile: 'linux-5.2', journal: true })
    const mark = world.journal.mark()
    const before = world.journal.hash
    indirect(world, [POISON])
    expect(world.journal.hash).not.toBe(before)
    world.journal.rollback(mark)
    expect([world.journal.hash, change(world).rule]).toEqual([before, 'done'])
  })
})
