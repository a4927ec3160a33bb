import type { IotlbSink } from '../ports.ts'

/** Guest memory as vhost's memory table has it: a range of guest addresses at a user address. */
export interface RamRegion {
  readonly gpa: bigint
  readonly bytes: bigint
  readonly ua: bigint
}

export interface UpdateParts {
  readonly ram: readonly RamRegion[]
  readonly sink: IotlbSink
  /** Erratum: what is asked for is looked at, and both permissions are given. */
  readonly givesBoth: boolean
  /** error_report. */
  readonly print: (text: string) => void
}

/** A translation that a vIOMMU has found for a bus address: of the IOMMU page that holds it. */
export interface Translation {
  readonly iova: bigint
  /** Bytes of the page, less one. */
  readonly mask: bigint
  /** Guest address of its first byte. */
  readonly page: bigint
  readonly perm: number
}

const READ_WRITE = 3

const regionAt = (ram: readonly RamRegion[], gpa: bigint): RamRegion | undefined =>
  ram.find((r) => r.gpa <= gpa && gpa < r.gpa + r.bytes)

/**
 * QEMU sends vhost the translation of an address: the IOMMU page, no further than the region of memory that holds its
 * first byte. False where it sends none, or vhost does not take it.
 * (QEMU 7.2 hw/virtio/vhost.c, vhost_device_iotlb_miss; softmmu/physmem.c, address_space_get_iotlb_entry)
 */
export function sendUpdate({ ram, sink, givesBoth, print }: UpdateParts, found: Translation): boolean {
  const { iova, mask, page, perm } = found
  if (regionAt(ram, page + (iova & mask)) === undefined) return false
  const region = regionAt(ram, page)
  if (region === undefined) {
    print(`Fail to lookup the translated address ${page.toString(16)}`)
    return false
  }
  const left = region.gpa + region.bytes - page
  const bytes = mask + 1n < left ? mask + 1n : left
  if (sink.update(iova & ~mask, bytes, region.ua + page - region.gpa, givesBoth ? READ_WRITE : perm) === 0) {
    return true
  }
  print('Fail to update device iotlb')
  print('Fail to update device iotlb')
  return false
}
