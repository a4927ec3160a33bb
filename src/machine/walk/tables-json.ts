import { IommulatorError } from '../../bits/errors.ts'
import { parseU64 } from '../../bits/u64.ts'
import { type Dump, DumpMemory } from './dump-memory.ts'

const PAGE_BYTES = 4096
const WORDS = PAGE_BYTES / 8

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function wrong(file: string, why: string): IommulatorError {
  return new IommulatorError('ERR_INPUT', `${file} is no dump of tables: ${why}`, { file })
}

/** Numbers by numbers: `{ "8": "0x12" }`. */
function numbersOf(file: string, value: unknown): [number, bigint][] {
  if (!isRecord(value)) throw wrong(file, 'an object with numbers is expected')
  return Object.entries(value).map(([key, text]) => {
    if (typeof text !== 'string') throw wrong(file, `the value of "${key}" is no text`)
    return [Number(parseU64(key, 52)), parseU64(text)]
  })
}

/**
 * Reads a dump of the tables of a stopped guest: `{ "regs": { OFFSET: WORD }, "pages": { ADDRESS: { INDEX: WORD } } }`.
 * Of each page the words that are not 0 are there.
 *
 * @throws IommulatorError ERR_INPUT
 */
export function readTablesJson(file: string, text: string): Dump {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw wrong(file, (error as Error).message)
  }
  if (!isRecord(value) || !isRecord(value['pages'])) throw wrong(file, 'it has no "pages"')
  const pages = new Map<number, Uint8Array>()
  for (const [address, words] of Object.entries(value['pages'])) {
    const bytes = new Uint8Array(PAGE_BYTES)
    const view = new DataView(bytes.buffer)
    for (const [index, word] of numbersOf(file, words)) {
      if (index >= WORDS) throw wrong(file, `a page has no word ${index}`)
      view.setBigUint64(index * 8, word, true)
    }
    pages.set(Number(parseU64(address, 52) >> 12n), bytes)
  }
  const registers = new Map(value['regs'] === undefined ? [] : numbersOf(file, value['regs']))
  return { memory: new DumpMemory((page) => pages.get(page)), registers }
}
