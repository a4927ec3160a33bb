import { IommulatorError } from '../../bits/errors.ts'
import { Journal } from '../../bits/state.ts'
import { Judge } from '../../check/judge.ts'
import type { Finding } from '../../check/rule.ts'
import { type BlockStore, MemoryBlockStore, SECTOR_BYTES } from '../../hw/virtio/block-store.ts'
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
import { MessageLog } from '../../peer/vhost-user/message-log.ts'
import { Recorder } from '../../peer/vhost-user/recorder.ts'
import { VhostUserServer } from '../../peer/vhost-user/server.ts'
import { VhostCounter } from '../../report/vhost-ledger.ts'
import { EVENT_KINDS } from '../../trace/event.ts'
import { toJsonLine } from '../../trace/jsonl.ts'
import { RecordLog } from '../../trace/record-log.ts'
import type { Invocation } from '../command.ts'
import { EXIT } from '../exit.ts'
import type { Io } from '../io.ts'
import { jsonText } from '../json-text.ts'
import { LineFile } from '../line-file.ts'
import { PROGRESS_MS } from './connect-request.ts'

const DEVICE = 'vhost-user-blk'
/** Promises that the records of a back end, and of a trace beside it, can say something about. */
const JUDGED = ['stale-iotlb', 'iotlb-mismatch', 'stale-metadata']
/** Records that are kept, of 64 bytes: a back end may run for days. */
const KEEP_RECORDS = 1 << 20
const MEMORY_BYTES_MAX = 2n ** 31n
/** How often a line is said where there is no terminal. */
const LINE_MS = 10_000
/** After an event, how long the next one is waited for on the main thread. */
const LINGER_MS = 1

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
  throw wrong(`${flag} ${text}: a number from 1 to ${most}, or a size such as 64M`)
}

function requestOf({ positionals: [, ...files], options }: Invocation): DiskRequest {
  const [socket, file] = [options['socket'], options['disk']] as (string | undefined)[]
  const memoryBytes = count(options, 'memory', '--memory', MEMORY_BYTES_MAX)
  if (files.length > 0) throw wrong('connect vhost-user takes no files: --disk FILE is the disk')
  if (socket === undefined) throw wrong('connect vhost-user needs --socket PATH, where QEMU connects to')
  if ((file === undefined) === (memoryBytes === undefined)) {
    throw wrong('connect vhost-user needs --disk FILE, or --memory SIZE: one of the two')
  }
  return {
    socket,
    file,
    memoryBytes: memoryBytes ?? 0,
    isReadOnly: options['readOnly'] === true,
    queues: count(options, 'queues', '--queues', 64n) ?? 1,
    iotlbLimit: count(options, 'iotlbEntries', '--iotlb-entries', 2n ** 24n),
    isOnce: options['once'] === true,
  }
}

async function storeOf({ file, memoryBytes, isReadOnly }: DiskRequest): Promise<BlockStore> {
  if (file !== undefined) return FileStore.open(await loadLibc(), file, isReadOnly)
  return new MemoryBlockStore('memory', Math.max(1, Math.floor(memoryBytes / SECTOR_BYTES)), new Journal())
}

const fileOf = ({ options }: Invocation, name: string): LineFile | undefined => {
  const path = options[name] as string | undefined
  return path === undefined ? undefined : LineFile.open(path)
}

/** The back end with all that watches it. */
class LiveBackEnd {
  readonly log = new RecordLog({ keepRecords: KEEP_RECORDS })
  readonly judge = new Judge({ rules: JUDGED })
  readonly counter = new VhostCounter()
  readonly recorder: Recorder
  readonly faults: string[] = []
  readonly #io: Io
  readonly #seen = new Set<Finding>()

  constructor(messages: LineFile | undefined, records: LineFile | undefined, io: Io) {
    this.#io = io
    this.judge.attach(this.log)
    this.log.subscribe(this.counter)
    if (records !== undefined) {
      this.log.subscribe({
        kinds: EVENT_KINDS,
        see: (log, seq) => records.write(`${toJsonLine(log.read(seq))}\n`),
      })
    }
    const log =
      messages === undefined
        ? undefined
        : new MessageLog(
            (line) => messages.write(line),
            () => io.elapsedMs() * 1000,
          )
    this.recorder = new Recorder({ log: this.log, device: DEVICE, owner: 'guest', messages: log })
  }

  /** Says what was found since it was asked last. */
  warn(): void {
    for (const finding of this.judge.findings) {
      if (this.#seen.has(finding)) continue
      this.#seen.add(finding)
      const { paint } = this.#io
      this.#io.err(`${paint.red('FOUND')} ${finding.rule}: ${finding.message}\n`)
    }
  }

  result({ socket, file, memoryBytes }: DiskRequest): BackEndResult {
    this.judge.finish()
    return {
      socket,
      disk: file ?? `${memoryBytes} bytes of memory`,
      counts: this.recorder.counts,
      ledger: this.counter.ledger(),
      findings: this.judge.findings,
      findingsDropped: this.judge.dropped,
      verdicts: this.judge.verdicts(),
      faults: this.faults,
    }
  }
}

function serve(request: DiskRequest, store: BlockStore, live: LiveBackEnd, io: Io): Promise<VhostUserServer> {
  const { socket, isReadOnly, queues, isOnce, iotlbLimit } = request
  const { recorder } = live
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

/** Shows how it goes until it is told to end. */
function show(live: LiveBackEnd, files: readonly (LineFile | undefined)[], io: Io): () => void {
  const { recorder, judge } = live
  let [lastMs, lastBytes, saidMs, said] = [io.elapsedMs(), 0, io.elapsedMs(), '']
  const timer = setInterval(() => {
    for (const file of files) file?.flush()
    live.warn()
    const nowMs = io.elapsedMs()
    const { counts, entries } = recorder
    const seconds = (nowMs - lastMs) / 1000
    const line = liveLine(
      { ...counts, bytes: counts.bytes - lastBytes },
      entries,
      seconds,
      judge.findings.length,
    )
    if (io.isLive) {
      io.progress(line)
      lastMs = nowMs
      lastBytes = counts.bytes
    } else if (nowMs - saidMs >= LINE_MS) {
      if (line !== said) io.err(`${line}\n`)
      said = line
      saidMs = nowMs
      lastMs = nowMs
      lastBytes = counts.bytes
    }
  }, PROGRESS_MS)
  return () => {
    clearInterval(timer)
    io.progress('')
    live.warn()
  }
}

/** `connect vhost-user`: a disk for QEMU, served over a socket, and judged. */
export async function connectVhostUser(call: Invocation, io: Io): Promise<number> {
  const request = requestOf(call)
  // What is missing is said before anything is made.
  await loadLibc()
  const store = await storeOf(request)
  const [messages, records] = [fileOf(call, 'log'), fileOf(call, 'record')]
  const live = new LiveBackEnd(messages, records, io)
  let isInterrupted = false
  try {
    const server = await serve(request, store, live, io)
    const restore = io.onInterrupt(() => {
      isInterrupted = true
      server.stop()
    })
    io.err(`listening at ${request.socket}\n`)
    const hide = show(live, [messages, records], io)
    try {
      await server.run()
    } finally {
      hide()
      restore()
    }
  } finally {
    messages?.close()
    records?.close()
    if (store instanceof FileStore) store.close()
  }
  const result = live.result(request)
  io.out(call.options['json'] === true ? jsonText(backEndJson(result)) : backEndText(result, io.paint))
  if (isInterrupted) return EXIT.INTERRUPTED
  if (!isResultClean(result)) return EXIT.FINDINGS
  return result.faults.length > 0 ? EXIT.INPUT : EXIT.CLEAN
}
