import { closeSync, openSync, writeSync } from 'node:fs'
import { basename } from 'node:path'
import { IommulatorError } from '../../bits/errors.ts'
import { type AgentScript, readAgentScripts } from '../../machine/lockstep/agent-script.ts'
import { compareAll, isEqual } from '../../machine/lockstep/comparison.ts'
import { comparisonJson, comparisonText } from '../../machine/lockstep/comparison-report.ts'
import { type RandomGroup, randomScript } from '../../machine/lockstep/random-script.ts'
import { KernelPeer } from '../../peer/kernel-peer.ts'
import type { Command, Invocation } from '../command.ts'
import { EXIT } from '../exit.ts'
import { openInput } from '../input.ts'
import type { Io } from '../io.ts'
import { jsonText } from '../json-text.ts'
import { PROFILE_NAMES } from '../profiles.ts'

const PEERS = ['kernel'] as const
const FILE_BYTES_MAX = 16 * 1024 * 1024
/** What is run where nobody says what. */
const RANDOM_COMMANDS = 1000
const DMA_EVERY = 16
const PROGRESS_MS = 200

interface Request {
  readonly files: readonly string[]
  readonly random: number
  readonly seed: number
  readonly dmaEvery: number
  readonly most: number
}

function wholeNumber(options: Invocation['options'], name: string, most: number): number | undefined {
  const text = options[name] as string | undefined
  if (text === undefined) return undefined
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN
  if (value <= most) return value
  const flag = `--${name.replaceAll(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`
  throw new IommulatorError('ERR_NUMBER', `${flag} ${text}: a whole number from 0 to ${most}`)
}

function requestOf({ positionals: [peer = '', ...files], options }: Invocation): Request {
  if (!(PEERS as readonly string[]).includes(peer)) {
    throw new IommulatorError(
      'ERR_NUMBER',
      `there is no peer called "${peer}"; there is: ${PEERS.join(', ')}`,
    )
  }
  const random = wholeNumber(options, 'random', 10_000_000)
  return {
    files,
    random: random ?? (files.length > 0 ? 0 : RANDOM_COMMANDS),
    seed: wholeNumber(options, 'seed', 0xffff_ffff) ?? 1,
    dmaEvery: wholeNumber(options, 'dmaEvery', 1_000_000) ?? DMA_EVERY,
    most: Math.max(1, wholeNumber(options, 'most', 1000) ?? 1),
  }
}

async function scriptsOf(path: string, io: Io): Promise<AgentScript[]> {
  const input = await openInput(path, io.stdin)
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of input.pieces()) {
    pieces.push(Buffer.from(piece))
    bytes += piece.length
    if (bytes > FILE_BYTES_MAX) {
      throw new IommulatorError(
        'ERR_INPUT',
        `${input.name}: a file of scripts has at most ${FILE_BYTES_MAX} bytes`,
      )
    }
  }
  return readAgentScripts(Buffer.concat(pieces).toString('latin1'), basename(input.name))
}

/** Random scripts until there are enough commands. */
function* randomScripts(
  { random, seed, dmaEvery }: Request,
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
  request: Request,
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
  summary: 'give a real kernel and the model the same commands',
  positionals: [
    { name: '<peer>', doc: 'kernel: Linux on an emulated POWER9 (QEMU)', complete: async () => PEERS },
    {
      name: '[files...]',
      doc: "scripts of the agent's commands, or transcripts whose commands are run again",
      complete: 'file',
    },
  ],
  options: [
    { flags: '--random <n>', doc: `run n random commands (${RANDOM_COMMANDS} where no file is given)` },
    { flags: '--seed <s>', doc: 'seed of the random commands (1)' },
    {
      flags: '--dma-every <n>',
      doc: `one random script in n opens a device, which takes seconds; 0 for none (${DMA_EVERY})`,
    },
    { flags: '--most <n>', doc: 'end after n different differences (1)' },
    {
      flags: '--profile <profile>',
      doc: "the model's errata (those of the kernel that runs)",
      offer: () => PROFILE_NAMES,
    },
    { flags: '--record <file>', doc: 'write the transcript of the peer' },
    { flags: '--json', doc: 'print one JSON object' },
  ],
  examples: [
    ['sudo sh peers/kernel/setup.sh', 'once: QEMU, the kernel, the agent'],
    ['iommulator connect kernel --random 5000 --seed 7', 'random commands'],
    ['iommulator connect kernel script.txt', 'commands of a file, one a line'],
    ['iommulator connect kernel --record run.txt', 'keep the answers, for replay'],
  ],
  async run(call, io) {
    const request = requestOf(call)
    const given: AgentScript[] = []
    for (const path of request.files) given.push(...(await scriptsOf(path, io)))
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
