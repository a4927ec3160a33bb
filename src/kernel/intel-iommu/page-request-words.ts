import { swap32, wordOf } from '../../bits/u64.ts'
import { encode, get } from '../../bits/word.ts'
import {
  DESCRIPTOR_TYPE,
  PAGE_GRP_RESP_DSC_QW0,
  PAGE_GRP_RESP_DSC_QW1,
  PAGE_REQ_DSC_QW0,
  PAGE_REQ_DSC_QW1,
} from '../../hw/vtd/descriptor-format.ts'
import type { BusMemory } from '../../memory/ports.ts'
import { REQUEST_QUEUE_ORDER } from './unit-control.ts'

/** Bytes of a request in the queue. */
export const REQUEST_BYTES = 32
const RING_BYTES = 4096 << REQUEST_QUEUE_ORDER
/** What of PQH and PQT is the place of a request. */
export const RING_MASK = BigInt((RING_BYTES - 1) & ~(REQUEST_BYTES - 1))
const WORD_BYTES = 8
/** RDR and WRR: a request that wants neither is a stop marker, which nobody answers. */
const WANTED = 3n
/** Addresses of 48 bits are canonical where the upper 17 bits are the same. */
const SIGN_SHIFT = 47n

/** A request as it lies in the queue. */
export type RequestWords = readonly [qw0: bigint, qw1: bigint, qw2: bigint, qw3: bigint]

const isCanonical = (address: bigint): boolean => {
  const top = address >> SIGN_SHIFT
  return top === 0n || top === (1n << (64n - SIGN_SHIFT)) - 1n
}

/** The place behind another one in the queue. */
export const nextPlace = (offset: number): number => Number(BigInt(offset + REQUEST_BYTES) & RING_MASK)

/** Reads a request. @param place first page of the queue */
export function readRequest(memory: BusMemory, place: number, offset: number): RequestWords {
  const words = [0, 1, 2, 3].map((i) => {
    const at = offset + i * WORD_BYTES
    memory.loadU64be(place + (at >> 12), at & 0xfff)
    return wordOf(swap32(memory.wordLo), swap32(memory.wordHi))
  })
  return words as unknown as RequestWords
}

/** Why a request is none that a process can have, in the order of the checks; undefined for a good one. */
export function whyBad([qw0, qw1]: RequestWords): string | undefined {
  const is = (name: 'PP' | 'EXR' | 'PMR') => get(PAGE_REQ_DSC_QW0, qw0, name) === 1n
  const wants = (name: 'RDR' | 'WRR') => get(PAGE_REQ_DSC_QW1, qw1, name) === 1n
  if (!is('PP')) return 'Page request without PASID'
  if (!isCanonical(get(PAGE_REQ_DSC_QW1, qw1, 'ADDR') << 12n)) return 'Address is not canonical'
  if (is('PMR') && (wants('RDR') || wants('WRR'))) return 'Page request in Privilege Mode'
  if (is('EXR') && wants('RDR')) return 'Execution request not supported'
  return undefined
}

/** Whether it is the last one of its group. */
export const isLastOfGroup = ([, qw1]: RequestWords): boolean => get(PAGE_REQ_DSC_QW1, qw1, 'LPIG') === 1n

/** A stop marker is dropped: it asks for nothing. */
export const isStopMarker = (words: RequestWords): boolean =>
  isLastOfGroup(words) && (words[1] & WANTED) === 0n

/** The last one of a group wants a response, and so does one with private data. */
export const wantsResponse = (words: RequestWords): boolean =>
  isLastOfGroup(words) || get(PAGE_REQ_DSC_QW0, words[0], 'PDP') === 1n

const hex8 = (word: bigint): string => word.toString(16).padStart(8, '0')

/** What the kernel prints of a request that it refuses. */
export const badRequestText = (unit: string, [qw0, qw1]: RequestWords): string =>
  `${unit}: Invalid page request: ${hex8(qw0)} ${hex8(qw1)}`

/** The page group response to a request: private data goes back with it. @param isLast LPIG */
export function responseTo([qw0, qw1, qw2, qw3]: RequestWords, code: number, isLast: boolean): RequestWords {
  const of = (name: 'PP' | 'PDP' | 'RID' | 'PASID') => get(PAGE_REQ_DSC_QW0, qw0, name)
  const hasData = of('PDP') === 1n
  return [
    encode(PAGE_GRP_RESP_DSC_QW0, {
      TYPE: BigInt(DESCRIPTOR_TYPE.GROUP_RESPONSE),
      PP: of('PP'),
      PDP: of('PDP'),
      RC: BigInt(code),
      RID: of('RID'),
      PASID: of('PASID'),
    }),
    encode(PAGE_GRP_RESP_DSC_QW1, {
      LPIG: isLast ? 1n : 0n,
      PRGI: get(PAGE_REQ_DSC_QW1, qw1, 'PRGI'),
    }),
    hasData ? qw2 : 0n,
    hasData ? qw3 : 0n,
  ]
}
