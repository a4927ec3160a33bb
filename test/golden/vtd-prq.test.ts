import { beforeAll, describe, expect, it } from 'vitest'
import { firstVtdDifference } from '../../src/machine/lockstep/vtd-compare.ts'
import { VtdModel } from '../../src/machine/lockstep/vtd-model.ts'
import { randomRequestScript } from '../../src/machine/lockstep/vtd-random-requests.ts'
import { readVtdScripts, type VtdRecording, type VtdScript } from '../../src/machine/lockstep/vtd-step.ts'
import { requestAnswers } from '../log-rows.ts'

const VERSION = '11.1.3'
/** Errata of page requests and of translation requests. */
const QUIRKS = [42, 43, 44, 45, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119].map((n) => `D${n}`)

/** What QEMU 11.1.3 answered to random steps of seed 7, recorded by `iommulator connect qemu-prq`. */
describe('the answers of QEMU to page requests and translation requests', () => {
  let recorded: readonly VtdRecording[] = []
  const stepsOf = ({ entries, ...script }: VtdRecording): VtdScript => ({
    ...script,
    steps: entries.map(({ step }) => step),
  })
  const answersOf = ({ entries }: VtdRecording) => entries.map(({ answer }) => answer)
  const differences = (profile?: string, change = (answer: string | undefined) => answer) => {
    const model = new VtdModel(VERSION, profile)
    return recorded.flatMap((recording) => {
      const script = stepsOf(recording)
      const answers = answersOf(recording).map(change)
      return firstVtdDifference(script, answers, model.answers(script)) ?? []
    })
  }
  beforeAll(async () => {
    recorded = readVtdScripts(await requestAnswers(VERSION), VERSION)
  })

  it('are those of the model, all of them', () => {
    expect(differences()).toEqual([])
    expect(recorded.reduce((sum, { entries }) => sum + entries.length, 0)).toBeGreaterThan(4000)
  })

  it('hold every end of a request, overflow, pending events, responses, faults and errors of the queue', () => {
    const answers = recorded.flatMap(answersOf).filter((answer) => answer !== undefined)
    for (const what of [
      ...[/^end=queued /, /^end=dropped /, /^end=refused -/, /^end=refused FSTS/],
      ...[/ PRS=0x1\b/, / PRS=0x2\b/, / PRS=0x3\b/, /\bPECTL=0xc0000000/],
      ...[/^to=none/, /^to=0x[0-9a-f]+\/0x1000\/rw/, /\/0x200000\/r/, / 0x13[0-9a-f]{4}:0101/],
      ...[/^heard=nic\d:\d+:\d+:0 /, /^heard=nic\d:\d+:\d+:1 /, /^heard=nic\d:\d+:\d+:2 /],
      ...[
        /\bFSTS=0x1[0-3]\b/,
        /\bFRCD1=0x[c8][0-9a-f]{5}47[0-9a-f]{8}\b/,
        /\bFRCD1=0x[c8][0-9a-f]{5}87[0-9a-f]{8}\b/,
      ],
    ]) {
      expect(answers.filter((answer) => what.test(answer)).length, String(what)).toBeGreaterThan(0)
    }
  })

  it.each(QUIRKS)('show %s: without it they differ', (id) => {
    expect(differences(`qemu-${VERSION},-${id}`)).not.toEqual([])
  })

  it('show a value, a byte, an end or a response that is another', () => {
    for (const [from, to] of [
      [/end=queued/, 'end=dropped'],
      [/PQT=0x/, 'PQT=0x1'],
      [/:0101/, ':0100'],
      [/^to=0x/, 'to=0x1'],
      [/^heard=nic0/, 'heard=nic1'],
    ] as const) {
      const found = differences(undefined, (answer) => answer?.replace(from, to))
      expect(found.length, String(from)).toBeGreaterThan(recorded.length / 3)
    }
  })

  it('are of the steps that the seed gives today', () => {
    expect(recorded.map(stepsOf)).toEqual(recorded.map((_, number) => randomRequestScript(7, number)))
  })
})
