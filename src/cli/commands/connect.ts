import { closeSync, openSync, writeSync } from 'node:fs'
import { IommulatorError } from '../../bits/errors.ts'
import { type AgentScript, readAgentScripts } from '../../machine/lockstep/agent-script.ts'
import { compareAll, isEqual } from '../../machine/lockstep/comparison.ts'
import { comparisonJson, comparisonText } from '../../machine/lockstep/comparison-report.ts'
import { type RandomGroup, randomScript } from '../../machine/lockstep/random-script.ts'
import { KernelPeer } from '../../peer/kernel-peer.ts'
import type { Command, Invocation } from '../command.ts'
import { EXIT } from '../exit.ts'
import type { Io } from '../io.ts'
import { jsonText } from '../json-text.ts'
import { PROFILE_NAMES } from '../profiles.ts'
import { connectPseries } from './connect-pseries.ts'
import { type ConnectRequest, PROGRESS_MS, scriptsOf } from './connect-request.ts'

const PEERS = ['kernel', 'qemu-pseries'] as const
/** What is run where nobody says what. */
const RANDOM_COMMANDS = 1000
const RANDOM_HYPERCALLS = 100_000
const DMA_EVERY = 16

function wholeNumber(options: Invocation['options'], name: string, most: number): number | undefined {
  const text = options[name] as string | undefined
  if (text === undefined) return undefined
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN
  if (value <= most) return value
  const flag = `--${name.replaceAll(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`
  throw new IommulatorError('ERR_NUMBER', `${flag} ${text}: a whole number from 0 to ${most}`)
}

function requestOf({ positionals: [peer = '', ...files], options }: Invocation): ConnectRequest {
  if (!(PEERS as readonly string[]).includes(peer)) {
    throw new IommulatorError(
      'ERR_NUMBER',
      `there is no peer called "${peer}"; there is: ${PEERS.join(', ')}`,
    )
  }
  const random = wholeNumber(options, 'random', 10_000_000)
  return {
    peer,
    files,
    random: random ?? (files.length > 0 ? 0 : peer === 'kernel' ? RANDOM_COMMANDS : RANDOM_HYPERCALLS),
    seed: wholeNumber(options, 'seed', 0xffff_ffff) ?? 1,
    dmaEvery: wholeNumber(options, 'dmaEvery', 1_000_000) ?? DMA_EVERY,
    most: Math.max(1, wholeNumber(options, 'most', 1000) ?? 1),
  }
}

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

async function compareWith(
  peer: KernelPeer,
  request: ConnectRequest,
  given: readonly AgentScript[],
  call: Invocation,
  io: Io,
) {
  const profile = call.options['profile'] as string | undefined
  const record = call.options['record'] as string | undefined
  const file = record === undefined ? undefined : openSync(record, 'w')
  const startedMs = io.elapsedMs()
  let shownMs = startedMs
  const all = function* (): Generator<AgentScript> {
    yield* given
    yield* randomScripts(request, groupsOf(peer.head))
  }
  try {
    if (file !== undefined) writeSync(file, peer.head)
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
      onTranscript: (text) => {
        if (file !== undefined) writeSync(file, text)
      },
    })
    const seconds = (io.elapsedMs() - startedMs) / 1000
    io.progress('')
    io.err(`${result.commands} commands in ${seconds.toFixed(1)} s\n`)
    return result
  } finally {
    if (file !== undefined) closeSync(file)
  }
}

export const connectCommand: Command = {
  name: 'connect',
  summary: 'give a real kernel, or QEMU, and the model the same commands',
  positionals: [
    {
      name: '<peer>',
      doc: "kernel: Linux on an emulated POWER9; qemu-pseries: QEMU's own hypercalls, without an operating system",
      complete: async () => PEERS,
    },
    {
      name: '[files...]',
      doc: 'scripts for the peer, or recordings whose commands are run again',
      complete: 'file',
    },
  ],
  options: [
    {
      flags: '--random <n>',
      doc: `run n random commands, or hypercalls (${RANDOM_COMMANDS} and ${RANDOM_HYPERCALLS} where no file is given)`,
    },
    { flags: '--seed <s>', doc: 'seed of the random commands (1)' },
    {
      flags: '--dma-every <n>',
      doc: `kernel: one random script in n opens a device, which takes seconds; 0 for none (${DMA_EVERY})`,
    },
    { flags: '--most <n>', doc: 'end after n different differences (1)' },
    {
      flags: '--profile <profile>',
      doc: "the model's errata (those of the peer)",
      offer: () => PROFILE_NAMES,
    },
    { flags: '--record <file>', doc: 'write what the peer answered' },
    { flags: '--json', doc: 'print one JSON object' },
  ],
  examples: [
    ['sudo sh peers/kernel/setup.sh', 'once: QEMU, the kernel, the agent'],
    ['iommulator connect kernel --random 5000 --seed 7', 'random commands'],
    ['iommulator connect qemu-pseries --seed 7', 'random hypercalls'],
    ['iommulator connect kernel script.txt', 'commands of a file, one a line'],
    ['iommulator connect kernel --record run.txt', 'keep the answers, for replay'],
  ],
  async run(call, io) {
    const request = requestOf(call)
    if (request.peer === 'qemu-pseries') return connectPseries(request, call, io)
    const given = await scriptsOf(request.files, io, readAgentScripts)
    io.err('starting Linux on an emulated POWER9 ...\n')
    const peer = await KernelPeer.start()
    try {
      const kernel = KERNEL.exec(peer.head)?.[1] ?? 'of an unknown release'
      io.err(`Linux ${kernel} runs after ${(io.elapsedMs() / 1000).toFixed(1)} s\n`)
      const result = await compareWith(peer, request, given, call, io)
      const made = {
        peer: `Linux ${kernel} on QEMU's powernv9`,
        ...(request.random > 0 && { seed: request.seed }),
      }
      io.out(
        call.options['json'] === true
          ? jsonText(comparisonJson(result, made))
          : comparisonText(result, made, io.paint),
      )
      return isEqual(result) ? EXIT.CLEAN : EXIT.FINDINGS
    } finally {
      await peer.stop()
    }
  },
}
