import { KVM_STEPS } from './kernel-kvm-steps.ts'
import { PROCESS_STEPS } from './kernel-process-steps.ts'
import { RAW_STEPS } from './kernel-raw-steps.ts'
import type { CallTranslation } from './kernel-step.ts'
import { VFIO_STEPS } from './kernel-vfio-steps.ts'

/** How the agent does the calls that it can do, by verb and name. */
export const KERNEL_STEPS: Readonly<Record<string, CallTranslation>> = {
  ...PROCESS_STEPS,
  ...VFIO_STEPS,
  ...KVM_STEPS,
  ...RAW_STEPS,
}
