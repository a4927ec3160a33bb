import { PRESETS, type VtdPresetName } from '../../hw/vtd/capabilities.ts'
import { VTD_DEVICE_KINDS, type VtdDeviceInput } from '../q35/description.ts'
import { bytes, choice, count, flag, type Infer, map, optional, required, word } from '../schema/schema.ts'
import { nameText } from './call-schema.ts'

/** Units that are known. */
export const PRESET_NAMES = Object.keys(PRESETS) as VtdPresetName[]

/** Memory that the driver of a unit has. */
export const tableArea = map('tables', {
  gpa: required(bytes('gpa', { max: (1n << 46n) - 1n }), 'Guest physical address of the first byte.'),
  bytes: required(bytes('bytes', { min: 1n << 16n, max: 1n << 30n }), 'How many bytes.'),
})

/** A device with a DMA engine of its own, behind a VT-d unit. */
export const busDevice = map('a device', {
  name: required(nameText('name'), 'How steps and reports call it.'),
  kind: required(
    choice('kind of device', VTD_DEVICE_KINDS),
    'What it is: edu of QEMU, or an endpoint with ATS, PRI and PASIDs.',
  ),
  bus: optional(count('bus', 0, 255), 'PCI bus; 0 if left out.'),
  slot: optional(count('slot', 0, 31), 'PCI device number; 3 and its place in the list if left out.'),
  function: optional(count('function', 0, 7), 'PCI function number; 0 if left out.'),
  dmaMask: optional(word('dmaMask'), 'Bus addresses that edu can form; all if left out.'),
  ats: optional(flag('ats'), 'Whether an endpoint has the ATS capability; it has if left out.'),
  tlbEntries: optional(
    count('tlbEntries', 1, 1 << 20),
    'Translations that it has room for; no bound if left out.',
  ),
  pageRequests: optional(
    count('pageRequests', 0, 1 << 16),
    'Page requests that may wait for a response; 32 if left out, and 0 is no PRI.',
  ),
  pasidBits: optional(count('pasidBits', 0, 20), 'Bits of its PASIDs; 20 if left out, and 0 is no PASIDs.'),
  execute: optional(flag('execute'), 'Whether requests with a PASID may be for execution; so if left out.'),
  privileged: optional(flag('privileged'), 'Whether they may have privilege; so if left out.'),
  sharesGroup: optional(
    flag('sharesGroup'),
    'Whether other devices are in its IOMMU group, as without ACS; it is alone if left out.',
  ),
})

/** The device that a checked document stands for. */
export const busDeviceInput = ({
  ats,
  execute,
  privileged,
  ...rest
}: Infer<typeof busDevice>): VtdDeviceInput => ({
  ...rest,
  hasAts: ats,
  canExecute: execute,
  canBePrivileged: privileged,
})
