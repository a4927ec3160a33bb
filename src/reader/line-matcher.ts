import { latin1Bytes } from '../bits/byte-text.ts'
import { assert } from '../bits/errors.ts'
import { NO_NUMBER, readD32, readD64, readHex8, readHex32, readHex64, readHex64z, readU32 } from './digits.ts'
import {
  ACCESS_LETTERS,
  type FieldKind,
  type LogEvent,
  type LogFormat,
  TEXT_BYTES_MAX,
} from './log-format.ts'
import type { WordTable } from './word-table.ts'

/** What `match` answers for a line that is no declared event, or does not fit its template. */
export const NO_MATCH = -1

/** Bytes that must be readable behind the line that is matched: a name is looked for this far. */
export const MATCH_MARGIN_BYTES = 128

const NEWLINE = 0x0a
const RETURN = 0x0d
const NAME_WORDS_MAX = 24

/** Numbers of the field kinds in a program; 0 ends a line. */
const OP: Readonly<Record<FieldKind, number>> = {
  x64: 1,
  x32: 2,
  d64: 3,
  d32: 4,
  u32: 5,
  pointer: 6,
  text: 7,
  x8: 8,
  x64z: 9,
  rwxpl: 10,
}
const OP_END = 0

const X64 = OP.x64
const X32 = OP.x32
const D64 = OP.d64
const D32 = OP.d32
const U32 = OP.u32
const POINTER = OP.pointer
const X8 = OP.x8
const X64Z = OP.x64z
const RWXPL = OP.rwxpl

/** Four bytes of a text as a little-endian int32; bytes past its end are 0. */
const wordAt = (text: string, at: number): number =>
  (text.charCodeAt(at) || 0) |
  ((text.charCodeAt(at + 1) || 0) << 8) |
  ((text.charCodeAt(at + 2) || 0) << 16) |
  ((text.charCodeAt(at + 3) || 0) << 24)

/** `0x`, and the first four bytes of `(nil)` and its last. */
const PREFIX_0X = wordAt('0x', 0)
const NIL = wordAt('(nil)', 0)
const CLOSING = 0x29
const DASH = 0x2d

/** The bits that the first `bytes` bytes of a word have; all for four or more. */
const maskFor = (bytes: number): number => (bytes >= 4 ? -1 : bytes <= 0 ? 0 : (1 << (bytes * 8)) - 1)

const mix = (hash: number, word: number): number => Math.imul(hash ^ word, 0x9e37_79b1)

/** The hash of what stands before the space of a head, which `#eventAt` computes from the bytes of a line. */
function headHash(head: string): number {
  const name = head.slice(0, head.indexOf(' '))
  let hash = 0
  let at = 0
  for (; at + 4 <= name.length; at += 4) hash = mix(hash, wordAt(name, at))
  return mix(hash, wordAt(name, at))
}

/**
 * One event as numbers. For each part: how many whole pairs of words its literal has, these, then the 0 to 8
 * bytes that are left over: their count, and mask and value of either word; then what field follows and its
 * slot. The event's head counts to its first literal.
 */
function programOf({ head, parts }: LogEvent): number[] {
  const program: number[] = []
  const steps = parts.at(-1)?.field === undefined ? [...parts] : [...parts, { literal: '', field: undefined }]
  if (steps.length === 0) steps.push({ literal: '', field: undefined })
  steps.forEach(({ literal, field }, step) => {
    const text = step === 0 ? head + literal : literal
    const pairs = Math.max(0, text.length - 1) >> 3
    program.push(pairs)
    for (let i = 0; i < pairs * 2; i++) program.push(wordAt(text, i * 4))
    const at = pairs * 8
    const left = text.length - at
    program.push(left, maskFor(left), wordAt(text, at), maskFor(left - 4), wordAt(text, at + 4))
    program.push(field === undefined ? OP_END : OP[field.kind], field?.slot ?? 0)
  })
  return program
}

/**
 * Reads lines of a declared format out of bytes, into lanes. Nothing is allocated: the event is found by a
 * hash of its name, literal text is compared four bytes at a time, numbers go straight into their lanes.
 */
export class LineMatcher {
  /** Number of the event that `match` has found. */
  event = 0
  readonly #texts: WordTable
  readonly #program: Int32Array
  readonly #starts: Int32Array
  /** By hash: number of an event + 1; 0 for none. */
  readonly #places: Uint8Array
  readonly #hashes: Int32Array
  /** Of each event: the one that came after it last, tried first because logs repeat themselves. */
  readonly #next = new Uint8Array(256)
  /** Of each event: number of the next one that begins alike + 1; 0 for none. */
  readonly #alike = new Uint8Array(256)
  /** Of each event: the literal behind its text field, if it has one. */
  readonly #afterText: readonly Uint8Array[]

  constructor(format: LogFormat, texts: WordTable) {
    assert(format.events.length < 255, 'event numbers fit a byte')
    this.#texts = texts
    this.#places = new Uint8Array(1024)
    this.#hashes = Int32Array.from(format.events, (e) => headHash(e.head))
    const program: number[] = []
    this.#starts = Int32Array.from(format.events, (event) => {
      const start = program.length
      program.push(...programOf(event))
      return start
    })
    this.#program = Int32Array.from(program)
    this.#afterText = format.events.map(({ parts }) =>
      latin1Bytes(parts[parts.findIndex((part) => part.field?.kind === 'text') + 1]?.literal ?? ''),
    )
    format.events.forEach(({ head }, event) => {
      this.#alike[event] = 1 + format.events.findIndex((other, i) => i > event && other.head === head)
    })
    this.#hashes.forEach((hash, event) => {
      let place = this.#placeOf(hash)
      while (this.#places[place] !== 0) place = (place + 1) & 1023
      this.#places[place] = event + 1
    })
  }

  #placeOf(hash: number): number {
    return (hash ^ (hash >>> 16)) & 1023
  }

  /**
   * Reads the event whose name begins at `at` into the lanes from `base` on. The line must end in a newline
   * and MATCH_MARGIN_BYTES must be readable behind it. Answers where the next line begins, or NO_MATCH.
   */
  match(bytes: Uint8Array, view: DataView, at: number, lanes: Int32Array, base: number): number {
    const before = this.event
    const guess = this.#next[before] as number
    this.event = guess
    const end = this.#run(bytes, view, at, lanes, base)
    if (end >= 0) return end
    for (let event = this.#eventAt(view, at); event >= 0; event = (this.#alike[event] as number) - 1) {
      if (event === guess) continue
      this.#next[before] = event
      this.event = event
      const next = this.#run(bytes, view, at, lanes, base)
      if (next >= 0) return next
    }
    return NO_MATCH
  }

  /** Reads a line as `this.event`. */
  #run(bytes: Uint8Array, view: DataView, at: number, lanes: Int32Array, base: number): number {
    const program = this.#program
    let pc = this.#starts[this.event] as number
    let p = at
    for (;;) {
      const stop = pc + 1 + 2 * (program[pc] as number)
      for (pc++; pc < stop; pc += 2, p += 8) {
        const first = view.getInt32(p, true) ^ (program[pc] as number)
        if ((first | (view.getInt32(p + 4, true) ^ (program[pc + 1] as number))) !== 0) return NO_MATCH
      }
      const first = (view.getInt32(p, true) & (program[pc + 1] as number)) ^ (program[pc + 2] as number)
      const second = (view.getInt32(p + 4, true) & (program[pc + 3] as number)) ^ (program[pc + 4] as number)
      if ((first | second) !== 0) return NO_MATCH
      p += program[pc] as number
      const op = program[pc + 5] as number
      const slot = base + (program[pc + 6] as number)
      pc += 7
      if (op === X64) p = readHex64(view, p, lanes, slot)
      else if (op === OP_END) break
      else if (op === D64) p = readD64(view, p, lanes, slot)
      else if (op === U32) p = readU32(view, p, lanes, slot)
      else if (op === X32) p = readHex32(view, p, lanes, slot)
      else if (op === D32) p = readD32(view, p, lanes, slot)
      else if (op === POINTER) p = readPointer(view, p, lanes, slot)
      else if (op === X8) p = readHex8(view, p, lanes, slot)
      else if (op === X64Z) p = readHex64z(view, p, lanes, slot)
      else if (op === RWXPL) p = readLetters(view, p, lanes, slot)
      else p = this.#text(bytes, p, lanes, slot)
      if (p < 0) return NO_MATCH
    }
    const end = bytes[p]
    if (end === NEWLINE) return p + 1
    return end === RETURN && bytes[p + 1] === NEWLINE ? p + 2 : NO_MATCH
  }

  /** The event whose name stands at `at` up to a space, by its hash: its bytes are still to be compared. */
  #eventAt(view: DataView, at: number): number {
    let hash = 0
    for (let p = at, last = at + NAME_WORDS_MAX * 4; p < last; p += 4) {
      const word = view.getInt32(p, true)
      const spaces = word ^ 0x2020_2020
      const found = (spaces - 0x0101_0101) & ~spaces & 0x8080_8080
      if (found !== 0) {
        // The lowest bit that is set marks the first space; bytes before it are the end of the name.
        const before = 31 - Math.clz32(found & -found) - 7
        return this.#eventOf(mix(hash, word & ((1 << before) - 1)))
      }
      hash = mix(hash, word)
    }
    return -1
  }

  #eventOf(hash: number): number {
    let place = this.#placeOf(hash)
    for (;;) {
      const event = (this.#places[place] as number) - 1
      if (event < 0 || this.#hashes[event] === hash) return event
      place = (place + 1) & 1023
    }
  }

  /** A text: it ends where the literal that follows stands last in the line, or with the line. */
  #text(bytes: Uint8Array, at: number, lanes: Int32Array, slot: number): number {
    const after = this.#afterText[this.event] as Uint8Array
    let end = at
    while (bytes[end] !== NEWLINE) end++
    if (after.length === 0 && end > at && bytes[end - 1] === RETURN) end--
    for (end -= after.length; end >= at; end--) if (standsAt(bytes, end, after)) break
    if (end < at || end - at > TEXT_BYTES_MAX) return NO_NUMBER
    for (let i = at; i < end; i++) {
      const byte = bytes[i] as number
      if (byte < 0x20 || byte > 0x7e) return NO_NUMBER
    }
    lanes[slot] = this.#texts.intern(bytes, at, end)
    return end
  }
}

/** Letters, each of which may be a `-` instead. */
function readLetters(view: DataView, at: number, lanes: Int32Array, slot: number): number {
  let bits = 0
  let p = at
  for (const [letter, bit] of ACCESS_LETTERS) {
    const byte = view.getUint8(p++)
    if (byte === letter.charCodeAt(0)) bits |= bit
    else if (byte !== DASH) return NO_NUMBER
  }
  lanes[slot] = bits
  return p
}

/** An address as %p prints it. */
function readPointer(view: DataView, at: number, lanes: Int32Array, slot: number): number {
  const first = view.getInt32(at, true)
  if ((first & 0xffff) === PREFIX_0X) return readHex64(view, at + 2, lanes, slot)
  if (first !== NIL || view.getUint8(at + 4) !== CLOSING) return NO_NUMBER
  lanes[slot] = 0
  lanes[slot + 1] = 0
  return at + 5
}

function standsAt(bytes: Uint8Array, at: number, text: Uint8Array): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text[i]) return false
  return true
}
