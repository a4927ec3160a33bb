import { type Answer, answerOf, type CallHandler, dead, unmodelled, type Value } from '../../bits/answer.ts'
import { type CallDecl, type RuleOf, rulesOf } from '../../bits/call.ts'
import { hiOf, loOf } from '../../bits/u64.ts'
import type { Stage } from '../../trace/stage.ts'
import { named } from '../device-name.ts'
import type { RequestTags } from '../dma-request.ts'
import type { Life } from '../life.ts'
import { NO_PASID, PERM } from '../vtd/ports.ts'
import type { Endpoint } from './endpoint.ts'
import {
  ATS_BEHAVE,
  ATS_COMPLETE,
  ATS_DISABLE,
  ATS_DISABLE_PASID,
  ATS_ENABLE,
  ATS_ENABLE_PASID,
  ATS_FORGET,
  ATS_RELEASE_PASID,
  ATS_TRANSLATE,
  type InvalidationWay,
  PRI_DISABLE,
  PRI_ENABLE,
  PRI_REQUEST,
  PRI_RESET,
  PRI_STATUS,
} from './endpoint-calls.ts'
import { GROUPS } from './page-requests.ts'

type Args = Readonly<Record<string, Value>>
type Outputs = Record<string, Value>

/** How a call ended: the rule, with what it hands out; or why the model does not know. */
type Ending<R extends string> = R | readonly [rule: R, outputs: Outputs] | { readonly why: string }

const SWITCHED = { why: 'PASIDs that are switched while ATS is on' }
const PAGE_MASK = 0xfffn

const tagsOf = (args: Args): RequestTags => ({
  pasid: args['pasid'] === undefined ? undefined : Number(args['pasid']),
  isPrivileged: args['privileged'] === true,
  isExecute: args['execute'] === true,
})

export interface EndpointHandlerParts {
  readonly stage: Stage
  readonly life: Life
  /** Every device of the machine by its name; those that are no such function have no capability. */
  readonly devices: ReadonlyMap<string, Endpoint | undefined>
}

/**
 * What software and devices do by ATS and PRI, as operations.
 *
 * @throws IommulatorError ERR_OPERATION where no device has the name
 */
export function endpointHandlers({ stage, life, devices }: EndpointHandlerParts): CallHandler[] {
  const handler = <D extends CallDecl>(
    decl: D,
    run: (device: Endpoint | undefined, args: Args) => Ending<RuleOf<D>>,
  ): CallHandler => {
    const tags = stage.tag(decl)
    const rules = rulesOf(decl) as Readonly<Record<string, number>>
    return {
      decl,
      run(args): Answer {
        const device = named(args['device'] as string, devices)
        if (life.isDead) return dead(life.why)
        const iova = (args['iova'] ?? 0n) as bigint
        const pasid = Number(args['pasid'] ?? NO_PASID)
        const before = stage.enter(tags, loOf(iova), hiOf(iova), pasid | 0, 0)
        const ending = run(device, args)
        if (life.isDead || (typeof ending === 'object' && 'why' in ending)) {
          stage.cause = before
          return life.isDead ? dead(life.why) : unmodelled((ending as { why: string }).why)
        }
        const [rule, outputs] = typeof ending === 'string' ? [ending, {}] : ending
        const place = stage.leave(tags, before, rules[rule] as number)
        return answerOf(decl, place, { outputs })
      },
    }
  }
  const withAts =
    <R extends string>(run: (device: Endpoint, args: Args) => Ending<R>) =>
    (device: Endpoint | undefined, args: Args): Ending<R | 'no-ats'> =>
      device?.options.ats === undefined ? 'no-ats' : run(device, args)
  const withPasid =
    <R extends string>(run: (device: Endpoint, args: Args) => Ending<R>) =>
    (device: Endpoint | undefined, args: Args): Ending<R | 'no-pasid'> =>
      device?.options.pasid === undefined ? 'no-pasid' : run(device, args)
  const withPri =
    <R extends string>(
      run: (pages: NonNullable<Endpoint['pages']>, device: Endpoint, args: Args) => Ending<R>,
    ) =>
    (device: Endpoint | undefined, args: Args): Ending<R | 'no-pri'> =>
      device?.pages === undefined ? 'no-pri' : run(device.pages, device, args)

  return [
    handler(
      ATS_ENABLE,
      withAts((device) => {
        device.setAts(true)
        return 'done'
      }),
    ),
    handler(
      ATS_DISABLE,
      withAts((device) => {
        device.setAts(false)
        return 'done'
      }),
    ),
    handler(
      ATS_ENABLE_PASID,
      withPasid<'tags-unsupported' | 'done'>((device, { execute, privileged }) => {
        const has = device.options.pasid
        if (
          (execute === true && has?.execute !== true) ||
          (privileged === true && has?.privileged !== true)
        ) {
          return 'tags-unsupported'
        }
        if (device.hasAts) return SWITCHED
        device.setPasid(true, execute === true, privileged === true)
        return 'done'
      }),
    ),
    handler(
      ATS_DISABLE_PASID,
      withPasid<'done'>((device) => {
        if (device.hasAts) return SWITCHED
        device.setPasid(false)
        return 'done'
      }),
    ),
    handler(ATS_TRANSLATE, (device, args) => (device?.hasAts === true ? translate(device, args) : 'ats-off')),
    handler(
      ATS_BEHAVE,
      withAts((device, args) => {
        device.behave(args['invalidations'] as InvalidationWay, Number(args['ticks']))
        return 'done'
      }),
    ),
    handler(
      ATS_COMPLETE,
      withAts((device) => (device.complete() ? 'done' : 'unexpected')),
    ),
    handler(
      ATS_RELEASE_PASID,
      withPasid((device, { pasid }) => (device.releasePasid(Number(pasid)) ? 'done' : 'not-counted')),
    ),
    handler(
      ATS_FORGET,
      withAts((device) => {
        const entries = BigInt(device.tlb.entries)
        device.tlb.clear()
        return ['done', { entries }]
      }),
    ),
    handler(
      PRI_ENABLE,
      withPri((pages, _device, { requests }) => {
        pages.enable(requests === undefined ? undefined : Number(requests))
        return 'done'
      }),
    ),
    handler(
      PRI_DISABLE,
      withPri((pages) => {
        pages.disable()
        return 'done'
      }),
    ),
    handler(
      PRI_RESET,
      withPri((pages, device) => {
        if (pages.isOn) return 'enabled'
        device.settle(pages.reset())
        return 'done'
      }),
    ),
    handler(PRI_REQUEST, (device, args) =>
      device?.pages?.isOn === true ? request(device, args) : 'pri-off',
    ),
    handler(
      PRI_STATUS,
      withPri((pages) => [
        'done',
        {
          enabled: pages.isOn,
          failed: pages.hasFailed,
          unexpected: pages.hasUnexpected,
          waiting: BigInt(pages.groups),
          accesses: BigInt(pages.accesses),
        },
      ]),
    ),
  ]
}

function translate(device: Endpoint, args: Args): Ending<RuleOf<typeof ATS_TRANSLATE>> {
  const tags = tagsOf(args)
  if (!device.takes(tags)) return 'tags-off'
  const iova = args['iova'] as bigint
  const { entry, reason } = device.translate(iova, tags, args['noWrite'] === true)
  if (reason !== 0) return ['refused', { reason: BigInt(reason) }]
  if (entry === undefined) return 'no-permission'
  const { first, target, shift, perm } = entry
  const bytes = 1n << BigInt(shift)
  const offset = (iova & ~PAGE_MASK) - (BigInt(first) << 12n)
  return [
    'done',
    {
      address: (BigInt(target) << 12n) + offset + (iova & PAGE_MASK),
      bytes,
      read: (perm & PERM.READ) !== 0,
      write: (perm & PERM.WRITE) !== 0,
      execute: (perm & PERM.EXECUTE) !== 0,
    },
  ]
}

function request(device: Endpoint, args: Args): Ending<RuleOf<typeof PRI_REQUEST>> {
  const { pages, options } = device
  const tags = tagsOf(args)
  const group = Number(args['group'])
  if (pages === undefined) return 'pri-off'
  if (!device.takes(tags)) return 'tags-off'
  if (group >= GROUPS) return 'group-too-wide'
  if (!pages.hasCredits(1)) return 'no-credit'
  const { end, ended } = pages.send({
    source: options.source,
    pasid: tags.pasid ?? NO_PASID,
    address: (args['iova'] as bigint) & ~PAGE_MASK,
    isRead: args['read'] === true,
    isWrite: args['write'] === true,
    isExecute: tags.isExecute,
    isPrivileged: tags.isPrivileged,
    group,
    isLast: args['last'] === true,
    privateData: args['private'] as bigint | undefined,
  })
  device.settle(ended)
  return end === 'queued' ? 'done' : end
}
