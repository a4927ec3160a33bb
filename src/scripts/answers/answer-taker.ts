import type { MachineEvent } from '../../trace/event.ts'
import type { RecordLog, RecordSink } from '../../trace/record-log.ts'

/** A window as records show it. */
export interface SeenWindow {
  readonly pageShift: number
  readonly busOffset: bigint
  readonly entries: number
}

/** Neighbouring entries that a call wrote: the first holds `tce`, each next one 2^step more (the same for -1). */
export interface SeenWrite {
  readonly tce: bigint
  readonly count: number
  readonly step: number
}

/** A call that nothing but the input led to, and what the model answered. */
export interface SeenCall {
  readonly line: number
  readonly call: string
  /** The first four arguments that records have. */
  readonly args: readonly [bigint, bigint, bigint, bigint]
  /** The window of the LIOBN in the first argument when the call came; of QEMU's tables only. */
  readonly window: SeenWindow | undefined
  /** All windows when the call came, by LIOBN; of QEMU's tables only. */
  readonly open: ReadonlyMap<number, SeenWindow>
  readonly wrote: readonly SeenWrite[]
  readonly layer: string
  readonly rule: string
}

type Enter = Extract<MachineEvent, { kind: 'call.enter' }>
interface Open {
  readonly seq: number
  readonly enter: Enter
  readonly open: ReadonlyMap<number, SeenWindow>
  readonly wrote: SeenWrite[]
}

/** Takes the calls out of the records of a run as they come. */
export class AnswerTaker implements RecordSink {
  readonly kinds = ['call.enter', 'call.return', 'window.open', 'window.close', 'tce.set'] as const
  readonly calls: SeenCall[] = []
  /** Never changed in place: calls keep it. */
  #windows: ReadonlyMap<number, SeenWindow> = new Map()
  #open: Open | undefined

  see(log: RecordLog, seq: number): void {
    const { event, cause } = log.read(seq)
    switch (event.kind) {
      case 'call.enter':
        if (cause === null) this.#open = { seq, enter: event, open: this.#windows, wrote: [] }
        return
      case 'call.return':
        if (this.#open !== undefined && cause === this.#open.seq) this.#returned(this.#open, event)
        return
      case 'window.open':
        this.#windows = new Map([...this.#windows, [event.liobn, event]])
        return
      case 'window.close':
        this.#windows = new Map([...this.#windows].filter(([liobn]) => liobn !== event.liobn))
        return
      case 'tce.set':
        if (cause === this.#open?.seq) this.#open?.wrote.push(event)
        return
      default:
    }
  }

  #returned({ enter, open, wrote }: Open, event: Extract<MachineEvent, { kind: 'call.return' }>): void {
    const { a0, a1, a2, a3, line, call } = enter
    const window = open.get(Number(a0))
    this.calls.push({
      line,
      call,
      args: [a0, a1, a2, a3],
      window,
      open,
      wrote,
      layer: event.layer,
      rule: event.rule,
    })
    this.#open = undefined
  }
}
