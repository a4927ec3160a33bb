import { describe, expect, it } from 'vitest'
import type { Answer } from '../../src/bits/answer.ts'
import type { PowernvInput } from '../../src/machine/powernv/description.ts'
import type { GuestInput } from '../../src/machine/powernv/guest-description.ts'
import { GUEST_BYTES, GUEST_UA, LIOBN, makeVmm, startedVmm } from '../support/vmm.ts'

const DDW = LIOBN + 1n
const NO_KVM = { hasKvm: false } as const
const LOST = 'vfio: DMA mapping failed, unable to continue'
const CREATE = 'VFIO_IOMMU_SPAPR_TCE_CREATE'
const levelsOf = ({ layers }: Answer): string[] => layers.map(({ layer, code }) => `${layer} ${code}`)

describe('a window of the guest, and the window of the host behind it', () => {
  /** What comes of a second window, which the guest asks for: calls of VFIO and KVM, and what QEMU prints. */
  function second(
    pageShift: bigint,
    windowShift: bigint,
    guest: GuestInput = {},
    host: Partial<PowernvInput> = {},
  ) {
    const world = startedVmm(guest, host)
    expect(world.started.rule).toBe('done')
    let answer: Answer | undefined
    const calls = world.callsOf(() => {
      answer = world.createWindow(pageShift, windowShift)
    })
    return { ...world, calls, answer: answer as Answer }
  }

  it('come together, and KVM puts one behind the other', () => {
    expect(second(16n, 30n).calls).toEqual([
      'KVM_CREATE_SPAPR_TCE_64 done',
      'mmap_tce done',
      `${CREATE} done`,
      'KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE done',
      'ibm,create-pe-dma-window done',
    ])
  })

  it('go together: all is unmapped, then VFIO takes its window, then KVM its table', () => {
    const { callsOf, removeWindow } = second(16n, 30n)
    expect(callsOf(() => removeWindow(DDW))).toEqual([
      'VFIO_IOMMU_UNMAP_DMA done',
      'VFIO_IOMMU_SPAPR_TCE_REMOVE done',
      'munmap_device done',
      'close done',
      'ibm,remove-pe-dma-window done',
    ])
  })

  // In the order of the checks; each input meets the refusals of later rows too, or would.
  it('smaller than a system page is none for VFIO', () => {
    const { calls, answer } = second(12n, 12n)
    expect([answer.rule, calls.includes(`${CREATE} done`)]).toEqual(['done', false])
  })

  it('without a page size of the host QEMU aborts', () => {
    const small = { platform: 'PHB4', pageShifts: [16] } as const
    const { started, judge } = startedVmm({}, { phbs: [{ ...small, pes: [{}] }] })
    expect(started).toMatchObject({ state: 'dead', rule: LOST })
    expect(started.warnings).toEqual([
      "Host doesn't support page size 0x1000, the supported mask is 0x10000",
      'Failed to create SPAPR window: Invalid argument',
      `qemu: hardware error: ${LOST}`,
    ])
    expect(judge.findings.map((f) => f.rule)).toEqual(['stopped'])
  })

  it('for a group that is plugged in neither: QEMU aborts on its way back', () => {
    const small = { platform: 'PHB4', pageShifts: [16] } as const
    const world = startedVmm({ phbs: [{}] }, { phbs: [{ ...small, pes: [{}] }] })
    const { state, warnings } = world.vmm('device_add', { group: 0n })
    expect([state, warnings]).toEqual([
      'dead',
      [
        "Host doesn't support page size 0x1000, the supported mask is 0x10000",
        'VFIO_UNMAP_DMA failed: No such device or address',
        'vfio_dma_unmap(container, 0x0, 0x40000000) = -6 (No such device or address)',
        'Failed to remove window at 0',
        'qemu: hardware error: vfio_listener_region_del: Cannot delete missing window at 0',
      ],
    ])
  })

  it('is tried with more and more levels; what the last try is refused with is printed, and QEMU aborts', () => {
    const tight = { processes: [{ name: 'qemu', memlockBytes: 400n << 16n }] }
    const { calls, answer, put } = second(16n, 36n, NO_KVM, tight)
    expect(calls.filter((call) => call.startsWith(CREATE))).toEqual([
      `${CREATE} limit`,
      `${CREATE} limit`,
      `${CREATE} limit`,
    ])
    expect(answer.warnings).toEqual([
      'Failed to create a window, ret = -1 (Cannot allocate memory)',
      'Failed to create SPAPR window: Cannot allocate memory',
      `qemu: hardware error: ${LOST}`,
    ])
    expect(answer.state).toBe('dead')
    expect(put(0n, 3n)).toMatchObject({ state: 'dead', rule: LOST })
  })

  it('that the host has elsewhere is given back, and QEMU aborts', () => {
    const world = startedVmm()
    world.removeWindow(LIOBN)
    // Somebody else takes window 0 of the container, so the next one comes at 1 << 59.
    const taken = world.ioctl(CREATE, { fd: 7n, page_shift: 16n, window_bytes: 1n << 30n, levels: 1n })
    expect(taken.outputs['start_addr']).toBe(0n)
    const { state, warnings } = world.createWindow(16n, 30n)
    expect(warnings).toEqual([
      "Host doesn't support DMA window at 0, must be 800000000000000",
      'Failed to create SPAPR window: Invalid argument',
      `qemu: hardware error: ${LOST}`,
    ])
    expect(state).toBe('dead')
  })

  it('of a PHB without devices of the host has none behind it', () => {
    const { calls } = second(16n, 30n, { phbs: [{ name: 'a' }, { name: 'b', groups: [0] }] })
    expect(calls).toEqual(['KVM_CREATE_SPAPR_TCE_64 done', 'mmap_tce done', 'ibm,create-pe-dma-window done'])
  })

  it('meets another where QEMU places it blindly (Q8): what VFIO then sees is not known', () => {
    const world = startedVmm()
    world.createWindow(16n, 30n)
    world.removeWindow(LIOBN)
    const seen = world.during(['unmodelled'], () => world.createWindow(16n, 30n))
    expect(seen).toHaveLength(1)
  })
})

describe('a table that KVM does not have', () => {
  it('is kept by QEMU, which says so; and SET_SPAPR_TCE of no table leaves the device without mappings', () => {
    const found: string[] = []
    for (let alloc = 1; alloc < 60 && found.length === 0; alloc++) {
      const world = makeVmm({}, { inject: { alloc } })
      const { warnings, rule } = world.vmm('start')
      if (rule !== 'done' || warnings[0]?.startsWith('KVM: Failed to create TCE64') !== true) continue
      found.push(...warnings)
      const put = world.put(0x1000n, 0x2_0003n)
      expect(levelsOf(put)).toEqual(['kvm H_TOO_HARD', 'qemu H_SUCCESS'])
      expect(put.warnings).toEqual([])
      world.write(0x2_0000n, 'hello')
      expect(world.read(0x1000n).outputs['moved']).toBe(0n)
    }
    expect(found).toEqual([
      'KVM: Failed to create TCE64 table for liobn 0x80000000',
      'vfio: failed to setup fd -1 for a group with fd 6: Bad file descriptor',
    ])
  })

  it('before Linux 4.12 moves to user space when VFIO comes, and stays in KVM until then', () => {
    const world = startedVmm({ phbs: [{}] }, { profile: 'no-tce-vfio' })
    world.put(0x1000n, 0x2_0003n)
    expect(levelsOf(world.get(0x1000n))).toEqual(['kvm H_SUCCESS'])
    const calls: string[] = []
    const moved = world.during(['window.move'], () => {
      calls.push(...world.callsOf(() => world.vmm('device_add', { group: 0n })))
    })
    expect(moved).toHaveLength(1)
    expect(calls.filter((call) => /TCE_64|munmap/.test(call))).toEqual(['munmap_device done'])
    const got = world.get(0x1000n)
    expect(levelsOf(got)).toEqual(['kvm H_TOO_HARD', 'qemu H_SUCCESS'])
    expect(got.outputs['tce']).toBe(0x2_0003n)
    world.write(0x2_0000n, 'hello')
    expect(world.read(0x1000n).outputs['data']).toBe('hello')
  })
})

describe('VFIO v1, which has one window', () => {
  const P7 = {
    profile: 'v1-kernel-tables',
    phbs: [{ platform: 'P7IOC', pes: [{ devices: [{ name: 'nic0', kind: 'edu' }] }] }],
  } as const
  const FITS = { phbs: [{ groups: [0], windowBytes: 1n << 28n }] } as const

  it('a larger window of the guest does not fit: QEMU aborts', () => {
    const { started } = startedVmm({}, P7)
    expect(started.warnings).toEqual([
      "Container can't map guest IOVA region 0x0..0x3fffffff",
      `qemu: hardware error: ${LOST}`,
    ])
  })

  it('takes over where v2 is refused, and its memory is not registered', () => {
    const world = makeVmm(FITS, P7)
    const calls = world.callsOf(() => world.vmm('start'))
    expect(
      calls.filter((call) => /SET_IOMMU|IOMMU_ENABLE|REGISTER|IOMMU_SPAPR_TCE_CREATE/.test(call)),
    ).toEqual([
      expect.stringMatching(/^VFIO_SET_IOMMU (?!done)/),
      'VFIO_SET_IOMMU done',
      'VFIO_IOMMU_ENABLE done',
    ])
  })

  it('whose answer the model does not know is no answer of QEMU', () => {
    const { started } = startedVmm(FITS, { ...P7, profile: 'intended' })
    expect([started.state, started.warnings]).toEqual(['unmodelled', []])
  })

  // QEMU keeps the table in KVM because KVM could put tables behind it, and only does that for v2.
  it.each([
    ['v1-kernel-tables+no-tce-vfio', ['kvm H_TOO_HARD', 'qemu H_SUCCESS'], 5n],
    ['v1-kernel-tables', ['kvm H_SUCCESS'], 0n],
  ])('with %s hypercalls are answered by %j, and the device moves %i bytes', (profile, levels, moved) => {
    const world = startedVmm(FITS, { ...P7, profile })
    world.write(0x2_0000n, 'hello')
    expect(levelsOf(world.put(0x1000n, 0x2_0003n))).toEqual(levels)
    expect(world.read(0x1000n).outputs['moved']).toBe(moved)
  })
})

describe('levels of an answer', () => {
  const HASH = { profile: 'linux-5.17', phbs: [{ platform: 'PHB3', pes: [{}] }] } as const

  it('of a hash guest on POWER8: real mode, virtual mode, user space, each with its rule', () => {
    const world = startedVmm({}, HASH)
    // The listener has read the whole table, so all its pages are there.
    expect(world.put(0x1000n, 0x2_0003n)).toMatchObject({ layer: 'kvm-real', code: 'H_SUCCESS' })
    expect(levelsOf(world.put(0x2000n, 0x200_0003n))).toEqual([
      'kvm-real H_TOO_HARD',
      'kvm H_TOO_HARD',
      'qemu H_SUCCESS',
    ])
    expect(world.put(0x2000n, 0x200_0003n).layers.map((l) => l.rule)).toEqual([
      'tce-outside-ram',
      'tce-outside-ram',
      'done',
    ])
  })

  it('stand in the records, the last one where the guest goes on', () => {
    const world = startedVmm({}, HASH)
    const said = (tce: bigint) =>
      world
        .during(['call.return'], () => world.put(0x2000n, tce))
        .flatMap((e) => (e.kind === 'call.return' && e.call === 'H_PUT_TCE' ? [`${e.layer} ${e.rule}`] : []))
    expect(said(0x2_0003n)).toEqual(['kvm-real done'])
    expect(said(0x200_0003n)).toEqual(['kvm-real tce-outside-ram', 'kvm tce-outside-ram', 'qemu done'])
  })

  it('of a window that was just made begin in virtual mode: nobody has touched its table', () => {
    const world = startedVmm({}, HASH)
    world.createWindow(16n, 30n)
    const at = 1n << 59n
    expect(levelsOf(world.stuff(at, 1n, 1n, DDW))).toEqual(['kvm H_PARAMETER'])
    expect(levelsOf(world.put(at, 0x2_0003n, DDW))).toEqual(['kvm H_SUCCESS'])
    expect(levelsOf(world.put(at, 0x3_0003n, DDW))).toEqual(['kvm-real H_SUCCESS'])
    expect(levelsOf(world.stuff(at, 1n, 1n, DDW))).toEqual(['kvm-real H_PARAMETER'])
  })

  it.each([
    ['an IOBA inside a page', 0x800n, 3n, ['kvm-real H_PARAMETER']],
    ['an IOBA past the window', 1n << 30n, 3n, ['kvm-real H_PARAMETER']],
  ])('%s is refused at once', (_, ioba, tce, levels) => {
    expect(levelsOf(startedVmm({}, HASH).put(ioba, tce))).toEqual(levels)
  })

  it('without KVM are one', () => {
    expect(levelsOf(startedVmm(NO_KVM).put(0x1000n, 3n))).toEqual(['qemu H_SUCCESS'])
  })

  it('are for the VM that QEMU runs, not for others of its process', () => {
    const world = startedVmm()
    const vm = world.ioctl('KVM_CREATE_VM', { fd: 3n, type: 0n }).outputs['fd'] as bigint
    const vcpu = world.ioctl('KVM_CREATE_VCPU', { fd: vm, id: 0n }).outputs['fd'] as bigint
    const args = { vcpu, liobn: LIOBN, ioba: 0n, tce: 0n }
    expect(levelsOf(world.perform('hcall', 'H_PUT_TCE', args))).toEqual(['kvm H_TOO_HARD'])
  })
})

describe('entries that KVM writes', () => {
  it('are in the records of the window, as runs, and listeners hear nothing', () => {
    const world = startedVmm()
    world.write(0x1000n, 'hex: 0000000000020003 0000000000021003 0000000000022003')
    const list = { liobn: LIOBN, ioba: 0x1000n, list: 0x1000n, npages: 3n }
    const events = world.during(['tce.set', 'iommu.notify'], () =>
      world.perform('hcall', 'H_PUT_TCE_INDIRECT', list),
    )
    expect(events).toMatchObject([{ kind: 'tce.set', first: 1, count: 3, tce: 0x2_0003n, step: 12 }])
    const put = world.during(['tce.set', 'iommu.notify'], () => world.put(0x5000n, 0x2_0001n))
    expect(put).toMatchObject([{ kind: 'tce.set', first: 5, count: 1, tce: 0x2_0001n }])
    const cleared = world.during(['tce.set'], () => world.stuff(0x1000n, 0n, 3n))
    expect(cleared).toMatchObject([{ first: 1, count: 3, tce: 0n }])
  })

  it('past the window (X14) are found', () => {
    const world = startedVmm({}, { profile: 'linux-6.12.95' })
    world.stuff((1n << 30n) - 0x1000n, 0n, 2n)
    expect(world.judge.findings.map((f) => f.rule)).toContain('out-of-table')
  })

  it('and those that QEMU writes are the same entries', () => {
    const world = startedVmm()
    world.put(0x1000n, 0x2_0003n)
    world.put(0x2000n, 0x2_0103n)
    const read = world.proc('read_tce', { map: 'tce-0x80000000-fd10', first: 1n, count: 2n })
    expect(read.outputs['tces']).toEqual([0x2_0003n, 0x2_0103n])
    world.proc('write_tce', { map: 'tce-0x80000000-fd10', entry: 3n, tce: 0x77n })
    expect(world.get(0x3000n).outputs['tce']).toBe(0x77n)
  })
})

describe('a kernel whose allocations fail, one in each run', () => {
  /** A life of a guest; what QEMU prints first, and what is found at the end. */
  function live(alloc?: number) {
    const world = makeVmm({}, alloc === undefined ? {} : { inject: { alloc } })
    const steps = [
      () => world.vmm('start'),
      () => world.put(0x1000n, 0x2_0003n),
      () => world.createWindow(16n, 30n),
      () => world.put(1n << 59n, 0x2_0103n, DDW),
      () => world.vmm('device_del', { group: 0n }),
      () => world.vmm('device_add', { group: 0n }),
      () => world.stuff(0x1000n, 0n, 1n),
      () => world.proc('exit'),
    ]
    const said = steps.flatMap((step) => step().warnings)
    world.machine.log.emit('run.end', null, { settled: 1 })
    world.judge.finish()
    return { said, found: [...new Set(world.judge.findings.map((f) => f.rule))] }
  }

  it('leaves nothing behind: QEMU goes on, ends, or aborts', () => {
    expect(live()).toEqual({ said: [], found: [] })
    const ways = new Set<string>()
    for (let alloc = 1; alloc <= 60; alloc++) {
      const { said, found } = live(alloc)
      const hasAborted = said.some((text) => text.startsWith('qemu: hardware') || text.startsWith('kvm_set'))
      // A page of a mapped table that has no memory is SIGBUS at best.
      const rest = found.filter((rule) => rule !== 'unmodelled')
      expect([alloc, rest]).toEqual([alloc, hasAborted ? ['stopped'] : []])
      if (said[0] !== undefined) ways.add(said[0])
    }
    const group = 'vfio 0000:01:00.0: failed to setup container for group 0:'
    expect([...ways].sort()).toEqual([
      // v2 was refused, so QEMU took v1, which has one window.
      "Container can't map guest IOVA region 0x800000000000000..0x80000003fffffff",
      'Could not access KVM kernel module: Cannot allocate memory',
      'Failed to add group 0 to KVM VFIO device: Cannot allocate memory',
      'Failed to create KVM VFIO device: Cannot allocate memory',
      'KVM: Failed to create TCE64 table for liobn 0x80000000',
      'ioctl(KVM_CREATE_VM) failed: 12 Cannot allocate memory',
      'kvm_init_vcpu: kvm_get_vcpu failed (0): Cannot allocate memory',
      'kvm_set_user_memory_region: KVM_SET_USER_MEMORY_REGION failed, slot=0, start=0x0, size=0x1000000: Cannot allocate memory',
      'vfio 0000:01:00.0: error getting device from group 0: Cannot allocate memory',
      'vfio 0000:01:00.0: failed to open /dev/vfio/0: Cannot allocate memory',
      `${group} RAM memory listener initialization failed: Memory registering failed: Operation not permitted`,
      `${group} failed to open /dev/vfio/vfio: Cannot allocate memory`,
      'vfio: failed to setup fd 10 for a group with fd 6: Cannot allocate memory',
    ])
  })
})

it('memory that is registered by hand keeps QEMU from starting', () => {
  const world = makeVmm({ phbs: [{ groups: [0] }] })
  world.proc('mmap', { address: GUEST_UA, bytes: GUEST_BYTES, fixed: true })
  world.proc('open', { path: '/dev/vfio/0' })
  const { rule, warnings } = world.vmm('start')
  expect([rule, warnings]).toEqual([
    'setup-failed',
    ['vfio 0000:01:00.0: failed to open /dev/vfio/0: Device or resource busy'],
  ])
})
