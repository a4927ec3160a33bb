import type { CallHandler } from '../../bits/answer.ts'
import { containerHandlers } from './container-handlers.ts'
import { eehOpHandlers } from './eeh-handlers.ts'
import { fileHandlers } from './file-handlers.ts'
import { groupHandlers } from './group-handlers.ts'
import type { Vfio } from './vfio.ts'

/** All calls that VFIO answers, but ioctls by number. */
export function vfioHandlers(vfio: Vfio): CallHandler[] {
  return [...fileHandlers(vfio), ...containerHandlers(vfio), ...eehOpHandlers(vfio), ...groupHandlers(vfio)]
}
