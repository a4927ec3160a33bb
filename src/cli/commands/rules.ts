import { IommulatorError } from '../../bits/errors.ts'
import { knownText } from '../../bits/suggest.ts'
import { needsOf, type Rule } from '../../check/rule.ts'
import { RULES } from '../../check/rules.ts'
import { table, wrapped } from '../../report/layout.ts'
import type { Command } from '../command.ts'
import { EXIT } from '../exit.ts'
import type { Io } from '../io.ts'
import { jsonText } from '../json-text.ts'

const ids = (): string[] => RULES.map((r) => r.id)

function found(id: string): Rule {
  const rule = RULES.find((r) => r.id === id.toLowerCase())
  if (rule !== undefined) return rule
  throw new IommulatorError(
    'ERR_RULE',
    `no rule is called "${id}"${knownText(id, ids(), 'iommulator rules')}`,
  )
}

const textOf = (rule: Rule, io: Io): string =>
  [
    `${io.paint.bold(rule.id)}  ${rule.title}`,
    ...wrapped('  ', `Promise: ${rule.promise}`),
    ...wrapped('  ', `Advice: ${rule.advice}`),
    ...wrapped(
      '  ',
      `Needs records of: ${
        needsOf(rule)
          .map((kinds) => kinds.join(' or '))
          .join(', ') || 'any kind'
      }`,
    ),
    `  Broken by: ${rule.broken}`,
    `  Kept by:   ${rule.kept}`,
    '',
  ].join('\n')

export const rulesCommand: Command = {
  name: 'rules',
  summary: 'list or show the promises that records are judged by',
  positionals: [{ name: '[id]', doc: 'a rule, to show all of it', complete: async () => ids() }],
  options: [{ flags: '--json', doc: 'print one JSON object' }],
  examples: [
    ['iommulator rules', 'all rules, a line each'],
    ['iommulator rules use-after-unmap', 'promise, advice, and the scenarios that break and keep it'],
  ],
  async run({ positionals: [id], options }, io) {
    const rules: readonly Rule[] = id === undefined ? RULES : [found(id)]
    if (options['json'] === true) io.out(jsonText({ schema: 'iommulator/rules/1', rules }))
    else if (id === undefined) io.out(`${table(rules.map((r) => [r.id, r.promise])).join('\n')}\n`)
    else io.out(rules.map((r) => textOf(r, io)).join('\n'))
    return EXIT.CLEAN
  },
}
