import { IommulatorError } from '../bits/errors.ts'
import type { Answers, ScriptPeer } from '../machine/lockstep/script-comparison.ts'
import { VTD_ENDPOINT_NAMES } from '../machine/lockstep/vtd-request-step.ts'
import {
  formatVtdStep,
  type VtdScript,
  type VtdStep,
  vtdScriptRefusal,
} from '../machine/lockstep/vtd-step.ts'
import { vtdUnitRefusal } from '../machine/lockstep/vtd-unit-options.ts'
import type { PeerProgram } from './programs.ts'
import type { VtdFiles } from './vtd-files.ts'
import { VtdMachine } from './vtd-machine.ts'

/** QEMU answers within a millisecond; a machine that is busy with other things takes longer. */
const ANSWER_MS = 20_000

export interface VtdPeerOptions {
  /** Instead of QEMU, for tests: a program that speaks qtest on its standard input and output. */
  readonly program?: PeerProgram
  readonly answerMs?: number
}

/**
 * QEMU's intel-iommu with `edu` devices behind it, without an operating system. Each script has a machine of its own,
 * so several may run at once, and each has the unit that it wants.
 *
 * @example
 * const peer = new VtdPeer(await findVtdFiles())
 * await peer.run({ name: 'a', unit: PLAIN_VTD_UNIT, steps })
 */
export class VtdPeer implements ScriptPeer<VtdScript> {
  readonly title: string
  readonly #files: VtdFiles
  readonly #options: VtdPeerOptions
  readonly #running = new Set<VtdMachine>()

  constructor(files: VtdFiles, options: VtdPeerOptions = {}) {
    this.title = `QEMU's intel-iommu (${files.version})`
    this.#files = files
    this.#options = options
  }

  /**
   * @throws IommulatorError ERR_OPERATION where a step must not be done to QEMU, or it has no such unit; ERR_PEER where
   * it does not start, or goes away
   */
  async run(script: VtdScript): Promise<Answers> {
    const { version } = this.#files
    const why = vtdUnitRefusal(script.unit, version)
    if (why !== undefined) throw new IommulatorError('ERR_OPERATION', `${script.name}: ${why}`)
    const refused = vtdScriptRefusal(script)
    if (refused !== undefined) {
      const step = formatVtdStep(script.steps[refused.at] as VtdStep)
      throw new IommulatorError('ERR_OPERATION', `${step}: ${refused.why}`)
    }
    const { program, answerMs = ANSWER_MS } = this.#options
    if (this.#files.endpoints === undefined && VTD_ENDPOINT_NAMES.some((name) => script.devices?.[name])) {
      const why = 'its devices send page requests: that is for iommulator connect qemu-prq'
      throw new IommulatorError('ERR_OPERATION', `${script.name}: ${why}`)
    }
    const machine = await VtdMachine.start(this.#files, script, answerMs, program)
    this.#running.add(machine)
    try {
      return await machine.run(script)
    } finally {
      this.#running.delete(machine)
      await machine.stop()
    }
  }

  /** Ends the machines of scripts that are still running. */
  async stop(): Promise<void> {
    await Promise.all([...this.#running].map((machine) => machine.stop()))
  }
}
