import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { VFIO_CALLS } from '../../src/kernel/vfio/calls.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { TimeTravel } from '../../src/machine/time-travel.ts'
import { MEM_CALLS } from '../../src/memory/mem-calls.ts'
import { PROC_CALLS } from '../../src/memory/proc-calls.ts'
import { LegalRun } from '../support/legal/legal-run.ts'

/** How far a run goes on one host before it begins with another one. */
const EPISODE = 2500
/** For each seed; more with LEGAL_OPERATIONS=1000000. */
const OPERATIONS = Number(process.env['LEGAL_OPERATIONS'] ?? 10_000)
/** Numbers stand for calls by name, and nothing freezes where devices do only what they may. */
const UNUSED = ['ioctl ioctl', 'ioctl VFIO_EEH_PE_OP']
const LONG = { timeout: 3_600_000 }

const shown = (run: LegalRun) => run.judge.findings.map(({ rule, message }) => `${rule}: ${message}`)

describe('legal operations, as intended', () => {
  it.each([1, 2])('seed %d: every answer is that of the naive host, and nothing is found', LONG, (seed) => {
    for (let done = 0; done < OPERATIONS; done += EPISODE) {
      const run = new LegalRun({ seed: seed * 1_000_003 + done / EPISODE })
      while (run.performed < EPISODE && run.step() === undefined);
      run.end()
      expect(run.differences).toEqual([])
      expect(shown(run)).toEqual([])
    }
  })

  it('reach every call, and most of the ways in which one is refused', () => {
    const run = new LegalRun({ seed: 3 })
    while (run.performed < 6000) run.step()
    run.end()
    const calls = new Set([...run.counts.keys()].map((what) => what.split(' ').slice(0, 2).join(' ')))
    const declared = [...VFIO_CALLS, ...PROC_CALLS, ...MEM_CALLS].map(({ verb, name }) => `${verb} ${name}`)
    expect([...declared, 'dma read', 'dma write'].filter((call) => !calls.has(call))).toEqual(UNUSED)
    expect(run.counts.size).toBeGreaterThan(120)
  })
})

describe('going back', () => {
  it.each([4, 5])('seed %d: the state at a record is the same from both sides', (seed) => {
    const run = new LegalRun({ seed, journal: true })
    while (run.performed < 600) run.step()
    const { description, operations, machine } = run
    const travel = new TimeTravel(() => createMachine(description, { journal: true }), operations)
    const end = machine.log.length - 1
    expect(travel.goTo(end).journal.hash).toBe(machine.journal.hash)
    const prng = new Prng(seed)
    const places = Array.from({ length: 40 }, () => prng.below(end))
    const back = places.map((at) => travel.goTo(at).journal.hash)
    expect(travel.goTo(end).journal.hash).toBe(machine.journal.hash)
    const forward = new TimeTravel(() => createMachine(description, { journal: true }), operations)
    const order = places.map((_, i) => i).sort((a, b) => (places[a] as number) - (places[b] as number))
    for (const i of order) expect(forward.goTo(places[i] as number).journal.hash).toBe(back[i])
  })
})

// A host that is wrong in one thing: the naive one notices.
describe('a deviation', () => {
  const noticed = (erratum: string): boolean => {
    for (let seed = 0; seed < 12; seed++) {
      const run = new LegalRun({ seed, profile: `intended,${erratum}` })
      while (run.performed < EPISODE) if (run.step() !== undefined) return true
      run.end()
      if (run.judge.findings.length > 0) return true
    }
    return false
  }
  it.each([
    'X1',
    'X6',
    'X10',
    'X14',
    'B10',
    'iova-check-returns-1',
    'v1-kernel-tables',
    'eager-default-window',
    'set-container-einval',
    'detach-clears-all',
    'partial-pin-count',
    'overlap-before-charge',
  ])('%s is noticed', (erratum) => {
    expect(noticed(erratum)).toBe(true)
  })
})

/** What random runs meet of the errata: the rule that finds each, and those that find what comes of it. */
const FOUND: Readonly<Record<string, readonly [rule: string, ...others: string[]]>> = {
  X1: ['orphaned-region', 'leak-pin', 'locked-vm-balance'],
  // An entry behind the table is never cleared: the region behind it stays.
  X6: [
    'host-memory-corruption',
    'out-of-table',
    'range-mismatch',
    'orphaned-region',
    'leak-pin',
    'locked-vm-balance',
  ],
  X10: ['locked-vm-balance'],
  X14: ['host-memory-corruption', 'out-of-table', 'range-mismatch'],
  'partial-pin-count': ['range-mismatch'],
  'iova-check-returns-1': ['range-mismatch'],
  'region-lost-at-release': ['orphaned-region', 'leak-pin', 'locked-vm-balance'],
}

describe('kernels', () => {
  /** The rules that find something in runs of a profile, up to the run in which one that is wanted does. */
  const found = (profile: string, wanted?: string): Set<string> => {
    const rules = new Set<string>()
    for (let seed = 20; seed < (wanted === undefined ? 21 : 30) && !rules.has(wanted ?? ''); seed++) {
      const run = new LegalRun({ seed, profile, tolerates: true })
      while (run.performed < EPISODE / 2) run.step()
      run.end()
      for (const { rule } of run.judge.findings) rules.add(rule)
    }
    return rules
  }

  it.each(Object.keys(FOUND))('%s alone is found, by rules that it explains', (erratum) => {
    const [rule, ...others] = FOUND[erratum] ?? ['']
    const rules = [...found(`intended,${erratum}`, rule)]
    expect(rules).toContain(rule)
    expect(rules.filter((one) => one !== rule && !others.includes(one))).toEqual([])
  })

  it.each(['linux-6.12.95', 'linux-6.1', 'linux-4.2'])('%s: nothing but these is found', (version) => {
    const explained = new Set(Object.values(FOUND).flat())
    const rules = [...found(version)]
    expect(rules.length).toBeGreaterThan(1)
    expect(rules.filter((rule) => !explained.has(rule))).toEqual([])
    const without = [version, ...Object.keys(FOUND).map((id) => `-${id}`)].join()
    expect([...found(without)]).toEqual([])
  })
})
