import type { ProcessPort } from '../../process-port.ts'
import type { Tasks } from '../../steps.ts'
import type { VtdDriver } from '../vtd-driver.ts'
import type { Bindings, Svm } from './bindings.ts'
import type { SvmFlushes } from './flushes.ts'
import type { PasidTables } from './pasid-tables.ts'
import type { SvmQuirks } from './quirks.ts'

/** What all parts of shared virtual memory stand on. */
export interface SvmCore {
  readonly driver: VtdDriver
  readonly tables: PasidTables
  readonly bindings: Bindings
  readonly flushes: SvmFlushes
  readonly quirks: SvmQuirks
  readonly tasks: Tasks
  readonly processes: ProcessPort
  /** The kernel prints a line. */
  readonly say: (text: string) => void
}

export const unitOf = ({ driver }: SvmCore): string => driver.core.options.port.name

/** A driver's structure is allocated (1) or freed (0): `what` is its name in the kernel. */
export function recordObject(
  core: SvmCore,
  what: 'intel_svm' | 'intel_svm_dev',
  { pasid, device, state }: { pasid: number; device: string; state: 0 | 1 },
): void {
  const { log, cause } = core.driver.core.stage
  log.emit('svm.object', cause, { unit: unitOf(core), what, pasid, device, state })
}

/** What was freed is used: the kernel finds 0x6b wherever it looks, and ends. */
export function useAfterFree(core: SvmCore, by: string): void {
  const { stage, life } = core.driver.core
  stage.log.emit('svm.use-after-free', stage.cause, { what: 'intel_svm', by, line: stage.line })
  life.die(`general protection fault in ${by}: it uses what unbind has freed`)
}

export function recordBind(core: SvmCore, svm: Svm, device: string, users: number): void {
  const { log, cause } = core.driver.core.stage
  const source = core.driver.device(device)?.source ?? 0
  const { mm, pasid } = svm
  log.emit('svm.bind', cause, { unit: unitOf(core), device, source, mm, pasid, users })
}
