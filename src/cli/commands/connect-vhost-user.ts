import { statSync } from 'node:fs'
import { resolve } from 'node:path'
import { IommulatorError } from '../../bits/errors.ts'
import { Journal } from '../../bits/state.ts'
import type { Finding } from '../../check/rule.ts'
import { bytesText } from '../../check/words.ts'
import { type BlockStore, MemoryBlockStore, SECTOR_BYTES } from '../../hw/virtio/block-store.ts'
import { DEFAULT_QEMU } from '../../machine/replay/log-source.ts'
import { readNumber } from '../../machine/schema/number-text.ts'
import {
  type BackEndResult,
  backEndJson,
  backEndText,
  isResultClean,
  liveLine,
} from '../../peer/vhost-user/back-end-report.ts'
import { blkDevice } from '../../peer/vhost-user/blk-device.ts'
import { FileStore } from '../../peer/vhost-user/file-store.ts'
import { loadLibc } from '../../peer/vhost-user/libc.ts'
import { LiveWatch } from '../../peer/vhost-user/live-watch.ts'
import { VhostUserServer } from '../../peer/vhost-user/server.ts'
import { EVENT_KINDS } from '../../trace/event.ts'
import { toJsonLine } from '../../trace/jsonl.ts'
import type { Invocation } from '../command.ts'
import { EXIT } from '../exit.ts'
import { GrowingFile } from '../growing-file.ts'
import type { Io } from '../io.ts'
import { jsonText } from '../json-text.ts'
import { LineFile } from '../line-file.ts'
import { PROGRESS_MS } from './connect-request.ts'

const MEMORY_BYTES_MAX = 2n ** 31n
/** How often a line is said where there is no terminal. */
const LINE_MS = 10_000
/** After an event, how long the next one is waited for on the main thread. */
const LINGER_MS = 1
/** Findings that are said at once. */
const WARNINGS_MAX = 20
/** How long the trace of a QEMU that has ended must stay as it is. */
const TRACE_ENDS_MS = 200

/** Options that say nothing to a disk. */
const OF_OTHERS = [
  ['random', '--random'],
  ['seed', '--seed'],
  ['dmaEvery', '--dma-every'],
  ['partial', '--partial'],
  ['most', '--most'],
] as const

interface DiskRequest {
  readonly socket: string
  readonly file: string | undefined
  readonly memoryBytes: number
  readonly isReadOnly: boolean
  readonly queues: number
  readonly iotlbLimit: number | undefined
  readonly isOnce: boolean
}

const wrong = (what: string): IommulatorError => new IommulatorError('ERR_NUMBER', what)

function count(options: Invocation['options'], name: string, flag: string, most: bigint): number | undefined {
  const text = options[name] as string | undefined
  if (text === undefined) return undefined
  const value = readNumber(text.trim(), true)
  if (value !== undefined && value > 0n && value <= most) return Number(value)
  const sizeHint = name === 'memory' ? ', or a size such as 64M' : ''
  throw wrong(`${flag} ${text}: a number from 1 to ${most}${sizeHint}`)
}

/** Options that name a file. */
const FILE_OPTIONS = ['disk', 'log', 'record', 'trace'] as const

/** What two names of one file have in common; undefined for what is no file (`/dev/null`). */
function identityOf(path: string): string | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
  if (stat === undefined) return resolve(path)
  return stat.isFile() ? `${stat.dev}:${stat.ino}` : undefined
}

/** A log that is written over the disk would be the end of the disk. */
function refuseSameFiles(options: Invocation['options']): void {
  const seen = new Map<string, string>()
  for (const name of FILE_OPTIONS) {
    const path = options[name] as string | undefined
    const identity = path === undefined ? undefined : identityOf(path)
    if (identity === undefined) continue
    const other = seen.get(identity)
    if (other !== undefined) throw wrong(`--${other} and --${name} are one file: ${path}`)
    seen.set(identity, name)
  }
}

function requestOf({ positionals: [, ...files], options }: Invocation): DiskRequest {
  const [socket, file] = [options['socket'], options['disk']] as (string | undefined)[]
  const memoryBytes = count(options, 'memory', '--memory', MEMORY_BYTES_MAX)
  for (const [name, flag] of OF_OTHERS) {
    if (options[name] !== undefined) throw wrong(`${flag} is for other peers, not for vhost-user`)
  }
  if (files.length > 0) throw wrong('connect vhost-user takes no files: --disk FILE is the disk')
  if (socket === undefined) throw wrong('connect vhost-user needs --socket PATH, where QEMU connects to')
  if ((file === undefined) === (memoryBytes === undefined)) {
    throw wrong('connect vhost-user needs --disk FILE, or --memory SIZE: one of the two')
  }
  if ((memoryBytes ?? 0) % SECTOR_BYTES !== 0) {
    throw wrong(`--memory ${options['memory']}: whole sectors of ${SECTOR_BYTES} bytes`)
  }
  refuseSameFiles(options)
  return {
    socket,
    file,
    memoryBytes: memoryBytes ?? 0,
    isReadOnly: options['readOnly'] === true,
    queues: count(options, 'queues', '--queues', 64n) ?? 1,
    iotlbLimit: count(options, 'iotlbEntries', '--iotlb-entries', 2n ** 20n),
    isOnce: options['once'] === true,
  }
}

async function storeOf({ file, memoryBytes, isReadOnly }: DiskRequest): Promise<BlockStore> {
  if (file !== undefined) return FileStore.open(await loadLibc(), file, isReadOnly)
  return new MemoryBlockStore('memory', memoryBytes / SECTOR_BYTES, new Journal())
}

const fileOf = ({ options }: Invocation, name: string): LineFile | undefined => {
  const path = options[name] as string | undefined
  return path === undefined ? undefined : LineFile.open(path)
}

/** The back end with all that watches it. */
class LiveBackEnd {
  readonly watch: LiveWatch
  readonly faults: string[] = []
  readonly trace: GrowingFile | undefined
  readonly #files: readonly (LineFile | undefined)[]
  readonly #io: Io
  readonly #seen = new Set<Finding>()
  #divergences = 0
  #warnings = 0

  constructor(call: Invocation, { iotlbLimit }: DiskRequest, io: Io) {
    const { options } = call
    this.#io = io
    const tracePath = options['trace'] as string | undefined
    const profile = (options['profile'] as string | undefined) ?? DEFAULT_QEMU
    const [messages, records] = [fileOf(call, 'log'), fileOf(call, 'record')]
    this.#files = [messages, records]
    this.trace = tracePath === undefined ? undefined : new GrowingFile(tracePath)
    this.watch = new LiveWatch({
      onLine: messages === undefined ? undefined : (line) => messages.write(line),
      nowUs: () => io.elapsedMs() * 1000,
      profile: tracePath === undefined ? undefined : profile,
      iotlbLimit,
    })
    if (records !== undefined) {
      this.watch.log.subscribe({
        kinds: EVENT_KINDS,
        see: (log, seq) => records.write(`${toJsonLine(log.read(seq))}\n`),
      })
    }
    // A guest may fall within a millisecond of the first stale buffer: it is told of before the device goes on.
    this.watch.log.subscribe({
      kinds: ['domain.wait'],
      see: () => {
        if (this.#warnings < WARNINGS_MAX) this.#warn()
      },
    })
  }

  get findings(): number {
    return this.watch.judge.findings.length + this.watch.divergences.length
  }

  /** Reads what QEMU wrote meanwhile, and says what was found since it was asked last. Whether QEMU wrote anything. */
  look(): boolean {
    const isMore = this.trace?.read((bytes) => this.watch.trace(bytes)) ?? false
    for (const file of this.#files) file?.flush()
    this.#warn()
    if (this.watch.endsRecords()) this.#io.err('no more records: what follows is served, and not judged\n')
    return isMore
  }

  #warn(): void {
    const { judge, divergences } = this.watch
    for (const finding of judge.findings) {
      if (this.#seen.has(finding)) continue
      this.#seen.add(finding)
      this.#say('FOUND', `${finding.rule}: ${finding.message}`)
    }
    for (const { line, call, model, rule } of divergences.slice(this.#divergences)) {
      this.#say('DIVERGED', `${rule}: ${call}: ${model} (line ${line} of the trace)`)
    }
    this.#divergences = divergences.length
  }

  #say(what: string, text: string): void {
    this.#warnings++
    const { paint } = this.#io
    if (this.#warnings <= WARNINGS_MAX) this.#io.err(`${paint.red(what)} ${text}\n`)
    else if (this.#warnings === WARNINGS_MAX + 1) this.#io.err('more is in the report, at the end\n')
  }

  /** Nobody is served any more: QEMU may still have something to write. */
  async end(): Promise<void> {
    for (let quiet = 0; this.trace !== undefined && quiet < 2; ) {
      await new Promise((resolve) => setTimeout(resolve, TRACE_ENDS_MS))
      quiet = this.look() ? 0 : quiet + 1
    }
    this.watch.end()
    this.#warn()
  }

  close(): void {
    for (const file of this.#files) file?.close()
    this.trace?.close()
  }

  result({ socket, file, memoryBytes }: DiskRequest): BackEndResult {
    const disk = file ?? `${bytesText(memoryBytes)} of memory`
    return { socket, disk, faults: this.faults, ...this.watch.result() }
  }
}

function serve(request: DiskRequest, store: BlockStore, live: LiveBackEnd, io: Io): Promise<VhostUserServer> {
  const { socket, isReadOnly, queues, isOnce, iotlbLimit } = request
  const { recorder } = live.watch
  return VhostUserServer.listen({
    socket,
    isOnce,
    lingerMs: LINGER_MS,
    ...(iotlbLimit !== undefined && { iotlbLimit }),
    makeDevice: () =>
      blkDevice({
        store,
        isReadOnly,
        queues,
        watcher: recorder,
      }),
    watcher: {
      onConnect() {
        recorder.begin()
        io.err('a front end is there\n')
        return recorder
      },
      onEnd(fault) {
        recorder.end()
        if (fault === undefined) io.err('the front end is gone\n')
        else {
          live.faults.push(fault.text)
          io.err(`the connection was closed: ${fault.text}\n`)
        }
      },
    },
  })
}

/** Shows how it goes until it is told to end. @param onError a file cannot be written, or read: told once */
function show(live: LiveBackEnd, io: Io, onError: (error: unknown) => void): () => void {
  const { recorder } = live.watch
  let [lastMs, lastBytes, said] = [io.elapsedMs(), 0, '']
  const timer = setInterval(() => {
    try {
      live.look()
    } catch (error) {
      clearInterval(timer)
      onError(error)
      return
    }
    const nowMs = io.elapsedMs()
    if (!io.isLive && nowMs - lastMs < LINE_MS) return
    const { counts, entries } = recorder
    const moved = { ...counts, bytes: counts.bytes - lastBytes }
    const line = liveLine(moved, entries, (nowMs - lastMs) / 1000, live.findings)
    if (io.isLive) io.progress(line)
    else if (line !== said) io.err(`${line}\n`)
    said = line
    lastMs = nowMs
    lastBytes = counts.bytes
  }, PROGRESS_MS)
  return () => {
    clearInterval(timer)
    io.progress('')
  }
}

/** `connect vhost-user`: a disk for QEMU, served over a socket, and judged. */
export async function connectVhostUser(call: Invocation, io: Io): Promise<number> {
  const request = requestOf(call)
  // What is missing is said before anything is made.
  await loadLibc()
  const store = await storeOf(request)
  const live = new LiveBackEnd(call, request, io)
  let isInterrupted = false
  const errors: unknown[] = []
  try {
    const server = await serve(request, store, live, io)
    const restore = io.onInterrupt(() => {
      isInterrupted = true
      server.stop()
    })
    io.err(`listening at ${request.socket}\n`)
    if (store instanceof FileStore && store.restBytes > 0) {
      io.err(
        `the last ${store.restBytes} bytes of ${request.file} are no whole sector: the guest does not see them\n`,
      )
    }
    const hide = show(live, io, (error) => {
      errors.push(error)
      server.stop()
    })
    try {
      await server.run()
    } finally {
      hide()
      restore()
    }
    if (errors.length > 0) throw errors[0]
    await live.end()
  } finally {
    live.close()
    if (store instanceof FileStore) store.close()
  }
  const result = live.result(request)
  io.out(call.options['json'] === true ? jsonText(backEndJson(result)) : backEndText(result, io.paint))
  if (isInterrupted) return EXIT.INTERRUPTED
  if (!isResultClean(result)) return EXIT.FINDINGS
  return result.faults.length > 0 ? EXIT.INPUT : EXIT.CLEAN
}
