import { MMIO_READ, MMIO_WRITE } from '../../hw/edu-calls.ts'
import { EDU_BAR_BYTES, EDU_BUFFER_START, EDU_REGISTERS } from '../../hw/edu-registers.ts'
import * as core from '../../kernel/vfio/calls.ts'
import { PROC_EXIT, PROC_FORK } from '../../memory/proc-calls.ts'
import type { AgentCommandName } from '../../reader/kernel-answers-format.ts'
import type { AgentCommand } from '../../reader/kernel-answers-line.ts'
import type { Machine } from '../machine.ts'
import { TICK_ADVANCE } from '../tick-calls.ts'
import { kvmRuns } from './kernel-answers-kvm.ts'
import { memoryRuns } from './kernel-answers-memory.ts'
import {
  type AgentArgs,
  type AgentRun,
  type AgentSaid,
  answered,
  oneCall,
  outputOf,
  type ProcessCall,
  returned,
  u64,
  unmodelled,
} from './kernel-answers-said.ts'
import { spaprRuns } from './kernel-answers-spapr.ts'
import { forkedRun, unlessUnknown, vhostRuns } from './kernel-answers-vhost.ts'

const NO_FD = 0xffff_ffffn
const CONTAINERS = 8n
const GROUPS = 16n
const U32 = 0xffff_ffffn
/** _IO(';', 0) on powerpc. */
const IO = 0x2000_3b00n
const { DMA_SRC, DMA_DST, DMA_COUNT, DMA_CMD } = EDU_REGISTERS
/** Ticks for which the agent waits for the engine. */
const PATIENCE_TICKS = 5

/**
 * The program that a transcript comes from, on a modelled host: one process, with the variables that it keeps. Each
 * declared command becomes the operations that it makes of it.
 *
 * @example
 * const agent = new Agent(machine, 'agent-1')
 * agent.run(agentCommandOf('open', { slot: 0 }), 1) // { state: 'answered', answer: { value: 0n, ... }, ... }
 */
export class Agent {
  readonly process: string
  readonly #machine: Machine
  readonly #others: ReadonlySet<string>
  readonly #containers = new Map<bigint, bigint>()
  readonly #groups = new Map<bigint, bigint>()
  #slot = 0n
  #device = NO_FD
  /** Device whose BAR is mapped; null where mapping it failed. */
  #bar: string | null | undefined
  #mappings = 0
  #line = 0
  /** The process that acts: the program, or a child of it. */
  #actor: string
  #children = 0
  readonly #call: ProcessCall = ({ verb, name: call }, args) =>
    this.#machine.perform({ verb, call, args, by: { process: this.#actor }, line: this.#line })
  readonly #runs: Readonly<Record<AgentCommandName, AgentRun>>

  /** @param others devices of the host that the model does not have */
  constructor(machine: Machine, process: string, others: ReadonlySet<string> = new Set()) {
    this.process = process
    this.#actor = process
    this.#machine = machine
    this.#others = others
    this.#runs = {
      ...this.#files(),
      ...spaprRuns(this.#call, () => this.#fd),
      ...memoryRuns(this.#call),
      ...kvmRuns(this.#call, { container: () => this.#fd, group: (args) => this.#groupFd(args) }),
      ...vhostRuns(this.#call),
      forked: forkedRun((command) => this.#runInChild(command)),
      ...this.#notModelled(),
    }
  }

  /** The device whose registers `dma` uses. */
  get device(): string | undefined {
    return this.#bar ?? undefined
  }

  /** Does what a command says. What it answers never throws; what is too much for the model does (IommulatorError). */
  run({ name, args }: AgentCommand, line: number): AgentSaid {
    this.#line = line
    const { log } = this.#machine
    const from = log.length
    return unlessUnknown(this.#runs[name](args), log, from)
  }

  get #fd(): bigint {
    return this.#containers.get(this.#slot) ?? NO_FD
  }

  #groupFd(args: AgentArgs): bigint {
    return this.#groups.get(u64(args, 'group')) ?? NO_FD
  }

  /** A command with a number that the program's arrays have no room for: what it then overwrites nobody knows. */
  #inRange(name: 'slot' | 'group', run: AgentRun): AgentRun {
    const most = name === 'slot' ? CONTAINERS : GROUPS
    return (args) =>
      u64(args, name) < most
        ? run(args)
        : { state: 'unmodelled', why: `the agent has room for ${most} of each kind of file`, isWild: true }
  }

  #open(path: string, into: Map<bigint, bigint>, key: bigint): AgentSaid {
    const answer = this.#call(core.OPEN, { path })
    if (answer.state !== 'done') return returned(answer)
    // What was open under this number stays open: the program overwrites its variable.
    into.set(key, answer.code === 'OK' ? outputOf(answer, 'fd') : NO_FD)
    return returned(answer)
  }

  #close(from: Map<bigint, bigint>, key: bigint): AgentSaid {
    const answer = this.#call(core.CLOSE, { fd: from.get(key) ?? NO_FD })
    from.delete(key)
    return returned(answer)
  }

  #files() {
    const group = (run: AgentRun) => this.#inRange('group', run)
    const slot = (run: AgentRun) => this.#inRange('slot', run)
    return {
      open: slot((args) => {
        this.#slot = u64(args, 'slot')
        return this.#open('/dev/vfio/vfio', this.#containers, this.#slot)
      }),
      use: slot((args) => {
        this.#slot = u64(args, 'slot')
        return answered(0n)
      }),
      close: slot((args) => this.#close(this.#containers, u64(args, 'slot'))),
      ext: oneCall(this.#call, core.VFIO_CHECK_EXTENSION, (args) => ({
        fd: this.#fd,
        extension: u64(args, 'extension'),
      })),
      version: oneCall(this.#call, core.VFIO_GET_API_VERSION, () => ({ fd: this.#fd })),
      group: group((args) => this.#open(`/dev/vfio/${u64(args, 'group')}`, this.#groups, u64(args, 'group'))),
      groupstatus: group((args) => {
        const answer = this.#call(core.VFIO_GROUP_GET_STATUS, { fd: this.#groupFd(args) })
        return returned(answer, { flags: outputOf(answer, 'flags') })
      }),
      attach: group(
        oneCall(this.#call, core.VFIO_GROUP_SET_CONTAINER, (args) => ({
          fd: this.#groupFd(args),
          container: this.#fd,
        })),
      ),
      detach: group(
        oneCall(this.#call, core.VFIO_GROUP_UNSET_CONTAINER, (args) => ({ fd: this.#groupFd(args) })),
      ),
      groupclose: group((args) => this.#close(this.#groups, u64(args, 'group'))),
      iommu: oneCall(this.#call, core.VFIO_SET_IOMMU, (args) => ({ fd: this.#fd, type: u64(args, 'type') })),
      ioctl: oneCall(this.#call, core.RAW_IOCTL, (args) => ({
        fd: this.#fd,
        cmd: (IO | u64(args, 'nr')) & U32,
        arg: u64(args, 'argument'),
      })),
      device: group((args) => this.#openDevice(args)),
      devclose: () => {
        const answer = this.#call(core.CLOSE, { fd: this.#device })
        this.#device = NO_FD
        return returned(answer)
      },
      dma: (args: AgentArgs) => this.#dma(args),
    }
  }

  /** Opens a device, and maps its first BAR; that it also becomes a bus master is not modelled. */
  #openDevice(args: AgentArgs): AgentSaid {
    const name = args['name'] as string
    if (this.#others.has(name)) return unmodelled(`the device ${name} is not modelled`)
    const opened = this.#call(core.VFIO_GROUP_GET_DEVICE_FD, { fd: this.#groupFd(args), name })
    if (opened.state !== 'done') return returned(opened)
    const isOpen = opened.code === 'OK'
    this.#device = isOpen ? outputOf(opened, 'fd') : NO_FD
    if (!isOpen) return returned(opened)
    // The kernel chooses where; a mapping that was there stays.
    const mapped = this.#call(core.MMAP_DEVICE, { fd: this.#device, map: `bar${++this.#mappings}` })
    if (mapped.state !== 'done') return returned(mapped)
    const isMapped = mapped.code === 'OK'
    this.#bar = isMapped ? name : null
    const fields = { barBytes: BigInt(EDU_BAR_BYTES), mapped: isMapped ? 'yes' : 'no' }
    return returned(opened, fields)
  }

  #dma(args: AgentArgs): AgentSaid {
    const device = this.#bar
    if (device === undefined) return { state: 'refused' }
    if (device === null) return { state: 'died', why: 'the registers are not mapped (SIGSEGV)' }
    const isWrite = args['direction'] === 'w'
    const iova = u64(args, 'iova')
    const buffer = BigInt.asUintN(64, BigInt(EDU_BUFFER_START) + u64(args, 'at'))
    const values = [
      [DMA_SRC, isWrite ? buffer : iova],
      [DMA_DST, isWrite ? iova : buffer],
      [DMA_COUNT, u64(args, 'bytes')],
      [DMA_CMD, isWrite ? 3n : 1n],
    ] as const
    for (const [{ offset }, value] of values) {
      const stored = this.#call(MMIO_WRITE, { device, offset, bytes: 8n, value })
      if (stored.state !== 'done') return returned(stored)
    }
    for (let tick = 0; ; tick++) {
      const read = this.#call(MMIO_READ, { device, offset: DMA_CMD.offset, bytes: 8n })
      if (read.state !== 'done') return returned(read)
      const isRunning = (outputOf(read, 'value') & 1n) === 1n
      if (!isRunning) return answered(0n)
      // No system call has failed: there is no errno.
      if (tick === PATIENCE_TICKS) return answered(-1n, { errno: '0', rule: 'engine-runs' })
      this.#call(TICK_ADVANCE, { ticks: 1n })
    }
  }

  /** A child has the same files, and memory of its own. */
  #runInChild(command: AgentCommand): AgentSaid {
    const child = `${this.process}.${++this.#children}`
    const forked = this.#call(PROC_FORK, { child })
    if (forked.code !== 'OK') return unmodelled('a child that the modelled host has no room for')
    this.#actor = child
    const said = this.run(command, this.#line)
    this.#call(PROC_EXIT, {})
    this.#actor = this.process
    return said
  }

  #notModelled() {
    return {
      sh: () => unmodelled('a shell is not modelled'),
      quit: () => unmodelled('the agent ends'),
    }
  }
}
