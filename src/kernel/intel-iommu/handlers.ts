import { type Answer, answerOf, type CallHandler, dead, unmodelled, type Value } from '../../bits/answer.ts'
import { type CallDecl, type RuleOf, rulesOf } from '../../bits/call.ts'
import { hiOf, loOf } from '../../bits/u64.ts'
import type { Life } from '../../hw/life.ts'
import type { Stage } from '../../trace/stage.ts'
import { isStop, type Outcome, unknown } from '../outcome.ts'
import {
  IOMMU_ATTACH,
  IOMMU_ATTACH_PASID,
  IOMMU_DETACH,
  IOMMU_DETACH_PASID,
  IOMMU_FAULTS,
  IOMMU_FLUSH_ALL,
  IOMMU_FLUSH_CONTEXT,
  IOMMU_FLUSH_DEVICE_TLB,
  IOMMU_FLUSH_DOMAIN,
  IOMMU_FLUSH_PAGES,
  IOMMU_FLUSH_QUEUE,
  IOMMU_FORGET,
  IOMMU_MAP,
  IOMMU_PAGE_REQUESTS,
  IOMMU_RESUME,
  IOMMU_START,
  IOMMU_STOP,
  IOMMU_SUBMIT,
  IOMMU_SUSPEND,
  IOMMU_UNMAP,
} from './calls.ts'
import { GRANULARITY } from './descriptors.ts'
import type { Duty } from './duties.ts'
import type { GuestDevice } from './guest-device.ts'
import type { FaultRecord } from './unit-control.ts'
import type { DomainKind, FlushWay, VtdDriver } from './vtd-driver.ts'

type Args = Readonly<Record<string, Value>>

const PERMS: Readonly<Record<string, number>> = { read: 1, write: 2, both: 3 }
/** Calls that make sense before the driver has started the unit, or while it sleeps. */
const ALWAYS: readonly CallDecl[] = [IOMMU_START, IOMMU_STOP, IOMMU_SUSPEND, IOMMU_RESUME, IOMMU_FORGET]

const big = (args: Args, name: string): bigint => args[name] as bigint
const number = (args: Args, name: string): number => Number(args[name])
const text = (args: Args, name: string): string => (args[name] as string | undefined) ?? ''

/** What of a machine the calls of a driver need. */
export interface DriverMachine {
  readonly stage: Stage
  /** Who must live for a call to be answered: what emulates the machine, and the guest. */
  readonly lives: readonly Life[]
}

/** What a guest does with its VT-d unit, as operations. Nothing is answered once QEMU or the guest has ended. */
export function iommuHandlers(guest: VtdDriver, { stage, lives }: DriverMachine): CallHandler[] {
  const end = () => lives.find((life) => life.isDead)
  const handler = <D extends CallDecl>(
    decl: D,
    run: (args: Args) => Outcome<RuleOf<D>>,
    outputs: (args: Args) => Record<string, Value> = () => ({}),
  ): CallHandler => {
    const tags = stage.tag(decl)
    const rules = rulesOf(decl) as Readonly<Record<string, number>>
    const shown = Object.keys(decl.args).filter((name) => /^u/.test(decl.args[name]?.type ?? ''))
    const outcomeOf = (args: Args): Outcome<RuleOf<D>> => {
      if (!guest.isOn && !ALWAYS.includes(decl)) return unknown('a unit that the driver has not started')
      const outcome = run(args)
      const why = guest.core.flusher.queue.takeUnknown()
      return why === undefined ? outcome : unknown(why)
    }
    return {
      decl,
      run(args): Answer {
        const over = end()
        if (over !== undefined) return dead(over.why)
        const lanes = shown.slice(0, 4).flatMap((name) => {
          const word = (args[name] ?? 0n) as bigint
          return [loOf(word), hiOf(word)]
        })
        const before = stage.enter(tags, ...lanes)
        const outcome = outcomeOf(args)
        const warnings = guest.core.takePrinted()
        const ended = end()
        if (ended !== undefined || isStop(outcome)) {
          stage.cause = before
          return ended === undefined ? unmodelled((outcome as { why: string }).why) : dead(ended.why)
        }
        const place = stage.leave(tags, before, rules[outcome] as number)
        return answerOf(decl, place, { outputs: outputs(args), warnings })
      },
    }
  }
  const withDevice =
    <R extends string>(run: (device: GuestDevice, args: Args) => Outcome<R>) =>
    (args: Args): Outcome<R | 'device-unknown'> => {
      const device = guest.device(text(args, 'device'))
      return device === undefined ? 'device-unknown' : run(device, args)
    }
  const hasAts = (args: Args): Record<string, Value> => {
    const device = guest.device(text(args, 'device'))
    return { ats: device !== undefined && guest.attachmentOf(device)?.hasAts === true }
  }
  let faults: readonly FaultRecord[] = []
  let handled = { requests: 0, responses: 0 }
  const answerRequests = (args: Args) => {
    const done = guest.answerRequests(text(args, 'answer') === 'success')
    handled = { requests: done?.requests ?? 0, responses: done?.responses ?? 0 }
    if (done === undefined) return 'no-queue'
    if (done.hadOverflow) return 'overflow'
    return done.requests === 0 ? 'none' : 'done'
  }
  return [
    handler(IOMMU_START, () => guest.start()),
    handler(IOMMU_STOP, () => guest.stop()),
    handler(IOMMU_SUSPEND, () => guest.suspend()),
    handler(IOMMU_RESUME, () => guest.resume()),
    handler(IOMMU_FORGET, (args) => {
      guest.forget(text(args, 'duty') as Duty, args['on'] !== false)
      return 'done'
    }),
    handler(
      IOMMU_FAULTS,
      () => {
        faults = guest.readFaults()
        return faults.length === 0 ? 'none' : 'done'
      },
      () => ({ records: faults.flatMap(({ lo, hi }) => [lo, hi]) }),
    ),
    handler(IOMMU_PAGE_REQUESTS, answerRequests, () => ({
      requests: BigInt(handled.requests),
      responses: BigInt(handled.responses),
    })),
    handler(
      IOMMU_ATTACH,
      withDevice((device, args) =>
        guest.attach(device, number(args, 'domain'), {
          wantsAts: args['ats'] !== false,
          kind: text(args, 'kind') as DomainKind,
        }),
      ),
      hasAts,
    ),
    handler(
      IOMMU_DETACH,
      withDevice((device) => guest.detach(device)),
    ),
    handler(
      IOMMU_ATTACH_PASID,
      withDevice((device, args) => guest.attachPasid(device, number(args, 'pasid'), number(args, 'domain'))),
    ),
    handler(
      IOMMU_DETACH_PASID,
      withDevice((device, args) => guest.detachPasid(device, number(args, 'pasid'), args['silent'] === true)),
    ),
    handler(IOMMU_MAP, (args) => {
      const at = { iova: big(args, 'iova'), gpa: big(args, 'gpa'), bytes: big(args, 'bytes') }
      const perm = PERMS[text(args, 'dir')] as number
      return guest.map(number(args, 'domain'), at, perm, text(args, 'owner'))
    }),
    handler(IOMMU_UNMAP, (args) => {
      const at = { iova: big(args, 'iova'), bytes: big(args, 'bytes') }
      return guest.unmap(number(args, 'domain'), at, text(args, 'owner'), text(args, 'flush') as FlushWay)
    }),
    handler(IOMMU_FLUSH_PAGES, (args) =>
      guest.flushPages(number(args, 'domain'), big(args, 'iova'), big(args, 'bytes')),
    ),
    handler(IOMMU_FLUSH_DOMAIN, (args) => guest.flushDomain(number(args, 'domain'))),
    handler(IOMMU_FLUSH_QUEUE, (args) => guest.flushQueue(number(args, 'domain'))),
    handler(IOMMU_FLUSH_ALL, () => {
      guest.flushAll()
      return 'done'
    }),
    handler(
      IOMMU_FLUSH_DEVICE_TLB,
      withDevice((device, args) => guest.flushDeviceTlb(device, big(args, 'iova'), big(args, 'bytes'))),
    ),
    handler(
      IOMMU_FLUSH_CONTEXT,
      withDevice((device) => {
        const domain = guest.attachmentOf(device)?.domain ?? 0
        guest.core.flusher.context(domain, device.source, GRANULARITY.FINE)
        return 'done'
      }),
    ),
    handler(IOMMU_SUBMIT, (args) => guest.submit([big(args, 'lo'), big(args, 'hi')])),
  ]
}
