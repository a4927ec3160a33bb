import { type CallDecl, rulesOf } from '../../bits/call.ts'
import type { SpaprPhb } from '../../hw/spapr-phb.ts'
import { type EehBackend, NO_ANSWER } from '../ports.ts'
import {
  CONFIGURE_PE,
  GET_CONFIG_ADDR_INFO2,
  READ_SLOT_RESET_STATE2,
  SET_EEH_OPTION,
  SET_SLOT_RESET,
  SLOT_ERROR_DETAIL,
} from './eeh-calls.ts'
import type { Counts } from './rtas-parts.ts'

const OPTION = rulesOf(SET_EEH_OPTION)
const INFO = rulesOf(GET_CONFIG_ADDR_INFO2)
const STATE = rulesOf(READ_SLOT_RESET_STATE2)
const RESET = rulesOf(SET_SLOT_RESET)
const CONFIGURE = rulesOf(CONFIGURE_PE)
const DETAIL = rulesOf(SLOT_ERROR_DETAIL)

/** Operations of VFIO_EEH_PE_OP by the options of the calls. */
const OP_ENABLE = 1
const OP_GET_STATE = 4
const OP_CONFIGURE = 8
const OP_OF_OPTION: readonly number[] = [0, OP_ENABLE, 2, 3]
const OP_OF_RESET: Readonly<Record<number, number>> = { 0: 5, 1: 6, 3: 7 }
/** Configuration address of a PE: its bus, and 1. */
const PE_ADDRESS = 1
const PE_MODE_SHARED = 2
const EEH_SUPPORTED = 1
const UNAVAILABLE_MS = 1000
const RECOVERY_INFO = 0
const LOG_OPTIONS = [1, 2]

/** What the calls need of whoever answers RTAS calls. */
export interface EehRtasParts {
  /** The PHB that the cells of a call name. */
  readonly phbOf: (args: readonly number[]) => SpaprPhb | undefined
  readonly backendOf: (phb: SpaprPhb) => EehBackend | null
  /** Cells for the guest, after the status. */
  readonly handOut: (cells: readonly number[]) => void
  /** The rule of a call whose end nobody knows. */
  readonly doNotKnow: (why: string) => number
}

type Run = (args: readonly number[], counts: Counts) => number
type CommonRule = 'count-wrong' | 'buid-unknown' | 'eeh-unavailable'

/** The RTAS calls for errors of PCI, as QEMU hands them on to VFIO. (QEMU 7.2 hw/ppc/spapr_pci.c, spapr_pci_vfio.c) */
export function eehRtas(parts: EehRtasParts): readonly (readonly [decl: CallDecl, run: Run])[] {
  /** The checks that all calls begin with. */
  const guarded =
    (
      rules: Readonly<Record<CommonRule, number>>,
      isCounted: (counts: Counts) => boolean,
      run: (backend: EehBackend, args: readonly number[], counts: Counts) => number,
    ): Run =>
    (args, counts) => {
      if (!isCounted(counts)) return rules['count-wrong']
      const phb = parts.phbOf(args)
      if (phb === undefined) return rules['buid-unknown']
      const backend = parts.backendOf(phb)
      return backend === null ? rules['eeh-unavailable'] : run(backend, args, counts)
    }
  /** Hands an operation on: the rule of its end. */
  const operate = (backend: EehBackend, op: number, done: number, refused: number): number => {
    const code = backend.operate(op)
    if (code === NO_ANSWER) return parts.doNotKnow('VFIO_EEH_PE_OP')
    return code < 0 ? refused : done
  }
  const counted = (nargs: number, ...nrets: number[]) => {
    return (counts: Counts) => counts.nargs === nargs && nrets.includes(counts.nret)
  }
  return [
    [
      SET_EEH_OPTION,
      guarded(OPTION, counted(4, 1), (backend, [address = 0, , , option = 0]) => {
        if (option === OP_ENABLE && !backend.hasVfioDevice((address >>> 16) & 0xff)) {
          return OPTION['no-device-on-bus']
        }
        const op = OP_OF_OPTION[option]
        if (op === undefined) return OPTION['option-unknown']
        return operate(backend, op, OPTION.done, OPTION['host-refused'])
      }),
    ],
    [
      GET_CONFIG_ADDR_INFO2,
      guarded(INFO, counted(4, 2), (backend, [address = 0, , , option = 0]) => {
        if (option > 1) return INFO['option-unknown']
        const bus = (address >>> 16) & 0xff
        if (option === 0 && !backend.hasDevice(bus, (address >>> 8) & 0xff)) return INFO['no-device']
        parts.handOut([option === 0 ? (bus << 16) + PE_ADDRESS : PE_MODE_SHARED])
        return INFO.done
      }),
    ],
    [
      READ_SLOT_RESET_STATE2,
      guarded(STATE, counted(3, 4, 5), (backend, _args, { nret }) => {
        const state = backend.operate(OP_GET_STATE)
        if (state === NO_ANSWER) return parts.doNotKnow('VFIO_EEH_PE_OP')
        if (state < 0) return STATE['host-refused']
        const cells = [state, EEH_SUPPORTED, UNAVAILABLE_MS]
        parts.handOut(nret === 5 ? [...cells, RECOVERY_INFO] : cells)
        return STATE.done
      }),
    ],
    [
      SET_SLOT_RESET,
      guarded(RESET, counted(4, 1), (backend, [, , , option = 0]) => {
        const op = OP_OF_RESET[option]
        if (op === undefined) return RESET['option-unknown']
        return operate(backend, op, RESET.done, RESET['host-refused'])
      }),
    ],
    [
      CONFIGURE_PE,
      guarded(CONFIGURE, counted(3, 1), (backend) =>
        operate(backend, OP_CONFIGURE, CONFIGURE.done, CONFIGURE['host-refused']),
      ),
    ],
    [
      SLOT_ERROR_DETAIL,
      guarded(DETAIL, counted(8, 1), (_backend, args) =>
        LOG_OPTIONS.includes(args[7] ?? 0) ? DETAIL.none : DETAIL['option-unknown'],
      ),
    ],
  ]
}
