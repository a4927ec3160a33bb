import { type Answer, answerNumber } from '../../bits/answer.ts'
import { hex, wordOf } from '../../bits/u64.ts'
import type { IommuChange, IommuListener } from '../../hw/iommu-listener.ts'
import { TCE_PERM, TCE_WRITE } from '../../table/tce-entry.ts'
import type { GuestRam } from './guest-ram.ts'
import { errorText, isOk, type QemuProcess } from './qemu-process.ts'

const READ = 1n
const READ_WRITE = 3n
/** Errno of a call that QEMU took for failed though it returned a positive number: that of an earlier one. */
const STALE_ERRNO = 'an errno of QEMU that an earlier call has left'

const failureText = (answer: Answer): string => `${answerNumber(answer)} (${errorText(answer)})`

/**
 * What QEMU does for VFIO when an entry of a guest's table changes: MAP_DMA or UNMAP_DMA of its page. What goes wrong is
 * printed, and nobody else hears of it. (QEMU 7.2 hw/vfio/common.c, vfio_iommu_map_notify, vfio_dma_map,
 * vfio_dma_unmap; softmmu/memory.c, memory_get_xlat_addr)
 */
export class VfioMapper implements IommuListener {
  readonly name: string
  readonly wants = 'both'
  readonly #qemu: QemuProcess
  readonly #ram: GuestRam
  readonly #fd: number

  /** @param fd the container */
  constructor(qemu: QemuProcess, ram: GuestRam, fd: number) {
    this.name = `vfio container ${fd}`
    this.#qemu = qemu
    this.#ram = ram
    this.#fd = fd
  }

  notify({ window, first, count, tceHi, tceLo, step, isMap }: IommuChange): void {
    const { busOffset, pageShift } = window
    const page = 1n << BigInt(pageShift)
    const perm = tceLo & TCE_PERM
    const apart = step < 0 ? 0n : 1n << BigInt(step)
    const memory = wordOf(tceHi, tceLo) & -page
    for (let i = 0; i < count; i++) {
      const iova = busOffset + (BigInt(first + i) << BigInt(pageShift))
      if (isMap) this.#map(iova, page, memory + BigInt(i) * apart, (perm & TCE_WRITE) !== 0)
      else this.unmap(iova, page)
    }
  }

  unmap(iova: bigint, bytes: bigint): void {
    const answer = this.#unmap(iova, bytes)
    if (!isOk(answer))
      this.#report(answer, `vfio_dma_unmap(container, ${hex(iova)}, ${hex(bytes)}) = ${failureText(answer)}`)
  }

  #map(iova: bigint, bytes: bigint, gpa: bigint, isWritable: boolean): void {
    const ram = this.#ram
    if (gpa >= ram.bytes) {
      this.#qemu.print(`iommu map to non memory area ${gpa.toString(16)}`)
      return
    }
    if (gpa + bytes > ram.bytes) {
      this.#qemu.print('iommu has granularity incompatible with target AS')
      return
    }
    const vaddr = ram.uaOf(gpa)
    const request = { iova, bytes, vaddr, flags: isWritable ? READ_WRITE : READ }
    let answer = this.#mapOnce(request)
    if (answer.code === 'EBUSY' && isOk(this.#unmap(iova, bytes))) answer = this.#mapOnce(request)
    if (isOk(answer)) return
    this.#report(answer, `VFIO_MAP_DMA failed: ${errorText(answer)}`)
    this.#report(
      answer,
      `vfio_dma_map(container, ${hex(iova)}, ${hex(bytes)}, ${hex(vaddr)}) = ${failureText(answer)}`,
    )
  }

  #mapOnce(request: Readonly<Record<'iova' | 'bytes' | 'vaddr' | 'flags', bigint>>): Answer {
    return this.#qemu.ioctl('VFIO_IOMMU_MAP_DMA', { fd: BigInt(this.#fd), ...request })
  }

  #unmap(iova: bigint, bytes: bigint): Answer {
    const answer = this.#qemu.ioctl('VFIO_IOMMU_UNMAP_DMA', { fd: BigInt(this.#fd), iova, bytes })
    if (!isOk(answer)) this.#report(answer, `VFIO_UNMAP_DMA failed: ${errorText(answer)}`)
    return answer
  }

  /** An ioctl that returns a positive number sets no errno: what is printed then is not known. */
  #report(answer: Answer, text: string): void {
    if (answer.code === 'RETURN_1') this.#qemu.doNotKnow(STALE_ERRNO)
    else this.#qemu.print(text)
  }
}
