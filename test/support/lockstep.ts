import type { AgentScript } from '../../src/machine/lockstep/agent-script.ts'
import type { RandomGroup } from '../../src/machine/lockstep/random-script.ts'
import type { ScriptPeer } from '../../src/machine/lockstep/script-peer.ts'
import { type AgentCommand, readAgentCommand } from '../../src/reader/kernel-answers-line.ts'

/** What the host of the kernel peer says of itself. */
export const PEER_HEAD = [
  'ORACLE kernel 6.12.95+deb12-powerpc64le-64k up 1.80',
  'ORACLE pci 0001:00:00.0 0x1014:0x04c1 group=',
  'ORACLE pci 0001:01:00.0 0x1234:0x11e8 group=0',
  'ORACLE pci 0002:00:00.0 0x1014:0x04c1 group=',
  'ORACLE pci 0002:01:00.0 0x1234:0x11e8 group=1',
  '',
].join('\n')

export const GROUPS: readonly RandomGroup[] = [
  { group: 0, device: '0001:01:00.0' },
  { group: 1, device: '0002:01:00.0' },
]

export function command(text: string): AgentCommand {
  const read = readAgentCommand(text)
  if (typeof read === 'string') throw new Error(read)
  return read
}

export const scriptOf = (lines: readonly string[], name = 'test'): AgentScript => ({
  name,
  commands: lines.map(command),
})

/** A peer whose transcripts are another's, changed. */
export const changedPeer = (peer: ScriptPeer, change: (transcript: string) => string): ScriptPeer => ({
  head: peer.head,
  run: async (script) => change(await peer.run(script)),
})
