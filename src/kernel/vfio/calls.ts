import { type CallDecl, declareCall } from '../../bits/call.ts'
import {
  ATTACH,
  ATTACH_MORE,
  arg,
  BAD_POINTER,
  CONTAINER,
  CORE,
  FDS,
  fd,
  GROUP,
  IOCTL,
  NO_DRIVER,
  NO_PROCESS,
  NOT_WRITABLE,
  nr,
  process,
  SHORT,
  SPAPR,
  structArgs,
  TOO_MANY_FILES,
} from './call-parts.ts'
import { VFIO_EEH_PE_OP } from './eeh-calls.ts'
import { SPAPR_CALLS } from './spapr-calls.ts'
import { STRUCTS } from './structs.ts'

/** What calls are that open, map and close files. */
const ON_FILES = { verb: 'proc', family: 'errno', layer: 'kernel' } as const

/** open of a file that has a driver behind it. */
export const OPEN = declareCall({
  name: 'open',
  ...ON_FILES,
  args: {
    process,
    path: {
      type: 'name',
      doc: '/dev/vfio/vfio, /dev/vfio/ and the number of a group, /dev/kvm, /dev/vhost-net or /dev/tap1.',
    },
  },
  outputs: { fd: { type: 'u32', doc: 'The lowest descriptor that is free.' } },
  answers: [
    NO_PROCESS,
    TOO_MANY_FILES,
    { rule: 'no-file-record', code: 'ENOMEM', when: 'There is no memory for the open file.' },
    { rule: 'no-such-file', code: 'ENOENT', when: 'There is no such file.' },
    {
      rule: 'group-open',
      code: 'EBUSY',
      when: 'The file of the group is still open: by a descriptor, or by a device of it.',
    },
    { rule: 'no-container-record', code: 'ENOMEM', when: 'There is no memory for the container.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'A new container, the group, KVM, a vhost device, or a queue of a tap.',
    },
  ],
  source: `${CORE}; fs/open.c, do_sys_openat2; fs/namei.c, path_openat`,
  doc: 'A process opens a container, a group, KVM, a vhost device, or a tap.',
})

export const CLOSE = declareCall({
  name: 'close',
  ...ON_FILES,
  args: { process, fd },
  answers: [
    ...FDS,
    {
      rule: 'held',
      code: 'OK',
      when: 'The descriptor is gone; the file stays, because something else holds it.',
    },
    {
      rule: 'done',
      code: 'OK',
      when: 'The descriptor was the last holder: a group leaves its container, a device its group.',
    },
  ],
  source:
    'Linux v6.12 fs/open.c; drivers/vfio/group.c, vfio_group_fops_release; vfio_main.c, vfio_device_fops_release',
  doc: 'A process gives a descriptor back. Effects come with the last holder of the file.',
})

export const MMAP_DEVICE = declareCall({
  name: 'mmap_device',
  ...ON_FILES,
  args: { process, fd, map: { type: 'name', doc: 'A name for the mapping; stands for its address.' } },
  answers: [
    ...FDS,
    { rule: 'not-mappable', code: 'ENODEV', when: 'The file is no device.' },
    { rule: 'name-taken', code: 'EEXIST', when: 'The process has a mapping of this name (names are ours).' },
    { rule: 'done', code: 'OK', when: 'The mapping holds the file of the device.' },
  ],
  source: 'Linux v6.12 mm/mmap.c, mmap_region; drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_mmap',
  doc: 'A process maps a region of a device. The device stays open until the mapping is gone.',
})

export const MUNMAP_DEVICE = declareCall({
  name: 'munmap_device',
  ...ON_FILES,
  args: { process, map: { type: 'name', doc: 'Name of the mapping.' } },
  answers: [
    NO_PROCESS,
    { rule: 'not-mapped', code: 'ENOENT', when: 'The process has no mapping of this name (names are ours).' },
    { rule: 'done', code: 'OK', when: 'The mapping is gone, and with it its hold on the file.' },
  ],
  source: 'Linux v6.12 mm/mmap.c, remove_vma',
  doc: 'A process gives up the mapping of a region of a device, or of a TCE table of KVM.',
})

/** An ioctl by its number, in the encoding of powerpc or of other architectures. */
export const RAW_IOCTL = declareCall({
  name: 'ioctl',
  ...IOCTL,
  args: {
    process,
    fd,
    cmd: { type: 'u32', doc: 'Number of the ioctl.' },
    arg: { type: 'u64', optional: true, initial: 0n, doc: 'Third argument: a value, or a user address.' },
  },
  answers: [
    ...FDS,
    {
      rule: 'other-vm',
      code: 'EIO',
      when: 'The file is of a VM that a process with another address space made.',
    },
    NO_DRIVER,
    {
      rule: 'other-process',
      code: 'EPERM',
      when: 'The container keeps books for the address space of another process, or a vhost device works in one, or has no owner.',
    },
    {
      rule: 'bad-pointer',
      code: 'EFAULT',
      when: 'A vhost device does not know the number, and cannot read the index of a queue at the address.',
    },
    {
      rule: 'no-such-queue',
      code: 'ENOBUFS',
      when: 'A vhost device does not know the number, and has no queue of the index at the address.',
    },
    { rule: 'invalid', code: 'EINVAL', when: '/dev/kvm, or a VCPU, does not know the number.' },
    { rule: 'unknown', code: 'ENOTTY', when: 'Another file does not know the number.' },
  ],
  source: `${CORE}; ${SPAPR}; Linux v6.1 virt/kvm/kvm_main.c; arch/powerpc/kvm/powerpc.c; drivers/vhost/vhost.c`,
  doc: 'An ioctl by number. One that the model declares by name is answered by that declaration.',
})

export const VFIO_GET_API_VERSION = declareCall({
  name: 'VFIO_GET_API_VERSION',
  ...IOCTL,
  nr: nr(0),
  args: { process, fd },
  answers: [...CONTAINER, { rule: 'done', code: 'OK', when: 'The version is 0.' }],
  source: CORE,
  doc: 'Asks a container for the version of the interface.',
})

export const VFIO_CHECK_EXTENSION = declareCall({
  name: 'VFIO_CHECK_EXTENSION',
  ...IOCTL,
  nr: nr(1),
  args: {
    process,
    fd,
    extension: { type: 'u64', doc: '1 type1, 2 SPAPR TCE, 3 type1 v2, 5 EEH, 7 SPAPR TCE v2, ...' },
  },
  answers: [
    ...CONTAINER,
    {
      rule: 'supported',
      code: 'RETURN_1',
      when: 'SPAPR TCE v1 and v2, and EEH where the platform has it on. Never asks who the caller is.',
    },
    { rule: 'unsupported', code: 'OK', when: 'Everything else.' },
  ],
  source: `${CORE}; ${SPAPR}`,
  doc: 'Asks whether a driver for containers knows something.',
})

export const VFIO_SET_IOMMU = declareCall({
  name: 'VFIO_SET_IOMMU',
  ...IOCTL,
  nr: nr(2),
  args: { process, fd, type: { type: 'u64', doc: '2 SPAPR TCE v1, 7 SPAPR TCE v2.' } },
  answers: [
    ...CONTAINER,
    { rule: 'no-group', code: 'EINVAL', when: 'The container has no group.' },
    { rule: 'driver-set', code: 'EINVAL', when: 'The container has a driver.' },
    { rule: 'type-unknown', code: 'ENODEV', when: 'No driver claims the type.' },
    {
      rule: 'type-is-extension',
      code: 'EINVAL',
      when: 'The type is 5 and EEH is on: the driver claims the number, as an extension, and knows no such type.',
    },
    { rule: 'no-driver-record', code: 'ENOMEM', when: 'There is no memory for the driver’s container.' },
    ...ATTACH,
    { rule: 'done', code: 'OK', when: 'The container has a driver, and all its groups are attached.' },
  ],
  source: `${CORE}; ${SPAPR}`,
  doc: 'Gives a container its driver. Where a group cannot be attached, those before it are detached again.',
})

export const VFIO_GROUP_GET_STATUS = declareCall({
  name: 'VFIO_GROUP_GET_STATUS',
  ...IOCTL,
  nr: nr(3),
  args: structArgs(STRUCTS.groupStatus),
  outputs: { flags: { type: 'u32', doc: '1 viable, 2 in a container.' } },
  answers: [
    ...GROUP,
    BAD_POINTER,
    SHORT,
    NOT_WRITABLE,
    { rule: 'done', code: 'OK', when: 'The flags are written.' },
  ],
  source: CORE,
  doc: 'Asks whether a group can be used, and whether it is in a container.',
})

export const VFIO_GROUP_SET_CONTAINER = declareCall({
  name: 'VFIO_GROUP_SET_CONTAINER',
  ...IOCTL,
  nr: nr(4),
  args: {
    process,
    fd,
    arg,
    container: { ...fd, optional: true, initial: 0n, doc: 'Descriptor of the container.' },
  },
  answers: [
    ...GROUP,
    BAD_POINTER,
    {
      rule: 'container-bad-fd',
      code: 'EBADF',
      when: 'The process has no descriptor of the container’s number.',
    },
    { rule: 'in-a-container', code: 'EINVAL', when: 'The group is in a container, be it this one.' },
    {
      rule: 'not-a-container',
      code: 'EBADFD',
      when: 'The descriptor is no container’s (from Linux 6.2 on).',
    },
    { rule: 'not-a-container-v6.1', code: 'EINVAL', when: 'The same before Linux 6.2.' },
    {
      rule: 'dma-owned',
      code: 'EPERM',
      when: 'A driver of the kernel is bound to a device of the group and may use DMA.',
    },
    {
      rule: 'ownership-refused',
      code: 'EBUSY',
      when: 'The platform does not give up its own use of the hardware.',
    },
    ...ATTACH_MORE,
    {
      rule: 'done',
      code: 'OK',
      when: 'The group is in the container, attached to its driver if there is one.',
    },
  ],
  source: `${CORE}; ${SPAPR}; drivers/iommu/iommu.c, iommu_group_claim_dma_owner`,
  doc: 'Puts a group into a container. The group holds the container from then on.',
})

export const VFIO_GROUP_UNSET_CONTAINER = declareCall({
  name: 'VFIO_GROUP_UNSET_CONTAINER',
  ...IOCTL,
  nr: nr(5),
  args: { process, fd },
  answers: [
    ...GROUP,
    { rule: 'not-in-a-container', code: 'EINVAL', when: 'The group is in no container.' },
    {
      rule: 'device-open',
      code: 'EBUSY',
      when: 'A device of the group is open, or a mapping of one is left.',
    },
    {
      rule: 'done',
      code: 'OK',
      when: 'The group has left, live mappings or not; with the last group all that the driver has goes.',
    },
  ],
  source: CORE,
  doc: 'Takes a group out of its container.',
})

export const VFIO_GROUP_GET_DEVICE_FD = declareCall({
  name: 'VFIO_GROUP_GET_DEVICE_FD',
  ...IOCTL,
  nr: nr(6),
  args: {
    process,
    fd,
    arg: { type: 'u64', optional: true, doc: 'User address of the name, which ends with a byte 0.' },
    name: { type: 'name', optional: true, initial: '', doc: 'Name of the device, where arg is left out.' },
  },
  outputs: { fd: { type: 'u32', doc: 'Descriptor of the device.' } },
  answers: [
    ...GROUP,
    { rule: 'bad-pointer', code: 'EFAULT', when: 'The name cannot be read up to its end.' },
    { rule: 'name-too-long', code: 'EINVAL', when: 'The name and its end do not fit a system page.' },
    { rule: 'no-name-copy', code: 'ENOMEM', when: 'There is no memory for a copy of the name.' },
    {
      rule: 'no-such-device',
      code: 'ENODEV',
      when: 'The group has no device of this name that VFIO drives.',
    },
    TOO_MANY_FILES,
    {
      rule: 'no-device-record',
      code: 'ENOMEM',
      when: 'There is no memory for what VFIO keeps of this opening.',
    },
    {
      rule: 'no-iommu',
      code: 'EINVAL',
      when: 'The group is in no container, or the container has no driver.',
    },
    {
      rule: 'no-device-memory',
      code: 'ENOMEM',
      when: 'There is no memory for the device’s configuration space (first opening), or for the open file.',
    },
    {
      rule: 'config-blocked',
      code: 'ENODEV',
      when: 'Its configuration space cannot be read (first opening): VFIO_EEH_PE_OP has begun a reset that is not over.',
    },
    { rule: 'done', code: 'OK', when: 'The device is open, and holds the file of its group.' },
  ],
  source: `${CORE}; drivers/vfio/pci/vfio_pci_config.c, vfio_config_init`,
  doc: 'Opens a device of a group.',
})

/** Every call that VFIO answers. */
export const VFIO_CALLS = [
  OPEN,
  CLOSE,
  MMAP_DEVICE,
  MUNMAP_DEVICE,
  RAW_IOCTL,
  VFIO_GET_API_VERSION,
  VFIO_CHECK_EXTENSION,
  VFIO_SET_IOMMU,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_GROUP_GET_DEVICE_FD,
  ...SPAPR_CALLS,
  VFIO_EEH_PE_OP,
] as const satisfies readonly CallDecl[]
