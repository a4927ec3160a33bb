import { callNumber } from '../../bits/call.ts'
import type { LiobnMap } from '../../hw/liobn-map.ts'
import { PCI_LIOBN, type SpaprPhb } from '../../hw/spapr-phb.ts'
import { PROP } from '../../kernel/guest/device-tree.ts'
import { GuestKernel } from '../../kernel/guest/guest-kernel.ts'
import type { GuestPhb } from '../../kernel/guest/guest-options.ts'
import type { GuestRam, HcallPort, RtasPort } from '../../kernel/ports.ts'
import {
  CREATE_PE_DMA_WINDOW,
  QUERY_PE_DMA_WINDOW,
  REMOVE_PE_DMA_WINDOW,
  RESET_PE_DMA_WINDOW,
} from '../../kernel/qemu/calls.ts'
import type { GuestMemory } from '../../memory/guest-memory.ts'
import { PAGE_4K_BYTES, PAGE_4K_SHIFT } from '../../memory/host-memory.ts'
import { TCE_BYTES } from '../../table/tce-entry.ts'
import type { TceWindow } from '../../table/tce-window.ts'
import type { Machine } from '../machine.ts'
import type { PhbDescription, PseriesDescription } from './description.ts'

/** Default window of a PHB, as its device tree node tells it: 1 GiB at bus address 0. */
const DEFAULT_WINDOW_BYTES = 0x4000_0000
/** Where the CPU sees the 32-bit MMIO of the PHBs, one behind the other (QEMU 7.2 hw/ppc/spapr.c, spapr_phb_placement). */
const MMIO32_START = (1n << 45n) + 0x8000_0000n
const MMIO32_BYTES = 0x8000_0000n

const cells64 = (value: number): readonly number[] => [Math.floor(value / 2 ** 32), value >>> 0]

/** The node of a PHB as QEMU writes it (7.2 hw/ppc/spapr_pci.c, spapr_dt_phb). */
function phbNode(phb: PhbDescription, window: TceWindow | null | undefined): GuestPhb {
  const ddw = {
    [PROP.DDW_APPLICABLE]: [QUERY_PE_DMA_WINDOW, CREATE_PE_DMA_WINDOW, REMOVE_PE_DMA_WINDOW].map(callNumber),
    // Two more cells: the token of reset, and that query answers six cells.
    [PROP.DDW_EXTENSIONS]: [2, callNumber(RESET_PE_DMA_WINDOW), 1],
  }
  const defaultWindow = {
    [PROP.DMA_WINDOW]: [
      (PCI_LIOBN | (phb.index << 8)) >>> 0,
      ...cells64(0),
      ...cells64(DEFAULT_WINDOW_BYTES),
    ],
  }
  const mmio32 = MMIO32_START + BigInt(phb.index) * MMIO32_BYTES
  return {
    name: phb.name,
    buid: phb.buid,
    mmio32: { start: mmio32, last: mmio32 + MMIO32_BYTES - 1n },
    node: {
      name: `pci@${phb.buid.toString(16)}`,
      properties: {
        ...(phb.bare ? {} : defaultWindow),
        ...(phb.ddw ? ddw : {}),
      },
    },
    devices: [...phb.devices, ...phb.virtio].map((d) => ({
      name: d.name,
      devfn: (d.slot << 3) | d.function,
    })),
    ...(phb.bare && {
      bare: { window: window?.number ?? 0, gpa: Number(phb.bare.gpa), bytes: Number(phb.bare.bytes) },
    }),
  }
}

/** The words that a kernel writes. Those of a TCE area are what its PHB translates with. */
function guestRam(guest: GuestMemory, phbs: readonly SpaprPhb[], d: PseriesDescription): GuestRam {
  const storeU64be = (gpa: number, hi: number, lo: number): boolean =>
    guest.storeU64be(Math.floor(gpa / 2 ** PAGE_4K_SHIFT), gpa % PAGE_4K_BYTES, hi, lo)
  const areas = d.phbs.flatMap(({ bare }, i) => {
    const window = phbs[i]?.tables[0]?.window
    return bare && window ? [{ start: Number(bare.gpa), window }] : []
  })
  if (areas.length === 0) return { storeU64be }
  return {
    storeU64be: (gpa, hi, lo) => {
      for (const { start, window } of areas) {
        const entry = (gpa - start) / TCE_BYTES
        if (entry >= 0 && entry < window.entries) window.store.set(entry, lo, hi)
      }
      return storeU64be(gpa, hi, lo)
    },
  }
}

/** Memory of another partition or of the host lies in the machine, but the guest's kernel does not know it. */
const isForeign = (owner: string): boolean => owner.startsWith('partition:') || owner.startsWith('host:')

interface GuestParts {
  readonly machine: Machine
  readonly description: PseriesDescription
  readonly hcall: HcallPort
  readonly rtas: RtasPort
  readonly guest: GuestMemory
  readonly liobns: LiobnMap
  /** As the description lists them, with their windows open. */
  readonly phbs: readonly SpaprPhb[]
}

/** The guest's kernel, wired to the hypervisor and firmware that it meets and to the memory that it has. */
export function createGuestKernel({
  machine,
  description: d,
  hcall,
  rtas,
  guest,
  liobns,
  phbs,
}: GuestParts): GuestKernel {
  const { stage, journal, profile } = machine
  return new GuestKernel({
    hcall,
    rtas,
    ram: guestRam(guest, phbs, d),
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
    phbs: d.phbs.map((phb, i) => phbNode(phb, phbs[i]?.tables[0]?.window)),
  })
}
