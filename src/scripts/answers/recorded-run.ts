import { PSERIES_PROFILE, PseriesModel } from '../../machine/lockstep/pseries-model.ts'
import { readPseriesScripts } from '../../machine/lockstep/pseries-step.ts'
import { createReplay } from '../../machine/replay/log-replay.ts'
import type { LogSource } from '../../machine/replay/log-source.ts'
import { PROC_EXIT, PROC_FORK } from '../../memory/proc-calls.ts'
import type { RecordLog } from '../../trace/record-log.ts'
import { AnswerTaker, type SeenCall } from './answer-taker.ts'
import { PSERIES_STEPS, type Recording } from './recordings.ts'

/** A call of the model behind a line, and whether the line is what the model answers. */
export interface JudgedCall extends SeenCall {
  readonly isSame: boolean
}

/** A recording beside the model. Lines are those of the recording. */
export interface RecordedRun {
  readonly recording: Recording
  readonly profile: string
  /** Lines whose answer is the model's, or is another. */
  readonly same: readonly number[]
  readonly different: readonly number[]
  /** Answers that rest on what the log does not show, or the model does not have. */
  readonly unjudged: number
  readonly calls: readonly JudgedCall[]
}

/** What a replay does itself where a transcript goes on to the next program. */
const OWN_CALLS: ReadonlySet<string> = new Set([PROC_FORK.name, PROC_EXIT.name])

/** The last call of each name and layer that a line led to: a command that tries again is answered by the last one. */
function lastOfEach(calls: readonly SeenCall[]): SeenCall[] {
  const last = new Map<string, SeenCall>()
  for (const seen of calls) last.set(`${seen.line} ${seen.call} ${seen.layer}`, seen)
  return [...last.values()]
}

function judged(calls: readonly SeenCall[], verdicts: ReadonlyMap<number, boolean>): JudgedCall[] {
  return lastOfEach(calls).flatMap((seen) => {
    if (OWN_CALLS.has(seen.call)) return []
    const isSame = verdicts.get(seen.line)
    return isSame === undefined ? [] : [{ ...seen, isSame }]
  })
}

const linesOf = (verdicts: ReadonlyMap<number, boolean>, wanted: boolean): number[] =>
  [...verdicts].flatMap(([line, isSame]) => (isSame === wanted ? [line] : []))

function runLog(recording: Recording, from: LogSource, profile: string | undefined): RecordedRun {
  const taker = new AnswerTaker()
  const verdicts = new Map<number, boolean>()
  const replay = createReplay({
    from,
    source: recording.name,
    bare: true,
    watch: (log: RecordLog) => log.subscribe(taker),
    onAnswer: (line, isSame) => verdicts.set(line, isSame),
    ...(profile !== undefined && { profile }),
  })
  replay.push(Buffer.from(recording.text, 'latin1'))
  const { answers, profile: used } = replay.end()
  return {
    recording,
    profile: used,
    same: linesOf(verdicts, true),
    different: linesOf(verdicts, false),
    unjudged: answers.unjudged,
    calls: judged(taker.calls, verdicts),
  }
}

function runSteps(recording: Recording, profile: string = PSERIES_PROFILE): RecordedRun {
  const verdicts = new Map<number, boolean>()
  const calls: SeenCall[] = []
  for (const { name, entries } of readPseriesScripts(recording.text, recording.name)) {
    const taker = new AnswerTaker()
    const model = new PseriesModel(profile, (log) => log.subscribe(taker))
    const ours = model.answers({ name, steps: entries.map(({ step }) => step) })
    for (const [i, { line, answer }] of entries.entries()) {
      if (answer !== undefined) verdicts.set(line, answer === ours[i])
    }
    for (const seen of taker.calls) calls.push({ ...seen, line: entries[seen.line - 1]?.line ?? 0 })
  }
  return {
    recording,
    profile,
    same: linesOf(verdicts, true),
    different: linesOf(verdicts, false),
    unjudged: 0,
    calls: judged(calls, verdicts),
  }
}

/** Runs a recording through the model. Left out, the profile is that of what was recorded. */
export const runRecording = (recording: Recording, profile?: string): RecordedRun =>
  recording.kind === PSERIES_STEPS ? runSteps(recording, profile) : runLog(recording, recording.kind, profile)
