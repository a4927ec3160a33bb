import { createReplay } from '../../src/machine/replay/log-replay.ts'
import type { ReplayResult } from '../../src/machine/replay/result.ts'
import { bytesOf } from '../log-rows.ts'

const x = (n: bigint | number): string => `0x${n.toString(16)}`

/** Lines of a trace of QEMU's intel-iommu, as its `hw/i386/trace-events` has them. Device 00:04.0 (0x20) unless said. */
export const VTD_LINE = {
  reset: 'vtd_context_cache_reset ',
  root: (scalable = 0) => `vtd_reg_dmar_root addr 0x100000 scalable ${scalable}`,
  enable: (on = 1) => `vtd_dmar_enable enable ${on}`,
  hit: (iova: number, slpte: number, domain = 5, sid = 0x20) =>
    `vtd_iotlb_page_hit IOTLB page hit sid ${x(sid)} iova ${x(iova)} slpte ${x(slpte)} domain ${x(domain)}`,
  update: (iova: number, slpte: number, domain = 5, sid = 0x20) =>
    `vtd_iotlb_page_update IOTLB page update sid ${x(sid)} iova ${x(iova)} slpte ${x(slpte)} domain ${x(domain)}`,
  translate: (iova: number, gpa: number, mask = 0xfff, fn = 0) =>
    `vtd_dmar_translate dev 00:04.0${fn} iova ${x(iova)} -> gpa ${x(gpa)} mask ${x(mask)}`,
  passThrough: (iova: number) => `vtd_translate_pt source id 0x20, iova ${x(iova)}`,
  full: 'vtd_iotlb_reset IOTLB reset (reason: iotlb exceeds size limit)',
  contextRead: (hi: number, generation = 1) =>
    `vtd_iotlb_cc_update IOTLB context update bus 0x0 devfn 0x20 high ${x(hi)} low 0x102001 gen 0 -> gen ${generation}`,
  contextHit: (hi: number, generation = 1) =>
    `vtd_iotlb_cc_hit IOTLB context hit bus 0x0 devfn 0x20 high ${x(hi)} low 0x102001 gen ${generation}`,
  noContext: 'vtd_ce_not_present Context entry bus 0 devfn 32 not present',
  noRoot: 'vtd_re_not_present Root entry bus 0 not present',
  descriptor: (kind: string, hi: bigint | number, lo: bigint | number) =>
    `vtd_inv_desc invalidate desc type ${kind} high ${x(hi)} low ${x(lo)}`,
  flushPages: (iova: number, order = 0, domain = 5) =>
    `vtd_inv_desc_iotlb_pages iotlb invalidate domain ${x(domain)} addr ${x(iova)} mask ${x(order)}`,
  flushDomain: (domain = 5) => `vtd_inv_desc_iotlb_domain iotlb invalidate whole domain ${x(domain)}`,
  flushAll: 'vtd_inv_desc_iotlb_global iotlb invalidate global',
  flushContexts: 'vtd_inv_desc_cc_global context invalidate globally',
  flushContextsOf: (domain: number) => `vtd_inv_desc_cc_domain context invalidate domain ${x(domain)}`,
  flushContext: 'vtd_inv_desc_cc_devices context invalidate devices sid 0x20 fmask 0x0',
  forgotContext: 'vtd_inv_desc_cc_device context invalidate device 00:04.00',
  wait: 'vtd_inv_desc_wait_sw wait invalidate status write addr 0x107000 data 0x2',
  fault: (reason: number, iova: number, write = 0, sid = 0x20) =>
    `vtd_dmar_fault sid ${x(sid)} fault ${reason} addr ${x(iova)} write ${write}`,
  record: (hi: bigint, lo: number) => `vtd_frr_new index 0 high ${x(hi)} low ${x(lo)}`,
  silent: 'vtd_fault_disabled Fault processing disabled for context entry',
  write: (offset: number, value: bigint | number, bytes = 4) =>
    `vtd_reg_write addr ${x(offset)} size ${x(bytes)} value ${x(value)}`,
} as const

/** The machine starts, and software switches translation on. */
export const STARTED: readonly string[] = [
  VTD_LINE.reset,
  VTD_LINE.root(),
  VTD_LINE.reset,
  VTD_LINE.enable(),
  VTD_LINE.reset,
]

export function replayLines(lines: readonly string[]): ReplayResult {
  const running = createReplay({ from: 'qemu-trace', source: 'lines' })
  running.push(bytesOf(`${lines.join('\n')}\n`))
  return running.end()
}
