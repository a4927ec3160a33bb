import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import type { ArgDecl, CallDecl } from '../../src/bits/call.ts'
import { parseScenario } from '../../src/cli/yaml-scenario.ts'
import { VHOST_REMEDIES } from '../../src/kernel/vhost-remedy.ts'
import { completeMachine, type MachineInput, machineConflicts } from '../../src/machine/description.ts'
import type { PowernvInput } from '../../src/machine/powernv/description.ts'
import type { PseriesInput } from '../../src/machine/pseries/description.ts'
import type { Q35Input } from '../../src/machine/q35/description.ts'
import { formatScenario, scenarioJson } from '../../src/machine/scenario/format-scenario.ts'
import { readScenario, type Scenario, type Step } from '../../src/machine/scenario/scenario.ts'
import { SAMPLE } from '../cli/sample-catalogue.ts'

const upTo = (bits: number) => {
  const max = (1n << BigInt(bits)) - 1n
  const shifted = fc.nat(bits - 1).map((n) => 1n << BigInt(n))
  return fc.oneof(fc.bigInt(0n, max), shifted, fc.constantFrom(0n, 1n, 1023n & max, 1024n & max, max))
}
const name = fc.oneof(
  fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.:/@-]{0,20}$/),
  fc.constantFrom(
    'null',
    'true',
    'yes',
    'e1',
    '1e3',
    '0x10',
    '12',
    '0000:00:04.0',
    '1_0',
    'x0',
    '_',
    'inf',
    'NaN',
    'a:b',
    'a-b',
    'Null',
  ),
)
const line = fc
  .oneof(
    fc.string({ minLength: 1, maxLength: 60, unit: 'binary' }),
    fc.constantFrom(
      '0x10',
      '- a',
      '# b',
      'a: b',
      'a #b',
      ' a ',
      '4 KiB',
      'true',
      "it's",
      '"q"',
      '[a]',
      '*a',
      '? x',
      'a:',
      '012',
      '~',
      '...',
      '---',
    ),
  )
  .map((s) => s.replaceAll(/[\p{Cc}\u2028\u2029]/gu, '.'))
  .filter((s) => s !== '')
const prose = fc
  .oneof(
    fc.array(line, { minLength: 1, maxLength: 4 }).map((l) => l.join('\n')),
    fc.string({ minLength: 1, maxLength: 30, unit: 'binary' }),
  )
  .chain((s) => fc.constantFrom(s, `${s}\n`, `${s}\n\n`, `\n${s}`))

function argument(decl: ArgDecl): fc.Arbitrary<Value> {
  switch (decl.type) {
    case 'u8':
      return upTo(8)
    case 'u16':
      return upTo(16)
    case 'u32':
      return upTo(32)
    case 'u64':
      return upTo(64)
    case 'count':
      return upTo(53)
    case 'name':
      return name
    case 'bytes':
      return fc
        .oneof(line, prose, fc.constantFrom('', 'hex:', 'hex:00 ff', 'hex:AB'))
        .filter((s) => !/^hex:.*[^0-9a-f\s]/i.test(s))
    case 'words':
      return fc.array(upTo(64), { maxLength: 30 })
    case 'segments':
      return fc.array(fc.record({ address: upTo(64), bytes: upTo(53) }), { maxLength: 8 })
    case 'flag':
      return fc.boolean()
    case 'choice':
      return fc.constantFrom(...(decl.choices ?? []))
  }
}

/** Some of the values of a declaration; those that must be there always. */
function valuesOf(
  decls: Readonly<Record<string, ArgDecl>>,
  all: boolean,
): fc.Arbitrary<Record<string, Value>> {
  const parts = Object.entries(decls).map(([key, decl]) => {
    const must = all && decl.optional !== true && decl.initial === undefined
    const value: fc.Arbitrary<Value | null> = must ? argument(decl) : fc.option(argument(decl), { freq: 2 })
    return value.map((v) => [key, v] as const)
  })
  return fc
    .tuple(...parts)
    .map((entries) => Object.fromEntries(entries.filter((e): e is [string, Value] => e[1] !== null)))
}

const actor = fc.record({ process: fc.constant('qemu'), task: name, cpu: fc.nat(3) }, { requiredKeys: [] })

function stepOf(decl: CallDecl): fc.Arbitrary<Step> {
  const answer = fc.constantFrom(...decl.answers)
  const hasOutputs = Object.keys(decl.outputs ?? {}).length > 0
  const expectation = answer.chain(({ code, rule }) =>
    fc
      .record(
        { code: fc.constant(code), rule: fc.constant(rule), outputs: valuesOf(decl.outputs ?? {}, false) },
        { requiredKeys: [] },
      )
      .map(({ outputs, ...rest }) => (hasOutputs && outputs !== undefined ? { ...rest, outputs } : rest)),
  )
  return fc
    .tuple(valuesOf(decl.args, true), fc.option(actor), fc.option(expectation))
    .map(([args, by, expect]) => ({
      operation: { verb: decl.verb, call: decl.name, args, ...(by !== null && { by }) },
      ...(expect !== null && { expect }),
    }))
}

const device = fc.record(
  { name, kind: fc.constant('edu' as const), slot: fc.nat(31), function: fc.nat(7), dmaMask: upTo(64) },
  { requiredKeys: ['name', 'kind'] },
)
const virtio = fc.oneof(
  fc.record(
    {
      name,
      kind: fc.constantFrom('net' as const, 'blk' as const),
      slot: fc.nat(31),
      function: fc.nat(7),
      hasVhost: fc.boolean(),
    },
    { requiredKeys: ['name', 'kind'] },
  ),
  fc.record({ name, kind: fc.constant('blk' as const) }),
)
const pageShifts = fc.subarray([12, 16, 21, 24, 25, 26, 27, 28, 34], { minLength: 1 })
const phb = fc.record(
  {
    name,
    index: fc.nat(255),
    buid: upTo(64),
    pageShifts,
    ddw: fc.boolean(),
    maxWindowEntries: fc.integer({ min: 1, max: 2 ** 31 }),
    listener: fc.constantFrom('none' as const, 'map' as const, 'unmap' as const, 'both' as const),
    bare: fc.constant({ gpa: 0n, bytes: 0x1_0000n }),
    devices: fc.array(device, { maxLength: 3 }),
    virtio: fc.array(virtio, { maxLength: 2 }),
  },
  { requiredKeys: [] },
)
const pages = fc.integer({ min: 1, max: 1 << 20 }).map((n) => BigInt(n) << 16n)
const ram = fc.oneof(
  pages,
  fc.array(fc.tuple(fc.nat(3), pages, name), { minLength: 1, maxLength: 3 }).map((ranges) => {
    let gpa = 0n
    return ranges.map(([gap, bytes, owner]) => {
      const range = { gpa: gpa + (BigInt(gap) << 20n), bytes, owner }
      gpa = range.gpa + bytes
      return range
    })
  }),
)
const machine: fc.Arbitrary<PseriesInput> = fc.record(
  {
    profile: fc.constantFrom('intended', 'qemu-7.2', 'linux-6.1', 'qemu-7.2+linux-6.1', 'linux-4.9, -X11'),
    ram,
    maxRamBytes: fc.constant(1n << 45n),
    hasPmemory: fc.boolean(),
    pageShift: fc.constantFrom(12 as const, 16 as const),
    hostPageShift: fc.constantFrom(12 as const, 16 as const),
    hypertas: fc.subarray(['hcall-multi-tce', 'hcall-vio']),
    bootOptions: fc.subarray(['disable_ddw', 'multitce=off']),
    phbs: fc.array(phb, { maxLength: 3 }),
    vio: fc.array(
      fc.record({ name, reg: fc.nat(0xffff_ffff), windowBytes: pages }, { requiredKeys: ['name', 'reg'] }),
      { maxLength: 2 },
    ),
  },
  { requiredKeys: [] },
)

const answer = fc.constantFrom('CAN_RECOVER' as const, 'NEED_RESET' as const, 'DISCONNECT' as const)
const driver = fc.record(
  { name, errorDetected: answer, mmioEnabled: answer, slotReset: answer, hasResume: fc.boolean() },
  { requiredKeys: ['name'] },
)
const hostDevice = fc
  .tuple(device, fc.record({ pciId: fc.nat(0xffff_ffff), driver }, { requiredKeys: [] }))
  .map(([d, more]) => ({ ...d, ...more }))
const ioda = fc.record(
  {
    platform: fc.constantFrom('PHB3' as const, 'PHB4' as const, 'P7IOC' as const),
    freeze: fc.constantFrom('pe' as const, 'none' as const),
    errorInterrupt: fc.boolean(),
    cacheEntries: fc.integer({ min: 1, max: 4096 }),
    pageShifts: fc.subarray([12, 16, 24], { minLength: 1 }),
    killsWholePe: fc.boolean(),
    m32Base: fc.constant(1 << 30),
    pes: fc.array(
      fc.record({ hasKernelDriver: fc.boolean(), devices: fc.array(hostDevice, { maxLength: 2 }) }),
      { maxLength: 3 },
    ),
  },
  { requiredKeys: [] },
)
const powernv: fc.Arbitrary<PowernvInput> = fc.record(
  {
    kind: fc.constant('powernv' as const),
    profile: fc.constantFrom('intended', 'linux-6.12.95'),
    ramBytes: fc.constantFrom(1n << 26n, 1n << 33n),
    hostPageShift: fc.constantFrom(12 as const, 16 as const),
    hasEeh: fc.boolean(),
    tickMs: fc.integer({ min: 1, max: 5000 }),
    iotlbEntries: fc.integer({ min: 1, max: 1 << 20 }),
    processes: fc
      .array(fc.record({ name, memlockBytes: pages, hasIpcLock: fc.boolean() }, { requiredKeys: ['name'] }), {
        maxLength: 2,
      })
      // Steps are of this one.
      .map((others) => [{ name: 'qemu' }, ...others]),
    phbs: fc.array(ioda, { maxLength: 3 }),
    guest: fc.record(
      {
        profile: fc.constantFrom('qemu-7.2', 'intended'),
        hasKvm: fc.boolean(),
        hasMultiTce: fc.boolean(),
        ramBytes: fc.constantFrom(1n << 28n, 1n << 30n),
        ua: fc.constantFrom(1n << 34n, 0x7f00_0000_0000n),
        hugeShift: fc.constantFrom(0, 21, 24),
        vhostRemedy: fc.constantFrom(...VHOST_REMEDIES),
        phbs: fc.array(
          fc.record(
            {
              pageShifts: fc.subarray([12, 16, 21, 24], { minLength: 1 }),
              ddw: fc.boolean(),
              windowBytes: fc.constantFrom(1n << 28n, 1n << 30n),
              groups: fc.subarray([0, 1]),
              virtio: fc.array(virtio, { maxLength: 2 }),
            },
            { requiredKeys: [] },
          ),
          { minLength: 1, maxLength: 2 },
        ),
      },
      { requiredKeys: [] },
    ),
    inject: fc.record(
      { alloc: fc.integer({ min: 1, max: 100 }), regionGoing: fc.integer({ min: 1, max: 100 }) },
      { requiredKeys: [] },
    ),
  },
  { requiredKeys: ['kind'] },
)

const q35: fc.Arbitrary<Q35Input> = fc.record(
  {
    kind: fc.constant('q35' as const),
    profile: fc.constantFrom('intended', 'qemu-7.2.22', 'qemu-10.0.2'),
    ramBytes: fc.constantFrom(1n << 22n, 1n << 30n, 1n << 33n),
    tables: fc.constant({ gpa: 0x20_0000n, bytes: 0x2_0000n }),
    iotlbEntries: fc.constantFrom(1, 16, 2048),
    iommu: fc.record(
      {
        name,
        awBits: fc.constantFrom(39 as const, 48 as const),
        cachingMode: fc.boolean(),
        deviceIotlb: fc.boolean(),
        snoopControl: fc.boolean(),
      },
      { requiredKeys: [] },
    ),
    virtio: fc.array(
      fc.record(
        {
          name,
          bus: fc.nat(255),
          slot: fc.nat(31),
          function: fc.nat(7),
          hasAts: fc.boolean(),
        },
        { requiredKeys: ['name'] },
      ),
      { maxLength: 3 },
    ),
  },
  { requiredKeys: ['kind'] },
)

const anyStep = fc.oneof(...SAMPLE.calls.map(stepOf))
const started = fc
  .tuple(anyStep, name)
  .map(([step, start]) => ({ ...step, operation: { ...step.operation, start } }))
/** Lanes, an order of them and what comes after; keys of a document that are numbers would change their places. */
const lanes = fc
  .uniqueArray(
    name.filter((n) => !/^\d+$/.test(n)),
    { minLength: 1, maxLength: 3 },
  )
  .chain((names) =>
    fc.record(
      {
        concurrent: fc.tuple(
          ...names.map((lane) => fc.array(anyStep, { maxLength: 3 }).map((steps) => ({ name: lane, steps }))),
        ),
        order: fc.array(fc.constantFrom(...names), { maxLength: 12 }),
        after: fc.array(anyStep, { maxLength: 2 }),
      },
      { requiredKeys: ['concurrent'] },
    ),
  )

const scenario: fc.Arbitrary<Scenario> = fc
  .record({
    title: line,
    doc: fc.option(prose),
    machine: fc
      .oneof(machine, powernv, q35)
      .map((m: MachineInput) => completeMachine({ ...m, cpus: 4 }))
      .filter((m) => machineConflicts(m).length === 0),
    steps: fc.array(fc.oneof(anyStep, started), { minLength: 1, maxLength: 8 }),
    findings: fc.array(
      fc.record(
        { rule: fc.constantFrom(...SAMPLE.rules.map((r) => r.id)), step: fc.constant(1) },
        { requiredKeys: ['rule'] },
      ),
      { maxLength: 3 },
    ),
    settled: fc.boolean(),
    lanes: fc.option(lanes),
  })
  .map(({ doc, lanes: beside, ...rest }) => ({
    version: 1,
    ...rest,
    ...(doc !== null && { doc }),
    ...beside,
  }))

const stepsWithoutLines = (steps: readonly Step[]): unknown[] =>
  steps.map(({ operation: { line: _line, ...operation }, ...rest }) => ({ ...rest, operation }))
const withoutLines = (s: Scenario | undefined): unknown =>
  s && {
    ...s,
    steps: stepsWithoutLines(s.steps),
    ...(s.concurrent !== undefined && {
      concurrent: s.concurrent.map(({ name: lane, steps }) => ({
        name: lane,
        steps: stepsWithoutLines(steps),
      })),
    }),
    ...(s.after !== undefined && { after: stepsWithoutLines(s.after) }),
  }

describe('a scenario that is written and read', () => {
  it('is the same scenario, and is written the same again', () => {
    fc.assert(
      fc.property(scenario, (s) => {
        const written = formatScenario(s)
        const read = parseScenario(written, 'x.yaml', SAMPLE)
        expect(withoutLines(read)).toEqual(s)
        expect(formatScenario(read)).toBe(written)
      }),
      { numRuns: 300 },
    )
  })

  it('as JSON: likewise', () => {
    fc.assert(
      fc.property(scenario, (s) => {
        const { value, issues } = readScenario(JSON.parse(scenarioJson(s)), SAMPLE)
        expect(issues).toEqual([])
        expect(withoutLines(value)).toEqual(s)
      }),
      { numRuns: 300 },
    )
  })

  it('reads as a person would write it', () => {
    const every = parseScenario(readFileSync('test/cli/valid-scenarios/every-kind.yaml', 'utf8'), 'x', SAMPLE)
    expect(formatScenario(every, { schema: '../schema/scenario.schema.json' })).toMatchInlineSnapshot(`
      "# yaml-language-server: $schema=../schema/scenario.schema.json
      version: 1
      title: every kind of value that a scenario can hold
      doc: |
        Two lines of prose,
        the second one here.
      machine:
        kind: pseries
        profile: qemu-7.2 + linux-6.1, -X11
        ram:
          - { gpa: 0, bytes: 512 MiB, owner: guest }
          - { gpa: 0x20000000, bytes: 256 MiB, owner: other }
        maxRam: 4 GiB
        pageShift: 16
        hostPageShift: 12
        cpus: 4
        bootOptions: [disable_ddw, multitce=off]
        phbs:
          - name: pci0
            pageSizes: [4 KiB, 64 KiB, 16 MiB]
            devices:
              - { name: edu0, kind: edu, slot: 4, dmaMask: 0xffffffffffffffff }
              - { name: edu1, kind: edu, slot: 1 }
          - { name: pci5, index: 5, ddw: false }
        vio:
          - { name: vlan0, reg: 0x71000002 }
          - { name: vlan1, reg: 0x71000003, window: 16 MiB }
      settled: true
      steps:
        - hcall: H_PUT_TCE
          args: { liobn: 0x80000000, ioba: 0x1000, tce: 0x8000000000000003 }
          by: { process: guest, task: init, cpu: 1 }
          expect: H_SUCCESS
        - hcall: H_PUT_TCE
          args: { liobn: 0x80000000, ioba: 0x1000, tce: 0x8000000000000003 }
          expect: { code: H_TOO_HARD, rule: no-table }
        - hcall: H_GET_TCE
          args: { liobn: 0x80000000, ioba: 0x1000 }
          expect: { code: H_SUCCESS, outputs: { tce: 0x200003 } }
        - rtas: ibm,create-pe-dma-window
          args: { phb: pci0, pageShift: 24, windowShift: 30 }
          expect: UNMODELLED
        - dma: write
          args: { device: edu0, iova: 0x1000, data: "hex:de ad be ef", burst: 128, relaxed: true }
        - driver: dma_map_sg
          args:
            device: edu0
            segments: [{ address: 0x10000, bytes: 64 KiB }, { address: 0x30000, bytes: 512 }]
            direction: to-device
            hints: [1, 2, 3]
            maxBytes: 128 KiB
            queue: 0xffff
          expect: { rule: done, outputs: { segments: [{ address: 0, bytes: 0 }] } }
        - tick: advance
      expect:
        findings:
          - { rule: use-after-unmap, step: 5 }
          - { rule: double-map }
      "
    `)
  })
})
