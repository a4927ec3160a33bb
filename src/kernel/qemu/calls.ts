import { type ArgDecl, declareCall } from '../../bits/call.ts'
import { TCE_HCALL } from '../tce-hcalls.ts'
import { EEH_RTAS_CALLS } from './eeh-calls.ts'
import { BUID_UNKNOWN, buid, cfgAddr, nargs, nret } from './rtas-parts.ts'
import { VMM_CALLS } from './vmm-calls.ts'

const SPAPR_IOMMU = 'QEMU 7.2 hw/ppc/spapr_iommu.c'
const SPAPR_DDW = 'QEMU 7.2 hw/ppc/spapr_rtas_ddw.c'

const liobn: ArgDecl = { type: 'u64', doc: 'Names the TCE table. 32 bits count; more name no table.' }
const ioba: ArgDecl = { type: 'u64', doc: 'Bus address of the first page.' }
const r4: ArgDecl = { type: 'u64', doc: 'The LIOBN, as it was passed.' }
const npages: ArgDecl = { type: 'u64', doc: 'How many pages.' }

const LIOBN_UNKNOWN = {
  rule: 'liobn-unknown',
  code: 'H_PARAMETER',
  when: 'No TCE table has the LIOBN, or it needs more than 32 bits.',
} as const
const WINDOW_CLOSED = {
  rule: 'window-closed',
  code: 'H_PARAMETER',
  when: 'The table of the LIOBN has no window now.',
} as const
const IOBA_UNALIGNED = {
  rule: 'ioba-unaligned',
  code: 'H_PARAMETER',
  when: 'The IOBA is not a multiple of the IOMMU page (QEMU rounds it down: Q1).',
} as const
const ZERO_PAGES = {
  rule: 'zero-pages',
  code: 'H_PARAMETER',
  when: 'There is nothing to do: npages is 0 (refused by QEMU only: Q3).',
} as const
const IOBA_OUTSIDE_ALL = {
  rule: 'ioba-outside',
  code: 'H_PARAMETER',
  when: 'A page lies outside the window. Nothing is written (by QEMU: the pages before it are: Q5).',
} as const
const TCE_UNALIGNED = {
  rule: 'tce-unaligned',
  code: 'H_PARAMETER',
  when: 'A TCE with permissions holds an address that is no multiple of the IOMMU page (QEMU does not look: Q4).',
} as const
const TCE_OUTSIDE_RAM = {
  rule: 'tce-outside-ram',
  code: 'H_PARAMETER',
  when: 'The page of a TCE with permissions is not all guest memory (QEMU does not look: Q4).',
} as const

/** One entry of a TCE table is written. */
export const H_PUT_TCE = declareCall({
  name: 'H_PUT_TCE',
  verb: 'hcall',
  family: 'hcall',
  layer: 'qemu',
  nr: TCE_HCALL.H_PUT_TCE,
  doc: 'Writes one TCE.',
  source: SPAPR_IOMMU,
  args: { liobn, ioba, tce: { type: 'u64', doc: 'The TCE; 0 unmaps.' } },
  outputs: { r4 },
  answers: [
    LIOBN_UNKNOWN,
    WINDOW_CLOSED,
    IOBA_UNALIGNED,
    { rule: 'ioba-outside', code: 'H_PARAMETER', when: 'The IOBA lies outside the window.' },
    TCE_UNALIGNED,
    TCE_OUTSIDE_RAM,
    { rule: 'done', code: 'H_SUCCESS', when: 'The entry holds the TCE.' },
  ],
})

/** A list of TCEs in guest memory is written to neighbouring entries. */
export const H_PUT_TCE_INDIRECT = declareCall({
  name: 'H_PUT_TCE_INDIRECT',
  verb: 'hcall',
  family: 'hcall',
  layer: 'qemu',
  nr: TCE_HCALL.H_PUT_TCE_INDIRECT,
  doc: 'Writes up to 512 TCEs from a list in guest memory.',
  source: SPAPR_IOMMU,
  args: { liobn, ioba, list: { type: 'u64', doc: 'GPA of the list of big-endian TCEs.' }, npages },
  outputs: { r4 },
  answers: [
    LIOBN_UNKNOWN,
    { rule: 'too-many', code: 'H_PARAMETER', when: 'npages is more than 512.' },
    { rule: 'list-unaligned', code: 'H_PARAMETER', when: 'The list does not start on a 4 KiB boundary.' },
    ZERO_PAGES,
    WINDOW_CLOSED,
    IOBA_UNALIGNED,
    IOBA_OUTSIDE_ALL,
    {
      rule: 'list-outside-ram',
      code: 'H_PARAMETER',
      when: 'The list is not in guest memory (QEMU reads zeros there: Q6).',
    },
    TCE_UNALIGNED,
    TCE_OUTSIDE_RAM,
    { rule: 'done', code: 'H_SUCCESS', when: 'All entries hold their TCEs.' },
  ],
})

/** One value is written to neighbouring entries. */
export const H_STUFF_TCE = declareCall({
  name: 'H_STUFF_TCE',
  verb: 'hcall',
  family: 'hcall',
  layer: 'qemu',
  nr: TCE_HCALL.H_STUFF_TCE,
  doc: 'Writes one value without permissions to many entries.',
  source: SPAPR_IOMMU,
  args: { liobn, ioba, value: { type: 'u64', doc: 'What every entry then holds.' }, npages },
  outputs: { r4 },
  answers: [
    LIOBN_UNKNOWN,
    {
      rule: 'too-many',
      code: 'H_PARAMETER',
      when: 'npages is more than the window has entries; a table without a window has none.',
    },
    ZERO_PAGES,
    WINDOW_CLOSED,
    IOBA_UNALIGNED,
    IOBA_OUTSIDE_ALL,
    {
      rule: 'value-grants-access',
      code: 'H_PARAMETER',
      when: 'The value has permission bits (QEMU takes it: Q2).',
    },
    { rule: 'done', code: 'H_SUCCESS', when: 'All entries hold the value.' },
  ],
})

/** One entry of a TCE table is read. */
export const H_GET_TCE = declareCall({
  name: 'H_GET_TCE',
  verb: 'hcall',
  family: 'hcall',
  layer: 'qemu',
  nr: TCE_HCALL.H_GET_TCE,
  doc: 'Reads one TCE.',
  source: SPAPR_IOMMU,
  args: { liobn, ioba },
  outputs: {
    r4: { type: 'u64', doc: 'The TCE on H_SUCCESS, else the LIOBN as it was passed.' },
    tce: { type: 'u64', doc: 'The TCE; there on H_SUCCESS only.', optional: true },
  },
  answers: [
    LIOBN_UNKNOWN,
    WINDOW_CLOSED,
    IOBA_UNALIGNED,
    { rule: 'ioba-outside', code: 'H_PARAMETER', when: 'The IOBA lies outside the window.' },
    { rule: 'done', code: 'H_SUCCESS', when: 'r4 holds the entry.' },
  ],
})

/** A hypercall that the machine does not have. */
export const H_UNKNOWN = declareCall({
  name: 'unknown',
  verb: 'hcall',
  family: 'hcall',
  layer: 'qemu',
  doc: 'Any hypercall that no handler is registered for.',
  source: 'QEMU 7.2 hw/ppc/spapr_hcall.c',
  args: {
    opcode: { type: 'u64', doc: 'r3: the number of the hypercall.' },
    r4: { type: 'u64', doc: 'First argument.', optional: true, initial: 0n },
  },
  outputs: { r4: { type: 'u64', doc: 'The first argument, as it was passed.' } },
  answers: [{ rule: 'opcode-unknown', code: 'H_FUNCTION', when: 'The machine has no such hypercall.' }],
})

const DDW_OFF = {
  rule: 'ddw-off',
  code: 'RTAS_OUT_PARAM_ERROR',
  when: 'The PHB has no dynamic windows.',
} as const

/** How many windows can still open, and of what kind. */
export const QUERY_PE_DMA_WINDOW = declareCall({
  name: 'ibm,query-pe-dma-window',
  verb: 'rtas',
  family: 'rtas',
  layer: 'qemu',
  nr: 0x2026,
  doc: 'Asks how many DMA windows can still open, how large, and with which page sizes.',
  source: SPAPR_DDW,
  args: { cfg_addr: cfgAddr, buid, nargs: nargs(3n), nret: nret(6n) },
  outputs: {
    windows: { type: 'u32', doc: 'Windows that can still open.' },
    largest: { type: 'u64', doc: 'TCEs of the largest window: one cell of 5, two of 6.' },
    page_sizes: { type: 'u32', doc: 'Mask of page sizes.' },
    migration: { type: 'u32', doc: 'Mask of page sizes that can migrate: none.' },
  },
  answers: [
    {
      rule: 'count-wrong',
      code: 'RTAS_OUT_PARAM_ERROR',
      when: 'nargs is not 3, or nret is neither 5 nor 6.',
    },
    BUID_UNKNOWN,
    DDW_OFF,
    { rule: 'done', code: 'RTAS_OUT_SUCCESS', when: 'The results tell.' },
  ],
})

/** A window opens. */
export const CREATE_PE_DMA_WINDOW = declareCall({
  name: 'ibm,create-pe-dma-window',
  verb: 'rtas',
  family: 'rtas',
  layer: 'qemu',
  nr: 0x2027,
  doc: 'Opens a DMA window.',
  source: SPAPR_DDW,
  args: {
    cfg_addr: cfgAddr,
    buid,
    page_shift: { type: 'u32', doc: 'IOMMU page size, log2.' },
    window_shift: { type: 'u32', doc: 'Bytes of the window, log2.' },
    nargs: nargs(5n),
    nret: nret(4n),
  },
  outputs: {
    liobn: { type: 'u32', doc: 'LIOBN of the new window.' },
    addr_hi: { type: 'u32', doc: 'Bus address of its first byte, upper half.' },
    addr_lo: { type: 'u32', doc: 'Bus address of its first byte, lower half.' },
  },
  answers: [
    { rule: 'count-wrong', code: 'RTAS_OUT_PARAM_ERROR', when: 'nargs is not 5, or nret is not 4.' },
    BUID_UNKNOWN,
    DDW_OFF,
    { rule: 'page-size-refused', code: 'RTAS_OUT_PARAM_ERROR', when: 'The PHB has no such page size.' },
    {
      rule: 'window-below-page',
      code: 'RTAS_OUT_PARAM_ERROR',
      when: 'The window would be smaller than one of its pages.',
    },
    { rule: 'windows-exhausted', code: 'RTAS_OUT_HW_ERROR', when: 'Both tables of the PHB have a window.' },
    {
      rule: 'too-large',
      code: 'RTAS_OUT_HW_ERROR',
      when: 'The window would have more entries than firmware gives, 2^32 or more, or as many bytes as the bus (from 2^32 on QEMU loses the table: Q9).',
    },
    {
      rule: 'bus-address-taken',
      code: 'RTAS_OUT_HW_ERROR',
      when: 'At every place where a window can start, another one is in the way (QEMU does not look: Q8).',
    },
    { rule: 'done', code: 'RTAS_OUT_SUCCESS', when: 'The window is open, every entry is 0.' },
  ],
})

/** A window closes. */
export const REMOVE_PE_DMA_WINDOW = declareCall({
  name: 'ibm,remove-pe-dma-window',
  verb: 'rtas',
  family: 'rtas',
  layer: 'qemu',
  nr: 0x2028,
  doc: 'Closes a DMA window.',
  source: SPAPR_DDW,
  args: {
    liobn: { type: 'u32', doc: 'LIOBN of the window.' },
    nargs: nargs(1n),
    nret: nret(1n),
  },
  outputs: {},
  answers: [
    { rule: 'count-wrong', code: 'RTAS_OUT_PARAM_ERROR', when: 'nargs or nret is not 1.' },
    { rule: 'liobn-unknown', code: 'RTAS_OUT_PARAM_ERROR', when: 'No TCE table has the LIOBN.' },
    { rule: 'not-a-phb', code: 'RTAS_OUT_PARAM_ERROR', when: 'The table belongs to a VIO device.' },
    DDW_OFF,
    { rule: 'window-closed', code: 'RTAS_OUT_PARAM_ERROR', when: 'The table has no window now.' },
    {
      rule: 'default-restored',
      code: 'RTAS_OUT_SUCCESS',
      when: 'The window is closed; it was the last of the PHB and not the default one, so the default one is back.',
    },
    { rule: 'done', code: 'RTAS_OUT_SUCCESS', when: 'The window is closed.' },
  ],
})

/** The windows are as after a reset. */
export const RESET_PE_DMA_WINDOW = declareCall({
  name: 'ibm,reset-pe-dma-window',
  verb: 'rtas',
  family: 'rtas',
  layer: 'qemu',
  nr: 0x2029,
  doc: 'Closes all DMA windows of a PHB and opens its default one.',
  source: SPAPR_DDW,
  args: { cfg_addr: cfgAddr, buid, nargs: nargs(3n), nret: nret(1n) },
  outputs: {},
  answers: [
    { rule: 'count-wrong', code: 'RTAS_OUT_PARAM_ERROR', when: 'nargs is not 3, or nret is not 1.' },
    BUID_UNKNOWN,
    DDW_OFF,
    { rule: 'done', code: 'RTAS_OUT_SUCCESS', when: 'The default window is the only one.' },
  ],
})

/** An RTAS call that the machine does not have. */
export const RTAS_UNKNOWN = declareCall({
  name: 'unknown',
  verb: 'rtas',
  family: 'rtas',
  layer: 'qemu',
  doc: 'Any RTAS token that no handler is registered for.',
  source: 'QEMU 7.2 hw/ppc/spapr_rtas.c',
  args: { token: { type: 'u32', doc: 'The token of the call.' } },
  outputs: {},
  answers: [
    { rule: 'token-unknown', code: 'RTAS_OUT_PARAM_ERROR', when: 'The machine has no such RTAS call.' },
  ],
})

/** All calls that QEMU answers on sPAPR. */
export const QEMU_CALLS = Object.freeze([
  H_PUT_TCE,
  H_PUT_TCE_INDIRECT,
  H_STUFF_TCE,
  H_GET_TCE,
  H_UNKNOWN,
  QUERY_PE_DMA_WINDOW,
  CREATE_PE_DMA_WINDOW,
  REMOVE_PE_DMA_WINDOW,
  RESET_PE_DMA_WINDOW,
  ...EEH_RTAS_CALLS,
  RTAS_UNKNOWN,
  ...VMM_CALLS,
])
