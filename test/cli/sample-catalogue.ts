import { type CallDecl, declareCall } from '../../src/bits/call.ts'
import { declareErrata } from '../../src/bits/errata.ts'
import type { Catalogue } from '../../src/machine/scenario/catalogue.ts'

/** A few calls with every type of argument: what scenario tests stand on, whatever the machine has. */
const H_PUT_TCE = declareCall({
  name: 'H_PUT_TCE',
  verb: 'hcall',
  family: 'hcall',
  layer: 'qemu',
  nr: 0x20,
  args: {
    liobn: { type: 'u64', doc: 'Names the table.' },
    ioba: { type: 'u64', doc: 'Bus address.' },
    tce: { type: 'u64', doc: 'The entry.' },
  },
  answers: [
    { rule: 'liobn-unknown', code: 'H_PARAMETER', when: 'No table has the LIOBN.' },
    { rule: 'done', code: 'H_SUCCESS', when: 'The entry is written.' },
  ],
  source: 'QEMU 7.2 hw/ppc/spapr_iommu.c',
  doc: 'Writes one entry.',
})

/** The same call by another layer, with answers of its own. */
const H_PUT_TCE_KVM = declareCall({
  ...H_PUT_TCE,
  layer: 'kvm',
  answers: [
    { rule: 'no-table', code: 'H_TOO_HARD', when: 'KVM has no table for the LIOBN.' },
    { rule: 'done', code: 'H_SUCCESS', when: 'The entry is written.' },
  ],
})

const H_GET_TCE = declareCall({
  name: 'H_GET_TCE',
  verb: 'hcall',
  family: 'hcall',
  layer: 'qemu',
  nr: 0x1c,
  args: { liobn: { type: 'u64', doc: 'Names the table.' }, ioba: { type: 'u64', doc: 'Bus address.' } },
  outputs: { tce: { type: 'u64', doc: 'The entry.' } },
  answers: [
    { rule: 'liobn-unknown', code: 'H_PARAMETER', when: 'No table has the LIOBN.' },
    { rule: 'done', code: 'H_SUCCESS', when: 'The entry is handed out.' },
  ],
  source: 'QEMU 7.2 hw/ppc/spapr_iommu.c',
  doc: 'Reads one entry.',
})

const CREATE = declareCall({
  name: 'ibm,create-pe-dma-window',
  verb: 'rtas',
  family: 'rtas',
  layer: 'qemu',
  nr: 0x2027,
  args: {
    phb: { type: 'name', doc: 'PHB.' },
    pageShift: { type: 'u32', doc: 'log2 of the page.' },
    windowShift: { type: 'u32', doc: 'log2 of the window.' },
  },
  outputs: {
    liobn: { type: 'u32', doc: 'Names the new table.' },
    address: { type: 'u64', doc: 'First address.' },
  },
  answers: [
    { rule: 'page-size', code: 'RTAS_OUT_PARAM_ERROR', when: 'The PHB has no such page size.' },
    { rule: 'done', code: 'RTAS_OUT_SUCCESS', when: 'The window is there.' },
  ],
  source: 'QEMU 7.2 hw/ppc/spapr_rtas_ddw.c',
  doc: 'Makes a window.',
})

const WRITE = declareCall({
  name: 'write',
  verb: 'dma',
  family: 'dma',
  layer: 'phb',
  args: {
    device: { type: 'name', doc: 'Who writes.' },
    iova: { type: 'u64', doc: 'Where.' },
    data: { type: 'bytes', doc: 'What.' },
    burst: { type: 'u8', doc: 'Bytes of a burst.', initial: 64n },
    relaxed: { type: 'flag', doc: 'Ordering.', optional: true },
  },
  answers: [
    { rule: 'refused', code: 'MEMTX_ACCESS_ERROR', when: 'No permission.' },
    { rule: 'done', code: 'MEMTX_OK', when: 'All bytes were written.' },
  ],
  source: 'QEMU 7.2 hw/misc/edu.c',
  doc: 'A device writes.',
})

const MAP_SG = declareCall({
  name: 'dma_map_sg',
  verb: 'driver',
  family: 'driver',
  layer: 'guest',
  args: {
    device: { type: 'name', doc: 'For whom.' },
    segments: { type: 'segments', doc: 'Memory.' },
    direction: { type: 'choice', doc: 'Who writes.', choices: ['to-device', 'from-device', 'both'] },
    hints: { type: 'words', doc: 'Anything.', optional: true },
    maxBytes: { type: 'count', doc: 'Longest segment.', optional: true },
    queue: { type: 'u16', doc: 'Queue.', optional: true },
  },
  outputs: { segments: { type: 'segments', doc: 'Bus addresses.' } },
  answers: [
    { rule: 'no-space', code: 'EIO', when: 'The window is full.' },
    { rule: 'done', code: 'DONE', when: 'All is mapped.' },
  ],
  source: 'Linux v6.1 arch/powerpc/kernel/iommu.c',
  doc: 'Maps a scatter list.',
})

const ADVANCE = declareCall({
  name: 'advance',
  verb: 'tick',
  family: 'errno',
  layer: 'model',
  args: { ticks: { type: 'count', doc: 'How many.', initial: 1n } },
  answers: [{ rule: 'done', code: 'OK', when: 'Time has passed.' }],
  source: 'The model itself',
  doc: 'Time passes.',
})

const calls: readonly CallDecl[] = [H_PUT_TCE, H_PUT_TCE_KVM, H_GET_TCE, CREATE, WRITE, MAP_SG, ADVANCE]

const errata = declareErrata([
  {
    id: 'X11',
    title: 'Errors of H_PUT_TCE_INDIRECT are reported as success',
    kind: 'defect',
    family: 'linux',
    versions: [{}],
    wrong: 'The mapping is used although the hypervisor refused it.',
    right: 'The mapping fails.',
    source: 'Linux v6.1 arch/powerpc/platforms/pseries/iommu.c',
    evidence: 'source',
    scenario: 'x11.yaml',
  },
])

export const SAMPLE: Catalogue = {
  calls,
  rules: [{ id: 'use-after-unmap' }, { id: 'double-map' }, { id: 'leak-at-end' }],
  errata,
}
