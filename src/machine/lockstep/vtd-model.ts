import { iova } from '../../bits/brand.ts'
import { hexDigits } from '../../bits/byte-text.ts'
import { Clock } from '../../bits/clock.ts'
import { type Profile, resolveProfile } from '../../bits/errata.ts'
import { Cells, Journal, keyOf } from '../../bits/state.ts'
import { hex, U64_MAX } from '../../bits/u64.ts'
import { Edu } from '../../hw/edu.ts'
import { Life } from '../../hw/life.ts'
import { RemappingUnit } from '../../hw/vtd/remapping-unit.ts'
import { VtdDmaSpace } from '../../hw/vtd-devices/vtd-dma-space.ts'
import { RecordLog } from '../../trace/record-log.ts'
import { Stage } from '../../trace/stage.ts'
import { ERRATA } from '../registry.ts'
import type { Answers, ScriptPeer } from './script-comparison.ts'
import { SparseMemory } from './vtd-memory.ts'
import { RequestModel } from './vtd-request-model.ts'
import { VTD_AREAS, VTD_REGISTER_BYTES, type VtdArea, VtdWatch, vtdLooks } from './vtd-state.ts'
import {
  VTD_DEVICE_NAMES,
  VTD_DEVICES,
  VTD_RAM_BYTES,
  type VtdDeviceName,
  type VtdScript,
  type VtdStep,
} from './vtd-step.ts'
import { vtdCapabilities } from './vtd-unit-options.ts'

/** Records that are kept: nobody reads them here. */
const RECORDS_KEPT = 4096
const REGISTER_BYTES = 8

/** The machine of one script, as the model has it. */
class ModelRun {
  readonly #memory = new SparseMemory(VTD_RAM_BYTES)
  readonly #watch = new VtdWatch()
  readonly #unit: RemappingUnit
  readonly #devices: ReadonlyMap<VtdDeviceName, Edu>
  readonly #requests: RequestModel
  readonly #life: Life

  constructor(
    { unit, devices = VTD_DEVICES }: Pick<VtdScript, 'unit' | 'devices'>,
    version: string,
    profile: Profile,
  ) {
    const journal = new Journal()
    const stage = new Stage(new RecordLog({ keepRecords: RECORDS_KEPT }))
    const life = new Life(stage, journal)
    const memory = this.#memory
    const clock = new Clock(new Cells(journal, keyOf('clock', 'vtd')))
    const { cap, ecap } = vtdCapabilities(unit, version)
    this.#life = life
    this.#unit = new RemappingUnit(
      { name: 'vtd0', memory, cap, ecap, hostAddressBits: unit.addressBits },
      { stage, journal, life, profile },
    )
    this.#requests = new RequestModel(this.#unit, devices)
    const device = (called: VtdDeviceName, source: number): Edu => {
      const space = new VtdDmaSpace(source, { unit: this.#unit, memory, stage, profile })
      this.#unit.translator.addSource(source)
      return new Edu({ name: called, space, dmaMask: U64_MAX }, { stage, journal, life, profile, clock })
    }
    this.#devices = new Map(
      VTD_DEVICE_NAMES.flatMap((called) => {
        const source = devices[called]
        return source === undefined ? [] : [[called, device(called, source)] as const]
      }),
    )
  }

  /** @returns undefined where the step has no answer */
  answer(step: VtdStep): string | undefined {
    switch (step.kind) {
      case 'word':
        this.#memory.writeWords(step.gpa, step.words)
        this.#watch.wrote(step.gpa, step.words)
        return undefined
      case 'peek':
        return hexDigits(this.#memory.read(step.gpa, step.bytes))
      case 'look':
        return hex(this.#unit.mmioRead(step.offset, step.widthBytes))
      case 'reg':
        this.#unit.mmioWrite(step.offset, step.widthBytes, step.value)
        return `${this.#requests.heard()}${this.#changes(step)}`
      case 'dma':
        this.#devices
          .get(step.device)
          ?.transfer(iova(step.iova), step.bytes, step.direction === 'write', step.at ?? 0)
        return this.#changes(step)
      case 'pri':
      case 'ats':
        return `${this.#requests.ask(step)} ${this.#changes(step)}`
    }
  }

  #changes(step: VtdStep): string {
    if (this.#life.isDead) return `dead: ${this.#life.why}`
    const registers = new DataView(new ArrayBuffer(VTD_REGISTER_BYTES))
    for (let offset = 0; offset < VTD_REGISTER_BYTES; offset += REGISTER_BYTES) {
      registers.setBigUint64(offset, this.#unit.mmioRead(offset, REGISTER_BYTES), true)
    }
    const memory: Partial<Record<VtdArea, Uint8Array>> = {}
    for (const area of vtdLooks(step)) {
      const { gpa, bytes } = VTD_AREAS[area]
      memory[area] = this.#memory.read(gpa, bytes)
    }
    return this.#watch.changes(new Uint8Array(registers.buffer), memory)
  }
}

/**
 * The model's VT-d unit, with devices behind it. Each script has a new one.
 *
 * @example
 * await new VtdModel('7.2.22').run({ name: 'a', unit: PLAIN_VTD_UNIT, steps })
 */
export class VtdModel implements ScriptPeer<VtdScript> {
  readonly title: string
  readonly #version: string
  readonly #profile: Profile

  /**
   * @param version the QEMU whose units it has
   * @param profile its errata; those of that QEMU where it is left out
   * @throws IommulatorError ERR_PROFILE for an unknown profile
   */
  constructor(version: string, profile: string = `qemu-${version}`) {
    this.#version = version
    this.#profile = resolveProfile(ERRATA, profile)
    this.title = `the model (${profile})`
  }

  run(script: VtdScript): Promise<Answers> {
    return Promise.resolve(this.answers(script))
  }

  answers(script: VtdScript): (string | undefined)[] {
    const run = new ModelRun(script, this.#version, this.#profile)
    return script.steps.map((step) => run.answer(step))
  }
}
