import { expect, it } from 'vitest'
import { resolveProfile } from '../../src/bits/errata.ts'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { ADDRESS_TYPE, newRequest, type PageResponse, PERM } from '../../src/hw/vtd/ports.ts'
import { UNIT_ERRATA } from '../../src/hw/vtd/unit-errata.ts'
import { pageRequestLines } from '../log-rows.ts'
import { devices, type UnitWorld, unitWorld } from '../support/vtd-unit.ts'

const { ids: ERRATA } = resolveProfile(UNIT_ERRATA, 'qemu-11.1.3')
const SOURCE = 0x20
const PASID = 5

/** One step of the recording. */
type Step =
  | { readonly op: 'mem64'; readonly addr: string; readonly val: string }
  | { readonly op: 'memr'; readonly addr: string; readonly hex: string }
  | { readonly op: 'rw' | 'rr'; readonly reg: string; readonly size: 4 | 8; readonly val: string }
  | {
      readonly op: 'pri'
      readonly pasid: string
      readonly addr: string
      readonly priv: number
      readonly exec: number
      readonly last: number
      readonly prgi: number
      readonly r: number
      readonly w: number
      readonly ret: string
    }
  | {
      readonly op: 'ats'
      readonly pasid: string
      readonly addr: string
      readonly nw: number
      readonly priv: number
      readonly exec: number
      readonly answer: string
    }
  | { readonly op: 'responses'; readonly answer: string }
  | { readonly op: 'meta' }

const hex = (value: bigint | number) => `0x${value.toString(16)}`
/** The preloaded library reads addresses as signed numbers, and cuts those that are none. */
const signed = (address: bigint) => (address >> 63n === 0n ? address : 0x7fff_ffff_ffff_ffffn)
const ENDS: Readonly<Record<string, string>> = { 'OK 0': 'queued', 'OK -28': 'dropped' }

/** What the unit answers to a step, and what QEMU answered; undefined where the step asks nothing. */
function play(
  world: UnitWorld,
  responses: PageResponse[],
  step: Step,
): readonly [string, string] | undefined {
  const { unit, view, memory } = world
  switch (step.op) {
    case 'mem64':
      view.setBigUint64(Number(step.addr), BigInt(step.val), true)
      return undefined
    case 'rw':
      unit.mmioWrite(Number(step.reg), step.size, BigInt(step.val))
      return undefined
    case 'rr':
      return [hex(unit.mmioRead(Number(step.reg), step.size)), step.val]
    case 'memr': {
      const from = Number(step.addr)
      const bytes = memory.bytes.subarray(from, from + step.hex.length / 2)
      return [Buffer.from(bytes).toString('hex'), step.hex]
    }
    case 'pri': {
      const end = unit.pageRequest({
        source: SOURCE,
        pasid: Number(step.pasid),
        address: signed(BigInt(step.addr)),
        isRead: step.r === 1,
        isWrite: step.w === 1,
        isExecute: step.exec === 1,
        isPrivileged: step.priv === 1,
        group: step.prgi,
        isLast: step.last === 1,
        privateData: undefined,
      })
      return [end, ENDS[step.ret] ?? 'refused']
    }
    case 'ats':
      return translate(world, step)
    case 'responses': {
      // Only a listener for this device and PASID was there; every failure is code 2 to it.
      const seen = responses.splice(0).filter((r) => r.source === SOURCE && r.pasid === PASID)
      const texts = seen.map(({ code, group }) => ` code=${Math.min(code, 2)} prgi=${group}`)
      return [`OK${texts.join('')}`, step.answer]
    }
    case 'meta':
      return undefined
  }
}

/** The address that the page leads to, and what it may be used for; nothing where it may not. */
function translate({ unit }: UnitWorld, step: Extract<Step, { op: 'ats' }>): readonly [string, string] {
  const address = BigInt(step.addr)
  unit.translate({
    ...newRequest(),
    source: SOURCE,
    pasid: Number(step.pasid),
    hi: hiOf(address),
    lo: loOf(address),
    need: PERM.READ | (step.nw === 1 ? 0 : PERM.WRITE) | (step.exec === 1 ? PERM.EXECUTE : 0),
    addressType: ADDRESS_TYPE.TRANSLATION_REQUEST,
    isPrivileged: step.priv === 1,
    isNoWrite: step.nw === 1,
  })
  const { fault, page, shift, perm } = unit.translation
  const rights = fault === 0 ? perm & (PERM.READ | PERM.WRITE) : 0
  const start = rights === 0 ? 0 : page * 4096 - ((page * 4096) % 2 ** shift)
  const [, to = '', recorded = ''] = /addr=(\S+) .*perm=(\d+)/.exec(step.answer) ?? []
  const recordedRights = Number(recorded) & 3
  return [`${hex(start)} ${rights}`, `${recordedRights === 0 ? '0x0' : to} ${recordedRights}`]
}

it('a unit of QEMU 11.1.3 with page requests: every answer of the recording', async () => {
  const lines = await pageRequestLines()
  const world = unitWorld({ preset: 'qemu-11-svm', errata: ERRATA, hasTables: true, memoryBytes: 64 << 20 })
  world.unit.translator.addSource(SOURCE)
  const { responses } = devices(world, 'no-device')
  let compared = 0
  lines.forEach((line, i) => {
    const said = play(world, responses, JSON.parse(line) as Step)
    if (said === undefined) return
    compared++
    expect(said[0], `line ${i + 1}: ${line}`).toBe(said[1])
  })
  expect(compared).toBe(1090)
  expect(world.events('unmodelled')).toEqual([])
})
