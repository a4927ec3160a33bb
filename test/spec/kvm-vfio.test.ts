import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import { KVM_CREATE_SPAPR_TCE_64, KVM_CREATE_VM, READ_TCE } from '../../src/kernel/kvm/calls.ts'
import {
  KVM_DEV_VFIO_GROUP_ADD,
  KVM_DEV_VFIO_GROUP_DEL,
  KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE,
  KVM_GET_DEVICE_ATTR,
  KVM_HAS_DEVICE_ATTR,
  KVM_SET_DEVICE_ATTR,
} from '../../src/kernel/kvm/device-calls.ts'
import { KVM_H_PUT_TCE } from '../../src/kernel/kvm/hcall-calls.ts'
import { NO_GROUP_WARNING } from '../../src/kernel/kvm/kvm-vfio-device.ts'
import { STRUCTS } from '../../src/kernel/kvm/structs.ts'
import { encodeStruct } from '../../src/kernel/user-struct.ts'
import { CLOSE, VFIO_GROUP_GET_DEVICE_FD, VFIO_GROUP_UNSET_CONTAINER } from '../../src/kernel/vfio/calls.ts'
import { VFIO_IOMMU_SPAPR_TCE_CREATE } from '../../src/kernel/vfio/spapr-calls.ts'
import { PROC_EXIT, PROC_FORK } from '../../src/memory/proc-calls.ts'
import { eventsOf } from '../support/host.ts'
import { LIOBN, makeKvm, TABLE, withAttached, withHardware } from '../support/kvm.ts'
import { fileRows } from '../support/kvm-rows.ts'
import { testRules } from '../support/rule-table.ts'
import { DEVICE, UA } from '../support/vfio.ts'
import { NO_FD, NOWHERE, poke } from '../support/vfio-rows.ts'

/** What every call of the device answers before its own rules. */
const deviceRows = (decl: CallDecl) => ({
  ...fileRows(decl, ['device']),
  'no-such-process': () => [makeKvm().call(decl, { process: 'nobody', fd: NO_FD })],
  'bad-fd': () => [withHardware().call(decl, { fd: NO_FD })],
  'other-process': () => {
    const world = withHardware()
    world.call(PROC_FORK, { child: 'child' })
    return [world.call(decl, { process: 'child', fd: world.device, arg: NOWHERE })]
  },
  'bad-pointer': () => {
    const world = withHardware()
    return [world.call(decl, { fd: world.device, arg: NOWHERE })]
  },
})
/** And what each of its attributes answers. */
const attributeRows = (decl: CallDecl) => ({
  ...deviceRows(decl),
  'group-bad-fd': () => {
    const world = withHardware()
    return [NO_FD, 0xffff_ffffn].map((group) => world.call(decl, { fd: world.device, group }))
  },
})
const added = (world = withHardware()) => ({
  ...world,
  add: world.call(KVM_DEV_VFIO_GROUP_ADD, { fd: world.device, group: world.groupFd }),
})

describe('KVM_DEV_VFIO_GROUP_ADD', () => {
  testRules(KVM_DEV_VFIO_GROUP_ADD, {
    ...attributeRows(KVM_DEV_VFIO_GROUP_ADD),
    'not-a-group': () => {
      const { call, device, containerFd, vm } = withHardware()
      return [containerFd, vm].map((group) => call(KVM_DEV_VFIO_GROUP_ADD, { fd: device, group }))
    },
    added: () => {
      const { call, device, groupFd } = added()
      return [call(KVM_DEV_VFIO_GROUP_ADD, { fd: device, group: groupFd })]
    },
    'no-memory': () => {
      const { call, device, groupFd, failAt } = withHardware()
      failAt(1)
      return [call(KVM_DEV_VFIO_GROUP_ADD, { fd: device, group: groupFd })]
    },
    done: () => {
      const world = withHardware()
      const arg = poke(world, UA, encodeStruct(STRUCTS.group, { group: world.groupFd }))
      return [world.call(KVM_DEV_VFIO_GROUP_ADD, { fd: world.device, arg })]
    },
  })

  it('of a device is not modelled', () => {
    const { call, fdOf, groupFd, device } = withHardware()
    const group = fdOf(call(VFIO_GROUP_GET_DEVICE_FD, { fd: groupFd, name: DEVICE }))
    expect(call(KVM_DEV_VFIO_GROUP_ADD, { fd: device, group }).state).toBe('unmodelled')
  })

  it('holds the file of the group, and so its container with all windows', () => {
    const world = withAttached()
    const closed = [world.containerFd, world.groupFd].map((fd) => world.call(CLOSE, { fd }).rule)
    expect(closed).toEqual(['done', 'held'])
    const put = (tce: bigint) => world.call(KVM_H_PUT_TCE, { liobn: LIOBN, ioba: 0n, tce }).rule
    expect([put(3n), world.mapped()]).toEqual(['done', 2])
    world.call(CLOSE, { fd: world.device })
    expect([world.hw.references, world.qemu.mm.locked.pages]).toEqual([0, 2n])
  })
})

describe('KVM_DEV_VFIO_GROUP_DEL', () => {
  testRules(KVM_DEV_VFIO_GROUP_DEL, {
    ...attributeRows(KVM_DEV_VFIO_GROUP_DEL),
    'not-added': () => {
      const { call, device, groupFd, containerFd } = withHardware()
      return [groupFd, containerFd].map((group) => call(KVM_DEV_VFIO_GROUP_DEL, { fd: device, group }))
    },
    done: () => {
      const world = withAttached()
      return [world.call(KVM_DEV_VFIO_GROUP_DEL, { fd: world.device, group: world.groupFd })]
    },
  })

  it('takes one attachment of each table that the group has now', () => {
    const world = withAttached()
    expect(world.attach().rule).toBe('attached-before')
    const guest = () =>
      world.kvm.files.find('qemu', Number(world.tableFd))?.target as { attachments?: unknown[] }
    world.call(KVM_DEV_VFIO_GROUP_DEL, { fd: world.device, group: world.groupFd })
    expect(guest().attachments).toEqual([{ table: world.hw, count: 1 }])
    world.call(KVM_DEV_VFIO_GROUP_ADD, { fd: world.device, group: world.groupFd })
    world.attach()
    world.call(KVM_DEV_VFIO_GROUP_DEL, { fd: world.device, group: world.groupFd })
    world.call(KVM_DEV_VFIO_GROUP_ADD, { fd: world.device, group: world.groupFd })
    world.attach()
    expect(guest().attachments).toEqual([{ table: world.hw, count: 2 }])
  })

  it('keeps an attachment of a table that the group has no more, until the table of the guest goes', () => {
    const world = withAttached()
    world.call(VFIO_GROUP_UNSET_CONTAINER, { fd: world.groupFd })
    world.call(KVM_DEV_VFIO_GROUP_DEL, { fd: world.device, group: world.groupFd })
    expect(world.hw.references).toBe(1)
    world.call(READ_TCE, { map: 'tce' })
    world.call(PROC_EXIT)
    expect(world.hw.references).toBe(0)
  })

  it('warns, once, where no table was ever attached', () => {
    const world = added()
    world.call(KVM_DEV_VFIO_GROUP_DEL, { fd: world.device, group: world.groupFd })
    expect(eventsOf(world, 'warning').map((e) => ('text' in e ? e.text : ''))).toEqual([NO_GROUP_WARNING])
  })
})

describe('KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE', () => {
  const attachTo = (table: Record<string, Value>, windowBytes = 1n << 28n) => {
    const world = added(withHardware({ windowBytes }))
    return world.attach(world.fdOf(world.table({ ...TABLE, liobn: 5n, ...table })))
  }
  testRules(KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE, {
    ...attributeRows(KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE),
    'attribute-unknown': () => {
      const { call, attach, device } = withHardware({ profile: 'no-tce-vfio' })
      return [attach(NO_FD), call(KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE, { fd: device, arg: NOWHERE })]
    },
    'not-added': () => {
      const { attach, groupFd, call, device, containerFd } = withHardware()
      return [
        attach(NO_FD),
        attach(groupFd),
        call(KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE, { fd: device, group: containerFd }),
      ]
    },
    'table-bad-fd': () => [added().attach(NO_FD)],
    'not-a-table': () => {
      const world = added()
      const other = world.fdOf(world.call(KVM_CREATE_VM, { fd: world.kvmFd, type: 0n }))
      const foreign = world.fdOf(world.call(KVM_CREATE_SPAPR_TCE_64, { fd: other, ...TABLE }))
      return [world.groupFd, foreign].map((table) => world.attach(table))
    },
    // Smaller pages, another base, longer.
    'no-table-backs': () => [
      attachTo({}),
      attachTo({ page_shift: 16n, offset: 1n }),
      attachTo({ page_shift: 16n, entries: 0x2001n }),
    ],
    'attached-before': () => [withAttached().attach()],
    'no-memory': () => {
      const world = added()
      world.failAt(1)
      const answer = world.attach()
      expect(world.hw.references).toBe(2)
      return [answer]
    },
    done: () => [
      withAttached().attached,
      attachTo({ page_shift: 24n, entries: 0x10n }),
      attachTo({ page_shift: 16n, entries: 1n }),
    ],
  })

  it('takes a reference of the hardware table; with X7 one for each call', () => {
    for (const [profile, references] of [
      ['intended', 3],
      ['X7', 5],
    ] as const) {
      const world = withAttached({ profile })
      for (const _ of [1, 2]) world.attach()
      expect(world.hw.references).toBe(references)
      world.call(PROC_EXIT)
      expect(world.hw.references).toBe(references - 3)
    }
  })

  it('chooses among both windows', () => {
    const world = added()
    world.call(VFIO_IOMMU_SPAPR_TCE_CREATE, {
      fd: world.containerFd,
      page_shift: 16n,
      window_bytes: 1n << 28n,
      levels: 1n,
    })
    const table = world.fdOf(world.table({ liobn: 6n, page_shift: 24n, offset: 1n << 35n, entries: 0x10n }))
    expect(world.attach(table).rule).toBe('done')
    expect([world.hw.references, world.pe.tables[1]?.references]).toEqual([2, 3])
  })
})

/** Group and attribute, of which the device has none; the last one would be ADD in 32 bits. */
const UNKNOWN_ATTRIBUTES = [
  [0n, 1n],
  [2n, 1n],
  [1n, 0n],
  [1n, 4n],
  [1n, (1n << 32n) | 1n],
] as const

describe('KVM_SET_DEVICE_ATTR', () => {
  type Fields = Record<string, bigint>
  /** Sets an attribute whose structure lies in memory. */
  function set(world: ReturnType<typeof withHardware>, attr: bigint, fields: Fields) {
    const at = poke(world, UA + 0x40n, encodeStruct(attr === 3n ? STRUCTS.attach : STRUCTS.group, fields))
    const attribute = encodeStruct(STRUCTS.attribute, { flags: 0xffff_ffffn, group: 1n, attr, addr: at })
    return world.call(KVM_SET_DEVICE_ATTR, { fd: world.device, arg: poke(world, UA, attribute) })
  }
  const [ADD, DEL, LINK] = [1n, 2n, 3n]
  const link = (table: (w: ReturnType<typeof added>) => bigint, world = added()) =>
    set(world, LINK, { group: world.groupFd, table: table(world) })

  const { 'bad-pointer': noStruct, ...rows } = deviceRows(KVM_SET_DEVICE_ATTR)
  testRules(KVM_SET_DEVICE_ATTR, {
    ...rows,
    'bad-pointer': () => {
      const { call, device } = withHardware()
      const ofAttribute = [ADD, DEL, LINK].map((attr) =>
        call(KVM_SET_DEVICE_ATTR, { fd: device, group: 1n, attr, addr: NOWHERE }),
      )
      return [...noStruct(), ...ofAttribute]
    },
    'attribute-unknown': () => {
      const old = withHardware({ profile: 'no-tce-vfio' })
      return [
        ...UNKNOWN_ATTRIBUTES.map(([group, attr]) => {
          const { call, device } = withHardware()
          return call(KVM_SET_DEVICE_ATTR, { fd: device, group, attr, addr: NOWHERE })
        }),
        set(old, LINK, { group: NO_FD }),
      ]
    },
    'group-bad-fd': () =>
      [ADD, DEL, LINK].map((attr) => set(withHardware(), attr, { group: NO_FD, table: NO_FD })),
    'not-a-group': () => {
      const world = withHardware()
      return [set(world, ADD, { group: world.vm })]
    },
    added: () => {
      const world = added()
      return [set(world, ADD, { group: world.groupFd })]
    },
    'not-added': () => {
      const world = withHardware()
      return [DEL, LINK].map((attr) => set(world, attr, { group: world.groupFd, table: NO_FD }))
    },
    'table-bad-fd': () => [link(() => NO_FD)],
    'not-a-table': () => [link(({ vm }) => vm)],
    'no-table-backs': () => [link((w) => w.fdOf(w.table({ ...TABLE, liobn: 5n })))],
    'attached-before': () => [link(({ tableFd }) => tableFd, { ...added(withAttached()) })],
    'no-memory': () =>
      [ADD, LINK].map((attr) => {
        const world = attr === ADD ? withHardware() : added()
        world.failAt(1)
        return set(world, attr, { group: world.groupFd, table: world.tableFd })
      }),
    done: () => {
      const world = withHardware()
      const fields = { group: world.groupFd, table: world.tableFd }
      return [ADD, LINK, DEL].map((attr) => set(world, attr, fields))
    },
  })
})

describe('KVM_GET_DEVICE_ATTR', () => {
  const D = KVM_GET_DEVICE_ATTR
  const { 'bad-pointer': _, ...rows } = deviceRows(D)
  testRules(KVM_GET_DEVICE_ATTR, {
    ...rows,
    'nothing-to-read': () => {
      const { call, device } = withHardware()
      return [call(D, { fd: device, group: 1n, attr: 1n }), call(D, { fd: device, arg: NOWHERE })]
    },
  })
})

describe('KVM_HAS_DEVICE_ATTR', () => {
  const D = KVM_HAS_DEVICE_ATTR
  testRules(KVM_HAS_DEVICE_ATTR, {
    ...deviceRows(D),
    'attribute-unknown': () => {
      const old = withHardware({ profile: 'no-tce-vfio' })
      return [
        ...UNKNOWN_ATTRIBUTES.map(([group, attr]) => {
          const { call, device } = withHardware()
          return call(D, { fd: device, group, attr })
        }),
        old.call(D, { fd: old.device, group: 1n, attr: 3n }),
      ]
    },
    done: () => {
      const { call, device } = withHardware()
      return [1n, 2n, 3n].map((attr) => call(D, { fd: device, group: 1n, attr, addr: NOWHERE }))
    },
  })
})
