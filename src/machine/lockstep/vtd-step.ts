import { IommulatorError } from '../../bits/errors.ts'
import { didYouMean } from '../../bits/suggest.ts'
import { hex, U64_MAX } from '../../bits/u64.ts'
import type { Script } from './script-comparison.ts'
import {
  formatVtdRequest,
  readVtdRequest,
  VTD_ENDPOINT_NAMES,
  VTD_REQUEST_FORMS,
  type VtdEndpointName,
  type VtdRequestStep,
  vtdRequestRefusal,
} from './vtd-request-step.ts'
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
  | VtdRequestStep

/** A machine's life from its start on. */
export interface VtdScript extends Script<VtdStep> {
  readonly unit: VtdUnitOptions
  /** The devices that it has; `VTD_DEVICES` where it is left out. */
  readonly devices?: VtdPlaces
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
  readonly devices?: VtdPlaces
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

/** Devices of a machine, with their source-ids. */
export type VtdPlaces = Readonly<Partial<Record<VtdDeviceName | VtdEndpointName, number>>>
const ALL_NAMES: readonly (VtdDeviceName | VtdEndpointName)[] = [...VTD_DEVICE_NAMES, ...VTD_ENDPOINT_NAMES]

export const VTD_RAM_BYTES = 64 << 20
/** Slot of the root port that bus 1 is behind. */
export const VTD_BRIDGE_SLOT = 6
/** Between them lie the memory of the firmware and of old devices. */
const LOW_RAM_END = 0xa_0000
const HIGH_RAM = 1 << 20
/** edu ends QEMU where a request reaches the last byte of its buffer (Q11, Q12). */
export const VTD_DMA_BYTES_MAX = 4095
const PEEK_BYTES_MAX = 4096
const WORDS_MAX = 512

/** QEMU asserts that these are written 4 bytes at once: FECTL, IECTL, IEADDR, PECTL, PEADDR. */
const NARROW_ONLY: readonly number[] = [0x38, 0xa0, 0xa8, 0xe0, 0xe8]
/** FEDATA, IEDATA, PEDATA: a delivery mode other than fixed would wake or reset the processor. */
const MSI_DATA: readonly number[] = [0x3c, 0xa4, 0xe4]
/** FECTL, IECTL, PECTL, and the bit that holds their interrupts back, which a reset sets. */
const MSI_CONTROL: readonly number[] = [0x38, 0xa0, 0xe0]
const INTERRUPT_MASK = 1n << 31n
const DELIVERY_MODE = 0x700n
/** A wait descriptor with both of a status write and an interrupt ends QEMU. */
const WAIT_MASK = 0x3fn
const WAIT_BOTH = 0x35n
/** The whole space, as device-TLB invalidations name it: ends QEMU 7.2 where a listener is there. */
const WHOLE_SPACE = 0x7fff_ffff_ffff_f001n

const isOurs = (gpa: number, bytes: number): boolean =>
  Number.isSafeInteger(gpa) &&
  gpa >= 0 &&
  (gpa + bytes <= LOW_RAM_END || (gpa >= HIGH_RAM && gpa + bytes <= VTD_RAM_BYTES))
const OUTSIDE = `not all memory below ${hex(LOW_RAM_END)}, or between ${hex(HIGH_RAM)} and ${hex(VTD_RAM_BYTES)}`

/** Slots of the root complex that the machine has other things in. */
const TAKEN_SLOTS: Readonly<Record<number, string>> = {
  0: 'the host bridge is in slot 0',
  [VTD_BRIDGE_SLOT]: `its root port is in slot ${VTD_BRIDGE_SLOT}`,
  31: 'the chipset is in slot 31',
}

/** Why the machine cannot have a device there; undefined where it can. */
export function vtdPlaceRefusal(source: number): string | undefined {
  const [bus, slot] = [source >> 8, (source >> 3) & 0x1f]
  if (bus === 0) return TAKEN_SLOTS[slot]
  if (bus > 1) return 'its buses are 0, and 1 behind a root port'
  return (source & 0xff) === 0 ? undefined : 'on bus 1 it has slot 0, function 0 only'
}

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

/**
 * Whether the unit sends no interrupt of its own whatever happens: its masks stay as a reset leaves them, and one of
 * them, PECTL, is not set by it (D42).
 */
const isSilent = ({ steps, unit }: Pick<VtdScript, 'steps' | 'unit'>): boolean =>
  !unit.hasPageRequests &&
  !steps.some(
    (step) =>
      step.kind === 'reg' && MSI_CONTROL.includes(step.offset) && (step.value & INTERRUPT_MASK) === 0n,
  )

/** The first step of a script that must not be done to QEMU, or cannot be, and why; undefined where all may. */
export function vtdScriptRefusal({
  steps,
  unit,
  devices = VTD_DEVICES,
}: Pick<VtdScript, 'steps' | 'unit' | 'devices'>): { readonly at: number; readonly why: string } | undefined {
  const silent = isSilent({ steps, unit })
  for (const [at, step] of steps.entries()) {
    const isThere = !('device' in step) || devices[step.device] !== undefined
    const isAsked = step.kind === 'pri' || step.kind === 'ats'
    const why = !isThere
      ? 'the script has no such device'
      : isAsked && !unit.hasPageRequests
        ? 'the unit has no page requests (svm)'
        : vtdStepRefusal(step, silent)
    if (why !== undefined) return { at, why }
  }
  return undefined
}

/**
 * Why a step must not be done to QEMU, or cannot be; undefined where it may.
 *
 * @param silent no interrupt of the unit's own can reach the processor
 */
export function vtdStepRefusal(step: VtdStep, silent = false): string | undefined {
  switch (step.kind) {
    case 'look':
      return registerRefusal(step.offset, step.widthBytes)
    case 'reg': {
      const { offset, widthBytes, value } = step
      if (widthBytes === 8 && NARROW_ONLY.includes(offset))
        return `a write of 8 bytes to ${hex(offset)} ends QEMU`
      if (!silent && MSI_DATA.includes(offset) && (value & DELIVERY_MODE) !== 0n)
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
    case 'pri':
    case 'ats':
      return vtdRequestRefusal(step)
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
    case 'pri':
    case 'ats':
      return formatVtdRequest(step)
  }
}

const FORMS = {
  reg: 'reg OFFSET 4|8 VALUE',
  look: 'look OFFSET 4|8',
  word: 'word GPA WORD ...',
  peek: 'peek GPA COUNT',
  dma: 'dma DEVICE read|write IOVA COUNT [AT]',
  ...VTD_REQUEST_FORMS,
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
  if (kind === 'pri' || kind === 'ats') return readVtdRequest(kind, words, numbersOf)
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

/** A step of a line, or what is wrong with the line. */
function formOf(line: string): VtdStep | string {
  const [head = '', ...words] = line.split(/\s+/)
  const kind = KINDS.find((k) => k === head)
  if (kind === undefined) return `no step is called "${head}"${didYouMean(head, KINDS)}`
  const step = stepOf(kind, words)
  return step ?? `"${line}" is not of the form ${FORMS[kind]}`
}

/** A step of a line, or what is wrong with it where it stands alone. */
export function readVtdStep(line: string): VtdStep | string {
  const step = formOf(line)
  return typeof step === 'string' ? step : (vtdStepRefusal(step) ?? step)
}

const SCRIPT = /^script (\S+)(?: (\S+))?(?: (\S+))?$/
const PLACE = /^(\w+)=(0x[0-9a-f]{1,4})$/

/** Devices as a script names them: `edu0=0x18,edu1=0x20`. */
function placesOf(text: string): VtdPlaces | string {
  const places: Partial<Record<VtdDeviceName | VtdEndpointName, number>> = {}
  for (const word of text.split(',')) {
    const [, called, source] = PLACE.exec(word) ?? []
    const device = ALL_NAMES.find((name) => name === called)
    if (device === undefined) return `"${word}" is not of the form DEVICE=0xSOURCE`
    const why = vtdPlaceRefusal(Number(source))
    if (why !== undefined) return `${word}: ${why}`
    if (Object.values(places).includes(Number(source))) return `${word}: another device is there`
    places[device] = Number(source)
  }
  return places
}

const formatPlaces = (places: VtdPlaces): string =>
  Object.entries(places)
    .map(([name, source]) => `${name}=${hex(source)}`)
    .join(',')
const ARROW = ' => '

/**
 * The scripts of a file: a step a line, with its answer behind an arrow in recordings, comments behind `#`, and
 * `script NAME UNIT DEVICES` where the next one begins, such as `script a legacy,aw48,cm` or
 * `script a legacy edu0=0x18`.
 *
 * @param name what a script is called that the file does not name
 * @throws IommulatorError ERR_OPERATION where a line is no step that may be done, or where there is none
 * @example
 * readVtdScripts('script a legacy\nreg 0x18 4 0x80000000\n', 'one.txt') // [{ name: 'a', entries: [...] }]
 */
export function readVtdScripts(text: string, name: string): VtdRecording[] {
  const scripts: (Omit<VtdRecording, 'entries'> & { readonly entries: VtdAnswered[] })[] = []
  const wrong = (line: number, why: string): IommulatorError =>
    new IommulatorError('ERR_OPERATION', `${name}, line ${line}: ${why}`, { file: name, line })
  let open: (typeof scripts)[number] | undefined
  const begin = (called: string, unit: VtdUnitOptions, devices?: VtdPlaces) => {
    open = { name: called, unit, ...(devices && { devices }), entries: [] }
    scripts.push(open)
    return open
  }
  for (const [i, raw] of text.split('\n').entries()) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const [, called, unit, devices] = SCRIPT.exec(line) ?? []
    if (called !== undefined) {
      const places = devices === undefined ? undefined : placesOf(devices)
      if (typeof places === 'string') throw wrong(i + 1, places)
      begin(called, unit === undefined ? PLAIN_VTD_UNIT : readVtdUnit(unit), places)
      continue
    }
    const [todo = '', answer] = line.split(ARROW)
    const step = formOf(todo.trim())
    if (typeof step === 'string') throw wrong(i + 1, step)
    const { entries } = open ?? begin(name, PLAIN_VTD_UNIT)
    entries.push({ line: i + 1, step, answer })
  }
  for (const { entries, ...script } of scripts) {
    const refused = vtdScriptRefusal({ ...script, steps: entries.map(({ step }) => step) })
    if (refused !== undefined) throw wrong(entries[refused.at]?.line ?? 0, refused.why)
  }
  const filled = scripts.filter(({ entries }) => entries.length > 0)
  if (filled.length === 0) throw new IommulatorError('ERR_OPERATION', `${name} holds no step`)
  return filled
}

/** Where a script begins, as `readVtdScripts` reads it. */
export const formatVtdScriptHead = ({
  name,
  unit,
  devices,
}: Pick<VtdScript, 'name' | 'unit' | 'devices'>): string =>
  `script ${name} ${formatVtdUnit(unit)}${devices === undefined ? '' : ` ${formatPlaces(devices)}`}`

/** A script with its answers, as `readVtdScripts` reads it. */
export function formatVtdRecording(script: VtdScript, answers: readonly (string | undefined)[]): string {
  const lines = script.steps.map((step, i) => {
    const answer = answers[i]
    return `${formatVtdStep(step)}${answer === undefined ? '' : `${ARROW}${answer}`}`
  })
  return `${formatVtdScriptHead(script)}\n${lines.join('\n')}\n`
}
