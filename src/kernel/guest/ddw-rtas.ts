import type { RtasPort } from '../ports.ts'
import { type Cells32, type DeviceNode, ddwExtension, PROP } from './device-tree.ts'
import type { DmaDevice } from './dma-device.ts'
import type { GuestLog } from './guest-log.ts'

const RTAS_BUSY = -2
const EXTENDED_DELAY_MIN = 9900
const EXTENDED_DELAY_MAX = 9905
/** A kernel asks for ever; the model gives up. */
const BUSY_MAX = 1000
/** Index of ibm,ddw-extensions: token of ibm,reset-pe-dma-window, outputs of the query. */
const EXT_RESET = 1
const EXT_QUERY_OUT = 2

/** Tokens of ibm,ddw-applicable. */
export interface DdwTokens {
  readonly query: number
  readonly create: number
  readonly remove: number
}

/** What ibm,query-pe-dma-windows says. */
export interface DdwQuery {
  readonly status: number
  readonly windows: number
  /** Entries of the largest window that can be made. */
  readonly largest: bigint
  /** Mask of page sizes. */
  readonly pageSizes: number
}

/** What ibm,create-pe-dma-window made. */
export interface DdwCreated {
  readonly status: number
  readonly liobn: number
  readonly base: bigint
}

const cell = (cells: Cells32, at: number): number => (cells[at] ?? 0) >>> 0

/** The tokens of a node, undefined where its firmware has no dynamic DMA windows. */
export function ddwTokens(node: DeviceNode): DdwTokens | undefined {
  const [query, create, remove] = node.cells(PROP.DDW_APPLICABLE) ?? []
  return query === undefined || create === undefined || remove === undefined
    ? undefined
    : { query, create, remove }
}

/** Whether the firmware can bring the default window back. */
export const hasReset = (node: DeviceNode): boolean => ddwExtension(node, EXT_RESET) !== undefined

/** The RTAS calls of dynamic DMA windows, as the guest kernel makes them. (LoPAR, DDW; Linux v6.1 pseries/iommu.c) */
export class DdwRtas {
  readonly #rtas: RtasPort
  readonly #log: GuestLog

  constructor(rtas: RtasPort, log: GuestLog) {
    this.#rtas = rtas
    this.#log = log
  }

  query(device: DmaDevice, node: DeviceNode, { query }: DdwTokens): DdwQuery {
    const isWide = ddwExtension(node, EXT_QUERY_OUT) === 1
    const out = this.#call(query, this.#address(device), isWide ? 6 : 5)
    const status = out[0] ?? 0
    if (isWide) {
      const largest = (BigInt(cell(out, 2)) << 32n) | BigInt(cell(out, 3))
      return { status, windows: cell(out, 1), largest, pageSizes: cell(out, 4) }
    }
    return { status, windows: cell(out, 1), largest: BigInt(cell(out, 2)), pageSizes: cell(out, 3) }
  }

  /** Asks again while the firmware is busy. */
  create(device: DmaDevice, { create }: DdwTokens, pageShift: number, windowShift: number): DdwCreated {
    const args = [...this.#address(device), pageShift, windowShift]
    let out = this.#call(create, args, 4)
    for (let i = 0; i < BUSY_MAX && isBusy(out[0] ?? 0); i++) out = this.#call(create, args, 4)
    if (isBusy(out[0] ?? 0)) this.#log.doubt('ibm,create-pe-dma-window stays busy')
    const base = (BigInt(cell(out, 2)) << 32n) | BigInt(cell(out, 3))
    return { status: out[0] ?? 0, liobn: cell(out, 1), base }
  }

  remove({ remove }: DdwTokens, liobn: number): void {
    const [status = 0] = this.#call(remove, [liobn], 1)
    if (status !== 0) this.#log.warn(`ibm,remove-pe-dma-window answered ${status}`)
  }

  /** Brings the default window back where the firmware can. */
  reset(device: DmaDevice, node: DeviceNode): void {
    const token = ddwExtension(node, EXT_RESET)
    if (token === undefined) return
    const [status = 0] = this.#call(token, this.#address(device), 1)
    if (status !== 0) this.#log.warn(`ibm,reset-pe-dma-window answered ${status}`)
  }

  #address({ configAddress, buid }: DmaDevice): number[] {
    return [configAddress, Number(buid >> 32n), Number(buid & 0xffff_ffffn)]
  }

  #call(token: number, args: readonly number[], nret: number): readonly number[] {
    const out = this.#rtas.call(token, args, nret)
    this.#log.heard(out[0] ?? 0)
    return out
  }
}

const isBusy = (status: number): boolean =>
  status === RTAS_BUSY || (status >= EXTENDED_DELAY_MIN && status <= EXTENDED_DELAY_MAX)
