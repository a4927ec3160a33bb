import {
  GUEST_DEFAULTS,
  type GuestDescription,
  type GuestPhbDescription,
} from '../powernv/guest-description.ts'
import { amount, type DocumentMap, present, unless } from './document-value.ts'
import { virtioDocument } from './virtio-schema.ts'

const phbDocument = (phb: GuestPhbDescription): DocumentMap => {
  const window = unless(phb.windowBytes, GUEST_DEFAULTS.windowBytes)
  return present({
    name: phb.name,
    index: phb.index,
    buid: unless(phb.buid, GUEST_DEFAULTS.buid + BigInt(phb.index)),
    pageSizes: phb.pageShifts.map((shift) => amount(1n << BigInt(shift))),
    ddw: unless(phb.ddw, GUEST_DEFAULTS.ddw),
    window: window === undefined ? undefined : amount(window),
    groups: phb.groups.length === 0 ? undefined : [...phb.groups],
    virtio: virtioDocument(phb.virtio),
  })
}

/** A guest on a POWER host as the plain value that a scenario file holds. */
export const guestDocument = (g: GuestDescription): DocumentMap =>
  present({
    process: g.process,
    profile: unless(g.profile, GUEST_DEFAULTS.profile),
    kvm: unless(g.hasKvm, GUEST_DEFAULTS.hasKvm),
    multitce: unless(g.hasMultiTce, GUEST_DEFAULTS.hasMultiTce),
    ram: amount(g.ramBytes),
    ua: unless(g.ua, GUEST_DEFAULTS.ua),
    hugePages: g.hugeShift === 0 ? undefined : amount(1n << BigInt(g.hugeShift)),
    vhost: g.vhostRemedy && { remedy: g.vhostRemedy },
    phbs: g.phbs.map(phbDocument),
  })
