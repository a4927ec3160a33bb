import { agentCommandOf } from '../../../reader/kernel-answers-line.ts'
import type { AgentScript } from '../agent-script.ts'
import type { RandomGroup } from '../random-script.ts'
import { pokeCommands } from './kernel-process-steps.ts'

/** Where the process that loads a device has its page, and where on the bus. */
const STAGE = 0x2_0000_0000n
const STAGE_BYTES = 0x1_0000n
/** Bytes that a line shows. */
const PEEK_BYTES = 1024

const word = (device: string): string => device.replaceAll(/[^\w.-]/g, '.')

/** What the process is called that shows the buffer of a device. */
export const dumpName = (device: string): string => `show-${word(device)}`

/** Opens a device whose DMA reaches a page of the process at bus address 0. */
const opened = ({ group, device }: RandomGroup, bytes: Uint8Array): AgentScript['commands'] => [
  agentCommandOf('open', { slot: 0 }),
  agentCommandOf('group', { group }),
  agentCommandOf('attach', { group }),
  agentCommandOf('iommu', { type: 7 }),
  agentCommandOf('anon', { vaddr: STAGE, bytes: STAGE_BYTES }),
  ...pokeCommands(STAGE, bytes),
  agentCommandOf('register', { vaddr: STAGE, bytes: STAGE_BYTES }),
  agentCommandOf('map', { iova: 0, vaddr: STAGE, bytes: STAGE_BYTES }),
  agentCommandOf('device', { group, name: device }),
]

/** A process that fills the buffer of a device; none where nothing is needed. */
export const loadScript = (on: RandomGroup, bytes: Uint8Array): AgentScript[] => {
  if (bytes.length === 0) return []
  const dma = agentCommandOf('dma', { direction: 'r', iova: 0, bytes: bytes.length })
  return [{ name: `load-${word(on.device)}`, commands: [...opened(on, bytes), dma] }]
}

/** A process that shows the buffer of a device up to a byte; none where nothing was read. */
export const dumpScript = (on: RandomGroup, end: number): AgentScript[] => {
  if (end === 0) return []
  const dma = agentCommandOf('dma', { direction: 'w', iova: 0, bytes: end })
  const peeks = Array.from({ length: Math.ceil(end / PEEK_BYTES) }, (_, i) =>
    agentCommandOf('peek', {
      vaddr: STAGE + BigInt(i * PEEK_BYTES),
      bytes: Math.min(PEEK_BYTES, end - i * PEEK_BYTES),
    }),
  )
  return [{ name: dumpName(on.device), commands: [...opened(on, new Uint8Array(0)), dma, ...peeks] }]
}
