import { describe, expect, it } from 'vitest'
import type { IommuListener } from '../../src/hw/iommu-listener.ts'
import { QEMU_ERRATA } from '../../src/kernel/qemu/errata.ts'
import { QemuVhost } from '../../src/kernel/qemu/vhost-device.ts'
import { FakeVhost } from '../support/fake-vhost.ts'
import { calls, LIOBN, type Pseries, pseries, RAM } from '../support/pseries.ts'

const END = 1n << 30n
type Id = (typeof QEMU_ERRATA)[number]['id']

/** For each erratum something that it decides: what happens without it, and with it alone. */
const decided: Record<Id, { see: (m: Pseries) => unknown; right: unknown; wrong: unknown }> = {
  Q1: { see: (m) => calls(m).put(0x1800n, 0x5003n).rule, right: 'ioba-unaligned', wrong: 'done' },
  Q2: { see: (m) => calls(m).stuff(0n, 3n, 2n).rule, right: 'value-grants-access', wrong: 'done' },
  Q3: { see: (m) => calls(m).stuff(0n, 0n, 0n).code, right: 'H_SUCCESS', wrong: 'H_PARAMETER' },
  Q4: { see: (m) => calls(m).put(0n, RAM | 3n).rule, right: 'tce-outside-ram', wrong: 'done' },
  Q5: {
    see: (m) => {
      calls(m).stuff(END - 0x1000n, 0x7000n, 2n)
      return m.tce(LIOBN, 262143)
    },
    right: 0n,
    wrong: 0x7000n,
  },
  Q6: { see: (m) => calls(m).indirect(0n, RAM, 1n).rule, right: 'list-outside-ram', wrong: 'done' },
  Q7: {
    see: (m) => {
      calls(m).remove(LIOBN)
      calls(m).create(16n, 20n)
      return calls(m).remove(LIOBN).rule
    },
    right: 'default-restored',
    wrong: 'done',
  },
  Q8: {
    see: (m) => {
      calls(m).create(16n, 20n)
      calls(m).remove(LIOBN)
      return calls(m).create(16n, 20n).outputs['addr_hi']
    },
    right: 0n,
    wrong: 0x800_0000n,
  },
  Q9: {
    see: (m) => {
      calls(m).create(12n, 44n)
      return calls(m).create(16n, 20n).state
    },
    right: 'done',
    wrong: 'dead',
  },
  Q10: { see: (m) => calls(m).query(6n).outputs['largest'], right: 1n << 31n, wrong: 1n << 37n },
  Q11: { see: (m) => calls(m).dmaRead(0n, 4096n).rule, right: 'refused', wrong: 'buffer-overrun' },
  Q12: { see: (m) => calls(m).dmaRead(0n, 4097n).state, right: 'done', wrong: 'dead' },
  'iotlb-perm-widening': {
    see: (m) => {
      const sink = new FakeVhost()
      const { space } = m.phb
      const vhost = {
        name: 'net0',
        journal: m.journal,
        space,
        sink,
        print: () => undefined,
        onUnknown: () => undefined,
      }
      const givesBoth = m.profile.has('iotlb-perm-widening')
      const qemu = new QemuVhost({ ...vhost, ram: [{ gpa: 0n, bytes: RAM, ua: 0n }], givesBoth })
      calls(m).put(0n, 0x1001n)
      sink.miss(0n, 1)
      qemu.answerMisses()
      return sink.take()
    },
    right: ['UPDATE 0x0 0x1000 0x1000 0x1'],
    wrong: ['UPDATE 0x0 0x1000 0x1000 0x3'],
  },
  B12: {
    see: (m) => {
      const heard: boolean[] = []
      const vhost: IommuListener = {
        name: 'vhost',
        wants: 'unmap',
        notify: (change) => heard.push(change.isMap),
      }
      m.phb.space.listen(vhost)
      calls(m).put(0n, 0x1003n)
      calls(m).put(0n, 0x2003n)
      return heard
    },
    right: [false],
    wrong: [],
  },
}

describe.each(QEMU_ERRATA)('$id, $title', ({ id, versions }) => {
  it('decides what it says, alone', () => {
    const { see, right, wrong } = decided[id]
    expect(see(pseries({ profile: 'intended' }))).toEqual(right)
    expect(see(pseries({ profile: `intended+${id}` }))).toEqual(wrong)
  })

  it('is in QEMU 7.2, and not in a QEMU from before its time', () => {
    const { see, right, wrong } = decided[id]
    // There Q12 comes first: what Q11 refuses ends QEMU.
    const there = id === 'Q11' ? 'edu-dma-out-of-bounds' : wrong
    expect(see(pseries({ profile: 'qemu-7.2' }))).toEqual(there)
    expect(versions[0]?.since).toBeDefined()
    expect(see(pseries({ profile: 'qemu-2.2' }))).toEqual(right)
  })
})
