import { basename } from 'node:path'
import { IommulatorError } from '../../bits/errors.ts'
import { openInput } from '../input.ts'
import type { Io } from '../io.ts'

/** What `connect` is asked for. */
export interface ConnectRequest {
  readonly peer: string
  readonly files: readonly string[]
  readonly random: number
  readonly seed: number
  readonly dmaEvery: number
  readonly most: number
}

export const PROGRESS_MS = 200
const FILE_BYTES_MAX = 16 * 1024 * 1024

/** The scripts of all files. */
export async function scriptsOf<T>(
  paths: readonly string[],
  io: Io,
  read: (text: string, name: string) => readonly T[],
): Promise<T[]> {
  const scripts: T[] = []
  for (const path of paths) {
    const input = await openInput(path, io.stdin)
    const pieces: Buffer[] = []
    let bytes = 0
    for await (const piece of input.pieces()) {
      pieces.push(Buffer.from(piece))
      bytes += piece.length
      if (bytes > FILE_BYTES_MAX) {
        throw new IommulatorError(
          'ERR_INPUT',
          `${input.name}: a file of scripts has at most ${FILE_BYTES_MAX} bytes`,
        )
      }
    }
    scripts.push(...read(Buffer.concat(pieces).toString('latin1'), basename(input.name)))
  }
  return scripts
}
