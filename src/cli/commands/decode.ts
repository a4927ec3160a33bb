import type { CallDecl } from '../../bits/call.ts'
import { codeNumber } from '../../bits/codes.ts'
import { hex } from '../../bits/u64.ts'
import { type Decoded, decodeName, decodeNames } from '../../machine/decode.ts'
import { CALLS, WORDS } from '../../machine/registry.ts'
import { table, wrapped } from '../../report/layout.ts'
import type { Command } from '../command.ts'
import { EXIT } from '../exit.ts'
import type { Io } from '../io.ts'
import { jsonText } from '../json-text.ts'

function callLines(call: CallDecl, io: Io): string {
  const nr = call.nr === undefined ? '' : `  ${call.verb} ${hex(call.nr)}`
  const args = Object.entries(call.args).map(([name, a]) => [`  ${name}`, a.type, a.doc])
  const answers = call.answers.map((a) => [
    `  ${a.code}`,
    String(codeNumber(call.family, a.code)),
    a.rule,
    a.when,
  ])
  return [
    `${io.paint.bold(call.name)}${nr}  answered by ${call.layer}`,
    ...wrapped('  ', call.doc),
    ...(args.length === 0 ? [] : ['arguments', ...table(args)]),
    'answers, in the order of the checks',
    ...table(answers),
    ...wrapped('source: ', call.source),
  ].join('\n')
}

function textOf(decoded: Decoded, io: Io): string {
  if (decoded.kind === 'call') return `${decoded.calls.map((c) => callLines(c, io)).join('\n\n')}\n`
  if (decoded.kind === 'code') return `${decoded.family} ${decoded.name} = ${decoded.number}\n`
  if (decoded.kind === 'fault') {
    const { name, code, condition, isQualified, kernelText, doc } = decoded
    const fpd = isQualified ? 'not recorded where an entry met has FPD' : 'recorded whatever FPD says'
    const rows = [
      ['  condition', condition],
      ['  meaning', doc],
      ['  Linux', kernelText],
      ['  FPD', fpd],
    ]
    return [`${io.paint.bold(name)} ${hex(code)}, a fault reason of VT-d`, ...table(rows), ''].join('\n')
  }
  const rows = decoded.fields.map((f) => [`  ${f.name}`, f.bits, f.access, hex(f.value), f.doc])
  const head = `${decoded.word} ${hex(decoded.raw)}  `
  const [title = '', ...more] = wrapped(head, `${decoded.widthBits} bits; ${decoded.source}`)
  const rest = decoded.rest === 0n ? [] : [`  bits that belong to no field: ${hex(decoded.rest)}`]
  return [
    title.replace(decoded.word, io.paint.bold(decoded.word)),
    ...more,
    ...table(rows),
    ...rest,
    '',
  ].join('\n')
}

const jsonOf = (d: Decoded): object => ({ schema: 'iommulator/decode/1', ...d })

export const decodeCommand: Command = {
  name: 'decode',
  summary: 'show what a word, a call or a code means, in both directions',
  positionals: [
    {
      name: '<name>',
      doc: 'a word (TCE, LIOBN, ...), hcall, rtas, ioctl, hret, rtas_status, errno, vtd_fault, or the name of a call',
      complete: async () => decodeNames({ words: WORDS, calls: CALLS }),
    },
    {
      name: '[values...]',
      doc: 'a number, or FIELD=VALUE parts to build the word from',
      complete: async () => [],
    },
  ],
  options: [{ flags: '--json', doc: 'print one JSON object' }],
  examples: [
    ['iommulator decode tce 0x1234003', 'permissions and page of a TCE'],
    ['iommulator decode tce RPN=0x1234 READ WRITE', 'the other way round'],
    ['iommulator decode hcall 0x138', 'arguments and answers of a hypercall'],
    ['iommulator decode H_PUT_TCE', 'the same by name'],
    ['iommulator decode ioctl 0x3b71', 'an ioctl, in the numbers of powerpc or of others'],
    ['iommulator decode hret -4', 'a return code'],
    ['iommulator decode errno 22', 'an error number'],
    ['iommulator decode vtd_fault 0x59', 'why a VT-d unit blocks a request'],
  ],
  async run({ positionals, options }, io) {
    const [name = '', ...values] = positionals
    const decoded = decodeName({ words: WORDS, calls: CALLS }, name, values)
    io.out(options['json'] === true ? jsonText(jsonOf(decoded)) : textOf(decoded, io))
    return EXIT.CLEAN
  },
}
