import { type Answer, answerOf, type CallHandler, dead, type Value } from '../../bits/answer.ts'
import { type CallDecl, type RuleOf, rulesOf } from '../../bits/call.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { didYouMean } from '../../bits/suggest.ts'
import { hiOf, loOf } from '../../bits/u64.ts'
import type { Life } from '../../hw/life.ts'
import type { Stage } from '../../trace/stage.ts'
import { Args } from './guest-handler.ts'
import { type BlkRequest, VirtioBlkDriver } from './virtio-blk-driver.ts'
import {
  VIRTIO_OFFER,
  VIRTIO_QUEUE,
  VIRTIO_READY,
  VIRTIO_REAP,
  VIRTIO_REQUEST,
  VIRTIO_RESET,
  VIRTIO_SEND,
} from './virtio-calls.ts'
import type { VirtioDriver } from './virtio-driver.ts'
import { VirtioNetDriver } from './virtio-net-driver.ts'

interface VirtioParts {
  readonly stage: Stage
  /** QEMU's: a guest is gone with it. */
  readonly life: Life
  /** Drivers by the names of their devices; null for a device whose rings are not modelled. */
  readonly drivers: ReadonlyMap<string, VirtioDriver | null>
  /** What is answered for a guest that does not run; undefined where it does. */
  readonly absent: () => Answer | undefined
  /** What an answer comes to, seen from outside: with what QEMU has printed on the way. */
  readonly finish: (answer: Answer) => Answer
}

type Outputs = Readonly<Record<string, Value>>

const requestOf = (args: Args): BlkRequest => ({
  type: args.text('type') as BlkRequest['type'],
  sector: args.big('sector'),
  gpa: args.big('gpa'),
  header: args.big('header'),
  iova: args.big('iova'),
  bytes: args.number('bytes'),
})

/**
 * What drivers of virtio devices do, as operations (`virtio`).
 *
 * @throws IommulatorError ERR_OPERATION where no virtio device has the name
 */
export function virtioHandlers({ stage, life, drivers, absent, finish }: VirtioParts): CallHandler[] {
  const find = (name: string): VirtioDriver | null => {
    const found = drivers.get(name)
    if (found !== undefined) return found
    const known = [...drivers.keys()]
    const what = `no virtio device is called "${name}"${didYouMean(name, known)}; known: ${known.join(', ') || 'none'}`
    throw new IommulatorError('ERR_OPERATION', what, { field: 'device' })
  }
  const handler = <D extends CallDecl>(
    decl: D,
    run: (driver: VirtioDriver, args: Args) => RuleOf<D>,
    outputs: (driver: VirtioDriver) => Outputs = () => ({}),
  ): CallHandler => {
    const tags = stage.tag(decl)
    const rules = rulesOf(decl) as Readonly<Record<string, number>>
    return {
      decl,
      run(given) {
        const args = new Args(given)
        const driver = find(args.text('device'))
        if (life.isDead) return dead(life.why)
        const none = absent()
        if (none !== undefined) return none
        const lanes = args.words.slice(0, 4).flatMap((word) => [loOf(word), hiOf(word)])
        const before = stage.enter(tags, ...lanes)
        const rule = driver === null ? 'no-rings' : run(driver, args)
        const place = rules[rule] as number
        if (life.isDead) stage.cause = before
        else stage.leave(tags, before, place)
        const isDone = driver !== null && rule === 'done'
        return finish(answerOf(decl, place, isDone ? { outputs: outputs(driver) } : {}))
      },
    }
  }
  const headOf = (driver: VirtioDriver): Outputs => ({ head: BigInt(driver.head) })
  return [
    handler(
      VIRTIO_QUEUE,
      (driver, args) =>
        driver.layOut(args.number('queue'), args.number('entries'), args.big('gpa'), args.big('iova')),
      ({ last }) => ({ used: last?.queue.used ?? 0n, ring_bytes: BigInt(last?.bytes ?? 0) }),
    ),
    handler(VIRTIO_READY, (driver) => driver.ready()),
    handler(VIRTIO_RESET, (driver) => {
      driver.reset()
      return 'done'
    }),
    handler(
      VIRTIO_SEND,
      (driver, args) =>
        driver instanceof VirtioNetDriver
          ? driver.send(args.big('iova'), args.number('bytes'))
          : 'no-such-queue',
      headOf,
    ),
    handler(
      VIRTIO_OFFER,
      (driver, args) =>
        driver instanceof VirtioNetDriver
          ? driver.offer(args.big('iova'), args.number('bytes'))
          : 'no-such-queue',
      headOf,
    ),
    handler(
      VIRTIO_REQUEST,
      (driver, args) =>
        driver instanceof VirtioBlkDriver ? driver.request(requestOf(args)) : 'no-such-queue',
      headOf,
    ),
    handler(
      VIRTIO_REAP,
      (driver, args) => driver.reap(args.number('queue')),
      (driver) => ({ ...headOf(driver), written: BigInt(driver.written) }),
    ),
  ]
}
