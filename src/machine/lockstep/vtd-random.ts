import { compareVersions } from '../../bits/errata.ts'
import { Prng } from '../../bits/prng.ts'
import { VtdWriter } from './vtd-random-writer.ts'
import type { VtdScript } from './vtd-step.ts'
import { PLAIN_VTD_UNIT, type VtdUnitMode, type VtdUnitOptions } from './vtd-unit-options.ts'

/** Steps of a script behind those that set the machine up. */
const STEPS = { least: 300, spread: 400 } as const

/** The modes that random scripts are for, as far as a QEMU has them. */
export const randomVtdModes = (version: string): readonly VtdUnitMode[] =>
  compareVersions(version, '10.0') < 0 ? ['legacy', 'scalable'] : ['first-level']

/** The script of a seed with a number from 0 on, for units of a mode in that QEMU. */
export function randomVtdScript(seed: number, number: number, mode: VtdUnitMode, version: string): VtdScript {
  const prng = new Prng(Math.imul(seed, 0x9e37_79b1) + number)
  const isWide = mode === 'first-level' || prng.oneIn(2)
  const unit: VtdUnitOptions = {
    ...PLAIN_VTD_UNIT,
    mode,
    addressBits: isWide ? 48 : 39,
    hasCachingMode: prng.oneIn(4),
    hasDeviceTlb: prng.oneIn(3),
    hasPassThrough: compareVersions(version, '11.0') >= 0 || !prng.oneIn(6),
    hasInterruptRemapping: prng.oneIn(6),
    hasSnoopControl: prng.oneIn(6),
    hasFirstLevel1G: !prng.oneIn(4),
  }
  return {
    name: `random-${mode}-${seed}-${number}`,
    unit,
    steps: new VtdWriter(prng, unit).write(STEPS.least + prng.below(STEPS.spread)),
  }
}
