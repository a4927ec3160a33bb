import type { CallHandler } from '../../bits/answer.ts'
import type { RuleOf } from '../../bits/call.ts'
import {
  ALLOC_PAGES,
  BOOT,
  DETACH_NODE,
  DMA_SET_COHERENT_MASK,
  DMA_SET_MASK,
  FREE_PAGES,
  MEMORY_OFFLINE,
  MEMORY_ONLINE,
  PROBE,
  REMOVE,
} from './calls.ts'
import { OUTCOME } from './dma-api.ts'
import type { DmaDevice } from './dma-device.ts'
import { type Args, guestHandler, type Reply } from './guest-handler.ts'
import type { GuestKernel, MaskResult } from './guest-kernel.ts'
import { mappingHandlers } from './mapping-handlers.ts'
import { NO_PAGES } from './page-allocator.ts'

const MASK_RULES = {
  'no-table': 'no-table',
  'window-above-mask': 'window-above-mask',
  'direct-limited': 'done-limited',
  direct: 'done-direct',
  table: 'done-table',
} as const satisfies Record<MaskResult, RuleOf<typeof DMA_SET_MASK>>

function maskReply(device: DmaDevice, result: MaskResult) {
  const isDirect = result === 'direct' || result === 'direct-limited'
  const outputs = { offset: isDirect ? device.dmaOffset : 0n, limit: isDirect ? device.busLimit : 0n }
  return { rule: MASK_RULES[result], outputs }
}

/** A driver's first steps: segment limits, then the masks, as dma_set_mask_and_coherent sets them. */
function probe(kernel: GuestKernel, args: Args): Reply<RuleOf<typeof PROBE>> {
  const device = kernel.device(args.text('device'))
  if (device === undefined) return { rule: 'device-unknown' }
  if (device.hasDriver) return { rule: 'driver-bound' }
  const boundary = args.big('boundary')
  const isPower = (boundary & (boundary + 1n)) === 0n
  if (!isPower) return { rule: 'boundary-odd' }
  device.boundaryMask = boundary
  device.segmentBytes = args.number('max_segment')
  const mask = args.big('mask')
  const result = kernel.setMask(device, mask)
  if (result === 'no-table' || result === 'window-above-mask') return maskReply(device, result)
  const coherent = args.has('coherent_mask') ? args.big('coherent_mask') : mask
  const second = kernel.setMask(device, coherent, true)
  if (second === 'no-table' || second === 'window-above-mask') return maskReply(device, second)
  kernel.bindDriver(device, args.has('owner') ? args.text('owner') : device.name)
  // The second mask decides anew, for both kinds of memory.
  return maskReply(device, second)
}

function setMask(kernel: GuestKernel, args: Args, isCoherent: boolean): Reply<RuleOf<typeof DMA_SET_MASK>> {
  const device = kernel.device(args.text('device'))
  if (device === undefined) return { rule: 'device-unknown' }
  return maskReply(device, kernel.setMask(device, args.big('mask'), isCoherent))
}

function allocPages(kernel: GuestKernel, args: Args): Reply<RuleOf<typeof ALLOC_PAGES>> {
  const { pages, options } = kernel
  const order = args.number('order')
  if (order > pages.maxOrder) return { rule: 'order-too-large' }
  const page = pages.alloc(order, options.stage.log.names.intern(args.text('owner')))
  if (page === NO_PAGES) return { rule: 'no-memory' }
  const pageBytes = 2 ** options.pageShift
  const gpa = page * pageBytes
  const bytes = pageBytes << order
  if (args.has('as')) kernel.buffers.put(args.text('as'), { gpa, bytes })
  return { rule: 'done', outputs: { gpa: BigInt(gpa), bytes: BigInt(bytes) }, free: ['gpa'] }
}

function freePages(kernel: GuestKernel, args: Args): Reply<RuleOf<typeof FREE_PAGES>> {
  const buffer = kernel.buffers.get(args.text('buffer'))
  if (buffer === undefined && !args.has('gpa')) return { rule: 'buffer-unknown' }
  const gpa = args.has('gpa') ? args.number('gpa') : (buffer?.gpa ?? 0)
  const pageBytes = 2 ** kernel.options.pageShift
  const page = Math.floor(gpa / pageBytes)
  const order = gpa % pageBytes === 0 ? kernel.pages.orderOf(page) : -1
  const outcome = kernel.dma.freePages(page, order === -1 ? kernel.pages.maxOrder + 1 : order)
  return { rule: outcome === OUTCOME.DONE ? 'done' : 'not-allocated' }
}

/** A range of whole pages, or undefined. */
function pagesOf(kernel: GuestKernel, args: Args): { first: number; pages: number } | undefined {
  const page = 1n << BigInt(kernel.options.pageShift)
  const [gpa, bytes] = [args.big('gpa'), args.big('bytes')]
  if (bytes === 0n || gpa % page !== 0n || bytes % page !== 0n) return undefined
  return { first: Number(gpa / page), pages: Number(bytes / page) }
}

function online(kernel: GuestKernel, args: Args): Reply<RuleOf<typeof MEMORY_ONLINE>> {
  const range = pagesOf(kernel, args)
  if (range === undefined) return { rule: 'unaligned' }
  const { first, pages } = range
  if (args.big('gpa') + args.big('bytes') > kernel.memory.maxBytes) return { rule: 'too-high' }
  if (kernel.memory.overlaps({ first, end: first + pages })) return { rule: 'already-there' }
  return { rule: kernel.online(first, pages) === 0 ? 'done' : 'window-refused' }
}

function offline(kernel: GuestKernel, args: Args): Reply<RuleOf<typeof MEMORY_OFFLINE>> {
  const range = pagesOf(kernel, args)
  if (range === undefined) return { rule: 'unaligned' }
  const { first, pages } = range
  if (!kernel.memory.covers({ first, end: first + pages })) return { rule: 'not-there' }
  return { rule: kernel.offline(first, pages) ? 'done' : 'in-use' }
}

function remove(kernel: GuestKernel, args: Args): Reply<RuleOf<typeof REMOVE>> {
  const device = kernel.device(args.text('device'))
  if (device === undefined) return { rule: 'device-unknown' }
  if (!device.hasDriver) return { rule: 'no-driver' }
  kernel.removeDriver(device)
  return { rule: 'done' }
}

function detach(kernel: GuestKernel, args: Args): Reply<RuleOf<typeof DETACH_NODE>> {
  const node = kernel.node(args.text('node'))
  if (node === undefined) return { rule: 'node-unknown' }
  kernel.detach(node)
  return { rule: 'done' }
}

function boot(kernel: GuestKernel): Reply<RuleOf<typeof BOOT>> {
  if (kernel.isBooted) return { rule: 'already-booted' }
  kernel.boot()
  return { rule: 'done', outputs: { tables: BigInt(kernel.tables.length) } }
}

/** All calls that a guest kernel answers. */
export function guestHandlers(kernel: GuestKernel): readonly CallHandler[] {
  return [
    guestHandler(kernel, BOOT, () => boot(kernel)),
    guestHandler(kernel, PROBE, (args) => probe(kernel, args)),
    guestHandler(kernel, DMA_SET_MASK, (args) => setMask(kernel, args, false)),
    guestHandler(kernel, DMA_SET_COHERENT_MASK, (args) => setMask(kernel, args, true)),
    guestHandler(kernel, REMOVE, (args) => remove(kernel, args)),
    ...mappingHandlers(kernel),
    guestHandler(kernel, ALLOC_PAGES, (args) => allocPages(kernel, args)),
    guestHandler(kernel, FREE_PAGES, (args) => freePages(kernel, args)),
    guestHandler(kernel, MEMORY_ONLINE, (args) => online(kernel, args)),
    guestHandler(kernel, MEMORY_OFFLINE, (args) => offline(kernel, args)),
    guestHandler(kernel, DETACH_NODE, (args) => detach(kernel, args)),
  ]
}
