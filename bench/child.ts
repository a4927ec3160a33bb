/**
 * One case, one side of it, one process: type feedback of one loop must not change another.
 * `node child.js CASE ours|peer|allocation OPERATIONS` prints JSON.
 */
import { calibration } from './calibration.ts'
import type { LoopCase, SetUp } from './case.ts'
import { GROUPS } from './cases/index.ts'
import { allocationOf, timeWork } from './stopwatch.ts'

const CALIBRATION_OPERATIONS = 1 << 19

const [id = '', side = 'ours', operations = '0'] = process.argv.slice(2)
const found = GROUPS.flatMap((g) => g.cases).find((c) => c.id === id)
if (found === undefined) throw new Error(`no case is called ${id}`)

function setUpOf(loop: LoopCase): SetUp {
  if (side !== 'peer') return loop.setUp
  return 'setUp' in loop.peer ? loop.peer.setUp : calibration
}

const work = setUpOf(found)(Number(operations))
if (side === 'allocation') {
  process.stdout.write(JSON.stringify({ bytes: allocationOf(work) }))
} else {
  const { ns, sum } = timeWork(work)
  const calibrationNs = timeWork(calibration(CALIBRATION_OPERATIONS)).ns
  process.stdout.write(JSON.stringify({ ns, sum, calibrationNs }))
}
