import type { LifeRun, Lives } from './lives.ts'

/** Neighbours that are alike in several tables; a part is undefined where that table has nothing. */
export interface JointRun {
  readonly first: number
  readonly count: number
  readonly parts: readonly (LifeRun | undefined)[]
}

/** The runs of several tables over the same entries, cut where one of them changes, in order. */
export function* jointRuns(tables: readonly (Lives | undefined)[]): Generator<JointRun> {
  const sources = tables.map((t) => t?.runs())
  const heads = sources.map((s) => nextOf(s))
  for (let at = 0; ; ) {
    let stop = Number.POSITIVE_INFINITY
    const parts = heads.map((head) => {
      if (head === undefined) return undefined
      const isHere = head.first <= at
      stop = Math.min(stop, isHere ? head.first + head.count : head.first)
      return isHere ? head : undefined
    })
    if (stop === Number.POSITIVE_INFINITY) return
    if (parts.some((p) => p !== undefined)) yield { first: at, count: stop - at, parts }
    at = stop
    heads.forEach((head, i) => {
      if (head !== undefined && head.first + head.count <= at) heads[i] = nextOf(sources[i])
    })
  }
}

function nextOf(source: Generator<LifeRun> | undefined): LifeRun | undefined {
  const next = source?.next()
  return next === undefined || next.done === true ? undefined : next.value
}
