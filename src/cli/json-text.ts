/** One JSON object as a command prints it: two blanks of indent, 64-bit values as `0x` strings, a newline. */
export const jsonText = (value: object): string =>
  `${JSON.stringify(value, (_key, v: unknown) => (typeof v === 'bigint' ? `0x${v.toString(16)}` : v), 2)}\n`
