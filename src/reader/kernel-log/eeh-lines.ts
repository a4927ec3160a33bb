import { declareLineFamily, kernelLine } from './line-format.ts'

/** An endpoint is frozen. */
export const EEH_FROZEN = kernelLine('eeh-frozen', 'EEH: Frozen PHB#{phb:x}-PE#{pe:x} detected', {
  era: 'Linux 3.15-6.x',
  doc: 'The host bridge has stopped all DMA and MMIO of a partitionable endpoint after an error. A number of a host bridge is that of its PCI domain.',
  example: '[   25.662097] EEH: Frozen PHB#2-PE#fd detected',
})

/** The same where the firmware of PowerNV tells of it. */
export const EEH_FROZEN_OLD = kernelLine('eeh-frozen-old', 'EEH: Frozen PE#{pe:x} on PHB#{phb:x} detected', {
  era: 'Linux 3.11 on, PowerNV',
  doc: 'The host bridge has stopped an endpoint; the interrupt of the firmware tells of it.',
  example: '[   25.662097] EEH: Frozen PE#fd on PHB#2 detected',
})

/** The kernel begins to bring an endpoint back. */
export const EEH_RECOVERING = kernelLine('eeh-recovering', 'EEH: Recovering PHB#{phb:x}-PE#{pe:x}', {
  era: 'Linux 5.5 on, and stable 5.4',
  doc: 'The kernel begins to bring a frozen endpoint back.',
  example: '[   25.661962] EEH: Recovering PHB#2-PE#fd',
})

/** The same of a whole host bridge. */
export const EEH_RECOVERING_PHB = kernelLine(
  'eeh-recovering-phb',
  'EEH: Recovering PHB#{phb:x}, location: {location:text}',
  {
    era: 'Linux 5.5 on, and stable 5.4',
    doc: 'The kernel begins to bring a host bridge back, with all that is behind it.',
    example: '[   25.661962] EEH: Recovering PHB#2, location: N/A',
  },
)

/** A host bridge is fenced off. */
export const EEH_FENCED = kernelLine('eeh-fenced', 'enced PHB#{phb:x} detected{more:text}', {
  heads: ['EEH: F', 'EEH: f'],
  era: 'Linux 3.11 on, PowerNV',
  doc: 'A host bridge has fenced itself off: none of its devices can be reached until it is reset.',
  example: '[   25.661962] EEH: Fenced PHB#2 detected, location: N/A',
})

/** A host bridge stopped answering. */
export const EEH_PHB_FAILURE = kernelLine('eeh-phb-failure', 'EEH: PHB#{phb:x} failure detected{more:text}', {
  era: 'Linux 3.11-5.4',
  doc: 'A read of all ones made the kernel ask, and the host bridge as a whole is stopped.',
  example: '[   25.661962] EEH: PHB#2 failure detected, location: N/A',
})

/** A host bridge cannot be brought back. */
export const EEH_DEAD = kernelLine('eeh-dead', 'EEH: dead PHB#{phb:x} detected{more:text}', {
  era: 'Linux 3.11 on, PowerNV',
  doc: 'A host bridge cannot be brought back: its devices are gone until the machine starts anew.',
  example: '[   25.661962] EEH: dead PHB#2 detected, location: N/A',
})

/** Where the endpoint and its host bridge are. */
export const EEH_LOCATION = kernelLine(
  'eeh-location',
  'EEH: PE location: {pe:text}, PHB location: {phb:text}',
  {
    era: 'Linux 3.15 on',
    doc: 'Slot of the endpoint and of its host bridge, as the firmware calls them.',
    example: '[   25.662010] EEH: PE location: UOPWR.A100034-Node0-Builtin SAS, PHB location: N/A',
  },
)

/** A function on the stack of who noticed it. */
export const EEH_CALLER = kernelLine('eeh-caller', 'EEH: [{address:word}] {function:text}', {
  era: 'Linux 5.4 on',
  doc: 'Who read all ones from the frozen endpoint: the functions on the stack, the innermost first.',
  example: '[   25.666794] EEH: [(____ptrval____)] aac_src_check_health+0x8c/0xc0',
})

/** How often it has failed. */
export const EEH_TIMES = kernelLine(
  'eeh-times',
  'EEH: This PCI device has failed {times:d} times in the last hour{more:text}',
  {
    era: 'Linux 3.6 on',
    doc: 'How often the endpoint was frozen in the last hour, and after how many times it is given up.',
    example:
      '[   25.678722] EEH: This PCI device has failed 1 times in the last hour and will be permanently disabled after 5 failures.',
  },
)

/** A driver is told. The only line that names the device of an endpoint. */
export const EEH_INVOKING = kernelLine(
  'eeh-invoking',
  'PCI {device:sbdf}#{pe:x}: EEH: Invoking {call:text}',
  {
    era: 'Linux 5.4 on',
    doc: 'A handler of the driver is called: device, endpoint and driver in one line.',
    example: '[   25.688007] PCI 0002:01:00.0#00fd: EEH: Invoking aacraid->error_detected(IO frozen)',
  },
)

/** The same before. */
export const EEH_INVOKING_OLD = kernelLine(
  'eeh-invoking-old',
  'EEH: PE#{pe:x} (PCI {device:sbdf}): Invoking {call:text}',
  {
    era: 'Linux to 5.3',
    doc: 'A handler of the driver is called: device, endpoint and driver in one line.',
    example: '[ 3222.537514] EEH: PE#800000 (PCI 0384:80:00.0): Invoking bnx2x->error_detected(IO frozen)',
  },
)

/** A driver answers. */
export const EEH_REPORTS = kernelLine(
  'eeh-reports',
  'PCI {device:sbdf}#{pe:x}: EEH: {driver:word} driver reports: {answer:text}',
  {
    era: 'Linux 5.4 on',
    doc: 'What the driver wants: `need reset`, `can recover`, `disconnect`.',
    example: "[  571.879092] PCI 0018:01:00.0#10000: EEH: nvme driver reports: 'need reset'",
  },
)

/** The same before. */
export const EEH_REPORTS_OLD = kernelLine(
  'eeh-reports-old',
  'EEH: PE#{pe:x} (PCI {device:sbdf}): {driver:word} driver reports: {answer:text}',
  {
    era: 'Linux to 5.3',
    doc: 'What the driver wants: `need reset`, `can recover`, `disconnect`.',
    example: "EEH: PE#900000 (PCI 0115:90:00.1): e1000e driver reports: 'disconnect'",
  },
)

/** A driver goes on reading. */
export const EEH_IGNORED = kernelLine(
  'eeh-ignored',
  'PCI {device:sbdf}#{pe:x}: EEH: {reads:d} reads ignored for recovering device at location={location:text} driver={driver:word}',
  {
    era: 'Linux 5.4 on',
    doc: 'A driver goes on reading a frozen device: it may loop until an answer comes that is not all ones.',
    example:
      '[   31.688007] PCI 0002:01:00.0#00fd: EEH: 2100000 reads ignored for recovering device at location=unknown driver=aacraid',
  },
)

/** The same before. */
export const EEH_IGNORED_OLD = kernelLine(
  'eeh-ignored-old',
  'EEH: {reads:d} reads ignored for recovering device at location={location:text} driver={driver:word} pci addr={device:sbdf}',
  {
    era: 'Linux to 5.3',
    doc: 'A driver goes on reading a frozen device: it may loop until an answer comes that is not all ones.',
    example:
      '[  248.670288] EEH: 2100000 reads ignored for recovering device at location=Slot1 driver=mlx5_core pci addr=0000:01:00.1',
  },
)

/** Someone broke the device on purpose. */
export const EEH_INJECTED = kernelLine(
  'eeh-injected',
  '{driver:word} {device:sbdf}: Going to break: {resource:text}',
  {
    era: 'Linux 5.4 on',
    doc: 'Someone wrote to eeh_dev_break of debugfs: memory access of the device is switched off, and the next read freezes it.',
    example: '[  100.000000] nvme 0018:01:00.0: Going to break: [mem 0x3fe8000000000-0x3fe8000007fff 64bit]',
  },
)

/** It is over. */
export const EEH_RECOVERED = kernelLine('eeh-recovered', 'EEH: Recovery successful.', {
  era: 'Linux 4.18 on',
  doc: 'The endpoint works again.',
  example: '[   29.999828] EEH: Recovery successful.',
})

/** The endpoint is given up after too many times. */
export const EEH_DISABLED = kernelLine(
  'eeh-disabled',
  'EEH: PHB#{phb:x}-PE#{pe:x} has failed {times:d} times in the{more:text}',
  {
    era: 'Linux 3.6 on',
    doc: 'The endpoint failed too often in an hour: its devices are removed. Older kernels (4.4, say) go on in the next line.',
    example:
      '[ 1025.678722] EEH: PHB#2-PE#fd has failed 6 times in the last hour and has been permanently disabled.',
  },
)

/** The endpoint cannot be brought back. */
export const EEH_UNABLE = kernelLine(
  'eeh-unable',
  'EEH: Unable to recover from failure from PHB#{phb:x}-PE#{pe:x}.',
  {
    era: 'Linux 3.6 on',
    doc: 'The recovery failed: the devices of the endpoint are removed.',
    example: '[ 1025.678722] EEH: Unable to recover from failure from PHB#2-PE#fd.',
  },
)

/** What the kernel does next while it brings an endpoint back; nothing is told of them. */
const EEH_STEPS = (
  [
    ['eeh-trace', 'EEH: Call Trace:'],
    ['eeh-shutdown', 'EEH: Notify device drivers to shutdown'],
    ['eeh-collect', 'EEH: Collect temporary log'],
    ['eeh-reset', 'EEH: Reset without hotplug activity'],
    ['eeh-reset-hotplug', 'EEH: Reset with hotplug activity'],
    ['eeh-enable-io', 'EEH: Enable I/O for affected devices'],
    ['eeh-enable-dma', 'EEH: Enabled DMA for affected devices'],
    ['eeh-told-reset', 'EEH: Notify device drivers the completion of reset'],
    ['eeh-resume', 'EEH: Notify device driver to resume'],
  ] as const
).map(([id, text]) =>
  kernelLine(id, text, {
    era: 'Linux 3.x-6.x',
    doc: 'A step of the recovery of an endpoint.',
    example: `[   25.681822] ${text}`,
  }),
)

/** A round through the handlers of all drivers begins, or ends. */
const EEH_BEGINNING = kernelLine('eeh-beginning', "EEH: Beginning: '{step:text}'", {
  era: 'Linux 4.18 on',
  doc: 'A round through the handlers of the drivers begins.',
  example: "[   25.684910] EEH: Beginning: 'error_detected(IO frozen)'",
})
const EEH_FINISHED = kernelLine('eeh-finished', "EEH: Finished:'{step:text}'{more:text}", {
  era: 'Linux 4.18 on',
  doc: 'A round through the handlers of the drivers is over.',
  example:
    "[  571.879097] EEH: Finished:'error_detected(IO frozen)' with aggregate recovery state:'need reset'",
})

/** Nothing is recovered on this machine. */
export const EEH_NONE = kernelLine('eeh-none', 'EEH: No capable adapters found{more:text}', {
  era: 'Linux 3.x-6.x',
  doc: 'No device of the machine can be recovered by EEH.',
  example: '[    0.150271] EEH: No capable adapters found: recovery disabled.',
})

/** Lines of the handling of frozen PCI devices on POWER. */
export const EEH_LINES = declareLineFamily({
  id: 'eeh',
  title: 'EEH of POWER',
  source:
    'Linux v3.11-v6.1 arch/powerpc/kernel/eeh.c, eeh_driver.c, platforms/powernv/eeh-powernv.c; real logs',
  isModelled: true,
  mentions: ['EEH: '],
  templates: [
    EEH_FROZEN,
    EEH_FROZEN_OLD,
    EEH_RECOVERING,
    EEH_RECOVERING_PHB,
    EEH_FENCED,
    EEH_PHB_FAILURE,
    EEH_DEAD,
    EEH_LOCATION,
    EEH_CALLER,
    EEH_TIMES,
    EEH_INVOKING,
    EEH_INVOKING_OLD,
    EEH_REPORTS,
    EEH_REPORTS_OLD,
    EEH_IGNORED,
    EEH_IGNORED_OLD,
    EEH_INJECTED,
    EEH_RECOVERED,
    EEH_DISABLED,
    EEH_UNABLE,
    EEH_NONE,
    ...EEH_STEPS,
    EEH_BEGINNING,
    EEH_FINISHED,
  ],
})
