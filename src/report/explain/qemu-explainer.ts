import { hex } from '../../bits/u64.ts'
import { type FoundLine, valuesOf } from '../../reader/kernel-log/kernel-log-reader.ts'
import {
  QEMU_CONTEXT,
  QEMU_DESCRIPTOR,
  QEMU_EVENTS,
  QEMU_LINES,
  QEMU_MASKED,
  QEMU_NOT_RECORDED,
  QEMU_OVERFLOW,
  QEMU_PERMISSION,
  QEMU_PERMISSION_OLD,
  QEMU_ROOT,
  QEMU_TRANSLATION,
} from '../../reader/kernel-log/qemu-lines.ts'
import { QEMU_TRACE } from '../../reader/qemu-trace-format.ts'
import type { Because, FamilyExplainer, FaultLog, FaultWords } from './fault-log.ts'
import { bytesText } from './sizes.ts'
import { DECODE_DESCRIPTOR } from './vtd-queue-words.ts'

/** What a fault reason means; nothing where the number is none. */
export type ReasonText = (code: number) => { readonly kernelText: string; readonly doc: string } | undefined

/** A line about tables belongs to the translation failure that follows at once. */
const PAIR_LINES_MAX = 4
const READ = 1n
const WRITE = 2n
const PAGE_SHIFT = 12n
const LEVEL_BITS = 9n
const LEVELS_MAX = 5n
const ONCE =
  'QEMU prints this line once in the life of its process: it says nothing of how often it happened, and later faults of other devices leave none'

const FAULT_EVENT = 'vtd_dmar_fault'
const FAULT =
  /^vtd_dmar_fault sid 0x([0-9a-f]{1,8}) fault (\d{1,6}) addr 0x([0-9a-f]{1,16}) write ([01])\s{0,8}$/
/** What the events of a trace mean, by name. */
const EVENT_DOCS: ReadonlyMap<string, string> = new Map(QEMU_TRACE.events.map(({ name, doc }) => [name, doc]))

const two = (n: bigint | number): string => n.toString(16).padStart(2, '0')
const deviceOf = (source: number): string =>
  `${two((source >> 8) & 0xff)}:${two((source >> 3) & 31)}.${source & 7}`

/** What a walk of the emulated unit met, until the line that names the device comes. */
interface Walk {
  readonly line: FoundLine
  readonly iova: bigint | undefined
  readonly isWrite: boolean | undefined
  readonly failedAt: string
  readonly means: string
  readonly fields: FaultWords['fields']
}

/** Explains what QEMU's intel-iommu prints: on stderr, each kind of line once, and in its trace. */
export class QemuExplainer implements FamilyExplainer {
  readonly family = QEMU_LINES.id
  readonly #reason: ReasonText
  #walk: Walk | undefined

  /** @param reason what the fault reasons of VT-d mean */
  constructor(reason: ReasonText) {
    this.#reason = reason
  }

  take(line: FoundLine, log: FaultLog): void {
    const walk = walkOf(line)
    if (walk !== undefined) {
      this.end(log)
      this.#walk = walk
      return
    }
    const failed = valuesOf(QEMU_TRANSLATION, line)
    if (failed !== undefined) {
      const device = `${two(failed.bus)}:${two(failed.slot)}.${failed.function}`
      this.#translation(line, device, failed.iova, log)
      return
    }
    if (!this.#event(line, log)) this.#other(line, log)
  }

  /** A walk that no device belongs to is told of by itself. */
  end(log: FaultLog): void {
    const walk = this.#walk
    this.#walk = undefined
    if (walk === undefined) return
    log.fault({
      key: `walk ${walk.failedAt}`,
      line: walk.line,
      ...(walk.iova !== undefined && { address: walk.iova }),
      describe: () => wordsOf(undefined, walk, []),
    })
  }

  #translation(line: FoundLine, device: string, iova: bigint, log: FaultLog): void {
    let walk = this.#walk
    const belongs =
      walk !== undefined &&
      line.line - walk.line.line <= PAIR_LINES_MAX &&
      (walk.iova === undefined || walk.iova === iova)
    if (belongs) this.#walk = undefined
    else {
      this.end(log)
      walk = undefined
    }
    const said: Because[] =
      walk === undefined ? [] : [{ line: walk.line.line, text: 'QEMU says at which entry the walk ended' }]
    log.fault({
      key: `translation ${device} ${walk?.failedAt ?? ''}`,
      line,
      address: iova,
      describe: () => wordsOf(device, walk, said),
    })
  }

  /** An event of a trace: faults are told of, and of all others what they mean. */
  #event(line: FoundLine, log: FaultLog): boolean {
    const event = QEMU_EVENTS.find(({ id }) => id === line.template.id)
    if (event === undefined) return false
    const name = line.text.slice(0, line.text.indexOf(' '))
    const found = name === FAULT_EVENT ? FAULT.exec(line.text) : null
    if (found === null) {
      log.note(
        `event ${name}`,
        line,
        () => `${name}: ${EVENT_DOCS.get(name) ?? 'an event that is not declared here'}`,
      )
      log.remark(
        this.family,
        'this is a trace of QEMU, or holds one: iommulator replay judges each of its lines',
      )
      return true
    }
    const [, source = '0', reason = '0', iova = '0', write = '0'] = found
    const fault = { reason: Number(reason), iova: BigInt(`0x${iova}`), write: Number(write) }
    this.#trace(line, Number.parseInt(source, 16) & 0xffff, fault, log)
    return true
  }

  #trace(
    line: FoundLine,
    source: number,
    fault: { readonly reason: number; readonly iova: bigint; readonly write: number },
    log: FaultLog,
  ): void {
    const device = deviceOf(source)
    const access = fault.write === 0 ? 'read' : 'write'
    log.fault({
      key: `trace ${source} ${fault.reason} ${access}`,
      line,
      address: fault.iova,
      describe: () => {
        const reason = this.#reason(fault.reason)
        return {
          kind: 'dma',
          title: `DMA ${access} by ${device} was blocked by the emulated unit`,
          device,
          fields: { access, reason: fault.reason },
          rows: [
            ['reason', `0x${two(fault.reason)} ${reason?.kernelText ?? 'not declared'}`],
            ...(reason === undefined ? [] : [['means', reason.doc] as const]),
          ],
          because: log.earlier('cause', device).slice(0, 4),
          checks: [
            'iommulator replay TRACE: what led to each fault of the trace, by line',
            'the guest sees the first fault of a device only, until it frees the one fault record',
          ],
        }
      },
    })
  }

  #other(line: FoundLine, log: FaultLog): void {
    const lost = valuesOf(QEMU_NOT_RECORDED, line)
    if (lost !== undefined || valuesOf(QEMU_MASKED, line) !== undefined) {
      log.fault({
        key: lost === undefined ? 'masked' : `lost ${lost.why}`,
        line,
        describe: () => ({
          kind: 'record',
          title:
            lost === undefined
              ? 'the emulated unit recorded a fault and told nobody'
              : 'a fault left no record in the emulated unit',
          fields: { why: lost?.why ?? 'interrupt masked' },
          rows: [
            [
              'means',
              lost === undefined
                ? 'The fault interrupt is masked: no driver of the guest is there yet, or it has masked it. The log of the guest has no line of this fault.'
                : `The unit has one fault record, and it is taken (${lost.why}): the log of the guest has no line of this fault.`,
            ],
            ['how often', ONCE],
          ],
          because: [],
          checks: ['QEMU -trace vtd_dmar_fault -D FILE: every fault, by device and address'],
        }),
      })
      return
    }
    const descriptor = valuesOf(QEMU_DESCRIPTOR, line)
    if (descriptor === undefined) return
    log.fault({
      key: `descriptor ${descriptor.kind}`,
      line,
      describe: () => ({
        kind: 'queue',
        title: `the emulated unit does not take a ${descriptor.kind} descriptor`,
        fields: { descriptor: descriptor.kind },
        rows: [
          ['descriptor', descriptor.words],
          [
            'means',
            'The invalidation queue stops there (IQE): nothing behind it is done, and whoever waits for it waits on.',
          ],
          ['how often', ONCE],
        ],
        because: [],
        checks: [DECODE_DESCRIPTOR],
      }),
    })
  }
}

/** A line that says what a walk met. */
function walkOf(line: FoundLine): Walk | undefined {
  const permission = valuesOf(QEMU_PERMISSION, line) ?? valuesOf(QEMU_PERMISSION_OLD, line)
  if (permission !== undefined) return permissionWalk(line, permission)
  const wide = valuesOf(QEMU_OVERFLOW, line)
  if (wide !== undefined)
    return {
      line,
      iova: wide.iova,
      isWrite: undefined,
      failedAt: 'the address has more bits than the context entry allows',
      means: 'The address is beyond what the tables of the device can translate.',
      fields: {},
    }
  const context = valuesOf(QEMU_CONTEXT, line)
  if (context !== undefined)
    return {
      line,
      iova: undefined,
      isWrite: undefined,
      failedAt: `the context entry ${hex(context.high)} ${hex(context.low)} is not valid: ${context.why}`,
      means: 'The context entry asks for what the unit has not, or has reserved bits set.',
      fields: { high: hex(context.high), low: hex(context.low) },
    }
  const root = valuesOf(QEMU_ROOT, line)
  if (root === undefined) return undefined
  return {
    line,
    iova: undefined,
    isWrite: undefined,
    failedAt: `the root entry ${hex(root.high)} ${hex(root.low)} has reserved bits set`,
    means: 'The root entry of the bus has reserved bits set.',
    fields: { high: hex(root.high), low: hex(root.low) },
  }
}

function permissionWalk(
  line: FoundLine,
  p: { readonly iova: bigint; readonly level: bigint; readonly entry: bigint; readonly write: number },
): Walk {
  const level = p.level > LEVELS_MAX || p.level === 0n ? 1n : p.level
  const covers = bytesText(1n << (PAGE_SHIFT + LEVEL_BITS * (level - 1n)))
  const rights =
    p.entry === 0n
      ? 'is 0: nothing is mapped there'
      : `is ${hex(p.entry)}: ${(p.entry & READ) === 0n ? 'no reads' : 'reads'}, ${(p.entry & WRITE) === 0n ? 'no writes' : 'writes'}`
  return {
    line,
    iova: p.iova,
    isWrite: p.write !== 0,
    failedAt: `the entry of level ${p.level} (it covers ${covers}) ${rights}`,
    means: `The device ${p.write === 0 ? 'read' : 'wrote'} where its page tables do not allow it to.`,
    fields: { level: Number(p.level), entry: hex(p.entry), access: p.write === 0 ? 'read' : 'write' },
  }
}

function wordsOf(
  device: string | undefined,
  walk: Walk | undefined,
  because: readonly Because[],
): FaultWords {
  const access = walk?.isWrite === undefined ? 'request' : walk.isWrite ? 'write' : 'read'
  return {
    kind: 'dma',
    title: `a ${access}${device === undefined ? '' : ` by ${device}`} was blocked by the emulated unit`,
    ...(device !== undefined && { device }),
    fields: walk?.fields ?? {},
    rows: [
      [
        'means',
        walk?.means ??
          'The emulated unit did not translate a request of the device. The line before it, if there is one, says at which table.',
      ],
      ...(walk === undefined ? [] : [['failed at', walk.failedAt] as const]),
      ['how often', ONCE],
    ],
    because,
    checks: [
      'QEMU -trace vtd_dmar_fault -D FILE, or the kernel log of the guest: every fault, by device and address',
      'was the device left running by the firmware? Then it comes once, right after the guest switches translation on',
    ],
  }
}
