import { describe, expect, it } from 'vitest'
import type { CallDecl } from '../../src/bits/call.ts'
import { encodeStruct } from '../../src/kernel/user-struct.ts'
import * as calls from '../../src/kernel/vfio/spapr-calls.ts'
import { STRUCTS } from '../../src/kernel/vfio/structs.ts'
import { PAGE, registered, UA, type VfioWorld } from '../support/vfio.ts'

const STRUCT = UA + 8n * PAGE

const asked = (world: VfioWorld, decl: CallDecl, args: Record<string, bigint>) => {
  const from = world.log.length
  world.call(decl, args)
  for (const { seq, event } of world.log.records()) {
    if (seq >= from && event.kind === 'call.enter') return [event.a0, event.a1, event.a2, event.a3]
  }
  return []
}

describe('the record of a VFIO call shows what is asked', () => {
  it('addresses and sizes before the head of the structure', () => {
    const world = registered()
    const { fd } = world
    const range = { vaddr: UA, iova: PAGE, bytes: 2n * PAGE }
    expect(asked(world, calls.VFIO_IOMMU_MAP_DMA, { fd, ...range })).toEqual([fd, UA, PAGE, 2n * PAGE])
    expect(asked(world, calls.VFIO_IOMMU_SPAPR_REGISTER_MEMORY, { fd, vaddr: UA, bytes: PAGE })).toEqual([
      fd,
      UA,
      PAGE,
      0n,
    ])
  })

  it('the members in memory of the process, where the call points there', () => {
    const world = registered()
    const { fd } = world
    const range = { argsz: 32n, flags: 3n, vaddr: UA, iova: PAGE, bytes: 2n * PAGE }
    world.qemu.mm.write(STRUCT, encodeStruct(STRUCTS.map, range))
    const arg = STRUCT
    expect(asked(world, calls.VFIO_IOMMU_MAP_DMA, { fd, arg, vaddr: 1n })).toEqual([fd, UA, PAGE, 2n * PAGE])
  })

  it('what was named, where that memory cannot be read', () => {
    const world = registered()
    const { fd } = world
    expect(asked(world, calls.VFIO_IOMMU_MAP_DMA, { fd, arg: 0x1000n, vaddr: UA })).toEqual([fd, UA, 0n, 0n])
  })
})
