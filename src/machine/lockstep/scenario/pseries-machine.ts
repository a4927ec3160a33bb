import { hex } from '../../../bits/u64.ts'
import { PSERIES_DEFAULTS, type PseriesDescription, ramEnd } from '../../pseries/description.ts'
import { PSERIES_RAM_BYTES } from '../pseries-step.ts'
import { type LeftOut, ofMachine } from './plan.ts'

/** Page sizes that the peer must be started with; undefined where they are those that it has anyway. */
export const pageShiftsOf = ({ phbs: [phb] }: PseriesDescription): readonly number[] | undefined =>
  phb === undefined || String(phb.pageShifts) === String(PSERIES_DEFAULTS.pageShifts)
    ? undefined
    : phb.pageShifts

/** What of a scenario's machine the peer's does not have. Empty where its answers are comparable. */
export function pseriesMachineFaults({ ram, phbs, vio }: PseriesDescription): LeftOut[] {
  const faults: LeftOut[] = []
  const say = (field: string, why: string) => faults.push(ofMachine(field, why))
  if (ramEnd(ram) > BigInt(PSERIES_RAM_BYTES))
    say('ram', `the peer has ${PSERIES_RAM_BYTES >> 20} MiB of memory`)
  if (vio.length > 0) say('vio', 'the peer has no VIO devices')
  if (phbs.length !== 1) say('phbs', `the peer has one host bridge, not ${phbs.length}`)
  for (const { index, buid, ddw, maxWindowEntries, bare, virtio } of phbs) {
    if (virtio.length > 0) say('phbs', 'the host bridge of the peer has no virtio device')
    if (bare !== undefined)
      say('phbs', 'the peer has a hypervisor: the TCEs of its host bridge are not in memory')
    else if (!ddw) say('phbs', 'the host bridge of the peer has dynamic windows')
    if (index !== 0) say('phbs', 'the host bridge of the peer has index 0')
    if (buid !== PSERIES_DEFAULTS.buid)
      say('phbs', `the host bridge of the peer is ${hex(PSERIES_DEFAULTS.buid)}`)
    if (maxWindowEntries !== PSERIES_DEFAULTS.maxWindowEntries) {
      say('phbs', 'the windows of the peer have up to 2^31 entries, as QEMU gives them')
    }
  }
  return faults
}
