import type { TraceRecord } from './event.ts'

/** One record as a line of NDJSON: `seq`, `tick`, `cause`, `kind`, then its fields; 64-bit values as `0x` strings. */
export function toJsonLine({ seq, tick, cause, event }: TraceRecord): string {
  return JSON.stringify({ seq, tick, cause, ...event }, (_key, v: unknown) =>
    typeof v === 'bigint' ? `0x${v.toString(16)}` : v,
  )
}
