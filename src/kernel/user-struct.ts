import type { Value } from '../bits/answer.ts'
import type { AddressSpace } from '../memory/address-space.ts'

/** A member of a C structure, at its place. */
export interface StructField {
  /** The argument or output that it is. */
  readonly name: string
  readonly offset: number
  readonly bytes: 4 | 8
}

export const u32 = (name: string, offset: number): StructField => ({ name, offset, bytes: 4 })
export const u64 = (name: string, offset: number): StructField => ({ name, offset, bytes: 8 })

/** A structure that an ioctl copies. */
export interface StructDecl {
  /** As the kernel's headers name it. */
  readonly name: string
  readonly bytes: number
  readonly fields: readonly StructField[]
}

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
