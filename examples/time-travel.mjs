// State at any record: run a scenario's operations, then ask what the table held in the middle of it.
import { createMachine, describeMachine, TimeTravel } from 'iommulator'

const liobn = 0x8000_0000n
const put = (ioba, tce) => ({ verb: 'hcall', call: 'H_PUT_TCE', args: { liobn, ioba, tce } })
const get = (ioba) => ({ verb: 'hcall', call: 'H_GET_TCE', args: { liobn, ioba } })
const operations = [put(0x1000n, 0x5003n), put(0x1000n, 0n), put(0x1000n, 0x7001n)]

const travel = new TimeTravel(() => createMachine(describeMachine(), { journal: true }), operations)
const writes = []
const original = createMachine(describeMachine())
for (const operation of operations) original.perform(operation)
for (const { seq, event } of original.log.records()) if (event.kind === 'tce.set') writes.push(seq)

for (const seq of writes.reverse()) {
  const machine = travel.goTo(seq)
  console.log(`#${seq}: the entry holds 0x${machine.perform(get(0x1000n)).outputs.tce.toString(16)}`)
}
