import { bytesOf } from '../../../bits/byte-text.ts'

/** Bytes of a device's buffer that are used: the last ones end QEMU (Q11, Q12). */
const USABLE_BYTES = 4000

/** The buffer of one device: what it is loaded with, and behind it what it reads. */
interface Layout {
  readonly loaded: { readonly at: number; readonly data: Uint8Array }[]
  loadedBytes: number
  readBytes: number
}

const isSame = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, i) => byte === b[i])

/**
 * Where in the buffers of devices the bytes of a scenario's DMAs lie: first all that the devices write, which are
 * loaded before the first step, then all that they read, each at a place of its own.
 *
 * What is loaded must be known before anything is read: a first pass over the scenario reserves it.
 */
export class DeviceBuffers {
  readonly #layouts = new Map<string, Layout>()

  #of(device: string): Layout {
    const known = this.#layouts.get(device)
    if (known !== undefined) return known
    const fresh: Layout = { loaded: [], loadedBytes: 0, readBytes: 0 }
    this.#layouts.set(device, fresh)
    return fresh
  }

  /** Devices that are used. */
  get devices(): string[] {
    return [...this.#layouts.keys()]
  }

  /** Makes room for bytes that a device writes, as a scenario spells them. */
  reserve(device: string, text: string): void {
    const data = bytesOf(text)
    const layout = this.#of(device)
    if (layout.loaded.some((l) => isSame(l.data, data))) return
    if (layout.loadedBytes + data.length > USABLE_BYTES) return
    layout.loaded.push({ at: layout.loadedBytes, data })
    layout.loadedBytes += data.length
  }

  /** Where bytes lie that a device writes; undefined where there was no room. */
  holding(device: string, data: Uint8Array): number | undefined {
    return this.#of(device).loaded.find((l) => isSame(l.data, data))?.at
  }

  /** Where the device puts the next bytes that it reads; undefined where there is no room. */
  forRead(device: string, bytes: number): number | undefined {
    const layout = this.#of(device)
    const at = layout.loadedBytes + layout.readBytes
    if (at + bytes > USABLE_BYTES) return undefined
    layout.readBytes += bytes
    return at
  }

  /** What a device's buffer is loaded with; empty where it writes nothing. */
  loadOf(device: string): Uint8Array {
    const { loaded, loadedBytes } = this.#of(device)
    const bytes = new Uint8Array(loadedBytes)
    for (const { at, data } of loaded) bytes.set(data, at)
    return bytes
  }

  /** Bytes of a device's buffer from its start to the end of what it read; 0 where it read nothing. */
  readEnd(device: string): number {
    const { loadedBytes, readBytes } = this.#of(device)
    return readBytes === 0 ? 0 : loadedBytes + readBytes
  }
}
