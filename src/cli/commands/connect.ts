import { IommulatorError } from '../../bits/errors.ts'
import { VTD_UNIT_MODES } from '../../machine/lockstep/vtd-unit-options.ts'
import type { Command, Invocation } from '../command.ts'
import { PROFILE_NAMES } from '../profiles.ts'
import { connectKernel } from './connect-kernel.ts'
import { connectPseries } from './connect-pseries.ts'
import { connectQemuPrq, connectQemuVtd } from './connect-qemu-vtd.ts'
import type { ConnectRequest } from './connect-request.ts'
import { connectVhostUser } from './connect-vhost-user.ts'

const PEERS = ['kernel', 'qemu-pseries', 'qemu-vtd', 'qemu-prq', 'vhost-user'] as const
/** What is run where nobody says what. */
const RANDOM: Readonly<Record<string, number>> = {
  kernel: 1000,
  'qemu-pseries': 100_000,
  'qemu-vtd': 20_000,
  'qemu-prq': 5000,
}
const DMA_EVERY = 16
/** Options that only a disk has. */
const OF_VHOST_USER = [
  ['socket', '--socket'],
  ['disk', '--disk'],
  ['memory', '--memory'],
  ['readOnly', '--read-only'],
  ['queues', '--queues'],
  ['iotlbEntries', '--iotlb-entries'],
  ['once', '--once'],
  ['log', '--log'],
  ['trace', '--trace'],
] as const
/** Options that only some peers have. */
const OF_SOME = [
  [['vhost-user'], OF_VHOST_USER],
  [['qemu-vtd', 'qemu-prq'], [['qemu', '--qemu']]],
  [['qemu-vtd'], [['mode', '--mode']]],
] as const

function wholeNumber(
  options: Invocation['options'],
  name: string,
  [least, most]: readonly [number, number],
): number | undefined {
  const text = options[name] as string | undefined
  if (text === undefined) return undefined
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN
  if (value >= least && value <= most) return value
  const flag = `--${name.replaceAll(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`
  throw new IommulatorError('ERR_NUMBER', `${flag} ${text}: a whole number from ${least} to ${most}`)
}

function requestOf({ positionals: [peer = '', ...files], options }: Invocation): ConnectRequest {
  if (!(PEERS as readonly string[]).includes(peer)) {
    throw new IommulatorError(
      'ERR_NUMBER',
      `there is no peer called "${peer}"; there is: ${PEERS.join(', ')}`,
    )
  }
  for (const [peers, names] of OF_SOME) {
    if ((peers as readonly string[]).includes(peer)) continue
    for (const [name, flag] of names) {
      if (options[name] !== undefined)
        throw new IommulatorError('ERR_NUMBER', `${flag} is for ${peers.join(' and ')}, not for ${peer}`)
    }
  }
  const random = wholeNumber(options, 'random', [1, 10_000_000])
  return {
    peer,
    files,
    random: random ?? (files.length > 0 ? 0 : (RANDOM[peer] ?? 0)),
    seed: wholeNumber(options, 'seed', [0, 0xffff_ffff]) ?? 1,
    dmaEvery: wholeNumber(options, 'dmaEvery', [0, 1_000_000]) ?? DMA_EVERY,
    most: wholeNumber(options, 'most', [1, 1000]) ?? 1,
    isPartial: options['partial'] === true,
  }
}

export const connectCommand: Command = {
  name: 'connect',
  summary: 'put a real kernel, or QEMU, beside the model',
  positionals: [
    {
      name: '<peer>',
      doc: "kernel: Linux on an emulated POWER9; qemu-pseries: QEMU's own hypercalls, qemu-vtd: its intel-iommu, qemu-prq: that with page requests, all without an operating system; vhost-user: a QEMU whose disk is served here",
      complete: async () => PEERS,
    },
    {
      name: '[files...]',
      doc: 'scenarios (YAML or JSON), scripts for the peer, or recordings whose commands are run again',
      complete: 'file',
    },
  ],
  options: [
    {
      flags: '--random <n>',
      doc: `run n random commands, hypercalls, or steps (${Object.values(RANDOM).join(', ')} where no file is given)`,
    },
    { flags: '--seed <s>', doc: 'seed of the random commands (1)' },
    {
      flags: '--dma-every <n>',
      doc: `kernel: one random script in n opens a device, which takes seconds; 0 for none (${DMA_EVERY})`,
    },
    { flags: '--partial', doc: 'run scenarios as far as the peer can do them; the report counts the rest' },
    { flags: '--most <n>', doc: 'end after n different differences (1)' },
    {
      flags: '--profile <profile>',
      doc: "the model's errata (those of the peer)",
      offer: () => PROFILE_NAMES,
    },
    { flags: '--record <file>', doc: 'write what the peer answered; vhost-user: all records (jsonl)' },
    {
      flags: '--qemu <path>',
      doc: 'the QEMU; qemu-vtd: qemu-system-x86_64, qemu-prq: the newest of its set-up script',
    },
    {
      flags: '--mode <mode>',
      doc: 'qemu-vtd: random scripts of legacy, scalable or first-level units only',
      offer: () => VTD_UNIT_MODES,
    },
    { flags: '--socket <path>', doc: 'vhost-user: the socket that QEMU connects to' },
    { flags: '--disk <file>', doc: 'vhost-user: the disk' },
    { flags: '--memory <size>', doc: 'vhost-user: a disk in memory instead' },
    { flags: '--read-only', doc: 'vhost-user: the guest cannot write the disk' },
    { flags: '--queues <n>', doc: 'vhost-user: queues of the disk (1)' },
    { flags: '--iotlb-entries <n>', doc: 'vhost-user: maps that the IOTLB keeps (2048)' },
    { flags: '--once', doc: 'vhost-user: end when the first front end is gone' },
    { flags: '--log <file>', doc: 'vhost-user: write the messages (jsonl), for replay' },
    { flags: '--trace <file>', doc: 'vhost-user: the trace that QEMU writes (-D), read while it grows' },
    { flags: '--json', doc: 'print one JSON object' },
  ],
  examples: [
    ['sudo sh peers/kernel/setup.sh', 'once: QEMU, the kernel, the agent'],
    ['iommulator connect kernel --random 5000 --seed 7', 'random commands'],
    ['iommulator connect qemu-pseries --seed 7', 'random hypercalls'],
    ['iommulator connect qemu-vtd --random 20000', "QEMU's VT-d unit"],
    ['iommulator connect qemu-prq --random 5000', 'its page requests'],
    ['iommulator connect kernel script.txt', 'commands of a file, one a line'],
    ['iommulator connect kernel scenarios/tour/kvm-guest.yaml', 'a scenario, on both'],
    ['iommulator connect vhost-user --socket s --disk disk.img', 'a disk for QEMU'],
    ['iommulator connect kernel --record run.txt', 'keep the answers, for replay'],
  ],
  run(call, io) {
    if (call.positionals[0] === 'vhost-user') return connectVhostUser(call, io)
    const request = requestOf(call)
    if (request.peer === 'qemu-vtd') return connectQemuVtd(request, call, io)
    if (request.peer === 'qemu-prq') return connectQemuPrq(request, call, io)
    return request.peer === 'qemu-pseries'
      ? connectPseries(request, call, io)
      : connectKernel(request, call, io)
  },
}
