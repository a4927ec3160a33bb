/** What descriptions of all kinds of machines are made of. */

/** All keys may be left out, or be undefined. */
export type Loose<T> = { readonly [K in keyof T]?: T[K] | undefined }

/** What kinds of bus master a machine can have, and the DMA mask and PCI ID that each has unless the description says another. */
export const DEVICE_KINDS = Object.freeze({
  /** The teaching device of QEMU (hw/misc/edu.c, 7.2): one DMA engine, 28 address bits unless told otherwise. */
  edu: { dmaMask: 0x0fff_ffffn, pciId: 0x1234_11e8 },
} as const)
export type DeviceKind = keyof typeof DEVICE_KINDS

/** Two parts of a description that cannot stand together; `path` leads to the later one. */
export interface DescriptionConflict {
  readonly path: readonly (string | number)[]
  readonly message: string
}

/** Finds whoever claims what another one has, and says whose it is. */
export class Claims {
  readonly #taken = new Map<string, string>()
  readonly conflicts: DescriptionConflict[] = []

  /** False where somebody has it already. */
  claim(what: string, by: string, path: readonly (string | number)[]): boolean {
    const owner = this.#taken.get(what)
    if (owner === undefined) this.#taken.set(what, by)
    else this.conflicts.push({ path, message: `${what} is taken by ${owner}` })
    return owner === undefined
  }
}
