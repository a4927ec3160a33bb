import { createLogExplainer } from '../../src/machine/explain.ts'
import { type CaseGroup, check, type SetUp, type Work } from '../case.ts'
import { generateKernelLog } from '../generate-kernel-log.ts'

const SEED = 22
/** 10^5 lines in a second. */
const LINE_NS_MAX = 10_000

const logOf = (lines: number, otherEvery: number): Uint8Array[] => [
  ...generateKernelLog({ seed: SEED, lines, otherEvery }),
]

const explained =
  (otherEvery: number): SetUp =>
  (operations): Work => {
    const pieces = logOf(operations, otherEvery)
    const pass = (): number => {
      const explainer = createLogExplainer()
      for (const piece of pieces) explainer.push(piece)
      const { log, faults } = explainer.end()
      check(log.lines === operations, 'every line is counted')
      return faults.groups.reduce((sum, { times }) => sum + times, 0)
    }
    check(pass() > 0, 'faults are found')
    return { operations, pass }
  }

const FAULT = /\[DMA (Read|Write)[^\]]*\] Request device \[([^\]]+)\] fault addr (\S+) \[fault reason (\S+)\]/

/** What one writes first: lines, a regular expression, a count for each device, direction and reason. */
const plainly =
  (otherEvery: number): SetUp =>
  (operations): Work => {
    const text = Buffer.concat(logOf(operations, otherEvery))
    return {
      operations,
      pass(): number {
        const counts = new Map<string, number>()
        let sum = 0
        for (const line of text.toString('utf8').split('\n')) {
          const found = FAULT.exec(line)
          if (found === null) continue
          const key = `${found[2]} ${found[1]} ${found[4]}`
          counts.set(key, (counts.get(key) ?? 0) + 1)
          sum++
        }
        return sum
      },
    }
  }

const ofKind = (name: string, otherEvery: number) => ({
  id: `explain/${name}`,
  operation: 'line',
  operations: 1 << 16,
  setUp: explained(otherEvery),
  peer: { label: 'regex', setUp: plainly(otherEvery) },
  goal: { nsMax: LINE_NS_MAX },
})

export const EXPLAIN: CaseGroup = {
  title: 'Kernel logs explained',
  note:
    'Ours: all templates of all families, grouped, with words, from bytes in memory. Plainly: split into lines, one regular ' +
    'expression, counts by device, direction and reason. The goal is 10^5 lines a second.',
  cases: [ofKind('storm', 50), ofKind('boot', 2)],
}
