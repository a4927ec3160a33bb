/** Profiles that completion offers; any family and version may be written. */
export const PROFILE_NAMES: readonly string[] = ['intended', 'qemu-7.2', 'linux-6.1', 'qemu-7.2+linux-6.1']

/** The machine whose logs the recordings are. */
export const DEFAULT_PROFILE = 'qemu-7.2'
