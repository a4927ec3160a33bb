/** Profiles that completion offers; any family and version may be written. */
export const PROFILE_NAMES: readonly string[] = [
  'intended',
  'qemu-7.2',
  'linux-4.2',
  'linux-4.12',
  'linux-4.19',
  'linux-5.4',
  'linux-5.18',
  'linux-6.1',
  'linux-6.12.95',
  'qemu-7.2+linux-6.1',
]
