import { describe, expect, it } from 'vitest'
import type { Answer, Value } from '../../src/bits/answer.ts'
import { ERRNO_CODES } from '../../src/bits/codes.ts'
import { PE_STATE, STOP } from '../../src/hw/pe-firmware.ts'
import { EEH_PE } from '../../src/kernel/eeh/states.ts'
import { encodeStruct } from '../../src/kernel/user-struct.ts'
import {
  CLOSE,
  RAW_IOCTL,
  VFIO_CHECK_EXTENSION,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_SET_IOMMU,
} from '../../src/kernel/vfio/calls.ts'
import { PE_OP, VFIO_EEH_PE_OP } from '../../src/kernel/vfio/eeh-calls.ts'
import { STRUCTS } from '../../src/kernel/vfio/structs.ts'
import { PROC_EXIT, PROC_FORK } from '../../src/memory/proc-calls.ts'
import { type EehWorldOptions, makeEeh } from '../support/eeh.ts'
import { FakeGroup } from '../support/fake-platform.ts'
import { eventsOf } from '../support/host.ts'
import { testRules } from '../support/rule-table.ts'
import { attached, DEVICE, makeVfio, PAGE, UA } from '../support/vfio.ts'

const { EIO } = ERRNO_CODES
const OP = {
  DISABLE: BigInt(PE_OP.DISABLE),
  ENABLE: BigInt(PE_OP.ENABLE),
  UNFREEZE_IO: BigInt(PE_OP.UNFREEZE_IO),
  UNFREEZE_DMA: BigInt(PE_OP.UNFREEZE_DMA),
  GET_STATE: BigInt(PE_OP.GET_STATE),
  DEACTIVATE: BigInt(PE_OP.RESET_DEACTIVATE),
  HOT: BigInt(PE_OP.RESET_HOT),
  FUNDAMENTAL: BigInt(PE_OP.RESET_FUNDAMENTAL),
  CONFIGURE: BigInt(PE_OP.CONFIGURE),
  INJECT: BigInt(PE_OP.INJECT_ERR),
}

/** A container with group 1, whose PE EEH knows. */
function world(options: EehWorldOptions = {}) {
  const eeh = makeEeh(options)
  const group = new FakeGroup({ group: 1 })
  const v = makeVfio({ eeh: eeh.eeh, groups: [{ table: group, devices: [DEVICE, '0001:01:00.1'] }] })
  const fd = v.container()
  const groupFd = v.group(1)
  v.call(VFIO_GROUP_SET_CONTAINER, { fd: groupFd, container: fd })
  v.call(VFIO_SET_IOMMU, { fd, type: 7n })
  const op = (number: bigint, more: Record<string, Value> = {}): Answer =>
    v.call(VFIO_EEH_PE_OP, { fd, op: number, ...more })
  const open = (name = DEVICE) => v.fdOf(v.call(VFIO_GROUP_GET_DEVICE_FD, { fd: groupFd, name }))
  return { eeh, v, fd, groupFd, op, open }
}
const frozen = (options?: EehWorldOptions) => {
  const w = world(options)
  w.eeh.freeze()
  return w
}
const saying = (state: number) => {
  const w = world()
  w.eeh.firmware.says = state
  return w
}
const refusing = (what: 'clear' | 'reset') => {
  const w = frozen()
  w.eeh.firmware.refuses[what] = EIO
  return w
}

describe('VFIO_EEH_PE_OP', () => {
  // The last input of a row breaks a later rule as well: the earlier rule must answer.
  testRules(VFIO_EEH_PE_OP, {
    'no-such-process': () => [world().op(OP.GET_STATE, { process: 'nobody', fd: 99n })],
    'bad-fd': () => [world().op(OP.GET_STATE, { fd: 99n, argsz: 0n })],
    'wrong-file': () => {
      const { op, groupFd } = world()
      return [op(OP.GET_STATE, { fd: groupFd, argsz: 0n })]
    },
    'no-driver': () => {
      const { op, v } = world()
      return [op(OP.GET_STATE, { fd: v.container(), argsz: 0n })]
    },
    'other-process': () => {
      const { op, v, fd } = world()
      v.call(RAW_IOCTL, { fd, cmd: 0x2000_3b75n, arg: 0n })
      v.call(PROC_FORK, { process: 'qemu', child: 'child' })
      return [op(OP.GET_STATE, { process: 'child', argsz: 0n })]
    },
    'no-pe': () => {
      const { call, fd } = attached({ eeh: null })
      // A group whose devices EEH does not know.
      const other = makeVfio({
        eeh: makeEeh().eeh,
        groups: [{ table: new FakeGroup({ group: 9 }), devices: [] }],
      })
      const its = other.container()
      other.call(VFIO_GROUP_SET_CONTAINER, { fd: other.group(9), container: its })
      other.call(VFIO_SET_IOMMU, { fd: its, type: 7n })
      return [
        call(VFIO_EEH_PE_OP, { fd, op: OP.GET_STATE }),
        call(VFIO_EEH_PE_OP, { fd, op: OP.GET_STATE, arg: 1n }),
        other.call(VFIO_EEH_PE_OP, { fd: its, op: OP.GET_STATE, argsz: 0n }),
      ]
    },
    'bad-pointer': () => [world().op(0n, { arg: 0n }), world().op(0n, { arg: UA + 256n * PAGE - 8n })],
    'argsz-short': () => [world().op(0n, { argsz: 11n }), world().op(0n, { argsz: 0n, flags: 1n })],
    'flags-unknown': () => [world().op(0n, { flags: 1n }), world().op(10n, { flags: 0x8000_0000n })],
    'op-unknown': () => [world().op(10n), world().op(0xffff_ffffn), frozen({ isEnabled: false }).op(11n)],
    'eeh-off': () => [
      world({ isEnabled: false }).op(OP.ENABLE),
      frozen({ isEnabled: false }).op(OP.ENABLE, { argsz: 12n }),
    ],
    'still-frozen': () => [
      refusing('clear').op(OP.ENABLE),
      refusing('clear').op(OP.UNFREEZE_IO),
      refusing('clear').op(OP.UNFREEZE_DMA),
      refusing('clear').op(OP.DEACTIVATE),
      refusing('reset').op(OP.DEACTIVATE),
    ],
    'reset-failed': () => [refusing('reset').op(OP.HOT), refusing('reset').op(OP.FUNDAMENTAL)],
    'inject-argsz-short': () => [
      world().op(OP.INJECT, { argsz: 39n }),
      world({ injects: false }).op(OP.INJECT, { argsz: 12n, func: 20n, type: 2n }),
    ],
    'inject-bad-pointer': () => {
      // The head lies at the end of memory that can be read, the error behind it.
      const { v, op } = world({ injects: false })
      const at = UA + 256n * PAGE - 16n
      const data = encodeStruct(STRUCTS.eehOp, { argsz: 40n, flags: 0n, op: OP.INJECT })
      v.qemu.mm.write(at, data.subarray(0, 16))
      return [op(OP.INJECT, { arg: at })]
    },
    'inject-unsupported': () => [
      world({ injects: false }).op(OP.INJECT),
      world({ injects: false }).op(OP.INJECT, { type: 2n, func: 20n }),
      world({ injects: false, profile: 'linux-6.1' }).op(OP.INJECT, { type: 2n }),
    ],
    'inject-refused': () => [
      world().op(OP.INJECT, { func: 20n }),
      world().op(OP.INJECT, { type: 2n, func: 20n }),
      world({ profile: 'linux-6.1' }).op(OP.INJECT, { type: 2n, func: 19n }),
    ],
    'inject-type-refused': () => [
      world().op(OP.INJECT, { type: 2n, func: 19n }),
      world({ profile: 'linux-6.12.95' }).op(OP.INJECT, { type: 0xffff_ffffn }),
    ],
    'inject-failed': () => [
      world({ profile: 'Q16' }).op(OP.INJECT),
      world({ profile: 'Q16' }).op(OP.INJECT, { type: 1n, func: 19n, addr: 0x1000n, mask: 0xfffn }),
    ],
    'state-reset': () => [saying(PE_STATE.RESET_ACTIVE).op(OP.GET_STATE), saying(0x7c).op(OP.GET_STATE)],
    'state-stopped': () => [frozen().op(OP.GET_STATE), saying(PE_STATE.NOT_SUPPORT).op(OP.GET_STATE)],
    'state-dma-stopped': () => [saying(0x28).op(OP.GET_STATE)],
    'state-unavailable': () => {
      const w = frozen()
      w.eeh.phb.mark(EEH_PE.RECOVERING)
      return [saying(0x50).op(OP.GET_STATE), w.op(OP.GET_STATE)]
    },
    done: () => [
      world().op(OP.GET_STATE),
      world({ isEnabled: false }).op(OP.DISABLE),
      frozen().op(OP.ENABLE),
      frozen().op(OP.UNFREEZE_IO, { argsz: 12n }),
      frozen().op(OP.UNFREEZE_DMA),
      frozen().op(OP.HOT),
      frozen().op(OP.FUNDAMENTAL),
      frozen().op(OP.DEACTIVATE),
      world().op(OP.CONFIGURE),
      world({ profile: 'Q16' }).op(OP.INJECT, { func: 4n }),
      world({ profile: 'Q16' }).op(OP.INJECT, { type: 1n, func: 11n }),
      saying(PE_STATE.NOT_SUPPORT).op(OP.UNFREEZE_IO),
    ],
  })

  it('answers as Linux 6.12 did for a PE that was not frozen', () => {
    // Recorded from a running host: thaw DMA, get state, disable.
    const { op } = world()
    expect([3n, 4n, 0n].map((n) => op(n).code)).toEqual(['OK', 'OK', 'OK'])
  })

  it('is answered by its number, in either encoding', () => {
    const { v, fd, eeh } = world()
    v.qemu.mm.write(UA, encodeStruct(STRUCTS.eehOp, { argsz: 12n, flags: 0n, op: OP.GET_STATE }))
    eeh.freeze()
    for (const cmd of [0x2000_3b79n, 0x3b79n]) {
      expect(v.call(RAW_IOCTL, { fd, cmd, arg: UA })).toMatchObject({
        rule: 'state-stopped',
        code: 'RETURN_2',
      })
    }
  })

  it('thaws one stop state at a time', () => {
    const { op, eeh } = frozen()
    op(OP.UNFREEZE_IO)
    expect([eeh.firmware.stops, op(OP.GET_STATE).rule]).toEqual([STOP.DMA, 'state-dma-stopped'])
    op(OP.UNFREEZE_DMA)
    expect(op(OP.GET_STATE).rule).toBe('done')
    const other = frozen()
    other.op(OP.UNFREEZE_DMA)
    expect([other.eeh.firmware.stops, other.op(OP.GET_STATE).rule]).toEqual([STOP.MMIO, 'state-unavailable'])
  })

  it('a reset freezes first, and its end thaws', () => {
    const { op, eeh } = world()
    op(OP.HOT)
    expect([eeh.firmware.calls, eeh.pe.is(EEH_PE.CFG_BLOCKED)]).toEqual([['freeze', 'reset 1'], true])
    // Firmware of PowerNV tells of the freeze, not of the reset.
    expect(op(OP.GET_STATE).rule).toBe('state-stopped')
    op(OP.DEACTIVATE)
    expect([eeh.firmware.stops, eeh.firmware.resetKind, eeh.pe.state]).toEqual([0, 0, 0])
  })

  it('goes from group to group, the last one first, until one does not answer 0', () => {
    const eeh = makeEeh()
    const second = eeh.add(eeh.phb, 2, [{ name: 'second' }])
    const groups = [1, 2].map((group) => ({ table: new FakeGroup({ group }), devices: [] }))
    const v = makeVfio({ eeh: eeh.eeh, groups })
    const fd = v.container()
    for (const n of [1, 2]) v.call(VFIO_GROUP_SET_CONTAINER, { fd: v.group(n), container: fd })
    v.call(VFIO_SET_IOMMU, { fd, type: 7n })
    const [first] = v.vfio.group(1)?.container?.driver?.groups ?? []
    const [top, below] =
      first?.group === 2 ? [second.firmware, eeh.firmware] : [eeh.firmware, second.firmware]
    below.stops = STOP.BOTH
    const op = (n: bigint) => v.call(VFIO_EEH_PE_OP, { fd, op: n })
    expect(op(OP.GET_STATE).rule).toBe('state-stopped')
    top.stops = STOP.DMA
    expect(op(OP.GET_STATE).rule).toBe('state-dma-stopped')
    top.refuses.clear = EIO
    expect([op(OP.UNFREEZE_DMA).code, below.calls]).toEqual(['EIO', []])
  })

  it('does not know what firmware makes of an error, nor how long it waits', () => {
    const { op } = world()
    expect(op(OP.INJECT, { type: 1n, func: 19n })).toMatchObject({ state: 'unmodelled' })
    const w = saying(PE_STATE.UNAVAILABLE)
    expect(w.op(OP.UNFREEZE_IO)).toMatchObject({ state: 'unmodelled' })
  })
})

describe('a device that is passed through', () => {
  it('changes hands with the first file of each device, and back with the last', () => {
    const { eeh, open, v } = world()
    const [a, b] = [open(), open()]
    expect(eeh.pe.passed).toBe(1)
    open('0001:01:00.1')
    expect(eeh.pe.passed).toBe(2)
    v.call(CLOSE, { fd: a })
    expect(eeh.pe.passed).toBe(2)
    v.call(CLOSE, { fd: b })
    expect(eeh.pe.passed).toBe(1)
    v.call(PROC_EXIT, { process: 'qemu' })
    expect(eeh.pe.passed).toBe(0)
  })

  it('is thawed on the way out and on the way back', () => {
    const { eeh, open, v } = frozen()
    const fd = open()
    expect([eeh.firmware.stops, eeh.pe.state, eeh.pe.passed]).toEqual([0, 0, 1])
    eeh.freeze()
    v.call(CLOSE, { fd })
    expect([eeh.firmware.stops, eeh.pe.state, eeh.pe.passed]).toEqual([0, 0, 0])
  })

  it('is not passed through where it stays frozen, although the file opens', () => {
    const { eeh, open, v } = refusing('clear')
    const fd = open()
    expect([eeh.pe.passed, eeh.firmware.stops]).toEqual([0, STOP.BOTH])
    v.call(CLOSE, { fd })
    expect(eeh.pe.passed).toBe(0)
  })

  it('is reset where it is of a kind that needs it', () => {
    const { eeh, open } = frozen({ devices: [{ name: 'edu0', pciId: 0x14e4_1657 }] })
    open()
    expect(eeh.firmware.calls).toEqual(['freeze', 'reset 1', 'reset 0', 'clear 1', 'clear 2'])
    expect([eeh.pe.state, eeh.firmware.stops]).toEqual([EEH_PE.CFG_RESTRICTED, 0])
  })

  it('the host asks nothing and recovers nothing; whoever has it does', () => {
    const { eeh, open, op } = world()
    open()
    eeh.freeze()
    eeh.eeh.readAllOnes('edu0')
    eeh.elapse(10)
    expect([eeh.firmware.stops, eventsOf(eeh, 'eeh.step')]).toEqual([STOP.BOTH, []])
    const walk = [OP.GET_STATE, OP.UNFREEZE_IO, OP.HOT, OP.DEACTIVATE, OP.CONFIGURE, OP.ENABLE, OP.GET_STATE]
    expect(walk.map((n) => op(n).code)).toEqual(['RETURN_2', 'OK', 'OK', 'OK', 'OK', 'OK', 'OK'])
  })

  it('CHECK_EXTENSION tells whether EEH is on', () => {
    const ask = (isEnabled: boolean) => {
      const { v, fd } = world({ isEnabled })
      return v.call(VFIO_CHECK_EXTENSION, { fd, extension: 5n }).rule
    }
    expect([ask(true), ask(false)]).toEqual(['supported', 'unsupported'])
  })
})
