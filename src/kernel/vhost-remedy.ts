/**
 * What has been thought of against erratum B8: KVM answers hypercalls for TCEs, and vhost, which keeps translations of its
 * own, is not told. None of these ever shipped; they are the designs of the discussion on linuxppc-dev and kvm-ppc, December
 * 2019 ("kvm/book3s_64: Fixes crash caused by not cleaning vhost IOTLB").
 *
 * - `none`: nobody tells vhost.
 * - `userspace`: QEMU keeps the tables that vhost hears of out of KVM, as it does for VFIO on kernels without
 *   KVM_CAP_SPAPR_TCE_VFIO: it answers every hypercall for them.
 * - `stuff-too-hard`: the patch as it was sent. KVM leaves H_STUFF_TCE of the value 0 to QEMU.
 * - `h-too-hard`: the same for all three calls, wherever one takes an entry back.
 * - `kill-hook`: vhost is put behind a table as a hardware table is, by a descriptor. KVM has it forget what a call writes,
 *   where it would tell the caches of hardware (tce_kill).
 * - `eventfd`: KVM signals a descriptor, and QEMU, when it comes to run, has vhost forget the whole window: the signal has
 *   no room for a range.
 * - `mm-list`: KVM looks for the vhost devices of the process that runs the guest, and has all of them forget the range.
 */
export const VHOST_REMEDIES = Object.freeze([
  'none',
  'userspace',
  'stuff-too-hard',
  'h-too-hard',
  'kill-hook',
  'eventfd',
  'mm-list',
] as const)
export type VhostRemedy = (typeof VHOST_REMEDIES)[number]
