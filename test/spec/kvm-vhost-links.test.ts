import { describe, expect, it } from 'vitest'
import { hex } from '../../src/bits/u64.ts'
import { KVM_H_PUT_TCE, KVM_H_PUT_TCE_INDIRECT, KVM_H_STUFF_TCE } from '../../src/kernel/kvm/hcall-calls.ts'
import type { LinkedVhost } from '../../src/kernel/ports.ts'
import { VHOST_REMEDIES, type VhostRemedy } from '../../src/kernel/vhost-remedy.ts'
import { LIOBN, withTable } from '../support/kvm.ts'
import { PAGE, UA } from '../support/vfio.ts'
import { poke } from '../support/vfio-rows.ts'

const OTHER_LIOBN = LIOBN + 1n
const LIST = 0x9_0000n

/** A table of 4 KiB pages and another one, three vhost devices: two behind the first, one behind the other. */
function linked(vhostRemedy?: VhostRemedy, profile = 'intended') {
  const world = withTable({ profile, ...(vhostRemedy && { vhostRemedy }) })
  world.table({ liobn: OTHER_LIOBN })
  const told: string[] = []
  const device = (name: string): LinkedVhost => ({
    name,
    forget: (iova, bytes) => told.push(`${name} forgets ${hex(iova)} ${hex(bytes)}`),
    signal: (liobn) => told.push(`${name} signalled ${hex(liobn)}`),
  })
  const port = world.kvm.vhosts.portOf(world.qemu.mm)
  const devices = [device('net0'), device('net1'), device('net2')] as const
  port.opened(devices[0], Number(LIOBN))
  port.opened(devices[1], Number(LIOBN))
  port.opened(devices[2], Number(OTHER_LIOBN))
  const said = (step: () => unknown): string[] => {
    told.length = 0
    step()
    return [...told]
  }
  const put = (ioba: bigint, tce: bigint, liobn = LIOBN) => world.call(KVM_H_PUT_TCE, { liobn, ioba, tce })
  const stuff = (ioba: bigint, npages: bigint, value = 0n) =>
    world.call(KVM_H_STUFF_TCE, { liobn: LIOBN, ioba, value, npages })
  const indirect = (ioba: bigint, tces: readonly bigint[]) => {
    const bytes = new Uint8Array(tces.length * 8)
    tces.forEach((tce, i) => {
      new DataView(bytes.buffer).setBigUint64(i * 8, tce)
    })
    poke(world, UA + LIST, bytes)
    return world.call(KVM_H_PUT_TCE_INDIRECT, {
      liobn: LIOBN,
      ioba,
      list: LIST,
      npages: BigInt(tces.length),
    })
  }
  return { ...world, port, devices, device, said, put, stuff, indirect }
}

/** What each step makes KVM tell: a page is mapped, overwritten, taken back; a list; a stuff. */
const story = ({ said, put, stuff, indirect }: ReturnType<typeof linked>) => ({
  map: said(() => put(0x3000n, 0x5003n)),
  overwrite: said(() => put(0x3000n, 0x6003n)),
  clear: said(() => put(0x3000n, 0n)),
  list: said(() => indirect(0x10000n, [0x5003n, 0x6003n])),
  listThatClears: said(() => indirect(0x10000n, [0x7003n, 0x5000n])),
  stuff: said(() => stuff(0x10000n, 2n)),
  poison: said(() => stuff(0x10000n, 1n, 0xdead_000n)),
})
const both = (text: string) => [`net0 ${text}`, `net1 ${text}`]
const all = (text: string) => [...both(text), `net2 ${text}`]
const SILENT = {
  map: [],
  overwrite: [],
  clear: [],
  list: [],
  listThatClears: [],
  stuff: [],
  poison: [],
}

const TOLD: Record<VhostRemedy, ReturnType<typeof story>> = {
  none: SILENT,
  userspace: SILENT,
  // What these leave to user space is told there.
  'stuff-too-hard': SILENT,
  'h-too-hard': SILENT,
  'kill-hook': {
    map: both('forgets 0x3000 0x1000'),
    overwrite: both('forgets 0x3000 0x1000'),
    clear: both('forgets 0x3000 0x1000'),
    list: both('forgets 0x10000 0x2000'),
    listThatClears: both('forgets 0x10000 0x2000'),
    stuff: both('forgets 0x10000 0x2000'),
    poison: both('forgets 0x10000 0x1000'),
  },
  eventfd: {
    ...SILENT,
    clear: both('signalled 0x80000001'),
    listThatClears: both('signalled 0x80000001'),
    stuff: both('signalled 0x80000001'),
    poison: both('signalled 0x80000001'),
  },
  'mm-list': {
    ...SILENT,
    clear: all('forgets 0x3000 0x1000'),
    listThatClears: all('forgets 0x10000 0x2000'),
    stuff: all('forgets 0x10000 0x2000'),
    poison: all('forgets 0x10000 0x1000'),
  },
}

describe('what KVM does for vhost when a hypercall writes entries', () => {
  it.each(VHOST_REMEDIES)('remedy %s', (remedy) => {
    expect(story(linked(remedy))).toEqual(TOLD[remedy])
  })

  it('is nothing in kernels (B8), and kill-hook where nothing is wrong', () => {
    expect(story(linked(undefined, 'linux-6.1'))).toEqual(TOLD.none)
    expect(story(linked(undefined, 'linux-4.12'))).toEqual(TOLD.none)
    expect(story(linked())).toEqual(TOLD['kill-hook'])
    expect(story(linked('eventfd', 'linux-6.1'))).toEqual(TOLD.eventfd)
  })

  it('a call that is refused, or writes nothing, tells nobody', () => {
    const { said, put, stuff } = linked('kill-hook')
    expect(said(() => [put(0x3000n, 7n), put(1n << 40n, 0n), stuff(0n, 0n)])).toEqual([])
  })

  it('the range counts from bus address 0, in pages of the table', () => {
    const world = linked('kill-hook')
    const liobn = OTHER_LIOBN + 1n
    world.table({ liobn, page_shift: 16n, offset: 1n << 43n })
    world.port.opened(world.devices[0], Number(liobn))
    expect(world.said(() => world.put((1n << 59n) + 0x2_0000n, PAGE | 3n, liobn))).toEqual([
      'net0 forgets 0x800000000020000 0x10000',
    ])
  })

  it('a device that has gone from a window is told nothing of it, one of another process never', () => {
    const { port, said, put, kvm, devices, device, processes } = linked('mm-list')
    port.closed(devices[1], Number(LIOBN))
    port.closed(devices[2], Number(LIOBN))
    const other = processes.spawn('other', { memlockBytes: 0n, hasIpcLock: false })
    kvm.vhosts.portOf(other.mm).opened(device('strange'), Number(LIOBN))
    expect(said(() => put(0x3000n, 0n))).toEqual(['net0 forgets 0x3000 0x1000', 'net2 forgets 0x3000 0x1000'])
  })
})
