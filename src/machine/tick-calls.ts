import { declareCall } from '../bits/call.ts'

/** Ticks that one operation may advance: it is a loop. */
export const TICKS_MAX = 1_000_000

/** Simulated time. */
export const TICK_ADVANCE = declareCall({
  name: 'advance',
  verb: 'tick',
  family: 'errno',
  layer: 'model',
  doc: 'Lets simulated time pass. Devices whose time has come act, tick by tick.',
  source: 'the model itself',
  args: { ticks: { type: 'u32', doc: `How many; ${TICKS_MAX} at most.`, initial: 1n } },
  outputs: { tick: { type: 'u32', doc: 'The time afterwards.' } },
  answers: [
    { rule: 'too-many-ticks', code: 'EINVAL', when: `More than ${TICKS_MAX} ticks at once.` },
    { rule: 'done', code: 'OK', when: 'The time has passed.' },
  ],
})
