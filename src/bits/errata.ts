import { IommulatorError } from './errors.ts'
import { didYouMean } from './suggest.ts'

/**
 * A stretch of versions, `since` inclusive, `until` exclusive; either end may be open.
 * Versions are dotted numbers; a missing part counts as 0.
 */
export interface VersionRange {
  readonly since?: string
  readonly until?: string
}

/**
 * A named, switchable deviation from the plain path of the model, which is the right behaviour.
 *
 * `defect`: something is wrong there, a checker must find it in `scenario`. `quirk`: the thing answers in its
 * own way without harm to isolation. `change`: an interface changed at a date; no side is wrong.
 */
export interface Erratum<Id extends string = string> {
  readonly id: Id
  readonly title: string
  readonly kind: 'defect' | 'quirk' | 'change'
  /** Whose behaviour it is. */
  readonly family: 'linux' | 'qemu'
  readonly versions: readonly VersionRange[]
  /** What the deviating versions do. */
  readonly wrong: string
  /** What the plain path does. */
  readonly right: string
  readonly source: string
  /** How it is known: `run` on a peer, read in a `source`, or `inferred`. */
  readonly evidence: 'run' | 'source' | 'inferred'
  /** Scenario file that shows it, as seen from the root of the package. */
  readonly scenario: string
  /** The rule that finds it (defects). */
  readonly finding?: string
}

const VERSION = /^\d+(?:\.\d+)*$/

/** What is wrong with a stretch of versions, or nothing. */
function faultOf({ since, until }: VersionRange): string | undefined {
  const odd = [since, until].find((version) => version !== undefined && !VERSION.test(version))
  if (odd !== undefined) return `"${odd}" is no version`
  const isEmpty = since !== undefined && until !== undefined && compareVersions(since, until) >= 0
  return isEmpty ? `no version is since ${since} and before ${until}` : undefined
}

/**
 * Declares errata. Each id may stand once; versions must be versions, and leave something between them.
 *
 * @throws IommulatorError ERR_DECLARATION
 */
export const declareErrata = <const E extends readonly Erratum[]>(errata: E): E => {
  const ids = new Set<string>()
  for (const { id, versions } of errata) {
    if (ids.has(id)) throw new IommulatorError('ERR_DECLARATION', `erratum ${id} stands twice`)
    ids.add(id)
    const fault = versions.map(faultOf).find((f) => f !== undefined)
    if (fault !== undefined) throw new IommulatorError('ERR_DECLARATION', `erratum ${id}: ${fault}`)
  }
  return Object.freeze(errata)
}

const parts = (version: string): number[] => version.split('.').map(Number)

/** Negative, 0 or positive, as `a` is before, equal to or after `b`. */
export function compareVersions(a: string, b: string): number {
  const [x, y] = [parts(a), parts(b)]
  for (let i = 0; i < Math.max(x.length, y.length); i++) {
    const d = (x[i] ?? 0) - (y[i] ?? 0)
    if (d !== 0) return d
  }
  return 0
}

export const inRange = (version: string, { since, until }: VersionRange): boolean =>
  (since === undefined || compareVersions(version, since) >= 0) &&
  (until === undefined || compareVersions(version, until) < 0)

const FAMILIES = ['linux', 'qemu'] as const
const PROFILE = /^(linux|qemu)-(\d+(?:\.\d+){0,3})$/

/** Which errata a machine has. */
export interface Profile {
  /** As the user wrote it: `qemu-7.2+linux-6.1`, `intended`, ... */
  readonly name: string
  readonly has: (id: string) => boolean
  readonly ids: readonly string[]
}

/**
 * The errata of a profile: `intended` (none), one version (`qemu-7.2`, `linux-6.1`), several joined with `+`,
 * and single errata switched on (`+B11`) or off (`-X11` after a blank or a comma).
 *
 * @throws IommulatorError ERR_PROFILE
 * @example resolveProfile(ALL, 'qemu-7.2+linux-6.1').has('X11') // true
 */
export function resolveProfile(all: readonly Erratum[], name: string): Profile {
  if (name.trim() === '') {
    const what = `the profile is empty; known: intended, ${FAMILIES.map((f) => `${f}-VERSION`).join(', ')}`
    throw new IommulatorError('ERR_PROFILE', what, { field: 'profile' })
  }
  const on = new Set<string>()
  const known = all.map((e) => e.id)
  const toggle = (id: string): string => {
    const found = known.find((k) => k.toLowerCase() === id.toLowerCase())
    if (found === undefined) {
      throw new IommulatorError(
        'ERR_PROFILE',
        `unknown profile or erratum "${id}" in "${name}"${didYouMean(id, ['intended', 'qemu-7.2', 'linux-6.1', ...known])}; ` +
          `known: intended, ${FAMILIES.map((f) => `${f}-VERSION`).join(', ')}, or an erratum`,
        { field: 'profile' },
      )
    }
    return found
  }
  for (const part of name.split(/[+,\s]+/).filter((p) => p !== '')) {
    const match = PROFILE.exec(part)
    if (part === 'intended') continue
    if (match !== null) {
      for (const e of all) {
        if (e.family === match[1] && e.versions.some((r) => inRange(match[2] as string, r))) on.add(e.id)
      }
    } else if (part.startsWith('-')) on.delete(toggle(part.slice(1)))
    else on.add(toggle(part))
  }
  const ids = known.filter((id) => on.has(id))
  return { name, ids, has: (id) => on.has(id) }
}
