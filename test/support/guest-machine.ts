import type { Answer, CallHandler, Value } from '../../src/bits/answer.ts'
import { resolveProfile } from '../../src/bits/errata.ts'
import { Journal } from '../../src/bits/state.ts'
import { PROP, type Properties } from '../../src/kernel/guest/device-tree.ts'
import { GUEST_ERRATA } from '../../src/kernel/guest/errata.ts'
import { GuestKernel } from '../../src/kernel/guest/guest-kernel.ts'
import type { GuestDevice, GuestKernelOptions, GuestPhb } from '../../src/kernel/guest/guest-options.ts'
import { guestHandlers } from '../../src/kernel/guest/handlers.ts'
import { completeArguments } from '../../src/machine/arguments.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { Stage } from '../../src/trace/stage.ts'
import { FakeHypervisor } from './fake-hypervisor.ts'

export const MASK_64 = 0xffff_ffff_ffff_ffffn
export const MASK_32 = 0xffff_ffffn
export const DEFAULT_LIOBN = 0x8000_0000

/** The device tree properties that QEMU 7.2 gives its PHB 0. */
export const QEMU_PHB: Properties = {
  [PROP.DMA_WINDOW]: [DEFAULT_LIOBN, 0, 0, 0, 0x4000_0000],
  [PROP.DMA_ADDRESS_CELLS]: [2],
  [PROP.DMA_SIZE_CELLS]: [2],
  [PROP.DDW_APPLICABLE]: [0x2026, 0x2027, 0x2028],
  [PROP.DDW_EXTENSIONS]: [2, 0x2029, 1],
}

export type GuestMachineOptions = Partial<Omit<GuestKernelOptions, 'profile' | 'phbs'>> & {
  readonly profile?: string
  readonly properties?: Properties
  readonly devices?: readonly GuestDevice[]
  readonly phb?: Partial<GuestPhb>
  /** Bytes of the default window; 0 for none. */
  readonly defaultBytes?: bigint
  readonly journalOn?: boolean
}

/** A guest kernel on a fake hypervisor, and a way to call it. */
export class GuestMachine {
  readonly log = new RecordLog()
  readonly stage = new Stage(this.log)
  readonly journal = new Journal()
  readonly hypervisor = new FakeHypervisor(this.stage)
  readonly kernel: GuestKernel
  readonly #handlers: Map<string, CallHandler>

  constructor(given: GuestMachineOptions = {}) {
    this.journal.on = given.journalOn === true
    const {
      properties = QEMU_PHB,
      devices = [
        { name: 'nic', devfn: 0 },
        { name: 'disk', devfn: 8 },
      ],
    } = given
    const bytes = given.defaultBytes ?? 1n << 30n
    if (bytes > 0n && given.phb?.bare === undefined) this.hypervisor.open(DEFAULT_LIOBN, 12, 0n, bytes)
    this.kernel = new GuestKernel({
      hcall: this.hypervisor,
      rtas: this.hypervisor,
      ram: this.hypervisor,
      windows: this.hypervisor,
      stage: this.stage,
      journal: this.journal,
      pageShift: 16,
      cpus: 8,
      memory: [{ gpa: 0n, bytes: 1n << 30n }],
      maxRamBytes: 1n << 30n,
      hypertas: ['hcall-multi-tce'],
      bootOptions: [],
      ...given,
      profile: resolveProfile(GUEST_ERRATA, given.profile ?? 'intended'),
      phbs: [
        {
          name: 'pci0',
          buid: 0x0800_0000_2000_0000n,
          node: { name: 'pci@0', properties },
          devices,
          ...given.phb,
        },
      ],
    })
    this.#handlers = new Map(guestHandlers(this.kernel).map((h) => [h.decl.name, h]))
  }

  call(name: string, args: Record<string, Value> = {}, cpu = 0): Answer {
    const handler = this.#handlers.get(name)
    if (handler === undefined) throw new Error(`no handler for ${name}`)
    this.stage.cpu = cpu
    return handler.run(completeArguments(handler.decl, args))
  }

  /** The device of a name, which must be there. */
  device(name: string) {
    const device = this.kernel.device(name)
    if (device === undefined) throw new Error(`no device ${name}`)
    return device
  }
}

/** A guest that has booted. */
export function bootedGuest(given: GuestMachineOptions = {}): GuestMachine {
  const machine = new GuestMachine(given)
  machine.call('boot')
  return machine
}
