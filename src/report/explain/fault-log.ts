import type { FoundLine } from '../../reader/kernel-log/kernel-log-reader.ts'
import { AddressRanges } from './address-ranges.ts'
import { MachineFacts } from './machine-facts.ts'

/** Distinct faults that are kept; later ones are counted as one more group, without words. */
export const FAULTS_MAX = 2000
/** Topics, facts and notes that are kept, each. */
export const KEPT_MAX = 1000
/** Earlier lines that are remembered of a topic; older ones go first. */
export const REMEMBERED_MAX = 32
/** Reasons that a fault gives, at most. */
export const BECAUSE_MAX = 12

/** A line of the log, or of another log of the same boot, that tells why. */
export interface Because {
  /** Its number in the log; 0 where it is of no line. */
  readonly line: number
  readonly text: string
}

/** A value of a fault as JSON gives it: 64-bit ones as texts with 0x. */
export type FaultField = string | number | boolean | null

/** What is said of a fault, once for all lines of its group. */
export interface FaultWords {
  /** `dma`, `interrupt`, `queue`, `page-request`, `map`, `frozen`, ... */
  readonly kind: string
  /** What happened, in one short sentence. */
  readonly title: string
  /** bus:device.function, as the log names it. */
  readonly device?: string
  /** For programs: names in camelCase. */
  readonly fields: Readonly<Record<string, FaultField>>
  /** For people: a word and what it says, in this order: `reason`, `means`, `where`, ... */
  readonly rows: readonly (readonly [label: string, text: string])[]
  /** Lines before it that made it so. */
  readonly because: readonly Because[]
  /** What to look at next, the likeliest first. */
  readonly checks: readonly string[]
}

/** Faults that are alike: what is said of them, and how often they came. */
export interface FaultGroup {
  readonly family: string
  readonly key: string
  readonly words: FaultWords
  readonly because: readonly Because[]
  /** Lines anywhere in the log that tell what the device is, or the address. */
  readonly about: readonly Because[]
  readonly times: number
  readonly firstLine: number
  readonly lastLine: number
  /** Microseconds since the kernel started; -1 where the log does not say. */
  readonly firstUs: number
  readonly lastUs: number
  readonly addresses: AddressRanges
}

class Group implements FaultGroup {
  readonly family: string
  readonly key: string
  readonly words: FaultWords
  readonly because: Because[]
  readonly addresses = new AddressRanges()
  readonly firstLine: number
  readonly firstUs: number
  times = 0
  lastLine = 0
  lastUs = -1

  readonly #identify: (() => readonly Because[]) | undefined

  constructor({ key, line, describe, identify }: FaultReport) {
    this.family = line.family.id
    this.key = key
    this.words = describe()
    this.because = [...this.words.because]
    this.#identify = identify
    this.firstLine = line.line
    this.firstUs = line.timeUs
  }

  get about(): readonly Because[] {
    return this.#identify?.() ?? []
  }

  seen(line: FoundLine, address: bigint | undefined): void {
    this.times++
    this.lastLine = line.line
    this.lastUs = line.timeUs
    if (address !== undefined) this.addresses.add(address)
  }
}

/** One fault, as an explainer of its family reports it. */
export interface FaultReport {
  /** Faults with one key are one group: what distinguishes them, but the address and the time. */
  readonly key: string
  /** The line that tells of it. */
  readonly line: FoundLine
  readonly address?: bigint
  /** Called for the first fault of a group only. */
  describe: () => FaultWords
  /** Lines anywhere in the log that tell what the device is, or the address: asked for when the group is shown. */
  identify?: () => readonly Because[]
}

/** Lines that the kernel did not print, because there were too many. */
export interface Suppressed {
  readonly family: string
  readonly line: number
  readonly lines: number
  /** What such a message is, where it is not simply a line of a fault; else empty. */
  readonly meaning: string
}

/** What a machine said of itself: a unit, a setting. */
export interface Fact {
  readonly family: string
  readonly line: number
  readonly text: string
  readonly fields: Readonly<Record<string, FaultField>>
}

/** A line that is no fault, but that a reader of the log should know of. */
export interface Note {
  readonly family: string
  readonly text: string
  readonly firstLine: number
  readonly times: number
}

const topicKey = (topic: string, device: string | undefined): string =>
  device === undefined ? topic : `${topic} of ${device}`

/** Takes what explainers find in a log, and groups it; bounded, whatever the log holds. */
export class FaultLog {
  readonly #groups = new Map<string, Group>()
  readonly #topics = new Map<string, Because[]>()
  readonly #facts = new Map<string, Fact>()
  readonly #notes = new Map<string, { family: string; text: string; firstLine: number; times: number }>()
  /** Devices and memory. */
  readonly machine = new MachineFacts()
  readonly #suppressed = new Map<string, { family: string; line: number; lines: number; meaning: string }>()
  #overflowed = 0

  /** Groups in the order in which they came to light. */
  get groups(): readonly FaultGroup[] {
    return [...this.#groups.values()]
  }

  /** Faults beyond FAULTS_MAX groups: only counted. */
  get overflowed(): number {
    return this.#overflowed
  }

  get notes(): readonly Note[] {
    return [...this.#notes.values()]
  }

  get facts(): readonly Fact[] {
    return [...this.#facts.values()]
  }

  /** Lines that were not printed, by family; `line` is the last that says so. */
  get suppressed(): readonly Suppressed[] {
    return [...this.#suppressed.values()]
  }

  /** A fault happened. Answers its group; nothing where it is only counted. */
  fault(report: FaultReport): FaultGroup | undefined {
    const { key, line, address } = report
    const id = `${line.family.id} ${key}`
    let group = this.#groups.get(id)
    if (group === undefined) {
      if (this.#groups.size >= FAULTS_MAX) {
        this.#overflowed++
        return undefined
      }
      group = new Group(report)
      this.#groups.set(id, group)
    }
    group.seen(line, address)
    return group
  }

  /** Something that came to light later made a fault so: a dump of tables, another log. */
  explain(group: FaultGroup, because: Because): void {
    const own = this.#groups.get(`${group.family} ${group.key}`)
    if (own === undefined || own.because.length >= BECAUSE_MAX) return
    if (own.because.some(({ line, text }) => line === because.line && text === because.text)) return
    own.because.push(because)
  }

  /** A line that may be the cause of a later fault: of a device, or of any. */
  remember(topic: string, line: FoundLine, text: string, device?: string): void {
    const key = topicKey(topic, device)
    const known = this.#topics.get(key) ?? []
    if (known.length >= REMEMBERED_MAX) known.shift()
    known.push({ line: line.line, text })
    // What is remembered again moves to the end: topics that are longest at rest go first.
    this.#topics.delete(key)
    this.#topics.set(key, known)
    if (this.#topics.size <= KEPT_MAX) return
    for (const oldest of this.#topics.keys()) {
      this.#topics.delete(oldest)
      break
    }
  }

  /** What was remembered of a topic: of no device in particular, and of this one; the latest first. */
  earlier(topic: string, device?: string): readonly Because[] {
    const common = this.#topics.get(topicKey(topic, undefined)) ?? []
    const own = device === undefined ? [] : (this.#topics.get(topicKey(topic, device)) ?? [])
    return [...common, ...own].sort((a, b) => b.line - a.line)
  }

  /** The machine says what it is. A fact of the same name is not told twice. */
  fact(name: string, line: FoundLine, text: string, fields: Fact['fields'] = {}): void {
    if (this.#facts.has(name) || this.#facts.size >= KEPT_MAX) return
    this.#facts.set(name, { family: line.family.id, line: line.line, text, fields })
  }

  /** Something to know that is no fault; like ones are told once, and counted. */
  note(key: string, line: FoundLine, text: string | (() => string)): void {
    const known = this.#notes.get(key)
    if (known !== undefined) known.times++
    else if (this.#notes.size < KEPT_MAX)
      this.#notes.set(key, {
        family: line.family.id,
        text: typeof text === 'string' ? text : text(),
        firstLine: line.line,
        times: 1,
      })
  }

  /** The same of no line of the log: another log of the same boot says so. */
  remark(family: string, text: string): void {
    if (!this.#notes.has(text) && this.#notes.size < KEPT_MAX)
      this.#notes.set(text, { family, text, firstLine: 0, times: 1 })
  }

  /** The kernel says how many lines it did not print. */
  suppress(line: FoundLine, lines: number, meaning = ''): void {
    const family = line.family.id
    const known = this.#suppressed.get(family)
    if (known === undefined) this.#suppressed.set(family, { family, line: line.line, lines, meaning })
    else {
      known.line = line.line
      known.lines += lines
    }
  }
}

/** Turns the lines of one family into faults. It sees its lines in the order of the log. */
export interface FamilyExplainer {
  /** The id of its LineFamily. */
  readonly family: string
  take(line: FoundLine, log: FaultLog): void
  /** The log ends here: what waits for a second line has none. */
  end?(log: FaultLog): void
}
