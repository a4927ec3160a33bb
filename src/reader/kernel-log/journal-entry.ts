/** An entry of the journal as `journalctl -o json` prints it, a line each. */
export interface JournalEntry {
  /** The message, cut where it has line ends of its own. */
  readonly lines: readonly string[]
  /** Microseconds since the kernel started; -1 where the entry does not say. */
  readonly timeUs: number
  readonly isQemu: boolean
  readonly host: string | undefined
}

const LINES_MAX = 64
const KERNEL_NAMES = /^(?:kernel|hypervisor|xen)/
const QEMU_NAMES = /^(?:qemu|QEMU|kvm|libvirtd|virtqemud)/

/** The message of an entry: a text, or its bytes where it is no UTF-8. */
function messageOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (!Array.isArray(value) || !value.every((byte) => Number.isInteger(byte))) return undefined
  return new TextDecoder().decode(Uint8Array.from(value as number[]))
}

/** Reads an entry; nothing where the line is none. An entry of a program that is no part of this has no lines. */
export function journalMessage(line: string): JournalEntry | undefined {
  let entry: unknown
  try {
    entry = JSON.parse(line)
  } catch {
    return undefined
  }
  if (typeof entry !== 'object' || entry === null) return undefined
  const fields = entry as Readonly<Record<string, unknown>>
  const message = messageOf(fields['MESSAGE'])
  if (message === undefined) return undefined
  const name = fields['SYSLOG_IDENTIFIER'] ?? fields['_COMM']
  const isQemu = typeof name === 'string' && QEMU_NAMES.test(name)
  const isOurs = isQemu || typeof name !== 'string' || KERNEL_NAMES.test(name)
  const stamp = fields['_SOURCE_MONOTONIC_TIMESTAMP'] ?? fields['__MONOTONIC_TIMESTAMP']
  const timeUs = typeof stamp === 'string' && /^\d{1,15}$/.test(stamp) ? Number(stamp) : -1
  const host = typeof fields['_HOSTNAME'] === 'string' ? fields['_HOSTNAME'] : undefined
  return { lines: isOurs ? message.split('\n', LINES_MAX) : [], timeUs, isQemu, host }
}
