import type { Answer, Value } from '../../../src/bits/answer.ts'
import type { Operation } from '../../../src/machine/operation.ts'
import type { PowernvDescription } from '../../../src/machine/powernv/description.ts'
import { NaiveDrivers } from './naive-drivers.ts'
import type {
  NaiveContainer,
  NaiveFile,
  NaiveFrame,
  NaiveGroup,
  NaivePage,
  NaiveProcess,
  NaiveTarget,
} from './naive-parts.ts'

/** What a call should answer: a code, and outputs that are sure. Effects are done when it is asked. */
export interface NaiveAnswer {
  readonly code: string
  readonly outputs?: Readonly<Record<string, Value>>
}

const FIRST_FD = 3
const FILES_MAX = 1024

const PAGES_OF: Readonly<Record<NaiveGroup['platform'], readonly number[]>> = {
  P7IOC: [12],
  PHB3: [12, 16, 24, 28],
  PHB4: [12, 16, 21, 30],
  PHB5: [12, 16, 21, 30],
}

type Args = Operation['args']

/** An answer without anything else. */
const says = (code: string): NaiveAnswer => ({ code })

/**
 * A POWER host by the letter of its rules (`intended`): who has which files, what lies where, which bus address leads
 * to which page. Everything is a map or a list, and nothing is taken from the model.
 *
 * `answer` says what an operation answers and does it. What only the allocator of the host knows (a huge page is not
 * there, a descriptor of mmap) is taken over from the model's answer.
 */
export class NaiveHost {
  readonly pageShift: number
  readonly processes = new Map<string, NaiveProcess>()
  readonly groups: NaiveGroup[] = []
  readonly drivers: NaiveDrivers
  readonly #first: string

  constructor(description: PowernvDescription) {
    this.pageShift = description.hostPageShift
    this.drivers = new NaiveDrivers(this.pageShift)
    this.#first = description.processes[0]?.name ?? ''
    for (const p of description.processes) {
      this.processes.set(p.name, newProcess(p.name, p.memlockBytes, p.hasIpcLock))
    }
    const hex = (n: number, digits: number) => n.toString(16).padStart(digits, '0')
    for (const phb of description.phbs) {
      for (const pe of phb.pes) {
        this.groups.push({
          number: pe.group,
          platform: phb.platform,
          tce32Bytes: phb.platform === 'P7IOC' ? pe.segments * 2 ** 28 : phb.m32Base,
          shifts: PAGES_OF[phb.platform],
          hasKernelDriver: pe.hasKernelDriver,
          devices: pe.devices.map((d) => ({
            name: d.name,
            address: `${hex(phb.domain, 4)}:${hex(pe.bus, 2)}:${hex(d.slot, 2)}.${d.function}`,
          })),
          file: null,
          container: null,
          open: 0,
        })
      }
    }
  }

  get pageBytes(): number {
    return 2 ** this.pageShift
  }

  actor(op: Operation): NaiveProcess | undefined {
    const process = this.processes.get(op.by?.process ?? this.#first)
    return process?.isAlive === true ? process : undefined
  }

  file(process: NaiveProcess, fd: Value | undefined): NaiveFile | undefined {
    return process.fds[Number(fd) - FIRST_FD] ?? undefined
  }

  /** What the operation answers, or undefined where only the model can know. `seen` is what the model answered. */
  answer(op: Operation, seen: Answer): NaiveAnswer | undefined {
    if (op.verb === 'dma') return this.#dma(op, seen)
    const process = this.actor(op)
    if (process === undefined) return says('ESRCH')
    if (op.verb === 'mem') return this.#memory(op, process)
    if (op.verb === 'ioctl') return this.#ioctl(op, process)
    return this.#proc(op, process, seen)
  }

  /** A call that was answered with success here, and refused there, has left nothing. */
  takeBack({ call, args }: Operation, process: NaiveProcess, { outputs }: NaiveAnswer): void {
    const file = this.file(process, outputs?.['fd'])
    if (file !== undefined) {
      process.fds[Number(outputs?.['fd']) - FIRST_FD] = null
      this.#drop(file)
    }
    const target = this.file(process, args['fd'])?.target
    if (call === 'VFIO_GROUP_SET_CONTAINER' && target?.kind === 'group') this.#leave(target.group)
    if (call === 'VFIO_SET_IOMMU' && target?.kind === 'container') target.driver = null
  }

  #proc(op: Operation, process: NaiveProcess, seen: Answer): NaiveAnswer | undefined {
    const { args } = op
    switch (op.call) {
      case 'open':
        return this.#open(process, args['path'] as string)
      case 'close':
        return this.#close(process, args['fd'] as bigint)
      case 'mmap_device': {
        const file = this.file(process, args['fd'])
        if (file === undefined) return says('EBADF')
        if (file.target.kind !== 'device') return says('ENODEV')
        const name = args['map'] as string
        if (process.maps.has(name)) return says('EEXIST')
        process.maps.set(name, file)
        file.holders++
        return says('OK')
      }
      case 'munmap_device': {
        const name = args['map'] as string
        const file = process.maps.get(name)
        if (file === undefined) return says('ENOENT')
        process.maps.delete(name)
        this.#drop(file)
        return says('OK')
      }
      case 'fork':
        this.#fork(process, args['child'] as string)
        return says('OK')
      case 'exit':
        this.#exit(process)
        return says('OK')
      case 'setrlimit':
        process.limitBytes = args['memlock_bytes'] as bigint
        return says('OK')
      case 'capset':
        if (args['ipc_lock'] === true && !process.hasIpcLock) return says('EPERM')
        process.hasIpcLock = args['ipc_lock'] === true
        return says('OK')
      case 'status':
        return {
          code: 'OK',
          outputs: { vm_lck_kib: (BigInt(process.locked) << BigInt(this.pageShift)) / 1024n },
        }
      case 'mmap':
        if (seen.rule === 'done' || seen.rule === 'no-huge-pages') this.#mmap(process, args, seen.rule)
        return undefined
      case 'munmap':
        if (seen.rule === 'done') this.#each(args, (page) => process.pages.delete(page))
        return undefined
      case 'mprotect':
        if (seen.rule === 'done') this.#protect(process, args)
        return undefined
      default:
        return undefined
    }
  }

  #open(process: NaiveProcess, path: string): NaiveAnswer {
    const fd = this.#freeFd(process)
    if (fd >= FILES_MAX) return says('EMFILE')
    if (path === '/dev/vfio/vfio') {
      const target: NaiveContainer = { kind: 'container', groups: [], driver: null, isLost: false }
      return this.#install(process, target)
    }
    const group = this.groups.find((g) => `/dev/vfio/${g.number}` === path)
    if (group === undefined) return says('ENOENT')
    if (group.file !== null) return says('EBUSY')
    const answer = this.#install(process, { kind: 'group', group })
    group.file = process.fds[fd - FIRST_FD] as NaiveFile
    return answer
  }

  #freeFd(process: NaiveProcess): number {
    const free = process.fds.indexOf(null)
    return FIRST_FD + (free < 0 ? process.fds.length : free)
  }

  #install(process: NaiveProcess, target: NaiveTarget): NaiveAnswer {
    const fd = this.#freeFd(process)
    process.fds[fd - FIRST_FD] = { target, holders: 1 }
    return { code: 'OK', outputs: { fd: BigInt(fd) } }
  }

  #close(process: NaiveProcess, fd: bigint): NaiveAnswer {
    const file = this.file(process, fd)
    if (file === undefined) return says('EBADF')
    process.fds[Number(fd) - FIRST_FD] = null
    this.#drop(file)
    return says('OK')
  }

  #drop(file: NaiveFile): void {
    file.holders--
    if (file.holders > 0) return
    const { target } = file
    if (target.kind === 'group') {
      target.group.file = null
      if (target.group.container !== null) this.#leave(target.group)
    } else if (target.kind === 'device') {
      target.group.open--
      if (target.group.file !== null) this.#drop(target.group.file)
    }
  }

  #leave(group: NaiveGroup): void {
    const { container } = group
    if (container === null) return
    group.container = null
    container.groups = container.groups.filter((g) => g !== group)
    const { driver } = container
    if (driver === null) return
    driver.groups = driver.groups.filter((g) => g !== group)
    if (container.groups.length > 0) return
    this.drivers.release(driver)
    container.driver = null
  }

  #fork(parent: NaiveProcess, name: string): void {
    const child = newProcess(name, parent.limitBytes, parent.hasIpcLock)
    for (const [page, { read, write, hugeShift, frame }] of parent.pages) {
      if (hugeShift > 0) continue
      const own: NaiveFrame = { shift: frame.shift, data: new Map(frame.data) }
      child.pages.set(page, { read, write, hugeShift, frame: own })
    }
    child.fds = [...parent.fds]
    child.maps = new Map(parent.maps)
    for (const file of [...child.fds, ...child.maps.values()]) if (file !== null) file.holders++
    this.processes.set(name, child)
  }

  #exit(process: NaiveProcess): void {
    process.isAlive = false
    process.pages.clear()
    const files = [...process.maps.values(), ...process.fds]
    process.maps.clear()
    process.fds = []
    for (const file of files) if (file !== null) this.#drop(file)
  }

  #mmap(process: NaiveProcess, args: Args, rule: string): void {
    const hugeShift = Number(args['huge_shift'] ?? 0n)
    this.#each(args, (page) => {
      process.pages.delete(page)
      if (rule !== 'done') return
      const shift = hugeShift === 0 ? this.pageShift : hugeShift
      process.pages.set(page, {
        read: args['read'] === true || args['write'] === true,
        write: args['write'] === true,
        hugeShift,
        frame: { shift, data: new Map() },
      })
    })
  }

  #protect(process: NaiveProcess, args: Args): void {
    this.#each(args, (page) => {
      const old = process.pages.get(page) as NaivePage
      const write = args['write'] === true
      process.pages.set(page, { ...old, read: args['read'] === true || write, write })
    })
  }

  #each(args: Args, does: (page: number) => void): void {
    const first = Number((args['address'] as bigint) >> BigInt(this.pageShift))
    const count = Math.ceil(Number(args['bytes'] as bigint) / this.pageBytes)
    for (let i = 0; i < count; i++) does(first + i)
  }

  /** Eight bytes that do not cross a page. */
  #memory(op: Operation, process: NaiveProcess): NaiveAnswer {
    const at = op.args['address'] as bigint
    const page = process.pages.get(Number(at >> BigInt(this.pageShift)))
    const offset = Number(at & BigInt(this.pageBytes - 1))
    if (page === undefined) return says('EFAULT')
    if (op.call === 'read') {
      if (!page.read) return says('EFAULT')
      return { code: 'OK', outputs: { data: page.frame.data.get(offset) ?? UNTOUCHED } }
    }
    if (!page.write) return says('EFAULT')
    page.frame.data.set(offset, op.args['data'] as string)
    return says('OK')
  }

  /** A device of a group that is in a container: what its bus address leads to. Nothing is said of frozen PEs. */
  #dma(op: Operation, seen: Answer): NaiveAnswer | undefined {
    const group = this.groups.find((g) => g.devices.some((d) => d.name === op.args['device']))
    const driver = group?.container?.driver
    if (driver === undefined || driver === null || group?.container?.isLost === true) return undefined
    if (seen.rule === 'pe-frozen') return undefined
    const iova = op.args['iova'] as bigint
    const hit = isMsi(iova) ? undefined : this.drivers.translate(driver, iova)
    const need = op.call === 'read' ? 1 : 2
    if (hit === undefined || (hit.mapping.dir !== need && hit.mapping.dir !== 3)) {
      // Memory that a device may write it may read as well: hardware has no other way.
      const isRead = hit !== undefined && op.call === 'read' && hit.mapping.dir === 2
      if (!isRead) return says('MEMTX_DECODE_ERROR')
    }
    if (hit === undefined) return says('MEMTX_DECODE_ERROR')
    const data = hit.frame.data
    if (op.call === 'read') return { code: 'MEMTX_OK', outputs: { data: data.get(hit.offset) ?? UNTOUCHED } }
    data.set(hit.offset, op.args['data'] as string)
    return says('MEMTX_OK')
  }

  #ioctl(op: Operation, process: NaiveProcess): NaiveAnswer | undefined {
    const { args } = op
    const target = this.file(process, args['fd'])?.target
    if (target === undefined) return says('EBADF')
    switch (op.call) {
      case 'VFIO_GET_API_VERSION':
        return says(target.kind === 'container' ? 'OK' : 'ENOTTY')
      case 'VFIO_CHECK_EXTENSION': {
        if (target.kind !== 'container') return says('ENOTTY')
        return says([2n, 5n, 7n].includes(args['extension'] as bigint) ? 'RETURN_1' : 'OK')
      }
      case 'VFIO_SET_IOMMU':
        if (target.kind !== 'container') return says('ENOTTY')
        return says(this.drivers.setIommu(target, args['type'] as bigint))
      case 'VFIO_GROUP_GET_STATUS':
      case 'VFIO_GROUP_SET_CONTAINER':
      case 'VFIO_GROUP_UNSET_CONTAINER':
      case 'VFIO_GROUP_GET_DEVICE_FD':
        return target.kind === 'group'
          ? this.#group(op, process, target.group)
          : says(this.#notAGroup(target, process))
      default:
        break
    }
    if (target.kind === 'group') return says('ENOTTY')
    if (target.kind === 'device') return undefined
    if (target.isLost) return undefined
    const { driver } = target
    if (driver === null) return says('EINVAL')
    if (driver.mm !== null && driver.mm !== process) return says('EPERM')
    return this.drivers.ioctl(op, driver, process)
  }

  #notAGroup(target: NaiveTarget, process: NaiveProcess): string {
    if (target.kind !== 'container') return 'ENOTTY'
    if (target.driver === null) return 'EINVAL'
    return target.driver.mm !== null && target.driver.mm !== process ? 'EPERM' : 'ENOTTY'
  }

  #group(op: Operation, process: NaiveProcess, group: NaiveGroup): NaiveAnswer {
    const { args } = op
    const { container } = group
    switch (op.call) {
      case 'VFIO_GROUP_GET_STATUS': {
        if (((args['argsz'] as bigint | undefined) ?? 8n) < 8n) return says('EINVAL')
        const flags = container !== null ? 3n : group.hasKernelDriver ? 0n : 1n
        return { code: 'OK', outputs: { flags } }
      }
      case 'VFIO_GROUP_SET_CONTAINER': {
        const target = this.file(process, args['container'])?.target
        if (target === undefined) return says('EBADF')
        if (container !== null) return says('EINVAL')
        if (target.kind !== 'container') return says('EBADFD')
        if (group.hasKernelDriver) return says('EPERM')
        const code = target.driver === null ? 'OK' : this.drivers.attach(target.driver, group)
        if (code === 'OK') {
          target.groups.unshift(group)
          group.container = target
        }
        return says(code)
      }
      case 'VFIO_GROUP_UNSET_CONTAINER':
        if (container === null) return says('EINVAL')
        if (group.open > 0) return says('EBUSY')
        this.#leave(group)
        return says('OK')
      default: {
        if (!group.devices.some((d) => d.address === args['name'])) return says('ENODEV')
        if (this.#freeFd(process) >= FILES_MAX) return says('EMFILE')
        if (container?.driver === null || container === null) return says('EINVAL')
        group.open++
        if (group.file !== null) group.file.holders++
        return this.#install(process, { kind: 'device', group })
      }
    }
  }
}

/** What a PHB takes for message signalled interrupts, whatever is mapped there. */
export const isMsi = (iova: bigint): boolean => iova >= 0xffff_0000n && iova < 0x1_0000_0000n

/** Eight bytes that were never written. */
const UNTOUCHED = 'hex:0000000000000000'

const newProcess = (name: string, limitBytes: bigint, hasIpcLock: boolean): NaiveProcess => ({
  name,
  isAlive: true,
  limitBytes,
  hasIpcLock,
  locked: 0,
  pages: new Map(),
  fds: [],
  maps: new Map(),
})
