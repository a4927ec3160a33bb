import type { Value } from '../../bits/answer.ts'
import type { AddressSpace } from '../../memory/address-space.ts'

/** A member of a C structure, at its place. */
export interface StructField {
  /** The argument or output that it is. */
  readonly name: string
  readonly offset: number
  readonly bytes: 4 | 8
}

/** A structure that an ioctl copies. */
export interface StructDecl {
  /** As linux/vfio.h names it. */
  readonly name: string
  readonly bytes: number
  readonly fields: readonly StructField[]
}

const u32 = (name: string, offset: number): StructField => ({ name, offset, bytes: 4 })
const u64 = (name: string, offset: number): StructField => ({ name, offset, bytes: 8 })
const HEAD = [u32('argsz', 0), u32('flags', 4)] as const

/** Structures of VFIO as ppc64le lays them out; `bytes` stands for the member `size`. (Linux v6.1 include/uapi/linux/vfio.h) */
export const STRUCTS = {
  groupStatus: { name: 'vfio_group_status', bytes: 8, fields: HEAD },
  containerFd: { name: 'int', bytes: 4, fields: [u32('container', 0)] },
  info: {
    name: 'vfio_iommu_spapr_tce_info',
    bytes: 32,
    fields: [
      ...HEAD,
      u32('dma32_start', 8),
      u32('dma32_bytes', 12),
      u64('pgsizes', 16),
      u32('max_windows', 24),
      u32('levels', 28),
    ],
  },
  map: {
    name: 'vfio_iommu_type1_dma_map',
    bytes: 32,
    fields: [...HEAD, u64('vaddr', 8), u64('iova', 16), u64('bytes', 24)],
  },
  unmap: {
    name: 'vfio_iommu_type1_dma_unmap',
    bytes: 24,
    fields: [...HEAD, u64('iova', 8), u64('bytes', 16)],
  },
  memory: {
    name: 'vfio_iommu_spapr_register_memory',
    bytes: 24,
    fields: [...HEAD, u64('vaddr', 8), u64('bytes', 16)],
  },
  create: {
    name: 'vfio_iommu_spapr_tce_create',
    bytes: 40,
    fields: [
      ...HEAD,
      u32('page_shift', 8),
      u64('window_bytes', 16),
      u32('levels', 24),
      u64('start_addr', 32),
    ],
  },
  remove: {
    name: 'vfio_iommu_spapr_tce_remove',
    bytes: 16,
    fields: [...HEAD, u64('start_addr', 8)],
  },
} as const satisfies Record<string, StructDecl>

const viewOf = (data: Uint8Array) => new DataView(data.buffer, data.byteOffset, data.byteLength)

/**
 * Bytes of a structure from named values; members that are not named are 0.
 *
 * @example encodeStruct(STRUCTS.remove, { argsz: 16n, flags: 0n, start_addr: 1n << 59n })
 */
export function encodeStruct(decl: StructDecl, values: Readonly<Record<string, Value>>): Uint8Array {
  const data = new Uint8Array(decl.bytes)
  const view = viewOf(data)
  for (const { name, offset, bytes } of decl.fields) {
    const value = (values[name] ?? 0n) as bigint
    if (bytes === 4) view.setUint32(offset, Number(value), true)
    else view.setBigUint64(offset, value, true)
  }
  return data
}

/** The members of a structure by name. */
export function decodeStruct(decl: StructDecl, data: Uint8Array): Record<string, bigint> {
  const view = viewOf(data)
  const out: Record<string, bigint> = {}
  for (const { name, offset, bytes } of decl.fields) {
    out[name] = bytes === 4 ? BigInt(view.getUint32(offset, true)) : view.getBigUint64(offset, true)
  }
  return out
}

/**
 * The structure that an ioctl points to: the caller's copy, and the kernel's.
 *
 * The caller's copy is memory of the process where the call gives a pointer (`arg`), else bytes made of the named
 * arguments, which can always be read and written. The kernel sees what it has copied in, and the caller what has
 * been copied out, nothing else.
 */
export class UserStruct {
  readonly #decl: StructDecl
  readonly #mm: AddressSpace
  readonly #pointer: bigint | undefined
  readonly #user: Uint8Array
  readonly #kernel: Uint8Array

  constructor(decl: StructDecl, mm: AddressSpace, args: Readonly<Record<string, Value>>) {
    this.#decl = decl
    this.#mm = mm
    this.#pointer = args['arg'] as bigint | undefined
    this.#user = encodeStruct(decl, args)
    this.#kernel = new Uint8Array(decl.bytes)
  }

  /** copy_from_user of the first bytes; false is -EFAULT. */
  copyIn(bytes: number): boolean {
    const into = this.#kernel.subarray(0, bytes)
    if (this.#pointer !== undefined) return this.#mm.read(this.#pointer, into).moved === bytes
    into.set(this.#user.subarray(0, bytes))
    return true
  }

  /** copy_to_user of the first bytes; false is -EFAULT. */
  copyOut(bytes: number): boolean {
    const from = this.#kernel.subarray(0, bytes)
    if (this.#pointer !== undefined) return this.#mm.write(this.#pointer, from).moved === bytes
    this.#user.set(from)
    return true
  }

  /** A member of the kernel's copy. */
  get(name: string): bigint {
    const { offset, bytes } = this.#field(name)
    const view = viewOf(this.#kernel)
    return bytes === 4 ? BigInt(view.getUint32(offset, true)) : view.getBigUint64(offset, true)
  }

  set(name: string, value: bigint): void {
    const { offset, bytes } = this.#field(name)
    const view = viewOf(this.#kernel)
    if (bytes === 4) view.setUint32(offset, Number(value), true)
    else view.setBigUint64(offset, value, true)
  }

  /** What the caller finds in its copy now, of the members that are named; nothing where it cannot read it. */
  outputs(names: readonly string[]): Record<string, bigint> {
    const data = this.#user
    if (this.#pointer !== undefined && this.#mm.read(this.#pointer, data).moved !== data.length) return {}
    return Object.fromEntries(
      Object.entries(decodeStruct(this.#decl, data)).filter(([n]) => names.includes(n)),
    )
  }

  #field(name: string): StructField {
    const field = this.#decl.fields.find((f) => f.name === name)
    if (field === undefined) throw new Error(`model bug: ${this.#decl.name} has no ${name}`)
    return field
  }
}
