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

function load(view: DataView, at: number, { offset, bytes }: StructField): bigint {
  return bytes === 4 ? BigInt(view.getUint32(at + offset, true)) : view.getBigUint64(at + offset, true)
}

function store(view: DataView, at: number, { offset, bytes }: StructField, value: bigint): void {
  if (bytes === 4) view.setUint32(at + offset, Number(value), true)
  else view.setBigUint64(at + offset, value, true)
}

/** Members that are not named stay 0. */
function encode(view: DataView, decl: StructDecl, values: Readonly<Record<string, Value>>): void {
  for (const field of decl.fields) {
    const value = values[field.name] as bigint | undefined
    if (value !== undefined) store(view, 0, field, value)
  }
}

/**
 * Bytes of a structure from named values; members that are not named are 0.
 *
 * @example encodeStruct(STRUCTS.remove, { argsz: 16n, flags: 0n, start_addr: 1n << 59n })
 */
export function encodeStruct(decl: StructDecl, values: Readonly<Record<string, Value>>): Uint8Array {
  const data = new Uint8Array(decl.bytes)
  encode(new DataView(data.buffer), decl, values)
  return data
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
  /** The caller's copy, and behind it the kernel's. One view of both: making one costs more than a copy. */
  readonly #data: Uint8Array
  readonly #view: DataView

  constructor(decl: StructDecl, mm: AddressSpace, args: Readonly<Record<string, Value>>) {
    this.#decl = decl
    this.#mm = mm
    this.#pointer = args['arg'] as bigint | undefined
    this.#data = new Uint8Array(2 * decl.bytes)
    this.#view = new DataView(this.#data.buffer)
    encode(this.#view, decl, args)
  }

  /** copy_from_user of the first bytes; false is -EFAULT. */
  copyIn(bytes: number): boolean {
    const at = this.#decl.bytes
    if (this.#pointer === undefined) this.#data.copyWithin(at, 0, bytes)
    else return this.#mm.read(this.#pointer, this.#data.subarray(at, at + bytes)).moved === bytes
    return true
  }

  /** copy_to_user of the first bytes; false is -EFAULT. */
  copyOut(bytes: number): boolean {
    const at = this.#decl.bytes
    if (this.#pointer === undefined) this.#data.copyWithin(0, at, at + bytes)
    else return this.#mm.write(this.#pointer, this.#data.subarray(at, at + bytes)).moved === bytes
    return true
  }

  /** A member of the kernel's copy. */
  get(name: string): bigint {
    return load(this.#view, this.#decl.bytes, this.#field(name))
  }

  set(name: string, value: bigint): void {
    store(this.#view, this.#decl.bytes, this.#field(name), value)
  }

  /** What the caller finds in its copy now, of the members that are named; nothing where it cannot read it. */
  outputs(names: readonly string[]): Record<string, bigint> {
    const out: Record<string, bigint> = {}
    const { bytes, fields } = this.#decl
    if (this.#pointer !== undefined) {
      const data = this.#data.subarray(0, bytes)
      if (this.#mm.read(this.#pointer, data).moved !== bytes) return out
    }
    for (const field of fields) if (names.includes(field.name)) out[field.name] = load(this.#view, 0, field)
    return out
  }

  #field(name: string): StructField {
    const field = this.#decl.fields.find((f) => f.name === name)
    if (field === undefined) throw new Error(`model bug: ${this.#decl.name} has no ${name}`)
    return field
  }
}
