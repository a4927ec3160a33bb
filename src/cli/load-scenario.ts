import { IommulatorError } from '../bits/errors.ts'
import { CATALOGUE } from '../machine/registry.ts'
import type { Scenario } from '../machine/scenario/scenario.ts'
import { openInput } from './input.ts'
import { type PlacedScenario, parsePlacedScenario, SCENARIO_BYTES_MOST } from './yaml-scenario.ts'

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
  return scenarioOf(Buffer.concat(pieces), input.name).scenario
}

/**
 * Reads a scenario from the bytes of a file, with the lines of its parts.
 *
 * @throws ScenarioError (ERR_SCENARIO) with every error's place; IommulatorError ERR_INPUT where it is no text
 */
export function scenarioOf(bytes: Buffer, name: string): PlacedScenario {
  if (bytes.length > SCENARIO_BYTES_MOST) {
    const most = `a scenario file has at most ${SCENARIO_BYTES_MOST} bytes`
    throw new IommulatorError('ERR_SCENARIO', `${name}: ${most}`, { file: name })
  }
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    const why = `cannot read ${name}: it is no UTF-8 text`
    throw new IommulatorError('ERR_INPUT', why, { file: name }, error)
  }
  return parsePlacedScenario(text, name, CATALOGUE)
}
