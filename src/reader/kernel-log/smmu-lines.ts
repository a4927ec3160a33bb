import { declareLineFamily, kernelLine } from './line-format.ts'

/** An event; its four words follow, a line each. */
export const SMMU_EVENT = kernelLine('smmu-event', 'arm-smmu-v3 {unit:word}: event 0x{event:x} received:', {
  era: 'Linux 4.2-6.x',
  doc: 'The unit has queued an event that nobody handles. The four words of the record follow.',
  example: '[  478.907684] arm-smmu-v3 arm-smmu-v3.2.auto: event 0x10 received:',
})

/** One of the four words of an event. */
export const SMMU_WORD = kernelLine('smmu-word', 'arm-smmu-v3 {unit:word}:{gap:blank}0x{word:x}', {
  era: 'Linux 4.2-6.x',
  doc: 'A word of the event before it: the first such line is the first word.',
  example: '[  478.913691] arm-smmu-v3 arm-smmu-v3.2.auto: \t0x0000310200000010',
})

/** The event in words, as newer kernels add it. */
export const SMMU_CLIENT = kernelLine(
  'smmu-client',
  'arm-smmu-v3 {unit:word}: event: {event:word} client: {client:text} sid: 0x{stream:x} ssid: {more:text}',
  {
    era: 'Linux 6.14 on',
    doc: 'An event in words: its name, and the device that the stream belongs to. The record stands before it, unless someone has looked for names only.',
    example:
      '[   70.386109] arm-smmu-v3 arm-smmu-v3.5.auto: event: F_TRANSLATION client: 0001:06:00.0 sid: 0x20600 ssid: 0x0 iova: 0xff9bc000 ipa: 0x0',
  },
)

/** The second of the lines in words. */
export const SMMU_ACCESS = kernelLine(
  'smmu-access',
  'arm-smmu-v3 {unit:word}: {mode:word} {kind:word} {access:word} {stage:word} "{class:text}"{more:text}',
  {
    era: 'Linux 6.14 on',
    doc: 'What kind of access it was, and what of it failed.',
    example:
      '[   70.392000] arm-smmu-v3 arm-smmu-v3.5.auto: unpriv data write s1 "Input address caused fault" stag: 0x0',
  },
)

/** The queue of events was full. */
export const SMMU_OVERFLOW = kernelLine(
  'smmu-overflow',
  'arm-smmu-v3 {unit:word}: EVTQ overflow detected -- events lost',
  {
    era: 'Linux 4.2-6.x',
    doc: 'The unit had more events than its queue holds.',
    example: '[ 3265.542672] arm-smmu-v3 8806000000.iommu: EVTQ overflow detected -- events lost',
  },
)

/** A command does not come to its end. */
export const SMMU_SYNC = kernelLine('smmu-sync', 'arm-smmu-v3 {unit:word}: CMD_SYNC timeout{where:text}', {
  era: 'Linux 4.2 on',
  doc: 'The unit did not complete its commands within the time that the driver waits. Since 5.4 the line says where in the queue.',
  example:
    '[  812.345678] arm-smmu-v3 arm-smmu-v3.0.auto: CMD_SYNC timeout at 0x0000b1b7 [hwprod 0x0000b1c0, hwcons 0x0000b1b7]',
})

/** A command that the unit does not take. */
export const SMMU_COMMAND = kernelLine(
  'smmu-command',
  'arm-smmu-v3 {unit:word}: CMDQ error (cons 0x{cons:x}): {why:text}',
  {
    era: 'Linux 4.2 on',
    doc: 'The unit has stopped at a command, and says why. The driver puts a CMD_SYNC in its place where it can.',
    example: '[  812.345678] arm-smmu-v3 arm-smmu-v3.0.auto: CMDQ error (cons 0x01000123): Illegal command',
  },
)

/** What follows is that command, and no event. */
export const SMMU_SKIPPED = kernelLine(
  'smmu-skipped',
  'arm-smmu-v3 {unit:word}: skipping command in error state:',
  {
    era: 'Linux 4.2 on',
    doc: 'The two words of the command follow, a line each.',
    example: '[  812.345679] arm-smmu-v3 arm-smmu-v3.0.auto: skipping command in error state:',
  },
)

/** An error that is of no stream. */
export const SMMU_GLOBAL = kernelLine(
  'smmu-global',
  'arm-smmu-v3 {unit:word}: unexpected global error reported (0x{error:x}), this could be serious',
  {
    era: 'Linux 4.2 on',
    doc: 'The bits of the register GERROR that changed.',
    example:
      '[  812.345678] arm-smmu-v3 arm-smmu-v3.0.auto: unexpected global error reported (0x00000001), this could be serious',
  },
)

/** Lines that were not printed. */
export const SMMU_SUPPRESSED = kernelLine('smmu-suppressed', '{lines:d} callbacks suppressed', {
  heads: ['arm_smmu_evtq_thread: ', 'arm_smmu_dump_event: '],
  era: 'Linux 5.14 on',
  doc: 'So many events were not printed: more than ten came in five seconds. Since 6.14 another function counts them.',
  example: '[ 3265.549999] arm_smmu_evtq_thread: 25830 callbacks suppressed',
})

/** Lines of the driver of Arm's SMMUv3. */
export const SMMU_LINES = declareLineFamily({
  id: 'smmu-v3',
  title: 'Arm SMMUv3',
  source: 'Linux v4.2-v6.14 drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c; real logs',
  isModelled: false,
  mentions: ['arm-smmu-v3'],
  templates: [
    SMMU_EVENT,
    SMMU_WORD,
    SMMU_CLIENT,
    SMMU_ACCESS,
    SMMU_OVERFLOW,
    SMMU_SYNC,
    SMMU_COMMAND,
    SMMU_SKIPPED,
    SMMU_GLOBAL,
    SMMU_SUPPRESSED,
  ],
})
