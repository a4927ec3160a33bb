import type { RuleOf } from '../../../bits/call.ts'
import type { Task, WorkArg } from '../../steps.ts'
import type { Attached } from '../attachments.ts'
import type { SVA_DISABLE, SVA_ENABLE, SVA_PAGE_RESPONSE } from './calls.ts'
import type { EntrySteps } from './entry-steps.ts'
import { type IopfQueue, pasidOf } from './iopf-queue.ts'
import type { IopfSteps, ResponseCode } from './iopf-steps.ts'
import type { SvaParts } from './sva-parts.ts'

export interface FeatureParts {
  readonly parts: SvaParts
  readonly entries: EntrySteps
  readonly queue: IopfQueue
  readonly faults: IopfSteps
}

/**
 * What the driver of a device does with the feature, each as one step. (Linux v6.1 drivers/iommu/intel/iommu.c,
 * intel_iommu_enable_sva, intel_iommu_disable_sva; iommu.c, iommu_page_response)
 */
export function defineFeatureSteps({ parts, entries, queue, faults }: FeatureParts): void {
  const { tasks, driver } = parts

  const enable = (attached: Attached): RuleOf<typeof SVA_ENABLE> => {
    const { core } = driver
    const { hasPasid, hasWalkSnoop, hasFirst1G } = core.registers.features
    const { name } = attached.device
    if (!core.isScalable || !hasPasid || !hasWalkSnoop || !hasFirst1G) return 'not-capable'
    if (!attached.hasPasid || !attached.hasRequests || !attached.hasAts) return 'features-off'
    if (queue.has(name)) return 'enabled'
    queue.add(name)
    return 'done'
  }
  const disable = ({ device }: Attached): RuleOf<typeof SVA_DISABLE> => {
    if (queue.isPending(device.name)) return 'pending'
    if (!queue.has(device.name)) return 'not-enabled'
    queue.remove(device.name)
    return 'done'
  }
  const respond = ({ device }: Attached, args: readonly WorkArg[]): RuleOf<typeof SVA_PAGE_RESPONSE> => {
    const [pasid, group, code] = args
    const { name } = device
    if (!queue.has(name)) return 'no-handler'
    if (!queue.isPending(name)) {
      faults.warn(name)
      return 'none-pending'
    }
    const fault = queue.takePending(name, Number(group), Number(pasid))
    if (fault === undefined) return 'no-match'
    if (faults.respond(fault, code as ResponseCode)) return 'done'
    return pasidOf(fault) === 0 ? 'pasid-reserved' : 'not-bound'
  }

  const step = (
    name: string,
    doc: string,
    run: (attached: Attached, args: readonly WorkArg[]) => string,
  ): void =>
    tasks.define(name, {
      doc,
      run: (task: Task, [device, ...args]) => {
        const attached = entries.attachedFor(task, device)
        if (attached !== undefined) task.finish(run(attached, args))
        return undefined
      },
    })
  step('sva.enable', 'queues page requests of a device from now on', enable)
  step('sva.disable', 'queues page requests of a device no more', disable)
  step('sva.respond', 'answers a group of page requests for a driver', respond)
}
