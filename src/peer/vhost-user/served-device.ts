import type { ChainServer } from '../../hw/virtio/queue-run.ts'

/** A virtio device as a session serves it: one for each connection. */
export interface ServedDevice {
  /** Features of its kind, without those of rings and transport. */
  readonly features: bigint
  readonly queues: number
  readonly server: ChainServer
  /** Its configuration space. */
  config(): Uint8Array
  /** The guest writes to it; what it may not write stays. */
  writeConfig(offset: number, bytes: Uint8Array): void
  /** The guest took these features. */
  negotiate(features: bigint): void
}
