import { hex } from '../../bits/u64.ts'
import { type Field, get, type Word } from '../../bits/word.ts'
import { bytesText } from '../../check/words.ts'
import { PERM, TABLE_MODE } from '../../hw/vtd/ports.ts'
import { table, wrapped } from '../../report/layout.ts'
import type { WalkedWord, WalkRequest, WalkResult } from './table-walk.ts'

const MODES: Readonly<Record<number, string>> = {
  [TABLE_MODE.LEGACY]: 'legacy mode',
  [TABLE_MODE.SCALABLE]: 'scalable mode',
  [TABLE_MODE.EXTENDED]: 'extended mode',
  [TABLE_MODE.ABORT]: 'a mode that aborts every request',
}

/** The fields of a word that are not 0. */
export function fieldsOf(word: Word, raw: bigint): { readonly name: string; readonly value: bigint }[] {
  return Object.entries<Field>(word.fields)
    .map(([name]) => ({ name, value: get(word, raw, name) }))
    .filter(({ value }) => value !== 0n)
}

const fieldsText = ({ word, raw }: WalkedWord): string => {
  if (word === undefined) return raw === 0n ? '' : 'reserved as a whole'
  return fieldsOf(word, raw)
    .map(({ name, value }) => {
      const { hi, lo } = word.fields[name] as Field
      return hi === lo ? name : `${name}=${hex(value)}`
    })
    .join(' ')
}

const permText = (perm: number): string => {
  const words = [perm & PERM.READ && 'read', perm & PERM.WRITE && 'write', perm & PERM.EXECUTE && 'execute']
  return words.filter((w) => typeof w === 'string').join(', ') || 'no access'
}

/** Bus, device and function in the usual way. */
export const bdfText = (source: number): string => {
  const digits = (n: number) => n.toString(16).padStart(2, '0')
  return `${digits(source >> 8)}:${digits((source >> 3) & 31)}.${source & 7}`
}

/** What came of it, in one sentence. */
function outcome({ request }: WalkRequest, result: WalkResult): string {
  const { answer, reason } = result
  const iova = hex((BigInt(request.hi >>> 0) << 32n) | BigInt(request.lo >>> 0))
  if (result.halt !== '') return `QEMU ends here: ${result.halt}`
  if (result.unmodelled !== '') return `not modelled: ${result.unmodelled}`
  if (answer.isInterrupt) return `${iova} is an interrupt: no table is read`
  if (answer.fault !== 0) {
    const code = hex(answer.fault)
    const silent = answer.isSilent ? ' It is not recorded, because of FPD.' : ''
    return `blocked, fault reason ${code} (${result.name}, ${reason?.condition}): ${reason?.doc}${silent} Linux prints "${reason?.kernelText}".`
  }
  const target = hex(BigInt(answer.page) * 4096n + (BigInt(request.lo >>> 0) & 0xfffn))
  const who = `domain ${answer.domain}`
  if (answer.isDirect) return `${iova} stays ${target}: pass-through, ${who}`
  if (answer.perm === 0) return `${iova} leads nowhere: the device is told that it may do nothing`
  return `${iova} leads to ${target}: a page of ${bytesText(2 ** answer.shift)} (${permText(answer.perm)}), ${who}`
}

/** The words that were read, line by line, and what came of it. */
export function walkText(of: WalkRequest, result: WalkResult): string {
  const rows = result.words
    .filter(({ word, raw }) => word !== undefined || raw !== 0n)
    .map((w) => [hex(w.address), w.of, hex(w.raw), fieldsText(w)])
  const mode = result.mode === undefined ? 'a mode that the unit has not' : MODES[result.mode]
  const head = `${bdfText(of.request.source)}: root table at ${hex(BigInt(of.root) * 4096n)}, ${mode}`
  return [head, ...table(rows, { indent: 2 }), ...wrapped('', outcome(of, result)), ''].join('\n')
}

/** The same as data. */
export function walkJson(of: WalkRequest, result: WalkResult): object {
  const { answer, reason, words, name, unmodelled, halt } = result
  return {
    schema: 'iommulator/walk/1',
    source: of.request.source,
    words: words.map((w) => ({
      address: w.address,
      of: w.of,
      word: w.word?.name ?? '',
      raw: w.raw,
      fields:
        w.word === undefined
          ? {}
          : Object.fromEntries(fieldsOf(w.word, w.raw).map(({ name: n, value }) => [n, value])),
    })),
    answer: {
      fault: answer.fault,
      name,
      condition: reason?.condition ?? '',
      kernelText: reason?.kernelText ?? '',
      silent: answer.isSilent,
      interrupt: answer.isInterrupt,
      direct: answer.isDirect,
      page: BigInt(answer.page) * 4096n,
      bytes: 2 ** answer.shift,
      perm: answer.perm,
      domain: answer.domain,
      pasid: answer.pasid,
      unmodelled,
      halt,
    },
  }
}
