import type { Value } from '../bits/answer.ts'
import type { Verb } from '../bits/call.ts'
import { H_CODES } from '../bits/codes.ts'
import { Judge } from '../check/judge.ts'
import { VHOST_REMEDIES, type VhostRemedy } from '../kernel/vhost-remedy.ts'
import { createMachine } from '../machine/create-machine.ts'
import { describeMachine } from '../machine/description.ts'
import type { Machine } from '../machine/machine.ts'
import { alignedGrid, paragraph } from './markdown.ts'

const ROUNDS = 16
const LIST_PAGES = 8
const PAGE = 0x1000n
const UA = 0x1_0000_0000n
const [LIOBN, OTHER_LIOBN] = [0x8000_0000n, 0x8000_0100n]
/** Where lists of TCEs lie, and pages that a round maps: each round other ones. */
const LIST_GPA = 0x10_0000n
const FIRST_GPA = 0x20_0000n
/** Bus addresses, the same in each round: eight pages of a list, and a single one behind them. */
const LIST_IOBA = 0x10_000n
const SINGLE_IOBA = LIST_IOBA + BigInt(LIST_PAGES) * PAGE
const READ_WRITE = 3n

/** What a remedy costs in the run that is the same for all, counted from its records. */
export interface VhostCosts {
  readonly remedy: VhostRemedy
  /** Hypercalls that KVM answered, and those that it left to QEMU. */
  readonly inKernel: number
  readonly left: number
  readonly misses: number
  /** Messages that QEMU wrote to vhost. */
  readonly updates: number
  readonly invalidates: number
  /** Ranges that the kernel itself had vhost forget. */
  readonly forgotten: number
  /** Maps that went with all that. */
  readonly dropped: number
  /** Frames, and those that were not where the guest had their page. */
  readonly frames: number
  readonly lost: number
  /** How often `stale-iotlb` was found: once for each map that stayed, and each that was used. */
  readonly stale: number
}

/** A guest with two buses, and a network device of vhost on each. */
function makeGuest(remedy: VhostRemedy, judge: Judge): Machine {
  const phb = (name: string) => ({ ddw: false, virtio: [{ name, kind: 'net' as const }] })
  return createMachine(
    describeMachine({
      kind: 'powernv',
      guest: { ramBytes: 1n << 26n, ua: UA, vhostRemedy: remedy, phbs: [phb('net0'), phb('net1')] },
    }),
    { watch: (log) => judge.attach(log) },
  )
}

const hexBytes = (words: readonly bigint[]): string =>
  `hex:${words.map((word) => word.toString(16).padStart(16, '0')).join('')}`

/** The run: answers how many frames there were, and how many lay elsewhere. */
function runWorkload(machine: Machine): { frames: number; lost: number } {
  let frames = 0
  let lost = 0
  const run = (verb: Verb, call: string, args: Readonly<Record<string, Value>> = {}) => {
    const answer = machine.perform({ verb, call, args })
    if (answer.state !== 'done') throw new Error(`${verb} ${call}: ${answer.rule}`)
    return answer
  }
  const frame = (device: string, iova: bigint, gpa: bigint): void => {
    const data = `frame ${String(++frames).padStart(4, '0')}`
    run('dma', 'write', { device, iova, data })
    const found = run('mem', 'read', { space: 'ua', address: UA + gpa, bytes: BigInt(data.length) })
    if (found.outputs['data'] !== data) lost++
  }
  const put = (liobn: bigint, ioba: bigint, tce: bigint) => run('hcall', 'H_PUT_TCE', { liobn, ioba, tce })
  run('vmm', 'start')
  for (const device of ['net0', 'net1']) run('virtio', 'ready', { device })
  put(OTHER_LIOBN, LIST_IOBA, FIRST_GPA | READ_WRITE)
  for (let round = 1; round <= ROUNDS; round++) {
    const gpa = FIRST_GPA + BigInt(round) * 16n * PAGE
    const pages = Array.from({ length: LIST_PAGES }, (_, i) => gpa + BigInt(i) * PAGE)
    const data = hexBytes(pages.map((page) => page | READ_WRITE))
    run('mem', 'write', { space: 'ua', address: UA + LIST_GPA, data })
    const npages = BigInt(LIST_PAGES)
    run('hcall', 'H_PUT_TCE_INDIRECT', { liobn: LIOBN, ioba: LIST_IOBA, list: LIST_GPA, npages })
    for (const page of pages) frame('net0', LIST_IOBA + page - gpa, page)
    run('hcall', 'H_STUFF_TCE', { liobn: LIOBN, ioba: LIST_IOBA, value: 0n, npages })
    const single = gpa + npages * PAGE
    put(LIOBN, SINGLE_IOBA, single | READ_WRITE)
    frame('net0', SINGLE_IOBA, single)
    put(LIOBN, SINGLE_IOBA, 0n)
    frame('net1', LIST_IOBA, FIRST_GPA)
    run('tick', 'advance', { ticks: 1n })
  }
  return { frames, lost }
}

/** Runs the workload with a remedy, and counts. */
export function vhostCosts(remedy: VhostRemedy): VhostCosts {
  const judge = new Judge()
  const machine = makeGuest(remedy, judge)
  const ran = runWorkload(machine)
  judge.finish()
  const stale = judge.findings.filter(({ rule }) => rule === 'stale-iotlb').length
  const counts = { inKernel: 0, left: 0, misses: 0, updates: 0, invalidates: 0, drops: 0, dropped: 0 }
  for (const { event } of machine.log.records()) {
    if (event.kind === 'iotlb.miss') counts.misses++
    else if (event.kind === 'iotlb.drop') {
      counts.drops++
      counts.dropped += event.maps
    } else if (event.kind === 'vhost.message' && event.from !== 'vhost') {
      if (event.type === 2) counts.updates++
      else counts.invalidates++
    } else if (event.kind === 'call.return' && event.layer === 'kvm' && event.call.startsWith('H_')) {
      if (event.code === H_CODES.H_TOO_HARD) counts.left++
      else counts.inKernel++
    }
  }
  const { drops, ...rest } = counts
  return { remedy, ...rest, ...ran, stale, forgotten: drops - counts.invalidates }
}

const HEAD = [
  'remedy',
  'hypercalls in KVM',
  'left to QEMU',
  'misses',
  'UPDATE',
  'INVALIDATE',
  'forgotten in the kernel',
  'maps dropped',
  'frames lost',
  'stale-iotlb',
]

/** The page of what each remedy costs, and whether it helps. */
export function vhostCostsPage(): string {
  const costs = VHOST_REMEDIES.map(vhostCosts)
  const rows = costs.map((c) =>
    [
      `\`${c.remedy}\``,
      c.inKernel,
      c.left,
      c.misses,
      c.updates,
      c.invalidates,
      c.forgotten,
      c.dropped,
      `${c.lost} of ${c.frames}`,
      c.stale === 0 ? 'kept' : `broken ${c.stale} times`,
    ].map(String),
  )
  return `<!-- Made by \`npm run docs\` from a run of the model; do not edit. -->
# What the remedies against B8 cost
${paragraph(
  'KVM answers hypercalls for TCEs, and vhost is not told (erratum B8). These are the remedies that were discussed; none of them ever shipped. The story is told in [A crash, told](../guide/vhost-spapr.md).',
)}

${paragraph(
  `Counted from the records of one run of the model for each remedy, on Linux 6.12.95 with QEMU 7.2: a guest with a bus of 4 KiB pages and a vhost device on it does ${ROUNDS} rounds. In each it maps ${LIST_PAGES} pages with one H_PUT_TCE_INDIRECT, receives a frame in each, and takes them back with one H_STUFF_TCE; then it maps a page with H_PUT_TCE, receives a frame, and takes it back with H_PUT_TCE of 0. Bus addresses are the same in each round, pages are not. A second device on another bus receives a frame in each round, in a page that stays mapped, at one of the same bus addresses. QEMU's main loop comes to run at the end of a round, and when a device waits for a miss.`,
)}

${alignedGrid(HEAD, rows)}

- **hypercalls in KVM**, **left to QEMU**: the latter cost an exit to user space each.
- **misses**: a queue waits until QEMU has translated the address, with one **UPDATE** each.
- **INVALIDATE**: messages by which QEMU has vhost forget; **forgotten in the kernel**: ranges that KVM had it forget.
- **frames lost**: frames that were not in the page that the guest had mapped for them, but in an older one.
- **stale-iotlb**: whether vhost had ever a page that the guest had taken back (the rule of that name). With \`eventfd\` it
  had, until QEMU came to run; that no frame was lost is luck: the next one missed, and QEMU ran in time.
`
}
