import { H_CODES } from '../../bits/codes.ts'
import { hex } from '../../bits/u64.ts'
import { type FoundLine, valuesOf } from '../../reader/kernel-log/kernel-log-reader.ts'
import {
  POWERPC_LINES,
  PPC_ALLOC_FAILED,
  PPC_ALLOC_FAILED_OLD,
  PPC_BYPASS,
  PPC_CREATED,
  PPC_DISABLED,
  PPC_LIMITED,
  PPC_NO_BYPASS,
  PPC_OFFSET,
  PPC_OFFSET_OF,
  PPC_PUT_FAILED,
  PPC_QUERIED,
  PPC_TABLE,
  PPC_WINDOW,
  PPC_WINDOW_FAILED,
} from '../../reader/kernel-log/powerpc-lines.ts'
import { WINDOWS_MAX, windowsTopic } from './eeh-words.ts'
import type { FamilyExplainer, FaultLog } from './fault-log.ts'
import { shortDevice } from './machine-facts.ts'
import { bytesText } from './sizes.ts'

/** Address of a bus as the kernel prints it before an endpoint: `0001:08`, behind it blanks. */
const BUS = /^([0-9a-f]{4}):([0-9a-f]{2})/
/** Runs of more entries than this come from a pool of their own (Linux arch/powerpc/kernel/iommu.c). */
const SMALL_ENTRIES_MAX = 15
/** Windows that are told of as facts of the machine: one of many endpoints has many. */
const WINDOWS_TOLD_MAX = 8
/** The function that writes lists of entries; its line says plpar_tce_put as well. (Linux pseries/iommu.c) */
const LISTS = 'tce_buildmulti_pSeriesLP'
const RC = /rc ?= ?(-?\d{1,10})/

const busTopic = (device: string): string => `window-of ${device.slice(0, device.lastIndexOf(':'))}`

function codeName(rc: number): string {
  const known = Object.entries(H_CODES).find(([, code]) => code === rc)
  return known === undefined ? String(rc) : `${known[0]} (${rc})`
}

/** Explains lines of DMA windows and TCE tables of POWER. */
export class PowerpcExplainer implements FamilyExplainer {
  readonly family = POWERPC_LINES.id
  #windows = 0

  take(line: FoundLine, log: FaultLog): void {
    if (this.#window(line, log) || this.#dynamic(line, log)) return
    this.#failure(line, log)
  }

  /** Windows of PowerNV, by endpoint and by bus: freezes and failed mappings tell of them. */
  #window(line: FoundLine, log: FaultLog): boolean {
    const window = valuesOf(PPC_WINDOW, line)
    if (window !== undefined) {
      const pages = (window.last - window.first + 1n) / (window.page === 0n ? 1n : window.page)
      const text = `window ${window.window}: ${hex(window.first)}-${hex(window.last)}, ${pages} pages of ${bytesText(window.page)}`
      this.#keep(line, window.bus, window.pe, text, log)
      return true
    }
    const bypass = valuesOf(PPC_BYPASS, line)
    if (bypass !== undefined) {
      this.#keep(
        line,
        bypass.bus,
        bypass.pe,
        '64-bit bypass: bus addresses with bit 59 reach memory directly',
        log,
      )
      return true
    }
    const none = valuesOf(PPC_NO_BYPASS, line)
    if (none !== undefined) {
      this.#keep(
        line,
        none.bus,
        none.pe,
        'the bypass was taken away: VFIO has the endpoint, or its devices were removed',
        log,
      )
      return true
    }
    const table = valuesOf(PPC_TABLE, line)
    if (table !== undefined) {
      this.#keep(
        line,
        table.bus,
        table.pe,
        `32-bit addresses: ${hex(table.first)}-${hex(table.last - 1n)}`,
        log,
      )
      return true
    }
    return false
  }

  #keep(line: FoundLine, bus: string, pe: bigint, text: string, log: FaultLog): void {
    const found = BUS.exec(bus)
    if (found === null) return
    const [, domain = '0', number = '0'] = found
    log.remember(windowsTopic(BigInt(`0x${domain}`), pe), line, text)
    if (this.#windows < WINDOWS_TOLD_MAX)
      log.fact(`window ${this.#windows++}`, line, `PE#${pe.toString(16)} of bus ${domain}:${number}: ${text}`)
    log.remember(`window-of ${shortDevice(`${domain}:${number}:`)}`.replace(/:$/, ''), line, text)
  }

  /** Dynamic windows of a pseries guest. */
  #dynamic(line: FoundLine, log: FaultLog): boolean {
    const created = valuesOf(PPC_CREATED, line)
    if (created !== undefined) {
      const device = shortDevice(created.device)
      const window = `2^${Number(created.windowShift)} bytes of ${bytesText(1n << (created.pageShift & 63n))} pages`
      if (created.status === 0) {
        const start = (created.high << 32n) | created.low
        log.remember('cause', line, `window ${hex(created.liobn)}: ${window} from ${hex(start)}`, device)
        return true
      }
      log.fault({
        key: `window ${device}`,
        line,
        describe: () => ({
          kind: 'window',
          title: `${device} got no dynamic window`,
          device,
          fields: { status: created.status },
          rows: [
            ['asked', window],
            ['answer', `ibm,create-pe-dma-window returned ${created.status}`],
            [
              'means',
              'The device goes on with the default window, which is small: 32-bit addresses, mapped page by page.',
            ],
          ],
          because: log.earlier('cause', device).slice(0, 4),
          checks: [
            'did the host bridge offer this page size, and so many entries? The line of ibm,query-pe-dma-windows tells',
          ],
        }),
      })
      return true
    }
    const queried = valuesOf(PPC_QUERIED, line)
    if (queried !== undefined) {
      log.remember(
        'cause',
        line,
        `ibm,query-pe-dma-windows returned ${queried.answer}`,
        shortDevice(queried.device),
      )
      return true
    }
    if (valuesOf(PPC_DISABLED, line) === undefined) return false
    log.fact('ppc-no-ddw', line, 'dynamic windows are switched off (disable_ddw)')
    return true
  }

  #failure(line: FoundLine, log: FaultLog): void {
    const failed = valuesOf(PPC_ALLOC_FAILED, line)
    const old = valuesOf(PPC_ALLOC_FAILED_OLD, line)
    if (failed !== undefined || old !== undefined) {
      this.#full(line, log, failed?.device, failed?.driver, failed?.pages, old?.pages)
      return
    }
    const offset = valuesOf(PPC_OFFSET_OF, line)
    if (offset !== undefined || valuesOf(PPC_OFFSET, line) !== undefined) {
      const device = offset === undefined ? undefined : shortDevice(offset.device)
      log.fault({
        key: `offset ${device ?? ''}`,
        line,
        describe: () => ({
          kind: 'mask',
          title: `${device ?? 'a device'} cannot reach its DMA window`,
          ...(device !== undefined && { device }),
          fields: {},
          rows: [
            [
              'means',
              'The window begins above all addresses of the DMA mask that the driver asks for: dma_set_mask() fails.',
            ],
          ],
          because: device === undefined ? [] : log.earlier('cause', device).slice(0, 4),
          checks: [
            'which mask does the driver ask for, and where does its window begin? The next line of the kernel has both',
          ],
        }),
      })
      return
    }
    const put = valuesOf(PPC_PUT_FAILED, line)
    if (put !== undefined) {
      const rc = Number(RC.exec(put.more)?.[1] ?? Number.NaN)
      const what = line.text.slice(0, line.text.indexOf(':'))
      log.fault({
        key: `put ${what} ${rc}`,
        line,
        describe: () => ({
          kind: 'tce',
          title: 'the hypervisor refused entries of a TCE table',
          fields: { function: what, status: Number.isNaN(rc) ? null : rc },
          rows: [
            [
              'call',
              `${what}: ${put.call === 'stuff' ? 'H_STUFF_TCE' : what === LISTS ? 'H_PUT_TCE_INDIRECT' : 'H_PUT_TCE'}`,
            ],
            ['answer', Number.isNaN(rc) ? 'not in the line' : codeName(rc)],
            [
              'means',
              'The table and what the kernel believes of it now differ. The next lines have the window (index), and the entry (tcenum) or how many were left (npages).',
            ],
          ],
          because: [],
          checks: [
            'H_PARAMETER: is the entry inside the window, and the window still there? A window that was removed, or a kernel that was started by another (kexec), leads here',
          ],
        }),
      })
      return
    }
    const limited = valuesOf(PPC_LIMITED, line)
    if (limited !== undefined) {
      const text = `direct DMA reaches up to ${hex(limited.limit)}; memory beyond is mapped page by page`
      log.remember('cause', line, text, shortDevice(limited.device))
      return
    }
    const broken = valuesOf(PPC_WINDOW_FAILED, line)
    if (broken !== undefined) {
      log.fault({
        key: `window ${broken.bus}`,
        line,
        describe: () => ({
          kind: 'window',
          title: `the firmware refused a window of PE#${broken.pe.toString(16)}, bus ${broken.bus.trim()}`,
          fields: { error: broken.error },
          rows: [['answer', `OPAL returned ${broken.error}`]],
          because: [],
          checks: ['which window was asked for? The line before it has its range and page size'],
        }),
      })
    }
  }

  #full(
    line: FoundLine,
    log: FaultLog,
    named: string | undefined,
    driver: string | undefined,
    pages: number | undefined,
    oldPages: bigint | undefined,
  ): void {
    const device = named === undefined ? undefined : shortDevice(named)
    const asked =
      pages === undefined
        ? `${oldPages?.toString(16)} entries in a row: hexadecimal if it was a scatter list, decimal if a single buffer`
        : `${pages} entries in a row`
    if (device !== undefined) log.remember('cause', line, `no room for a mapping of ${asked}`, device)
    const windows =
      named === undefined
        ? []
        : log
            .earlier(busTopic(shortDevice(named)))
            .slice(0, WINDOWS_MAX)
            .reverse()
    log.fault({
      key: `full ${device ?? ''} ${pages ?? oldPages}`,
      line,
      describe: () => ({
        kind: 'map',
        title: `no room for a DMA mapping${device === undefined ? '' : ` of ${device}`}`,
        ...(device !== undefined && { device }),
        fields: { entries: pages ?? null, driver: driver ?? null },
        rows: [
          ['asked', asked],
          [
            'means',
            `The window has no run of so many free entries: the driver got an error.${
              (pages ?? 0) > SMALL_ENTRIES_MAX
                ? ' Runs of more than 15 entries look in a pool of their own first.'
                : ''
            }`,
          ],
          ...windows.map((window) => ['window', `${window.text} (line ${window.line})`] as const),
        ],
        because: device === undefined ? [] : log.earlier('cause', device).slice(1, 5),
        checks: [
          'does the driver unmap what it maps? cat /sys/kernel/debug/iommu/*/weight (CONFIG_IOMMU_DEBUGFS) counts entries in use: one that only grows leaks',
          'is the device on the default window though it could have a 64-bit one? Its DMA mask, disable_ddw and the lines of ibm,create-pe-dma-window tell',
        ],
      }),
    })
  }
}
