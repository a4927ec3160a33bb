import type { CommandEntry } from '../program.ts'

/** All commands, in the order of the help. A command's code is loaded when it is called, and not before. */
export const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'run',
    summary: 'run a scenario and check what it expects',
    load: async () => (await import('./run.ts')).runCommand,
  },
  {
    name: 'explore',
    summary: 'run every order of the concurrent steps of a scenario',
    load: async () => (await import('./explore.ts')).exploreCommand,
  },
  {
    name: 'replay',
    summary: 'replay a log of a real machine and judge it',
    load: async () => (await import('./replay.ts')).replayCommand,
  },
  {
    name: 'connect',
    summary: 'put a real kernel, or QEMU, beside the model',
    load: async () => (await import('./connect.ts')).connectCommand,
  },
  {
    name: 'explain',
    summary: 'say in words what the faults in a kernel log mean',
    load: async () => (await import('./explain.ts')).explainCommand,
  },
  {
    name: 'decode',
    summary: 'show what a word, a call or a code means, in both directions',
    load: async () => (await import('./decode.ts')).decodeCommand,
  },
  {
    name: 'walk',
    summary: 'walk VT-d tables in a dump of memory for one address',
    load: async () => (await import('./walk.ts')).walkCommand,
  },
  {
    name: 'fit',
    summary: 'say whether a VM fits a POWER host, with the sums',
    load: async () => (await import('./fit.ts')).fitCommand,
  },
  {
    name: 'errata',
    summary: 'list, show or run the deviations that the model knows',
    load: async () => (await import('./errata.ts')).errataCommand,
  },
  {
    name: 'rules',
    summary: 'list or show the promises that records are judged by',
    load: async () => (await import('./rules.ts')).rulesCommand,
  },
  {
    name: 'completion',
    summary: 'print the completion script of a shell',
    load: async () => (await import('./completion.ts')).completionCommand,
  },
]
