import type { ArgDecl, CallDecl } from '../bits/call.ts'
import { CODE_FAMILIES, codeNumber } from '../bits/codes.ts'
import { ERROR_CODES } from '../bits/errors.ts'
import { hex } from '../bits/u64.ts'
import type { Field, Word } from '../bits/word.ts'
import { needsOf } from '../check/rule.ts'
import { RULES } from '../check/rules.ts'
import { COMMANDS } from '../cli/commands/index.ts'
import { BLK_ANSWERS, BLK_CONFIG_FIELDS } from '../hw/virtio/blk-format.ts'
import { DEVICE_FAULTS } from '../hw/virtio/device-faults.ts'
import { RING_ANSWERS } from '../hw/virtio/ring-rules.ts'
import { FAULT_REASONS } from '../hw/vtd/fault-reasons.ts'
import { CALLS, LOG_FORMATS, WORDS } from '../machine/registry.ts'
import type { AgentArg } from '../reader/agent-command.ts'
import { AGENT_COMMANDS, AGENT_MARKS, KERNEL_ANSWERS, MARK_WORD } from '../reader/kernel-answers-format.ts'
import type { LogFormat } from '../reader/log-format.ts'
import { EVENTS } from '../trace/event.ts'
import { realAnswerPages } from './answers/pages.ts'
import { readRecordings } from './answers/recordings.ts'
import { callsByVerb } from './call-order.ts'
import { erratumPages } from './erratum-pages.ts'
import { grid } from './markdown.ts'
import { messageLogSection } from './message-log-section.ts'
import { vhostCostsPage } from './vhost-costs.ts'

const HEAD = '<!-- Made by `npm run docs` from the declarations; do not edit. -->\n'

const wordSection = (w: Word): string => {
  const fields = Object.entries<Field>(w.fields)
    .sort(([, a], [, b]) => b.hi - a.hi)
    .map(([name, f]) => [f.hi === f.lo ? `${f.lo}` : `${f.hi}:${f.lo}`, `\`${name}\``, f.access, f.doc])
  return `## ${w.name}\n${w.widthBits} bits. Source: ${w.source}.\n\n${grid(['bits', 'field', 'access', 'meaning'], fields)}\n`
}

const argRows = (args: Readonly<Record<string, ArgDecl>>): string[][] =>
  Object.entries<ArgDecl>(args).map(([name, a]) => [
    `\`${name}\``,
    a.choices === undefined ? a.type : a.choices.join(', '),
    a.optional === true || a.initial !== undefined
      ? a.initial === undefined
        ? 'no'
        : `no (${a.initial})`
      : 'yes',
    a.doc,
  ])

function callSection(call: CallDecl): string {
  const answers = call.answers.map((a) => [
    `\`${a.rule}\``,
    a.code,
    String(codeNumber(call.family, a.code)),
    a.when,
  ])
  const args = argRows(call.args)
  const outputs = Object.entries<ArgDecl>(call.outputs ?? {}).map(([name, o]) => [
    `\`${name}\``,
    o.type,
    o.doc,
  ])
  const nr = call.nr === undefined ? '' : `, number ${hex(call.nr)}`
  return [
    `## ${call.name}`,
    `Verb \`${call.verb}\`${nr}; answered by ${call.layer}. ${call.doc}`,
    '',
    ...(args.length === 0 ? [] : [grid(['argument', 'type', 'needed', 'meaning'], args), '']),
    ...(outputs.length === 0 ? [] : [grid(['output', 'type', 'meaning'], outputs), '']),
    'Answers, in the order of the checks:',
    '',
    grid(['rule', 'code', 'number', 'when'], answers),
    '',
    `Source: ${call.source}.`,
    '',
  ].join('\n')
}

const logSection = (format: LogFormat): string => {
  const rows = format.events.map((e) => [`\`${e.name}\``, `\`${e.template}\``, e.doc])
  const colon = format.events.some((e) => e.head.endsWith(': '))
  const lead = colon
    ? 'Before each event stand the task, the CPU and the time; a colon ends its name.\n\n'
    : ''
  return `## ${format.title}\nSource: ${format.source}.\n\n${lead}${grid(['event', 'text', 'meaning'], rows)}\n`
}

const agentArgText = ([name, { kind, optional, initial, doc }]: [string, AgentArg]): string => {
  const left =
    initial === undefined ? '' : `; ${kind === 'hex' ? hex(initial) : initial} where it is left out`
  return `\`${optional === true ? `[${name}]` : name}\` ${kind}: ${doc.replace(/\.$/, '')}${left}`
}

const agentArgsText = (args: Readonly<Record<string, AgentArg>>): string =>
  Object.entries(args).map(agentArgText).join('<br>')

function transcriptSection(): string {
  const rows = Object.entries(AGENT_COMMANDS).map(([name, { args, done, doc, example }]) => [
    `\`${name}\``,
    agentArgsText(args),
    done.map(({ template }) => (template === '' ? 'nothing' : `\`${template}\``)).join('<br>') ||
      'no answer at all',
    doc,
    `\`${example}\``,
  ])
  const marks = Object.values(AGENT_MARKS).map(({ shape, doc }) => [
    `\`${MARK_WORD} ${shape.template}\``,
    doc,
  ])
  return [
    `## Transcript of kernel answers (\`${KERNEL_ANSWERS.id}\`)`,
    `Source: ${KERNEL_ANSWERS.source}.`,
    '',
    'Lines that begin with `#` are comments, `[ SECONDS] TEXT` is the log of the kernel, and other lines are what programs printed between them.',
    '',
    grid(['command', 'arguments', 'fields behind the value', 'meaning', 'example'], rows),
    '',
    grid(['mark', 'meaning'], marks),
    '',
  ].join('\n')
}

async function commandSections(): Promise<string> {
  const sections = await Promise.all(
    COMMANDS.map(async (entry) => {
      const c = await entry.load()
      const args = c.positionals.map((p) => [`\`${p.name}\``, p.doc])
      const options = c.options.map((o) => [
        `\`${o.flags}\``,
        o.doc + (o.choices ? ` (${o.choices.join(', ')})` : ''),
      ])
      return [
        `## iommulator ${[c.name, ...c.positionals.map((p) => p.name)].join(' ')}`,
        `${c.summary}.`,
        '',
        grid(['', ''], [...args, ...options]),
        '',
        '```',
        ...c.examples.map(([line, what]) => `${line}   # ${what}`),
        '```',
        '',
      ].join('\n')
    }),
  )
  return sections.join('\n')
}

/** What devices answer to rings, chains and requests. */
function virtioPage(): string {
  const faults = (list: readonly { rule: string; errno: number; when: string }[]) =>
    grid(
      ['rule', 'vhost inside Linux', 'when'],
      list.map(({ rule, errno, when }) => [`\`${rule}\``, errno === 0 ? '' : String(errno), when]),
    )
  const requests = BLK_ANSWERS.map(({ rule, status, when }) => [`\`${rule}\``, String(status), when])
  const config = BLK_CONFIG_FIELDS.map((f) => [String(f.offset), String(f.bytes), `\`${f.name}\``, f.doc])
  return [
    `${HEAD}# virtio: rings, chains, requests\n`,
    '## A look at a split ring\nSource: virtio 1.2, Split Virtqueues; Linux v6.1 drivers/vhost/vhost.c. A missing translation is asked for at the place where it is met. A fault stops the queue.\n',
    faults(RING_ANSWERS),
    '\n## Chains that no device answers\nThey stop the queue, too.\n',
    faults(DEVICE_FAULTS),
    '\n## Block requests\nSource: virtio 1.2, Block Device; QEMU 7.2 hw/block/virtio-blk.c. In the order of the checks; the status is the last byte that the device writes.\n',
    grid(['rule', 'status', 'when'], requests),
    '\n## Configuration space of a block device\n60 bytes, little endian.\n',
    grid(['offset', 'bytes', 'field', 'meaning'], config),
    '',
  ].join('\n')
}

function vtdFaultsPage(): string {
  const rows = Object.entries(FAULT_REASONS).map(([name, reason]) => [
    hex(reason.code),
    `\`${name}\``,
    reason.condition,
    reason.isQualified ? 'yes' : 'no',
    reason.kernelText,
    reason.doc,
  ])
  return [
    `${HEAD}# Fault reasons of VT-d`,
    '',
    'Why a unit blocks a request (FR of its fault recording registers). FPD: an entry that was met has FPD set, and the',
    'fault is not recorded.',
    '',
    grid(['reason', 'name', 'condition', 'silenced by FPD', 'Linux 6.1 prints', 'meaning'], rows),
    '',
  ].join('\n')
}

/** The generated pages below docs/reference, by file name. */
export async function referencePages(): Promise<Readonly<Record<string, string>>> {
  const events = Object.entries(EVENTS).map(([kind, e]) => [
    `\`${kind}\``,
    Object.entries(e.fields)
      .map(([name, type]) => `\`${name}\`: ${type}`)
      .join(', '),
    e.doc,
  ])
  const codes = Object.entries(CODE_FAMILIES).map(
    ([family, list]) =>
      `## ${family}\n${grid(
        ['code', 'number'],
        Object.entries(list).map(([c, n]) => [c, String(n)]),
      )}\n`,
  )
  const rules = RULES.map(
    (r) =>
      `## ${r.id}\n${r.title}. **Promise:** ${r.promise}\n\n**What to do:** ${r.advice}\n\nNeeds records of: ${
        needsOf(r)
          .map((kinds) => kinds.map((n) => `\`${n}\``).join(' or '))
          .join(', ') || 'any kind'
      }. Broken by \`${r.broken}\`, kept by \`${r.kept}\`.\n`,
  )
  const errors = Object.entries(ERROR_CODES).map(([code, doc]) => [`\`${code}\``, doc])
  return {
    'words.md': `${HEAD}# Words: registers, entries, numbers\n\n${WORDS.map(wordSection).join('\n')}`,
    'calls.md': `${HEAD}# Calls and their answers\n\n${callsByVerb(CALLS).map(callSection).join('\n')}`,
    'codes.md': `${HEAD}# Return codes\n\n${codes.join('\n')}`,
    'events.md': `${HEAD}# Records: the kinds of events\n\n${grid(['kind', 'fields', 'meaning'], events)}\n`,
    ...(await erratumPages()),
    'rules.md': `${HEAD}# Rules\n\n${rules.join('\n')}`,
    'errors.md': `${HEAD}# Error codes of the library\n\n${grid(['code', 'meaning'], errors)}\n`,
    'log-formats.md': `${HEAD}# Log formats\n\n${[...LOG_FORMATS.map(logSection), transcriptSection(), messageLogSection()].join('\n')}`,
    'virtio.md': virtioPage(),
    'vtd-faults.md': vtdFaultsPage(),
    'vhost-costs.md': vhostCostsPage(),
    'commands.md': `${HEAD}# Commands\n\n${await commandSections()}`,
    ...realAnswerPages(await readRecordings('recordings')),
  }
}
