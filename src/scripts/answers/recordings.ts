import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { openInput } from '../../cli/input.ts'
import type { LogSource } from '../../machine/replay/log-source.ts'
import { DETECT_BYTES, detectLogFormat } from '../../reader/detect.ts'

/** How recordings are packed; what stands before it is their name. */
const PACKED = /^(.+)\.(?:answers|trace)\.xz$/

/** Steps of `connect qemu-pseries`, which is no log that a replay takes. */
export const PSERIES_STEPS = 'pseries-steps'

/** What a real machine answered, unpacked. */
export interface Recording {
  readonly name: string
  readonly kind: LogSource | typeof PSERIES_STEPS
  /** Bytes as characters. */
  readonly text: string
}

const PSERIES_HEAD = /^(?:#.*\n|\s*\n)*script \S+\n/

/** A recording of a text. @throws IommulatorError ERR_LOG_FORMAT where it is of no known kind */
export function recordingOf(name: string, text: string): Recording {
  if (PSERIES_HEAD.test(text)) return { name, kind: PSERIES_STEPS, text }
  const { format } = detectLogFormat(Buffer.from(text.slice(0, DETECT_BYTES), 'latin1'))
  return { name, kind: format.id as LogSource, text }
}

/** All recordings of a folder, in the order of their names. */
export async function readRecordings(dir: string): Promise<Recording[]> {
  const found: Recording[] = []
  for (const file of readdirSync(dir).sort()) {
    const name = PACKED.exec(file)?.[1]
    if (name === undefined) continue
    const pieces: Uint8Array[] = []
    const input = await openInput(join(dir, file), process.stdin)
    for await (const piece of input.pieces()) pieces.push(Uint8Array.from(piece))
    found.push(recordingOf(name, Buffer.concat(pieces).toString('latin1')))
  }
  return found
}
