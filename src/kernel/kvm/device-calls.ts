import { declareCall } from '../../bits/call.ts'
import {
  arg,
  BAD_POINTER,
  fd,
  iow,
  iowr,
  MAIN,
  NO_MEMORY,
  OF_VM,
  process,
  TCE_TABLES,
  TOO_MANY_FILES,
  u32,
  u64,
  VFIO_DEVICE,
  WITH_STRUCT,
} from './call-parts.ts'

export const KVM_CREATE_DEVICE = declareCall({
  name: 'KVM_CREATE_DEVICE',
  verb: 'ioctl',
  nr: iowr(0xe0, 12),
  family: 'errno',
  layer: 'kvm',
  args: {
    process,
    fd,
    arg,
    type: u32('4: VFIO; 3 (XICS) and 9 (XIVE) are not modelled.'),
    flags: u32('1: only ask.'),
  },
  outputs: { device_fd: { type: 'u32', doc: 'Descriptor of the device.' } },
  answers: [
    ...WITH_STRUCT,
    { rule: 'type-unknown', code: 'ENODEV', when: 'KVM has no such device.' },
    { rule: 'tested', code: 'OK', when: 'flags has 1: there is such a device; none is made.' },
    NO_MEMORY,
    { rule: 'exists', code: 'EBUSY', when: 'The VM has a VFIO device.' },
    TOO_MANY_FILES,
    {
      rule: 'pointer-not-writable',
      code: 'EFAULT',
      when: 'The answer cannot be written to the structure; all else has happened.',
    },
    { rule: 'done', code: 'OK', when: 'The device is there.' },
  ],
  source: `${MAIN}, kvm_ioctl_create_device; ${VFIO_DEVICE}, kvm_vfio_create`,
  doc: 'Makes the device by which a VM is told of groups of VFIO.',
})

const group = u32('Descriptor of the group.')
const GROUP_BAD_FD = {
  rule: 'group-bad-fd',
  code: 'EBADF',
  when: 'The process has no descriptor of the group’s number.',
} as const
const NOT_A_GROUP = { rule: 'not-a-group', code: 'EINVAL', when: 'The file is not VFIO’s.' } as const
const ADDED = { rule: 'added', code: 'EEXIST', when: 'The file was added before.' } as const
const NOT_ADDED = { rule: 'not-added', code: 'ENOENT', when: 'The file was not added.' } as const
/** How putting a hardware table behind a table of the guest is refused, or ends before a record of it is needed. */
const LINK = [
  { rule: 'table-bad-fd', code: 'EBADF', when: 'The process has no descriptor of the table’s number.' },
  { rule: 'not-a-table', code: 'EINVAL', when: 'The file is no TCE table of this VM.' },
  {
    rule: 'no-table-backs',
    code: 'EINVAL',
    when: 'No hardware table that the group has now has pages as small, the same bus address, and at least the length.',
  },
  {
    rule: 'attached-before',
    code: 'OK',
    when: 'The hardware table backs it already: one attachment more.',
  },
] as const

export const KVM_DEV_VFIO_GROUP_ADD = declareCall({
  name: 'KVM_DEV_VFIO_GROUP_ADD',
  verb: 'ioctl',
  family: 'errno',
  layer: 'kvm',
  args: { process, fd, arg, group },
  answers: [
    ...WITH_STRUCT,
    GROUP_BAD_FD,
    NOT_A_GROUP,
    ADDED,
    NO_MEMORY,
    { rule: 'done', code: 'OK', when: 'The device holds the file of the group.' },
  ],
  source: `${VFIO_DEVICE}, kvm_vfio_group_add`,
  doc: 'KVM_SET_DEVICE_ATTR, group 1, attribute 1: tells the VM of a group.',
})

export const KVM_DEV_VFIO_GROUP_DEL = declareCall({
  name: 'KVM_DEV_VFIO_GROUP_DEL',
  verb: 'ioctl',
  family: 'errno',
  layer: 'kvm',
  args: { process, fd, arg, group },
  answers: [
    ...WITH_STRUCT,
    GROUP_BAD_FD,
    NOT_ADDED,
    {
      rule: 'done',
      code: 'OK',
      when: 'Each hardware table that the group has now counts one attachment fewer; the file is let go.',
    },
  ],
  source: `${VFIO_DEVICE}, kvm_vfio_group_del; ${TCE_TABLES}, kvm_spapr_tce_release_iommu_group`,
  doc: 'KVM_SET_DEVICE_ATTR, group 1, attribute 2: the VM forgets a group.',
})

export const KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE = declareCall({
  name: 'KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE',
  verb: 'ioctl',
  family: 'errno',
  layer: 'kvm',
  args: { process, fd, arg, group, table: u32('Descriptor of the TCE table.') },
  answers: [
    ...OF_VM,
    {
      rule: 'attribute-unknown',
      code: 'ENXIO',
      when: 'The kernel does not know the attribute (before Linux 4.12: no-tce-vfio).',
    },
    BAD_POINTER,
    GROUP_BAD_FD,
    NOT_ADDED,
    ...LINK,
    { rule: 'no-memory', code: 'ENOMEM', when: 'There is no memory for the record of the attachment.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'Hypercalls for the table change the hardware table too. What it holds is not copied.',
    },
  ],
  source: `${VFIO_DEVICE}, kvm_vfio_group_set_spapr_tce; ${TCE_TABLES}, kvm_spapr_tce_attach_iommu_group`,
  doc: 'KVM_SET_DEVICE_ATTR, group 1, attribute 3: puts a hardware table behind a table of the guest.',
})

const ATTRIBUTE = {
  flags: u32('Not looked at.'),
  group: u32('1: groups of VFIO.'),
  attr: u64('1 ADD, 2 DEL, 3 SET_SPAPR_TCE.'),
  addr: u64('User address of the structure of the attribute.'),
} as const
const NO_ATTRIBUTE = {
  rule: 'attribute-unknown',
  code: 'ENXIO',
  when: 'The device has no such group, or the group no such attribute.',
} as const

export const KVM_SET_DEVICE_ATTR = declareCall({
  name: 'KVM_SET_DEVICE_ATTR',
  verb: 'ioctl',
  nr: iow(0xe1, 24),
  family: 'errno',
  layer: 'kvm',
  args: { process, fd, arg, ...ATTRIBUTE },
  answers: [
    ...WITH_STRUCT,
    NO_ATTRIBUTE,
    GROUP_BAD_FD,
    NOT_A_GROUP,
    ADDED,
    NOT_ADDED,
    ...LINK,
    NO_MEMORY,
    { rule: 'done', code: 'OK', when: 'As KVM_DEV_VFIO_GROUP_ADD, _DEL or _SET_SPAPR_TCE.' },
  ],
  source: `${MAIN}, kvm_device_ioctl; ${VFIO_DEVICE}, kvm_vfio_set_attr`,
  doc: 'Sets an attribute of the VFIO device of a VM. The three that there are have calls of their own here (KVM_DEV_VFIO_GROUP_ADD, _DEL, _SET_SPAPR_TCE), with the structure of the attribute.',
})

export const KVM_GET_DEVICE_ATTR = declareCall({
  name: 'KVM_GET_DEVICE_ATTR',
  verb: 'ioctl',
  nr: iow(0xe2, 24),
  family: 'errno',
  layer: 'kvm',
  args: { process, fd, arg, ...ATTRIBUTE },
  answers: [
    ...OF_VM,
    { rule: 'nothing-to-read', code: 'EPERM', when: 'No attribute of the device can be read.' },
  ],
  source: `${MAIN}, kvm_device_ioctl_attr`,
  doc: 'Reads an attribute of the VFIO device of a VM.',
})

export const KVM_HAS_DEVICE_ATTR = declareCall({
  name: 'KVM_HAS_DEVICE_ATTR',
  verb: 'ioctl',
  nr: iow(0xe3, 24),
  family: 'errno',
  layer: 'kvm',
  args: { process, fd, arg, ...ATTRIBUTE },
  answers: [
    ...WITH_STRUCT,
    NO_ATTRIBUTE,
    { rule: 'done', code: 'OK', when: 'The device has the attribute.' },
  ],
  source: `${MAIN}, kvm_device_ioctl; ${VFIO_DEVICE}, kvm_vfio_has_attr`,
  doc: 'Asks whether the VFIO device of a VM has an attribute.',
})
