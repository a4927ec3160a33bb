import { Journal } from '../../src/bits/state.ts'
import { U64_MAX } from '../../src/bits/u64.ts'
import { Host } from '../../src/memory/host.ts'
import { ProcessTable } from '../../src/memory/process.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { Stage } from '../../src/trace/stage.ts'

export const UNLIMITED = { memlockBytes: U64_MAX, hasIpcLock: false }

/** A host with its own log and journal. */
export function makeHost(options: { pageShift?: number; frames?: number; journal?: boolean } = {}) {
  const { pageShift = 12, frames = 64 } = options
  const journal = new Journal()
  journal.on = options.journal ?? false
  const log = new RecordLog({ keepRecords: 1 << 15 })
  const stage = new Stage(log)
  const host = new Host({
    stage,
    journal,
    pageShift,
    ramBytes: frames * 2 ** pageShift,
    maxBytes: 2 ** 30,
  })
  return { host, journal, log, stage, processes: new ProcessTable(host) }
}

export type TestHost = ReturnType<typeof makeHost>

/** The events of some kinds, without their place. */
export const eventsOf = ({ log }: TestHost, ...kinds: string[]) =>
  [...log.records()].map((r) => r.event).filter((e) => kinds.includes(e.kind))
