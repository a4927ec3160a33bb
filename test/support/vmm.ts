import type { Answer, Value } from '../../src/bits/answer.ts'
import type { Verb } from '../../src/bits/call.ts'
import { Judge } from '../../src/check/judge.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import type { PowernvInput } from '../../src/machine/powernv/description.ts'
import type { GuestInput } from '../../src/machine/powernv/guest-description.ts'
import type { MachineEvent } from '../../src/trace/event.ts'

export const GUEST_UA = 0x1_0000_0000n
export const GUEST_BYTES = 1n << 24n
export const LIOBN = 0x8000_0000n
export const BUID = 0x0800_0000_2000_0000n

type Args = Readonly<Record<string, Value>>

/** A POWER host with one group (0) and its device nic0, and a guest that has the group. */
export function makeVmm(guest: GuestInput = {}, host: Partial<PowernvInput> = {}) {
  const judge = new Judge()
  const machine = createMachine(
    describeMachine({
      kind: 'powernv',
      profile: 'intended',
      phbs: [{ pes: [{ devices: [{ name: 'nic0', kind: 'edu', dmaMask: 2n ** 64n - 1n }] }, {}] }],
      ...host,
      guest: {
        profile: 'qemu-7.2',
        ramBytes: GUEST_BYTES,
        ua: GUEST_UA,
        phbs: [{ groups: [0] }],
        ...guest,
      },
    }),
    { watch: (log) => judge.attach(log) },
  )
  const perform = (verb: Verb, call: string, args: Args = {}): Answer => machine.perform({ verb, call, args })
  /** Events of some kinds that a step leaves. */
  const during = (kinds: readonly MachineEvent['kind'][], step: () => unknown): MachineEvent[] => {
    const from = machine.log.length
    step()
    return [...machine.log.records()]
      .filter((r) => r.seq >= from && kinds.includes(r.event.kind))
      .map((r) => r.event)
  }
  /** Calls that a step makes, with the rules of their answers, as `VFIO_IOMMU_MAP_DMA done`. */
  const callsOf = (step: () => unknown): string[] =>
    during(['call.return'], step).map((e) => (e.kind === 'call.return' ? `${e.call} ${e.rule}` : ''))
  return {
    machine,
    judge,
    perform,
    during,
    callsOf,
    vmm: (call: string, args: Args = {}) => perform('vmm', call, args),
    put: (ioba: bigint, tce: bigint, liobn = LIOBN) => perform('hcall', 'H_PUT_TCE', { liobn, ioba, tce }),
    get: (ioba: bigint, liobn = LIOBN) => perform('hcall', 'H_GET_TCE', { liobn, ioba }),
    stuff: (ioba: bigint, value: bigint, npages: bigint, liobn = LIOBN) =>
      perform('hcall', 'H_STUFF_TCE', { liobn, ioba, value, npages }),
    ioctl: (call: string, args: Args = {}) => perform('ioctl', call, args),
    proc: (call: string, args: Args = {}) => perform('proc', call, args),
    /** A byte that the device reads at a bus address, as the step answers. */
    read: (iova: bigint) => perform('dma', 'read', { device: 'nic0', iova, bytes: 5n }),
    write: (gpa: bigint, data: string) =>
      perform('mem', 'write', { space: 'ua', address: GUEST_UA + gpa, data }),
    createWindow: (page_shift: bigint, window_shift: bigint) =>
      perform('rtas', 'ibm,create-pe-dma-window', { cfg_addr: 0n, buid: BUID, page_shift, window_shift }),
    removeWindow: (liobn: bigint) => perform('rtas', 'ibm,remove-pe-dma-window', { liobn }),
  }
}

/** The same, started. */
export function startedVmm(guest: GuestInput = {}, host: Partial<PowernvInput> = {}) {
  const world = makeVmm(guest, host)
  return { ...world, started: world.vmm('start') }
}
