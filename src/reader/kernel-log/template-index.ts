import type { LineFamily, LineTemplate } from './line-format.ts'
import { WordFinder } from './word-finder.ts'

/** Letters by which templates are found. */
const KEY_LETTERS = 4

/** A template behind one of its heads. */
interface Candidate {
  readonly family: LineFamily
  readonly template: LineTemplate
  readonly head: string
  /** All literal text that it begins with. */
  readonly start: string
  /** Which candidate matched after this one last: logs repeat themselves. */
  next: Candidate | undefined
}

/** What a message is. */
export interface Match {
  readonly family: LineFamily
  readonly template: LineTemplate
  readonly found: RegExpExecArray
}

/** Finds the template of a message: by its first letters, or by text that stands in it. */
export class TemplateIndex {
  readonly #byKey = new Map<string, Candidate[]>()
  /** Templates that begin with a field: what the line has to hold tells whether to look. */
  readonly #byAnchor = new WordFinder<Candidate>()
  #last: Candidate | undefined

  constructor(families: readonly LineFamily[]) {
    for (const family of families) {
      for (const template of family.templates) {
        for (const head of template.heads) this.#add(family, template, head)
      }
    }
  }

  #add(family: LineFamily, template: LineTemplate, head: string): void {
    const brace = template.template.indexOf('{')
    const start = head + (brace < 0 ? template.template : template.template.slice(0, brace))
    const candidate = { family, template, head, start, next: undefined }
    if (start.length < KEY_LETTERS) {
      this.#byAnchor.add(template.anchor, candidate)
      return
    }
    const key = start.slice(0, KEY_LETTERS)
    const known = this.#byKey.get(key)
    if (known === undefined) this.#byKey.set(key, [candidate])
    else known.push(candidate)
  }

  /** The first template that takes a message: those with its first letters in the order of their declaration, then others. */
  match(message: string): Match | undefined {
    const guess = this.#last?.next
    if (guess !== undefined) {
      const found = tried(guess, message)
      if (found !== undefined) return this.#took(guess, found)
    }
    for (const candidate of this.#byKey.get(message.slice(0, KEY_LETTERS)) ?? []) {
      const found = tried(candidate, message)
      if (found !== undefined) return this.#took(candidate, found)
    }
    return this.#byAnchor.find(message, (candidate) => {
      const found = tried(candidate, message)
      return found === undefined ? undefined : this.#took(candidate, found)
    })
  }

  #took(candidate: Candidate, found: RegExpExecArray): Match {
    if (this.#last !== undefined) this.#last.next = candidate
    this.#last = candidate
    return { family: candidate.family, template: candidate.template, found }
  }
}

function tried({ template, head, start }: Candidate, message: string): RegExpExecArray | undefined {
  if (!message.startsWith(start)) return undefined
  template.pattern.lastIndex = head.length
  return template.pattern.exec(message) ?? undefined
}
