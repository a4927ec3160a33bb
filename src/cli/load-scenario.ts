import { IommulatorError } from '../bits/errors.ts'
import { CATALOGUE } from '../machine/registry.ts'
import type { Scenario } from '../machine/scenario/scenario.ts'
import { openInput } from './input.ts'
import { parseScenario, SCENARIO_BYTES_MOST } from './yaml-scenario.ts'

/**
 * Reads a scenario from a file, or from standard input for `-`.
 *
 * @throws ScenarioError (ERR_SCENARIO) with every error's place; IommulatorError ERR_INPUT where it cannot be read
 */
export async function loadScenario(path: string, stdin: NodeJS.ReadableStream): Promise<Scenario> {
  const input = await openInput(path, stdin)
  const pieces: Uint8Array[] = []
  let bytes = 0
  for await (const piece of input.pieces()) {
    pieces.push(piece.slice())
    bytes += piece.length
    // One byte too many is enough to know.
    if (bytes > SCENARIO_BYTES_MOST) break
  }
  if (bytes > SCENARIO_BYTES_MOST) {
    const most = `a scenario file has at most ${SCENARIO_BYTES_MOST} bytes`
    throw new IommulatorError('ERR_SCENARIO', `${input.name}: ${most}`, { file: path })
  }
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(pieces))
  } catch (error) {
    throw new IommulatorError(
      'ERR_INPUT',
      `cannot read ${input.name}: it is no UTF-8 text`,
      { file: path },
      error,
    )
  }
  return parseScenario(text, input.name, CATALOGUE)
}
