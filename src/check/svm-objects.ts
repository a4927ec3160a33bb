/** A piece of memory: what it is called, and the record. */
export interface DriverObject {
  readonly what: string
  readonly seq: number
}

/** Memory that a driver keeps for devices and PASIDs: each piece belongs to one, or is freed. */
export class DriverObjects {
  /** By name, those that belong to nothing yet. */
  readonly #fresh = new Map<string, readonly DriverObject[]>()

  made(name: string, object: DriverObject): void {
    this.#fresh.set(name, [...this.#of(name), object])
  }

  /** A binding, or a PASID, has the piece that was made last; or it is freed. What belongs to something already stays out of it. */
  settled(name: string): void {
    this.#fresh.set(name, this.#of(name).slice(0, -1))
  }

  /** Pieces that belong to nothing, and are not freed. */
  leaked(): readonly DriverObject[] {
    return [...this.#fresh.values()].flat()
  }

  #of(name: string): readonly DriverObject[] {
    return this.#fresh.get(name) ?? []
  }
}
