import { closeSync, constants, fdatasyncSync, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import { IommulatorError } from '../../bits/errors.ts'
import { type BlockStore, SECTOR_BYTES } from '../../hw/virtio/block-store.ts'
import type { Segments } from '../../hw/virtio/segments.ts'
import { C, type Libc } from './libc.ts'

type Move = (fd: number, view: Uint8Array, from: number, bytes: number, at: number) => number

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EISDIR: 'it is a directory',
  EACCES: 'its permissions do not allow it (--read-only only reads it)',
  EROFS: 'its file system is read-only (--read-only only reads it)',
}

/** Zeros for what a hole cannot be made of. */
const ZEROS = new Uint8Array(65_536)

/**
 * A disk in a file. Bytes go straight between the file and the memory of the guest. Discarded sectors become a hole of
 * the file where its file system has holes, and stay as they are elsewhere.
 */
export class FileStore implements BlockStore {
  readonly sectors: number
  /** Bytes at the end of the file that are no whole sector: the guest does not see them. */
  readonly restBytes: number
  readonly #fd: number

  readonly #libc: Libc

  private constructor(libc: Libc, fd: number, bytes: number) {
    this.#libc = libc
    this.#fd = fd
    this.sectors = Math.floor(bytes / SECTOR_BYTES)
    this.restBytes = bytes % SECTOR_BYTES
  }

  /** @throws IommulatorError ERR_INPUT where the file is none that can be a disk */
  static open(libc: Libc, path: string, isReadOnly: boolean): FileStore {
    let fd: number
    try {
      fd = openSync(path, isReadOnly ? constants.O_RDONLY : constants.O_RDWR)
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      const why = REASONS[code ?? ''] ?? message
      throw new IommulatorError('ERR_INPUT', `cannot open the disk ${path}: ${why}`, { file: path }, error)
    }
    const stat = fstatSync(fd)
    if (!stat.isFile() || stat.size < SECTOR_BYTES) {
      closeSync(fd)
      const why = stat.isFile() ? `it has ${stat.size} bytes, less than a sector` : 'it is no file'
      throw new IommulatorError('ERR_INPUT', `cannot use ${path} as a disk: ${why}`, { file: path })
    }
    return new FileStore(libc, fd, stat.size)
  }

  read(sector: number, sectors: number, segments: Segments): boolean {
    return this.#move(sector, sectors, segments, readSync)
  }

  write(sector: number, sectors: number, segments: Segments): boolean {
    return this.#move(sector, sectors, segments, writeSync)
  }

  flush(): boolean {
    return succeeds(() => fdatasyncSync(this.#fd))
  }

  discard(sector: number, sectors: number): boolean {
    this.#punch(sector, sectors)
    return true
  }

  writeZeroes(sector: number, sectors: number, mayUnmap: boolean): boolean {
    if (mayUnmap && this.#punch(sector, sectors)) return true
    return succeeds(() => {
      const end = (sector + sectors) * SECTOR_BYTES
      for (let at = sector * SECTOR_BYTES; at < end; ) {
        at += writeSync(this.#fd, ZEROS, 0, Math.min(ZEROS.length, end - at), at)
      }
    })
  }

  close(): void {
    closeSync(this.#fd)
  }

  #punch(sector: number, sectors: number): boolean {
    const mode = C.FALLOC_FL_PUNCH_HOLE | C.FALLOC_FL_KEEP_SIZE
    return this.#libc.fallocate(this.#fd, mode, sector * SECTOR_BYTES, sectors * SECTOR_BYTES) === 0
  }

  #move(sector: number, sectors: number, segments: Segments, move: Move): boolean {
    return succeeds(() => {
      let at = sector * SECTOR_BYTES
      let left = sectors * SECTOR_BYTES
      for (let i = 0; left > 0; i++) {
        const view = segments.views[i] as Uint8Array
        let from = segments.starts[i] as number
        let part = Math.min(left, segments.lengths[i] as number)
        left -= part
        while (part > 0) {
          const moved = move(this.#fd, view, from, part, at)
          // The file became shorter than the disk.
          if (moved === 0) throw new RangeError('end of file')
          from += moved
          at += moved
          part -= moved
        }
      }
    })
  }
}

/** An I/O error is the guest's to handle: it reads it in the status of its request. */
function succeeds(act: () => void): boolean {
  try {
    act()
    return true
  } catch {
    return false
  }
}
