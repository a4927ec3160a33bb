import { IommulatorError } from '../bits/errors.ts'
import type { Catalogue } from '../machine/scenario/catalogue.ts'
import { readScenario, type Scenario } from '../machine/scenario/scenario.ts'
import { type Issue, issueSentence, type Path } from '../machine/schema/issue.ts'
import { excerptAt, ScenarioError, type ScenarioProblem, safeText } from './scenario-error.ts'
import type { Span } from './yaml-faults.ts'
import { YamlTree } from './yaml-tree.ts'

/** Largest scenario file: some 40,000 steps. Parsing it takes seconds and about 200 times its size in memory. */
export const SCENARIO_BYTES_MOST = 4 << 20

/** A scenario, and where its parts stand in the text: of a part that is not there, the one around it. */
export interface PlacedScenario {
  readonly scenario: Scenario
  readonly lineOf: (path: Path) => number
}

const dotted = (path: Path): string => path.join('.')

class Report {
  readonly problems: ScenarioProblem[] = []
  readonly #text: string
  readonly #tree: YamlTree

  constructor(text: string, tree: YamlTree) {
    this.#text = text
    this.#tree = tree
  }

  add(span: Span, path: string, message: string): void {
    const { line, column } = this.#tree.place(span)
    const excerpt = excerptAt(this.#text, line, column, span.end - span.start)
    this.problems.push({ line, column, path, message: safeText(message), excerpt })
  }

  addIssue(issue: Issue): void {
    const span = this.#tree.find(issue.path, issue.at)
    // A value that YAML could not give is reported once.
    if (this.#tree.faults.some((f) => f.start === span.start)) return
    this.add(span, dotted(issue.path), issueSentence(issue))
  }

  error(file: string, more: boolean): ScenarioError {
    const inOrder = [...this.problems].sort((a, b) => a.line - b.line || a.column - b.column)
    return new ScenarioError(file, inOrder, more)
  }
}

/**
 * Reads a scenario from YAML 1.2 text (JSON is a part of it). Comments are free; every error of the text is reported
 * at once, with file, line, column and what would be right. The operations carry their lines.
 *
 * @throws ScenarioError (ERR_SCENARIO) where it is not a scenario
 * @example parseScenario(text, 'stale.yaml', { calls: CALLS, rules: RULES, errata: ERRATA })
 */
export const parseScenario = (text: string, file: string, catalogue: Catalogue): Scenario =>
  parsePlacedScenario(text, file, catalogue).scenario

/** The same, with the lines of its parts. */
export function parsePlacedScenario(text: string, file: string, catalogue: Catalogue): PlacedScenario {
  if (Buffer.byteLength(text) > SCENARIO_BYTES_MOST) throw tooLarge(file)
  const tree = new YamlTree(text)
  const report = new Report(text, tree)
  for (const { message, ...span } of tree.faults) report.add(span, '', message)
  if (!tree.isParsed) throw report.error(file, tree.more)

  const lineOf = (path: Path): number => tree.place(tree.find(path, 'value')).line
  const { value, issues, more } = readScenario(tree.value, catalogue, { lineOf })
  for (const issue of issues) report.addIssue(issue)
  if (value === undefined || report.problems.length > 0) throw report.error(file, more || tree.more)
  return { scenario: value, lineOf }
}

const tooLarge = (file: string): IommulatorError =>
  new IommulatorError('ERR_SCENARIO', `${file}: a scenario file has at most ${SCENARIO_BYTES_MOST} bytes`, {
    file,
  })
