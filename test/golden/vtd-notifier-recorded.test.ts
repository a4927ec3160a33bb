import { Readable } from 'node:stream'
import { beforeAll, describe, expect, it } from 'vitest'
import { openInput } from '../../src/cli/input.ts'
import { CONTEXT_TABLE, ROOT_TABLE, SOURCE, storeWord, vtdWorld } from '../support/vtd.ts'

async function linesOf(name: string): Promise<string[]> {
  const input = await openInput(`recordings/vtd/${name}.xz`, Readable.from([]))
  const parts: Buffer[] = []
  for await (const piece of input.pieces()) parts.push(Buffer.from(piece))
  return Buffer.concat(parts).toString().split('\n')
}

const DESCRIPTOR = /^vtd_inv_desc invalidate desc type (\S+) high (0x[0-9a-f]+) low (0x[0-9a-f]+)$/
const UPDATE = /^vtd_iotlb_page_update .* sid (0x[0-9a-f]+) .* domain (0x[0-9a-f]+)$/
const MESSAGE = /^vhost_user_write req:(\d+) /
const SET_MEM_TABLE = 5
const GET_VRING_BASE = 11

/** The recordings of QEMU 7.2.22, with the device that vhost serves, its unit's options, and whether the guest uses ATS. */
const RECORDINGS = [
  ['vh-x86-ats-lazy', 0x100, true, true, 16],
  ['vh-x86-ats-strict', 0x100, true, true, 104],
  ['vh-x86-strict', 0x8, true, false, 195],
  ['vh-x86-lazy', 0x8, true, false, 0],
  ['vh-x86-nodiotlb', 0x8, false, false, 204],
  ['vh-x86-cm', 0x8, false, false, 392],
] as const

/**
 * What the notifiers tell a listener of the descriptors of a trace. Tables are empty but for the context entry of the
 * device, whose domain the trace shows.
 */
function told(trace: readonly string[], source: number, hasDeviceTlb: boolean, ats: boolean): string[] {
  const world = vtdWorld({ profile: 'qemu-7.2.22', hasDeviceTlb })
  const { submit, memory, notifier } = world
  world.detach()
  const added = () => notifier.addDevice({ name: 'blk0', source, followsAts: false })
  const device = source === SOURCE ? world.device : added()
  device.hasAts = ats
  const heard: string[] = []
  const listener = {
    unmapped: (iova: bigint, last: bigint) => {
      heard.push(`0x${iova.toString(16)} 0x${(last - iova + 1n).toString(16)}`)
    },
  }
  const domain = trace
    .map((line) => UPDATE.exec(line))
    .find((m) => m !== null && Number(m[1]) === source)?.[2]
  storeWord(memory, ROOT_TABLE * 4096 + (source >> 8) * 16, (BigInt(CONTEXT_TABLE) << 12n) | 1n)
  storeWord(memory, CONTEXT_TABLE * 4096 + (source & 0xff) * 16, (BigInt(world.tables.root) << 12n) | 1n)
  storeWord(memory, CONTEXT_TABLE * 4096 + (source & 0xff) * 16 + 8, (BigInt(domain ?? '0xffff') << 8n) | 1n)
  let isRunning = false
  let isTranslating = false
  for (const line of trace) {
    const before = isRunning && isTranslating
    const request = Number(MESSAGE.exec(line)?.[1])
    if (request === SET_MEM_TABLE) isRunning = true
    if (request === GET_VRING_BASE) isRunning = false
    if (line.startsWith('vtd_dmar_enable enable')) isTranslating = line.endsWith('1')
    const now = isRunning && isTranslating
    if (now && !before) notifier.start(device, listener)
    if (before && !now) notifier.stop(device, listener)
    const [, type = '', high = '0', low = '0'] = DESCRIPTOR.exec(line) ?? []
    if (['device', 'iotlb', 'context-cache'].includes(type)) {
      expect(submit(BigInt(low), BigInt(high))).toBe('done')
    }
  }
  expect(world.life.isDead).toBe(false)
  return heard
}

describe.each(RECORDINGS)('%s', (name, source, hasDeviceTlb, ats, count) => {
  let trace: string[]
  let messages: string[]

  beforeAll(async () => {
    trace = await linesOf(`${name}.trace`)
    const log = await linesOf(`${name}.vhost.jsonl`)
    messages = log
      .filter((line) => line.includes('"INVALIDATE"'))
      .map((line) => JSON.parse(line) as { iova: string; size: string })
      .map(({ iova, size }) => `${iova} ${size}`)
  })

  it(`tells the back end of each of ${count} ranges, in order`, () => {
    const heard = told(trace, source, hasDeviceTlb, ats)
    expect(heard).toEqual(messages)
    expect(heard).toHaveLength(count)
  })
})
