import { type ArgDecl, declareCall } from '../../bits/call.ts'

const PCIE = 'PCI Express Base Specification 5.0, Address Translation Services'
const ATS = { verb: 'ats', family: 'ats', layer: 'device', source: PCIE } as const
const PRI = { ...ATS, verb: 'pri', source: `${PCIE}, Page Request Services` } as const

const device: ArgDecl = { type: 'name', doc: 'Name of the device.' }
const iova: ArgDecl = { type: 'u64', doc: 'Bus address.' }
const flag = (doc: string, initial = false): ArgDecl => ({ type: 'flag', optional: true, initial, doc })
const pasid: ArgDecl = { type: 'u32', doc: 'PASID; none if left out.', optional: true }
const privileged = flag('Whether the request has privilege.')

const NO_ATS = { rule: 'no-ats', code: 'NO_CAPABILITY', when: 'The device has no ATS.' } as const
const NO_PASID = { rule: 'no-pasid', code: 'NO_CAPABILITY', when: 'The device has no PASIDs.' } as const
const NO_PRI = { rule: 'no-pri', code: 'NO_CAPABILITY', when: 'The device has no PRI.' } as const
const TAGS_OFF = {
  rule: 'tags-off',
  code: 'NOT_SENT',
  when: 'A PASID, privilege or execution is named that the device does not have, or that is off; or the PASID is too wide.',
} as const

export const ATS_ENABLE = declareCall({
  name: 'enable',
  ...ATS,
  args: { device },
  answers: [
    NO_ATS,
    { rule: 'done', code: 'SUCCESS', when: 'The device uses translations that it asks for, from now on.' },
  ],
  doc: 'Software switches ATS on in a device. PASIDs come before, as they may not be switched while it is on.',
})

export const ATS_DISABLE = declareCall({
  name: 'disable',
  ...ATS,
  args: { device },
  answers: [
    NO_ATS,
    { rule: 'done', code: 'SUCCESS', when: 'The device forgets its translations, and asks for none.' },
  ],
  doc: 'Software switches ATS off in a device.',
})

export const ATS_ENABLE_PASID = declareCall({
  name: 'enable_pasid',
  ...ATS,
  source: 'PCI Express Base Specification 5.0, PASID Extended Capability',
  args: {
    device,
    execute: flag('Whether its requests may be for execution.'),
    privileged: flag('Whether its requests may have privilege.'),
  },
  answers: [
    NO_PASID,
    {
      rule: 'tags-unsupported',
      code: 'NO_CAPABILITY',
      when: 'Execution or privilege is wanted, and the device does not have it.',
    },
    { rule: 'done', code: 'SUCCESS', when: 'Its requests may carry a PASID.' },
  ],
  doc: 'Software switches PASIDs on in a device; while ATS is on, what comes of it is not defined.',
})

export const ATS_DISABLE_PASID = declareCall({
  name: 'disable_pasid',
  ...ATS,
  source: 'PCI Express Base Specification 5.0, PASID Extended Capability',
  args: { device },
  answers: [
    NO_PASID,
    { rule: 'done', code: 'SUCCESS', when: 'No request of the device carries a PASID any more.' },
  ],
  doc: 'Software switches PASIDs off in a device; while ATS is on, what comes of it is not defined.',
})

export const ATS_TRANSLATE = declareCall({
  name: 'translate',
  ...ATS,
  args: {
    device,
    iova,
    pasid,
    privileged,
    execute: flag('Whether it asks to execute.'),
    noWrite: flag('Whether it says that it does not want to write (NW).'),
  },
  outputs: {
    address: { type: 'u64', doc: 'Where in memory the address is.' },
    bytes: { type: 'u64', doc: 'Bytes of the page that the translation is for.' },
    read: { type: 'flag', doc: 'Whether the device may read there.' },
    write: { type: 'flag', doc: 'Whether it may write.' },
    execute: { type: 'flag', doc: 'Whether it may execute.' },
    reason: { type: 'u8', doc: 'Fault reason of the unit, where it refuses.' },
  },
  answers: [
    { rule: 'ats-off', code: 'NOT_SENT', when: 'ATS is off in the device, or it has none.' },
    TAGS_OFF,
    {
      rule: 'refused',
      code: 'UNSUCCESSFUL',
      when: 'The unit blocks the request: root, context or PASID entry do not allow it.',
    },
    {
      rule: 'no-permission',
      code: 'SUCCESS',
      when: 'The completion allows neither to read nor to write: nothing is kept.',
    },
    { rule: 'done', code: 'SUCCESS', when: 'The device keeps the translation.' },
  ],
  doc: 'The device asks for a translation, and keeps it.',
})

/** What a device does with an invalidation request. */
export const INVALIDATION_WAYS = ['at-once', 'late', 'lost', 'ignored', 'kept'] as const
export type InvalidationWay = (typeof INVALIDATION_WAYS)[number]

export const ATS_BEHAVE = declareCall({
  name: 'behave',
  ...ATS,
  args: {
    device,
    invalidations: {
      type: 'choice',
      choices: INVALIDATION_WAYS,
      doc: 'at-once: forgets and completes. late: forgets and completes some ticks later. lost: forgets, and the completion does not arrive. ignored: neither. kept: completes, and forgets nothing.',
    },
    ticks: { type: 'u32', optional: true, initial: 1n, doc: 'How many ticks later.' },
  },
  answers: [
    NO_ATS,
    { rule: 'done', code: 'SUCCESS', when: 'The device does so with all invalidations that come.' },
  ],
  doc: 'Says how a device treats invalidation requests; without this step at once.',
})

export const ATS_COMPLETE = declareCall({
  name: 'complete',
  ...ATS,
  args: { device },
  answers: [
    NO_ATS,
    {
      rule: 'unexpected',
      code: 'SUCCESS',
      when: 'No invalidation waits in the device: it sends a completion that nobody waits for.',
    },
    { rule: 'done', code: 'SUCCESS', when: 'The oldest invalidation that waits in the device is done now.' },
  ],
  doc: 'The device sends an invalidation completion.',
})

export const ATS_FORGET = declareCall({
  name: 'forget',
  ...ATS,
  args: { device },
  outputs: { entries: { type: 'count', doc: 'Translations that it had.' } },
  answers: [NO_ATS, { rule: 'done', code: 'SUCCESS', when: 'It keeps none.' }],
  doc: 'The device forgets its translations, as it may at any time.',
})

export const ATS_RELEASE_PASID = declareCall({
  name: 'release_pasid',
  ...ATS,
  source:
    'VT-d manual, rev. 2.x, PASID-State Table Entry; Linux v4.9 drivers/iommu/intel-svm.c, intel_flush_svm_range',
  args: { device, pasid: { type: 'u32', doc: 'PASID.' } },
  answers: [
    NO_PASID,
    {
      rule: 'not-counted',
      code: 'SUCCESS',
      when: 'The unit counts no users of PASIDs, or the device has made no request with this one.',
    },
    {
      rule: 'done',
      code: 'SUCCESS',
      when: 'One user less (AREFCNT): without any, software may put off invalidations until the next request.',
    },
  ],
  doc: 'The device has no more work for a PASID, and forgets the translations that it keeps of it. Its next request makes the PASID active again.',
})

export const PRI_ENABLE = declareCall({
  name: 'enable',
  ...PRI,
  args: {
    device,
    requests: {
      type: 'u32',
      optional: true,
      doc: 'Page requests that may wait for a response; as many as the device can if left out.',
    },
  },
  answers: [
    NO_PRI,
    { rule: 'done', code: 'SUCCESS', when: 'The device may request pages; its status is clear.' },
  ],
  doc: 'Software switches page requests on in a device.',
})

export const PRI_DISABLE = declareCall({
  name: 'disable',
  ...PRI,
  args: { device },
  answers: [NO_PRI, { rule: 'done', code: 'SUCCESS', when: 'The device requests no more pages.' }],
  doc: 'Software switches page requests off in a device. Responses to earlier ones still count.',
})

export const PRI_RESET = declareCall({
  name: 'reset',
  ...PRI,
  args: { device },
  answers: [
    NO_PRI,
    {
      rule: 'enabled',
      code: 'NOT_SENT',
      when: 'Page requests are on: nothing happens.',
    },
    { rule: 'done', code: 'SUCCESS', when: 'The device knows of no page request that it has made.' },
  ],
  doc: 'Software resets the page requests of a device; what waited for them fails.',
})

export const PRI_REQUEST = declareCall({
  name: 'request',
  ...PRI,
  args: {
    device,
    iova,
    pasid,
    read: flag('Whether it wants to read.', true),
    write: flag('Whether it wants to write.'),
    execute: flag('Whether it wants to execute.'),
    privileged,
    group: { type: 'u16', optional: true, initial: 0n, doc: 'Index of the group: 9 bits.' },
    last: flag('Whether it is the last one of its group, which asks for a response.', true),
    private: { type: 'u64', optional: true, doc: 'Private data; none if left out.' },
  },
  answers: [
    { rule: 'pri-off', code: 'NOT_SENT', when: 'Page requests are off in the device, or it has none.' },
    TAGS_OFF,
    { rule: 'group-too-wide', code: 'NOT_SENT', when: 'The index of the group has more than 9 bits.' },
    {
      rule: 'no-credit',
      code: 'NOT_SENT',
      when: 'As many page requests wait for a response as software allows.',
    },
    {
      rule: 'refused',
      code: 'UNSUCCESSFUL',
      when: 'The unit answers with a failure: page requests are off in the device from then on.',
    },
    { rule: 'dropped', code: 'DROPPED', when: 'The queue of the unit has no place for it.' },
    { rule: 'done', code: 'SUCCESS', when: 'It is in the queue of the unit.' },
  ],
  doc: 'The device requests a page, whatever it has. One that neither reads nor writes and is the last one is a stop marker: no response comes.',
})

export const PRI_STATUS = declareCall({
  name: 'status',
  ...PRI,
  args: { device },
  outputs: {
    enabled: { type: 'flag', doc: 'Whether the device may request pages.' },
    failed: { type: 'flag', doc: 'Whether a response said failure (RF).' },
    unexpected: { type: 'flag', doc: 'Whether a response came for a group that did not wait (UPRGI).' },
    waiting: { type: 'count', doc: 'Groups that wait for a response.' },
    accesses: { type: 'count', doc: 'Requests of the device that wait for pages.' },
  },
  answers: [NO_PRI, { rule: 'done', code: 'SUCCESS', when: 'Its status is read.' }],
  doc: 'Software reads the status of the page requests of a device.',
})

/** What software and a device with ATS, PRI and PASIDs do with each other. */
export const ENDPOINT_CALLS = Object.freeze([
  ATS_ENABLE,
  ATS_DISABLE,
  ATS_ENABLE_PASID,
  ATS_DISABLE_PASID,
  ATS_TRANSLATE,
  ATS_BEHAVE,
  ATS_COMPLETE,
  ATS_FORGET,
  ATS_RELEASE_PASID,
  PRI_ENABLE,
  PRI_DISABLE,
  PRI_RESET,
  PRI_REQUEST,
  PRI_STATUS,
])
