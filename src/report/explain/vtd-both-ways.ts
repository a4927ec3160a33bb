import { hex } from '../../bits/u64.ts'
import type { FaultGroup, FaultLog } from './fault-log.ts'

/** Reasons of a page that may not be read, or not be written. */
const NO_READ: readonly unknown[] = [0x06, 0x86]
const NO_WRITE: readonly unknown[] = [0x05, 0x85]

const isOf = (group: FaultGroup, access: string, reasons: readonly unknown[]): boolean =>
  group.words.kind === 'dma' &&
  group.words.fields['access'] === access &&
  reasons.includes(group.words.fields['reason'])

/** An address of which both groups tell. */
function commonAddress(a: FaultGroup, b: FaultGroup): bigint | undefined {
  if (a.addresses.isOneRun || b.addresses.isOneRun) return undefined
  for (const { first, last } of a.addresses.ranges) {
    for (const other of b.addresses.ranges) {
      if (first >= other.first && first <= other.last) return first
      if (other.first >= first && other.first <= last) return other.first
    }
  }
  return undefined
}

/** Where a device may neither read nor write, nothing is mapped: a fault alone does not say that. */
export function explainBothWays(log: FaultLog): void {
  const { groups } = log
  const reads = groups.filter((group) => isOf(group, 'read', NO_READ))
  const writes = groups.filter((group) => isOf(group, 'write', NO_WRITE))
  for (const read of reads) {
    for (const write of writes) {
      const { device } = read.words
      if (device !== write.words.device || read.words.fields['pasid'] !== write.words.fields['pasid'])
        continue
      const address = commonAddress(read, write)
      if (address === undefined) continue
      const text = (access: string) =>
        `a ${access} at ${hex(address)} was blocked too: most likely nothing is mapped there`
      log.explain(read, { line: write.firstLine, text: text('write') })
      log.explain(write, { line: read.firstLine, text: text('read') })
    }
  }
}
