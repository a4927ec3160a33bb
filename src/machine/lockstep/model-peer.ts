import { latin1Bytes } from '../../bits/byte-text.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { PROC_EXIT, PROC_FORK } from '../../memory/proc-calls.ts'
import { type AgentLine, formatAgentLine } from '../../reader/kernel-answers-line.ts'
import { KernelAnswersReader } from '../../reader/kernel-answers-reader.ts'
import { createMachine } from '../create-machine.ts'
import type { Machine } from '../machine.ts'
import { Agent } from '../replay/kernel-answers-agent.ts'
import { FIRST_PROCESS, HostList, type ListedHost } from '../replay/kernel-answers-host.ts'
import { Tally } from '../replay/tally.ts'
import { type AgentScript, processesOf } from './agent-script.ts'
import type { ScriptPeer } from './script-peer.ts'

const PROCESS = 'agent'

/** The host that a transcript's marks describe. */
export function hostOf(head: string, profile: string | undefined): ListedHost {
  const list = new HostList()
  const reader = new KernelAnswersReader({
    take(entry) {
      if (entry.kind !== 'mark') return
      const { mark, fields, line } = entry
      if (mark === 'kernel') list.addKernel(fields['release'] as string, line)
      if (mark !== 'pci' && mark !== 'pciWithoutGroup') return
      list.addDevice({
        line,
        address: fields['device'] as string,
        vendorId: fields['vendorId'] as bigint,
        deviceId: fields['deviceId'] as bigint,
        group: fields['group'] as bigint | undefined,
      })
    },
  })
  reader.push(latin1Bytes(head))
  const { lines } = reader.end()
  return list.describe(profile, lines, new Tally())
}

/**
 * The agent on a modelled host, writing transcripts as one on a real host does. Each script finds the host as it is
 * after start; lines that the model has no answer for are comments.
 *
 * @example
 * const peer = new ModelPeer(head, 'intended')
 * await peer.run({ name: 'a', commands }) // 'ORACLE script a\nopen 0 => 0\n...'
 */
export class ModelPeer implements ScriptPeer {
  readonly head: string
  readonly #host: ListedHost

  /** @throws IommulatorError ERR_PROFILE for an unknown profile */
  constructor(head: string, profile?: string) {
    this.head = head
    this.#host = hostOf(head, profile)
  }

  run(script: AgentScript): Promise<string> {
    return Promise.resolve(this.write(script))
  }

  /** The transcript of a script. */
  write(script: AgentScript): string {
    const machine = createMachine(this.#host.description)
    return processesOf(script)
      .map((process, i) => this.#runProcess(machine, `${PROCESS}-${i + 1}`, process))
      .join('')
  }

  #runProcess(machine: Machine, process: string, { name, commands }: AgentScript): string {
    const by = { process: FIRST_PROCESS }
    machine.perform({ verb: PROC_FORK.verb, call: PROC_FORK.name, args: { child: process }, by })
    const agent = new Agent(machine, process, this.#host.others)
    const lines = [`ORACLE script ${name}`]
    let code = 0
    for (const [i, command] of commands.entries()) {
      const line = answerOf(agent, { command, answer: undefined }, i + 1)
      lines.push(line.text)
      if (!line.hasEnded) continue
      code = 139
      break
    }
    machine.perform({ verb: PROC_EXIT.verb, call: PROC_EXIT.name, args: {}, by: { process } })
    return `${[...lines, `ORACLE script end rc=${code}`].join('\n')}\n`
  }
}

function answerOf(
  agent: Agent,
  asked: AgentLine,
  line: number,
): { readonly text: string; readonly hasEnded: boolean } {
  try {
    const said = agent.run(asked.command, line)
    if (said.state === 'answered') {
      return { text: formatAgentLine({ ...asked, answer: said.answer }), hasEnded: false }
    }
    if (said.state === 'refused') return { text: formatAgentLine(asked), hasEnded: false }
    return { text: `# ${asked.command.name}: ${said.why}`, hasEnded: said.state === 'died' }
  } catch (error) {
    if (!(error instanceof IommulatorError)) throw error
    return { text: `# too much for the model: ${error.message}`, hasEnded: true }
  }
}
