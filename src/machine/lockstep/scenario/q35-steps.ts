import type { Value } from '../../../bits/answer.ts'
import { bytesOf } from '../../../bits/byte-text.ts'
import { isInterruptAddress } from '../../../memory/interrupt-range.ts'
import type { VtdDeviceName, VtdStep } from '../vtd-step.ts'
import { VTD_DMA_BYTES_MAX } from '../vtd-step.ts'
import type { DeviceBuffers } from './device-buffers.ts'

export type StepArgs = Readonly<Record<string, Value>>

/** What a step of a scenario becomes. A text says why it cannot be done. */
export type Q35Translated =
  | string
  | {
      readonly step: VtdStep
      /** Where the device puts what it reads. */
      readonly read?: { readonly device: VtdDeviceName; readonly at: number; readonly bytes: number }
    }

const WORD_BYTES = 8
const DELIVERY_MODE = 0x7

const u64 = (args: StepArgs, name: string): bigint => (args[name] ?? 0n) as bigint

/** Bytes as the little-endian words that they are in memory. */
function wordsOf(bytes: Uint8Array): bigint[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  return Array.from({ length: bytes.length / WORD_BYTES }, (_, i) => view.getBigUint64(i * WORD_BYTES, true))
}

/** Bytes in words, zeros behind the last ones. */
export function paddedWords(bytes: Uint8Array): bigint[] {
  const padded = new Uint8Array(Math.ceil(bytes.length / WORD_BYTES) * WORD_BYTES)
  padded.set(bytes)
  return wordsOf(padded)
}

function swapped(word: bigint): bigint {
  const view = new DataView(new ArrayBuffer(WORD_BYTES))
  view.setBigUint64(0, word)
  return view.getBigUint64(0, true)
}

const needsGpa = (args: StepArgs): string | undefined =>
  args['space'] === undefined || args['space'] === 'gpa' ? undefined : 'the peer has guest addresses only'

function writeMemory(args: StepArgs): Q35Translated {
  const { data, words, order } = args
  if ((data === undefined) === (words === undefined)) return 'the peer writes `data`, or `words`'
  const gpa = Number(u64(args, 'address'))
  if (words !== undefined) {
    const given = words as readonly bigint[]
    return { step: { kind: 'word', gpa, words: order === 'little' ? given : given.map(swapped) } }
  }
  const bytes = bytesOf(data as string)
  if (bytes.length % WORD_BYTES !== 0) return 'the peer writes memory in words of 8 bytes'
  return { step: { kind: 'word', gpa, words: wordsOf(bytes) } }
}

function widthOf(args: StepArgs): 4 | 8 | undefined {
  const bytes = Number(u64(args, 'bytes'))
  return bytes === 4 || bytes === 8 ? bytes : undefined
}

/** How the peer does calls that it can do, by verb and name; DMA apart. */
const CALLS: Readonly<Record<string, (args: StepArgs, unit: string) => Q35Translated>> = {
  'mem write': (args) => needsGpa(args) ?? writeMemory(args),
  'mem read': (args) =>
    needsGpa(args) ?? {
      step: { kind: 'peek', gpa: Number(u64(args, 'address')), bytes: Number(u64(args, 'bytes')) },
    },
  'mmio read': (args, unit) => {
    const widthBytes = widthOf(args)
    if (args['device'] !== unit) return 'the peer has the registers of the unit only'
    if (widthBytes === undefined) return 'the peer reads registers with 4 or 8 bytes'
    return { step: { kind: 'look', offset: Number(u64(args, 'offset')), widthBytes } }
  },
  'mmio write': (args, unit) => {
    const widthBytes = widthOf(args)
    if (args['device'] !== unit) return 'the peer has the registers of the unit only'
    if (widthBytes === undefined) return 'the peer writes registers with 4 or 8 bytes'
    const offset = Number(u64(args, 'offset'))
    return { step: { kind: 'reg', offset, widthBytes, value: u64(args, 'value') } }
  },
}

/** Whether what a device writes is a message that could wake the processor. */
function wakes(iova: bigint, data: Uint8Array): boolean {
  if (!isInterruptAddress(iova)) return false
  return data.some((byte, i) => i % 4 === 1 && (byte & DELIVERY_MODE) !== 0)
}

/** A DMA with a place in the buffer of the device that no other has. */
export function q35Dma(
  args: StepArgs,
  isWrite: boolean,
  device: VtdDeviceName,
  buffers: DeviceBuffers,
): Q35Translated {
  if (args['pasid'] !== undefined || args['privileged'] === true || args['execute'] === true)
    return 'requests of the devices of the peer have no PASID, privilege or execution'
  if (args['iova'] === undefined || args['buffer'] !== undefined) return 'no driver of the peer has buffers'
  const data = args['data'] === undefined ? undefined : bytesOf(args['data'] as string)
  if (isWrite && data === undefined) return 'what the buffer of the device holds is chosen here: name `data`'
  const bytes = args['bytes'] === undefined ? (data?.length ?? 0) : Number(u64(args, 'bytes'))
  if (Number(u64(args, 'at')) + bytes > VTD_DMA_BYTES_MAX)
    return 'it reaches the end of the buffer of the device, which ends QEMU (Q11, Q12)'
  if (data !== undefined && bytes !== data.length) return 'the peer writes all of `data`, and nothing else'
  const iova = u64(args, 'iova')
  if (data !== undefined && wakes(iova, data)) return 'such an interrupt would wake the processor'
  const at = data === undefined ? buffers.forRead(device, bytes) : buffers.holding(device, data)
  if (at === undefined) return 'the buffer of the device is used up'
  const step: VtdStep = { kind: 'dma', device, direction: isWrite ? 'write' : 'read', iova, bytes, at }
  return { step, ...(isWrite ? {} : { read: { device, at, bytes } }) }
}

/** What a call becomes that is no DMA; undefined where the peer has nothing for it. */
export const q35Call = (
  verb: string,
  call: string,
  args: StepArgs,
  unit: string,
): Q35Translated | undefined => CALLS[`${verb} ${call}`]?.(args, unit)
