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
/** A member of an entry of `dmesg --json`, which prints each on a line of its own. */
const DMESG_MEMBER = /^[ \t]{0,40}"(time|msg)":[ \t]{0,20}(\d{1,10}\.\d{6}|".*"),?\s{0,8}$/
const MICROSECONDS = 1_000_000
const KERNEL_NAMES = /^(?:kernel|hypervisor|xen)/
const QEMU_NAMES = /^(?:qemu|QEMU|kvm|libvirtd|virtqemud)/

/** The message of an entry: a text, or its bytes where it is no UTF-8. */
function messageOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (!Array.isArray(value) || !value.every((byte) => Number.isInteger(byte))) return undefined
  return new TextDecoder().decode(Uint8Array.from(value as number[]))
}

/**
 * Reads what `dmesg --json` prints, a line at a time: the time of an entry stands in the line before its message.
 * (util-linux v2.41 sys-utils/dmesg.c print_record(); 2.38.1 as it runs)
 */
export class DmesgJson {
  #timeUs = -1

  /** The message that a line holds; nothing for other lines. */
  entry(line: string): JournalEntry | undefined {
    const found = DMESG_MEMBER.exec(line)
    if (found === null) return undefined
    const [, name, value = ''] = found
    if (name === 'time') {
      this.#timeUs = Math.round(Number(value) * MICROSECONDS)
      return undefined
    }
    const timeUs = this.#timeUs
    this.#timeUs = -1
    try {
      const message: unknown = JSON.parse(value)
      if (typeof message !== 'string') return undefined
      return { lines: message.split('\n', LINES_MAX), timeUs, isQemu: false, host: undefined }
    } catch {
      return undefined
    }
  }
}

/** An entry of `dmesg --json` that another program has put on one line. */
function dmesgEntry({
  msg,
  time,
}: {
  readonly msg?: unknown
  readonly time?: unknown
}): JournalEntry | undefined {
  if (typeof msg !== 'string' || typeof time !== 'number') return undefined
  const timeUs = Math.round(time * MICROSECONDS)
  return { lines: msg.split('\n', LINES_MAX), timeUs, isQemu: false, host: undefined }
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
  if (message === undefined) return dmesgEntry(fields)
  const name = fields['SYSLOG_IDENTIFIER'] ?? fields['_COMM']
  const isQemu = typeof name === 'string' && QEMU_NAMES.test(name)
  const isOurs = isQemu || typeof name !== 'string' || KERNEL_NAMES.test(name)
  const stamp = fields['_SOURCE_MONOTONIC_TIMESTAMP'] ?? fields['__MONOTONIC_TIMESTAMP']
  const timeUs = typeof stamp === 'string' && /^\d{1,15}$/.test(stamp) ? Number(stamp) : -1
  const host = typeof fields['_HOSTNAME'] === 'string' ? fields['_HOSTNAME'] : undefined
  return { lines: isOurs ? message.split('\n', LINES_MAX) : [], timeUs, isQemu, host }
}
