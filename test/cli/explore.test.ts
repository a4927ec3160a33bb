import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { run, runLive } from './run.ts'

const RACE = 'scenarios/vtd/unmap-race.yaml'
const folder = mkdtempSync(join(tmpdir(), 'explore-'))
afterAll(() => rmSync(folder, { recursive: true }))

interface ExploreJson {
  readonly schema: string
  readonly mode: string
  readonly complete: boolean
  readonly orders: number
  readonly broken: readonly {
    readonly rule: string
    readonly orders: number
    readonly order: readonly string[]
  }[]
  readonly shortest?: {
    readonly proven: boolean
    readonly order: readonly string[]
    readonly findings: readonly { readonly rule: string }[]
  }
}
const json = async (...args: string[]) => {
  const { out, code } = await run(['explore', ...args, '--json'])
  return { code, found: JSON.parse(out) as ExploreJson }
}

describe('iommulator explore', () => {
  it('counts the orders of each rule, and shows the shortest that breaks one', async () => {
    const { code, out } = await run(['explore', RACE])
    expect(code).toBe(1)
    expect(out).toContain('stale-translation  in 1 of 6 orders')
    expect(out).toContain('order: [device, driver, device], then the first lane that can go on')
    expect(out).toMatch(/^FOUND {2}stale-translation/m)
    for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(100)
  })

  it('as JSON', async () => {
    const { code, found } = await json(RACE)
    expect(code).toBe(1)
    expect(found).toMatchObject({
      schema: 'iommulator/explore/1',
      mode: 'reduced',
      complete: true,
      orders: 6,
      broken: [{ rule: 'stale-translation', orders: 1, order: ['device', 'driver', 'device'] }],
      shortest: { proven: true, order: ['device', 'driver', 'device'] },
    })
    expect(found.shortest?.findings.map((f) => f.rule)).toEqual(['stale-translation'])
  })

  it('writes the shortest order as a scenario that is as it expects', async () => {
    const path = join(folder, 'short.yaml')
    const { err } = await run(['explore', RACE, '--out', path])
    expect(err).toBe(`the shortest order is in ${path}: iommulator run ${path}\n`)
    const text = readFileSync(path, 'utf8')
    expect(text).toContain('order: [device, driver, device]')
    const again = await run(['run', path, '--expect'])
    expect([again.code, again.out.includes('as expected: every')]).toEqual([0, false])
    expect(again.out).toContain('as expected: ')
    expect(again.out).not.toContain('NOT AS EXPECTED')
    expect((await run(['run', path])).code).toBe(1)
  })

  it('ends at an interruption with what it has found so far', async () => {
    const running = runLive(['explore', 'scenarios/svm/exit-beside-request.yaml'])
    let isOver = false
    const done = running.done.finally(() => {
      isOver = true
    })
    // Before the orders begin nobody listens.
    while (!isOver) {
      await new Promise((resolve) => setImmediate(resolve))
      running.interrupt()
    }
    const { code, out } = await done
    expect(code).toBe(130)
    expect(out).toMatch(/^ {2}orders {2}\d+, and there are more: not every order was run$/m)
  })

  it('leaves no file where there is nothing to write, and one that was there as it was', async () => {
    const fresh = join(folder, 'fresh.yaml')
    const old = join(folder, 'old.yaml')
    writeFileSync(old, 'kept')
    for (const path of [fresh, old])
      expect((await run(['explore', 'scenarios/vtd/unmap-beside-dma.yaml', '--out', path])).code).toBe(0)
    expect([existsSync(fresh), readFileSync(old, 'utf8')]).toEqual([false, 'kept'])
  })

  it('stops at a bound, and says so', async () => {
    const { code, out } = await run(['explore', RACE, '--bound', '2'])
    expect(code).toBe(0)
    expect(out).toContain('2, and there are more: not every order was run')
    expect(out).toContain('no order that was run breaks a rule')
  })

  it('at random: the same seed gives the same orders', async () => {
    const one = await run(['explore', RACE, '--random', '40', '--seed', '7'])
    expect(one.out).toContain('40, at random (seed 7)')
    expect(await run(['explore', RACE, '--random', '40', '--seed', '7'])).toEqual(one)
    const ordersOf = async (seed: string) =>
      (await json(RACE, '--random', '3', '--seed', seed)).found.broken[0]?.orders ?? 0
    const seen = new Set<number>()
    for (const seed of ['1', '2', '3', '4', '5', '6', '7', '8']) seen.add(await ordersOf(seed))
    expect(seen.size).toBeGreaterThan(1)
  })

  it('is clean where no order breaks a rule', async () => {
    const { code, out } = await run(['explore', 'scenarios/vtd/unmap-beside-dma.yaml'])
    expect([code, out.includes('no order breaks a rule')]).toEqual([0, true])
  })

  it.each([
    [['scenarios/vtd/bare-metal.yaml'], 3, 'it has no `concurrent`: there is but one order'],
    [[RACE, '--bound', '0'], 2, '--bound 0: a whole number of at least 1'],
    [[RACE, '--bound', 'x'], 2, '--bound x: a whole number of at least 1'],
    [[RACE, '--bound', '-1'], 2, '--bound -1: a whole number of at least 1'],
    [[RACE, '--random', '3', '--seed', '1e3'], 2, '--seed 1e3: a whole number of at least 0'],
    [[RACE, '--out', RACE], 4, 'that is the scenario itself'],
    [[RACE, '--out', '/no/such/folder/x.yaml'], 4, 'there is no such folder'],
    [[RACE, '--seed', '1'], 2, '--seed is for --random'],
    [[RACE, '--random', '5', '--all'], 2, 'it does not go with --all'],
    [[RACE, '--random', '5', '--bound', '3'], 2, 'it does not go with --bound'],
    [['/no/such/file.yaml'], 3, 'cannot read'],
  ])('%j is refused', async (args, code, what) => {
    const ran = await run(['explore', ...args])
    expect([ran.code, ran.out]).toEqual([code, ''])
    expect(ran.err).toContain(what)
  })
})
