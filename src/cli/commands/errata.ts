import { fileURLToPath } from 'node:url'
import { compareVersions, type Erratum, resolveProfile } from '../../bits/errata.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { knownText } from '../../bits/suggest.ts'
import { erratumDifferences, type RunDifference, runErratum, shortened } from '../../machine/erratum-runs.ts'
import { ERRATA } from '../../machine/registry.ts'
import { table, wrapped } from '../../report/layout.ts'
import type { Command } from '../command.ts'
import { EXIT } from '../exit.ts'
import type { Io } from '../io.ts'
import { jsonText } from '../json-text.ts'
import { loadScenario } from '../load-scenario.ts'
import { PROFILE_NAMES } from '../profiles.ts'

const ids = (): string[] => ERRATA.map((e) => e.id)

function found(id: string): Erratum {
  const erratum = ERRATA.find((e) => e.id.toLowerCase() === id.toLowerCase())
  if (erratum !== undefined) return erratum
  throw new IommulatorError(
    'ERR_NUMBER',
    `no erratum is called "${id}"${knownText(id, ids(), 'iommulator errata')}`,
  )
}

/** `linux from 3.10 before 5.11`, for each stretch of versions. */
export const versionsText = ({ family, versions }: Erratum): string => {
  if (versions.length === 0) return `${family}, in no release`
  return versions
    .map(({ since, until }) =>
      [family, since === undefined ? '' : `from ${since}`, until === undefined ? '' : `before ${until}`]
        .filter((w) => w !== '')
        .join(' '),
    )
    .join('; ')
}

const textOf = (e: Erratum, io: Io): string =>
  [
    `${io.paint.bold(e.id)}  ${e.title}`,
    ...wrapped('  ', `${e.kind}; ${versionsText(e)}; evidence: ${e.evidence}`),
    ...wrapped('  ', `Wrong: ${e.wrong}`),
    ...wrapped('  ', `Right: ${e.right}`),
    ...wrapped('  ', `Source: ${e.source}`),
    `  Scenario: ${e.scenario}${e.finding === undefined ? '' : `, found by ${e.finding}`}`,
    '',
  ].join('\n')

/** The scenario of an erratum, as the package ships it, run on its own profile and without the erratum. */
async function runBoth(e: Erratum, io: Io): Promise<readonly RunDifference[]> {
  const path = fileURLToPath(new URL(`../../../${e.scenario}`, import.meta.url))
  return erratumDifferences(runErratum(await loadScenario(path, io.stdin), e.id))
}

const TEXT_MOST = 72

/** Two lines for each place where the runs part, under a line that says where that is. */
const differencesText = (differences: readonly RunDifference[]): string[] =>
  differences.flatMap(({ step, call, about, ...texts }) => {
    const { withIt, without } = shortened(texts, TEXT_MOST)
    return [
      step === 0 ? `  ${about}` : `  step ${step}, ${call}: ${about}`,
      `    with it: ${withIt}`,
      `    without: ${without}`,
    ]
  })

function listed(profile: string | undefined): readonly Erratum[] {
  if (profile === undefined) return ERRATA
  const { has } = resolveProfile(ERRATA, profile)
  return ERRATA.filter((e) => has(e.id))
}

/** Families together, then by first version, then by id. */
const inOrder = (errata: readonly Erratum[]): Erratum[] =>
  [...errata].sort(
    (a, b) =>
      a.family.localeCompare(b.family) ||
      compareVersions(a.versions[0]?.since ?? '0', b.versions[0]?.since ?? '0') ||
      a.id.localeCompare(b.id, 'en', { numeric: true }),
  )

export const errataCommand: Command = {
  name: 'errata',
  summary: 'list, show or run the deviations that the model knows',
  positionals: [{ name: '[id]', doc: 'an erratum, to show all of it', complete: async () => ids() }],
  options: [
    {
      flags: '--profile <profile>',
      doc: 'only those of a profile',
      offer: () => PROFILE_NAMES,
    },
    { flags: '--run', doc: "run the erratum's scenario with it and without it, and show where they part" },
    { flags: '--json', doc: 'print one JSON object' },
  ],
  examples: [
    ['iommulator errata', 'all errata, a line each'],
    ['iommulator errata --profile linux-6.1', 'those of one version'],
    ['iommulator errata X11 --run', 'show one, and what it does'],
  ],
  async run({ positionals: [id], options }, io) {
    const profile = options['profile'] as string | undefined
    const errata = id === undefined ? inOrder(listed(profile)) : [found(id)]
    if (options['run'] === true && id === undefined) {
      throw new IommulatorError('ERR_NUMBER', '--run needs the id of an erratum')
    }
    const parts = options['run'] === true ? await runBoth(found(id ?? ''), io) : undefined
    if (options['json'] === true)
      io.out(jsonText({ schema: 'iommulator/errata/1', errata, differences: parts }))
    else if (id === undefined) {
      io.out(`${table(errata.map((e) => [e.id, e.kind, `${e.title} (${versionsText(e)})`])).join('\n')}\n`)
    } else {
      const lines = differencesText(parts ?? []).map((line) => `${line}\n`)
      io.out([...errata.map((e) => textOf(e, io)), ...lines].join(''))
    }
    return EXIT.CLEAN
  },
}
