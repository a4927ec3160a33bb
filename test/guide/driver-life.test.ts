import { expect, it } from 'vitest'
import { createMachine, describeMachine, Judge, type Operation } from '../../src/index.ts'

type Args = Operation['args']
type Verb = Operation['verb']

const USER = 0x1000_0000n

/** A machine on which the driver has done its part, and P has begun a job on the device. */
function working() {
  const judge = new Judge()
  const machine = createMachine(
    describeMachine({
      kind: 'x86',
      profile: 'linux-6.1.192',
      ramBytes: 64n << 20n,
      iommu: { preset: 'every-feature', driver: 'scalable' },
      devices: [{ name: 'acc0', kind: 'endpoint', bus: 1, slot: 0 }],
      processes: [{ name: 'P' }, { name: 'Q' }],
    }),
    { watch: (log) => judge.attach(log) },
  )
  const call = (verb: Verb, name: string, args: Args = {}, more: Partial<Operation> = {}) =>
    machine.perform({ verb, call: name, args, by: { process: 'P' }, ...more })
  const ok = (...what: Parameters<typeof call>) => {
    const answer = call(...what)
    expect(answer).toMatchObject({ state: 'done', code: 'OK' })
    return answer.outputs
  }
  // The driver under test: probe, open, and a job.
  ok('iommu', 'attach', { device: 'acc0', domain: 5n })
  ok('sva', 'enable', { device: 'acc0' })
  const { fd } = ok('sys', 'open', { path: '/dev/acc0' })
  const { pasid } = ok('sys', 'ioctl', { fd: fd ?? 0n, request: 'bind' })
  ok('sys', 'mmap', { address: USER, bytes: 0x4000n, fixed: true })
  ok('cpu', 'store', { address: USER, data: 'job' })
  const tags = { device: 'acc0', pasid: pasid ?? 0n }
  call('dma', 'read', { ...tags, iova: USER, bytes: 3n })
  /** The device asks for a page that it does not have, and for one that it has. */
  const device = () => {
    call('pri', 'request', { ...tags, iova: USER + 0x1000n, group: 7n })
    call('dma', 'read', { ...tags, iova: USER + 0x3000n, bytes: 1n })
  }
  /** What the kernel does by itself: the thread of the interrupt, and workers. */
  const kernel = () => {
    call('sva', 'prq_event_thread')
    while (call('sva', 'iopf_work').rule === 'done');
  }
  return { judge, machine, call, device, kernel }
}

/** The exit of P stops after so many steps, the device works on, and the exit ends. False where it has fewer. */
function exitsAfter(steps: number): boolean {
  const { judge, machine, call, device, kernel } = working()
  call('sys', 'exit_group', {}, { start: 'exit' })
  for (let n = 0; n < steps; n++) call('task', 'step', { task: 'exit' })
  const isOver = machine.tasks.find('exit')?.isOver === true
  device()
  kernel()
  call('task', 'finish', { task: 'exit' })
  kernel()
  // Its memory belongs to Q now.
  for (const address of [USER, USER + 0x1000n]) {
    call('sys', 'mmap', { address, bytes: 0x1000n, fixed: true }, { by: { process: 'Q' } })
    call('cpu', 'store', { address, data: 'secret' }, { by: { process: 'Q' } })
  }
  device()
  kernel()
  judge.finish()
  const found = judge.findings.map((f) => f.rule)
  for (const rule of ['page-request-answer', 'freed-table-walked', 'early-reuse']) {
    expect([steps, found]).not.toEqual([steps, expect.arrayContaining([rule])])
  }
  expect(call('pri', 'status', { device: 'acc0' }).outputs).toMatchObject({ waiting: 0n, failed: false })
  return !isOver
}

it('wherever its process ends, the device gets its answers, and nobody else`s memory', () => {
  let steps = 0
  while (exitsAfter(steps)) steps++
  expect(steps).toBeGreaterThan(10)
})
