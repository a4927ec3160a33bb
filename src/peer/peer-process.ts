import { type ChildProcess, spawn } from 'node:child_process'
import type { Duplex, Readable, Writable } from 'node:stream'
import type { PeerProgram } from './programs.ts'

/** What is kept of the program's errors, for the message that it has ended. */
const ERRORS_KEPT = 1000
/** A stream that breaks says less than the end of the program, which mostly follows at once. */
const END_FOLLOWS_MS = 1000
/** File descriptor of the line of a program. */
const CHANNEL = 3

type Piped = ChildProcess & Readonly<Record<'stdin', Writable> & Record<'stdout' | 'stderr', Readable>>

/**
 * The program of a peer, with its standard input and output. It ends with this program at the latest, also where a
 * signal ends that (`cli/main.ts`) or, where setpriv is there, where that is killed.
 *
 * @example
 * const running = new PeerProcess({ command: 'qemu-system-ppc64', args })
 * running.onEnd = (why) => line.close(why)
 */
export class PeerProcess {
  readonly #child: Piped
  readonly #end = () => this.#child.kill('SIGKILL')
  /** Told in words when it has ended, or could not be started; the first time is the one that counts. */
  onEnd: (why: string) => void = () => undefined

  constructor({ command, args, env, hasChannel = false }: PeerProgram) {
    const child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'pipe', ...(hasChannel ? (['pipe'] as const) : [])],
      ...(env && { env: { ...process.env, ...env } }),
    }) as Piped
    this.#child = child
    let errors = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-ERRORS_KEPT)
    })
    let broken: NodeJS.Timeout | undefined
    const breaks = (why: string) => {
      broken ??= setTimeout(() => this.onEnd(why), END_FOLLOWS_MS)
    }
    child.stdin.on('error', (error) => breaks(error.message))
    child.stdout.on('error', (error) => breaks(error.message))
    child.stdout.once('end', () => breaks('it closed its side'))
    this.channel?.on('error', (error) => breaks(error.message))
    child.on('error', (error) => this.onEnd(error.message))
    // Behind its last output, so that what it said comes first.
    child.once('close', (code, signal) => {
      clearTimeout(broken)
      process.off('exit', this.#end)
      this.onEnd(`QEMU ended (${signal ?? code})${errors === '' ? '' : `: ${errors.trim()}`}`)
    })
    process.once('exit', this.#end)
  }

  get input(): Writable {
    return this.#child.stdin
  }

  get output(): Readable {
    return this.#child.stdout
  }

  /** The line of a program that has one. */
  get channel(): Duplex | undefined {
    return (this.#child.stdio[CHANNEL] ?? undefined) as Duplex | undefined
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  get hasEnded(): boolean {
    const { pid, exitCode, signalCode } = this.#child
    return pid === undefined || exitCode !== null || signalCode !== null
  }

  /** Waits until it has ended, but no longer than so; at once where it has. */
  async ends(withinMs: number): Promise<void> {
    if (this.hasEnded) return
    let timer: NodeJS.Timeout | undefined
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, withinMs)
    })
    await Promise.race([this.#gone(), late])
    clearTimeout(timer)
  }

  /** Ends it, and comes back when it is gone. */
  async kill(): Promise<void> {
    if (this.hasEnded) return
    const gone = this.#gone()
    this.#child.kill('SIGKILL')
    await gone
  }

  #gone(): Promise<void> {
    return new Promise((resolve) => this.#child.once('exit', () => resolve()))
  }
}
