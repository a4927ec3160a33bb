// Replay a log from bytes, as a page or a test of your own would: no files, no terminal.
import { createReplay, isClean } from 'iommulator/replay'

const log = `spapr_iommu_new_table liobn=0x80000000 table=0x5618057df0a0 fd=-1
spapr_iommu_pci_put liobn=0x80000000 ioba=0x1000 tce=0x48cc003 ret=0
spapr_iommu_xlate liobn=0x80000000 0x1110 -> 0x48cc000 perm=3 mask=0xfff
spapr_iommu_pci_stuff liobn=0x80000000 ioba=0x2000 tcevalue=0x0 npages=1 ret=0
spapr_iommu_xlate liobn=0x80000000 0x1110 -> 0x48cc000 perm=3 mask=0xfff
`

const replay = createReplay({ from: 'qemu-trace', profile: 'qemu-7.2', source: 'inline' })
replay.push(new TextEncoder().encode(log))
const result = replay.end()

console.log(`answers ${result.answers.matched} of ${result.answers.total}, clean: ${isClean(result)}`)
for (const { line, call, log: has, model } of result.divergences) {
  console.log(`line ${line}: ${call}: the log has ${has}, the model ${model}`)
}
for (const { rule, because } of result.findings) {
  console.log(`${rule}: lines ${because.map((e) => e.line).join(', ')}`)
}
