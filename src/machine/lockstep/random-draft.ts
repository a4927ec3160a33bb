import type { Prng } from '../../bits/prng.ts'
import type { AgentArgsOf, AgentCommandName } from '../../reader/kernel-answers-format.ts'
import { type AgentCommand, agentCommandOf } from '../../reader/kernel-answers-line.ts'
import { BelievedGuest } from './random-guest.ts'

/** A window as the generator believes it to be. */
export interface BelievedWindow {
  readonly start: bigint
  readonly bytes: bigint
  readonly pageShift: number
  readonly levels: number
}

/** A stretch of addresses, of the process or of the bus. */
export interface Stretch {
  readonly from: bigint
  readonly bytes: bigint
}

interface BelievedMapping extends Stretch {
  readonly vaddr: bigint
}

/** A container as the generator believes it to be. */
export class BelievedContainer {
  /** 0 where it has no driver yet. */
  type = 0
  readonly groups = new Set<number>()
  readonly windows: BelievedWindow[] = []
  readonly regions: Stretch[] = []
  readonly mappings: BelievedMapping[] = []

  /** What the last group's leaving does. */
  reset(): void {
    this.type = 0
    this.windows.length = 0
    this.regions.length = 0
    this.mappings.length = 0
  }
}

/**
 * A script as far as it is written, and what its writer believes the agent's state to be, so that most commands
 * reach something. The belief may be wrong: a command that is refused is as good a question as any.
 */
export class Draft {
  readonly commands: AgentCommand[] = []
  readonly prng: Prng
  readonly containers = new Map<number, BelievedContainer>()
  readonly openGroups = new Set<number>()
  readonly guest = new BelievedGuest()
  current = 0
  hasDevice = false

  constructor(prng: Prng) {
    this.prng = prng
  }

  get container(): BelievedContainer | undefined {
    return this.containers.get(this.current)
  }

  add<N extends AgentCommandName>(name: N, args: AgentArgsOf<N>): void {
    this.commands.push(agentCommandOf(name, args))
  }

  /** Picks one by weight, and makes it. */
  choose(choices: readonly (readonly [weight: number, make: () => void])[]): void {
    let at = this.prng.below(choices.reduce((sum, [weight]) => sum + weight, 0))
    for (const [weight, make] of choices) {
      at -= weight
      if (at >= 0) continue
      make()
      return
    }
  }
}
