import type { Clock } from '../../bits/clock.ts'
import type { IodaPhb } from '../../hw/ioda-phb.ts'
import { Eeh } from '../../kernel/eeh/eeh.ts'
import type { EehDeviceOptions, EehDriver } from '../../kernel/eeh/eeh-device.ts'
import type { Host } from '../../memory/host.ts'
import type { Machine } from '../machine.ts'
import type { PeDeviceDescription, PowernvDescription } from './description.ts'

/** What drives a device that the host keeps for processes (Linux v6.1 drivers/vfio/pci/vfio_pci_core.c). */
const VFIO_PCI: EehDriver = { name: 'vfio-pci', errorDetected: 'CAN_RECOVER' }

const deviceOf = ({ name, pciId, driver }: PeDeviceDescription): EehDeviceOptions => ({
  name,
  pciId,
  driver: driver ?? VFIO_PCI,
})

/** The kernel's error handling of PCI over the PHBs of a host: one PE of it for each of theirs, below the PHB's own. */
export function createEeh(
  machine: Machine,
  description: PowernvDescription,
  { host, clock, phbs }: { host: Host; clock: Clock; phbs: readonly IodaPhb[] },
): Eeh {
  const eeh = new Eeh({
    host,
    profile: machine.profile,
    isEnabled: description.hasEeh,
    tickMs: description.tickMs,
    now: () => clock.tick,
  })
  for (const [i, phb] of phbs.entries()) {
    const top = eeh.addPhb(phb.name, phb.fence)
    if (description.phbs[i]?.errorInterrupt === true) phb.onError = (what) => eeh.interrupt(what)
    for (const [j, pe] of phb.pes.entries()) {
      const devices = description.phbs[i]?.pes[j]?.devices ?? []
      eeh.addPe(top, {
        name: pe.name,
        firmware: pe.stops,
        group: pe.group,
        devices: devices.map(deviceOf),
      })
    }
  }
  return eeh
}
