import { type Erratum, resolveProfile } from '../../bits/errata.ts'
import { HW_ERRATA } from '../../hw/errata.ts'
import { EEH_ERRATA } from '../../kernel/eeh/errata.ts'
import { GUEST_ERRATA } from '../../kernel/guest/errata.ts'
import { KVM_ERRATA } from '../../kernel/kvm/errata.ts'
import { X86_ERRATA } from '../../machine/known-errata.ts'
import { ERRATA } from '../../machine/registry.ts'
import { type RecordedRun, runRecording } from './recorded-run.ts'

/** What one recording says of an erratum: answers that would be others if the machine had it, or did not. */
export interface ErratumCount {
  readonly erratum: Erratum
  readonly recording: string
  /** The machine of the recording has it. */
  readonly isThere: boolean
  readonly count: number
  readonly first: number
}

const idsOf = (errata: readonly Erratum[]): ReadonlySet<string> => new Set(errata.map(({ id }) => id))
/** The emulated host bridges of a recorded kernel have these, whatever the profile says. */
const OF_EMULATION = idsOf(HW_ERRATA)
/** Deviations of what no recording of answers asks: drivers of a guest, and recovery of errors. */
const NEVER_ASKED = idsOf([...GUEST_ERRATA, ...EEH_ERRATA])
const OF_KVM = idsOf(KVM_ERRATA)

/** Deviations that a recording can say something about. */
function askedIn({ recording, calls }: RecordedRun): Erratum[] {
  const isKernel = recording.kind === 'kernel-answers'
  const hasKvm = calls.some(({ layer }) => layer === 'kvm')
  return ERRATA.filter(({ id, family }) => {
    // The recordings are of POWER machines.
    if (NEVER_ASKED.has(id) || X86_ERRATA.has(id) || (OF_KVM.has(id) && !hasKvm)) return false
    return isKernel ? family === 'linux' || OF_EMULATION.has(id) : family === 'qemu' && !OF_EMULATION.has(id)
  })
}

/**
 * Runs a recording again for each deviation that it can say something about, without it where its machine has it and
 * with it where not, and counts the answers that then are others.
 */
export function erratumCounts(run: RecordedRun): ErratumCount[] {
  const { recording, profile, same } = run
  const has = resolveProfile(ERRATA, profile)
  const before = new Set(same)
  return askedIn(run).map((erratum) => {
    const { id } = erratum
    const isThere = has.has(id) || (recording.kind === 'kernel-answers' && OF_EMULATION.has(id))
    const { different } = runRecording(recording, `${profile},${isThere ? '-' : '+'}${id}`)
    const changed = different.filter((line) => before.has(line))
    return { erratum, recording: recording.name, isThere, count: changed.length, first: changed[0] ?? 0 }
  })
}
