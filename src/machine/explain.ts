import { get } from '../bits/word.ts'
import { FAULT_REASONS, faultNameOf } from '../hw/vtd/fault-reasons.ts'
import { CAP, ECAP, FSTS_OLD } from '../hw/vtd/register-format.ts'
import { LINE_FAMILIES } from '../reader/kernel-log/families.ts'
import { AmdExplainer } from '../report/explain/amd-explainer.ts'
import { BootExplainer } from '../report/explain/boot-explainer.ts'
import { CauseExplainer } from '../report/explain/cause-explainer.ts'
import { EehExplainer } from '../report/explain/eeh-explainer.ts'
import { LogExplainer } from '../report/explain/explainer.ts'
import { PowerpcExplainer } from '../report/explain/powerpc-explainer.ts'
import { QemuExplainer } from '../report/explain/qemu-explainer.ts'
import { SmmuExplainer } from '../report/explain/smmu-explainer.ts'
import { SmmuV2Explainer } from '../report/explain/smmu-v2-explainer.ts'
import { TraceExplainer } from '../report/explain/trace-explainer.ts'
import { VfioExplainer } from '../report/explain/vfio-explainer.ts'
import { VtdExplainer } from '../report/explain/vtd-explainer.ts'
import type { VtdKnowledge } from '../report/explain/vtd-knowledge.ts'

/** Second-level tables by the bits of SAGAW that are in use. */
const WIDTHS = [
  [2n, '39'],
  [4n, '48'],
  [8n, '57'],
] as const

const STATUS_BITS = ['PFO', 'PPF', 'AFO', 'APF', 'IQE', 'ICE', 'ITE', 'PRO'] as const

function unitWords(cap: bigint, ecap: bigint): string[] {
  const has = (field: keyof typeof ECAP.fields): boolean => get(ECAP, ecap, field) !== 0n
  const widths = WIDTHS.filter(([bit]) => (get(CAP, cap, 'SAGAW') & bit) !== 0n).map(([, width]) => width)
  return [
    `addresses of ${get(CAP, cap, 'MGAW') + 1n} bits`,
    ...(widths.length > 0 ? [`tables for ${widths.join(', ')} bits`] : []),
    ...(get(CAP, cap, 'CM') !== 0n ? ['caching mode, as hypervisors have it'] : []),
    ...(has('SMTS') ? ['scalable mode'] : []),
    ...(has('PASID') ? ['PASIDs'] : []),
    ...(has('PRS') ? ['page requests'] : []),
    ...(has('DT') ? ['device-TLBs'] : []),
    ...(has('IR') ? ['interrupt remapping'] : []),
  ]
}

/** What the declarations of the model say to lines of VT-d. */
const VTD_KNOWLEDGE: VtdKnowledge = {
  reason: (code) => {
    const name = faultNameOf(code)
    return name === undefined ? undefined : { name, ...FAULT_REASONS[name] }
  },
  status: (value) =>
    STATUS_BITS.filter((name) => get(FSTS_OLD, BigInt(value), name) !== 0n).map((name) => [
      name,
      FSTS_OLD.fields[name].doc,
    ]),
  unit: unitWords,
}

/**
 * Explains the log of a kernel, with what the model knows of the hardware.
 *
 * @example
 * const explainer = createLogExplainer()
 * explainer.push(bytes)
 * explainText(explainer.end())
 */
export const createLogExplainer = (): LogExplainer =>
  new LogExplainer(LINE_FAMILIES, [
    new VtdExplainer(VTD_KNOWLEDGE),
    new EehExplainer(),
    new PowerpcExplainer(),
    new VfioExplainer(),
    new AmdExplainer(),
    new SmmuExplainer(),
    new SmmuV2Explainer(),
    new QemuExplainer(VTD_KNOWLEDGE.reason),
    new TraceExplainer(),
    new CauseExplainer(),
    new BootExplainer(),
  ])
