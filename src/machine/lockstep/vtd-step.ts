import { IommulatorError } from '../../bits/errors.ts'
import { didYouMean } from '../../bits/suggest.ts'
import { hex, U64_MAX } from '../../bits/u64.ts'
import type { Script } from './script-comparison.ts'
import { VTD_AREAS, VTD_REGISTER_BYTES } from './vtd-state.ts'
import { formatVtdUnit, PLAIN_VTD_UNIT, readVtdUnit, type VtdUnitOptions } from './vtd-unit-options.ts'

/** One thing that is done to a machine with a VT-d unit, and no operating system. */
export type VtdStep =
  /** Software writes a register. */
  | { readonly kind: 'reg'; readonly offset: number; readonly widthBytes: 4 | 8; readonly value: bigint }
  /** Software reads a register. */
  | { readonly kind: 'look'; readonly offset: number; readonly widthBytes: 4 | 8 }
  /** Little-endian words of 8 bytes are written to memory. */
  | { readonly kind: 'word'; readonly gpa: number; readonly words: readonly bigint[] }
  | { readonly kind: 'peek'; readonly gpa: number; readonly bytes: number }
  /** A device moves bytes between the bus and its buffer, from byte `at` of it on. */
  | {
      readonly kind: 'dma'
      readonly device: VtdDeviceName
      readonly direction: 'read' | 'write'
      readonly iova: bigint
      readonly bytes: number
      readonly at?: number
    }

/** A machine's life from its start on. */
export interface VtdScript extends Script<VtdStep> {
  readonly unit: VtdUnitOptions
}

/** A step with what was answered; undefined where nothing is. */
export interface VtdAnswered {
  /** Line of the file. */
  readonly line: number
  readonly step: VtdStep
  readonly answer: string | undefined
}

/** A script with the answers that a recording has. */
export interface VtdRecording {
  readonly name: string
  readonly unit: VtdUnitOptions
  readonly entries: readonly VtdAnswered[]
}

/** The devices of the machine, with their source-ids: functions of one slot, another slot, and one on another bus. */
export const VTD_DEVICES = Object.freeze({
  edu0: 0x0020,
  edu1: 0x0021,
  edu2: 0x0024,
  edu3: 0x0028,
  edu4: 0x0100,
})
export type VtdDeviceName = keyof typeof VTD_DEVICES
export const VTD_DEVICE_NAMES = Object.keys(VTD_DEVICES) as readonly VtdDeviceName[]

export const VTD_RAM_BYTES = 64 << 20
/** Below it lie the memory of the firmware and of old devices. */
const RAM_FROM = 1 << 20
/** edu ends QEMU where a request reaches the last byte of its buffer (Q11, Q12). */
export const VTD_DMA_BYTES_MAX = 4095
const PEEK_BYTES_MAX = 4096
const WORDS_MAX = 512

/** QEMU asserts that these are written 4 bytes at once: FECTL, IECTL, IEADDR, PECTL, PEADDR. */
const NARROW_ONLY: readonly number[] = [0x38, 0xa0, 0xa8, 0xe0, 0xe8]
/** FEDATA, IEDATA, PEDATA: a delivery mode other than fixed would wake or reset the processor. */
const MSI_DATA: readonly number[] = [0x3c, 0xa4, 0xe4]
const DELIVERY_MODE = 0x700n
/** A wait descriptor with both of a status write and an interrupt ends QEMU. */
const WAIT_MASK = 0x3fn
const WAIT_BOTH = 0x35n
/** The whole space, as device-TLB invalidations name it: ends QEMU 7.2 where a listener is there. */
const WHOLE_SPACE = 0x7fff_ffff_ffff_f001n

const isOurs = (gpa: number, bytes: number): boolean =>
  Number.isSafeInteger(gpa) && gpa >= RAM_FROM && gpa + bytes <= VTD_RAM_BYTES
const OUTSIDE = `not all memory between ${hex(RAM_FROM)} and ${hex(VTD_RAM_BYTES)}`

function registerRefusal(offset: number, widthBytes: number): string | undefined {
  if (offset % widthBytes !== 0) return `a register of ${widthBytes} bytes is at a multiple of them`
  return offset + widthBytes <= VTD_REGISTER_BYTES ? undefined : `registers end at ${hex(VTD_REGISTER_BYTES)}`
}

function wordsRefusal(gpa: number, words: readonly bigint[]): string | undefined {
  if (words.length < 1 || words.length > WORDS_MAX) return `1 to ${WORDS_MAX} words`
  if (!isOurs(gpa, words.length * 8)) return OUTSIDE
  const { queue } = VTD_AREAS
  if (gpa + words.length * 8 <= queue.gpa || gpa >= queue.gpa + queue.bytes) return undefined
  if (words.some((word) => (word & WAIT_MASK) === WAIT_BOTH)) {
    return 'a wait descriptor with a status write and an interrupt ends QEMU'
  }
  return words.includes(WHOLE_SPACE) ? 'a device-TLB invalidation of everything may end QEMU' : undefined
}

/** Why a step must not be done to QEMU, or cannot be; undefined where it may. */
export function vtdStepRefusal(step: VtdStep): string | undefined {
  switch (step.kind) {
    case 'look':
      return registerRefusal(step.offset, step.widthBytes)
    case 'reg': {
      const { offset, widthBytes, value } = step
      if (widthBytes === 8 && NARROW_ONLY.includes(offset))
        return `a write of 8 bytes to ${hex(offset)} ends QEMU`
      if (MSI_DATA.includes(offset) && (value & DELIVERY_MODE) !== 0n)
        return 'such an interrupt would wake the processor'
      return value > U64_MAX >> BigInt(64 - widthBytes * 8)
        ? `the value has more than ${widthBytes} bytes`
        : registerRefusal(offset, widthBytes)
    }
    case 'word':
      return wordsRefusal(step.gpa, step.words)
    case 'peek':
      if (step.bytes < 1 || step.bytes > PEEK_BYTES_MAX) return `1 to ${PEEK_BYTES_MAX} bytes`
      return isOurs(step.gpa, step.bytes) ? undefined : OUTSIDE
    case 'dma':
      return step.bytes >= 1 && (step.at ?? 0) + step.bytes <= VTD_DMA_BYTES_MAX
        ? undefined
        : `a request has 1 to ${VTD_DMA_BYTES_MAX} bytes: others end QEMU (Q11, Q12)`
  }
}

/** A step as `readVtdScripts` reads it. */
export function formatVtdStep(step: VtdStep): string {
  switch (step.kind) {
    case 'reg':
      return `reg ${hex(step.offset)} ${step.widthBytes} ${hex(step.value)}`
    case 'look':
      return `look ${hex(step.offset)} ${step.widthBytes}`
    case 'word':
      return `word ${hex(step.gpa)} ${step.words.map(hex).join(' ')}`
    case 'peek':
      return `peek ${hex(step.gpa)} ${step.bytes}`
    case 'dma':
      return `dma ${step.device} ${step.direction} ${hex(step.iova)} ${step.bytes}${step.at === undefined ? '' : ` ${step.at}`}`
  }
}

const FORMS = {
  reg: 'reg OFFSET 4|8 VALUE',
  look: 'look OFFSET 4|8',
  word: 'word GPA WORD ...',
  peek: 'peek GPA COUNT',
  dma: 'dma DEVICE read|write IOVA COUNT [AT]',
} as const
const KINDS = Object.keys(FORMS) as readonly (keyof typeof FORMS)[]
const NUMBER = /^(?:0x[0-9a-f]{1,16}|\d{1,20})$/i

/** The numbers of a line; undefined where a word is none. */
function numbersOf(words: readonly string[]): readonly bigint[] | undefined {
  if (!words.every((word) => NUMBER.test(word))) return undefined
  const numbers = words.map(BigInt)
  return numbers.every((number) => number <= U64_MAX) ? numbers : undefined
}

const widthOf = (number: bigint | undefined): 4 | 8 | undefined =>
  number === 4n ? 4 : number === 8n ? 8 : undefined

function stepOf(kind: keyof typeof FORMS, words: readonly string[]): VtdStep | undefined {
  if (kind === 'dma') {
    const [device, direction, ...rest] = words
    const known = VTD_DEVICE_NAMES.find((name) => name === device)
    const [iova, bytes, at] = numbersOf(rest) ?? []
    if (known === undefined || iova === undefined || bytes === undefined || rest.length > 3) return undefined
    if (direction !== 'read' && direction !== 'write') return undefined
    return {
      kind,
      device: known,
      direction,
      iova,
      bytes: Number(bytes),
      ...(at !== undefined && { at: Number(at) }),
    }
  }
  const [first, second, ...rest] = numbersOf(words) ?? []
  if (first === undefined || second === undefined) return undefined
  if (kind === 'word') return { kind, gpa: Number(first), words: [second, ...rest] }
  if (kind === 'peek')
    return rest.length > 0 ? undefined : { kind, gpa: Number(first), bytes: Number(second) }
  const [widthBytes, offset, [value]] = [widthOf(second), Number(first), rest]
  if (widthBytes === undefined || rest.length !== (kind === 'reg' ? 1 : 0)) return undefined
  return kind === 'look' ? { kind, offset, widthBytes } : { kind, offset, widthBytes, value: value ?? 0n }
}

/** A step of a line, or what is wrong with it. */
export function readVtdStep(line: string): VtdStep | string {
  const [head = '', ...words] = line.split(/\s+/)
  const kind = KINDS.find((k) => k === head)
  if (kind === undefined) return `no step is called "${head}"${didYouMean(head, KINDS)}`
  const step = stepOf(kind, words)
  if (step === undefined) return `"${line}" is not of the form ${FORMS[kind]}`
  return vtdStepRefusal(step) ?? step
}

const SCRIPT = /^script (\S+)(?: (\S+))?$/
const ARROW = ' => '

/**
 * The scripts of a file: a step a line, with its answer behind an arrow in recordings, comments behind `#`, and
 * `script NAME UNIT` where the next one begins, such as `script a legacy,aw48,cm`.
 *
 * @param name what a script is called that the file does not name
 * @throws IommulatorError ERR_OPERATION where a line is no step that may be done, or where there is none
 * @example
 * readVtdScripts('script a legacy\nreg 0x18 4 0x80000000\n', 'one.txt') // [{ name: 'a', entries: [...] }]
 */
export function readVtdScripts(text: string, name: string): VtdRecording[] {
  const scripts: { name: string; unit: VtdUnitOptions; entries: VtdAnswered[] }[] = []
  let open: (typeof scripts)[number] | undefined
  const begin = (called: string, unit: VtdUnitOptions) => {
    open = { name: called, unit, entries: [] }
    scripts.push(open)
    return open
  }
  for (const [i, raw] of text.split('\n').entries()) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const [, called, unit] = SCRIPT.exec(line) ?? []
    if (called !== undefined) {
      begin(called, unit === undefined ? PLAIN_VTD_UNIT : readVtdUnit(unit))
      continue
    }
    const [todo = '', answer] = line.split(ARROW)
    const step = readVtdStep(todo.trim())
    if (typeof step === 'string') {
      const at = { file: name, line: i + 1 }
      throw new IommulatorError('ERR_OPERATION', `${name}, line ${i + 1}: ${step}`, at)
    }
    const { entries } = open ?? begin(name, PLAIN_VTD_UNIT)
    entries.push({ line: i + 1, step, answer })
  }
  const filled = scripts.filter(({ entries }) => entries.length > 0)
  if (filled.length === 0) throw new IommulatorError('ERR_OPERATION', `${name} holds no step`)
  return filled
}

/** A script with its answers, as `readVtdScripts` reads it. */
export function formatVtdRecording(
  { name, unit, steps }: VtdScript,
  answers: readonly (string | undefined)[],
): string {
  const lines = steps.map((step, i) => {
    const answer = answers[i]
    return `${formatVtdStep(step)}${answer === undefined ? '' : `${ARROW}${answer}`}`
  })
  return `script ${name} ${formatVtdUnit(unit)}\n${lines.join('\n')}\n`
}
