import { describe, expect, it } from 'vitest'
import { PE_RESET } from '../../src/hw/pe-firmware.ts'
import { encodeStruct } from '../../src/kernel/user-struct.ts'
import {
  CLOSE,
  MMAP_DEVICE,
  VFIO_CHECK_EXTENSION,
  VFIO_GET_API_VERSION,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_SET_IOMMU,
} from '../../src/kernel/vfio/calls.ts'
import {
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_SPAPR_TCE_CREATE,
  VFIO_IOMMU_SPAPR_TCE_REMOVE,
} from '../../src/kernel/vfio/spapr-calls.ts'
import { STRUCTS } from '../../src/kernel/vfio/structs.ts'
import { makeEeh } from '../support/eeh.ts'
import { FakeGroup, kernelTableGroup } from '../support/fake-platform.ts'
import { testRules } from '../support/rule-table.ts'
import { attached, DEVICE, makeVfio, PAGE, registered, UA, type VfioWorld } from '../support/vfio.ts'
import { containerRows, fillFiles, groupRows, NO_FD, NOWHERE, poke } from '../support/vfio-rows.ts'

const V1 = 2n
const V2 = 7n
const EEH = 5n
const OLD = 'linux-6.1'
const FIRST = 'linux-4.2'
const READ_ONLY = 0x2000_0000n

const plain = (...tables: FakeGroup[]) => tables.map((table) => ({ table, devices: [DEVICE] }))
const refusing = (answers: FakeGroup['answers'], group = 0) => {
  const pe = new FakeGroup({ group })
  pe.answers = answers
  return pe
}

/** Groups one after the other into a container that has no driver yet, then its driver. */
function setLast(type: bigint, tables: readonly FakeGroup[], profile = 'intended', memlockBytes?: bigint) {
  const world = makeVfio({
    profile,
    groups: plain(...tables),
    ...(memlockBytes === undefined ? {} : { memlockBytes }),
  })
  const fd = world.container()
  for (const { group } of tables) {
    world.call(VFIO_GROUP_SET_CONTAINER, { fd: world.group(group), container: fd })
  }
  return { world, answer: world.call(VFIO_SET_IOMMU, { fd, type }) }
}

/** The first group alone with a driver; what the second is answered when it comes. */
function addLast(type: bigint, tables: readonly [FakeGroup, FakeGroup], profile = 'intended') {
  const world = makeVfio({ profile, groups: plain(...tables) })
  const fd = world.container()
  world.call(VFIO_GROUP_SET_CONTAINER, { fd: world.group(tables[0].group), container: fd })
  world.call(VFIO_SET_IOMMU, { fd, type })
  const second = world.group(tables[1].group)
  return {
    world,
    fd,
    second,
    answer: () => world.call(VFIO_GROUP_SET_CONTAINER, { fd: second, container: fd }),
  }
}

const other = (group: number) => new FakeGroup({ group, kind: 'other' })
const lent = (group: number) => kernelTableGroup(group)
const lentAnswering = (group: number, code: number) => {
  const { group: pe, table } = lent(group)
  table.claimAnswers = code
  return pe
}
const memlock = (pages: bigint) => pages * PAGE

describe('VFIO_GET_API_VERSION', () => {
  testRules(VFIO_GET_API_VERSION, {
    ...containerRows(VFIO_GET_API_VERSION),
    done: () => {
      const world = makeVfio()
      return [world.call(VFIO_GET_API_VERSION, { fd: world.container() })]
    },
  })
})

describe('VFIO_CHECK_EXTENSION', () => {
  const ask = (world: VfioWorld, fd: bigint, ...extensions: bigint[]) =>
    extensions.map((extension) => world.call(VFIO_CHECK_EXTENSION, { fd, extension }))
  testRules(VFIO_CHECK_EXTENSION, {
    ...containerRows(VFIO_CHECK_EXTENSION, { extension: 2n }),
    supported: () => {
      const world = attached()
      return [...ask(world, world.fd, 2n, 5n, 7n), ...ask(world, world.container(), 2n, 5n, 7n)]
    },
    unsupported: () => {
      const world = attached()
      return [...ask(world, world.fd, 0n, 1n, 3n, 8n, 1n << 32n), ...ask(world, world.container(), 1n, 9n)]
    },
  })
})

describe('VFIO_SET_IOMMU', () => {
  /** Like `setLast`, with the n-th allocation of the call failing; the container has nothing of a driver then. */
  const setFailing = (type: bigint, tables: readonly FakeGroup[], n: number, profile = 'intended') => {
    const world = makeVfio({ profile, journal: true, groups: plain(...tables) })
    const fd = world.container()
    for (const { group } of tables) {
      world.call(VFIO_GROUP_SET_CONTAINER, { fd: world.group(group), container: fd })
    }
    const before = world.journal.hash
    world.failAllocation(n)
    const answer = world.call(VFIO_SET_IOMMU, { fd, type })
    expect(world.journal.hash).toBe(before)
    expect(world.call(VFIO_IOMMU_SPAPR_TCE_REMOVE, { fd, start_addr: 0n }).rule).toBe('no-driver')
    return answer
  }
  const eager = (answers: FakeGroup['answers'], memlockBytes?: bigint) =>
    setLast(V2, [refusing(answers)], FIRST, memlockBytes).answer
  testRules(VFIO_SET_IOMMU, {
    ...containerRows(VFIO_SET_IOMMU, { type: V2 }),
    'no-group': () => {
      const world = makeVfio()
      return [V2, 1n].map((type) => world.call(VFIO_SET_IOMMU, { fd: world.container(), type }))
    },
    'driver-set': () => {
      const world = attached()
      return [V2, 1n].map((type) => world.call(VFIO_SET_IOMMU, { fd: world.fd, type }))
    },
    'type-unknown': () => [0n, 1n, 3n, 8n].map((type) => setLast(type, [new FakeGroup()]).answer),
    'type-is-extension': () => [
      setLast(EEH, [new FakeGroup()]).answer,
      // There is no memory for a driver either, and it is not asked for.
      setFailing(EEH, [new FakeGroup()], 1),
    ],
    'no-driver-record': () => [setFailing(V2, [new FakeGroup()], 1), setFailing(V1, [other(0)], 1, OLD)],
    'no-dynamic-windows': () => [
      setLast(V2, [new FakeGroup({ maxWindows: 0 })]).answer,
      setLast(V2, [lent(0).group]).answer,
    ],
    'one-group-only': () => [
      setLast(V1, [new FakeGroup(), new FakeGroup({ group: 1 })]).answer,
      setLast(V1, [new FakeGroup(), other(1)]).answer,
      setLast(V1, [lent(0).group, lent(1).group], OLD).answer,
    ],
    'groups-differ': () => [
      setLast(V2, [new FakeGroup(), other(1)]).answer,
      setLast(V2, [new FakeGroup(), other(1)], OLD).answer,
    ],
    'no-group-record': () => [
      setFailing(V2, [new FakeGroup()], 2),
      setFailing(V2, [new FakeGroup(), new FakeGroup({ group: 1 })], 3),
      setFailing(V2, [lent(0).group], 2, OLD),
      setFailing(V1, [new FakeGroup()], 2, OLD),
    ],
    'v2-without-windows': () => [setLast(V2, [lent(0).group], OLD).answer],
    'table-cannot-swap': () => [setLast(V1, [lentAnswering(0, -22)], OLD).answer],
    'table-in-use': () => [setLast(V1, [lentAnswering(0, -16)], OLD).answer],
    'v1-with-windows': () => [setLast(V1, [new FakeGroup()], OLD).answer],
    'default-window-refused': () => [
      setLast(V2, [new FakeGroup({ tce32Bytes: 0 })], FIRST).answer,
      setLast(V2, [new FakeGroup({ pageSizes: 0x10000n })], FIRST, 0n).answer,
    ],
    'default-window-limit': () => [eager({ createTable: -12 }, memlock(127n))],
    'default-window-memory': () => [eager({ createTable: -12, setWindow: -6 })],
    'default-window-firmware': () => [eager({ setWindow: -6 })],
    'no-window-link': () => [
      setLast(V2, [refusing({ setWindow: -12 }, 0), new FakeGroup({ group: 1 })], FIRST).answer,
    ],
    'firmware-refused': () => {
      // Before Linux 4.10 the second group finds the window that came with the first one.
      return [setLast(V2, [refusing({ setWindow: -6 }, 0), new FakeGroup({ group: 1 })], FIRST).answer]
    },
    done: () => [
      setLast(V2, [new FakeGroup()]).answer,
      setLast(V1, [new FakeGroup()]).answer,
      setLast(V2, [new FakeGroup(), new FakeGroup({ group: 1 })]).answer,
      setLast(V1, [lent(0).group], OLD).answer,
      setLast(V2, [new FakeGroup()], OLD).answer,
      setLast(V2, [new FakeGroup()], FIRST, memlock(128n)).answer,
    ],
  })

  it('knows no type 5 where EEH is off, and refuses it after the checks of the container', () => {
    const world = makeVfio({ eeh: null })
    const fd = world.container()
    expect(world.call(VFIO_SET_IOMMU, { fd, type: EEH }).rule).toBe('no-group')
    world.call(VFIO_GROUP_SET_CONTAINER, { fd: world.group(), container: fd })
    expect(world.call(VFIO_SET_IOMMU, { fd, type: EEH })).toMatchObject({
      rule: 'type-unknown',
      code: 'ENODEV',
    })
  })

  it('takes back what it attached, where a later group is refused', () => {
    const [good, bad] = [new FakeGroup(), refusing({ setWindow: -6 }, 1)]
    const { world, answer } = setLast(V2, [bad, good], FIRST)
    expect(answer.rule).toBe('firmware-refused')
    expect([good.isOwned, good.tables, world.qemu.mm.locked.pages]).toEqual([false, [null, null], 0n])
    expect(good.made[0]?.references).toBe(0)
  })

  it('takes the hardware with the driver before Linux 6.4, with the container since', () => {
    for (const [profile, before] of [
      ['linux-6.3', false],
      ['linux-6.4', true],
    ] as const) {
      const world = makeVfio({ profile })
      const fd = world.container()
      world.call(VFIO_GROUP_SET_CONTAINER, { fd: world.group(), container: fd })
      expect(world.pe.isOwned).toBe(before)
      world.call(VFIO_SET_IOMMU, { fd, type: V2 })
      expect(world.pe.isOwned).toBe(true)
    }
  })

  it('a code of firmware that the model does not know is not guessed', () => {
    expect(setLast(V2, [refusing({ setWindow: -7 })], FIRST).answer.state).toBe('unmodelled')
    expect(setLast(V1, [lent(0).group]).answer.state).toBe('unmodelled')
  })
})

describe('VFIO_GROUP_GET_STATUS', () => {
  const readOnly = () => {
    const world = makeVfio()
    world.mmap(READ_ONLY, PAGE)
    const arg = poke(world, READ_ONLY, encodeStruct(STRUCTS.groupStatus, { argsz: 8n }))
    world.qemu.mm.mprotect(READ_ONLY, PAGE, { read: true, write: false })
    return world.call(VFIO_GROUP_GET_STATUS, { fd: world.group(), arg })
  }
  const status = (world: VfioWorld, fd: bigint, argsz = 8n) =>
    world.call(VFIO_GROUP_GET_STATUS, { fd, argsz })
  testRules(VFIO_GROUP_GET_STATUS, {
    ...groupRows(VFIO_GROUP_GET_STATUS),
    'bad-pointer': () => {
      const { call, groupFd: fd } = attached()
      return [NOWHERE, UA + 256n * PAGE - 7n].map((arg) =>
        call(VFIO_GROUP_GET_STATUS, { fd, arg, argsz: 0n }),
      )
    },
    'argsz-short': () => {
      const world = attached()
      return [0n, 7n].map((argsz) => status(world, world.groupFd, argsz))
    },
    'pointer-not-writable': () => [readOnly()],
    done: () => {
      const world = makeVfio({
        groups: [
          { table: new FakeGroup(), devices: [DEVICE] },
          { table: new FakeGroup({ group: 1 }), devices: [], hasKernelDriver: true },
        ],
      })
      const [free, owned] = [world.group(0), world.group(1)]
      const answers = [status(world, free), status(world, owned, 9n)]
      world.call(VFIO_GROUP_SET_CONTAINER, { fd: free, container: world.container() })
      answers.push(status(world, free))
      expect(answers.map((a) => a.outputs['flags'])).toEqual([1n, 0n, 3n])
      return answers
    },
  })
})

describe('VFIO_GROUP_SET_CONTAINER', () => {
  const owned = (profile?: string) => {
    const table = refusing({ takeOwnership: -16 })
    const world = makeVfio({
      groups: [{ table, devices: [], hasKernelDriver: true }],
      ...(profile && { profile }),
    })
    return { world, fd: world.group() }
  }
  const wrong = (profile: string) => {
    const world = makeVfio({
      profile,
      groups: [{ table: new FakeGroup(), devices: [], hasKernelDriver: true }],
    })
    const fd = world.group()
    return world.call(VFIO_GROUP_SET_CONTAINER, { fd, container: fd })
  }
  /** The first group has an eager or lazy 32-bit window; the second is refused by what makes it. */
  const second = (tables: readonly [FakeGroup, FakeGroup], profile?: string, type = V2) =>
    addLast(type, tables, profile).answer()
  testRules(VFIO_GROUP_SET_CONTAINER, {
    ...groupRows(VFIO_GROUP_SET_CONTAINER, { container: NO_FD }),
    'bad-pointer': () => {
      const { call, groupFd } = attached()
      return [call(VFIO_GROUP_SET_CONTAINER, { fd: groupFd, arg: NOWHERE })]
    },
    'container-bad-fd': () => {
      const { call, groupFd } = attached()
      return [NO_FD, 0xffff_ffffn].map((container) =>
        call(VFIO_GROUP_SET_CONTAINER, { fd: groupFd, container }),
      )
    },
    'in-a-container': () => {
      const { call, fd, groupFd, container } = attached()
      return [fd, container(), groupFd].map((one) =>
        call(VFIO_GROUP_SET_CONTAINER, { fd: groupFd, container: one }),
      )
    },
    'not-a-container': () => [wrong('linux-6.2'), wrong('intended')],
    'not-a-container-v6.1': () => [wrong('linux-6.1')],
    'dma-owned': () => {
      const { world, fd } = owned()
      return [world.call(VFIO_GROUP_SET_CONTAINER, { fd, container: world.container() })]
    },
    'ownership-refused': () => {
      const world = makeVfio({ groups: plain(refusing({ takeOwnership: -16 })) })
      return [world.call(VFIO_GROUP_SET_CONTAINER, { fd: world.group(), container: world.container() })]
    },
    'no-dynamic-windows': () => [
      second([new FakeGroup(), new FakeGroup({ group: 1, kind: 'other', maxWindows: 0 })]),
    ],
    'one-group-only': () => [
      second([new FakeGroup(), new FakeGroup({ group: 1 })], 'intended', V1),
      second([lent(0).group, lent(1).group], OLD, V1),
    ],
    'groups-differ': () => [
      second([new FakeGroup(), other(1)]),
      second([lent(0).group, new FakeGroup({ group: 1 })], OLD, V1),
    ],
    'no-group-record': () => {
      const tables = [new FakeGroup(), refusing({ setWindow: -6 }, 1)] as const
      const { world, fd, answer } = addLast(V2, tables)
      world.call(VFIO_IOMMU_SPAPR_TCE_CREATE, { fd, page_shift: 16n, window_bytes: 1n << 30n, levels: 1n })
      world.failAllocation(1)
      const refused = answer()
      expect([tables[1].isOwned, tables[1].tables]).toEqual([false, [null, null]])
      return [refused]
    },
    'no-window-link': () => {
      const bad = refusing({ setWindow: -12 }, 1)
      const { world, fd, answer } = addLast(V2, [new FakeGroup(), bad])
      world.call(VFIO_IOMMU_SPAPR_TCE_CREATE, { fd, page_shift: 16n, window_bytes: 1n << 30n, levels: 1n })
      const refused = answer()
      expect(bad.isOwned).toBe(false)
      return [refused]
    },
    'firmware-refused': () => {
      const bad = refusing({ setWindow: -6 }, 1)
      const { world, fd, answer } = addLast(V2, [new FakeGroup(), bad])
      world.call(VFIO_IOMMU_SPAPR_TCE_CREATE, { fd, page_shift: 16n, window_bytes: 1n << 30n, levels: 1n })
      const refused = answer()
      expect(bad.isOwned).toBe(false)
      return [refused]
    },
    done: () => {
      const world = makeVfio()
      const [fd, groupFd] = [world.container(), world.group()]
      const set = () => world.call(VFIO_GROUP_SET_CONTAINER, { fd: groupFd, container: fd })
      const first = set()
      world.call(VFIO_GROUP_UNSET_CONTAINER, { fd: groupFd })
      return [first, set(), addLast(V2, [new FakeGroup(), new FakeGroup({ group: 1 })]).answer()]
    },
  })
})

describe('VFIO_GROUP_UNSET_CONTAINER', () => {
  testRules(VFIO_GROUP_UNSET_CONTAINER, {
    ...groupRows(VFIO_GROUP_UNSET_CONTAINER),
    'not-in-a-container': () => {
      const world = attached()
      world.call(VFIO_GROUP_UNSET_CONTAINER, { fd: world.groupFd })
      return [world.call(VFIO_GROUP_UNSET_CONTAINER, { fd: world.groupFd })]
    },
    'device-open': () => {
      const { call, fdOf, groupFd } = attached()
      const fd = fdOf(call(VFIO_GROUP_GET_DEVICE_FD, { fd: groupFd, name: DEVICE }))
      const unset = () => call(VFIO_GROUP_UNSET_CONTAINER, { fd: groupFd })
      const open = unset()
      call(MMAP_DEVICE, { fd, map: 'bar' })
      call(CLOSE, { fd })
      return [open, unset()]
    },
    done: () => {
      const world = attached()
      return [world.call(VFIO_GROUP_UNSET_CONTAINER, { fd: world.groupFd })]
    },
  })

  it('keeps windows and mappings while another group needs them; they go with the last one', () => {
    const tables = [new FakeGroup(), new FakeGroup({ group: 1 })] as const
    const world = registered({ groups: plain(...tables) })
    const { call, fd, groupFd, qemu } = world
    const second = world.group(1)
    call(VFIO_IOMMU_MAP_DMA, { fd, vaddr: UA, iova: 0n, bytes: PAGE })
    call(VFIO_GROUP_SET_CONTAINER, { fd: second, container: fd })
    const [table] = tables[0].made
    expect(tables.map((t) => t.tables[0])).toEqual([table, table])
    expect(table?.references).toBe(3)
    call(VFIO_GROUP_UNSET_CONTAINER, { fd: groupFd })
    expect([table?.references, table?.live().length, tables[0].isOwned]).toEqual([2, 16, false])
    call(VFIO_GROUP_SET_CONTAINER, { fd: groupFd, container: fd })
    expect(tables[0].tables[0]).toBe(table)
    for (const one of [groupFd, second]) call(VFIO_GROUP_UNSET_CONTAINER, { fd: one })
    expect([table?.references, table?.live().length, qemu.mm.locked.pages]).toEqual([0, 0, 0n])
    expect(call(VFIO_SET_IOMMU, { fd, type: V2 }).rule).toBe('no-group')
  })

  it.each([
    ['linux-6.6.50', 16],
    ['linux-6.6.51', 0],
    ['linux-6.10', 16],
    ['linux-6.12.95', 0],
  ])('%s: a group that leaves another one leaves it %d mappings', (profile, left) => {
    const world = registered({ profile, groups: plain(new FakeGroup(), new FakeGroup({ group: 1 })) })
    const { call, fd, groupFd, memory, qemu } = world
    call(VFIO_GROUP_SET_CONTAINER, { fd: world.group(1), container: fd })
    call(VFIO_IOMMU_MAP_DMA, { fd, vaddr: UA, iova: 0n, bytes: PAGE })
    call(VFIO_GROUP_UNSET_CONTAINER, { fd: groupFd })
    expect(memory.mappedOf(memory.find(qemu.mm, UA, 256n * PAGE))).toBe(1 + left)
    expect(call(VFIO_IOMMU_MAP_DMA, { fd, vaddr: UA, iova: 0n, bytes: PAGE }).rule).toBe('done')
  })
})

describe('VFIO_GROUP_GET_DEVICE_FD', () => {
  const open = (world: VfioWorld, fd: bigint, name = DEVICE) =>
    world.call(VFIO_GROUP_GET_DEVICE_FD, { fd, name })
  /** An opening whose n-th allocation fails. */
  const failing = (n: number, world: VfioWorld & { readonly groupFd: bigint }, name = DEVICE) => {
    world.failAllocation(n)
    return open(world, world.groupFd, name)
  }
  /** The group's PE is in a reset that nobody has ended. */
  const inReset = () => {
    const { eeh, add, phb } = makeEeh()
    add(phb, 7, [{ name: DEVICE }], 0)
    const world = attached({ eeh })
    eeh.reset(0, PE_RESET.HOT)
    return { ...world, eeh }
  }
  it('a device is there again when its reset is over; one that is open stays', () => {
    const world = inReset()
    expect(open(world, world.groupFd).code).toBe('ENODEV')
    world.eeh.reset(0, PE_RESET.DEACTIVATE)
    expect(open(world, world.groupFd).code).toBe('OK')
    world.eeh.reset(0, PE_RESET.HOT)
    expect(open(world, world.groupFd).code).toBe('OK')
  })

  testRules(VFIO_GROUP_GET_DEVICE_FD, {
    ...groupRows(VFIO_GROUP_GET_DEVICE_FD),
    'bad-pointer': () => {
      const world = attached()
      const arg = poke(world, UA + 256n * PAGE - 2n, Uint8Array.of(0x30, 0x30))
      return [arg, NOWHERE].map((a) => world.call(VFIO_GROUP_GET_DEVICE_FD, { fd: world.groupFd, arg: a }))
    },
    'name-too-long': () => {
      const world = attached()
      const arg = poke(world, UA, new Uint8Array(65_536).fill(0x30))
      return [
        world.call(VFIO_GROUP_GET_DEVICE_FD, { fd: world.groupFd, arg }),
        open(world, world.groupFd, '0'.repeat(65_536)),
      ]
    },
    'no-name-copy': () => [failing(1, attached(), 'none'), failing(1, attached())],
    'no-such-device': () => {
      const world = makeVfio()
      const fd = world.group()
      fillFiles(world)
      return ['0001:01:00.1', ''].map((name) => open(world, fd, name))
    },
    'too-many-files': () => {
      const world = makeVfio()
      const fd = world.group()
      fillFiles(world)
      return [open(world, fd)]
    },
    'no-device-record': () => {
      const world = makeVfio()
      return [failing(2, { ...world, groupFd: world.group() }), failing(2, attached())]
    },
    'no-iommu': () => {
      const world = makeVfio()
      const fd = world.group()
      const alone = open(world, fd)
      world.call(VFIO_GROUP_SET_CONTAINER, { fd, container: world.container() })
      return [alone, open(world, fd)]
    },
    'no-device-memory': () => {
      const again = attached()
      open(again, again.groupFd)
      return [
        ...[3, 4, 5].map((n) => failing(n, attached())),
        failing(3, again),
        ...[3, 4].map((n) => failing(n, inReset())),
      ]
    },
    'config-blocked': () => {
      const fileFails = inReset()
      return [open(inReset(), fileFails.groupFd), failing(5, fileFails)]
    },
    done: () => {
      const world = attached()
      const arg = poke(world, UA, new TextEncoder().encode(`${DEVICE}\0`))
      return [
        open(world, world.groupFd),
        open(world, world.groupFd),
        world.call(VFIO_GROUP_GET_DEVICE_FD, { fd: world.groupFd, arg }),
      ]
    },
  })
})

describe('v1 over tables of the kernel, before Linux 6.4', () => {
  it('takes the table from the kernel, and gives it back cleared', () => {
    const { group, table } = lent(0)
    const { world } = setLast(V1, [group], OLD)
    expect(table.isClaimed).toBe(true)
    world.call(CLOSE, { fd: 4n })
    expect(table.isClaimed).toBe(false)
  })

  it('the window is there at once until Linux 4.10: removing bus address 0 removes it', () => {
    for (const [profile, rule] of [
      ['linux-4.9', 'done'],
      ['linux-4.10', 'cancelled'],
    ] as const) {
      const { call, fd, qemu } = attached({ profile })
      expect(qemu.mm.locked.pages).toBe(rule === 'done' ? 128n : 0n)
      expect(call(VFIO_IOMMU_SPAPR_TCE_REMOVE, { fd, start_addr: 0n }).rule).toBe(rule)
      expect(qemu.mm.locked.pages).toBe(0n)
    }
  })
})
