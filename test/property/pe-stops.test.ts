import fc from 'fast-check'
import { expect, it } from 'vitest'
import { PE_RESET, PE_STATE, STOP } from '../../src/hw/pe-firmware.ts'
import { dma, makePhb } from '../support/ioda.ts'

const EIO = -5
const PES = 2

/** What a PHB and its PEs do, told as simply as can be. */
class Naive {
  fenced = false
  readonly mmio = new Array<boolean>(PES).fill(false)
  readonly dma = new Array<boolean>(PES).fill(false)
  readonly reset = new Array<number>(PES).fill(0)

  answers(n: number) {
    const held = this.fenced || this.reset[n] !== 0
    const [mmio, dmaStopped] = [this.fenced || this.mmio[n], this.fenced || this.dma[n]]
    return {
      isMmioStopped: this.mmio[n] === true || held,
      isDmaStopped: this.dma[n] === true || held,
      state:
        (mmio ? 0 : PE_STATE.MMIO_ACTIVE | PE_STATE.MMIO_ENABLED) |
        (dmaStopped ? 0 : PE_STATE.DMA_ACTIVE | PE_STATE.DMA_ENABLED),
    }
  }
}

const which = fc.nat(PES - 1)
const action = fc.oneof(
  fc.record({ do: fc.constant('dma' as const), n: which }),
  fc.record({
    do: fc.constant('clear' as const),
    n: which,
    stops: fc.constantFrom(STOP.MMIO, STOP.DMA, STOP.BOTH),
  }),
  fc.record({ do: fc.constant('freeze' as const), n: which }),
  fc.record({
    do: fc.constant('reset' as const),
    n: which,
    kind: fc.constantFrom(PE_RESET.DEACTIVATE, PE_RESET.HOT, PE_RESET.FUNDAMENTAL),
  }),
  fc.record({ do: fc.constant('fence' as const), n: which }),
  fc.record({ do: fc.constant('phb-reset' as const), n: which }),
)

it('stop states, resets and the fence keep devices off as a naive model says, and all of it can be undone', () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 40 }), fc.nat(40), (actions, cut) => {
      const m = makePhb()
      const naive = new Naive()
      for (let i = 0; i < PES; i++) m.phb.addPe({ pe: i + 1, group: i })
      const seen = () => m.phb.pes.map(({ stops }) => [stops.latched, stops.resetKind, stops.state()])
      const start = { hash: m.journal.hash, mark: m.journal.mark() }
      let middle: { hash: string; mark: number; seen: unknown } | undefined
      for (const [i, a] of actions.entries()) {
        if (i === cut) middle = { hash: m.journal.hash, mark: m.journal.mark(), seen: seen() }
        const pe = m.phb.pes[a.n]!
        const refused = naive.fenced ? EIO : 0
        switch (a.do) {
          case 'dma': {
            // A PE without windows: any DMA that reaches the PHB cannot be carried out.
            const isOff = naive.answers(a.n).isDmaStopped
            expect(dma(pe, 0n, 4).moved).toBe(0)
            if (!isOff) naive.mmio[a.n] = naive.dma[a.n] = true
            break
          }
          case 'clear':
            expect(pe.stops.clearFreeze(a.stops)).toBe(refused)
            if (!naive.fenced && (a.stops & STOP.MMIO) !== 0) naive.mmio[a.n] = false
            if (!naive.fenced && (a.stops & STOP.DMA) !== 0) naive.dma[a.n] = false
            break
          case 'freeze':
            expect(pe.stops.setFreeze()).toBe(refused)
            if (!naive.fenced) naive.mmio[a.n] = naive.dma[a.n] = true
            break
          case 'reset':
            expect(pe.stops.reset(a.kind)).toBe(refused)
            if (!naive.fenced) naive.reset[a.n] = a.kind
            break
          case 'fence':
            m.phb.fence.raise()
            naive.fenced = true
            break
          case 'phb-reset':
            expect(m.phb.fence.reset(PE_RESET.HOT)).toBe(0)
            naive.fenced = false
            for (const list of [naive.mmio, naive.dma]) list.fill(false)
            naive.reset.fill(0)
        }
        for (const [n, { stops, isMmioStopped }] of m.phb.pes.entries()) {
          const { isDmaStopped } = stops
          expect({ isMmioStopped, isDmaStopped, state: stops.state() }).toEqual(naive.answers(n))
        }
        expect(m.phb.fence.state() === 0).toBe(naive.fenced)
      }
      if (middle !== undefined) {
        m.journal.rollback(middle.mark)
        expect([m.journal.hash, seen()]).toEqual([middle.hash, middle.seen])
      }
      m.journal.rollback(start.mark)
      expect(m.journal.hash).toBe(start.hash)
    }),
    { numRuns: 300 },
  )
})
