import { runJson, runText } from '../../machine/run-report.ts'
import { isAsExpected, runScenario } from '../../machine/run-scenario.ts'
import { toJsonLine } from '../../trace/jsonl.ts'
import type { Command } from '../command.ts'
import { EXIT } from '../exit.ts'
import { jsonText } from '../json-text.ts'
import { loadScenario } from '../load-scenario.ts'
import { withPlace } from '../placed-error.ts'
import { PROFILE_NAMES } from '../profiles.ts'
import { MATRIX_OPTION, printMatrix } from './run-matrix.ts'

export const runCommand: Command = {
  name: 'run',
  summary: 'run a scenario and check what it expects',
  positionals: [
    { name: '<file>', doc: 'a scenario (YAML or JSON), or - for standard input', complete: 'file' },
  ],
  options: [
    { flags: '--json', doc: 'print one JSON object' },
    { flags: '--ndjson', doc: 'print every record as a line of JSON instead of the report' },
    { flags: '--expect', doc: 'exit with 0 where answers and findings are as the scenario expects' },
    {
      flags: '--profile <profile>',
      doc: "errata of the machine, instead of the scenario's",
      offer: () => PROFILE_NAMES,
    },
    MATRIX_OPTION,
  ],
  examples: [
    ['iommulator run scenarios/tour/one-dma.yaml', 'answers, findings and the ledger'],
    ['iommulator run my.yaml --expect', 'expected findings are no failure'],
    ['iommulator run my.yaml --profile intended', 'the same steps on a machine without errata'],
    ['iommulator run my.yaml --matrix cm,rwbf,esrtps,c', 'the verdicts of 16 units that differ in these'],
    ['iommulator run my.yaml --ndjson', 'every record, for other tools'],
  ],
  async run({ positionals: [path = '-'], options }, io) {
    const scenario = await loadScenario(path, io.stdin)
    const profile = options['profile']
    const machine = typeof profile === 'string' ? { ...scenario.machine, profile } : scenario.machine
    const matrix = options['matrix']
    if (typeof matrix === 'string') {
      const view = { isJson: options['json'] === true, isExpected: options['expect'] === true }
      return withPlace(path, () => printMatrix({ ...scenario, machine }, matrix, view, io))
    }
    const result = withPlace(path, () => runScenario({ ...scenario, machine }))
    if (options['ndjson'] === true) {
      for (const record of result.machine.log.records()) io.out(`${toJsonLine(record)}\n`)
    } else if (options['json'] === true) io.out(jsonText(runJson(result)))
    else io.out(runText(result, io.paint))
    const isClean = isAsExpected(result) && (options['expect'] === true || result.findings.length === 0)
    return isClean ? EXIT.CLEAN : EXIT.FINDINGS
  },
}
