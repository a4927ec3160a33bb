import type { AgentScript } from './agent-script.ts'

/** Something that runs scripts of the agent: a running kernel, or a second model. */
export interface ScriptPeer {
  /** What its host says of itself before the first script: the marks of a transcript, each line with its end. */
  readonly head: string
  /**
   * Runs a script as a process of its own and answers its part of a transcript, marks included. Scripts that are
   * handed in together run one after the other.
   */
  run(script: AgentScript): Promise<string>
}
