import type { CallHandler } from '../../bits/answer.ts'
import { deviceHandlers } from './device-handlers.ts'
import { hcallHandlers } from './hcall-handlers.ts'
import type { Kvm } from './kvm.ts'
import { tableHandlers } from './table-handlers.ts'
import { vmHandlers } from './vm-handlers.ts'

/** All calls that KVM answers. */
export const kvmHandlers = (kvm: Kvm): CallHandler[] => [
  ...vmHandlers(kvm),
  ...deviceHandlers(kvm),
  ...tableHandlers(kvm),
  ...hcallHandlers(kvm),
]
