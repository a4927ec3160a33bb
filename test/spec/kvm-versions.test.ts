import { describe, expect, it } from 'vitest'
import { resolveProfile } from '../../src/bits/errata.ts'
import { KVM_ERRATA } from '../../src/kernel/kvm/errata.ts'

const UNTIL_4_20 =
  'B8 X2 X7 real-mode-handlers power9-real-mode early-tce-checks errors-ignored whole-guest-tables'
const SINCE_4_20 = 'B8 X2 X5 X7 real-mode-handlers power9-real-mode'
const VFIO = 'vfio-device-lives-with-vm'

/** What each version has of the errata of KVM, on both sides of every release that has a fix. */
const HAS: Readonly<Record<string, string>> = {
  '4.5': `B9 no-tce-vfio real-mode-handlers power9-real-mode unchecked-tces whole-guest-tables ${VFIO}`,
  '4.11': `B5 B9 no-tce-vfio real-mode-handlers power9-real-mode unchecked-tces whole-guest-tables ${VFIO}`,
  '4.12': `B4 B5 B6 B7 B9 ${UNTIL_4_20} equal-page-sizes ${VFIO}`,
  '4.14.141': `B4 B5 B6 B7 B9 ${UNTIL_4_20} equal-page-sizes ${VFIO}`,
  '4.14.142': `B4 B5 B7 B9 ${UNTIL_4_20} equal-page-sizes ${VFIO}`,
  '4.18': `B1 B4 B5 B6 B7 B9 ${UNTIL_4_20} ${VFIO}`,
  '4.19.69': `B1 B4 B5 B6 B9 ${UNTIL_4_20} ${VFIO}`,
  '4.19.70': `B1 B4 B5 B9 ${UNTIL_4_20} ${VFIO}`,
  '4.20': `B1 B4 B6 B9 ${SINCE_4_20} whole-guest-tables ${VFIO}`,
  '5.1': `B1 B4 B6 B9 ${SINCE_4_20} whole-guest-tables ${VFIO}`,
  '5.2.11': `B1 B4 B6 B9 B13 ${SINCE_4_20} ${VFIO}`,
  '5.2.12': `B1 B4 B9 B13 ${SINCE_4_20} ${VFIO}`,
  '5.3': `B1 B4 B9 B13 ${SINCE_4_20} ${VFIO}`,
  '5.4.147': `B1 B2 B3 B4 B13 ${SINCE_4_20} ${VFIO}`,
  '5.4.148': `B1 B2 B3 B4 ${SINCE_4_20} ${VFIO}`,
  '5.4.190': `B1 B2 B3 B4 ${SINCE_4_20} ${VFIO}`,
  '5.4.191': `${SINCE_4_20} ${VFIO}`,
  '5.10.66': `B1 B2 B3 B4 B13 ${SINCE_4_20} ${VFIO}`,
  '5.10.67': `B1 B2 B3 B4 ${SINCE_4_20} ${VFIO}`,
  '5.10.112': `B1 B2 B3 B4 ${SINCE_4_20} ${VFIO}`,
  '5.10.113': `${SINCE_4_20} ${VFIO}`,
  '5.13.18': `B1 B2 B3 B4 B13 ${SINCE_4_20} ${VFIO}`,
  '5.13.19': `B1 B2 B3 B4 ${SINCE_4_20} ${VFIO}`,
  '5.14.5': `B1 B2 B3 B4 B13 B8 X2 X5 X7 real-mode-handlers ${VFIO}`,
  '5.14.6': `B1 B2 B3 B4 B8 X2 X5 X7 real-mode-handlers ${VFIO}`,
  '5.15.35': `B1 B2 B3 B4 B8 X2 X5 X7 real-mode-handlers ${VFIO}`,
  '5.15.36': `B8 X2 X5 X7 real-mode-handlers ${VFIO}`,
  '5.17.4': `B1 B2 B3 B4 B8 X2 X5 X7 real-mode-handlers ${VFIO}`,
  '5.17.5': `B8 X2 X5 X7 real-mode-handlers ${VFIO}`,
  '5.18': `B8 X2 X5 X7 real-mode-handlers ${VFIO}`,
  '5.19': `B8 X2 X5 X7 ${VFIO}`,
  '6.1.8': `B8 X2 X5 X7 ${VFIO}`,
  '6.1.9': 'B8 X2 X5 X7',
  '6.12.95': 'B8 X2 X5 X7',
}

describe('errata of KVM', () => {
  it.each(Object.entries(HAS))('of Linux %s', (version, has) => {
    const { has: hasErratum } = resolveProfile(KVM_ERRATA, `linux-${version}`)
    const ids = KVM_ERRATA.map(({ id }) => id).filter((id) => hasErratum(id))
    expect(ids.sort()).toEqual(has.split(' ').sort())
  })
})
