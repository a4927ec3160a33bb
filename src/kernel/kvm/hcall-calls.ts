import { type ArgDecl, declareCall } from '../../bits/call.ts'
import { TCE_HCALL } from '../tce-hcalls.ts'
import { process, TCE_TABLES } from './call-parts.ts'

const vcpu: ArgDecl = {
  type: 'u32',
  optional: true,
  doc: 'Descriptor of the VCPU that makes the call; left out, the lowest one of the process.',
}
const liobn: ArgDecl = { type: 'u64', doc: 'Names the TCE table. All 64 bits count.' }
const ioba: ArgDecl = { type: 'u64', doc: 'Bus address of the first page.' }
const npages: ArgDecl = { type: 'u64', doc: 'How many pages.' }
const outputs = { r4: { type: 'u64', doc: 'The LIOBN, as it was passed.' } } as const

const NOT_ENABLED = {
  rule: 'not-enabled',
  code: 'H_TOO_HARD',
  when: 'The hypercall is not switched on in the kernel (KVM_ENABLE_CAP).',
} as const
const LIOBN_UNKNOWN = {
  rule: 'liobn-unknown',
  code: 'H_TOO_HARD',
  when: 'The VM has no table with the LIOBN.',
} as const
const FOUND = [NOT_ENABLED, LIOBN_UNKNOWN] as const
const IOBA_UNALIGNED = {
  rule: 'ioba-unaligned',
  code: 'H_PARAMETER',
  when: 'The IOBA is not a multiple of the IOMMU page.',
} as const
const IOBA_OUTSIDE = {
  rule: 'ioba-outside',
  code: 'H_PARAMETER',
  when: 'A page lies outside the window (erratum X14: the first one).',
} as const
const LEFT = {
  rule: 'taking-back-left',
  code: 'H_TOO_HARD',
  when: 'Remedies h-too-hard and stuff-too-hard against erratum B8, which no kernel has: the call takes an entry back, and user space is to hear of it.',
} as const
/** What a TCE with permissions is held against, before anything is written. */
const TCE_CHECKS = [
  {
    rule: 'tce-unaligned-early',
    code: 'H_PARAMETER',
    when: 'The same as tce-unaligned, before Linux 4.20; before 4.12 also of a TCE without permissions.',
  },
  {
    rule: 'tce-unaligned-real',
    code: 'H_PARAMETER',
    when: 'The same as the next, of a hash guest before Linux 5.19 (of POWER9 before 5.14), where real mode has all that it needs.',
  },
  {
    rule: 'tce-unaligned',
    code: 'H_TOO_HARD',
    when: 'A TCE with permissions has bits set below the IOMMU page, other than the permissions.',
  },
  {
    rule: 'tce-outside-ram-early',
    code: 'H_PARAMETER',
    when: 'The same as the next, before Linux 4.20. Before 4.12 nobody looks.',
  },
  {
    rule: 'tce-outside-ram',
    code: 'H_TOO_HARD',
    when: 'The page of a TCE with permissions begins in no slot.',
  },
  {
    rule: 'not-registered',
    code: 'H_TOO_HARD',
    when: 'A hardware table is behind the table, and the first hardware page of a TCE is not preregistered, or not for such pages.',
  },
] as const
const REFUSED = {
  rule: 'table-refused',
  code: 'H_TOO_HARD',
  when: 'A hardware table cannot take the page; what it took is cleared again, and the table of the guest stays.',
} as const

/** One entry of a TCE table is written. */
export const KVM_H_PUT_TCE = declareCall({
  name: 'H_PUT_TCE',
  verb: 'hcall',
  family: 'hcall',
  layer: 'kvm',
  nr: TCE_HCALL.H_PUT_TCE,
  args: { process, vcpu, liobn, ioba, tce: { type: 'u64', doc: 'The TCE; 0 unmaps.' } },
  outputs,
  answers: [
    ...FOUND,
    IOBA_UNALIGNED,
    IOBA_OUTSIDE,
    LEFT,
    ...TCE_CHECKS,
    REFUSED,
    {
      rule: 'done',
      code: 'H_SUCCESS',
      when: 'Hardware tables map the page or do not, and the entry holds the TCE.',
    },
  ],
  source: `${TCE_TABLES}, kvmppc_h_put_tce`,
  doc: 'Writes one TCE. H_TOO_HARD is never seen by the guest: user space answers the call.',
})

/** A list of TCEs in guest memory is written to neighbouring entries. */
export const KVM_H_PUT_TCE_INDIRECT = declareCall({
  name: 'H_PUT_TCE_INDIRECT',
  verb: 'hcall',
  family: 'hcall',
  layer: 'kvm',
  nr: TCE_HCALL.H_PUT_TCE_INDIRECT,
  args: {
    process,
    vcpu,
    liobn,
    ioba,
    list: { type: 'u64', doc: 'GPA of the list of big-endian TCEs.' },
    npages,
  },
  outputs,
  answers: [
    ...FOUND,
    { rule: 'too-many', code: 'H_PARAMETER', when: 'npages is more than 512.' },
    { rule: 'list-unaligned', code: 'H_PARAMETER', when: 'The list does not start on a 4 KiB boundary.' },
    IOBA_UNALIGNED,
    IOBA_OUTSIDE,
    {
      rule: 'list-outside-ram',
      code: 'H_TOO_HARD',
      when: 'The list is in no slot, or its memory is not there.',
    },
    LEFT,
    ...TCE_CHECKS,
    {
      rule: 'poison-outside-ram',
      code: 'H_PARAMETER',
      when: 'A TCE without permissions, taken for an address, lies in no slot (erratum X2). Those before it are written.',
    },
    REFUSED,
    { rule: 'done', code: 'H_SUCCESS', when: 'All entries hold their TCEs.' },
  ],
  source: `${TCE_TABLES}, kvmppc_h_put_tce_indirect`,
  doc: 'Writes up to 512 TCEs from a list in guest memory. All are checked before the first is written (not so with erratum B5).',
})

/** One value is written to neighbouring entries. */
export const KVM_H_STUFF_TCE = declareCall({
  name: 'H_STUFF_TCE',
  verb: 'hcall',
  family: 'hcall',
  layer: 'kvm',
  nr: TCE_HCALL.H_STUFF_TCE,
  args: { process, vcpu, liobn, ioba, value: { type: 'u64', doc: 'What every entry then holds.' }, npages },
  outputs,
  answers: [
    ...FOUND,
    IOBA_UNALIGNED,
    IOBA_OUTSIDE,
    { rule: 'value-grants-access', code: 'H_PARAMETER', when: 'The value has permission bits.' },
    LEFT,
    REFUSED,
    {
      rule: 'done',
      code: 'H_SUCCESS',
      when: 'Hardware tables map none of the pages, and all entries hold the value.',
    },
  ],
  source: `${TCE_TABLES}, kvmppc_h_stuff_tce`,
  doc: 'Writes one value without permissions to many entries, of which there may be more than 512.',
})

/** One entry of a TCE table is read. */
export const KVM_H_GET_TCE = declareCall({
  name: 'H_GET_TCE',
  verb: 'hcall',
  family: 'hcall',
  layer: 'kvm',
  nr: TCE_HCALL.H_GET_TCE,
  args: { process, vcpu, liobn, ioba },
  outputs: {
    r4: { type: 'u64', doc: 'The TCE on H_SUCCESS, else the LIOBN as it was passed.' },
    tce: { type: 'u64', doc: 'The TCE; there on H_SUCCESS only.', optional: true },
  },
  answers: [
    ...FOUND,
    IOBA_UNALIGNED,
    IOBA_OUTSIDE,
    {
      rule: 'done',
      code: 'H_SUCCESS',
      when: 'r4 holds the entry of the guest’s table; 0 where its page is not there.',
    },
  ],
  source: `${TCE_TABLES}, kvmppc_h_get_tce`,
  doc: 'Reads one TCE.',
})

export const KVM_HCALLS = [KVM_H_PUT_TCE, KVM_H_PUT_TCE_INDIRECT, KVM_H_STUFF_TCE, KVM_H_GET_TCE] as const
