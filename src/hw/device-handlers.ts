import { type Answer, answerOf, type CallHandler, dead, type Value } from '../bits/answer.ts'
import { bytesOf, bytesText } from '../bits/byte-text.ts'
import type { CallDecl } from '../bits/call.ts'
import { IommulatorError } from '../bits/errors.ts'
import { didYouMean } from '../bits/suggest.ts'
import { hex, hiOf, loOf } from '../bits/u64.ts'
import type { Stage } from '../trace/stage.ts'
import type { Edu } from './edu.ts'
import { DMA_READ, DMA_WRITE, MMIO_READ, MMIO_WRITE } from './edu-calls.ts'
import type { Life } from './life.ts'

type Args = Readonly<Record<string, Value>>

const numberIn = (args: Args, name: string): number => Number(args[name] ?? 0n)

/** What handlers of device calls need: the devices by name, and the process that emulates them. */
export interface DeviceParts {
  readonly devices: ReadonlyMap<string, Edu>
  readonly stage: Stage
  readonly life: Life
}

/**
 * Register accesses (`mmio`) and requests (`dma`) of devices, as operations.
 *
 * @throws IommulatorError ERR_OPERATION where no device has the name, a value does not fit its width, or a
 * write names neither its bytes nor how many
 */
export function deviceHandlers({ devices, stage, life }: DeviceParts): CallHandler[] {
  const handler = (
    decl: CallDecl,
    shown: (args: Args) => readonly bigint[],
    call: (device: Edu, args: Args) => { rule: number; outputs: Record<string, Value> },
  ): CallHandler => {
    const tags = stage.tag(decl)
    return {
      decl,
      run(args): Answer {
        const device = deviceOf(devices, args['device'] as string)
        if (life.isDead) return dead(life.why)
        const [a0 = 0n, a1 = 0n, a2 = 0n] = shown(args)
        const before = stage.enter(tags, loOf(a0), hiOf(a0), loOf(a1), hiOf(a1), loOf(a2), hiOf(a2))
        device.warnings = []
        const { rule, outputs } = call(device, args)
        if (life.isDead) {
          stage.cause = before
          return dead(life.why)
        }
        const out = outputs['value'] ?? outputs['moved'] ?? 0n
        stage.leave(tags, before, rule, loOf(out as bigint), hiOf(out as bigint))
        return answerOf(decl, rule, { outputs, warnings: device.warnings })
      },
    }
  }
  return [
    handler(MMIO_READ, mmioShown, (device, args) => ({
      rule: device.read(numberIn(args, 'offset'), numberIn(args, 'bytes')),
      outputs: { value: device.value },
    })),
    handler(MMIO_WRITE, mmioShown, (device, args) => ({
      rule: device.write(numberIn(args, 'offset'), numberIn(args, 'bytes'), valueIn(args)),
      outputs: {},
    })),
    handler(DMA_READ, dmaShown, (device, args) => {
      const [bytes, at] = [numberIn(args, 'bytes'), numberIn(args, 'at')]
      const rule = device.transfer(args['iova'] as bigint, bytes, false, at)
      const data = bytesText(device.bufferAt(at, bytes))
      return { rule, outputs: { data, moved: BigInt(device.moved) } }
    }),
    handler(DMA_WRITE, dmaShown, (device, args) => {
      const data = args['data'] === undefined ? undefined : bytesOf(args['data'] as string)
      const rule = device.transfer(
        args['iova'] as bigint,
        Number(lengthOf(args)),
        true,
        numberIn(args, 'at'),
        data,
      )
      return { rule, outputs: { moved: BigInt(device.moved) } }
    }),
  ]
}

const mmioShown = (args: Args): readonly bigint[] => [
  args['offset'] as bigint,
  (args['value'] as bigint | undefined) ?? 0n,
  args['bytes'] as bigint,
]
const dmaShown = (args: Args): readonly bigint[] => [args['iova'] as bigint, lengthOf(args)]

/** Bytes of a request: as said, or as many as there are. */
function lengthOf(args: Args): bigint {
  const { bytes, data } = args
  if (bytes !== undefined) return bytes as bigint
  if (data !== undefined) return BigInt(bytesOf(data as string).length)
  throw new IommulatorError('ERR_OPERATION', 'a DMA write needs `data` or `bytes`', { field: 'bytes' })
}

function valueIn(args: Args): bigint {
  const value = args['value'] as bigint
  const widthBytes = numberIn(args, 'bytes')
  if (value >> BigInt(widthBytes * 8) !== 0n) {
    throw new IommulatorError('ERR_OPERATION', `${hex(value)} does not fit ${widthBytes} bytes`, {
      field: 'value',
    })
  }
  return value
}

function deviceOf(devices: ReadonlyMap<string, Edu>, name: string): Edu {
  const device = devices.get(name)
  if (device !== undefined) return device
  const known = [...devices.keys()]
  throw new IommulatorError(
    'ERR_OPERATION',
    `no device is called "${name}"${didYouMean(name, known)}; known: ${known.join(', ') || 'none'}`,
    { field: 'device' },
  )
}
