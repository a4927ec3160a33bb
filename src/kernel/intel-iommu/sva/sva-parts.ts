import type { Profile } from '../../../bits/errata.ts'
import type { Journal } from '../../../bits/state.ts'
import type { Stage } from '../../../trace/stage.ts'
import type { ProcessPort } from '../../process-port.ts'
import type { Tasks } from '../../steps.ts'
import type { InterruptPort } from '../unit-port.ts'
import type { VtdDriver } from '../vtd-driver.ts'

/** What shared virtual addresses stand on. */
export interface SvaParts {
  readonly driver: VtdDriver
  readonly tasks: Tasks
  readonly processes: ProcessPort
  readonly interrupts: InterruptPort
  readonly stage: Stage
  readonly journal: Journal
  readonly profile: Profile
}

/** The domain-id of every entry that leads to page tables of a process. (Linux v6.1 intel/pasid.h, FLPT_DEFAULT_DID) */
export const PROCESS_DOMAIN = 1
/** Levels of page tables of a processor without 57-bit addresses. */
export const PROCESS_LEVELS = 4
/** Held from the first check of a bind or unbind to its last step, but not while groups are waited for. */
export const PASID_MUTEX = 'pasid_mutex'

/** What a record has as its cause while nothing happens because of anything. */
export const causeOf = ({ cause }: Stage): number | null => (cause < 0 ? null : cause)

/** Why nothing is known of calls for a unit that is off. */
export const NOT_STARTED = 'a unit that the driver has not started'
