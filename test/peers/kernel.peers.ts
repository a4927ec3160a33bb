import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type AgentScript, readAgentScripts } from '../../src/machine/lockstep/agent-script.ts'
import { compareAll, isEqual } from '../../src/machine/lockstep/comparison.ts'
import { comparisonText } from '../../src/machine/lockstep/comparison-report.ts'
import { randomScript } from '../../src/machine/lockstep/random-script.ts'
import { compareKernelScenarios } from '../../src/machine/lockstep/scenario/kernel-comparison.ts'
import { planKernel } from '../../src/machine/lockstep/scenario/kernel-plan.ts'
import { isAsModelled } from '../../src/machine/lockstep/scenario/result.ts'
import { findKernelFiles } from '../../src/peer/kernel-files.ts'
import { KernelPeer } from '../../src/peer/kernel-peer.ts'
import { formatAgentCommand } from '../../src/reader/kernel-answers-line.ts'
import { answers, vhostAnswers } from '../log-rows.ts'
import { GROUPS } from '../support/lockstep.ts'
import { scenariosOf } from '../support/scenarios.ts'

const plain = (text: string): string => text
const PAINT = { bold: plain, dim: plain, red: plain, green: plain, yellow: plain, cyan: plain }

/** Why there is no kernel here; undefined where there is one. */
function whyNot(): string | undefined {
  try {
    findKernelFiles()
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

/** Clears hardware entries past their table (X14): at times the kernel ends the process there (recordings/kernel-oops). */
const PAST_THE_TABLE = 'hcall 0x138 0x80000000 0x7f000000 0 2'

const missing = whyNot()
if (missing !== undefined) process.stderr.write(`the kernel peer is skipped: ${missing}\n`)

describe.skipIf(missing !== undefined)('a real kernel', () => {
  let peer: KernelPeer
  beforeAll(async () => {
    peer = await KernelPeer.start()
  })
  afterAll(() => peer?.stop())

  /** Compares, and shows what differs. */
  async function same(scripts: Iterable<AgentScript>) {
    const result = await compareAll(peer, scripts, { differencesMax: 3 })
    expect(isEqual(result), comparisonText(result, { peer: 'kernel' }, PAINT)).toBe(true)
    return result
  }

  it('answers the recorded scripts as the model does: VFIO, DMA, KVM', async () => {
    const recorded = readAgentScripts(Buffer.from(await answers()).toString('latin1'), 'recording')
    expect(recorded).toHaveLength(5)
    const scripts = recorded.map(({ name, commands }) => ({
      name,
      commands: commands.filter((c) => formatAgentCommand(c) !== PAST_THE_TABLE),
    }))
    const { commands, equal, unjudged } = await same(scripts)
    expect(equal).toBe(commands - unjudged)
  })

  it('answers for vhost-net as the model does: ioctls, messages, queues', async () => {
    const recorded = readAgentScripts(Buffer.from(await vhostAnswers()).toString('latin1'), 'recording')
    expect(recorded).toHaveLength(32)
    const { commands, equal, unjudged } = await same(recorded)
    expect([commands, equal, unjudged]).toEqual([2000, 1999, 1])
  })

  it('answers random commands as the model does, and moves the same bytes', async () => {
    const numbers = Array.from({ length: 24 }, (_, number) => number)
    const { commands, equal, unjudged } = await same(
      numbers.map((number) => randomScript({ seed: 2026, groups: GROUPS, dmaEvery: 12 }, number)),
    )
    expect(commands).toBeGreaterThan(1000)
    expect(unjudged).toBeLessThan(commands / 20)
    expect(equal + unjudged).toBe(commands)
  })

  it('answers scenarios as the model does, and keeps what they expect', async () => {
    const all = scenariosOf('powernv').map(({ file, name, scenario }) => ({
      file,
      plan: planKernel(scenario, name, peer.head, GROUPS),
    }))
    // Devices take seconds, and states of PEs outlast a process.
    const isSlow = ({ name }: { readonly name: string }) => name === 'device' || name === 'eeh'
    const guest = all.filter(({ file }) => file.endsWith('kvm-guest.yaml'))
    const quick = all.filter(({ plan }) => !plan.script.commands.some(isSlow))
    const plans = [...guest, ...quick]
    expect(plans.length).toBeGreaterThan(40)
    const results = await compareKernelScenarios(peer, plans, { differencesMax: 3, renew: async () => peer })
    expect(results.filter(({ difference }) => difference !== undefined)).toEqual([])
    expect([results.length, isAsModelled(results)]).toEqual([plans.length, true])
  })

  it('has the defects that the model knows: without them there are differences', async () => {
    const scripts = Array.from({ length: 12 }, (_, number) =>
      randomScript({ seed: 5, groups: GROUPS, dmaEvery: 0 }, number),
    )
    const result = await compareAll(peer, scripts, { differencesMax: 1, profile: 'intended' })
    expect(result.differences).toHaveLength(1)
    expect(result.differences[0]?.isMinimal).toBe(true)
  })
})
