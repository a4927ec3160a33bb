import { type ArgDecl, declareCall } from '../../bits/call.ts'

const CORE = 'Linux v6.1 arch/powerpc/kernel/eeh.c'
const device: ArgDecl = { type: 'name', doc: 'Name of the device.' }

/** A driver asks whether its device was cut off. */
export const EEH_CHECK_FAILURE = declareCall({
  name: 'eeh_check_failure',
  verb: 'driver',
  family: 'errno',
  layer: 'kernel',
  args: { device },
  answers: [
    { rule: 'no-device', code: 'OK', when: 'The kernel has no device there any more.' },
    { rule: 'eeh-off', code: 'OK', when: 'EEH is off.' },
    { rule: 'no-pe', code: 'OK', when: 'The device is in no PE that EEH looks after.' },
    {
      rule: 'phb-fenced',
      code: 'RETURN_1',
      when: 'The PHB is fenced, and this is the first to notice: all of the PHB is isolated and will be recovered.',
    },
    {
      rule: 'passed-through',
      code: 'OK',
      when: 'VFIO has handed the PE out: whoever has it looks after it, and the host ignores it.',
    },
    {
      rule: 'isolated-before',
      code: 'RETURN_1',
      when: 'The PE is isolated already: the read is counted (the 2100000th brings a warning).',
    },
    {
      rule: 'false-positive',
      code: 'OK',
      when: 'MMIO and DMA of the PE go on, or firmware has given it up: all ones were the value of the register.',
    },
    {
      rule: 'parent-isolated',
      code: 'RETURN_1',
      when: 'A PE above, below the PHB, is stopped in part: that one is isolated and will be recovered. (One whose MMIO and DMA are both stopped is not seen: its state is 0.)',
    },
    { rule: 'isolated', code: 'RETURN_1', when: 'The PE is isolated and will be recovered.' },
  ],
  source: `${CORE}, eeh_check_failure, eeh_dev_check_failure`,
  doc: 'Finds out whether all ones, read from a device, mean that its PE is frozen. Every driver does so with each such read of a register.',
})

/** The file eeh_pe_state of a device is read. */
export const READ_EEH_PE_STATE = declareCall({
  name: 'read_eeh_pe_state',
  verb: 'proc',
  family: 'errno',
  layer: 'kernel',
  args: { device },
  outputs: {
    firmware: {
      type: 'u32',
      doc: 'Bits of what firmware says: 1 unavailable, 2 lost, 4 in reset, 8 MMIO active, 0x10 DMA active, 0x20 MMIO enabled, 0x40 DMA enabled.',
    },
    kernel: {
      type: 'u32',
      doc: 'Bits of what the kernel holds: 1 isolated, 2 recovering, 4 configuration space blocked, 8 in reset, 0x100 kept, 0x200 configuration space restricted, 0x400 given up.',
    },
  },
  answers: [
    { rule: 'no-device', code: 'ENOENT', when: 'The kernel has no device there any more, and no such file.' },
    { rule: 'eeh-off', code: 'ENOENT', when: 'EEH is off, so that there is no such file.' },
    { rule: 'no-pe', code: 'ENODEV', when: 'The device is in no PE.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'Both states. Asking is not without effect: a PE that is found frozen is isolated, but not recovered.',
    },
  ],
  source: 'Linux v6.1 arch/powerpc/kernel/eeh_sysfs.c, eeh_pe_state_show',
  doc: 'Reads eeh_pe_state of a device in sysfs.',
})

/** Every call that EEH answers. */
export const EEH_CALLS = [EEH_CHECK_FAILURE, READ_EEH_PE_STATE] as const
