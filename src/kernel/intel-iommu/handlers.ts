import { type Answer, answerOf, type CallHandler, dead, unmodelled, type Value } from '../../bits/answer.ts'
import { type CallDecl, type RuleOf, rulesOf } from '../../bits/call.ts'
import { hiOf, loOf } from '../../bits/u64.ts'
import type { Life } from '../../hw/life.ts'
import type { Stage } from '../../trace/stage.ts'
import { isStop, type Outcome } from '../outcome.ts'
import {
  IOMMU_ATTACH,
  IOMMU_DETACH,
  IOMMU_FLUSH_ALL,
  IOMMU_FLUSH_CONTEXT,
  IOMMU_FLUSH_DEVICE_TLB,
  IOMMU_FLUSH_DOMAIN,
  IOMMU_FLUSH_PAGES,
  IOMMU_MAP,
  IOMMU_SUBMIT,
  IOMMU_UNMAP,
} from './calls.ts'
import { contextDescriptor, domainDescriptor, globalDescriptor } from './descriptors.ts'
import type { GuestDevice, GuestIommu } from './guest-iommu.ts'

type Args = Readonly<Record<string, Value>>

const PERMS: Readonly<Record<string, number>> = { read: 1, write: 2, both: 3 }

const big = (args: Args, name: string): bigint => args[name] as bigint
const number = (args: Args, name: string): number => Number(args[name])
const text = (args: Args, name: string): string => (args[name] as string | undefined) ?? ''

/** What a guest does with its VT-d unit, as operations. Nothing is answered once QEMU has ended. */
export function iommuHandlers(guest: GuestIommu, parts: { stage: Stage; life: Life }): CallHandler[] {
  const { stage, life } = parts
  const handler = <D extends CallDecl>(
    decl: D,
    run: (args: Args) => Outcome<RuleOf<D>>,
    outputs: (args: Args) => Record<string, Value> = () => ({}),
  ): CallHandler => {
    const tags = stage.tag(decl)
    const rules = rulesOf(decl) as Readonly<Record<string, number>>
    const shown = Object.keys(decl.args).filter((name) => /^u/.test(decl.args[name]?.type ?? ''))
    return {
      decl,
      run(args): Answer {
        if (life.isDead) return dead(life.why)
        const lanes = shown.slice(0, 4).flatMap((name) => {
          const word = (args[name] ?? 0n) as bigint
          return [loOf(word), hiOf(word)]
        })
        const before = stage.enter(tags, ...lanes)
        const outcome = run(args)
        if (life.isDead || isStop(outcome)) {
          stage.cause = before
          return life.isDead ? dead(life.why) : unmodelled((outcome as { why: string }).why)
        }
        const place = stage.leave(tags, before, rules[outcome] as number)
        return answerOf(decl, place, { outputs: outputs(args) })
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
  return [
    handler(
      IOMMU_ATTACH,
      withDevice((device, args) => guest.attach(device, number(args, 'domain'), args['ats'] !== false)),
      hasAts,
    ),
    handler(
      IOMMU_DETACH,
      withDevice((device) => guest.detach(device)),
    ),
    handler(IOMMU_MAP, (args) => {
      const at = { iova: big(args, 'iova'), gpa: big(args, 'gpa'), bytes: big(args, 'bytes') }
      const perm = PERMS[text(args, 'dir')] as number
      return guest.map(number(args, 'domain'), at, perm, text(args, 'owner'))
    }),
    handler(IOMMU_UNMAP, (args) =>
      guest.unmap(number(args, 'domain'), big(args, 'iova'), big(args, 'bytes'), text(args, 'owner')),
    ),
    handler(IOMMU_FLUSH_PAGES, (args) =>
      guest.flushPages(number(args, 'domain'), big(args, 'iova'), big(args, 'bytes')),
    ),
    handler(IOMMU_FLUSH_DOMAIN, (args) => {
      const domain = number(args, 'domain')
      return guest.hasDomain(domain) ? guest.flush(domainDescriptor(domain)) : 'domain-unknown'
    }),
    handler(IOMMU_FLUSH_ALL, () => guest.flush(globalDescriptor())),
    handler(
      IOMMU_FLUSH_DEVICE_TLB,
      withDevice((device, args) => guest.flushDeviceTlb(device, big(args, 'iova'), big(args, 'bytes'))),
    ),
    handler(
      IOMMU_FLUSH_CONTEXT,
      withDevice((device) =>
        guest.flush(contextDescriptor(guest.attachmentOf(device)?.domain ?? 0, device.source)),
      ),
    ),
    handler(IOMMU_SUBMIT, (args) => guest.submit([big(args, 'lo'), big(args, 'hi')])),
  ]
}
