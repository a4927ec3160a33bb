import { Journal } from '../../src/bits/state.ts'
import { GuestLog } from '../../src/kernel/guest/guest-log.ts'
import { IommuTable, type IommuTableShape } from '../../src/kernel/guest/iommu-table.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { Stage } from '../../src/trace/stage.ts'

export type TestTableShape = Omit<IommuTableShape, 'liobn'> & {
  readonly maskWraps?: boolean
  readonly stage?: Stage
  readonly journal?: Journal
}

/** A table of its own, with its start reserved. */
export function testTable({ maskWraps = false, stage, journal, ...shape }: TestTableShape): IommuTable {
  const own = stage ?? new Stage(new RecordLog())
  const table = new IommuTable(
    { liobn: 0x8000_0000, ...shape },
    { stage: own, journal: journal ?? new Journal(), log: new GuestLog(own), id: 'test', maskWraps },
  )
  table.window = 1
  table.reserve()
  return table
}
