import type { CallHandler, Value } from '../../bits/answer.ts'
import type { RuleOf } from '../../bits/call.ts'
import { hiOf, loOf, wordOf } from '../../bits/u64.ts'
import type { NamedBuffer } from './buffers.ts'
import {
  DMA_ALLOC_COHERENT,
  DMA_FREE_COHERENT,
  DMA_MAP_PAGE,
  DMA_MAP_SG,
  DMA_UNMAP_PAGE,
  DMA_UNMAP_SG,
} from './calls.ts'
import { OUTCOME, type Outcome } from './dma-api.ts'
import { type Args, guestHandler, type Reply } from './guest-handler.ts'
import type { GuestKernel } from './guest-kernel.ts'
import type { DmaSegment, SgElement } from './scatter-list.ts'
import { DIR, type Dir } from './tce-backend.ts'

const DIRS: Readonly<Record<string, Dir>> = {
  'to-device': DIR.TO_DEVICE,
  'from-device': DIR.FROM_DEVICE,
  bidirectional: DIR.BIDIRECTIONAL,
}

const dirOf = (args: Args): Dir => DIRS[args.text('dir')] ?? DIR.BIDIRECTIONAL

/** Memory addresses of the model are below 2^52; no page is above. */
const GPA_END = 2n ** 52n

const ALLOC_RULES: Partial<Record<Outcome, RuleOf<typeof DMA_ALLOC_COHERENT>>> = {
  [OUTCOME.ORDER_TOO_LARGE]: 'order-too-large',
  [OUTCOME.NO_TABLE]: 'no-table',
  [OUTCOME.NO_MEMORY]: 'no-memory',
  [OUTCOME.NO_ENTRIES]: 'no-entries',
  [OUTCOME.SET_FAILED]: 'set-failed',
  [OUTCOME.DIRECT]: 'done-direct',
}

function allocCoherent(kernel: GuestKernel, args: Args): Reply<RuleOf<typeof DMA_ALLOC_COHERENT>> {
  const device = kernel.device(args.text('device'))
  if (device === undefined) return { rule: 'device-unknown' }
  const { dma } = kernel
  const bytes = args.number('bytes')
  const outcome = dma.allocCoherent(device, bytes)
  const rule = ALLOC_RULES[outcome] ?? 'done'
  if (outcome !== OUTCOME.DONE && outcome !== OUTCOME.DIRECT) return { rule }
  const handle = wordOf(dma.handle.hi, dma.handle.lo)
  const { gpa } = dma
  if (args.has('as')) kernel.buffers.put(args.text('as'), { gpa, bytes, handle, mappedBytes: bytes })
  return { rule, outputs: { handle, gpa: BigInt(gpa) }, free: ['gpa'] }
}

const FREE_RULES: Partial<Record<Outcome, RuleOf<typeof DMA_FREE_COHERENT>>> = {
  [OUTCOME.NO_TABLE]: 'no-table',
  [OUTCOME.NOT_ALLOCATED]: 'not-allocated',
  [OUTCOME.TOO_LARGE_BLOCK]: 'not-allocated',
  [OUTCOME.OUTSIDE_TABLE]: 'outside-table',
  [OUTCOME.DIRECT]: 'done-direct',
}

function freeCoherent(kernel: GuestKernel, args: Args): Reply<RuleOf<typeof DMA_FREE_COHERENT>> {
  const device = kernel.device(args.text('device'))
  if (device === undefined) return { rule: 'device-unknown' }
  const named = kernel.buffers.get(args.text('buffer'))
  const gpa = args.has('gpa') ? args.big('gpa') : named && BigInt(named.gpa)
  const handle = args.has('handle') ? args.big('handle') : named?.handle
  const bytes = args.has('bytes') ? args.number('bytes') : named?.bytes
  if (gpa === undefined || handle === undefined || bytes === undefined || gpa >= GPA_END) {
    return { rule: 'buffer-unknown' }
  }
  const outcome = kernel.dma.freeCoherent(device, bytes, Number(gpa), hiOf(handle), loOf(handle))
  return { rule: FREE_RULES[outcome] ?? 'done' }
}

/** Memory that arguments name: part of a buffer, or any. A text where there is none. */
function memoryOf(
  named: NamedBuffer | undefined,
  args: Args,
): SgElement | 'buffer-unknown' | 'outside-buffer' {
  if (args.has('gpa') && args.has('bytes') && args.big('gpa') < GPA_END) {
    return { gpa: args.number('gpa'), bytes: args.number('bytes') }
  }
  if (named === undefined || args.has('gpa')) return 'buffer-unknown'
  const offset = args.number('offset')
  const bytes = args.has('bytes') ? args.number('bytes') : named.bytes - offset
  if (bytes < 0 || offset + bytes > named.bytes) return 'outside-buffer'
  return { gpa: named.gpa + offset, bytes }
}

const MAP_RULES: Partial<Record<Outcome, RuleOf<typeof DMA_MAP_PAGE>>> = {
  [OUTCOME.BEYOND_MASK]: 'direct-beyond-mask',
  [OUTCOME.NO_TABLE]: 'no-table',
  [OUTCOME.NO_ENTRIES]: 'no-entries',
  [OUTCOME.SET_FAILED]: 'set-failed',
  [OUTCOME.DIRECT]: 'done-direct',
}

function mapPage(kernel: GuestKernel, args: Args): Reply<RuleOf<typeof DMA_MAP_PAGE>> {
  const device = kernel.device(args.text('device'))
  if (device === undefined) return { rule: 'device-unknown' }
  const named = kernel.buffers.get(args.text('buffer'))
  const memory = memoryOf(named, args)
  if (typeof memory === 'string') return { rule: memory }
  const { dma, buffers } = kernel
  const outcome = dma.mapPage(device, memory.gpa, memory.bytes, dirOf(args))
  const rule = MAP_RULES[outcome] ?? 'done'
  if (outcome !== OUTCOME.DONE && outcome !== OUTCOME.DIRECT) return { rule }
  const handle = wordOf(dma.handle.hi, dma.handle.lo)
  const name = args.has('as') ? args.text('as') : args.text('buffer')
  const base = args.has('as') || named === undefined ? memory : named
  if (name !== '') buffers.put(name, { ...base, handle, mappedBytes: memory.bytes })
  return { rule, outputs: { handle } }
}

const UNMAP_RULES: Partial<Record<Outcome, RuleOf<typeof DMA_UNMAP_PAGE>>> = {
  [OUTCOME.NO_TABLE]: 'no-table',
  [OUTCOME.OUTSIDE_TABLE]: 'outside-table',
  [OUTCOME.DIRECT]: 'done-direct',
}

function unmapPage(kernel: GuestKernel, args: Args): Reply<RuleOf<typeof DMA_UNMAP_PAGE>> {
  const device = kernel.device(args.text('device'))
  if (device === undefined) return { rule: 'device-unknown' }
  const named = kernel.buffers.get(args.text('buffer'))
  const handle = args.has('handle') ? args.big('handle') : named?.handle
  const bytes = args.has('bytes') ? args.number('bytes') : named?.mappedBytes
  if (handle === undefined || bytes === undefined) return { rule: 'buffer-unknown' }
  const outcome = kernel.dma.unmapPage(device, hiOf(handle), loOf(handle), bytes)
  return { rule: UNMAP_RULES[outcome] ?? 'done' }
}

const MAP_SG_RULES: Partial<Record<Outcome, RuleOf<typeof DMA_MAP_SG>>> = {
  [OUTCOME.BEYOND_MASK]: 'direct-beyond-mask',
  [OUTCOME.NO_TABLE]: 'no-table',
  [OUTCOME.NO_ENTRIES]: 'no-entries',
  [OUTCOME.SET_FAILED]: 'set-failed',
  [OUTCOME.DIRECT]: 'done-direct',
}

const segmentValues = (segments: readonly DmaSegment[]): Value =>
  segments.map(({ handle, bytes }) => ({ address: handle, bytes: BigInt(bytes) }))

function mapSg(kernel: GuestKernel, args: Args): Reply<RuleOf<typeof DMA_MAP_SG>> {
  const device = kernel.device(args.text('device'))
  if (device === undefined) return { rule: 'device-unknown' }
  const named = kernel.buffers.get(args.text('buffer'))
  if (named === undefined && args.has('buffer')) return { rule: 'buffer-unknown' }
  const given = args.list('segments')
  const isBeside = ({ address, bytes }: { address: bigint; bytes: number }) =>
    address + BigInt(bytes) > (named === undefined ? GPA_END : BigInt(named.bytes))
  if (given.some(isBeside)) return { rule: 'outside-buffer' }
  if (given.length === 0) return { rule: 'empty' }
  const elements = given.map(({ address, bytes }) => ({ gpa: (named?.gpa ?? 0) + Number(address), bytes }))
  const { outcome, count, segments } = kernel.lists.map(device, elements, dirOf(args))
  const rule = MAP_SG_RULES[outcome] ?? 'done'
  if (outcome !== OUTCOME.DONE && outcome !== OUTCOME.DIRECT) return { rule }
  const name = args.has('as') ? args.text('as') : args.text('buffer')
  const base = named ?? { gpa: elements[0]?.gpa ?? 0, bytes: elements[0]?.bytes ?? 0 }
  const [first] = segments
  if (name !== '') kernel.buffers.put(name, { ...base, segments, ...(first && { handle: first.handle }) })
  return { rule, outputs: { count: BigInt(count), segments: segmentValues(segments) } }
}

const UNMAP_SG_RULES: Partial<Record<Outcome, RuleOf<typeof DMA_UNMAP_SG>>> = {
  [OUTCOME.NO_TABLE]: 'no-table',
  [OUTCOME.OUTSIDE_TABLE]: 'outside-table',
  [OUTCOME.DIRECT]: 'done-direct',
}

function unmapSg(kernel: GuestKernel, args: Args): Reply<RuleOf<typeof DMA_UNMAP_SG>> {
  const device = kernel.device(args.text('device'))
  if (device === undefined) return { rule: 'device-unknown' }
  const given = args.list('segments').map(({ address, bytes }) => ({ handle: address, bytes }))
  const segments = args.has('segments') ? given : kernel.buffers.get(args.text('buffer'))?.segments
  if (segments === undefined) return { rule: 'buffer-unknown' }
  return { rule: UNMAP_SG_RULES[kernel.lists.unmap(device, segments)] ?? 'done' }
}

/** The calls that map and unmap memory. */
export function mappingHandlers(kernel: GuestKernel): readonly CallHandler[] {
  return [
    guestHandler(kernel, DMA_ALLOC_COHERENT, (args) => allocCoherent(kernel, args)),
    guestHandler(kernel, DMA_FREE_COHERENT, (args) => freeCoherent(kernel, args)),
    guestHandler(kernel, DMA_MAP_PAGE, (args) => mapPage(kernel, args)),
    guestHandler(kernel, DMA_UNMAP_PAGE, (args) => unmapPage(kernel, args)),
    guestHandler(kernel, DMA_MAP_SG, (args) => mapSg(kernel, args)),
    guestHandler(kernel, DMA_UNMAP_SG, (args) => unmapSg(kernel, args)),
  ]
}
