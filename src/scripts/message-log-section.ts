import { VHOST_FIELD_KINDS, VHOST_LOG, type VhostLineDoc } from '../reader/vhost-log-format.ts'
import { alignedGrid } from './markdown.ts'

const fieldText = ([name, kind]: [string, string]): string =>
  name.endsWith('?') ? `\`[${name.slice(0, -1)}]\` ${kind}` : `\`${name}\` ${kind}`

const lineRow = ({ name, from, fields, doc, example }: VhostLineDoc): string[] => [
  `\`${name}\``,
  from,
  Object.entries(fields).map(fieldText).join(', '),
  doc,
  example === undefined ? '' : `\`${example}\``,
]

/** The message log of a back end, for the page of log formats. */
export function messageLogSection(): string {
  const kinds = Object.entries(VHOST_FIELD_KINDS).map(([kind, doc]) => [kind, doc])
  return [
    `## Message log of a back end (\`${VHOST_LOG.id}\`)`,
    `Source: ${VHOST_LOG.source}.`,
    '',
    'One JSON object a line, in the order in which things happened. `t` is microseconds since the back end started. Messages have `dir` (`from-qemu` or `to-qemu`) and `msg`, those of QEMU `flags` as well; what the back end did has `event`. `size` is the length of a payload, but in IOTLB_MSG the bytes of the range; `fds` counts file descriptors. Other fields are not looked at. A name in brackets may be left out.',
    '',
    alignedGrid(['kind of field', 'written as'], kinds),
    '',
    alignedGrid(['`msg` or `event`', 'from', 'fields', 'meaning', 'example'], VHOST_LOG.lines.map(lineRow)),
    '',
  ].join('\n')
}
