import type { CallDecl } from '../../bits/call.ts'
import { resolveProfile } from '../../bits/errata.ts'
import { KVM_ERRATA } from '../../kernel/kvm/errata.ts'
import { QEMU_ERRATA } from '../../kernel/qemu/errata.ts'
import { VFIO_ERRATA } from '../../kernel/vfio/errata.ts'
import { CALLS } from '../../machine/registry.ts'
import { alignedGrid } from '../markdown.ts'
import { EXAMPLE_LIST, HCALL_EXAMPLES, type HcallExample } from './hcall-examples.ts'
import { hcallInputs, type JudgedInput } from './hcall-inputs.ts'
import { type HcallOutcome, type HcallWorld, kvmWorld, outcomeOf, qemuWorld } from './hcall-worlds.ts'
import { INPUT_FAULTS, inputFaults } from './input-faults.ts'
import type { RecordedRun } from './recorded-run.ts'
import { NOT_RUN } from './rule-pages.ts'

const QEMU_PROFILE = 'qemu-7.2'
const KVM_PROFILE = 'linux-6.12.95'
const MEANT = 'intended'

const TO_USER_SPACE = 'to user space'
const shownCode = (code: string): string => (code === 'H_TOO_HARD' ? TO_USER_SPACE : code)

function outcomeText({ code, changed }: HcallOutcome): string {
  return code === 'H_SUCCESS' || changed === 0 ? shownCode(code) : `${shownCode(code)}, ${changed} written`
}

const outcomesIn = (world: HcallWorld): HcallOutcome[] =>
  HCALL_EXAMPLES.map(({ call, args, list }) => {
    if (list !== undefined) world.writeList(EXAMPLE_LIST, list)
    return outcomeOf(world, call, args)
  })

/** One side of the comparison: its outcomes, and the errata that each of them rests on. */
interface Side {
  readonly texts: readonly string[]
  readonly errata: readonly (readonly string[])[]
}

function sideOf(world: (profile: string) => HcallWorld, profile: string, ids: readonly string[]): Side {
  const outcomes = outcomesIn(world(profile))
  const texts = outcomes.map(outcomeText)
  const without = ids.map((id) => outcomesIn(world(`${profile},-${id}`)))
  const isOther = (a: HcallOutcome, b: HcallOutcome | undefined) =>
    a.code !== b?.code || a.changed !== b.changed
  return {
    texts,
    errata: outcomes.map((o, i) => ids.filter((_, at) => isOther(o, without[at]?.[i]))),
  }
}

const declOf = (layer: string, call: string): CallDecl | undefined =>
  CALLS.find((decl) => decl.layer === layer && decl.name === call)

/** What recordings answered to inputs with the same faults, by code. */
function recordedText(
  inputs: readonly (JudgedInput & { readonly recording: string })[],
  code: string,
): string {
  const byCode = new Map<string, { count: number; place: string }>()
  for (const { layer, call, rule, line, recording } of inputs) {
    const said = shownCode(declOf(layer, call)?.answers.find((a) => a.rule === rule)?.code ?? rule)
    const found = byCode.get(said)
    if (found === undefined) byCode.set(said, { count: 1, place: `${recording}:${line}` })
    else found.count++
  }
  if (byCode.size === 0) return NOT_RUN
  return [...byCode]
    .map(([said, { count, place }]) => `${said === code ? '' : `${said} `}${count} (${place})`)
    .join(', ')
}

const wordsOf = ({ faults }: HcallExample): string =>
  faults.length === 0 ? 'nothing is wrong' : faults.map((fault) => INPUT_FAULTS[fault]).join(', ')

/** What was recorded of each input: the key has the layer, the call and the faults. */
function recordedInputs(runs: readonly RecordedRun[]) {
  const found = new Map<string, (JudgedInput & { readonly recording: string })[]>()
  for (const run of runs) {
    for (const input of hcallInputs(run)) {
      if (!input.isSame) continue
      const key = `${input.layer} ${input.call} ${inputFaults(input).join(' ')}`
      const list = found.get(key)
      const entry = { ...input, recording: run.recording.name }
      if (list === undefined) found.set(key, [entry])
      else list.push(entry)
    }
  }
  return (layer: string, { call, faults }: HcallExample) =>
    found.get(`${layer} ${call} ${faults.join(' ')}`) ?? []
}

function madeSides(): { readonly qemu: Side; readonly kvm: Side; readonly meant: readonly string[] } {
  const qemuIds = resolveProfile(QEMU_ERRATA, QEMU_PROFILE).ids
  const kvmIds = resolveProfile([...KVM_ERRATA, ...VFIO_ERRATA], KVM_PROFILE).ids
  return {
    qemu: sideOf(qemuWorld, QEMU_PROFILE, qemuIds),
    kvm: sideOf(kvmWorld, KVM_PROFILE, kvmIds),
    meant: outcomesIn(qemuWorld(MEANT)).map(outcomeText),
  }
}

/** What the model answers does not depend on recordings: done once. */
let sides: ReturnType<typeof madeSides> | undefined

/** The tables of what QEMU, KVM and the interface answer to the same hypercalls, call by call. */
export function hcallTables(runs: readonly RecordedRun[]): string {
  sides ??= madeSides()
  const { qemu, kvm, meant } = sides
  const recorded = recordedInputs(runs)
  const rows = HCALL_EXAMPLES.map((example, i) => {
    const [ofQemu = '', ofKvm = ''] = [qemu.texts[i], kvm.texts[i]]
    return {
      call: example.call,
      cells: [
        wordsOf(example),
        ofQemu,
        recordedText(recorded('qemu', example), ofQemu.split(',', 1)[0] ?? ''),
        ofKvm,
        recordedText(recorded('kvm', example), ofKvm.split(',', 1)[0] ?? ''),
        meant[i] ?? '',
        [...(qemu.errata[i] ?? []), ...(kvm.errata[i] ?? [])].join(' '),
      ],
    }
  })
  const head = ['input', 'QEMU 7.2', 'recorded', 'KVM 6.12.95', 'recorded', 'interface', 'errata']
  const calls = [...new Set(rows.map(({ call }) => call))]
  return calls
    .map((name) => {
      const ofCall = rows.filter(({ call }) => call === name).map(({ cells }) => cells)
      return `### ${name}\n\n${alignedGrid(head, ofCall)}\n`
    })
    .join('\n')
}
