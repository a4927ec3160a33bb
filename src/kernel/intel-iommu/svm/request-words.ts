import { encode, get } from '../../../bits/word.ts'
import {
  DESCRIPTOR_TYPE,
  PAGE_REQ_DSC_128_QW0,
  PAGE_REQ_DSC_128_QW1,
  PGRP_RESP_DSC_QW0,
  PGRP_RESP_DSC_QW1,
  PSTRM_RESP_DSC_QW0,
  PSTRM_RESP_DSC_QW1,
} from '../../../hw/vtd/descriptor-format.ts'
import { PAGE_RESPONSE } from '../../../trace/event-codes.ts'
import type { Descriptor } from '../descriptors.ts'
import type { SvmQuirks } from './quirks.ts'

/** Codes of responses, by what comes of a request. (Linux v4.9 include/linux/intel-iommu.h, QI_RESP_*) */
const RESPONSE = {
  success: PAGE_RESPONSE.SUCCESS,
  invalid: PAGE_RESPONSE.INVALID,
  failure: PAGE_RESPONSE.FAILURE,
} as const
export type RequestResult = keyof typeof RESPONSE

/** rwxp, as a fault callback is told what was wanted. (Linux v4.9 include/linux/intel-svm.h, SVM_REQ_*) */
const WANTED = { READ: 8, WRITE: 4, EXECUTE: 2, PRIVILEGED: 1 } as const
/** Pages of the unit are these; those of a kernel may be larger. */
const VTD_PAGE_SHIFT = 12n
const LARGE_PAGE_SHIFT = 16n
const U64 = (1n << 64n) - 1n
const ADDRESS_BITS = (1n << 52n) - 1n

/** A page request of revisions 2.x as it lies in the queue. */
export type RequestWords = readonly [qw0: bigint, qw1: bigint]

/** A page request as the thread reads it. */
export interface ReadRequest {
  readonly words: RequestWords
  readonly hasPasid: boolean
  readonly pasid: number
  readonly source: number
  /** Page number, as it stands in the queue. */
  readonly page: bigint
  /** Where the thread takes it to be. */
  readonly address: bigint
  readonly wantsRead: boolean
  readonly wantsWrite: boolean
  readonly wantsExecute: boolean
  readonly isPrivileged: boolean
  readonly group: number
  /** LPIG and SRR: which response it asks for. */
  readonly isLast: boolean
  readonly wantsStreamResponse: boolean
  /** What the callback is told. */
  readonly rwxp: number
}

/**
 * What a request says.
 *
 * @example readRequest([0x038000120300005cn, 0x00007f1234567103n], quirks).address // 0x7f1234567000n
 */
export function readRequest(
  words: RequestWords,
  quirks: Pick<SvmQuirks, 'cutsAddress' | 'shiftsBy16' | 'mixesWanted'>,
): ReadRequest {
  const [qw0, qw1] = words
  const is0 = (field: keyof typeof PAGE_REQ_DSC_128_QW0.fields) =>
    get(PAGE_REQ_DSC_128_QW0, qw0, field) === 1n
  const is1 = (field: keyof typeof PAGE_REQ_DSC_128_QW1.fields) =>
    get(PAGE_REQ_DSC_128_QW1, qw1, field) === 1n
  const page = get(PAGE_REQ_DSC_128_QW1, qw1, 'ADDR')
  const shifted = page << (quirks.shiftsBy16 ? LARGE_PAGE_SHIFT : VTD_PAGE_SHIFT)
  const bus = get(PAGE_REQ_DSC_128_QW0, qw0, 'BUS')
  const [read, write, execute, privileged] = [is1('RD'), is1('WR'), is1('EXE'), is1('PRIV')]
  // The first version has the bits of one request at the places of others.
  const [second, third] = quirks.mixesWanted ? [write, execute] : [execute, privileged]
  return {
    words,
    hasPasid: is0('PP'),
    pasid: Number(get(PAGE_REQ_DSC_128_QW0, qw0, 'PASID')),
    source: Number((bus << 8n) | get(PAGE_REQ_DSC_128_QW1, qw1, 'DEVFN')),
    page,
    address: shifted & (quirks.cutsAddress ? ADDRESS_BITS : U64),
    wantsRead: read,
    wantsWrite: write,
    wantsExecute: execute,
    isPrivileged: privileged,
    group: Number(get(PAGE_REQ_DSC_128_QW0, qw0, 'PRGI')),
    isLast: is0('LPIG'),
    wantsStreamResponse: is0('SRR'),
    rwxp:
      (read ? WANTED.READ : 0) |
      (write ? WANTED.WRITE : 0) |
      (second ? WANTED.EXECUTE : 0) |
      (third ? WANTED.PRIVILEGED : 0),
  }
}

/** Which response a request asks for. */
export function responseKind({ isLast, wantsStreamResponse }: ReadRequest): 'group' | 'stream' | 'none' {
  if (isLast) return 'group'
  return wantsStreamResponse ? 'stream' : 'none'
}

/** The response that a request asks for; undefined where it asks for none. */
export function responseTo(request: ReadRequest, result: RequestResult): Descriptor | undefined {
  const kind = responseKind(request)
  const { source, hasPasid, address } = request
  const [qw0, qw1] = request.words
  const [PASID, PRIVATE, PRGI, BUS] = (['PASID', 'PRIVATE', 'PRGI', 'BUS'] as const).map((field) =>
    get(PAGE_REQ_DSC_128_QW0, qw0, field),
  ) as [bigint, bigint, bigint, bigint]
  const RC = BigInt(RESPONSE[result])
  if (kind === 'none') return undefined
  if (kind === 'group') {
    return [
      encode(PGRP_RESP_DSC_QW0, {
        TYPE: BigInt(DESCRIPTOR_TYPE.GROUP_RESPONSE),
        PP: hasPasid ? 1n : 0n,
        RID: BigInt(source),
        PASID,
      }),
      encode(PGRP_RESP_DSC_QW1, { PRGI, PRIVATE, RC }),
    ]
  }
  return [
    encode(PSTRM_RESP_DSC_QW0, { TYPE: BigInt(DESCRIPTOR_TYPE.STREAM_RESPONSE), PASID, BUS, PRIVATE, PRGI }),
    encode(PSTRM_RESP_DSC_QW1, {
      ADDR: address >> VTD_PAGE_SHIFT,
      DEVFN: get(PAGE_REQ_DSC_128_QW1, qw1, 'DEVFN'),
      RC,
    }),
  ]
}
