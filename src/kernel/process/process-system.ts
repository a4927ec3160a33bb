import { defineCpuSteps } from './cpu-steps.ts'
import { defineFaultSteps } from './fault-steps.ts'
import { defineFileSteps } from './file-steps.ts'
import { defineInspectSteps } from './inspect-steps.ts'
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
 * Everything about processes of one kernel. Each device has a file `/dev/NAME`; who binds processes is told to
 * `files.drivers.binder` once the driver of the unit is there.
 *
 * @example
 * const { processes, files } = makeProcesses(parts)
 * const P = processes.spawn('P')
 */
export function makeProcesses(parts: ProcessParts & { readonly devices: readonly string[] }): ProcessSystem {
  const { stage, journal, tasks, devices } = parts
  const processes = new Processes(parts)
  const shared = new SharedPages(journal, processes.pages)
  const files = new OpenFiles({ stage, journal, tasks, shared, devices })
  defineMmSteps(processes)
  defineFaultSteps(processes, shared)
  defineCpuSteps(processes)
  defineRangeSteps(processes, files)
  defineLifeSteps(processes, files)
  defineFileSteps(processes, files)
  defineInspectSteps(processes, files)
  return { processes, files }
}
