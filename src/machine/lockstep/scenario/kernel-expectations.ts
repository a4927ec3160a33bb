import type { Value } from '../../../bits/answer.ts'
import { bytesOf, bytesText, latin1Bytes } from '../../../bits/byte-text.ts'
import type { CallDecl } from '../../../bits/call.ts'
import { codeName } from '../../../bits/codes.ts'
import type { AgentCommandName } from '../../../reader/kernel-answers-format.ts'
import type { AgentAnswer, AgentCommand } from '../../../reader/kernel-answers-line.ts'
import { KernelAnswersReader } from '../../../reader/kernel-answers-reader.ts'
import { processesOf } from '../agent-script.ts'
import { declarationOf } from './declaration.ts'
import { judgeExpectation, type Shown } from './judge-expectation.ts'
import type { AskedStep, KernelPlan } from './kernel-plan.ts'
import type { JudgedExpectation } from './plan.ts'

interface Answered {
  readonly command: AgentCommand
  readonly answer: AgentAnswer | undefined
}

/** What each process of a transcript answered, command by command. */
function answersOf(transcript: string): Answered[][] {
  const processes: Answered[][] = []
  const reader = new KernelAnswersReader({
    take(entry) {
      if (entry.kind === 'mark' && entry.mark === 'script') processes.push([])
      else if (entry.kind === 'command') processes.at(-1)?.push(entry)
    },
  })
  reader.push(latin1Bytes(transcript))
  reader.end()
  return processes
}

/** Bytes as answers of the model spell them. */
const textOf = (digits: string): string => bytesText(bytesOf(`hex:${digits}`))

/** The code that an answer of the agent stands for. */
function codeOf(decl: CallDecl, { value, errno, fields }: AgentAnswer): string | undefined {
  // A device does not tell the processor how its access went.
  if (decl.family === 'dma') return undefined
  if (decl.family === 'hcall') {
    // The kernel left it to user space.
    return Object.hasOwn(fields, 'nr') ? 'H_TOO_HARD' : codeName('hcall', Number(value))
  }
  if (value < 0n) return errno
  const isCount = decl.outputs?.['pinned'] !== undefined
  return (isCount ? undefined : codeName('errno', Number(value))) ?? 'OK'
}

function shownBy(decl: CallDecl, asked: AskedStep, answer: AgentAnswer): Shown {
  const outputs: Record<string, Value> = {}
  for (const [output, field] of Object.entries(asked.outputs)) {
    const value = answer.fields[field]
    if (value !== undefined) outputs[output] = field === 'data' ? textOf(String(value)) : (value as Value)
  }
  if (decl.outputs?.['pinned'] !== undefined && answer.value > 0n) outputs['pinned'] = answer.value
  return { code: codeOf(decl, answer), outputs }
}

const PEEK: AgentCommandName = 'peek'

/** The buffers of devices as the processes behind a script showed them, by the name of the process. */
function buffersOf(plan: KernelPlan, processes: readonly Answered[][]): Map<string, string> {
  const all = processesOf(plan.script)
  const { before = [], after = [] } = plan.script
  return new Map(
    after.map(({ name }, i) => {
      const shown = processes[before.length + 1 + i] ?? []
      const digits = shown
        .filter(({ command }) => command.name === PEEK)
        .map(({ answer }) => answer?.fields['data'])
      return [name, all.length === processes.length ? digits.join('') : '']
    }),
  )
}

/** Holds the expectations of a scenario against what a peer answered to its script. */
export function judgeKernelExpectations(plan: KernelPlan, transcript: string): JudgedExpectation[] {
  const processes = answersOf(transcript)
  const main = processes[plan.script.before?.length ?? 0] ?? []
  const buffers = buffersOf(plan, processes)
  const { steps } = plan.scenario
  return plan.asked.flatMap((asked) => {
    const { operation, expect } = steps[asked.step - 1] as (typeof steps)[number]
    const decl = declarationOf('powernv', operation.verb, operation.call)
    if (expect === undefined || decl === undefined || asked.at === undefined) return []
    const answer = main[asked.at]?.answer
    if (answer === undefined) return []
    let shown = shownBy(decl, asked, answer)
    if (asked.read !== undefined) {
      const { process, at, bytes } = asked.read
      const digits = (buffers.get(process) ?? '').slice(at * 2, (at + bytes) * 2)
      if (digits.length === bytes * 2) {
        shown = { ...shown, outputs: { ...shown.outputs, data: textOf(digits) } }
      }
    }
    return judgeExpectation(asked.step, expect, decl, shown, plan.answers[asked.step - 1]) ?? []
  })
}
