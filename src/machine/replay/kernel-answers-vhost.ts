import { bytesOf, bytesText, hexDigits } from '../../bits/byte-text.ts'
import type { CallDecl } from '../../bits/call.ts'
import { CLOSE, OPEN, RAW_IOCTL } from '../../kernel/vfio/calls.ts'
import * as vhost from '../../kernel/vhost/calls.ts'
import * as onFiles from '../../kernel/vhost/message-calls.ts'
import { encodeMessage, MESSAGE_LAYOUT, PERM } from '../../kernel/vhost/messages.ts'
import { TAP_PATH, VHOST_NET_PATH } from '../../kernel/vhost/vhost.ts'
import { MEM_WRITE } from '../../memory/mem-calls.ts'
import type { AgentCommandName } from '../../reader/kernel-answers-format.ts'
import { type AgentCommand, readAgentCommand } from '../../reader/kernel-answers-line.ts'
import { IOTLB_MESSAGE } from '../../trace/event-codes.ts'
import type { RecordLog } from '../../trace/record-log.ts'
import {
  type AgentArgs,
  type AgentRun,
  type AgentSaid,
  answered,
  elsewhere,
  outputOf,
  type ProcessCall,
  returned,
  u32,
  u64,
  unmodelled,
} from './kernel-answers-said.ts'

const NO_FD = 0xffff_ffffn
/** A descriptor that the agent never has. */
const BAD_FD = 1000n
const FILES = 8n
const REGIONS = 64
/** Bytes that the agent writes and reads at most. */
const BYTES_MAX = 4096
/** UPDATEs of one command that are done; an IOTLB keeps 2048. */
const FILL_MAX = 65_536n
const V2 = 2
const U8 = 0xffn
const REFUSED: AgentSaid = { state: 'refused' }
const REGION_NAMES = [1, 2, 3, 4].flatMap((i) => [`gpa${i}`, `bytes${i}`, `ua${i}`])
const DIGITS = /^(?:[0-9a-f]{2})*$/

/** Bytes that a word spells; undefined where the agent does not take it. */
function bytesIn(args: AgentArgs): Uint8Array | undefined {
  const word = args['data'] === '-' ? '' : (args['data'] as string)
  return DIGITS.test(word) && word.length <= 2 * BYTES_MAX ? bytesOf(`hex:${word}`) : undefined
}

/** The words of a table's regions: those that are named, and zeros. */
function regionsOf(args: AgentArgs, count: bigint): bigint[] {
  const words = REGION_NAMES.map((name) => u64(args, name))
  const wanted = 3 * Math.min(Number(count), REGIONS)
  return Array.from({ length: wanted }, (_, i) => words[i] ?? 0n)
}

/** The bytes of a message as `vhmsg` names them. */
function messageOf(args: AgentArgs): Uint8Array {
  const data = encodeMessage({
    version: Number(u32(args, 'version')),
    type: Number(u64(args, 'type') & U8),
    iova: u64(args, 'iova'),
    bytes: u64(args, 'bytes'),
    ua: u64(args, 'ua'),
    perm: Number(u64(args, 'perm') & U8),
  })
  new DataView(data.buffer).setUint32(MESSAGE_LAYOUT.asid.offset, Number(u32(args, 'asid')), true)
  return data
}

/** Commands about vhost-net, and the files that they keep. */
export function vhostRuns(call: ProcessCall) {
  const files = new Map<bigint, bigint>()
  const taps = new Set<bigint>()
  const fdOf = (args: AgentArgs): bigint => files.get(u64(args, 'file')) ?? NO_FD
  const onFile =
    (run: AgentRun): AgentRun =>
    (args) =>
      u64(args, 'file') < FILES ? run(args) : REFUSED
  const onTap = (run: AgentRun) => onFile((args) => (taps.has(u64(args, 'file')) ? run(args) : REFUSED))
  /** An ioctl whose answer is what it returns. */
  const ioctl = (
    decl: CallDecl,
    argsOf: (args: AgentArgs) => Readonly<Record<string, bigint>> = () => ({}),
  ) => onFile((args) => returned(call(decl, { fd: fdOf(args), ...argsOf(args) })))
  /** The file that a call makes takes the place of the one that was there. */
  const kept = (make: (args: AgentArgs) => ReturnType<ProcessCall>, isTap = false) =>
    onFile((args) => {
      const answer = make(args)
      if (answer.code === 'OK') {
        const slot = u64(args, 'file')
        if (isTap) taps.add(slot)
        else taps.delete(slot)
        const before = files.get(slot)
        if (before !== undefined) call(CLOSE, { fd: before })
        files.set(slot, outputOf(answer, 'fd'))
      }
      return returned(answer)
    })
  const features = (decl: CallDecl) =>
    onFile((args) => {
      const answer = call(decl, { fd: fdOf(args) })
      return returned(answer, { features: outputOf(answer, 'features') })
    })
  const onQueue = (decl: CallDecl) =>
    ioctl(decl, (args) => {
      const other = args['other'] as string
      const file = other === 'none' ? NO_FD : other === 'bad' ? BAD_FD : (files.get(BigInt(other)) ?? BAD_FD)
      return { index: u32(args, 'queue'), file }
    })
  const state = (decl: CallDecl) =>
    ioctl(decl, (args) => ({ index: u32(args, 'queue'), num: u32(args, 'num') }))
  const write = (args: AgentArgs, data: Uint8Array): AgentSaid => {
    const answer = call(onFiles.VHOST_WRITE, { fd: fdOf(args), data: bytesText(data) })
    if (answer.code !== 'OK') return returned(answer)
    return answered(outputOf(answer, 'written'), { rule: answer.rule })
  }
  return {
    vhopen: kept(() => call(OPEN, { path: VHOST_NET_PATH })),
    eventfd: kept((args) => call(onFiles.EVENTFD, { count: u32(args, 'count') })),
    tap: kept(() => call(OPEN, { path: TAP_PATH }), true),
    deliver: onTap((args) => {
      const data = bytesIn(args)
      if (data === undefined) return REFUSED
      const answer = call(onFiles.TAP_DELIVER, { fd: fdOf(args), data: bytesText(data) })
      if (answer.rule === 'full') return unmodelled('a frame that a full tap drops')
      return answer.code === 'OK' ? answered(BigInt(data.length)) : returned(answer)
    }),
    collect: onTap((args) => {
      const answer = call(onFiles.TAP_COLLECT, { fd: fdOf(args) })
      if (answer.code !== 'OK') return returned(answer)
      const data = bytesOf(answer.outputs['data'] as string)
      return answered(BigInt(data.length), { fields: { data: hexDigits(data) } })
    }),
    fileclose: onFile((args) => {
      taps.delete(u64(args, 'file'))
      const answer = call(CLOSE, { fd: fdOf(args) })
      files.delete(u64(args, 'file'))
      return returned(answer)
    }),
    evsignal: onFile((args) => {
      const answer = call(onFiles.EVENTFD_WRITE, { fd: fdOf(args) })
      return answer.rule === 'not-eventfd' ? unmodelled('a file that is no eventfd') : returned(answer)
    }),
    evcount: onFile((args) => {
      const answer = call(onFiles.EVENTFD_READ, { fd: fdOf(args) })
      if (answer.rule === 'not-eventfd') return unmodelled('a file that is no eventfd')
      return answer.code === 'OK'
        ? answered(0n, { fields: { count: outputOf(answer, 'count') } })
        : returned(answer)
    }),
    vhfeatures: features(vhost.VHOST_GET_FEATURES),
    vhbackendfeatures: features(vhost.VHOST_GET_BACKEND_FEATURES),
    vhsetfeatures: ioctl(vhost.VHOST_SET_FEATURES, (args) => ({ features: u64(args, 'features') })),
    vhsetbackendfeatures: ioctl(vhost.VHOST_SET_BACKEND_FEATURES, (args) => ({
      features: u64(args, 'features'),
    })),
    vhowner: ioctl(vhost.VHOST_SET_OWNER),
    vhreset: ioctl(vhost.VHOST_RESET_OWNER),
    vhmem: onFile((args) => {
      const nregions = u32(args, 'nregions')
      const regions = regionsOf(args, nregions)
      const about = { nregions, padding: u32(args, 'padding'), regions }
      return returned(call(vhost.VHOST_SET_MEM_TABLE, { fd: fdOf(args), ...about }))
    }),
    vhnum: state(vhost.VHOST_SET_VRING_NUM),
    vhbase: state(vhost.VHOST_SET_VRING_BASE),
    vhgetbase: onFile((args) => {
      const answer = call(vhost.VHOST_GET_VRING_BASE, { fd: fdOf(args), index: u32(args, 'queue') })
      return returned(answer, { num: outputOf(answer, 'num') })
    }),
    vhaddr: ioctl(vhost.VHOST_SET_VRING_ADDR, (args) => ({
      index: u32(args, 'queue'),
      flags: u32(args, 'flags'),
      desc: u64(args, 'desc'),
      used: u64(args, 'used'),
      avail: u64(args, 'avail'),
      log: u64(args, 'log'),
    })),
    vhkick: onQueue(vhost.VHOST_SET_VRING_KICK),
    vhcall: onQueue(vhost.VHOST_SET_VRING_CALL),
    vherr: onQueue(vhost.VHOST_SET_VRING_ERR),
    vhbackend: onQueue(vhost.VHOST_NET_SET_BACKEND),
    vhioctl: ioctl(RAW_IOCTL, (args) => ({ cmd: u32(args, 'cmd'), arg: u64(args, 'argument') })),
    vhmsg: onFile((args) => write(args, messageOf(args))),
    vhwrite: onFile((args) => {
      const data = bytesIn(args)
      return data === undefined ? REFUSED : write(args, data)
    }),
    vhfill: onFile((args) => {
      const [iova, bytes, ua] = [u64(args, 'iova'), u64(args, 'bytes'), u64(args, 'ua')]
      if (u64(args, 'count') > FILL_MAX) return unmodelled('more messages than a modelled host is given')
      let taken = 0n
      for (; taken < u64(args, 'count'); taken++) {
        const data = encodeMessage({
          version: V2,
          type: IOTLB_MESSAGE.UPDATE,
          iova: BigInt.asUintN(64, iova + taken * bytes),
          bytes,
          ua: BigInt.asUintN(64, ua + taken * bytes),
          perm: PERM.RW,
        })
        if (call(onFiles.VHOST_WRITE, { fd: fdOf(args), data: bytesText(data) }).code !== 'OK') break
      }
      return answered(taken)
    }),
    vhread: onFile((args) => {
      if (u64(args, 'bytes') > BYTES_MAX) return REFUSED
      const nonblock = u32(args, 'waits') === 0n
      const answer = call(onFiles.VHOST_READ, { fd: fdOf(args), bytes: u64(args, 'bytes'), nonblock })
      if (answer.code !== 'OK') return returned(answer)
      const data = bytesOf((answer.outputs['data'] ?? '') as string)
      return answered(BigInt(data.length), { rule: answer.rule, fields: { data: hexDigits(data) } })
    }),
    vhpoll: onFile((args) => {
      const answer = call(onFiles.VHOST_POLL, { fd: fdOf(args) })
      // poll leaves a descriptor below 0 alone.
      if (answer.code !== 'OK' && answer.rule !== 'bad-fd') return returned(answer)
      return answered(0n, { rule: answer.rule, fields: { events: outputOf(answer, 'events') } })
    }),
    bytes: elsewhere((args) => {
      const data = bytesIn(args)
      if (data === undefined) return REFUSED
      if (data.length === 0) return answered(0n)
      const answer = call(MEM_WRITE, { space: 'ua', address: u64(args, 'vaddr'), data: bytesText(data) })
      return answer.code === 'OK' ? answered(0n) : { state: 'died', why: 'the memory is not there (SIGSEGV)' }
    }),
  }
}

/** Commands that leave nothing in the program that runs them. */
const LEAVES_NOTHING: readonly AgentCommandName[] = [
  'evsignal',
  'evcount',
  'vhfeatures',
  'vhbackendfeatures',
  'vhsetfeatures',
  'vhsetbackendfeatures',
  'vhowner',
  'vhreset',
  'vhmem',
  'vhnum',
  'vhaddr',
  'vhbase',
  'vhgetbase',
  'vhkick',
  'vhcall',
  'vherr',
  'vhbackend',
  'vhioctl',
  'vhmsg',
  'vhwrite',
  'vhfill',
  'vhread',
  'vhpoll',
]

/** A child of the program runs a command: what its call returned, without fields. */
export function forkedRun(inChild: (command: AgentCommand) => AgentSaid): AgentRun {
  return (args) => {
    const command = readAgentCommand(args['line'] as string)
    // What the declarations do not know, the program may.
    if (typeof command === 'string') return unmodelled('a command of a child that is not declared')
    if (!LEAVES_NOTHING.includes(command.name)) return unmodelled('a child that keeps something')
    const said = inChild(command)
    if (said.state !== 'answered') return said
    const { answer, rule } = said
    return answered(answer.value, { errno: answer.errno, rule })
  }
}

/** What a command was answered, unless a queue behind it did something that the model does not have. */
export function unlessUnknown(said: AgentSaid, log: RecordLog, from: number): AgentSaid {
  if (said.state !== 'answered') return said
  for (const { event } of log.records(from)) {
    if (event.kind === 'unmodelled') return unmodelled(event.what)
  }
  return said
}
