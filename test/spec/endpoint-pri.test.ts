import { describe, expect, it } from 'vitest'
import type { Answer, Value } from '../../src/bits/answer.ts'
import { DMA_READ, DMA_WRITE } from '../../src/hw/edu-calls.ts'
import { NO_PASID } from '../../src/hw/vtd/ports.ts'
import type { EndpointOptions } from '../../src/hw/vtd-devices/endpoint.ts'
import {
  ATS_ENABLE,
  ATS_ENABLE_PASID,
  PRI_DISABLE,
  PRI_ENABLE,
  PRI_REQUEST,
  PRI_RESET,
  PRI_STATUS,
} from '../../src/hw/vtd-devices/endpoint-calls.ts'
import type { PageRequestEnd } from '../../src/hw/vtd-devices/unit-port.ts'
import { eventsOfLog } from '../support/events.ts'
import { testRules } from '../support/rule-table.ts'
import { deviceWorld, SOURCE } from '../support/vtd-devices.ts'

const IOVA = 0x10_0000n
const [SUCCESS, INVALID, FAILURE] = [0, 1, 0xf]
const others = [{ device: 'plain0' }, { device: 'edu0' }]

/** ATS and page requests are on, PASIDs with everything too. Nothing is mapped. */
function priWorld(options: Partial<EndpointOptions> = {}) {
  const world = deviceWorld(options)
  world.run(ATS_ENABLE_PASID, { execute: true, privileged: true })
  world.run(PRI_ENABLE)
  world.run(ATS_ENABLE)
  const status = () => world.run(PRI_STATUS).outputs
  const read = (more: Record<string, Value> = {}) => world.run(DMA_READ, { iova: IOVA, bytes: 4n, ...more })
  const write = (more: Record<string, Value> = {}) =>
    world.run(DMA_WRITE, { iova: IOVA, data: 'late', ...more })
  const request = (more: Record<string, Value> = {}): Answer =>
    world.run(PRI_REQUEST, { iova: IOVA, ...more })
  return { ...world, status, read, write, request }
}

const ON = { enabled: true, failed: false, unexpected: false, waiting: 0n, accesses: 0n }

describe('pri calls', () => {
  testRules(PRI_ENABLE, {
    'no-pri': () => [...others, {}].map((who) => deviceWorld({ pri: undefined }).run(PRI_ENABLE, who)),
    done: () => [deviceWorld().run(PRI_ENABLE), priWorld().run(PRI_ENABLE, { requests: 1n })],
  })
  testRules(PRI_DISABLE, {
    'no-pri': () => others.map((who) => deviceWorld().run(PRI_DISABLE, who)),
    done: () => [priWorld().run(PRI_DISABLE)],
  })
  testRules(PRI_RESET, {
    'no-pri': () => others.map((who) => deviceWorld().run(PRI_RESET, who)),
    enabled: () => [priWorld().run(PRI_RESET)],
    done: () => [deviceWorld().run(PRI_RESET)],
  })
  testRules(PRI_STATUS, {
    'no-pri': () => others.map((who) => deviceWorld().run(PRI_STATUS, who)),
    done: () => [deviceWorld().run(PRI_STATUS)],
  })

  const ended = (end: PageRequestEnd): Answer[] => {
    const world = priWorld()
    world.unit.end = end
    return [world.request()]
  }
  testRules(PRI_REQUEST, {
    'pri-off': () => [
      deviceWorld().run(PRI_REQUEST, { iova: 0n, pasid: 1n }),
      ...others.map((who) => deviceWorld().run(PRI_REQUEST, { iova: 0n, ...who })),
    ],
    'tags-off': () => [
      priWorld().request({ pasid: 1n << 20n, group: 512n }),
      priWorld().request({ execute: true }),
      priWorld().request({ privileged: true }),
    ],
    'group-too-wide': () => [priWorld({ pri: { requests: 0 } }).request({ group: 512n })],
    'no-credit': () => {
      const { run, request } = priWorld()
      run(PRI_ENABLE, { requests: 1n })
      request()
      return [request({ group: 1n }), priWorld({ pri: { requests: 0 } }).request()]
    },
    refused: () => ended('refused'),
    dropped: () => ended('dropped'),
    done: () => [...ended('queued'), priWorld().request({ group: 511n, pasid: 5n })],
  })

  it('a request says what it is asked to', () => {
    const { request, unit } = priWorld()
    request({ iova: 0x7f12_3456_7abcn, pasid: 5n, write: true, privileged: true, group: 7n, private: 0x12n })
    request({ read: false, execute: true, pasid: 5n, last: false })
    expect(unit.requested).toEqual([
      {
        ...{ source: SOURCE, pasid: 5, address: 0x7f12_3456_7000n, isRead: true, isWrite: true },
        ...{ isExecute: false, isPrivileged: true, group: 7, isLast: true, privateData: 0x12n },
      },
      {
        ...{ source: SOURCE, pasid: 5, address: IOVA, isRead: false, isWrite: false },
        ...{ isExecute: true, isPrivileged: false, group: 0, isLast: false, privateData: undefined },
      },
    ])
  })

  it('a group waits for one response; a stop marker for none, nor what was dropped', () => {
    const { request, status, respond, unit } = priWorld()
    request({ last: false })
    request()
    request({ group: 2n, pasid: 3n })
    request({ group: 3n, read: false })
    unit.end = 'dropped'
    request({ group: 4n })
    expect(status()).toEqual({ ...ON, waiting: 2n })
    respond(SUCCESS)
    respond(INVALID, 2, 3)
    expect(status()).toEqual(ON)
  })

  it('credits come back with the response of their group', () => {
    const { run, request, respond } = priWorld()
    run(PRI_ENABLE, { requests: 2n })
    request({ last: false })
    expect([request().rule, request({ group: 1n }).rule]).toEqual(['done', 'no-credit'])
    respond(SUCCESS)
    expect([request().rule, request({ group: 1n }).rule]).toEqual(['done', 'done'])
  })

  it.each([
    ['another group', 1, NO_PASID],
    ['another PASID', 0, 3],
  ])('a response for %s is unexpected', (_what, group, pasid) => {
    const { request, respond, status, run } = priWorld()
    request()
    respond(FAILURE, group, pasid)
    expect(status()).toEqual({ ...ON, unexpected: true, waiting: 1n })
    run(PRI_ENABLE)
    expect(status()).toEqual({ ...ON, waiting: 1n })
  })

  it.each([FAILURE, 2])('a response of %i is a failure: page requests are off', (code) => {
    const { request, respond, status, run } = priWorld()
    request()
    request({ group: 1n })
    respond(code)
    expect(status()).toEqual({ ...ON, enabled: false, failed: true })
    expect(request().rule).toBe('pri-off')
    run(PRI_ENABLE)
    expect(status()).toEqual(ON)
  })

  it('a unit that refuses answers with a failure', () => {
    const { request, status, unit } = priWorld()
    request()
    unit.end = 'refused'
    request({ group: 1n })
    expect(status()).toEqual({ ...ON, enabled: false, failed: true })
  })

  it('a reset forgets what waits and what went wrong', () => {
    const { request, status, respond, run } = priWorld()
    request()
    respond(SUCCESS, 9)
    run(PRI_DISABLE)
    run(PRI_RESET)
    expect(status()).toEqual({ ...ON, enabled: false })
    respond(SUCCESS)
    expect(status()).toMatchObject({ unexpected: true })
  })
})

describe('dma of a device that may request pages', () => {
  it('waits for the page, and goes on with the response', () => {
    const { write, respond, status, unit, memory, log } = priWorld()
    expect(write()).toMatchObject({ rule: 'page-requested', code: 'MEMTX_ERROR', outputs: { moved: 0n } })
    expect(unit.requested).toMatchObject([
      { address: IOVA, isRead: false, isWrite: true, group: 0, isLast: true },
    ])
    expect(status()).toEqual({ ...ON, waiting: 1n, accesses: 1n })
    unit.map(IOVA, 0x3000n, 3)
    respond(SUCCESS)
    expect([memory.text(0x3000, 4), status()]).toEqual(['late', ON])
    expect(eventsOfLog(log, 'dma.')).toMatchObject([
      { kind: 'dma.request', write: 1 },
      { kind: 'dma.done', moved: 0, code: 1 },
      { kind: 'dma.request', write: 1 },
      { kind: 'dma.done', moved: 4, code: 0 },
    ])
  })

  it('a read that waits leaves the buffer alone until then', () => {
    const { read, respond, unit, memory, endpoint, write } = priWorld()
    unit.map(IOVA, 0x3000n, 3)
    write()
    unit.unmap(IOVA)
    endpoint.tlb.clear()
    read()
    expect(String.fromCharCode(...endpoint.bufferAt(0, 4))).toBe('late')
    memory.write(0x3000, 'new!')
    unit.map(IOVA, 0x3000n, 3)
    respond(SUCCESS)
    expect(String.fromCharCode(...endpoint.bufferAt(0, 4))).toBe('new!')
  })

  it('asks for all pages that are missing in one group, and only for those', () => {
    const { write, unit, respond, memory } = priWorld()
    unit.map(IOVA, 0x3000n, 3)
    write({ iova: IOVA + 0x1ffen, pasid: 7n })
    write({ iova: IOVA + 0xffen })
    expect(unit.requested.map((r) => [r.pasid, r.address, r.group, r.isLast])).toEqual([
      [7, IOVA + 0x1000n, 0, false],
      [7, IOVA + 0x2000n, 0, true],
      [NO_PASID, IOVA + 0x1000n, 1, true],
    ])
    expect(memory.text(0x3ffe, 2)).toBe('\0\0')
    unit.map(IOVA + 0x1000n, 0x5000n, 2)
    respond(SUCCESS, 1)
    expect([memory.text(0x3ffe, 2), memory.text(0x5000, 2)]).toEqual(['la', 'te'])
  })

  it('a response of success that brings no page: it asks again', () => {
    const { write, respond, unit, status } = priWorld()
    write()
    respond(SUCCESS)
    expect(unit.requested.map((r) => r.group)).toEqual([0, 1])
    expect(status()).toMatchObject({ waiting: 1n, accesses: 1n })
  })

  it.each([
    ['invalid', INVALID, true],
    ['failure', FAILURE, false],
  ])('a response of %s: the access fails', (_what, code, enabled) => {
    const { write, respond, status, log, memory, unit } = priWorld()
    write()
    unit.map(IOVA, 0x3000n, 3)
    respond(code)
    expect(status()).toMatchObject({ enabled, waiting: 0n, accesses: 0n })
    expect(memory.text(0x3000, 4)).toBe('\0\0\0\0')
    expect(eventsOfLog(log, 'dma.').at(-1)).toMatchObject({ kind: 'dma.done', moved: 0, code: 2 })
  })

  it('what waits at a reset fails', () => {
    const { write, run, log, status } = priWorld()
    write()
    run(PRI_DISABLE)
    run(PRI_RESET)
    expect(eventsOfLog(log, 'dma.').at(-1)).toMatchObject({ kind: 'dma.done', moved: 0, code: 2 })
    expect(status()).toMatchObject({ accesses: 0n })
  })

  it.each<[string, PageRequestEnd, number]>([
    ['the queue has no place', 'dropped', 32],
    ['the unit refuses', 'refused', 32],
    ['it has no credits', 'queued', 1],
  ])('a request is lost where %s', (_what, end, requests) => {
    const { write, unit } = priWorld({ pri: { requests } })
    unit.end = end
    expect(write({ iova: IOVA + 0xffen })).toMatchObject({
      rule: 'page-request-lost',
      code: 'MEMTX_DECODE_ERROR',
      outputs: { moved: 0n },
    })
  })

  it('asks for no page where the unit blocks the question, nor where page requests are off', () => {
    const { write, unit, run } = priWorld()
    unit.blocks = 0x44
    expect(write().rule).toBe('translation-fault')
    unit.blocks = 0
    run(PRI_DISABLE)
    expect(write().rule).toBe('translation-refused')
    expect(unit.requested).toEqual([])
  })

  it('says what it wants the page for', () => {
    const { read, unit } = priWorld()
    read({ pasid: 5n, privileged: true, execute: true })
    expect(unit.requested).toMatchObject([{ pasid: 5, isRead: true, isExecute: true, isPrivileged: true }])
    expect(unit.asked).toMatchObject([{ addressType: 1, need: 7, isPrivileged: true }])
  })

  it('a machine that goes back waits again', () => {
    const { write, respond, journal, status, unit, memory } = priWorld()
    write()
    const mark = journal.mark()
    const { hash } = journal
    respond(FAILURE)
    journal.rollback(mark)
    expect([status(), journal.hash]).toEqual([{ ...ON, waiting: 1n, accesses: 1n }, hash])
    unit.map(IOVA, 0x3000n, 3)
    respond(SUCCESS)
    expect(memory.text(0x3000, 4)).toBe('late')
  })
})
