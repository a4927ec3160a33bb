import { type ArgDecl, declareCall } from '../../bits/call.ts'
import { BUID_UNKNOWN, buid, cfgAddr, nargs, nret } from './rtas-parts.ts'

const SPAPR_PCI = 'QEMU 7.2 hw/ppc/spapr_pci.c, spapr_pci_vfio.c'

const EEH_UNAVAILABLE = {
  rule: 'eeh-unavailable',
  code: 'RTAS_OUT_PARAM_ERROR',
  when: 'The PHB has not exactly one VFIO container with exactly one group: never with emulated devices alone.',
} as const
const HOST_REFUSED = {
  rule: 'host-refused',
  code: 'RTAS_OUT_HW_ERROR',
  when: 'VFIO_EEH_PE_OP fails on the host.',
} as const
const HOST_REFUSED_PARAM = { ...HOST_REFUSED, code: 'RTAS_OUT_PARAM_ERROR' } as const
const OPTION_UNKNOWN = {
  rule: 'option-unknown',
  code: 'RTAS_OUT_PARAM_ERROR',
  when: 'There is no such option.',
} as const
const countWrong = (counts: string) =>
  ({
    rule: 'count-wrong',
    code: 'RTAS_OUT_PARAM_ERROR',
    when: `The counts of cells are not ${counts}.`,
  }) as const
const option = (doc: string): ArgDecl => ({ type: 'u32', doc })
const buffer = (doc: string): ArgDecl => ({ type: 'u32', optional: true, initial: 0n, doc })

/** EEH of a PE on and off, or its PE thawed. */
export const SET_EEH_OPTION = declareCall({
  name: 'ibm,set-eeh-option',
  verb: 'rtas',
  family: 'rtas',
  layer: 'qemu',
  nr: 0x2020,
  doc: 'Switches EEH of a PE on or off, or thaws the PE.',
  source: SPAPR_PCI,
  args: {
    cfg_addr: { ...cfgAddr, doc: 'Configuration address: to switch EEH on, its bus counts.' },
    buid,
    option: option('0 off, 1 on, 2 thaw MMIO, 3 thaw DMA.'),
    nargs: nargs(4n),
    nret: nret(1n),
  },
  outputs: {},
  answers: [
    countWrong('4 and 1'),
    BUID_UNKNOWN,
    EEH_UNAVAILABLE,
    {
      rule: 'no-device-on-bus',
      code: 'RTAS_OUT_PARAM_ERROR',
      when: 'On: the bus of the configuration address has no passed-through device.',
    },
    OPTION_UNKNOWN,
    HOST_REFUSED,
    { rule: 'done', code: 'RTAS_OUT_SUCCESS', when: 'The host has done it.' },
  ],
})

/** The PE of a device. */
export const GET_CONFIG_ADDR_INFO2 = declareCall({
  name: 'ibm,get-config-addr-info2',
  verb: 'rtas',
  family: 'rtas',
  layer: 'qemu',
  nr: 0x2021,
  doc: 'Asks for the PE of a device.',
  source: SPAPR_PCI,
  args: {
    cfg_addr: { ...cfgAddr, doc: 'Configuration address of the device.' },
    buid,
    option: option('0 the configuration address of the PE, 1 its mode.'),
    nargs: nargs(4n),
    nret: nret(2n),
  },
  outputs: { info: { type: 'u32', doc: 'Configuration address: bus << 16 and 1. Mode: 2, shared.' } },
  answers: [
    countWrong('4 and 2'),
    BUID_UNKNOWN,
    EEH_UNAVAILABLE,
    {
      rule: 'no-device',
      code: 'RTAS_OUT_PARAM_ERROR',
      when: 'Configuration address: the PHB has no device there.',
    },
    OPTION_UNKNOWN,
    { rule: 'done', code: 'RTAS_OUT_SUCCESS', when: 'The result tells.' },
  ],
})

/** Whether a PE is stopped. */
export const READ_SLOT_RESET_STATE2 = declareCall({
  name: 'ibm,read-slot-reset-state2',
  verb: 'rtas',
  family: 'rtas',
  layer: 'qemu',
  nr: 0x2022,
  doc: 'Asks for the state of a PE.',
  source: SPAPR_PCI,
  args: { cfg_addr: cfgAddr, buid, nargs: nargs(3n), nret: nret(4n) },
  outputs: {
    state: {
      type: 'u32',
      doc: '0 goes, 1 in reset, 2 MMIO and DMA stopped, 4 DMA stopped, 5 unavailable.',
    },
    support: { type: 'u32', doc: '1: there is EEH.' },
    unavailable_ms: { type: 'u32', doc: 'Milliseconds after which to ask again: 1000.' },
    recovery: { type: 'u32', doc: '0, with 5 cells for results only.' },
  },
  answers: [
    countWrong('3 and 4 or 5'),
    BUID_UNKNOWN,
    EEH_UNAVAILABLE,
    HOST_REFUSED_PARAM,
    { rule: 'done', code: 'RTAS_OUT_SUCCESS', when: 'The results tell.' },
  ],
})

/** A reset of a PE begins or ends. */
export const SET_SLOT_RESET = declareCall({
  name: 'ibm,set-slot-reset',
  verb: 'rtas',
  family: 'rtas',
  layer: 'qemu',
  nr: 0x2023,
  doc: 'Asserts a reset of a PE, or takes it back.',
  source: SPAPR_PCI,
  args: {
    cfg_addr: cfgAddr,
    buid,
    option: option('0 takes the reset back, 1 hot, 3 fundamental.'),
    nargs: nargs(4n),
    nret: nret(1n),
  },
  outputs: {},
  answers: [
    countWrong('4 and 1'),
    BUID_UNKNOWN,
    EEH_UNAVAILABLE,
    OPTION_UNKNOWN,
    HOST_REFUSED,
    { rule: 'done', code: 'RTAS_OUT_SUCCESS', when: 'The host has done it.' },
  ],
})

/** Bridges of a PE are set up again. */
export const CONFIGURE_PE = declareCall({
  name: 'ibm,configure-pe',
  verb: 'rtas',
  family: 'rtas',
  layer: 'qemu',
  nr: 0x2024,
  doc: 'Sets the bridges of a PE up again after a reset.',
  source: SPAPR_PCI,
  args: { cfg_addr: cfgAddr, buid, nargs: nargs(3n), nret: nret(1n) },
  outputs: {},
  answers: [
    countWrong('3 and 1'),
    BUID_UNKNOWN,
    EEH_UNAVAILABLE,
    HOST_REFUSED_PARAM,
    { rule: 'done', code: 'RTAS_OUT_SUCCESS', when: 'The host has done it.' },
  ],
})

/** The log of an error. */
export const SLOT_ERROR_DETAIL = declareCall({
  name: 'ibm,slot-error-detail',
  verb: 'rtas',
  family: 'rtas',
  layer: 'qemu',
  nr: 0x2025,
  doc: 'Asks for the log of an error. QEMU has none.',
  source: SPAPR_PCI,
  args: {
    cfg_addr: cfgAddr,
    buid,
    driver_log: buffer('Address of what the driver logged; QEMU does not look at it.'),
    driver_log_bytes: buffer('Bytes of it.'),
    error_log: buffer('Address for the log; QEMU writes nothing.'),
    error_log_bytes: buffer('Bytes for it.'),
    option: option('1 temporary, 2 permanent.'),
    nargs: nargs(8n),
    nret: nret(1n),
  },
  outputs: {},
  answers: [
    countWrong('8 and 1'),
    BUID_UNKNOWN,
    EEH_UNAVAILABLE,
    OPTION_UNKNOWN,
    { rule: 'none', code: 'RTAS_OUT_NO_ERRORS_FOUND', when: 'There is no log.' },
  ],
})

/** RTAS calls for errors of PCI. */
export const EEH_RTAS_CALLS = [
  SET_EEH_OPTION,
  GET_CONFIG_ADDR_INFO2,
  READ_SLOT_RESET_STATE2,
  SET_SLOT_RESET,
  CONFIGURE_PE,
  SLOT_ERROR_DETAIL,
] as const
