import { latin1Bytes } from '../../bits/byte-text.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { type AgentCommand, formatAgentCommand, readAgentCommand } from '../../reader/kernel-answers-line.ts'
import { KernelAnswersReader } from '../../reader/kernel-answers-reader.ts'

/** Commands that one process of the agent runs. */
export interface AgentScript {
  /** A word without blanks. */
  readonly name: string
  readonly commands: readonly AgentCommand[]
  /** Processes that run before it and behind it, and belong to it: they fill and show the buffers of devices. */
  readonly before?: readonly AgentScript[]
  readonly after?: readonly AgentScript[]
}

/** A script with the processes that belong to it, in the order in which they run. */
export const processesOf = (script: AgentScript): AgentScript[] => {
  const { name, commands, before = [], after = [] } = script
  return [...before, { name, commands }, ...after]
}

/** Commands of one script; what a person writes has a few hundred. */
const COMMANDS_MAX = 10_000
const NAME_CHARACTERS_MAX = 40

/** A name as it stands in a mark of a transcript. */
export const scriptName = (text: string): string =>
  text.replaceAll(/[^\w.-]/g, '_').slice(0, NAME_CHARACTERS_MAX) || 'script'

/** Collects the commands of a transcript, each script's apart. */
function ofTranscript(text: string, name: string): AgentScript[] {
  const scripts: { name: string; commands: AgentCommand[] }[] = []
  let open: AgentCommand[] | undefined
  const begin = (called: string): AgentCommand[] => {
    const commands: AgentCommand[] = []
    scripts.push({ name: called, commands })
    return commands
  }
  const reader = new KernelAnswersReader({
    take(entry) {
      if (entry.kind === 'command') {
        open ??= begin(name)
        open.push(entry.command)
      } else if (entry.kind === 'mark') {
        open = entry.mark === 'script' ? begin(scriptName(entry.fields['script'] as string)) : undefined
      }
    },
  })
  reader.push(latin1Bytes(text))
  reader.end()
  return scripts.filter(({ commands }) => commands.length > 0)
}

function ofCommands(text: string, name: string): AgentScript {
  const commands: AgentCommand[] = []
  for (const [i, raw] of text.split('\n').entries()) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const command = readAgentCommand(line)
    if (typeof command === 'string') {
      const where = { file: name, line: i + 1 }
      throw new IommulatorError('ERR_OPERATION', `${name}, line ${i + 1}: ${command}`, where)
    }
    commands.push(command)
  }
  return { name: scriptName(name), commands }
}

/** A recording of QEMU's hypercalls begins its scripts so; a transcript has a mark there, and the agent no such command. */
const PSERIES_SCRIPT = /^script \S+[ \t\r]*$/
const MARK = /^ORACLE /m

function refusePseries(text: string, name: string): void {
  if (MARK.test(text)) return
  const line = text.split('\n').findIndex((l) => PSERIES_SCRIPT.test(l)) + 1
  if (line === 0) return
  const why = 'these are steps for QEMU: iommulator connect qemu-pseries'
  throw new IommulatorError('ERR_OPERATION', `${name}, line ${line}: ${why}`, { file: name, line })
}

/**
 * The scripts of a file: a transcript, whose answers are left out, or commands of the agent, one a line, with
 * comments behind `#`.
 *
 * @param name what a script is called that the file does not name
 * @throws IommulatorError ERR_OPERATION where a line is no command, where there is none, or where they are for another peer
 * @example
 * readAgentScripts('open 0\ngroup 0\n', 'two.txt') // [{ name: 'two.txt', commands: [...] }]
 */
export function readAgentScripts(text: string, name: string): AgentScript[] {
  refusePseries(text, name)
  const isTranscript = / => (?:-?\d|\?)/.test(text)
  const scripts = isTranscript ? ofTranscript(text, scriptName(name)) : [ofCommands(text, name)]
  const most = Math.max(0, ...scripts.map(({ commands }) => commands.length))
  if (most === 0) throw new IommulatorError('ERR_OPERATION', `${name} holds no command of the agent`)
  if (most > COMMANDS_MAX) {
    throw new IommulatorError('ERR_OPERATION', `${name}: a script has more than ${COMMANDS_MAX} commands`)
  }
  return scripts
}

/** The lines of a script, as `readAgentScripts` reads them. */
export const formatAgentScript = ({ commands }: Pick<AgentScript, 'commands'>): string =>
  commands.map((command) => `${formatAgentCommand(command)}\n`).join('')
