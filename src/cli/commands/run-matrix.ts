import { matrixJson, matrixText } from '../../machine/matrix-report.ts'
import {
  isMatrixAsExpected,
  MATRIX_BITS,
  type Matrix,
  matrixBits,
  runMatrix,
} from '../../machine/matrix-runs.ts'
import type { Scenario } from '../../machine/scenario/scenario.ts'
import type { OptionDecl } from '../command.ts'
import { EXIT } from '../exit.ts'
import type { Io } from '../io.ts'
import { jsonText } from '../json-text.ts'

/** `--matrix` of `run`. */
export const MATRIX_OPTION: OptionDecl = {
  flags: '--matrix <bits>',
  doc: 'run under every combination of capabilities of the VT-d unit (cm,rwbf,esrtps,c,...), and print a table',
  offer: () => Object.keys(MATRIX_BITS),
}

/** How a matrix is printed, and what counts as clean. */
interface MatrixView {
  readonly isJson: boolean
  /** Findings that the scenario expects are no failure. */
  readonly isExpected: boolean
}

/** Runs a scenario on every unit of a matrix and prints the verdicts. Answers the exit code. */
export function printMatrix(
  scenario: Scenario,
  names: string,
  { isJson, isExpected }: MatrixView,
  io: Io,
): number {
  const bits = matrixBits(
    names
      .split(',')
      .map((name) => name.trim())
      .filter((name) => name !== ''),
  )
  const matrix: Matrix = runMatrix(scenario, bits)
  io.out(isJson ? jsonText(matrixJson(matrix)) : matrixText(matrix, io.paint))
  const isQuiet = matrix.runs.every((r) => r.result.findings.length === 0)
  return isMatrixAsExpected(matrix) && (isExpected || isQuiet) ? EXIT.CLEAN : EXIT.FINDINGS
}
