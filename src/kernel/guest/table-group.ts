import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'
import type { DeviceNode } from './device-tree.ts'
import type { IommuTable } from './iommu-table.ts'
import type { TceBackend } from './tce-backend.ts'

type Tables = readonly [IommuTable | undefined, IommuTable | undefined]

/** The tables of one partitionable endpoint: 0 the default window's, 1 a dynamic window's. */
export class TableGroup {
  readonly node: DeviceNode
  readonly backend: TceBackend
  readonly #tables: Held<Tables>

  constructor(journal: Journal, node: DeviceNode, backend: TceBackend, name = node.path) {
    this.node = node
    this.backend = backend
    this.#tables = new Held<Tables>(journal, `tables ${name}`, [undefined, undefined], (tables) =>
      keyOf(...tables.map((t) => t?.liobn ?? -1)),
    )
  }

  get tables(): Tables {
    return this.#tables.value
  }

  setTable(index: 0 | 1, table: IommuTable | undefined): void {
    const [first, second] = this.#tables.value
    this.#tables.set(index === 0 ? [table, second] : [first, table])
  }
}
