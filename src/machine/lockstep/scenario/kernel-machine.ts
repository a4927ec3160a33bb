import { hex } from '../../../bits/u64.ts'
import { DEVICE_KINDS } from '../../description-parts.ts'
import { POWERNV_DEFAULTS, type PowernvDescription, pciAddress } from '../../powernv/description.ts'
import type { RandomGroup } from '../random-script.ts'
import { PeerDevices } from './kernel-variables.ts'
import { type LeftOut, ofMachine } from './plan.ts'

/** System pages of the kernel that the peer boots. */
const PAGE_SHIFT = 16
const PLATFORM = 'PHB4'

/** Groups of a scenario in their order, on those of the peer. */
export function peerDevices(machine: PowernvDescription, groups: readonly RandomGroup[]): PeerDevices {
  const devices = new PeerDevices()
  const all = machine.phbs.flatMap((phb) => phb.pes.map((pe) => ({ phb, pe })))
  for (const [i, { phb, pe }] of all.entries()) {
    const peer = groups[i]
    if (peer === undefined) break
    devices.addGroup(pe.group, peer)
    for (const d of pe.devices) devices.addDevice(d.name, pciAddress(phb, pe, d), pe.group, d.dmaMask)
  }
  return devices
}

/** What of a scenario's host the peer's does not have. Empty where its answers are comparable. */
export function kernelMachineFaults(machine: PowernvDescription, groups: readonly RandomGroup[]): LeftOut[] {
  const faults: LeftOut[] = []
  const say = (field: string, why: string) => faults.push(ofMachine(field, why))
  const { inject, hostPageShift, hasEeh, phbs, guest } = machine
  if (inject?.alloc !== undefined) {
    say('inject', 'an allocation of a real kernel does not fail because a scenario says so')
  }
  if (inject?.regionGoing !== undefined) say('inject', 'a race of a real kernel does not come on demand')
  if (hostPageShift !== PAGE_SHIFT) {
    say('hostPageShift', `the kernel of the peer has pages of ${2 ** (PAGE_SHIFT - 10)} KiB`)
  }
  if (guest !== undefined) say('guest', 'the agent is no QEMU: it has no guest of its own')
  if (!hasEeh) say('eeh', 'the kernel of the peer has EEH')
  const wanted = phbs.reduce((n, { pes }) => n + pes.length, 0)
  if (wanted > groups.length) say('phbs', `the peer has ${groups.length} groups, not ${wanted}`)
  for (const { platform, pageShifts, m32Base, pes } of phbs) {
    if (platform !== PLATFORM)
      say('phbs', `the host bridges of the peer are of kind ${PLATFORM}, not ${platform}`)
    else if (pageShifts !== undefined) say('phbs', 'the page sizes of the peer are those of its firmware')
    if (m32Base !== POWERNV_DEFAULTS.m32Base) {
      say('phbs', `the 32-bit MMIO of the peer begins at ${hex(BigInt(POWERNV_DEFAULTS.m32Base))}`)
    }
    for (const { devices, hasKernelDriver } of pes) {
      if (hasKernelDriver || devices.some((d) => d.driver !== undefined)) {
        say('phbs', 'the peer has no driver of the host bound to a device')
      }
      if (devices.length > 1) say('phbs', 'the peer has one device in a group')
      if (devices.some((d) => d.pciId !== DEVICE_KINDS.edu.pciId)) {
        say('phbs', "the devices of the peer are QEMU's edu")
      }
    }
  }
  return faults.filter((f, i) => faults.findIndex((g) => g.why === f.why) === i)
}
