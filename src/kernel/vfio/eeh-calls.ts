import { declareCall } from '../../bits/call.ts'
import { COPIED, DRIVER, IOCTL, nr, structArgs, u32, u64 } from './call-parts.ts'
import { STRUCTS } from './structs.ts'

/** What VFIO_EEH_PE_OP does (Linux v6.1 include/uapi/linux/vfio.h, VFIO_EEH_PE_*). */
export const PE_OP = Object.freeze({
  DISABLE: 0,
  ENABLE: 1,
  UNFREEZE_IO: 2,
  UNFREEZE_DMA: 3,
  GET_STATE: 4,
  RESET_DEACTIVATE: 5,
  RESET_HOT: 6,
  RESET_FUNDAMENTAL: 7,
  CONFIGURE: 8,
  INJECT_ERR: 9,
})

export const VFIO_EEH_PE_OP = declareCall({
  name: 'VFIO_EEH_PE_OP',
  ...IOCTL,
  nr: nr(21),
  args: {
    ...structArgs(STRUCTS.eehOp),
    op: u32(
      '0 disable, 1 enable, 2 thaw MMIO, 3 thaw DMA, 4 get state, 5 end reset, 6 hot reset, 7 fundamental reset, 8 configure, 9 inject an error.',
    ),
    type: u32('Error to inject: 0 on a 32-bit bus, 1 on a 64-bit bus.'),
    func: u32(
      'Error to inject: 0, 1 load from memory, address or data; 2, 3 from I/O; 4, 5 from configuration space; 6 to 11 store likewise; 12 to 15 DMA read, address, data, master or target; 16 to 19 DMA write.',
    ),
    addr: u64('Error to inject: address.'),
    mask: u64('Error to inject: bits of the address that count.'),
  },
  answers: [
    ...DRIVER,
    { rule: 'no-pe', code: 'ENODEV', when: 'The group has no PE that EEH looks after.' },
    ...COPIED,
    { rule: 'op-unknown', code: 'EINVAL', when: 'There is no such operation.' },
    { rule: 'eeh-off', code: 'EIO', when: 'Enable: EEH is off.' },
    {
      rule: 'still-frozen',
      code: 'EIO',
      when: 'Enable, thaw or end of reset: firmware says that the PE is still stopped (the PHB is fenced).',
    },
    { rule: 'reset-failed', code: 'EIO', when: 'Firmware does not reset the PE.' },
    { rule: 'inject-argsz-short', code: 'EINVAL', when: 'Inject: argsz is below 40.' },
    {
      rule: 'inject-bad-pointer',
      code: 'EFAULT',
      when: 'Inject: the members that tell the error cannot be read.',
    },
    { rule: 'inject-unsupported', code: 'ENOENT', when: 'Inject: the platform cannot (PowerNV can).' },
    {
      rule: 'inject-refused',
      code: 'EINVAL',
      when: 'Inject: no such function (before Linux 6.12: or type).',
    },
    { rule: 'inject-type-refused', code: 'ERANGE', when: 'Inject: no such type, on PowerNV.' },
    { rule: 'inject-failed', code: 'EIO', when: 'Inject: firmware does not (erratum Q16).' },
    {
      rule: 'state-reset',
      code: 'RETURN_1',
      when: 'Get state: a reset is asserted (firmware of PowerNV never says so).',
    },
    { rule: 'state-stopped', code: 'RETURN_2', when: 'Get state: MMIO and DMA are stopped.' },
    { rule: 'state-dma-stopped', code: 'RETURN_4', when: 'Get state: DMA is stopped, MMIO goes.' },
    {
      rule: 'state-unavailable',
      code: 'RETURN_5',
      when: 'Get state: only MMIO is stopped; or the host recovers a PE above (the PHB).',
    },
    { rule: 'done', code: 'OK', when: 'Done for every group. Get state: MMIO and DMA go.' },
  ],
  source:
    'Linux v6.12 drivers/vfio/vfio_iommu_spapr_tce.c, vfio_spapr_ioctl_eeh_pe_op (v6.1 drivers/vfio/vfio_spapr_eeh.c); arch/powerpc/kernel/eeh.c',
  doc: 'An operation on the PEs of a container: group by group, the one that came last first, until one does not answer 0.',
})
