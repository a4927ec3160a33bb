/** Work that can stop between two of its parts: whoever drives it may do something else there. */
export type Slices<T> = Generator<undefined, T>

/** All of it at once. */
export function drained<T>(work: Slices<T>): T {
  for (;;) {
    const { done, value } = work.next()
    if (done === true) return value
  }
}
