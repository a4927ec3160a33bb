import { RecordLog } from '../../src/trace/record-log.ts'
import { type CaseGroup, check, type SetUp } from '../case.ts'

const KEEP_RECORDS = 1 << 16

const appends =
  (recording: boolean): SetUp =>
  (operations) => {
    const log = new RecordLog({ keepRecords: KEEP_RECORDS })
    log.on = recording
    if (recording) {
      const probe = new RecordLog({ keepRecords: KEEP_RECORDS })
      for (let i = 0; i < 3; i++) probe.append(i & 7, i - 1, i, i + 1, i + 2)
      check(probe.length === 3 && probe.slot(2, 1) === 3 && probe.causeOf(2) === 1, 'records are kept')
    }
    return {
      operations,
      pass(): number {
        let sum = 0
        for (let i = 0; i < operations; i++) {
          const seq = log.append(i & 7, i, i, i, i, i, i, i, i, i, i, i, i, i)
          sum = (sum + (seq & 0xff)) | 0
        }
        return sum
      },
    }
  }

export const RECORDS: CaseGroup = {
  title: 'Record log',
  note:
    'Ours: RecordLog.append of twelve slots, cause, kind and tick into rows, 2^16 records kept. C: a struct of ' +
    'the same parts into a ring of 2^16, out of line. Off: the log is switched off, its callers still call.',
  cases: [
    {
      id: 'append',
      operation: 'record',
      operations: 1 << 20,
      setUp: appends(true),
      peer: { label: 'C', floor: ['append'], sameSum: true },
    },
    {
      id: 'append/off',
      operation: 'no record',
      operations: 1 << 20,
      setUp: appends(false),
      peer: { label: 'on', setUp: appends(true) },
    },
  ],
}
