import { callNumber } from '../bits/call.ts'
import type { LiobnMap } from '../hw/liobn-map.ts'
import { PCI_LIOBN } from '../hw/spapr-phb.ts'
import { PROP } from '../kernel/guest/device-tree.ts'
import { GuestKernel } from '../kernel/guest/guest-kernel.ts'
import type { GuestPhb } from '../kernel/guest/guest-options.ts'
import type { HcallPort, RtasPort } from '../kernel/ports.ts'
import {
  CREATE_PE_DMA_WINDOW,
  QUERY_PE_DMA_WINDOW,
  REMOVE_PE_DMA_WINDOW,
  RESET_PE_DMA_WINDOW,
} from '../kernel/qemu/calls.ts'
import type { GuestMemory } from '../memory/guest-memory.ts'
import { PAGE_4K_BYTES, PAGE_4K_SHIFT } from '../memory/host-memory.ts'
import type { MachineDescription, PhbDescription } from './description.ts'
import type { Machine } from './machine.ts'

/** Default window of a PHB, as its device tree node tells it: 1 GiB at bus address 0. */
const DEFAULT_WINDOW_BYTES = 0x4000_0000
/** 32-bit MMIO of a PHB on its bus (QEMU 7.2 include/hw/pci-host/spapr.h). */
const MMIO32 = { start: 0x8000_0000n, last: 0xffff_ffffn }

const cells64 = (value: number): readonly number[] => [Math.floor(value / 2 ** 32), value >>> 0]

/** The node of a PHB as QEMU writes it (7.2 hw/ppc/spapr_pci.c, spapr_dt_phb). */
function phbNode(phb: PhbDescription): GuestPhb {
  const ddw = {
    [PROP.DDW_APPLICABLE]: [QUERY_PE_DMA_WINDOW, CREATE_PE_DMA_WINDOW, REMOVE_PE_DMA_WINDOW].map(callNumber),
    // Two more cells: the token of reset, and that query answers six cells.
    [PROP.DDW_EXTENSIONS]: [2, callNumber(RESET_PE_DMA_WINDOW), 1],
  }
  return {
    name: phb.name,
    buid: phb.buid,
    mmio32: MMIO32,
    node: {
      name: `pci@${phb.buid.toString(16)}`,
      properties: {
        [PROP.DMA_WINDOW]: [
          (PCI_LIOBN | (phb.index << 8)) >>> 0,
          ...cells64(0),
          ...cells64(DEFAULT_WINDOW_BYTES),
        ],
        ...(phb.ddw ? ddw : {}),
      },
    },
    devices: phb.devices.map((d) => ({ name: d.name, devfn: (d.slot << 3) | d.function })),
  }
}

/** Memory of another partition or of the host lies in the machine, but the guest's kernel does not know it. */
const isForeign = (owner: string): boolean => owner.startsWith('partition:') || owner.startsWith('host:')

interface GuestParts {
  readonly machine: Machine
  readonly hcall: HcallPort
  readonly rtas: RtasPort
  readonly guest: GuestMemory
  readonly liobns: LiobnMap
}

/** The guest's kernel, wired to the hypervisor and firmware that it meets and to the memory that it has. */
export function createGuestKernel({ machine, hcall, rtas, guest, liobns }: GuestParts): GuestKernel {
  const { description, stage, journal, profile } = machine
  const d: MachineDescription = description
  return new GuestKernel({
    hcall,
    rtas,
    ram: {
      storeU64be: (gpa, hi, lo) =>
        guest.storeU64be(Math.floor(gpa / 2 ** PAGE_4K_SHIFT), gpa % PAGE_4K_BYTES, hi, lo),
    },
    windows: { windowOf: (liobn) => liobns.find(0, liobn | 0)?.window?.number ?? 0 },
    stage,
    journal,
    profile,
    pageShift: d.pageShift,
    cpus: d.cpus,
    memory: d.ram.filter((r) => !isForeign(r.owner)).map(({ gpa, bytes }) => ({ gpa, bytes })),
    maxRamBytes: d.maxRamBytes,
    hasPmemory: d.hasPmemory,
    hypertas: d.hypertas,
    bootOptions: d.bootOptions,
    phbs: d.phbs.map(phbNode),
  })
}
