import { describe, expect, it } from 'vitest'
import { hexDigits } from '../../src/bits/byte-text.ts'
import {
  messageOf,
  payloadBytes,
  payloadOf,
  readField,
  readHeader,
  replyOf,
  wordPayload,
} from '../../src/peer/vhost-user/codec.ts'
import {
  BACK_END_REQUESTS,
  FRONT_END_REQUESTS,
  frontEndRequest,
  HEADER_BYTES,
  HEADER_FLAGS,
  iotlbType,
  PAYLOADS,
  type PayloadName,
} from '../../src/reader/vhost-user-format.ts'
import { IOTLB_MESSAGE } from '../../src/trace/event-codes.ts'

const hex = (text: string): string => text.replaceAll(' ', '')
const { VERSION, NEED_REPLY } = HEADER_FLAGS

describe('vhost-user messages', () => {
  it('are the bytes of vector V32', () => {
    const update = payloadOf('iotlb', {
      iova: 0x1000,
      bytes: 0x1000,
      ua: 0x7f00_0000_1000n,
      perm: 3,
      type: 2,
    })
    expect(hexDigits(messageOf(FRONT_END_REQUESTS.IOTLB_MSG.nr, VERSION | NEED_REPLY, update))).toBe(
      hex('16000000 09000000 20000000 0010000000000000 0010000000000000 00100000007f0000 0302000000000000'),
    )
    expect(hexDigits(replyOf(FRONT_END_REQUESTS.IOTLB_MSG.nr, wordPayload(0)))).toBe(
      hex('16000000 05000000 08000000 0000000000000000'),
    )
    const miss = payloadOf('iotlb', { iova: 0x2000, perm: 2, type: IOTLB_MESSAGE.MISS })
    expect(hexDigits(messageOf(BACK_END_REQUESTS.IOTLB_MSG.nr, VERSION | NEED_REPLY, miss))).toBe(
      hex('01000000 09000000 20000000 0020000000000000 0000000000000000 0000000000000000 0201000000000000'),
    )
  })

  it('are read as they were written, every field of every payload', () => {
    for (const name of Object.keys(PAYLOADS) as PayloadName[]) {
      const { fields } = PAYLOADS[name] as { readonly fields: Readonly<Record<string, { bytes: number }>> }
      const values = Object.fromEntries(
        Object.entries(fields).map(([field, { bytes }], i) => [
          field,
          BigInt(i + 1) << BigInt(bytes * 8 - 8),
        ]),
      )
      const payload = payloadOf(name, values)
      for (const [field, value] of Object.entries(values)) {
        expect(readField(name, payload, field as never), `${name}.${field}`).toBe(value)
      }
    }
  })

  it('have fields that neither meet nor leave their payload', () => {
    for (const [name, { fields, bytes }] of Object.entries(PAYLOADS)) {
      let end = 0
      for (const [field, { at, bytes: wide }] of Object.entries(fields) as [
        string,
        { at: number; bytes: number },
      ][]) {
        expect(at, `${name}.${field}`).toBeGreaterThanOrEqual(end)
        expect(at % wide, `${name}.${field}`).toBe(0)
        end = at + wide
      }
      expect(end, name).toBeLessThanOrEqual(bytes)
    }
  })

  it('have a header of three words', () => {
    const bytes = messageOf(5, 9, new Uint8Array(40))
    expect(bytes.length).toBe(HEADER_BYTES + 40)
    expect(readHeader(bytes)).toEqual({ request: 5, flags: 9, payloadBytes: 40 })
  })

  it('say how long their payload must be', () => {
    expect(payloadBytes('word', new Uint8Array(3))).toBe(8)
    expect(payloadBytes('memTable', payloadOf('memTable', { regions: 3 }))).toBe(8 + 3 * 32)
    expect(payloadBytes('memTable', new Uint8Array(4))).toBe(8)
    expect(payloadBytes('memTable', payloadOf('memTable', { regions: 0xffff_ffff }))).toBe(
      8 + 0xffff_ffff * 32,
    )
    expect(payloadBytes('config', new Uint8Array(69))).toBe(69)
    expect(payloadBytes('config', new Uint8Array(3))).toBe(12)
  })

  it('are found by number', () => {
    for (const [name, { nr }] of Object.entries(FRONT_END_REQUESTS)) expect(frontEndRequest(nr)).toBe(name)
    expect([frontEndRequest(0), frontEndRequest(41), frontEndRequest(0xffff_ffff)]).toEqual([
      undefined,
      undefined,
      undefined,
    ])
    for (const [name, nr] of Object.entries(IOTLB_MESSAGE)) expect(iotlbType(nr)).toBe(name)
    expect([iotlbType(0), iotlbType(7), iotlbType(255)]).toEqual([undefined, undefined, undefined])
  })
})
