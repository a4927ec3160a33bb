import type { Journal } from '../bits/state.ts'

/** Numbers the lives of windows. A number is history and not state: it goes back with the machine, unseen by the hash. */
export function windowCounter(journal: Journal): () => number {
  let windows = 0
  return () => {
    journal.change(0, 0, 0, () => {
      windows--
    })
    return ++windows
  }
}
