import type { Answer, Value } from '../../src/bits/answer.ts'
import type { Verb } from '../../src/bits/call.ts'
import { PRESETS } from '../../src/hw/vtd/capabilities.ts'
import { createX86 } from '../../src/machine/x86/create-x86.ts'
import { completeX86 } from '../../src/machine/x86/description.ts'
import { eventsOfLog } from './events.ts'

type Args = Readonly<Record<string, Value>>

/** Bits of CAP and ECAP that a unit may lack. */
export const UNIT_BIT = {
  CM: 1n << 7n,
  FL1GP: 1n << 56n,
  PRS: 1n << 29n,
  SRS: 1n << 31n,
  PASID: 1n << 40n,
  PDS: 1n << 42n,
  SMTS: 1n << 43n,
  FLTS: 1n << 47n,
  SMPWCS: 1n << 48n,
} as const

export interface SvaWorldOptions {
  readonly profile?: string
  readonly cap?: bigint
  readonly ecap?: bigint
  /** Bits of the PASIDs of acc0; 20 if left out. */
  readonly pasidBits?: number
  /** Whether others are in the IOMMU group of acc0. */
  readonly sharesGroup?: boolean
  /** Pages for the tables of the driver. */
  readonly tablePages?: number
  /** Whether the devices have a domain and the feature. */
  readonly isEnabled?: boolean
}

const SOURCES = { acc0: 0x100, acc1: 0x108 } as const
const DEVICES = [
  { name: 'acc0', kind: 'endpoint', bus: 1, slot: 0 },
  { name: 'acc1', kind: 'endpoint', bus: 1, slot: 1 },
] as const
const TABLES_AT = 32n << 20n

export const EVERY_FEATURE = PRESETS['every-feature']
/** First user address that processes of these tests have mapped. */
export const USER = 0x1000_0000n

/** Linux with processes P and Q, and two devices with ATS, PRI and PASIDs behind a unit in scalable mode; `plain0` has none. */
export function svaWorld(options: SvaWorldOptions = {}) {
  const {
    profile = 'intended',
    cap,
    ecap,
    pasidBits = 20,
    sharesGroup,
    tablePages,
    isEnabled = true,
  } = options
  const machine = createX86(
    completeX86({
      kind: 'x86',
      profile,
      ramBytes: 64n << 20n,
      ...(tablePages === undefined ? {} : { tables: { gpa: TABLES_AT, bytes: BigInt(tablePages) << 12n } }),
      iommu: { preset: 'every-feature', driver: 'scalable', cap, ecap },
      devices: [
        { ...DEVICES[0], pasidBits, sharesGroup, pageRequests: 4096 },
        DEVICES[1],
        { name: 'plain0', kind: 'edu', bus: 0, slot: 5 },
      ],
      processes: [{ name: 'P' }, { name: 'Q' }],
    }),
    { journal: true },
  )
  const run = (verb: Verb, call: string, args: Args = {}, process?: string): Answer =>
    machine.perform({ verb, call, args, ...(process === undefined ? {} : { by: { process } }) })
  const sva = (call: string, args: Args = {}, process?: string) => run('sva', call, args, process)
  const bind = (device = 'acc0', process = 'P') => sva('bind', { device, process })
  const unbind = (pasid = 1n, device = 'acc0') => sva('unbind', { device, pasid })
  const map = (process = 'P', more: Args = {}) =>
    run('sys', 'mmap', { address: USER, bytes: 0x4000n, fixed: true, ...more }, process)
  /** A device requests a page itself: the last one of a group, to read, with PASID 1. */
  const request = (more: Args = {}) =>
    run('pri', 'request', { device: 'acc0', iova: USER, pasid: 1n, group: 7n, ...more })
  const thread = () => sva('prq_event_thread')
  const worker = (args: Args = {}) => sva('iopf_work', args)
  const events = (prefix: string) => eventsOfLog(machine.log, prefix)
  if (isEnabled) {
    for (const device of ['acc0', 'acc1']) {
      run('iommu', 'attach', { device, domain: 5n })
      sva('enable', { device })
    }
  }
  return { machine, run, sva, bind, unbind, map, request, thread, worker, events, sources: SOURCES }
}
