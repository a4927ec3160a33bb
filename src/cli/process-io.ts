import pico from 'picocolors'
import type { Paint } from '../report/text.ts'
import { EXIT } from './exit.ts'
import type { Io } from './io.ts'

type When = 'auto' | 'always' | 'never'

/** Colours on a terminal only, unless the user says otherwise; NO_COLOR and FORCE_COLOR are honoured. */
function paintFor(when: When, stream: NodeJS.WriteStream): Paint {
  const dumb = process.env['TERM'] === 'dumb'
  const wanted =
    when === 'always' ||
    (when === 'auto' &&
      process.env['NO_COLOR'] === undefined &&
      (process.env['FORCE_COLOR'] !== undefined || (stream.isTTY === true && !dumb)))
  const c = pico.createColors(wanted)
  return { bold: c.bold, dim: c.dim, red: c.red, green: c.green, yellow: c.yellow, cyan: c.cyan }
}

/**
 * The process's own streams. A reader that goes away (`| head`) ends the program quietly; a disk that is full
 * ends it with one line.
 */
export function processIo(options: { readonly color: When; readonly quiet: boolean }): Io {
  const started = performance.now()
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(EXIT.CLEAN)
      if (stream === process.stdout) process.stderr.write(`iommulator: cannot write: ${error.message}\n`)
      process.exit(EXIT.ENVIRONMENT)
    })
  }
  let drawn = false
  const clear = () => {
    if (drawn) process.stderr.write('\r\x1b[K')
    drawn = false
  }
  const isLive = process.stderr.isTTY === true && !options.quiet
  let interrupted: (() => void) | undefined
  process.on('SIGINT', () => {
    if (interrupted === undefined) process.exit(EXIT.INTERRUPTED)
    const act = interrupted
    interrupted = undefined
    act()
  })
  return {
    isLive,
    isQuiet: options.quiet,
    onInterrupt(act) {
      const terminated = (): void => {
        interrupted = undefined
        act()
      }
      interrupted = act
      process.once('SIGTERM', terminated)
      return () => {
        interrupted = undefined
        process.off('SIGTERM', terminated)
      }
    },
    out(text) {
      clear()
      process.stdout.write(text)
    },
    err(text) {
      clear()
      process.stderr.write(text)
    },
    progress(line) {
      if (!isLive) return
      process.stderr.write(`\r\x1b[K${line}`)
      drawn = line !== ''
    },
    paint: paintFor(options.color, process.stdout),
    stdin: process.stdin,
    elapsedMs: () => performance.now() - started,
  }
}
