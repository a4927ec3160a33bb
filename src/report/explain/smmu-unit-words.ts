import { hex } from '../../bits/u64.ts'
import { type FoundLine, valuesOf } from '../../reader/kernel-log/kernel-log-reader.ts'
import { SMMU_COMMAND, SMMU_GLOBAL, SMMU_SYNC } from '../../reader/kernel-log/smmu-lines.ts'
import type { FaultReport } from './fault-log.ts'

/** Bits of GERROR. (Arm IHI 0070, SMMU_GERROR; Linux arm-smmu-v3.h GERROR_*.) */
const GLOBAL_ERRORS: readonly (readonly [bit: bigint, text: string])[] = [
  [1n << 0n, 'a command was not taken (CMDQ_ERR)'],
  [1n << 2n, 'events could not be written to memory: some are lost (EVTQ_ABT_ERR)'],
  [1n << 3n, 'page requests could not be written to memory: some are lost (PRIQ_ABT_ERR)'],
  [1n << 4n, 'the interrupt of a command could not be written (MSI_CMDQ_ABT_ERR)'],
  [1n << 5n, 'the interrupt of events could not be written (MSI_EVTQ_ABT_ERR)'],
  [1n << 6n, 'the interrupt of page requests could not be written (MSI_PRIQ_ABT_ERR)'],
  [1n << 7n, 'the interrupt of global errors could not be written (MSI_GERROR_ABT_ERR)'],
  [1n << 8n, 'the unit is in service failure mode, and translates no more (SFM_ERR)'],
]

const COMMANDS_LATE =
  'Invalidations are late or do not come to an end: devices may go on using what is unmapped.'
const DEVICE_CHECK =
  'is a device gone, or hung, that has a TLB of its own (ATS)? The unit waits for its answer (ATC invalidate)'

/** Errors of a unit itself, which are of no stream; nothing for other lines. */
export function unitFault(line: FoundLine): FaultReport | undefined {
  const sync = valuesOf(SMMU_SYNC, line)
  if (sync !== undefined)
    return {
      key: `sync ${sync.unit}`,
      line,
      describe: () => ({
        kind: 'queue',
        title: `the SMMU ${sync.unit} did not complete its commands`,
        fields: { unit: sync.unit },
        rows: [['means', COMMANDS_LATE]],
        because: [],
        checks: [
          DEVICE_CHECK,
          'dmesg | grep "CMDQ error": a command that the unit does not take stops all behind it',
        ],
      }),
    }
  const command = valuesOf(SMMU_COMMAND, line)
  if (command !== undefined)
    return {
      key: `command ${command.unit} ${command.why}`,
      line,
      describe: () => ({
        kind: 'queue',
        title: `the SMMU ${command.unit} stopped at a command: ${command.why}`,
        fields: { unit: command.unit, cons: hex(command.cons), why: command.why },
        rows: [
          [
            'consumer',
            `${hex(command.cons)}: bits 30:24 are the error, the lower ones the place in the queue`,
          ],
          ['means', COMMANDS_LATE],
        ],
        because: [],
        checks: [
          'the lines behind "skipping command in error state" are the two words of the command',
          DEVICE_CHECK,
        ],
      }),
    }
  const error = valuesOf(SMMU_GLOBAL, line)
  if (error === undefined) return undefined
  const set = GLOBAL_ERRORS.filter(([bit]) => (error.error & bit) !== 0n).map(([, text]) => text)
  return {
    key: `global ${error.unit} ${error.error}`,
    line,
    describe: () => ({
      kind: 'unit',
      title: `the SMMU ${error.unit} reports an error of its own`,
      fields: { unit: error.unit, error: hex(error.error) },
      rows: [['means', `${hex(error.error)}: ${set.join('; ') || 'no bit that is known'}`]],
      because: [],
      checks: ['the next lines of the unit say more: CMDQ error, MSI write aborted, Service Failure Mode'],
    }),
  }
}
