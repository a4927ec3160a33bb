import { Journal } from '../../bits/state.ts'
import type { BlockStore } from '../../hw/virtio/block-store.ts'
import { VirtioBlk } from '../../hw/virtio/virtio-blk.ts'
import type { ServedDevice } from './served-device.ts'

/** Sees the requests of a disk. */
export interface DiskWatcher {
  /** A request is about to be carried out. */
  onDiskChain(): void
  /** It was answered. @param chainBytes bytes of its buffers, header and status among them */
  onDiskRequest(blk: VirtioBlk, chainBytes: number): void
}

export interface BlkDeviceOptions {
  readonly store: BlockStore
  readonly isReadOnly?: boolean
  readonly queues?: number
  readonly watcher?: DiskWatcher
}

/** 32 MiB: where a file has no holes, zeros are written, and nothing else is done meanwhile. */
const DISCARD_SECTORS_MAX = 65_536

/** What the disk says its serial number is. */
export const DISK_ID = 'iommulator'

/** A virtio disk for a session. */
export function blkDevice({
  store,
  isReadOnly = false,
  queues = 1,
  watcher,
}: BlkDeviceOptions): ServedDevice {
  const blk = new VirtioBlk({
    name: 'vhost-user-blk',
    store,
    journal: new Journal(),
    isReadOnly,
    queues,
    id: DISK_ID,
    discardSectorsMax: DISCARD_SECTORS_MAX,
  })
  return {
    features: blk.features,
    queues,
    server: {
      serve: (chain) => {
        const chainBytes = chain.readable.bytes + chain.writable.bytes
        watcher?.onDiskChain()
        const written = blk.serve(chain)
        if (written >= 0) watcher?.onDiskRequest(blk, chainBytes)
        return written
      },
    },
    config: () => blk.config,
    writeConfig: (offset, bytes) => blk.writeConfig(offset, bytes),
    negotiate: (features) => blk.negotiate(features),
  }
}
