import { hex } from '../../bits/u64.ts'
import { inOrder } from './explain-text.ts'
import type { Explanation } from './explainer.ts'
import type { Because, FaultGroup } from './fault-log.ts'

/** What JSON output begins with: programs look whether they know it. */
export const EXPLAIN_SCHEMA = 'iommulator-explain-1'

const timeOf = (us: number): number | null => (us < 0 ? null : us)

const lineJson = ({ line, text }: Because): object => ({ line: line === 0 ? null : line, text })

function groupJson(
  { family, words, because, about, times, firstLine, lastLine, firstUs, lastUs, addresses }: FaultGroup,
  isModelled: boolean,
): object {
  return {
    ...words.fields,
    family,
    isModelled,
    kind: words.kind,
    title: words.title,
    device: words.device ?? null,
    times,
    firstLine,
    lastLine,
    firstUs: timeOf(firstUs),
    lastUs: timeOf(lastUs),
    addresses: addresses.ranges.map(({ first, last }) => ({ first: hex(first), last: hex(last) })),
    isEveryAddress: !addresses.isOneRun,
    says: words.rows.map(([label, text]) => ({ label, text })),
    because: because.map(lineJson),
    about: about.map(lineJson),
    checks: words.checks,
  }
}

/** The same as one object for programs; 64-bit values are texts with 0x, times are microseconds. */
export function explainJson({ log, faults, families }: Explanation): object {
  const modelled = new Set(families.filter(({ isModelled }) => isModelled).map(({ id }) => id))
  return {
    schema: EXPLAIN_SCHEMA,
    log,
    faults: inOrder(faults.groups).map((group) => groupJson(group, modelled.has(group.family))),
    moreFaults: faults.overflowed,
    suppressed: faults.suppressed,
    notes: faults.notes,
    machine: faults.facts.map(({ family, line, text, fields }) => ({ family, line, text, ...fields })),
  }
}
