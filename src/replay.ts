/** Replay of the logs of real machines: push bytes, get a result. */
export { createReplay } from './machine/replay/log-replay.ts'
export {
  LOG_SOURCES,
  type LogReplay,
  type LogSource,
  type ReplayOptions,
} from './machine/replay/log-source.ts'
export { replayJson, replayText } from './machine/replay/replay-report.ts'
export {
  type Assumption,
  type Divergence,
  isClean,
  type ReplayResult,
  type Unjudged,
} from './machine/replay/result.ts'
export { JoinedReplay } from './machine/replay/vhost/joined-replay.ts'
export { detectLogFormat } from './reader/detect.ts'
export type { DamagedLine, LogSummary } from './reader/log-summary.ts'
