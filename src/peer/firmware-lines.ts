/** How a message of skiboot begins: seconds with nine digits, and its level. The kernel's have six, and none. */
const STAMP = /\[ *\d+\.\d{9},\d\] /

/**
 * A console without what firmware says on it by itself. Where the machine below is busy, skiboot finds timers stuck and
 * says so in the middle of whatever is printed; its message may stop without an end of line where it is cut.
 *
 * @param known how lines may begin that stand behind a message that was cut
 * @example
 * withoutFirmware('[   46.205110393,3] SBE: You will likely have open 0 => 0\n', ['open 0 => ']) // 'open 0 => 0\n'
 */
export function withoutFirmware(text: string, known: readonly string[]): string {
  let left = text
  let kept = ''
  for (;;) {
    const found = STAMP.exec(left)
    if (found === null) return kept + left
    kept += left.slice(0, found.index)
    const end = left.indexOf('\n', found.index)
    const message = left.slice(found.index, end < 0 ? undefined : end)
    const cuts = known.map((begin) => message.indexOf(begin)).filter((at) => at >= 0)
    const next = cuts.length > 0 ? found.index + Math.min(...cuts) : end < 0 ? left.length : end + 1
    left = left.slice(next)
  }
}
