import type { CallHandler } from '../../bits/answer.ts'
import type { RuleOf } from '../../bits/call.ts'
import { hiOf, loOf, wordOf } from '../../bits/u64.ts'
import { type Outcome, unknown } from '../outcome.ts'
import type { ProcessCall } from '../process-call.ts'
import { MMAP_TCE, READ_TCE, WRITE_TCE } from './calls.ts'
import type { GuestTceTable } from './guest-tce-table.ts'
import type { Kvm } from './kvm.ts'
import { kvmHandler } from './kvm-call.ts'

const NO_MEMORY = 'an access to a TCE table for which there is no memory'

function mmap(kvm: Kvm, call: ProcessCall): Outcome<RuleOf<typeof MMAP_TCE>> {
  const { name } = call.process
  const file = kvm.files.find(name, call.number('fd'))
  if (file === undefined) return 'bad-fd'
  if (file.target.kind !== 'tce-table')
    return unknown(`a mapping of a file of another kind (${file.target.kind})`)
  if (kvm.files.mapping(name, call.text('map')) !== undefined) return 'name-taken'
  kvm.files.map(name, call.text('map'), file)
  return 'done'
}

/** The table behind a mapping of the process. */
function mapped(kvm: Kvm, call: ProcessCall): GuestTceTable | undefined {
  const target = kvm.files.mapping(call.process.name, call.text('map'))?.target
  return target?.kind === 'tce-table' ? (target as GuestTceTable) : undefined
}

function read(kvm: Kvm, call: ProcessCall): Outcome<RuleOf<typeof READ_TCE>> {
  const table = mapped(kvm, call)
  if (table === undefined) return 'not-mapped'
  const tces: bigint[] = []
  for (let at = call.number('first'); tces.length < call.number('count'); at++) {
    if (!table.hasPage(at)) return 'past-end'
    if (!table.touch(at)) return unknown(NO_MEMORY)
    table.load(at)
    tces.push(wordOf(table.hi, table.lo))
  }
  call.outputs['tces'] = tces
  return 'done'
}

function write(kvm: Kvm, call: ProcessCall): Outcome<RuleOf<typeof WRITE_TCE>> {
  const table = mapped(kvm, call)
  if (table === undefined) return 'not-mapped'
  const at = call.number('entry')
  if (!table.hasPage(at)) return 'past-end'
  if (!table.touch(at)) return unknown(NO_MEMORY)
  const tce = call.u64('tce')
  table.store(at, hiOf(tce), loOf(tce))
  return 'done'
}

/** Mappings of TCE tables. */
export const tableHandlers = (kvm: Kvm): CallHandler[] => [
  kvmHandler(kvm, MMAP_TCE, (call) => mmap(kvm, call)),
  kvmHandler(kvm, READ_TCE, (call) => read(kvm, call)),
  kvmHandler(kvm, WRITE_TCE, (call) => write(kvm, call)),
]
