import { expect, it } from 'vitest'
import { Journal } from '../../src/bits/state.ts'
import { Interrupts } from '../../src/machine/x86/interrupts.ts'

it('interrupts wait by vector until they are taken, and come back with the undo log', () => {
  const journal = new Journal()
  journal.on = true
  const rest: string[] = []
  const interrupts = new Interrupts({ send: (address, data) => rest.push(`${address} ${data}`) }, journal)
  interrupts.send(0x1000n, 5)
  interrupts.send(0xfee0_0000n, 0x22)
  interrupts.send(0xfee0_0000n, 0x22)
  expect(rest).toEqual(['4096 5'])
  expect([0x21, 0x22].map((vector) => interrupts.isPending(vector))).toEqual([false, true])
  const mark = journal.mark()
  interrupts.take(0x22)
  expect(interrupts.isPending(0x22)).toBe(false)
  journal.rollback(mark)
  expect(interrupts.isPending(0x22)).toBe(true)
})
