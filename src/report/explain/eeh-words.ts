import type { FoundLine } from '../../reader/kernel-log/kernel-log-reader.ts'
import type { Because, FaultLog, FaultWords } from './fault-log.ts'

const DEVICES_MAX = 8
const STEPS_MAX = 8
/** Lines about the windows of an endpoint that are shown: the latest. */
export const WINDOWS_MAX = 4
/** Functions of the kernel that look, and not who made them look. */
const LOOKERS = /^(?:__)?(?:eeh_|ioread|in_[lb]e|read[bwlq]|pci_read|pnv_pci|rtas_pci)/
const PLACES = /\+0x[0-9a-f]{1,8}\/0x[0-9a-f]{1,8}.*$/

/** Topic of what is known of the windows of an endpoint. */
export const windowsTopic = (phb: bigint | number, pe: bigint | number): string =>
  `windows ${phb.toString(16)}-${pe.toString(16)}`

/** One freeze, from the line that tells of it to its outcome. */
export class EehEvent {
  readonly line: FoundLine
  readonly phb: bigint
  readonly pe: bigint | undefined
  readonly state: 'frozen' | 'fenced' | 'dead' | 'failed'
  readonly devices: string[] = []
  readonly steps: Because[] = []
  isFrozen = false
  isRecovering = false
  location: string | undefined
  driver: string | undefined
  times = 0
  most = 0
  outcome: string | undefined
  /** Who read from the endpoint. */
  reader: Because | undefined

  constructor(line: FoundLine, phb: bigint, pe: bigint | undefined, state?: EehEvent['state']) {
    this.line = line
    this.phb = phb
    this.pe = pe
    this.state = state ?? 'frozen'
  }

  get name(): string {
    const phb = `PHB#${this.phb.toString(16)}`
    return this.pe === undefined ? phb : `${phb}-PE#${this.pe.toString(16)}`
  }

  get key(): string {
    return `${this.state} ${this.name}`
  }

  isOf(phb: bigint, pe: bigint | undefined): boolean {
    return this.phb === phb && this.pe === pe && this.outcome === undefined
  }

  called(place: string, line: number): void {
    const name = place.replace(PLACES, '')
    if (this.reader === undefined && !LOOKERS.test(name)) this.reader = { line, text: name }
  }

  named(device: string, driver: string | undefined, line: number): void {
    if (this.devices.includes(device) || this.devices.length >= DEVICES_MAX) return
    this.devices.push(device)
    this.driver ??= driver
    const by = driver === undefined ? '' : `, driver ${driver}`
    this.steps.push({ line, text: `${device} is behind it${by}` })
  }

  answered(answer: string, line: number): void {
    if (this.steps.length < STEPS_MAX) this.steps.push({ line, text: `its driver reports ${answer}` })
  }
}

const WHAT: Readonly<Record<EehEvent['state'], string>> = {
  frozen:
    'The host bridge met an error of a device behind it, and stopped all DMA and MMIO of the endpoint: reads answer all ones. DMA to a bus address without an entry in the TCE table is one such error; others are of the link or the device.',
  fenced:
    'The host bridge met an error of no single device, and fenced itself off: nothing behind it can be reached.',
  failed: 'The host bridge as a whole has stopped: nothing behind it can be reached.',
  dead: 'The host bridge cannot be brought back: its devices are gone until the machine starts anew.',
}

/** What is said of a freeze. */
export function eehWords(event: EehEvent, log: FaultLog): FaultWords {
  const { name, state, pe, phb, devices, driver, times, most } = event
  const [device] = devices
  const who =
    device === undefined ? '' : ` (${devices.join(', ')}${driver === undefined ? '' : `, ${driver}`})`
  const windows = pe === undefined ? [] : log.earlier(windowsTopic(phb, pe)).slice(0, WINDOWS_MAX).reverse()
  const { reader } = event
  const before = log.earlier(`eeh ${event.key}`)
  return {
    kind: state === 'frozen' ? 'frozen' : 'host-bridge',
    title: `${name}${who} ${state === 'frozen' ? 'was frozen' : state === 'fenced' ? 'was fenced off' : state === 'dead' ? 'is dead' : 'has stopped'}`,
    ...(device !== undefined && { device }),
    fields: {
      phb: Number(phb),
      pe: pe === undefined ? null : Number(pe),
      state,
      devices: devices.join(' '),
      driver: driver ?? null,
      timesInHour: times === 0 ? null : times,
      location: event.location ?? null,
      outcome: event.outcome ?? null,
    },
    rows: [
      ['means', WHAT[state]],
      ...(event.location === undefined || event.location === 'N/A'
        ? []
        : [['where', event.location] as const]),
      ...(reader === undefined
        ? []
        : [
            [
              'noticed',
              `${reader.text} read all ones (line ${reader.line}); the error itself came earlier`,
            ] as const,
          ]),
      ...(times === 0
        ? []
        : [
            [
              'how often',
              `${times === 1 ? 'once' : `${times} times`} in the last hour${most === 0 ? '' : `, given up after ${most}`}`,
            ] as const,
          ]),
      ...windows.map(({ line, text }) => ['window', `${text} (line ${line})`] as const),
      ['outcome', event.outcome ?? 'not in the log'],
    ],
    because: [
      ...devices.flatMap((one) => log.earlier('cause', one).slice(0, 4)),
      ...before.slice(0, 2),
      ...event.steps,
    ],
    checks: [
      windows.length > 0
        ? 'was the address of the DMA inside the windows above, and mapped? Neither this log nor EEH names the address: the diagnostic data of the host bridge does (opal-prd, errl, or the lines behind "Diag-data")'
        : 'which address did the device use? Neither this log nor EEH names it: the diagnostic data of the host bridge does (opal-prd, errl, or the lines behind "Diag-data")',
      'record iommu:map and iommu:unmap, or switch on CONFIG_DMA_API_DEBUG: a buffer that was unmapped while the device used it freezes the endpoint',
      ...(device === undefined ? [] : [`lspci -vvs ${device}: errors of the link (AER) that came with it`]),
    ],
  }
}
