import { describe, expect, it } from 'vitest'
import { DomainCounter, domainSections } from '../../../src/report/domain-ledger.ts'
import { RecordLog } from '../../../src/trace/record-log.ts'

const K = 4096n

function counted(what: (log: RecordLog) => void) {
  const log = new RecordLog()
  const counter = new DomainCounter()
  log.subscribe(counter)
  what(log)
  return counter.ledger()
}

const map = (log: RecordLog, domain: number, iova: bigint, pages: bigint) =>
  log.emit('domain.map', null, { domain, iova, bytes: pages * K, gpa: 0n, perm: 3, how: 0 })
const unmap = (log: RecordLog, domain: number, iova: bigint, pages: bigint) =>
  log.emit('domain.unmap', null, { domain, iova, bytes: pages * K, how: 0 })

describe('what domains of a VT-d unit map', () => {
  it('counts each domain, with pages that are mapped twice once', () => {
    const { domains } = counted((log) => {
      map(log, 5, 0x10_0000n, 4n)
      map(log, 5, 0x10_2000n, 4n)
      map(log, 3, 0n, 1n)
      unmap(log, 5, 0x10_0000n, 1n)
      unmap(log, 5, 0x90_0000n, 1n)
    })
    expect(domains).toEqual([
      { domain: 3, mapCalls: 1, mapped: 1, unmapCalls: 0, unmapped: 0, peakPages: 1, livePages: 1 },
      { domain: 5, mapCalls: 2, mapped: 8, unmapCalls: 2, unmapped: 1, peakPages: 6, livePages: 5 },
    ])
  })

  it('0 bytes are everything', () => {
    const { domains } = counted((log) => {
      map(log, 5, 0xf_ffff_f000n, 1n)
      map(log, 5, 0n, 2n)
      unmap(log, 5, 0n, 0n)
    })
    expect(domains[0]).toMatchObject({ unmapped: 3, peakPages: 3, livePages: 0 })
  })

  it('counts translations by their end', () => {
    const { translations } = counted((log) => {
      const fields = {
        unit: 'u',
        source: 0,
        pasid: 0,
        iova: 0n,
        target: 0n,
        perm: 3,
        need: 1,
        entry: 0,
        line: 0,
      }
      for (const fault of [0, 5, 0]) log.emit('vtd.translate', null, { ...fields, fault })
    })
    expect(translations).toEqual({ allowed: 2, blocked: 1 })
  })

  it('says nothing of what is not there, and only counts what is too much', () => {
    expect(domainSections([], { allowed: 0, blocked: 0 }, 100).flatMap(([, lines]) => lines)).toEqual([])
    const { domains, translations } = counted((log) => {
      for (let domain = 1; domain <= 70; domain++) map(log, domain, 0n, 1n)
    })
    const [[, lines] = ['', []]] = domainSections(domains, translations, 100)
    expect(lines.at(-1)).toBe('  and 6 more domains')
  })
})
