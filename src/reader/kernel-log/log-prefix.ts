/** Who printed a line. Where the log does not say, it is taken for the kernel's. */
export type LineOrigin = 'kernel' | 'qemu' | 'xen' | 'other'

const BRACKET = 0x5b
const CARRIAGE_RETURN = '\r'
const ESCAPE = '\x1b'
const ESCAPES = new RegExp(`${ESCAPE}\\[[0-9;?]{0,16}[A-Za-z]`, 'g')
/** Marks of a mail, and the blanks by which dmesg indents the second line of a message: as wide as all it prints before. */
const QUOTED = /[ \t]{0,64}(?:>[ \t]{0,8}){0,8}/y
const PRIORITY = /<\d{1,3}>/y
/** A record of /dev/kmsg: level, number, microseconds, flags. */
const KMSG = /\d{1,6},\d{1,20},(\d{1,16}),[^;]{1,60};/y
/** `dmesg --decode`. */
const DECODED =
  /(?:kern|user|daemon|syslog) {0,8}:(?:emerg|alert|crit|err|warn|notice|info|debug) {0,8}: {0,2}/y
/** The stamp of a journal or of syslogd: months as the reader's language names them; with its weekday as short-full. */
const CLOCK =
  /(?:[^\s[\]:]{1,12} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})?|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?|[A-Z][a-z]{2} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})? [A-Z\d+-]{1,6}|\d{9,10}\.\d{6}) {1,2}/y
/** Seconds since the start; behind them those since the line before (`dmesg --show-delta`, short-delta of the journal). */
const STAMP = /\[ {0,12}(\d{1,10})\.(\d{6})(?: <[ \d.+*-]{1,24}>| {16})?\]:? ?/y
/** Which thread or processor printed (CONFIG_PRINTK_CALLER). */
const CALLER = /\[ {0,12}[TC]\d{1,10}\] ?/y
/** `dmesg --ctime` and the first line of a minute of `dmesg --human`, in any language: what holds a time of day. */
const DATED_STAMP = /\[(?=[^[\]]{1,40} \d\d:\d\d[:\]])[^[\]]{1,60}\] ?/y
/** Seconds since the line before, alone: `dmesg --human`, `dmesg --show-delta --notime`. */
const DELTA_STAMP = /\[(?: {0,4}[+-]\d{1,10}\.\d{6}|<[ \d.+-]{1,24}>)\] ?/y
/** The host, and who wrote to the journal. */
const NAMED =
  /(?:([^\s:]{1,255}) )?(kernel|hypervisor|qemu-[\w.-]{1,40}|qemu|QEMU|kvm|libvirtd|virtqemud)(?:\[\d{1,10}\])?:(?: |(?=\[))/y
/** Without a stamp of the journal only programs name themselves. */
const PROGRAM = /(?:qemu-system-[\w.-]{1,40}|qemu-kvm|kvm|qemu)(?:\[\d{1,10}\])?: /y
/** What QEMU puts before each event of a trace. */
const TRACE_STAMP = /\d{1,10}@\d{1,11}\.\d{6}:/y
const XEN = /\(XEN\) {1,2}(?:\[[\d\-:. ]{1,40}\] )?/y

const HOSTS_MAX = 16
const MICROSECONDS = 1_000_000

/** Who writes to the journal as a part of a virtual machine. */
const QEMU_NAME = /^(?:qemu|QEMU|kvm|libvirtd|virtqemud)/

const isDigit = (code: number): boolean => code >= 0x30 && code <= 0x39

const after = (pattern: RegExp, text: string, at: number): number => {
  pattern.lastIndex = at
  return pattern.test(text) ? pattern.lastIndex : at
}

/**
 * Finds the message in a line of dmesg, of the journal, of a serial console, or of QEMU's stderr: what stands before it
 * are stamps and names, in any order in which these programs put them. All patterns are bounded and begin where they
 * are put, so no input makes them slow.
 *
 * @example
 * const prefix = new LogPrefix()
 * prefix.message('[    5.793582] DMAR: DRHD: handling fault status reg 2') // 'DMAR: DRHD: ...', timeUs 5793582
 */
export class LogPrefix {
  /** Microseconds since the kernel started; -1 where the line does not say. */
  timeUs = -1
  origin: LineOrigin = 'kernel'
  /** Hosts that lines of the journal name. */
  readonly hosts = new Set<string>()

  message(line: string): string {
    this.timeUs = -1
    this.origin = 'kernel'
    const text = plain(line)
    let at = after(QUOTED, text, 0)
    at = after(PRIORITY, text, at)
    at = this.#record(text, at)
    at = after(DECODED, text, at)
    at = this.#stamp(text, at)
    // Behind a stamp only a clock that begins with its year may stand.
    if (this.timeUs < 0 || isDigit(text.charCodeAt(at))) at = after(CLOCK, text, at)
    if (text.charCodeAt(at) === BRACKET) at = after(CALLER, text, at)
    const traced = after(TRACE_STAMP, text, at)
    if (traced !== at) {
      this.origin = 'qemu'
      return text.slice(traced)
    }
    at = this.#named(text, at)
    at = this.#stamp(text, at)
    at = this.#named(text, at)
    if (at < text.length && text.charCodeAt(at) === 0x28) {
      const xen = after(XEN, text, at)
      if (xen !== at) this.origin = 'xen'
      at = xen
    }
    return at === 0 ? text : text.slice(at)
  }

  #record(text: string, at: number): number {
    if (!isDigit(text.charCodeAt(at))) return at
    KMSG.lastIndex = at
    const found = KMSG.exec(text)
    if (found === null) return at
    this.timeUs = Number(found[1])
    return KMSG.lastIndex
  }

  #stamp(text: string, at: number): number {
    if (text.charCodeAt(at) !== BRACKET) return at
    STAMP.lastIndex = at
    const found = STAMP.exec(text)
    let end: number
    if (found === null) {
      end = after(DELTA_STAMP, text, at)
      if (end === at) end = after(DATED_STAMP, text, at)
      if (end === at) return at
    } else {
      this.timeUs = Number(found[1]) * MICROSECONDS + Number(found[2])
      end = STAMP.lastIndex
    }
    return text.charCodeAt(end) === BRACKET ? after(CALLER, text, end) : end
  }

  #named(text: string, at: number): number {
    NAMED.lastIndex = at
    const found = NAMED.exec(text)
    if (found !== null) {
      const [, host, name] = found
      if (host !== undefined && this.hosts.size < HOSTS_MAX) this.hosts.add(host)
      if (QEMU_NAME.test(name as string)) this.origin = 'qemu'
      const end = NAMED.lastIndex
      return this.origin === 'qemu' ? after(PROGRAM, text, end) : end
    }
    const program = after(PROGRAM, text, at)
    if (program !== at) this.origin = 'qemu'
    return program
  }
}

/** Without escapes of a terminal, and what a carriage return has overwritten. */
function plain(line: string): string {
  let text = line
  if (text.includes(ESCAPE)) text = text.replace(ESCAPES, '')
  if (!text.includes(CARRIAGE_RETURN)) return text
  let end = text.length
  while (end > 0 && text[end - 1] === CARRIAGE_RETURN) end--
  return text.slice(text.lastIndexOf(CARRIAGE_RETURN, end - 1) + 1, end)
}
