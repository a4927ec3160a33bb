import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { Answer } from '../../src/bits/answer.ts'
import { Judge } from '../../src/check/judge.ts'
import { parseScenario } from '../../src/cli/yaml-scenario.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import type { Operation } from '../../src/machine/operation.ts'
import { CATALOGUE } from '../../src/machine/registry.ts'
import { TimeTravel } from '../../src/machine/time-travel.ts'

const FILES = [
  'tour/kvm-guest',
  'errata/x2-poison-is-mapped',
  'errata/x7-attached-twice',
  'errata/b4-clears-first-page',
  'tour/guest-hypercalls-in-kvm',
  'errata/no-tce-vfio',
]
const load = (name: string) => {
  const file = `scenarios/${name}.yaml`
  return parseScenario(readFileSync(file, 'utf8'), file, CATALOGUE)
}

describe('KVM on a POWER host', () => {
  it.each(FILES)('%s: goes back and forth, and is the same again', (name) => {
    const { machine: description, steps } = load(name)
    const operations = [...steps.map((s) => s.operation), EXIT]
    const make = () => createMachine(description, { journal: true })
    const straight = make()
    const marks = operations.map((operation) => {
      straight.perform(operation)
      return { seq: straight.log.length - 1, hash: straight.journal.hash }
    })
    const travel = new TimeTravel(make, operations)
    const order = [marks.length - 1, 0, 9, 3, marks.length - 2, 12, 11, marks.length - 1].filter(
      (at) => at < marks.length,
    )
    for (const at of order) {
      const { seq, hash } = marks[at]!
      expect([at, travel.goTo(seq).journal.hash]).toEqual([at, hash])
    }
  })

  const EXIT: Operation = { verb: 'proc', call: 'exit', args: {} }

  /** Everything that a guest does, with the n-th allocation failing; what wants memory is tried a second time. */
  function sweep(alloc?: number) {
    const { machine: description, steps } = load('tour/kvm-guest')
    const judge = new Judge()
    const made = { ...description, profile: 'intended', ...(alloc !== undefined && { inject: { alloc } }) }
    const machine = createMachine(made, { watch: (log) => judge.attach(log) })
    const wants = (a: Answer) => a.code === 'ENOMEM' || a.rule === 'table-refused'
    const rules: string[] = []
    const refusals: string[] = []
    for (const { operation } of [...steps, { operation: EXIT }]) {
      let answer = machine.perform(operation)
      if (wants(answer)) {
        refusals.push(`${operation.call} ${answer.rule}`)
        answer = machine.perform(operation)
      }
      rules.push(answer.rule)
    }
    machine.log.emit('run.end', null, { settled: 1 })
    judge.finish()
    return { rules, refusals, findings: judge.findings.map((f) => f.rule) }
  }

  it('every allocation fails once: the call says so, a second try is as good, and nothing is left', () => {
    const whole = sweep()
    expect([whole.refusals, whole.findings]).toEqual([[], []])
    const seen = new Set<string>()
    for (let n = 1; n <= 60; n++) {
      const { rules, refusals, findings } = sweep(n)
      expect([n, rules, findings]).toEqual([n, whole.rules, []])
      expect(refusals.length).toBeLessThan(2)
      for (const refusal of refusals) seen.add(refusal)
    }
    expect([...seen].filter((s) => s.startsWith('KVM')).sort()).toEqual([
      'KVM_CREATE_DEVICE no-memory',
      'KVM_CREATE_SPAPR_TCE_64 no-memory',
      'KVM_CREATE_VCPU no-memory',
      'KVM_CREATE_VM no-memory',
      'KVM_DEV_VFIO_GROUP_ADD no-memory',
      'KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE no-memory',
      'KVM_SET_USER_MEMORY_REGION no-memory',
    ])
  })

  /** The tour up to the first hypercall, on a POWER8 host. */
  function power8(profile: string) {
    const { steps } = load('tour/kvm-guest')
    const devices = [{ name: 'nic0', kind: 'edu' } as const]
    const phbs = [{ platform: 'PHB3', pes: [{ devices }] } as const]
    const machine = createMachine(describeMachine({ kind: 'powernv', profile, phbs }), { keepRecords: 4096 })
    const first = steps.findIndex(({ operation }) => operation.verb === 'hcall')
    for (const { operation } of steps.slice(0, first)) {
      expect(machine.perform(operation).rule).toMatch(/^(done|cancelled)$/)
    }
    return machine
  }

  const NOTHING = { liobn: 0x8000_0001n, npages: 0n }
  it.each([
    ['H_STUFF_TCE', { ...NOTHING, value: 0n }],
    ['H_PUT_TCE_INDIRECT', { ...NOTHING, list: 0n }],
  ])('%s for no pages at 0 stops a POWER8 host (B2, phb3-endless-kill): it never ends', (call, args) => {
    const machine = power8('linux-5.17')
    const { log, stage } = machine
    const done = machine.perform({ verb: 'hcall', call, args: { ...args, ioba: 0x100_0000n } })
    expect([done.rule, machine.perform({ verb: 'hcall', call, args: { ...args, ioba: 0n } }).code]).toEqual([
      'done',
      'DEAD',
    ])
    const events = [...log.records()].slice(-2)
    expect(events.map(({ event }) => event.kind)).toEqual(['call.enter', 'dead'])
    expect([events[1]?.cause, stage.cause]).toEqual([events[0]?.seq, -1])
    for (const profile of ['linux-5.18', 'linux-5.17,-B2', 'linux-5.17,-phb3-endless-kill']) {
      const other = power8(profile)
      expect([profile, other.perform({ verb: 'hcall', call, args: { ...args, ioba: 0n } }).rule]).toEqual([
        profile,
        'done',
      ])
    }
  })
})
