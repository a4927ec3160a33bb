/** Replay of the logs of real machines: push bytes, get a result. */
export { createReplay, LOG_SOURCES, type LogReplay, type ReplayOptions } from './machine/replay/log-replay.ts'
export { replayJson, replayText } from './machine/replay/replay-report.ts'
export { type Assumption, type Divergence, isClean, type ReplayResult } from './machine/replay/result.ts'
export { detectLogFormat } from './reader/detect.ts'
export type { DamagedLine, LogSummary } from './reader/log-summary.ts'
