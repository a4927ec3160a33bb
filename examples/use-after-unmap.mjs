// A driver unmaps a buffer while its device still uses it: who finds out, and what is the chain?
import { createMachine, describeMachine, Judge, PSERIES_COVERAGE } from 'iommulator'

const judge = new Judge()
const machine = createMachine(
  describeMachine({
    ram: 256n << 20n,
    bootOptions: ['disable_ddw'],
    phbs: [{ name: 'pci0', devices: [{ name: 'nic', kind: 'edu', dmaMask: (1n << 64n) - 1n }] }],
  }),
  { watch: (log) => judge.attach(log) },
)
const driver = (call, args = {}) => machine.perform({ verb: 'driver', call, args })

driver('boot')
driver('probe', { device: 'nic' })
driver('alloc_pages', { order: 0n, owner: 'nic', as: 'packet' })
const { outputs } = driver('dma_map_page', {
  device: 'nic',
  buffer: 'packet',
  bytes: 1500n,
  dir: 'from-device',
})
const iova = outputs['handle']
driver('dma_unmap_page', { device: 'nic', handle: iova, bytes: 1500n })
const late = machine.perform({
  verb: 'dma',
  call: 'write',
  args: { device: 'nic', iova, data: 'late packet' },
})

judge.finish()
console.log(`the device sees ${late.code} (${late.rule})`)
for (const { rule, message, because } of judge.findings) {
  console.log(`${rule}: ${message}`)
  for (const { seq, text } of because) console.log(`  #${seq} ${text}`)
}
console.log(judge.verdicts(PSERIES_COVERAGE).filter((v) => v.state === 'broken').length, 'promise broken')
