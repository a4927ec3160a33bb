import { type Answer, answerOf, type CallHandler, dead, type Value } from '../bits/answer.ts'
import { type Iova, iova as iovaFrom } from '../bits/brand.ts'
import { bytesOf, bytesText } from '../bits/byte-text.ts'
import { type CallDecl, rulesOf } from '../bits/call.ts'
import { IommulatorError } from '../bits/errors.ts'
import { didYouMean } from '../bits/suggest.ts'
import { hex, hiOf, loOf } from '../bits/u64.ts'
import type { Stage } from '../trace/stage.ts'
import type { BusMaster } from './bus-master.ts'
import { Edu } from './edu.ts'
import { DMA_READ, DMA_WRITE, MMIO_READ, MMIO_WRITE } from './edu-calls.ts'
import type { Life } from './life.ts'

type Args = Readonly<Record<string, Value>>

const DMA = rulesOf(DMA_READ)

/** Bytes that a request moved; the device still has the count of an earlier one where it did not start. */
const movedBy = (device: BusMaster, rule: number): bigint =>
  rule === DMA['handle-unknown'] || rule === DMA['engine-busy'] ? 0n : BigInt(device.moved)

const numberIn = (args: Args, name: string): number => Number(args[name] ?? 0n)

/** What handlers of device calls need: the devices by name, and the process that emulates them. */
export interface DeviceParts {
  readonly devices: ReadonlyMap<string, BusMaster>
  readonly stage: Stage
  readonly life: Life
  /** Bus address that the driver of a named buffer got last, where drivers are modelled. */
  readonly handleOf?: (buffer: string) => bigint | undefined
  /** Told of each read of a register that brought all ones, as drivers check them. */
  readonly onAllOnes?: (device: string) => void
}

/**
 * Register accesses (`mmio`) and requests (`dma`) of devices, as operations.
 *
 * @throws IommulatorError ERR_OPERATION where no device has the name, or it has no registers, a value does not fit its width, a
 * request names neither or both of a bus address and a buffer, or a write neither its bytes nor how many
 */
export function deviceHandlers({ devices, stage, life, handleOf, onAllOnes }: DeviceParts): CallHandler[] {
  const handler = (
    decl: CallDecl,
    shown: (args: Args) => readonly bigint[],
    call: (device: BusMaster, args: Args) => { rule: number; outputs: Record<string, Value> },
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
  const iovaOf = (args: Args): Iova | undefined => {
    const { iova, buffer } = args
    if ((iova === undefined) === (buffer === undefined)) {
      throw new IommulatorError('ERR_OPERATION', 'a DMA needs one of `iova` and `buffer`', { field: 'iova' })
    }
    if (iova !== undefined) return iovaFrom(iova as bigint)
    const handle = handleOf?.(buffer as string)
    if (handle === undefined) return undefined
    return iovaFrom(BigInt.asUintN(64, handle + (args['offset'] as bigint)))
  }
  const dmaShown = (args: Args): readonly bigint[] => [iovaOf(args) ?? 0n, lengthOf(args)]
  const transfer = (device: BusMaster, args: Args, isWrite: boolean, data?: Uint8Array): number => {
    const iova = iovaOf(args)
    if (iova === undefined) return DMA['handle-unknown']
    return device.transfer(iova, Number(lengthOf(args)), isWrite, numberIn(args, 'at'), data)
  }
  return [
    handler(MMIO_READ, mmioShown, (master, args) => {
      const device = withRegisters(master)
      const bytes = numberIn(args, 'bytes')
      const rule = device.read(numberIn(args, 'offset'), bytes)
      const { value } = device
      if (value === BigInt.asUintN(bytes * 8, -1n)) onAllOnes?.(device.name)
      return { rule, outputs: { value } }
    }),
    handler(MMIO_WRITE, mmioShown, (device, args) => ({
      rule: withRegisters(device).write(numberIn(args, 'offset'), numberIn(args, 'bytes'), valueIn(args)),
      outputs: {},
    })),
    handler(DMA_READ, dmaShown, (device, args) => {
      const rule = transfer(device, args, false)
      const data = bytesText(device.bufferAt(numberIn(args, 'at'), numberIn(args, 'bytes')))
      return { rule, outputs: { data, moved: movedBy(device, rule) } }
    }),
    handler(DMA_WRITE, dmaShown, (device, args) => {
      const data = args['data'] === undefined ? undefined : bytesOf(args['data'] as string)
      const rule = transfer(device, args, true, data)
      return { rule, outputs: { moved: movedBy(device, rule) } }
    }),
  ]
}

const mmioShown = (args: Args): readonly bigint[] => [
  args['offset'] as bigint,
  (args['value'] as bigint | undefined) ?? 0n,
  args['bytes'] as bigint,
]
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

function withRegisters(device: BusMaster): Edu {
  if (device instanceof Edu) return device
  const what = `the registers of ${device.name} are not modelled`
  throw new IommulatorError('ERR_OPERATION', what, { field: 'device' })
}

function deviceOf(devices: ReadonlyMap<string, BusMaster>, name: string): BusMaster {
  const device = devices.get(name)
  if (device !== undefined) return device
  const known = [...devices.keys()]
  throw new IommulatorError(
    'ERR_OPERATION',
    `no device is called "${name}"${didYouMean(name, known)}; known: ${known.join(', ') || 'none'}`,
    { field: 'device' },
  )
}
