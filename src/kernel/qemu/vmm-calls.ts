import { declareCall } from '../../bits/call.ts'

const group = { type: 'u32', doc: 'Number of the IOMMU group.' } as const
const NOT_RUNNING = {
  rule: 'not-running',
  code: 'GENERIC_ERROR',
  when: 'The guest was not started, or its process has ended.',
} as const
const COMMON = 'QEMU 7.2 hw/vfio/common.c'

/** The guest of a machine starts. */
export const VMM_START = declareCall({
  name: 'start',
  verb: 'vmm',
  family: 'vmm',
  layer: 'qemu',
  args: {},
  answers: [
    { rule: 'started', code: 'GENERIC_ERROR', when: 'It was started before.' },
    {
      rule: 'no-such-process',
      code: 'GENERIC_ERROR',
      when: 'The process that was to run it has ended.',
    },
    {
      rule: 'setup-failed',
      code: 'EXIT_1',
      when: 'A system call of the set-up fails: QEMU says which, and its process ends.',
    },
    {
      rule: 'done',
      code: 'OK',
      when: 'The guest has its memory and a VCPU, its groups are set up, and the default window of every PHB is open.',
    },
  ],
  source: `QEMU 7.2 accel/kvm/kvm-all.c, kvm_init; target/ppc/kvm.c, kvm_arch_init; hw/ppc/spapr.c, spapr_machine_init; ${COMMON}, vfio_get_group`,
  doc: 'A process of the host becomes QEMU and runs the guest of the machine’s description: pseries, with KVM or without.',
})

/** All devices of the guest are reset. */
export const VMM_SYSTEM_RESET = declareCall({
  name: 'system_reset',
  verb: 'vmm',
  family: 'vmm',
  layer: 'qemu',
  args: {},
  answers: [
    NOT_RUNNING,
    {
      rule: 'done',
      code: 'OK',
      when: 'Every PHB has its default window, empty, and no other.',
    },
  ],
  source: 'QEMU 7.2 hw/ppc/spapr_pci.c, spapr_phb_dma_reset',
  doc: 'Resets the guest: windows close, the default ones open anew.',
})

/** A group comes while the guest runs. */
export const VMM_DEVICE_ADD = declareCall({
  name: 'device_add',
  verb: 'vmm',
  family: 'vmm',
  layer: 'qemu',
  args: { group, phb: { type: 'name', optional: true, doc: 'The PHB; the first one if left out.' } },
  answers: [
    NOT_RUNNING,
    { rule: 'no-such-phb', code: 'GENERIC_ERROR', when: 'The guest has no PHB of this name.' },
    { rule: 'group-added', code: 'GENERIC_ERROR', when: 'The guest has the group already (names are ours).' },
    {
      rule: 'setup-failed',
      code: 'GENERIC_ERROR',
      when: 'A system call of the set-up fails: the warnings say which. What was done is taken back.',
    },
    {
      rule: 'done',
      code: 'OK',
      when: 'The group is in a container below the PHB, and the container has a window for each that is open there.',
    },
  ],
  source: `${COMMON}, vfio_get_group, vfio_connect_container`,
  doc: 'Plugs all devices of a group that VFIO has into a PHB of the guest.',
})

/** A group goes while the guest runs. */
export const VMM_DEVICE_DEL = declareCall({
  name: 'device_del',
  verb: 'vmm',
  family: 'vmm',
  layer: 'qemu',
  args: { group },
  answers: [
    NOT_RUNNING,
    { rule: 'no-such-group', code: 'GENERIC_ERROR', when: 'The guest does not have the group.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'KVM forgets the group, and it leaves its container; the last one takes the windows and the registered memory with it.',
    },
  ],
  source: `${COMMON}, vfio_put_group, vfio_disconnect_container`,
  doc: 'Unplugs all devices of a group, the guest willing.',
})

/** Commands to a QEMU that runs on a POWER host. */
export const VMM_CALLS = [VMM_START, VMM_SYSTEM_RESET, VMM_DEVICE_ADD, VMM_DEVICE_DEL] as const
