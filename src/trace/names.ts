/** Words that occur in records, as small numbers. Number 0 is the empty word. */
export class Names {
  readonly #words: string[] = ['']
  readonly #numbers = new Map<string, number>([['', 0]])

  /** The number of a word; a new word gets the next number. */
  intern(word: string): number {
    const known = this.#numbers.get(word)
    if (known !== undefined) return known
    this.#words.push(word)
    this.#numbers.set(word, this.#words.length - 1)
    return this.#words.length - 1
  }

  /** The word of a number; `?` for a number that was never given out. */
  word(number: number): string {
    return this.#words[number] ?? '?'
  }
}
