import type { DmaRequest } from './dma-request.ts'

/** The bus as a device sees it: what its requests go to. */
export interface DmaPort {
  /** Of the last request: bytes that reached their goal, and why the first that did not stayed behind (`DMA_FAULT`). */
  moved: number
  readonly fault: number
  /** Of `DMA_FAULT.BLOCKED`: the fault reason of the VT-d unit. */
  readonly reason?: number
  /** The bus has cut the device off: its registers read as all ones and lose what is written. */
  readonly isMmioStopped: boolean
  /** One DMA request, with its records. Answers the code that the device sees (`DMA_CODES`). */
  request(request: DmaRequest): number
}
