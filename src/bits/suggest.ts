/** Edits (insert, drop, replace, swap of neighbours) between two words; stops counting past `most`. */
function distance(a: string, b: string, most: number): number {
  if (Math.abs(a.length - b.length) > most) return most + 1
  let before: number[] = []
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      let cost = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + same)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, (before[j - 2] ?? 0) + 1)
      }
      next.push(cost)
    }
    before = row
    row = next
  }
  return row[b.length] ?? most + 1
}

/**
 * The known word that a person most likely meant, if one is near enough.
 *
 * @example nearest('H_PUT_TCEE', ['H_PUT_TCE', 'H_GET_TCE']) // 'H_PUT_TCE'
 */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const most = Math.max(1, Math.floor(Math.min(word.length, 40) / 3))
  let best: string | undefined
  let bestDistance = most + 1
  for (const candidate of known) {
    const d = distance(word.slice(0, 80).toLowerCase(), candidate.toLowerCase(), most)
    if (d < bestDistance) {
      best = candidate
      bestDistance = d
    }
  }
  return best
}

/** ` (did you mean "x"?)` or nothing: the tail of every message about an unknown name. */
export function didYouMean(word: string, known: readonly string[]): string {
  const near = nearest(word, known)
  return near === undefined ? '' : ` (did you mean "${near}"?)`
}

/** Names that a message may list; of more it says how to see them. */
const LISTED_MOST = 12

/**
 * What a message about an unknown name says of the known ones.
 *
 * @param where a command that lists them, where there are many
 * @example knownText('sharp', ['bash', 'zsh'], '') // '; known: bash, zsh'
 */
export const knownText = (word: string, known: readonly string[], where: string): string =>
  known.length > LISTED_MOST
    ? `${didYouMean(word, known)}; \`${where}\` lists all ${known.length}`
    : `${didYouMean(word, known)}; known: ${known.join(', ')}`

/**
 * The known words that hold every part of a word, whatever stands between; letters of both cases are the same.
 *
 * @example holding('inv_wait', ['VTD_INV_WAIT_DSC_QW0', 'VTD_CAP']) // ['VTD_INV_WAIT_DSC_QW0']
 */
export function holding(word: string, known: readonly string[]): string[] {
  const parts = word.toLowerCase().split(/[^a-z0-9]+/)
  return known.filter((candidate) => parts.every((part) => candidate.toLowerCase().includes(part)))
}
