import { type AgentScript, formatAgentScript, processesOf } from '../machine/lockstep/agent-script.ts'
import type { ScriptPeer } from '../machine/lockstep/script-peer.ts'
import { formatAgentCommand } from '../reader/kernel-answers-line.ts'
import { withoutFirmware } from './firmware-lines.ts'
import { findKernelFiles, type KernelFiles } from './kernel-files.ts'
import { PeerProcess } from './peer-process.ts'
import { endsWithUs, type PeerProgram } from './programs.ts'
import { SerialLine } from './serial-line.ts'

/** An emulated POWER9 starts in 10 s; a machine that is busy with other things takes longer. */
const START_MS = 180_000
/** A script; opening a device resets its bus, which takes the kernel 5 s. */
const SCRIPT_MS = 120_000
/** For the kernel to switch the machine off. */
const STOP_MS = 10_000

const MARK = 'ORACLE '
/** A message of firmware may stand before a mark. */
const LIVE = /ORACLE live\r*$/m
const SCRIPT_END = /ORACLE script end rc=-?\d+/
const ANY_MARK = /^ORACLE (?:kernel|pci) .*$/gm

/** The machine: a POWER9 with a device that does DMA behind each of two host bridges. */
const machineArguments = ({ kernel, initrd }: KernelFiles): string[] => [
  ...['-M', 'powernv9', '-m', '2G', '-smp', '1', '-net', 'none', '-display', 'none', '-monitor', 'none'],
  ...['-no-reboot', '-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
  ...['-device', 'edu,bus=pcie.1,dma_mask=0xffffffffffffffff'],
  ...['-device', 'edu,bus=pcie.2,dma_mask=0xffffffffffffffff'],
  ...['-kernel', kernel, '-initrd', initrd, '-append', 'console=hvc0 quiet'],
]

/** What the host of this machine says of itself, as far as it is known before it starts. */
export const KERNEL_HEAD = [
  'ORACLE kernel 6.12.95+deb12-powerpc64le-64k up 0.00',
  'ORACLE pci 0001:00:00.0 0x1014:0x04c1 group=',
  'ORACLE pci 0001:01:00.0 0x1234:0x11e8 group=0',
  'ORACLE pci 0002:00:00.0 0x1014:0x04c1 group=',
  'ORACLE pci 0002:01:00.0 0x1234:0x11e8 group=1',
  '',
].join('\n')

export interface KernelPeerOptions {
  /** Instead of QEMU, for tests: a program whose standard input and output are the agent's console. */
  readonly program?: PeerProgram
  readonly startMs?: number
  readonly scriptMs?: number
  /** Files of the machine; those that the set-up script made where they are left out. */
  readonly files?: KernelFiles
}

/**
 * A real Linux kernel on QEMU's powernv9, whose only program is the agent. Scripts go in over its console, each a
 * process of its own, and transcripts come back.
 *
 * @example
 * const peer = await KernelPeer.start()
 * try {
 *   await peer.run({ name: 'a', commands })
 * } finally {
 *   await peer.stop()
 * }
 */
export class KernelPeer implements ScriptPeer {
  readonly #process: PeerProcess
  readonly #line: SerialLine
  readonly #scriptMs: number
  #head = ''
  /** Scripts run one after the other; so do their answers. */
  #last: Promise<unknown> = Promise.resolve()

  private constructor(program: PeerProgram, scriptMs: number) {
    this.#scriptMs = scriptMs
    this.#process = new PeerProcess(program)
    this.#line = new SerialLine(this.#process)
    this.#process.onEnd = (why) => this.#line.close(why)
  }

  /**
   * Starts the machine and waits until the agent takes scripts.
   *
   * @throws IommulatorError ERR_PEER where something is missing, or the machine does not start
   */
  static async start(options: KernelPeerOptions = {}): Promise<KernelPeer> {
    const { program, startMs = START_MS, scriptMs = SCRIPT_MS } = options
    const peer = new KernelPeer(program ?? programOf(options.files ?? findKernelFiles()), scriptMs)
    try {
      const said = withoutFirmware(await peer.#line.until(LIVE, startMs), [MARK])
      peer.#head = `${[...said.matchAll(ANY_MARK)].map(([mark]) => mark).join('\n')}\n`
    } catch (error) {
      await peer.#process.kill()
      throw error
    }
    return peer
  }

  get head(): string {
    return this.#head
  }

  /** Process id of the machine. */
  get pid(): number | undefined {
    return this.#process.pid
  }

  run(script: AgentScript): Promise<string> {
    const processes = processesOf(script)
    // The next script goes out before the last one is answered: the console is never idle.
    for (const process of processes) {
      this.#line.write(`script ${process.name}\n${formatAgentScript(process)}end\n`)
    }
    const answered = this.#last.then(async () => {
      let transcript = ''
      for (const { commands } of processes) {
        const said = await this.#line.until(SCRIPT_END, this.#scriptMs)
        transcript += withoutFirmware(said, [MARK, ...commands.map((c) => `${formatAgentCommand(c)} => `)])
      }
      return transcript
    })
    this.#last = answered.catch(() => undefined)
    return answered
  }

  /** Switches the machine off, or ends it where it does not go by itself. */
  async stop(): Promise<void> {
    if (this.#line.isOpen) {
      this.#line.write('poweroff\n')
      await this.#process.ends(STOP_MS)
    }
    await this.#process.kill()
  }
}

const programOf = (files: KernelFiles): PeerProgram =>
  endsWithUs(files.setpriv, { command: files.qemu, args: machineArguments(files) })
