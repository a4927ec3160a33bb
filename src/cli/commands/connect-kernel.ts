import { type AgentScript, readAgentScripts } from '../../machine/lockstep/agent-script.ts'
import type { SmallestDifference } from '../../machine/lockstep/compare.ts'
import { compareAll, isEqual } from '../../machine/lockstep/comparison.ts'
import {
  comparisonJson,
  comparisonText,
  differenceJson,
  differenceLines,
} from '../../machine/lockstep/comparison-report.ts'
import { hostOf } from '../../machine/lockstep/model-peer.ts'
import { type RandomGroup, randomScript } from '../../machine/lockstep/random-script.ts'
import { compareKernelScenarios } from '../../machine/lockstep/scenario/kernel-comparison.ts'
import { type KernelPlan, planKernel } from '../../machine/lockstep/scenario/kernel-plan.ts'
import type { FiledPlan } from '../../machine/lockstep/scenario/result.ts'
import { KERNEL_HEAD, KernelPeer } from '../../peer/kernel-peer.ts'
import type { Invocation } from '../command.ts'
import { EXIT } from '../exit.ts'
import type { Io } from '../io.ts'
import { jsonText } from '../json-text.ts'
import type { OutputFile } from '../output-file.ts'
import { type ConnectRequest, filesOf, PROGRESS_MS, recordOf } from './connect-request.ts'
import { linesOf, planned, reportScenarios } from './connect-scenarios.ts'

/** Random scripts until there are enough commands. */
function* randomScripts(
  { random, seed, dmaEvery }: ConnectRequest,
  groups: readonly RandomGroup[],
): Generator<AgentScript> {
  let commands = 0
  for (let number = 0; commands < random; number++) {
    const script = randomScript({ seed, groups, dmaEvery }, number)
    commands += script.commands.length
    yield script
  }
}

const EDU = /^ORACLE pci (\S+) 0x1234:0x11e8 group=(\d+)$/gm
const KERNEL = /^ORACLE kernel (\S+) /m

/** Groups with a device that can do DMA, as the peer names them. */
const groupsOf = (head: string): RandomGroup[] =>
  [...head.matchAll(EDU)].map(([, device = '', group = '']) => ({ group: Number(group), device }))

/** Errata of the model beside the peer. */
const profileOf = (head: string, { options }: Invocation): string =>
  hostOf(head, options['profile'] as string | undefined).profile

async function started(io: Io): Promise<KernelPeer> {
  io.err('starting Linux on an emulated POWER9 ...\n')
  const fromMs = io.elapsedMs()
  const peer = await KernelPeer.start()
  io.err(`Linux ${kernelOf(peer)} runs after ${((io.elapsedMs() - fromMs) / 1000).toFixed(1)} s\n`)
  return peer
}

const kernelOf = ({ head }: KernelPeer): string => KERNEL.exec(head)?.[1] ?? 'of an unknown release'

/** The running machine: there is one at a time. */
interface Running {
  peer: KernelPeer
}

/** Runs scenarios, one after the other. */
async function runScenarios(
  running: Running,
  plans: readonly FiledPlan<KernelPlan>[],
  { most }: ConnectRequest,
  { options }: Invocation,
  record: OutputFile | undefined,
  io: Io,
) {
  const profile = options['profile'] as string | undefined
  try {
    record?.write(running.peer.head)
    return await compareKernelScenarios(running.peer, plans, {
      differencesMax: most,
      ...(profile !== undefined && { profile }),
      renew: async () => {
        await running.peer.stop()
        running.peer = await started(io)
        return running.peer
      },
      onScenario: (name) => io.progress(name),
      onDifference: (kind, name) => io.err(`${name} differs: ${kind}; making its script smaller\n`),
      onTranscript: (text) => record?.write(text),
    })
  } finally {
    io.progress('')
  }
}

async function compareWith(
  peer: KernelPeer,
  request: ConnectRequest,
  given: readonly AgentScript[],
  { options }: Invocation,
  record: OutputFile | undefined,
  io: Io,
) {
  const profile = options['profile'] as string | undefined
  const startedMs = io.elapsedMs()
  let shownMs = startedMs
  const all = function* (): Generator<AgentScript> {
    yield* given
    yield* randomScripts(request, groupsOf(peer.head))
  }
  record?.write(peer.head)
  const result = await compareAll(peer, all(), {
    differencesMax: request.most,
    ...(profile !== undefined && { profile }),
    onProgress({ commands, equal }) {
      if (io.elapsedMs() < shownMs) return
      shownMs = io.elapsedMs() + PROGRESS_MS
      const rate = commands / Math.max(0.001, (io.elapsedMs() - startedMs) / 1000)
      io.progress(`${commands} commands, ${equal} equal answers, ${rate.toFixed(0)} commands/s`)
    },
    onDifference: (kind, script) => io.err(`${script} differs: ${kind}; making it smaller\n`),
    onTranscript: (text) => record?.write(text),
  })
  const seconds = (io.elapsedMs() - startedMs) / 1000
  io.progress('')
  io.err(`${result.commands} commands in ${seconds.toFixed(1)} s\n`)
  return result
}

/** `connect kernel`: a real kernel beside the model. */
export async function connectKernel(request: ConnectRequest, call: Invocation, io: Io): Promise<number> {
  const { scripts, scenarios } = await filesOf(request, io, readAgentScripts)
  const plan = (head: string) =>
    planned(request, 'powernv', scenarios, (s, name) => planKernel(s, name, head, groupsOf(head)))
  // What the peer cannot do, and what is wrong with the call, is said before it starts.
  plan(KERNEL_HEAD)
  profileOf(KERNEL_HEAD, call)
  const record = recordOf(call)
  let running: Running | undefined
  try {
    running = { peer: await started(io) }
    const peer = `Linux ${kernelOf(running.peer)} on QEMU's powernv9`
    if (scenarios.length > 0) {
      const { head } = running.peer
      const results = await runScenarios(running, plan(head), request, call, record, io)
      const made = {
        peer,
        profile: profileOf(head, call),
        planned: scenarios.length,
        lineOf: linesOf(scenarios),
        differenceLines: (d: SmallestDifference) => differenceLines(d, io.paint),
        differenceJson,
      }
      return reportScenarios(results, made, call, io)
    }
    const result = await compareWith(running.peer, request, scripts, call, record, io)
    const made = { peer, ...(request.random > 0 && { seed: request.seed }) }
    io.out(
      call.options['json'] === true
        ? jsonText(comparisonJson(result, made))
        : comparisonText(result, made, io.paint),
    )
    return isEqual(result) ? EXIT.CLEAN : EXIT.FINDINGS
  } finally {
    await running?.peer.stop()
    record?.close()
  }
}
