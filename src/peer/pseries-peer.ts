import { IommulatorError } from '../bits/errors.ts'
import { hex } from '../bits/u64.ts'
import { hcallAnswer, type PseriesScriptPeer, rtasAnswer } from '../machine/lockstep/pseries-peer-port.ts'
import { PSERIES_AREAS } from '../machine/lockstep/pseries-random.ts'
import {
  DMA_BYTES_MAX,
  formatPseriesStep,
  PSERIES_RAM_BYTES,
  PSERIES_SLOT,
  type PseriesCall,
  type PseriesScript,
  type PseriesStep,
  refusalOf,
} from '../machine/lockstep/pseries-step.ts'
import { PeerProcess } from './peer-process.ts'
import { endsWithUs, type PeerProgram } from './programs.ts'
import { findPseriesFiles, type PseriesFiles } from './pseries-files.ts'
import { Qtest } from './qtest.ts'

/** QEMU answers within a millisecond; a machine that is busy with other things takes longer. */
const ANSWER_MS = 20_000
/** Looks at a mailbox or a device that does not get ready. */
const LOOKS_MAX = 200_000

/** The mailbox of peers/pseries/mailbox.S. */
const MAILBOX = 0x10_0000
const BATCHES = MAILBOX + 8
const RECORDS = MAILBOX + 0x1000
const RECORD_BYTES = 128
const AFTER = 0x40
const RTAS_ARGS = 0x50
/** Records of one batch. */
const BATCH_MAX = 1024
/** QEMU's hypercall for RTAS: r4 is where its arguments lie. */
const H_RTAS = 0xf000n
/** Where results of RTAS are not written. */
const UNWRITTEN = 0xdead_beef

const RESET: PseriesCall = { kind: 'rtas', token: 0x2029, nret: 1, args: [0, 0x0800_0000, 0x2000_0000] }
/** RTAS calls for the configuration space of a PCI device. */
const CONFIG = { read: 0x2016, write: 0x2017 } as const
const FIRST_BUID = [0x0800_0000, 0x2000_0000] as const
const EDU_ID = 0x11e8_1234
/** Where the device's registers are put: a bus address, and where the processor sees it. */
const BAR = { bus: 0x9000_0000, cpu: 0x2000_9000_0000 } as const
const EDU = { source: 0x80, target: 0x88, count: 0x90, command: 0x98, buffer: 0x4_0000n } as const
const DEFAULT_LIOBN = 0x8000_0000n

const machineArguments = ({ firmware }: PseriesFiles, pageShifts?: readonly number[]): string[] => [
  ...['-M', 'pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off'],
  ...['-cpu', 'power9', '-m', `${PSERIES_RAM_BYTES >> 20}M`, '-bios', firmware],
  // Time jumps while the processor waits, so the device's 100 ms for a request cost nothing.
  ...['-accel', 'tcg', '-icount', 'shift=0,sleep=off', '-nodefaults', '-display', 'none'],
  ...['-serial', 'none', '-monitor', 'none', '-chardev', 'stdio,id=qtest,signal=off'],
  ...['-qtest', 'chardev:qtest', '-qtest-log', 'none'],
  ...(pageShifts === undefined ? [] : ['-global', `spapr-pci-host-bridge.pgsz=${maskOf(pageShifts)}`]),
  ...['-device', `edu,addr=${PSERIES_SLOT}.0,dma_mask=0xffffffffffffffff`],
]

const maskOf = (shifts: readonly number[]): string => hex(shifts.reduce((m, s) => m | (1n << BigInt(s)), 0n))

export interface PseriesPeerOptions {
  /** Instead of QEMU, for tests: a program that speaks qtest on its standard input and output. */
  readonly program?: PeerProgram
  readonly answerMs?: number
  /** Page sizes of the host bridge, as shifts, where they are not those that QEMU gives it. */
  readonly pageShifts?: readonly number[]
  /** Files of the machine; those that the set-up script made where they are left out. */
  readonly files?: PseriesFiles
}

/**
 * QEMU's pseries machine with a firmware that runs hypercalls from a mailbox, a batch at once. No operating system.
 *
 * Every script finds the windows and the memory of random scripts as after the start. What a script's device wrote
 * elsewhere stays.
 *
 * @example
 * const peer = await PseriesPeer.start()
 * try {
 *   await peer.run({ name: 'a', steps })
 * } finally {
 *   await peer.stop()
 * }
 */
export class PseriesPeer implements PseriesScriptPeer {
  readonly title = "QEMU's pseries"
  readonly #process: PeerProcess
  readonly #qtest: Qtest
  #batches = 0n
  #last: Promise<unknown> = Promise.resolve()

  private constructor(program: PeerProgram, answerMs: number) {
    this.#process = new PeerProcess(program)
    const { input, output } = this.#process
    this.#qtest = new Qtest({ input, output, answerMs })
    this.#process.onEnd = (why) => this.#qtest.close(why)
  }

  /**
   * Starts the machine and sets up its device.
   *
   * @throws IommulatorError ERR_PEER where something is missing, or the machine does not start
   */
  static async start(options: PseriesPeerOptions = {}): Promise<PseriesPeer> {
    const program = options.program ?? programOf(options)
    const peer = new PseriesPeer(program, options.answerMs ?? ANSWER_MS)
    try {
      await peer.#setUpDevice()
    } catch (error) {
      await peer.stop()
      throw error
    }
    return peer
  }

  /** Process id of the machine. */
  get pid(): number | undefined {
    return this.#process.pid
  }

  run(script: PseriesScript): Promise<readonly (string | undefined)[]> {
    for (const step of script.steps) {
      const why = refusalOf(step)
      if (why !== undefined) {
        throw new IommulatorError('ERR_OPERATION', `${formatPseriesStep(step)}: ${why}`)
      }
    }
    const answered = this.#last.then(() => this.#run(script))
    this.#last = answered.catch(() => undefined)
    return answered
  }

  /** Ends the machine: it holds nothing that would be lost. */
  stop(): Promise<void> {
    return this.#process.kill()
  }

  async #run({ steps }: PseriesScript): Promise<readonly (string | undefined)[]> {
    await this.#asAfterStart()
    // What is read behind a batch is waited for at the end only: QEMU answers in order.
    const answers: (Promise<readonly (string | undefined)[]> | undefined)[] = []
    for (let at = 0; at < steps.length; ) {
      const end = Math.max(endOfBatch(steps, at), at + 1)
      const step = steps[at] as PseriesStep
      if (isCall(step)) {
        const calls = steps.slice(at, end) as PseriesCall[]
        answers.push(this.#later(await this.#start(calls)))
      } else if (step.kind === 'dma') {
        await this.#dma(step.direction === 'write', step.iova, step.bytes, step.at)
        answers.push(undefined)
      } else answers.push(this.#later(this.#atMemory(step)))
      at = end
    }
    const all: (string | undefined)[] = []
    for (const answer of answers) all.push(...((await answer) ?? NO_ANSWER))
    return all
  }

  /** The windows, the memory of scripts and the device's buffer become what they were at the start. */
  async #asAfterStart(): Promise<void> {
    const { lists, data, ends } = PSERIES_AREAS
    // Answers come in order: the first that is refused ends the peer, and with it all others.
    for (const { gpa, bytes } of [lists, data, ...ends]) void this.#ignore(this.#qtest.clear(gpa, bytes))
    const put: PseriesCall = {
      kind: 'hcall',
      registers: [0x20n, DEFAULT_LIOBN, 0n, BigInt(data.gpa) | 1n],
    }
    await this.#batch([RESET, put])
    await this.#dma(false, 0n, DMA_BYTES_MAX)
    await this.#batch([RESET])
  }

  /** Nobody waits for it: who waits for a later command sees that the peer is lost. */
  async #ignore(answer: Promise<unknown>): Promise<void> {
    await answer.catch(() => undefined)
  }

  /** Somebody waits for it, but not at once. */
  #later<T>(answer: Promise<T> | { readonly results: Promise<T> }): Promise<T> {
    const promise = 'results' in answer ? answer.results : answer
    promise.catch(() => undefined)
    return promise
  }

  async #batch(calls: readonly PseriesCall[]): Promise<readonly string[]> {
    return (await this.#start(calls)).results
  }

  /** Runs calls. They have run when this comes back; their results are on the way. */
  async #start(calls: readonly PseriesCall[]): Promise<{ readonly results: Promise<readonly string[]> }> {
    const qtest = this.#qtest
    const bytes = calls.length * RECORD_BYTES
    const view = new DataView(new ArrayBuffer(bytes))
    for (const [i, call] of calls.entries()) writeRecord(view, i * RECORD_BYTES, call)
    void this.#ignore(qtest.write(RECORDS, new Uint8Array(view.buffer)))
    void this.#ignore(qtest.writeWord(MAILBOX, BigInt(calls.length)))
    this.#batches++
    await this.#until('the mailbox firmware', async () => (await qtest.readWord(BATCHES)) === this.#batches)
    const results = qtest.read(RECORDS, bytes).then((out) => {
      const records = new DataView(out.buffer, out.byteOffset, out.length)
      return calls.map((call, i) => readRecord(records, i * RECORD_BYTES, call))
    })
    return { results }
  }

  async #atMemory(
    step: Extract<PseriesStep, { kind: 'list' | 'poke' | 'peek' }>,
  ): Promise<readonly (string | undefined)[]> {
    if (step.kind === 'peek') return [(await this.#qtest.read(step.gpa, step.bytes)).toString('hex')]
    await this.#qtest.write(step.gpa, step.kind === 'poke' ? Buffer.from(step.data, 'hex') : wordsOf(step))
    return NO_ANSWER
  }

  async #dma(toMemory: boolean, iova: bigint, bytes: number, at = 0): Promise<void> {
    const { cpu } = BAR
    const inBuffer = EDU.buffer + BigInt(at)
    const set = (register: number, value: bigint): void => {
      void this.#ignore(this.#qtest.writeWord(cpu + register, value))
    }
    set(EDU.source, toMemory ? inBuffer : iova)
    set(EDU.target, toMemory ? iova : inBuffer)
    set(EDU.count, BigInt(bytes))
    set(EDU.command, toMemory ? 3n : 1n)
    await this.#until(
      'the edu device',
      async () => ((await this.#qtest.readWord(cpu + EDU.command)) & 1n) === 0n,
    )
  }

  async #until(who: string, isReady: () => Promise<boolean>): Promise<void> {
    for (let look = 0; look < LOOKS_MAX; look++) if (await isReady()) return
    this.#qtest.close(`${who} does not get ready`)
    throw new IommulatorError('ERR_PEER', `the peer is lost: ${who} does not get ready`)
  }

  async #setUpDevice(): Promise<void> {
    const at = (register: number): number => (PSERIES_SLOT << 11) | register
    const config = (register: number, bytes: number, value: number): PseriesCall => ({
      kind: 'rtas',
      token: CONFIG.write,
      nret: 1,
      args: [at(register), ...FIRST_BUID, bytes, value],
    })
    const read: PseriesCall = { kind: 'rtas', token: CONFIG.read, nret: 2, args: [at(0), ...FIRST_BUID, 4] }
    // The address of its registers; then memory accesses and bus mastering.
    const [id, ...set] = await this.#batch([read, config(0x10, 4, BAR.bus), config(0x04, 2, 6)])
    if (id === `0 0x${EDU_ID.toString(16)}` && set.every((status) => status === '0')) return
    throw new IommulatorError('ERR_PEER', `the peer has no edu device: its id reads ${id}`)
  }
}

const NO_ANSWER = [undefined] as const

const isCall = (step: PseriesStep): step is PseriesCall => step.kind === 'hcall' || step.kind === 'rtas'

function wordsOf({ count, first, by }: Extract<PseriesStep, { kind: 'list' }>): Uint8Array {
  const view = new DataView(new ArrayBuffer(count * 8))
  for (let i = 0; i < count; i++) view.setBigUint64(i * 8, BigInt.asUintN(64, first + BigInt(i) * by))
  return new Uint8Array(view.buffer)
}

/** Behind the calls that can go out together from a step on. */
function endOfBatch(steps: readonly PseriesStep[], from: number): number {
  let end = from
  while (end < steps.length && end - from < BATCH_MAX) {
    if (!isCall(steps[end] as PseriesStep)) break
    end++
  }
  return end
}

function writeRecord(view: DataView, at: number, call: PseriesCall): void {
  if (call.kind === 'hcall') {
    for (const [i, register] of call.registers.entries()) view.setBigUint64(at + i * 8, register)
    return
  }
  view.setBigUint64(at, H_RTAS)
  view.setBigUint64(at + 8, BigInt(RECORDS + at + RTAS_ARGS))
  const results = Array.from({ length: call.nret }, () => UNWRITTEN)
  const cells = [call.token, call.args.length, call.nret, ...call.args, ...results]
  for (const [i, cell] of cells.entries()) view.setUint32(at + RTAS_ARGS + i * 4, cell)
}

function readRecord(view: DataView, at: number, call: PseriesCall): string {
  if (call.kind === 'hcall') {
    return hcallAnswer(view.getBigInt64(at + AFTER), view.getBigUint64(at + AFTER + 8))
  }
  const from = at + RTAS_ARGS + (3 + call.args.length) * 4
  const cells: number[] = []
  for (let i = 0; i < call.nret; i++) {
    const cell = view.getUint32(from + i * 4)
    if (cell === UNWRITTEN) break
    cells.push(cell)
  }
  const [status, ...outs] = cells
  return status === undefined
    ? `none, hypercall ${view.getBigInt64(at + AFTER)}`
    : rtasAnswer(status | 0, outs)
}

const programOf = ({ files = findPseriesFiles(), pageShifts }: PseriesPeerOptions): PeerProgram =>
  endsWithUs(files.setpriv, { command: files.qemu, args: machineArguments(files, pageShifts) })

/**
 * QEMU's pseries, started anew for each script: nothing of one is left for the next, and each has the page sizes that
 * it wants.
 */
export class FreshPseriesPeer implements PseriesScriptPeer {
  readonly title = "QEMU's pseries"
  readonly #options: PseriesPeerOptions

  /** @throws IommulatorError ERR_PEER where something is missing */
  constructor(options: PseriesPeerOptions = {}) {
    const { program } = options
    this.#options = program === undefined ? { files: findPseriesFiles(), ...options } : options
  }

  async run(script: PseriesScript): Promise<readonly (string | undefined)[]> {
    const { pageShifts } = script
    const peer = await PseriesPeer.start({
      ...this.#options,
      ...(pageShifts !== undefined && { pageShifts }),
    })
    try {
      return await peer.run(script)
    } finally {
      await peer.stop()
    }
  }
}
