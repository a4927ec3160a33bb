import type { Value } from '../../../src/bits/answer.ts'
import type { Verb } from '../../../src/bits/call.ts'
import type { Prng } from '../../../src/bits/prng.ts'
import { encodeStruct, type StructDecl } from '../../../src/kernel/user-struct.ts'
import { SPAPR_CALLS } from '../../../src/kernel/vfio/spapr-calls.ts'
import { STRUCTS } from '../../../src/kernel/vfio/structs.ts'
import type { Operation } from '../../../src/machine/operation.ts'
import { isMsi, type NaiveHost } from './naive-host.ts'
import type {
  NaiveContainer,
  NaiveDriver,
  NaiveFile,
  NaiveGroup,
  NaiveProcess,
  NaiveWindow,
} from './naive-parts.ts'

/** An operation, and what it comes to where it is an ioctl by number over a structure in memory. */
export interface LegalStep {
  readonly op: Operation
  readonly meaning?: Operation
}

export interface LegalOptions {
  /** Whether v1 containers take groups with tables of the kernel (before Linux 6.4). */
  readonly lendsTables: boolean
}

type Args = Record<string, Value>

const ARENA = 0x1_0000_0000n
const ARENA_PAGES = 320
const HUGE_ARENA = 0x4_0000_0000n
/** Where structures are laid for ioctls by number; nobody else looks there. */
const SCRATCH = 0x5000_0000n
const CONTAINERS_MAX = 5
const PROCESSES_ALIVE_MAX = 5
const MIB = 1n << 20n

const STRUCT_OF: Readonly<Record<string, StructDecl>> = {
  VFIO_IOMMU_MAP_DMA: STRUCTS.map,
  VFIO_IOMMU_UNMAP_DMA: STRUCTS.unmap,
  VFIO_IOMMU_SPAPR_REGISTER_MEMORY: STRUCTS.memory,
  VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY: STRUCTS.memory,
  VFIO_IOMMU_SPAPR_TCE_CREATE: STRUCTS.create,
  VFIO_IOMMU_SPAPR_TCE_REMOVE: STRUCTS.remove,
}

const hexOf = (bytes: Uint8Array): string => `hex:${Buffer.from(bytes).toString('hex')}`

/**
 * Seeded operations that software of a POWER host may do: sensible ones mostly, with calls that are refused among
 * them. It looks at the naive host to find interesting states; devices only do what they are allowed.
 */
export class LegalOperations {
  readonly #prng: Prng
  readonly #host: NaiveHost
  readonly #options: LegalOptions
  readonly #queue: LegalStep[] = []
  #children = 0
  #maps = 0
  #writes = 0

  constructor(prng: Prng, host: NaiveHost, options: LegalOptions) {
    this.#prng = prng
    this.#host = host
    this.#options = options
  }

  next(): LegalStep {
    const queued = this.#queue.shift()
    if (queued !== undefined) return queued
    for (;;) {
      const process = this.#process()
      const kind = this.#prng.below(100)
      const step =
        kind < 14
          ? this.#progress(process)
          : kind < 40
            ? this.#mapping(process)
            : kind < 52
              ? this.#registration(process)
              : kind < 60
                ? this.#window(process)
                : kind < 76
                  ? this.#dma()
                  : kind < 88
                    ? this.#memory(process)
                    : this.#rest(process)
      if (step !== undefined) return this.#raw(step, process)
    }
  }

  #oneIn(n: number): boolean {
    return this.#prng.oneIn(n)
  }

  #process(): NaiveProcess {
    const alive = [...this.#host.processes.values()].filter((p) => p.isAlive)
    const [first] = alive
    if (first === undefined) throw new Error('no process is left')
    return this.#oneIn(3) ? this.#prng.pick(alive) : first
  }

  #step(process: NaiveProcess, verb: Verb, call: string, args: Args): LegalStep {
    return { op: { verb, call, args, by: { process: process.name } } }
  }

  #ioctl(process: NaiveProcess, call: string, fd: bigint, args: Args = {}): LegalStep {
    return this.#step(process, 'ioctl', call, { fd, ...args })
  }

  /** Some structures are laid into memory, and the ioctl is made by number. */
  #raw(step: LegalStep, process: NaiveProcess): LegalStep {
    const { op } = step
    const decl = STRUCT_OF[op.call]
    if (op.verb !== 'ioctl' || decl === undefined || !this.#oneIn(8)) return step
    const nr = SPAPR_CALLS.find((c) => c.name === op.call)?.nr ?? 0
    const { fd = 0n, ...members } = op.args as Record<string, bigint>
    const whole = {
      argsz: BigInt(decl.bytes),
      ...(op.call === 'VFIO_IOMMU_MAP_DMA' && { flags: 3n }),
      ...members,
    }
    const cmd = BigInt(this.#oneIn(2) ? nr : nr - 0x2000_0000)
    this.#queue.push(
      this.#step(process, 'mem', 'write', {
        space: 'ua',
        address: SCRATCH,
        data: hexOf(encodeStruct(decl, whole)),
      }),
      { ...this.#ioctl(process, 'ioctl', fd, { cmd, arg: SCRATCH }), meaning: op },
    )
    return this.#step(process, 'proc', 'mmap', {
      address: SCRATCH,
      bytes: 1n,
      read: true,
      write: true,
      fixed: true,
    })
  }

  #files(process: NaiveProcess): { fd: bigint; file: NaiveFile }[] {
    return process.fds.flatMap((file, i) => (file === null ? [] : [{ fd: BigInt(i + 3), file }]))
  }

  #containers(process: NaiveProcess): { fd: bigint; container: NaiveContainer }[] {
    return this.#files(process).flatMap(({ fd, file: { target } }) =>
      target.kind === 'container' ? [{ fd, container: target }] : [],
    )
  }

  /** A container of the process, one with a driver mostly; now and then a descriptor of something else. */
  #driver(
    process: NaiveProcess,
    isWanted: (driver: NaiveDriver) => boolean = () => true,
  ): { fd: bigint; driver: NaiveDriver | null } | undefined {
    if (this.#oneIn(60)) {
      const others = this.#files(process).filter(({ file }) => file.target.kind !== 'device')
      return { fd: others.length > 0 && this.#oneIn(2) ? this.#prng.pick(others).fd : 77n, driver: null }
    }
    const all = this.#containers(process)
    const ready = all.filter(({ container: { driver } }) => {
      const isOwn = driver !== null && (driver.mm === null || driver.mm === process)
      return isOwn && (isWanted(driver) || this.#oneIn(20))
    })
    const from = ready.length > 0 && !this.#oneIn(25) ? ready : this.#oneIn(10) ? all : []
    if (from.length === 0) return undefined
    const { fd, container } = this.#prng.pick(from)
    return { fd, driver: container.driver }
  }

  /** The next thing to do for a process that wants to give devices away. */
  #progress(process: NaiveProcess): LegalStep | undefined {
    const files = this.#files(process)
    const containers = this.#containers(process)
    if (containers.length === 0 || (containers.length < 3 && this.#oneIn(6)))
      return this.#step(process, 'proc', 'open', { path: '/dev/vfio/vfio' })
    const closed = this.#host.groups.filter((g) => g.file === null)
    if (closed.length > 0 && this.#oneIn(3))
      return this.#step(process, 'proc', 'open', { path: `/dev/vfio/${this.#prng.pick(closed).number}` })
    const idle = files.filter(({ file: { target } }) => {
      if (target.kind !== 'group' || target.group.container !== null) return false
      return !target.group.hasKernelDriver || this.#oneIn(40)
    })
    if (idle.length > 0) {
      const one = this.#prng.pick(idle)
      const { fd, container } = this.#prng.pick(containers)
      const { target } = one.file
      if (this.#oneIn(20))
        return this.#ioctl(process, 'VFIO_GROUP_SET_CONTAINER', one.fd, { container: one.fd })
      if (target.kind === 'group' && this.#fits(container, target.group))
        return this.#ioctl(process, 'VFIO_GROUP_SET_CONTAINER', one.fd, { container: fd })
    }
    const { fd, container } = this.#prng.pick(containers)
    const isLent = container.groups.some((g) => g.platform === 'P7IOC') && !this.#options.lendsTables
    if (isLent && !this.#oneIn(10)) return undefined
    if (container.groups.length > 0 && container.driver === null)
      return this.#setIommu(process, fd, container)
    if (container.driver !== null && !container.driver.isEnabled) {
      return container.driver.isV2
        ? this.#register(process, fd)
        : this.#ioctl(process, 'VFIO_IOMMU_ENABLE', fd)
    }
    return undefined
  }

  /** Groups of one container share their page sizes: what else firmware says is not known. */
  #fits({ groups, driver }: NaiveContainer, group: NaiveGroup): boolean {
    if (group.platform === 'P7IOC') return this.#oneIn(driver !== null ? 4 : 20)
    return groups.every((g) => g.platform === 'P7IOC' || String(g.shifts) === String(group.shifts))
  }

  #setIommu(process: NaiveProcess, fd: bigint, { groups }: NaiveContainer): LegalStep {
    const isLent = groups[0]?.platform === 'P7IOC'
    const type = this.#oneIn(40) ? 3n : this.#oneIn(6) ? 2n : 7n
    const asked = isLent && !this.#options.lendsTables && type === 2n ? 7n : type
    return this.#ioctl(process, 'VFIO_SET_IOMMU', fd, { type: asked })
  }

  #pageBytes(): bigint {
    return BigInt(this.#host.pageBytes)
  }

  /** A user address, of a region mostly, and how much there is from it on. */
  #userRange(process: NaiveProcess): { vaddr: bigint; bytes: bigint } {
    const page = this.#pageBytes()
    const regions = this.#host.drivers.regions.filter((r) => r.mm === process)
    if (regions.length > 0 && !this.#oneIn(8)) {
      const r = this.#prng.pick(regions)
      const into = this.#prng.below(r.pages)
      return { vaddr: BigInt(r.page + into) * page, bytes: BigInt(r.pages - into) * page }
    }
    return {
      vaddr: ARENA + BigInt(this.#prng.below(ARENA_PAGES)) * page,
      bytes: BigInt(1 + this.#prng.below(16)) * page,
    }
  }

  #iova(window: NaiveWindow | null | undefined, bytes: bigint): bigint {
    if (window === null || window === undefined) {
      return this.#prng.pick([0n, 0x10000n, 1n << 59n, 1n << 40n, (1n << 64n) - 0x1000n])
    }
    const unit = 1n << BigInt(window.shift)
    const end = window.start + window.entries * unit
    if (this.#oneIn(12)) return end - BigInt(this.#prng.below(3)) * unit
    if (this.#oneIn(40)) return window.start + BigInt(this.#prng.below(2 ** 20))
    if (window.map.size > 0 && this.#oneIn(3)) return this.#prng.pick([...window.map.keys()])
    const room = Number(window.entries > 256n ? 256n : window.entries)
    const at = window.start + BigInt(this.#prng.below(room)) * unit
    return at + bytes > end ? window.start : at
  }

  #mapping(process: NaiveProcess): LegalStep | undefined {
    const found = this.#driver(process, ({ isEnabled }) => isEnabled)
    if (found === undefined) return undefined
    const { fd, driver } = found
    const windows = (driver?.windows ?? []).filter((w) => w !== null)
    const window = windows.length > 0 && !this.#oneIn(30) ? this.#prng.pick(windows) : null
    const shift = window?.shift ?? 12
    const unit = 1n << BigInt(shift)
    if (this.#oneIn(3)) {
      const count = this.#oneIn(4) ? 1 + this.#prng.below(64) : 1 + this.#prng.below(4)
      const bytes = this.#oneIn(40) ? unit / 2n : BigInt(this.#oneIn(40) ? 0 : count) * unit
      return this.#ioctl(process, 'VFIO_IOMMU_UNMAP_DMA', fd, {
        iova: this.#iova(window, bytes),
        bytes,
        ...(this.#oneIn(80) && { argsz: 23n }),
        ...(this.#oneIn(80) && { flags: 1n }),
      })
    }
    const range = this.#userRange(process)
    // Mostly on a boundary of the IOMMU page.
    const vaddr = this.#oneIn(20) ? range.vaddr + 0x1000n : (range.vaddr + unit - 1n) & -unit
    const fit = (range.bytes - (vaddr - range.vaddr)) / unit
    const most = Number(fit < 1n ? 1n : fit > 32n ? 32n : fit)
    const bytes =
      BigInt(this.#oneIn(30) ? 0 : 1 + this.#prng.below(most)) * unit + (this.#oneIn(60) ? 1n : 0n)
    return this.#ioctl(process, 'VFIO_IOMMU_MAP_DMA', fd, {
      vaddr: vaddr & ((1n << 64n) - 1n),
      iova: this.#iova(window, bytes),
      bytes,
      flags: this.#oneIn(60)
        ? 4n
        : this.#oneIn(60)
          ? 0n
          : this.#oneIn(3)
            ? BigInt(1 + this.#prng.below(2))
            : 3n,
      ...(this.#oneIn(80) && { argsz: this.#prng.pick([0n, 31n, 64n]) }),
    })
  }

  /** Memory of the process as it is mapped, or any of the arena. */
  #register(process: NaiveProcess, fd: bigint): LegalStep {
    const page = this.#pageBytes()
    const more = { ...(this.#oneIn(80) && { argsz: 23n }), ...(this.#oneIn(80) && { flags: 1n }) }
    const pages = [...process.pages.keys()].filter((p) => BigInt(p) * page !== SCRATCH)
    const known = this.#host.drivers.regions.filter((r) => r.mm === process)
    if (known.length > 0 && this.#oneIn(3)) {
      const r = this.#prng.pick(known)
      const half = this.#oneIn(3) ? Math.ceil(r.pages / 2) : r.pages
      return this.#ioctl(process, 'VFIO_IOMMU_SPAPR_REGISTER_MEMORY', fd, {
        vaddr: BigInt(r.page) * page,
        bytes: BigInt(half) * page,
        ...more,
      })
    }
    if (pages.length === 0) return this.#mmap(process)
    const at = this.#prng.pick(pages)
    const first = process.pages.get(at)
    const unit =
      first !== undefined && first.hugeShift > 0 ? 2 ** (first.hugeShift - this.#host.pageShift) : 1
    const start = at - (at % unit)
    let count = 0
    const most = unit * (1 + this.#prng.below(unit > 1 ? 2 : 48))
    while (count < most && process.pages.has(start + count)) count++
    if (this.#oneIn(12)) count++
    return this.#ioctl(process, 'VFIO_IOMMU_SPAPR_REGISTER_MEMORY', fd, {
      vaddr: BigInt(start) * page + (this.#oneIn(40) ? 0x800n : 0n),
      bytes: BigInt(this.#oneIn(60) ? 0 : count) * page,
      ...more,
    })
  }

  #registration(process: NaiveProcess): LegalStep | undefined {
    const found = this.#driver(process, ({ isV2 }) => isV2)
    if (found === undefined) return undefined
    if (this.#oneIn(2)) return this.#register(process, found.fd)
    const own = found.driver?.regions ?? []
    const all = this.#host.drivers.regions.filter((r) => r.mm === process)
    const from = own.length > 0 && !this.#oneIn(6) ? own : all
    if (from.length === 0) return undefined
    const r = this.#prng.pick(from)
    const page = this.#pageBytes()
    return this.#ioctl(process, 'VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY', found.fd, {
      vaddr: BigInt(r.page) * page + (this.#oneIn(30) ? page : 0n),
      bytes:
        BigInt(this.#oneIn(12) ? Math.ceil(r.pages / 2) : r.pages) * page - (this.#oneIn(30) ? 0x100n : 0n),
      ...(this.#oneIn(80) && { argsz: 0n }),
    })
  }

  #window(process: NaiveProcess): LegalStep | undefined {
    const found = this.#driver(process, ({ isV2 }) => isV2)
    if (found === undefined) return undefined
    const { fd, driver } = found
    if (driver?.windows.some((w) => w !== null) === true && this.#oneIn(3)) {
      const window = this.#prng.pick(driver.windows)
      const start = window === null ? this.#prng.pick([0n, 1n << 59n]) : window.start
      return this.#ioctl(process, 'VFIO_IOMMU_SPAPR_TCE_REMOVE', fd, {
        start_addr: start + (this.#oneIn(3) ? BigInt(this.#prng.below(2 ** 20)) : 0n),
        ...(this.#oneIn(80) && { argsz: 15n }),
      })
    }
    if (this.#oneIn(6)) return this.#ioctl(process, 'VFIO_IOMMU_SPAPR_TCE_REMOVE', fd, { start_addr: 0n })
    const shifts = driver?.groups[0]?.shifts ?? [16]
    const shift = this.#oneIn(30) ? 13 : this.#prng.pick(shifts)
    const levels = this.#oneIn(30) ? this.#prng.pick([0, 6]) : 1 + this.#prng.below(this.#oneIn(6) ? 5 : 2)
    // Flat tables are cleared entry by entry: large ones are kept rare.
    const entries = levels > 1 ? this.#prng.below(24) : this.#oneIn(200) ? 15 : this.#prng.below(13)
    const bytes = (1n << BigInt(shift + entries)) + (this.#oneIn(40) ? 1n : 0n)
    return this.#ioctl(process, 'VFIO_IOMMU_SPAPR_TCE_CREATE', fd, {
      page_shift: BigInt(shift),
      window_bytes: bytes,
      levels: BigInt(levels),
      ...(this.#oneIn(80) && { argsz: 39n }),
      ...(this.#oneIn(80) && { flags: 1n }),
    })
  }

  /** A device moves eight bytes where its container lets it. */
  #dma(): LegalStep | undefined {
    const able = this.#host.groups.flatMap((group) => {
      const { container } = group
      if (container === null || container.driver === null || container.isLost) return []
      const windows = container.driver.windows.filter((w): w is NaiveWindow => w !== null && w.map.size > 0)
      return group.devices.flatMap((device) => windows.map((window) => ({ group, device, window })))
    })
    if (able.length === 0) return undefined
    const { device, window } = this.#prng.pick(able)
    const [at, mapping] = this.#prng.pick([...window.map])
    const unit = 2 ** Math.min(30, window.shift)
    // Few places, so that reads meet writes.
    const iova =
      at + BigInt(this.#prng.below(Math.max(1, unit / 4096))) * 4096n + 8n * BigInt(this.#prng.below(2))
    if (isMsi(iova)) return undefined
    const isWrite = mapping.dir !== 1 && this.#oneIn(2)
    const args: Args = { device: device.name, iova }
    if (isWrite) args['data'] = this.#fresh()
    else args['bytes'] = 8n
    return { op: { verb: 'dma', call: isWrite ? 'write' : 'read', args } }
  }

  #fresh(): string {
    this.#writes++
    return `w${String(this.#writes % 10_000_000).padStart(7, '0')}`
  }

  #mmap(process: NaiveProcess): LegalStep {
    const page = this.#pageBytes()
    if (this.#oneIn(6)) {
      const shift = this.#oneIn(4) ? 24 : 21
      const unit = 1n << BigInt(shift)
      return this.#step(process, 'proc', 'mmap', {
        address:
          HUGE_ARENA +
          BigInt(this.#prng.below(4)) * 16n * MIB +
          (shift === 21 ? BigInt(this.#prng.below(4)) * unit : 0n),
        bytes: unit * BigInt(1 + this.#prng.below(shift === 21 ? 4 : 1)),
        read: true,
        write: true,
        fixed: true,
        huge_shift: BigInt(shift),
      })
    }
    // Ordinary pages beside huge ones, too.
    const beside = HUGE_ARENA + BigInt(this.#prng.below(24)) * 2n * MIB
    return this.#step(process, 'proc', 'mmap', {
      address: this.#oneIn(8) ? beside : ARENA + BigInt(this.#prng.below(ARENA_PAGES)) * page,
      bytes: BigInt(1 + this.#prng.below(64)) * page,
      read: true,
      write: !this.#oneIn(12),
      fixed: true,
    })
  }

  #memory(process: NaiveProcess): LegalStep | undefined {
    const page = this.#pageBytes()
    const which = this.#prng.below(10)
    const known = [...process.pages.keys()].filter((p) => BigInt(p) * page !== SCRATCH)
    if (which < 2 || known.length === 0) return this.#mmap(process)
    const at = BigInt(this.#oneIn(30) ? this.#prng.below(ARENA_PAGES) : this.#prng.pick(known)) * page
    if (which < 3) {
      const bytes = BigInt(1 + this.#prng.below(24)) * page
      return this.#step(process, 'proc', 'munmap', { address: at, bytes })
    }
    if (which < 4) {
      const first = Number(at / page)
      let count = 0
      while (count < 24 && process.pages.get(first + count)?.hugeShift === 0) count++
      if (count === 0) return undefined
      const write = !this.#oneIn(3)
      const bytes = BigInt(1 + this.#prng.below(count)) * page
      return this.#step(process, 'proc', 'mprotect', { address: at, bytes, read: true, write })
    }
    const subPages = this.#host.pageBytes / 4096
    const address = at + BigInt(this.#prng.below(subPages)) * 4096n + 8n * BigInt(this.#prng.below(2))
    const isWrite = this.#oneIn(2)
    return this.#step(process, 'mem', isWrite ? 'write' : 'read', {
      space: 'ua',
      address,
      ...(isWrite ? { data: this.#fresh() } : { bytes: 8n }),
    })
  }

  /** Files, processes and questions. */
  #rest(process: NaiveProcess): LegalStep | undefined {
    const files = this.#files(process)
    const groups = files.filter(({ file }) => file.target.kind === 'group')
    const devices = files.filter(({ file }) => file.target.kind === 'device')
    const containers = this.#containers(process)
    const any = (): bigint => (files.length === 0 || this.#oneIn(6) ? 99n : this.#prng.pick(files).fd)
    const ofGroup = (): bigint =>
      groups.length === 0 || this.#oneIn(12) ? any() : this.#prng.pick(groups).fd
    switch (this.#prng.below(18)) {
      case 0: {
        if (containers.length >= CONTAINERS_MAX || !this.#oneIn(2)) break
        return this.#step(process, 'proc', 'open', { path: '/dev/vfio/vfio' })
      }
      case 1: {
        const number = this.#oneIn(10) ? 9 : this.#prng.pick(this.#host.groups).number
        return this.#step(process, 'proc', 'open', { path: `/dev/vfio/${number}` })
      }
      case 2:
        return this.#oneIn(3) ? this.#step(process, 'proc', 'close', { fd: any() }) : undefined
      case 3:
        return this.#oneIn(3) ? this.#ioctl(process, 'VFIO_GROUP_UNSET_CONTAINER', ofGroup()) : undefined
      case 4:
      case 5: {
        const group = groups.length === 0 ? undefined : this.#prng.pick(groups)
        const target = group?.file.target
        const owned = target?.kind === 'group' ? target.group.devices : []
        const name = owned.length === 0 || this.#oneIn(10) ? '0009:01:00.0' : this.#prng.pick(owned).address
        return this.#ioctl(process, 'VFIO_GROUP_GET_DEVICE_FD', group?.fd ?? any(), { name })
      }
      case 6:
        if (devices.length === 0) return undefined
        return this.#step(process, 'proc', 'close', { fd: this.#prng.pick(devices).fd })
      case 7: {
        const fd = devices.length === 0 || this.#oneIn(8) ? any() : this.#prng.pick(devices).fd
        this.#maps++
        return this.#step(process, 'proc', 'mmap_device', { fd, map: `m${this.#maps % 50}` })
      }
      case 8: {
        const maps = [...process.maps.keys()]
        const map = maps.length === 0 ? 'none' : this.#prng.pick(maps)
        return this.#step(process, 'proc', 'munmap_device', { map })
      }
      case 9:
        return this.#ioctl(process, 'VFIO_GROUP_GET_STATUS', ofGroup(), this.#oneIn(9) ? { argsz: 7n } : {})
      case 10:
        return this.#ioctl(process, 'VFIO_CHECK_EXTENSION', any(), {
          extension: BigInt(this.#prng.below(10)),
        })
      case 11: {
        const found = this.#driver(process)
        if (found === undefined) return undefined
        const argsz = this.#prng.pick([15n, 16n, 31n, 32n, 40n])
        return this.#ioctl(process, 'VFIO_IOMMU_SPAPR_TCE_GET_INFO', found.fd, { argsz })
      }
      case 12: {
        const found = this.#driver(process)
        if (found === undefined) return undefined
        const call = this.#oneIn(2) ? 'VFIO_IOMMU_ENABLE' : 'VFIO_IOMMU_DISABLE'
        return this.#ioctl(process, call, found.fd)
      }
      case 13: {
        const alive = [...this.#host.processes.values()].filter((p) => p.isAlive)
        if (alive.length >= PROCESSES_ALIVE_MAX || !this.#oneIn(3)) return undefined
        this.#children++
        return this.#step(process, 'proc', 'fork', { child: `child${this.#children}` })
      }
      case 14: {
        const alive = [...this.#host.processes.values()].filter((p) => p.isAlive)
        if (alive.length < 3 || !this.#oneIn(4)) return undefined
        return this.#step(this.#prng.pick(alive), 'proc', 'exit', {})
      }
      case 15:
        return this.#step(process, 'proc', 'status', {})
      case 16: {
        if (!this.#oneIn(4)) return undefined
        if (this.#oneIn(3)) return this.#step(process, 'proc', 'capset', { ipc_lock: this.#oneIn(2) })
        const pages = BigInt(process.locked + this.#prng.below(600))
        const isAll = process.name === 'vmm' || this.#oneIn(4)
        const memlock_bytes = isAll ? (1n << 64n) - 1n : pages * this.#pageBytes()
        return this.#step(process, 'proc', 'setrlimit', { memlock_bytes })
      }
      default: {
        if (!this.#oneIn(4)) return this.#step(process, 'ioctl', 'VFIO_GET_API_VERSION', { fd: any() })
        if (containers.length === 0) return undefined
        const { fd, container } = this.#prng.pick(containers)
        if (this.#oneIn(2)) return this.#setIommu(process, fd, container)
        const group = groups.length === 0 ? undefined : this.#prng.pick(groups)
        const target = group?.file.target
        if (group === undefined || target?.kind !== 'group' || !this.#fits(container, target.group))
          return undefined
        const other = this.#oneIn(3) ? any() : fd
        return this.#ioctl(process, 'VFIO_GROUP_SET_CONTAINER', group.fd, { container: other })
      }
    }
    return undefined
  }
}
