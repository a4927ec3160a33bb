import { IommulatorError } from '../../bits/errors.ts'
import { didYouMean } from '../../bits/suggest.ts'
import { hex, U64_MAX } from '../../bits/u64.ts'
import { TCE_HCALL_R3 } from '../../kernel/tce-hcalls.ts'

/** One thing that is done to a pseries machine without an operating system. */
export type PseriesStep =
  /** A hypercall with its registers from r3 on. */
  | { readonly kind: 'hcall'; readonly registers: readonly bigint[] }
  /** An RTAS call with its cells, and room for `nret` cells of results. */
  | { readonly kind: 'rtas'; readonly token: number; readonly nret: number; readonly args: readonly number[] }
  /** Big-endian words `first`, `first + by`, ... are written to memory. */
  | {
      readonly kind: 'list'
      readonly gpa: number
      readonly count: number
      readonly first: bigint
      readonly by: bigint
    }
  /** Bytes, as hexadecimal digits, are written to memory. */
  | { readonly kind: 'poke'; readonly gpa: number; readonly data: string }
  | { readonly kind: 'peek'; readonly gpa: number; readonly bytes: number }
  /** The device moves bytes between the bus and its buffer, from byte `at` of it on. */
  | {
      readonly kind: 'dma'
      readonly direction: 'read' | 'write'
      readonly iova: bigint
      readonly bytes: number
      readonly at?: number
    }

/** What is done by the processor. */
export type PseriesCall = Extract<PseriesStep, { kind: 'hcall' | 'rtas' }>

/** A machine's life from its start on. */
export interface PseriesScript {
  /** A word without blanks. */
  readonly name: string
  readonly steps: readonly PseriesStep[]
  /** Page sizes of the host bridge, as shifts, where they are not those of a machine that nobody configures. */
  readonly pageShifts?: readonly number[]
}

/** A step with what was answered; undefined where nothing is. */
export interface PseriesAnswered {
  /** Line of the file. */
  readonly line: number
  readonly step: PseriesStep
  readonly answer: string | undefined
}

/** What the scripts run on: memory, its device, and the host bridge before that. */
export const PSERIES_RAM_BYTES = 256 << 20
export const PSERIES_SLOT = 4
/** Below it lie the firmware and its mailbox. */
export const PSERIES_FIRMWARE_END = 2 << 20
/** Records of a batch, registers of a hypercall, and cells of an RTAS call that fit. */
export const REGISTERS_MAX = 8
export const RTAS_CELLS_MAX = 9
/** edu ends QEMU where a request reaches the last byte of its buffer (Q11, Q12). */
export const DMA_BYTES_MAX = 4095
const PEEK_BYTES_MAX = 4096
const LIST_WORDS_MAX = 512

const H_CALLS: ReadonlySet<bigint> = new Set(Object.values(TCE_HCALL_R3))
/** A hypercall that no machine has. */
const H_NOBODY = 0x3f4n
const RTAS = { query: 0x2026, create: 0x2027, remove: 0x2028, reset: 0x2029 } as const
const RTAS_TOKENS: readonly number[] = Object.values(RTAS)
/** A shift of a create by that much ends QEMU, at once or at the next create (Q9). */
const ENTRIES_SHIFT_MAX = 31
const WORD_BITS = 64

function createRefusal(args: readonly number[]): string | undefined {
  if (args.length !== 5) return undefined
  const [pageShift = 0, windowShift = 0] = args.slice(3)
  if (pageShift >= WORD_BITS) return `a page shift of ${WORD_BITS} or more is undefined in QEMU`
  if (windowShift - pageShift > ENTRIES_SHIFT_MAX) {
    return `a window of 2^${ENTRIES_SHIFT_MAX + 1} pages or more ends QEMU (Q9)`
  }
  return undefined
}

/** Whether a stretch is memory that scripts may use. */
const isOurs = (gpa: number, bytes: number): boolean =>
  gpa >= PSERIES_FIRMWARE_END && gpa + bytes <= PSERIES_RAM_BYTES

const OUTSIDE = `not all memory between ${hex(PSERIES_FIRMWARE_END)} and ${hex(PSERIES_RAM_BYTES)}`

/** Why a step must not be done to QEMU, or cannot be; undefined where it may. */
export function refusalOf(step: PseriesStep): string | undefined {
  switch (step.kind) {
    case 'hcall': {
      const [opcode = 0n] = step.registers
      if (step.registers.length > REGISTERS_MAX) return `a hypercall has at most ${REGISTERS_MAX} registers`
      return H_CALLS.has(opcode) || opcode === H_NOBODY
        ? undefined
        : `hypercall ${hex(opcode)} is none of ${[...H_CALLS, H_NOBODY].map(hex).join(', ')}`
    }
    case 'rtas': {
      const { token, nret, args } = step
      if (!RTAS_TOKENS.includes(token))
        return `RTAS call ${hex(token)} is none of ${RTAS_TOKENS.map(hex).join(', ')}`
      if (nret < 1 || args.length + nret > RTAS_CELLS_MAX) {
        return `an RTAS call has a cell for its status, and at most ${RTAS_CELLS_MAX} cells`
      }
      return token === RTAS.create ? createRefusal(args) : undefined
    }
    case 'list':
      if (step.count < 1 || step.count > LIST_WORDS_MAX) return `a list has 1 to ${LIST_WORDS_MAX} words`
      return isOurs(step.gpa, step.count * 8) ? undefined : OUTSIDE
    case 'poke': {
      const bytes = step.data.length / 2
      if (bytes < 1 || bytes > PEEK_BYTES_MAX) return `1 to ${PEEK_BYTES_MAX} bytes`
      return isOurs(step.gpa, bytes) ? undefined : OUTSIDE
    }
    case 'peek':
      if (step.bytes < 1 || step.bytes > PEEK_BYTES_MAX) return `1 to ${PEEK_BYTES_MAX} bytes`
      return isOurs(step.gpa, step.bytes) ? undefined : OUTSIDE
    case 'dma':
      return step.bytes >= 1 && (step.at ?? 0) + step.bytes <= DMA_BYTES_MAX
        ? undefined
        : `a request has 1 to ${DMA_BYTES_MAX} bytes: others end QEMU (Q11, Q12)`
  }
}

/** A step as `readPseriesScripts` reads it. */
export function formatPseriesStep(step: PseriesStep): string {
  switch (step.kind) {
    case 'hcall':
      return `hcall ${step.registers.map(hex).join(' ')}`
    case 'rtas':
      return ['rtas', hex(step.token), step.nret, ...step.args.map(hex)].join(' ')
    case 'list':
      return `list ${hex(step.gpa)} ${step.count} ${hex(step.first)} ${hex(step.by)}`
    case 'poke':
      return `poke ${hex(step.gpa)} ${step.data}`
    case 'peek':
      return `peek ${hex(step.gpa)} ${step.bytes}`
    case 'dma':
      return `dma ${step.direction} ${hex(step.iova)} ${step.bytes}${step.at === undefined ? '' : ` ${step.at}`}`
  }
}

const KINDS = ['hcall', 'rtas', 'list', 'poke', 'peek', 'dma'] as const
const NUMBER = /^(?:0x[0-9a-f]{1,16}|\d{1,20})$/i

/** The numbers of a line; undefined where a word is none, or there are too few or too many. */
function numbersOf(words: readonly string[], least: number, most: number): readonly bigint[] | undefined {
  if (words.length < least || words.length > most || !words.every((word) => NUMBER.test(word)))
    return undefined
  const numbers = words.map(BigInt)
  return numbers.every((number) => number <= U64_MAX) ? numbers : undefined
}

const CELL_MAX = 0xffff_ffffn

function stepOf(kind: (typeof KINDS)[number], words: readonly string[]): PseriesStep | undefined {
  const [first = '', second = ''] = words
  if (kind === 'poke') {
    const [gpa] = numbersOf([first], 1, 1) ?? []
    if (gpa === undefined || words.length !== 2 || !/^(?:[0-9a-f]{2})+$/i.test(second)) return undefined
    return { kind, gpa: Number(gpa), data: second.toLowerCase() }
  }
  if (kind === 'dma') {
    const [iova, bytes, at] = numbersOf(words.slice(1), 2, 3) ?? []
    if (iova === undefined || bytes === undefined || (first !== 'read' && first !== 'write')) return undefined
    return { kind, direction: first, iova, bytes: Number(bytes), ...(at !== undefined && { at: Number(at) }) }
  }
  if (kind === 'hcall') {
    const registers = numbersOf(words, 1, REGISTERS_MAX)
    return registers && { kind, registers }
  }
  if (kind === 'rtas') {
    const cells = numbersOf(words, 2, RTAS_CELLS_MAX + 2)
    if (cells === undefined || cells.some((cell) => cell > CELL_MAX)) return undefined
    const [token = 0, nret = 0, ...args] = cells.map(Number)
    return { kind, token, nret, args }
  }
  const [gpa = 0n, count = 0n, from = 0n, by = 0n] = numbersOf(words, 2, 4) ?? []
  if (words.length !== (kind === 'peek' ? 2 : 4) || !words.every((word) => NUMBER.test(word)))
    return undefined
  return kind === 'peek'
    ? { kind, gpa: Number(gpa), bytes: Number(count) }
    : { kind, gpa: Number(gpa), count: Number(count), first: from, by }
}

const FORMS = {
  hcall: 'hcall R3 R4 ...',
  rtas: 'rtas TOKEN NRET CELL ...',
  list: 'list GPA COUNT FIRST STEP',
  poke: 'poke GPA BYTES-IN-HEX',
  peek: 'peek GPA COUNT',
  dma: 'dma read|write IOVA COUNT [AT]',
} as const

/** A step of a line, or what is wrong with it. */
export function readPseriesStep(line: string): PseriesStep | string {
  const [head = '', ...words] = line.split(/\s+/)
  const kind = KINDS.find((k) => k === head)
  if (kind === undefined) return `no step is called "${head}"${didYouMean(head, KINDS)}`
  const step = stepOf(kind, words)
  if (step === undefined) return `"${line}" is not of the form ${FORMS[kind]}`
  return refusalOf(step) ?? step
}

/** A script with the answers that a recording has. */
export interface PseriesRecording {
  readonly name: string
  readonly entries: readonly PseriesAnswered[]
}

const SCRIPT = /^script (\S+)$/
const ARROW = ' => '

/**
 * The scripts of a file: a step a line, with its answer behind an arrow in recordings, comments behind `#`, and
 * `script NAME` where the next one begins.
 *
 * @param name what a script is called that the file does not name
 * @throws IommulatorError ERR_OPERATION where a line is no step that may be done, or where there is none
 * @example
 * readPseriesScripts('hcall 0x1c 0x80000000 0x1000\n', 'one.txt') // [{ name: 'one.txt', entries: [...] }]
 */
export function readPseriesScripts(text: string, name: string): PseriesRecording[] {
  const scripts: { name: string; entries: PseriesAnswered[] }[] = []
  let open: { name: string; entries: PseriesAnswered[] } | undefined
  const begin = (called: string) => {
    open = { name: called, entries: [] }
    scripts.push(open)
    return open
  }
  for (const [i, raw] of text.split('\n').entries()) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const script = SCRIPT.exec(line)?.[1]
    if (script !== undefined) {
      begin(script)
      continue
    }
    const [todo = '', answer] = line.split(ARROW)
    const step = readPseriesStep(todo.trim())
    if (typeof step === 'string') {
      throw new IommulatorError('ERR_OPERATION', `${name}, line ${i + 1}: ${step}`, {
        file: name,
        line: i + 1,
      })
    }
    const { entries } = open ?? begin(name)
    entries.push({ line: i + 1, step, answer })
  }
  const filled = scripts.filter(({ entries }) => entries.length > 0)
  if (filled.length === 0) throw new IommulatorError('ERR_OPERATION', `${name} holds no step`)
  return filled
}

/** A script with its answers, as `readPseriesScripts` reads it. */
export function formatPseriesRecording(
  { name, steps }: PseriesScript,
  answers: readonly (string | undefined)[],
): string {
  const lines = steps.map((step, i) => {
    const answer = answers[i]
    return `${formatPseriesStep(step)}${answer === undefined ? '' : `${ARROW}${answer}`}`
  })
  return `script ${name}\n${lines.join('\n')}\n`
}
