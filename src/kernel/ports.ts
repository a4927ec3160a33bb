import type { Answer, Value } from '../bits/answer.ts'

/**
 * What the folders of this floor know of each other: interfaces, wired in `machine`. A path that is not wired
 * does not exist, and can be seen to be missing there.
 */

/**
 * What a port answers where nobody will: the one who would has died, or the model does not know what it would
 * say. No interface has this number; the machine's `dead` or `unmodelled` record says which.
 */
export const NO_ANSWER = 0x7fff_ffff

/**
 * The way from a guest to whoever handles its hypercalls. Arguments are 64-bit registers in two int32 lanes,
 * high first; the result is the H code (`H_CODES`) or NO_ANSWER. `r4Hi` and `r4Lo` are the guest's r4 after
 * the call: the LIOBN as it was passed, or the value that H_GET_TCE found. Nothing here allocates.
 */
export interface HcallPort {
  r4Hi: number
  r4Lo: number
  putTce(
    liobnHi: number,
    liobnLo: number,
    iobaHi: number,
    iobaLo: number,
    tceHi: number,
    tceLo: number,
  ): number
  putTceIndirect(
    liobnHi: number,
    liobnLo: number,
    iobaHi: number,
    iobaLo: number,
    listHi: number,
    listLo: number,
    npagesHi: number,
    npagesLo: number,
  ): number
  stuffTce(
    liobnHi: number,
    liobnLo: number,
    iobaHi: number,
    iobaLo: number,
    valueHi: number,
    valueLo: number,
    npagesHi: number,
    npagesLo: number,
  ): number
  getTce(liobnHi: number, liobnLo: number, iobaHi: number, iobaLo: number): number
}

/**
 * User space behind a VCPU (KVM_EXIT_PAPR_HCALL): where a hypercall ends that the kernel leaves to it. The kernel's own
 * answer is recorded already, and is the cause of what happens here.
 */
export interface HcallExit {
  answer(call: string, args: Readonly<Record<string, Value>>): Answer
  /** The kernel itself has written entries of the guest's table, counted from the start of its window. */
  kernelWrote(liobnHi: number, liobnLo: number, first: number, count: number): void
}

/**
 * System calls of one process, by verb and name, as its program makes them. What they do is caused by what the
 * program does at that time.
 */
export type HostCalls = (
  verb: 'ioctl' | 'proc' | 'vhost',
  call: string,
  args: Readonly<Record<string, Value>>,
) => Answer

/** A TCE table of KVM as a process has it mapped: entries by index, in lanes. A page comes with its first access. */
export interface TceMapping {
  hi: number
  lo: number
  /** Whether the table has the page of an entry. */
  hasPage(index: number): boolean
  /** False where there is no memory for the page, which the table has. */
  touch(index: number): boolean
  load(index: number): void
  store(index: number, hi: number, lo: number): void
}

/**
 * The way from a guest to RTAS: 32-bit cells in, at most `nret` 32-bit cells out, the status first (signed;
 * NO_ANSWER where nobody answers), the others unsigned. Cells that the firmware does not write are not there:
 * a call that fails writes its status only.
 */
export interface RtasPort {
  call(token: number, args: readonly number[], nret: number): readonly number[]
}

/** Guest memory as the guest kernel itself uses it (TCE lists, coherent buffers). Addresses are below 2^52. */
export interface GuestRam {
  /** Writes a big-endian 64-bit word given in lanes. False where there is no memory. */
  storeU64be(gpa: number, hi: number, lo: number): boolean
}

/**
 * The one VFIO group below a PHB of QEMU, to which it hands on what its guest asks for errors of PCI. Groups of several
 * containers, or several in one, have none: the kernel does not keep their PEs in step.
 * (QEMU 7.2 hw/vfio/common.c, vfio_eeh_as_ok)
 */
export interface EehBackend {
  /** What VFIO_EEH_PE_OP answers for the container: a state, 0, a negative errno, or NO_ANSWER. */
  operate(op: number): number
  /** Whether a PCI bus of the PHB has a device that VFIO drives. */
  hasVfioDevice(bus: number): boolean
  /** Whether there is a device, of whatever kind, at a bus and device and function number. */
  hasDevice(bus: number, devfn: number): boolean
}

/**
 * Which life of a window a LIOBN stands for now: 0 where its window is closed. Only records need it; the guest
 * itself cannot see it.
 */
export interface WindowNumbers {
  windowOf(liobn: number): number
}

/** What a vhost device misses: a bus address, and what it wants there (1 to read, 2 to write). */
export interface IotlbMiss {
  readonly iova: bigint
  readonly access: number
}

/**
 * The IOTLB of a vhost device, as the process that has its file writes to it and reads from it. Results are 0 or a
 * negative errno of the write.
 */
export interface IotlbSink {
  /** UPDATE: the bytes [iova, iova + bytes) are at user address `ua`, for `perm` (1 read, 2 write, 3 both). */
  update(iova: bigint, bytes: bigint, ua: bigint, perm: number): number
  /** INVALIDATE: every map that overlaps the range goes. */
  invalidate(iova: bigint, bytes: bigint): number
  /** Reads the next MISS; undefined where none waits. */
  nextMiss(): IotlbMiss | undefined
}

/**
 * A vhost device whose windows KVM has tables for, as KVM can be told of it: see `VHOST_REMEDIES`.
 */
export interface LinkedVhost {
  readonly name: string
  /** The kernel has its IOTLB forget a range. */
  forget(iova: bigint, bytes: bigint): void
  /** The kernel signals its VMM that entries of the table with a LIOBN were taken back. */
  signal(liobn: number): void
}

/** Where a VMM tells KVM of its vhost devices. */
export interface VhostLinkPort {
  /** The device begins, or ends, to use the window of a LIOBN. */
  opened(device: LinkedVhost, liobn: number): void
  closed(device: LinkedVhost, liobn: number): void
}

/** A queue whose ring a driver has laid out: bus addresses of its parts. */
export interface DriverQueue {
  readonly index: number
  readonly entries: number
  readonly descriptors: bigint
  readonly available: bigint
  readonly used: bigint
}

/** A virtio device as its driver in the guest meets it. */
export interface VirtioDevicePort {
  /** Whether the driver has said that it is ready, and has not reset the device since. */
  readonly isStarted: boolean
  start(queues: readonly DriverQueue[]): void
  stop(queues: readonly DriverQueue[]): void
  /** There are new buffers on a queue. */
  kick(index: number): void
}
