import { spawnSync } from 'node:child_process'
import { cpus, loadavg, totalmem } from 'node:os'
import { packageRoot } from './floors.ts'

/** What figures depend on beside the code. */
export interface MachineFacts {
  readonly cpu: string
  readonly cores: number
  readonly memoryGib: number
  readonly node: string
  readonly v8: string
  readonly load1: number
  readonly commit: string
  readonly compiler: string
}

export function machineFacts(compiler: string | undefined): MachineFacts {
  const git = (...args: string[]) => {
    const done = spawnSync('git', args, { cwd: packageRoot(), encoding: 'utf8' })
    return done.status === 0 ? done.stdout.trim() : ''
  }
  const changed = git('status', '--porcelain', '--untracked-files=no', '--', 'src', 'bench') !== ''
  const commit = git('rev-parse', '--short', 'HEAD')
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGib: Math.round(totalmem() / 2 ** 30),
    node: process.versions.node,
    v8: process.versions.v8,
    load1: Math.round((loadavg()[0] ?? 0) * 100) / 100,
    commit: commit === '' ? 'unknown' : `${commit}${changed ? ' with changes' : ''}`,
    compiler: compiler ?? 'none: floors are JS calibration loops, ratio goals are not judged',
  }
}

export const factLines = (f: MachineFacts): string[] => [
  `machine   ${f.cpu}, ${f.cores} cores, ${f.memoryGib} GiB, load ${f.load1}`,
  `node      ${f.node} (V8 ${f.v8})`,
  `compiler  ${f.compiler}`,
  `commit    ${f.commit}`,
]
