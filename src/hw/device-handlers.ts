import { type Answer, answerOf, type CallHandler, dead, type Value } from '../bits/answer.ts'
import { type Iova, iova as iovaFrom } from '../bits/brand.ts'
import { bytesOf, bytesText } from '../bits/byte-text.ts'
import { type CallDecl, rulesOf } from '../bits/call.ts'
import { IommulatorError } from '../bits/errors.ts'
import { hex, hiOf, loOf } from '../bits/u64.ts'
import type { Stage } from '../trace/stage.ts'
import type { BusMaster } from './bus-master.ts'
import { named } from './device-name.ts'
import type { RequestTags } from './dma-request.ts'
import { DMA_READ, DMA_WRITE, MMIO_READ, MMIO_WRITE } from './edu-calls.ts'
import type { Life } from './life.ts'

type Args = Readonly<Record<string, Value>>

const DMA = rulesOf(DMA_READ)

/** Rules of requests that do not start: the device still has the count of an earlier one. */
const NOT_STARTED: readonly number[] = [DMA['handle-unknown'], DMA['tags-off'], DMA['engine-busy']]
const movedBy = (device: BusMaster, rule: number): bigint =>
  NOT_STARTED.includes(rule) ? 0n : BigInt(device.moved)

const numberIn = (args: Args, name: string): number => Number(args[name] ?? 0n)

/** Registers that software reads and writes: the places of rules are those of `MMIO_READ` and `MMIO_WRITE`. */
export interface RegisterFile {
  readonly name: string
  /** What it said during the last call. */
  warnings: string[]
  /** What the last read brought. */
  readonly value: bigint
  read(offset: number, widthBytes: number): number
  write(offset: number, widthBytes: number, value: bigint): number
}

const hasRegisters = (device: BusMaster | RegisterFile): device is RegisterFile => 'read' in device

/** What handlers of device calls need: the devices by name, and the process that emulates them. */
export interface DeviceParts {
  readonly devices: ReadonlyMap<string, BusMaster>
  /** Registers that belong to no device. */
  readonly units?: ReadonlyMap<string, RegisterFile>
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
export function deviceHandlers(parts: DeviceParts): CallHandler[] {
  const { devices, units = new Map<string, RegisterFile>(), stage, life, handleOf, onAllOnes } = parts
  const handler = <T extends { warnings: string[] }>(
    decl: CallDecl,
    find: (name: string) => T,
    shown: (args: Args) => readonly bigint[],
    call: (device: T, args: Args) => { rule: number; outputs: Record<string, Value> },
  ): CallHandler => {
    const tags = stage.tag(decl)
    return {
      decl,
      run(args): Answer {
        const device = find(args['device'] as string)
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
    const tags = tagsOf(args)
    if (tags !== undefined && device.hasTags !== true) return DMA['tags-off']
    return device.transfer(iova, Number(lengthOf(args)), isWrite, numberIn(args, 'at'), data, tags)
  }
  const masterOf = (name: string): BusMaster => named(name, devices)
  const registersOf = (name: string): RegisterFile => {
    const found = named(name, new Map<string, BusMaster | RegisterFile>([...devices, ...units]))
    if (hasRegisters(found)) return found
    const what = `the registers of ${name} are not modelled`
    throw new IommulatorError('ERR_OPERATION', what, { field: 'device' })
  }
  const moved = (device: BusMaster, rule: number): Record<string, Value> => {
    const { reason = 0 } = device
    const blocked = rule === DMA['translation-fault'] ? { reason: BigInt(reason) } : {}
    return { moved: movedBy(device, rule), ...blocked }
  }
  return [
    handler(MMIO_READ, registersOf, mmioShown, (device, args) => {
      const bytes = numberIn(args, 'bytes')
      const rule = device.read(numberIn(args, 'offset'), bytes)
      const { value } = device
      if (value === BigInt.asUintN(bytes * 8, -1n)) onAllOnes?.(device.name)
      return { rule, outputs: { value } }
    }),
    handler(MMIO_WRITE, registersOf, mmioShown, (device, args) => ({
      rule: device.write(numberIn(args, 'offset'), numberIn(args, 'bytes'), valueIn(args)),
      outputs: {},
    })),
    handler(DMA_READ, masterOf, dmaShown, (device, args) => {
      const rule = transfer(device, args, false)
      const data = bytesText(device.bufferAt(numberIn(args, 'at'), numberIn(args, 'bytes')))
      return { rule, outputs: { data, ...moved(device, rule) } }
    }),
    handler(DMA_WRITE, masterOf, dmaShown, (device, args) => {
      const data = args['data'] === undefined ? undefined : bytesOf(args['data'] as string)
      const rule = transfer(device, args, true, data)
      return { rule, outputs: moved(device, rule) }
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

/** What a request carries beside its address; undefined where that is nothing. */
function tagsOf(args: Args): RequestTags | undefined {
  const pasid = args['pasid'] === undefined ? undefined : numberIn(args, 'pasid')
  const isPrivileged = args['privileged'] === true
  const isExecute = args['execute'] === true
  if (pasid === undefined && !isPrivileged && !isExecute) return undefined
  return { pasid, isPrivileged, isExecute }
}
