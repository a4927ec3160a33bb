import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { createReplay } from '../../src/machine/replay/log-replay.ts'
import { isClean } from '../../src/machine/replay/result.ts'
import { STANDING } from '../../src/machine/replay/vtd/ftrace-tally.ts'
import { bytesOf, ftraceOf, recording } from '../log-rows.ts'
import { joinTraces } from '../support/vtd-boot.ts'

const QEMU = recording('vtd/x86-ftrace')
const KERNEL = ftraceOf('vtd/x86-ftrace')
const kernelLines = async () =>
  Buffer.from(await KERNEL)
    .toString('latin1')
    .split('\n')
const qemuLines = async () =>
  Buffer.from(await QEMU)
    .toString('latin1')
    .split('\n')
const joined = (qemu: readonly string[], kernel: readonly string[]) =>
  joinTraces(bytesOf(qemu.join('\n')), bytesOf(kernel.join('\n')))

describe('the two traces of a recorded boot', () => {
  it('go together: every descriptor is in both, every translation is one that the kernel mapped', async () => {
    const { result, found } = joinTraces(await QEMU, await KERNEL)
    expect(result.ftrace).toMatchObject({
      maps: 129,
      unmaps: 127,
      unplaced: 0,
      flushes: { total: 133, matched: 133, unmatched: 0, adrift: 0 },
      unshown: 0,
      standings: [{ why: STANDING.MAPPED, count: 648, firstLine: 295 }],
      diverged: 0,
    })
    expect(result.vtd?.translations).toMatchObject({ total: 648, explained: 648 })
    expect(result.divergences).toEqual([])
    expect(found).toEqual([])
    expect(isClean(result)).toBe(true)
  })

  it('give the same however the bytes are cut', async () => {
    const prng = new Prng(7)
    const { result } = joinTraces(await QEMU, await KERNEL)
    const cut = joinTraces(await QEMU, await KERNEL, () => 1 + prng.below(prng.oneIn(3) ? 40 : 5000))
    expect(cut.result).toEqual(result)
  })

  it('the trace of the kernel alone: maps, unmaps and flushes go together', async () => {
    const replay = createReplay({ from: 'linux-ftrace', source: 'boot' })
    replay.push(await KERNEL)
    const r = replay.end()
    expect(r.ftrace).toMatchObject({
      maps: 129,
      unmaps: 127,
      flushes: { total: 133, matched: 0, unmatched: 0 },
    })
    expect(r.log.damaged.count).toBe(2)
    expect(isClean(r)).toBe(true)
  })
})

describe('two traces with something wrong', () => {
  it('a flush that the driver forgot is found where the address is used again', async () => {
    const [qemu, kernel] = [await qemuLines(), await kernelLines()]
    const flush = kernel.findIndex((line) => line.includes('iotlb_inv dmar0: 0x300f2 0xffffb000'))
    const unmap = flush - 1
    const map = kernel.findIndex(
      (line, i) => i > flush && line.includes('map: IOMMU: iova=0x00000000ffffb000'),
    )
    const descriptor = qemu.findIndex(
      (line) => line.startsWith('vtd_inv_desc ') && line.includes('high 0xffffb000 '),
    )
    const pages = qemu.findIndex((line, i) => i > descriptor && line.startsWith('vtd_inv_desc_iotlb_pages'))
    // The same memory again is no harm; the recorded boot happens to use another page here.
    const other = kernel[map]?.replace('paddr=0x000000001961c000', 'paddr=0x000000001961d000') ?? ''
    const { found } = joined(
      qemu.filter((_, i) => i !== descriptor && i !== pages),
      kernel.with(map, other).toSpliced(flush, 1),
    )
    expect(found[0]?.[0]).toBe('stale-translation')
    expect(found[0]?.[1]).toContain(unmap + 1)
  })

  it('of different boots: they do not go together', async () => {
    const { result } = joinTraces(await recording('vtd/x86-strict'), await KERNEL)
    expect(result.ftrace?.flushes.unmatched).toBeGreaterThan(50)
    expect(isClean(result)).toBe(false)
  })
})

describe('a trace of the kernel that is not whole', () => {
  it.each([20, 111, 300])('began later, in line %d', async (line) => {
    const kernel = (await kernelLines()).slice(line)
    const { result } = joined(await qemuLines(), kernel)
    const { flushes } = result.ftrace ?? {}
    expect(flushes).toMatchObject({ unmatched: 0 })
    expect(flushes?.matched).toBe(flushes?.total)
    expect(result.ftrace).toMatchObject({ unshown: 0, diverged: 0 })
    expect(isClean(result)).toBe(true)
  })

  it.each([50, 200])('ended earlier, in line %d', async (line) => {
    const { result } = joined(await qemuLines(), (await kernelLines()).slice(0, line))
    expect(result.ftrace?.flushes.unmatched).toBe(0)
    expect(isClean(result)).toBe(true)
  })

  it.each([1, 5, 40, 120])('lost %d lines, and says so', async (lost) => {
    const kernel = (await kernelLines()).toSpliced(150, lost, `CPU:0 [LOST ${lost} EVENTS]`)
    const { result, found } = joined(await qemuLines(), kernel)
    expect(result.ftrace).toMatchObject({ flushes: { unmatched: 0 }, diverged: 0 })
    expect(found).toEqual([])
    expect(isClean(result)).toBe(true)
  })

  it('lost one descriptor without a word: the traces go on together behind it', async () => {
    const kernel = await kernelLines()
    const flush = kernel.findIndex((line, i) => i > 150 && line.includes('qi_submit'))
    const { result } = joined(await qemuLines(), kernel.toSpliced(flush, 1))
    expect(result.ftrace).toMatchObject({ unshown: 1, flushes: { matched: 132, unmatched: 0 } })
  })

  it('has a descriptor that the trace of QEMU lost', async () => {
    const qemu = await qemuLines()
    const kernel = await kernelLines()
    const line = qemu.findIndex(
      (text, i) => i > 2000 && text.startsWith('vtd_inv_desc invalidate desc type iotlb'),
    )
    const { result } = joined(qemu.toSpliced(line, 1), kernel)
    expect(result.ftrace?.flushes).toMatchObject({ matched: 132, unmatched: 1 })
    expect(isClean(result)).toBe(false)
  })
})
