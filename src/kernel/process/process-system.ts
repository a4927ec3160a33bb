import { defineFaultSteps } from './fault-steps.ts'
import { defineLifeSteps } from './life-steps.ts'
import { defineMmSteps } from './mm-steps.ts'
import { OpenFiles } from './open-files.ts'
import { Processes, type ProcessParts } from './processes.ts'
import { defineRangeSteps } from './range-steps.ts'
import { SharedPages } from './shared-pages.ts'

/** Processes with their files, and all steps that they are made of. */
export interface ProcessSystem {
  readonly processes: Processes
  readonly files: OpenFiles
}

/**
 * Everything about processes of one kernel.
 *
 * @example
 * const { processes, files } = makeProcesses(parts)
 * const P = processes.spawn('P')
 */
export function makeProcesses(parts: ProcessParts): ProcessSystem {
  const { stage, journal, tasks } = parts
  const processes = new Processes(parts)
  const shared = new SharedPages(journal, processes.pages)
  const files = new OpenFiles({ stage, journal, tasks, shared, release: () => [] })
  defineMmSteps(processes)
  defineFaultSteps(processes, shared)
  defineRangeSteps(processes, files)
  defineLifeSteps(processes, files)
  return { processes, files }
}
