import { kernelLine } from './line-format.ts'

const DMAR = ['DMAR: ', '']
const DEBUG = 'Linux 5.16 on, with CONFIG_DMAR_DEBUG'

export const DUMP_BEGIN = kernelLine('vtd-dump', 'Dump {unit:word} table entries for IOVA 0x{address:x}', {
  heads: DMAR,
  era: DEBUG,
  doc: 'The tables of the device of the fault before, as memory held them a moment later.',
  example: '[  357.100000] DMAR: Dump dmar0 table entries for IOVA 0x1000',
})
export const DUMP_ROOT = kernelLine('vtd-dump-root', 'root entry: 0x{value:x}', {
  heads: DMAR,
  era: DEBUG,
  doc: 'The root entry of the bus.',
  example: '[  357.100000] DMAR: root entry: 0x000000010a2b3001',
})
export const DUMP_SM_ROOT = kernelLine(
  'vtd-dump-sm-root',
  'scalable mode root entry: hi 0x{high:x}, low 0x{low:x}',
  {
    heads: DMAR,
    era: DEBUG,
    doc: 'Both halves of the root entry of the bus.',
    example: '[  357.100000] DMAR: scalable mode root entry: hi 0x0000000000000000, low 0x000000010a2b3001',
  },
)
export const DUMP_CONTEXT = kernelLine('vtd-dump-context', 'context entry: hi 0x{high:x}, low 0x{low:x}', {
  heads: DMAR,
  era: DEBUG,
  doc: 'The context entry of the device.',
  example: '[  357.100000] DMAR: context entry: hi 0x0000000000000401, low 0x000000010b2c4001',
})
export const DUMP_PASID_DIRECTORY = kernelLine('vtd-dump-pasid-directory', 'pasid dir entry: 0x{value:x}', {
  heads: DMAR,
  era: DEBUG,
  doc: 'The entry of the PASID directory.',
  example: '[  442.240357] DMAR: pasid dir entry: 0x000000012c83e001',
})
export const DUMP_PASID_ENTRY = kernelLine(
  'vtd-dump-pasid-entry',
  'pasid table entry[{index:d}]: 0x{value:x}',
  {
    heads: DMAR,
    era: DEBUG,
    doc: 'One of the eight words of the PASID table entry.',
    example: '[  442.246661] DMAR: pasid table entry[0]: 0x0000000000000000',
  },
)
export const DUMP_PTE = kernelLine('vtd-dump-pte', 'pte level: {level:d}, pte value: 0x{value:x}', {
  heads: DMAR,
  era: DEBUG,
  doc: 'The entry at this level of the page tables; the leaf is level 1.',
  example: '[  357.100000] DMAR: pte level: 3, pte value: 0x000000010c2d5003',
})
/** The entry one level higher is not present: so it says which table there is not. */
export const DUMP_NO_TABLE = kernelLine('vtd-dump-no-table', 'page table not present at level {level:d}', {
  heads: DMAR,
  era: `${DEBUG}; since 6.12, and in stable series`,
  doc: 'The entry one level higher is not present, so that there is no table of this level; 0 is the page itself.',
  example: '[  357.100000] DMAR: page table not present at level 2',
})
export const DUMP_NO_PTE = kernelLine('vtd-dump-no-pte', 'PTE not present at level {level:d}', {
  heads: DMAR,
  era: `${DEBUG}; to 6.11`,
  doc: 'The entry of this level is not present, or maps a large page: this version does not tell them apart.',
  example: '[  442.300742] DMAR: PTE not present at level 2',
})
/** What a dump ends at where there is no page table: the name that the kernel prints, before 6.12 and since. */
export const DUMP_ABSENT = (
  [
    ['root', 'root table'],
    ['root-entry', 'root table entry'],
    ['context', 'context table'],
    ['context-entry', 'context table entry'],
    ['legacy', 'legacy mode page table'],
    ['directory', 'pasid directory table'],
    ['directory-entry', 'pasid directory entry'],
    ['pasid', 'pasid table'],
    ['pasid-entry', 'pasid table entry'],
    ['scalable', 'scalable mode page table'],
  ] as const
).map(([id, table]) =>
  kernelLine(`vtd-dump-no-${id}`, `${table} is not present`, {
    heads: DMAR,
    era: DEBUG,
    doc: 'The dump ends here: the table or entry that it names is not there.',
    example: `[  357.254824] DMAR: ${table} is not present`,
  }),
)

export const VTD_DUMP_LINES = [
  DUMP_BEGIN,
  DUMP_ROOT,
  DUMP_SM_ROOT,
  DUMP_CONTEXT,
  DUMP_PASID_DIRECTORY,
  DUMP_PASID_ENTRY,
  DUMP_PTE,
  DUMP_NO_TABLE,
  DUMP_NO_PTE,
  ...DUMP_ABSENT,
] as const
