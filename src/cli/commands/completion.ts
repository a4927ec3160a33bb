import { IommulatorError } from '../../bits/errors.ts'
import type { Command } from '../command.ts'
import { EXIT } from '../exit.ts'
import { jsonText } from '../json-text.ts'

const SHELLS = ['bash', 'zsh', 'fish'] as const
type Shell = (typeof SHELLS)[number]

/** What completion needs to know of a command: taken from the command table, never written twice. */
interface Offer {
  readonly name: string
  readonly summary: string
  readonly flags: readonly string[]
  readonly words: readonly string[]
  readonly files: boolean
}

async function offers(): Promise<Offer[]> {
  const { COMMANDS } = await import('./index.ts')
  return Promise.all(
    COMMANDS.map(async (entry) => {
      const command = await entry.load()
      const flags = command.options.flatMap((o) => o.flags.match(/--[a-z-]+/g) ?? [])
      const choices = command.options.flatMap((o) => [...(o.choices ?? []), ...(o.offer?.() ?? [])])
      const completes = command.positionals.map((p) => p.complete)
      const words = (await Promise.all(completes.map((c) => (c === 'file' ? [] : c())))).flat()
      return {
        name: entry.name,
        summary: entry.summary,
        flags: [...flags, '--help'],
        words: [...new Set([...words, ...choices])],
        files: completes.includes('file'),
      }
    }),
  )
}

function bash(list: readonly Offer[]): string {
  const names = [...list.map((o) => o.name), 'help'].join(' ')
  const cases = list.map((o) => {
    const words = [...o.flags, ...o.words].join(' ')
    const files = o.files ? ' $(compgen -f -- "$cur")' : ''
    return `    ${o.name}) COMPREPLY=($(compgen -W "${words}" -- "$cur")${files}) ;;`
  })
  return `# iommulator: completion for bash. Use: source <(iommulator completion bash)
_iommulator() {
  local cur="\${COMP_WORDS[COMP_CWORD]}"
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${names} --help --version" -- "$cur"))
    return
  fi
  case "\${COMP_WORDS[1]}" in
${cases.join('\n')}
    help) COMPREPLY=($(compgen -W "${names}" -- "$cur")) ;;
  esac
}
complete -F _iommulator iommulator
`
}

function zsh(list: readonly Offer[]): string {
  const names = list.map((o) => `    '${o.name}:${o.summary}'`).join('\n')
  const cases = list.map((o) => {
    const words = [...o.flags, ...o.words].join(' ')
    return `    ${o.name}) compadd -- ${words}${o.files ? '; _files' : ''} ;;`
  })
  return `#compdef iommulator
# iommulator: completion for zsh. Use: source <(iommulator completion zsh)
_iommulator() {
  local -a commands
  commands=(
${names}
    'help:everything about one command'
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case "\${words[2]}" in
${cases.join('\n')}
    help) _describe command commands ;;
  esac
}
compdef _iommulator iommulator
`
}

function fish(list: readonly Offer[]): string {
  const none = `not __fish_seen_subcommand_from ${list.map((o) => o.name).join(' ')}`
  const lines = list.flatMap((o) => [
    `complete -c iommulator -n '${none}' -a ${o.name} -d '${o.summary}'`,
    `complete -c iommulator -n '__fish_seen_subcommand_from ${o.name}' ${o.files ? '-F' : '-f'} -a '${[...o.flags, ...o.words].join(' ')}'`,
  ])
  return `# iommulator: completion for fish. Use: iommulator completion fish | source
complete -c iommulator -f
${lines.join('\n')}
`
}

const SCRIPTS: Readonly<Record<Shell, (list: readonly Offer[]) => string>> = { bash, zsh, fish }

export const completionCommand: Command = {
  name: 'completion',
  summary: 'print the completion script of a shell',
  positionals: [{ name: '<shell>', doc: SHELLS.join(', '), complete: async () => SHELLS }],
  options: [{ flags: '--json', doc: 'print what is offered as one JSON object' }],
  examples: [
    ['source <(iommulator completion bash)', 'completion in this bash'],
    ['iommulator completion fish | source', 'completion in this fish'],
  ],
  async run({ positionals: [shell = ''], options }, io) {
    const script = SCRIPTS[shell as Shell]
    if (script === undefined) {
      throw new IommulatorError('ERR_NUMBER', `no completion for "${shell}"; known: ${SHELLS.join(', ')}`)
    }
    const list = await offers()
    io.out(
      options['json'] === true
        ? jsonText({ schema: 'iommulator/completion/1', commands: list })
        : script(list),
    )
    return EXIT.CLEAN
  },
}
