import { NONE } from '../../../src/trace/event-codes.ts'
import { World } from './world.ts'

export const UA = 0x7f00_0000_0000n

/** A guest with 1 GiB of RAM at user address UA, and the vhost device `net` with an empty IOTLB. */
export class VhostWorld extends World {
  #maps = 0

  constructor(options: ConstructorParameters<typeof World>[0] = {}) {
    super(options)
    this.log.emit('memory.slot', null, {
      gpa: 0n,
      bytes: 1n << 30n,
      ua: UA,
      owner: 'partition:a',
      present: 1,
    })
  }

  device(name = 'net', unit = 'phb0', iotlb = 1) {
    this.log.emit('device.add', null, { device: name, unit, mask: (1n << 64n) - 1n })
    return this.iotlb(iotlb, name)
  }

  iotlb(iotlb = 1, device = 'net') {
    return this.log.emit('iotlb.new', null, { iotlb, device, limit: 2048 })
  }

  /** Answers the number of the map. */
  fill(
    iova: bigint,
    gpa: bigint,
    options: { bytes?: bigint; perm?: number; iotlb?: number; ua?: bigint } = {},
  ) {
    const { bytes = 0x1000n, perm = 3, iotlb = 1, ua = UA + gpa } = options
    const map = ++this.#maps
    this.log.emit('iotlb.fill', null, { iotlb, map, iova, last: iova + bytes - 1n, ua, perm })
    return map
  }

  drop(iova: bigint, last: bigint, options: { iotlb?: number; cause?: number; why?: string } = {}) {
    const { iotlb = 1, cause = null, why = 'invalidate' } = options
    return this.log.emit('iotlb.drop', cause, { iotlb, iova, last, maps: 1, why })
  }

  reach(
    map: number,
    iova: bigint,
    options: { bytes?: number; write?: number; part?: number; ua?: bigint } = {},
  ) {
    const { bytes = 64, write = 1, part = 0, ua = UA } = options
    return this.log.emit('iotlb.use', null, { iotlb: 1, map, iova, ua, bytes, write, part, line: 0 })
  }

  attach(domain: number, ats = 0, device = 'net', source = 0x100) {
    return this.log.emit('domain.attach', null, { device, source, domain, ats })
  }

  mapDomain(
    domain: number,
    iova: bigint,
    gpa: bigint,
    options: { perm?: number; bytes?: bigint; how?: number } = {},
  ) {
    const { perm = 3, bytes = 0x1000n, how = 0 } = options
    return this.log.emit('domain.map', null, { domain, iova, bytes, gpa, perm, how })
  }

  unmapDomain(domain: number, iova: bigint, options: { bytes?: bigint; how?: number } = {}) {
    const { bytes = 0x1000n, how = 0 } = options
    return this.log.emit('domain.unmap', null, { domain, iova, bytes, how })
  }

  flush(scope: number, options: { domain?: number; source?: number; iova?: bigint; bytes?: bigint } = {}) {
    const { domain = 5, source = 0x100, iova = 0n, bytes = 0n } = options
    return this.log.emit('domain.flush', null, {
      unit: 'vtd',
      scope,
      domain,
      source,
      pasid: NONE,
      iova,
      bytes,
      hint: 0,
      line: 0,
    })
  }

  wait() {
    return this.log.emit('domain.wait', null, { unit: 'vtd', line: 0 })
  }
}
