import { hiOf, loOf } from '../../bits/u64.ts'
import { ADDRESS_TYPE, NO_PASID, newRequest, type PageResponse, PERM } from '../../hw/vtd/ports.ts'
import type { RemappingUnit } from '../../hw/vtd/remapping-unit.ts'
import {
  VTD_ENDPOINT_NAMES,
  VTD_HEARD_PASIDS,
  type VtdEndpointName,
  type VtdRequestStep,
  vtdHeardText,
  vtdRightsText,
  vtdTranslationsText,
} from './vtd-request-step.ts'

const PAGE_BYTES = 4096n
/** The listener of a device knows three codes: every failure is the third one. */
const FAILURE = 2

/** The devices of a script that ask their unit for translations and pages. */
export class RequestModel {
  readonly #unit: RemappingUnit
  readonly #sources: Readonly<Partial<Record<VtdEndpointName, number>>>
  readonly #request = newRequest()
  #heard: string[] = []

  constructor(unit: RemappingUnit, sources: Readonly<Partial<Record<VtdEndpointName, number>>>) {
    this.#unit = unit
    this.#sources = sources
    unit.deviceTlbs = {
      // Invalidations of device-TLBs reach nobody: the devices keep nothing.
      invalidate: () => 'no-device',
      respond: (response) => this.#respond(response),
    }
    for (const name of VTD_ENDPOINT_NAMES) {
      const source = sources[name]
      if (source !== undefined) unit.translator.addSource(source)
    }
  }

  /** What comes of a request at once. */
  ask(step: VtdRequestStep): string {
    const source = this.#sources[step.device] ?? 0
    return step.kind === 'pri' ? this.#page(source, step) : this.#translations(source, step)
  }

  /** The responses that devices have got since the last time. */
  heard(): string {
    const text = vtdHeardText(this.#heard)
    this.#heard = []
    return text
  }

  #respond({ source, pasid, group, code }: PageResponse): void {
    const device = VTD_ENDPOINT_NAMES.find((name) => this.#sources[name] === source)
    if (device === undefined || !VTD_HEARD_PASIDS.includes(pasid)) return
    this.#heard.push(`${device}:${pasid}:${group}:${Math.min(code, FAILURE)}`)
  }

  #page(source: number, { pasid, address, group, flags }: Extract<VtdRequestStep, { kind: 'pri' }>): string {
    const end = this.#unit.pageRequest({
      source,
      pasid: pasid ?? NO_PASID,
      address,
      isRead: flags.includes('r'),
      isWrite: flags.includes('w'),
      isExecute: flags.includes('x'),
      isPrivileged: flags.includes('p'),
      group,
      isLast: flags.includes('l'),
      privateData: undefined,
    })
    return `end=${end}`
  }

  #translations(
    source: number,
    { pasid, address, bytes, flags }: Extract<VtdRequestStep, { kind: 'ats' }>,
  ): string {
    const request = this.#request
    const isNoWrite = flags.includes('n')
    request.source = source
    request.pasid = pasid ?? NO_PASID
    request.need = PERM.READ | (isNoWrite ? 0 : PERM.WRITE) | (flags.includes('x') ? PERM.EXECUTE : 0)
    request.addressType = ADDRESS_TYPE.TRANSLATION_REQUEST
    request.isPrivileged = flags.includes('p')
    request.isNoWrite = isNoWrite
    const found: string[] = []
    for (let at = address; at < address + BigInt(bytes); ) {
      request.hi = hiOf(at)
      request.lo = loOf(at)
      const fault = this.#unit.translate(request)
      const { page, shift, perm } = this.#unit.translation
      const rights = fault === 0 ? perm & (PERM.READ | PERM.WRITE) : 0
      const pageBytes = rights === 0 ? PAGE_BYTES : 1n << BigInt(shift)
      const to = BigInt(page) * PAGE_BYTES
      found.push(vtdRightsText(rights === 0 ? 0n : to & -pageBytes, pageBytes, rights))
      at = (at & -pageBytes) + pageBytes
    }
    return vtdTranslationsText(found)
  }
}
