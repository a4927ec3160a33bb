import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bootGuest, type GuestRun } from '../../src/peer/guests/boot-guest.ts'
import type { GuestConfiguration } from '../../src/peer/guests/configurations.ts'
import { makeTestDisk, testDiskFault } from '../../src/peer/guests/test-disk.ts'

const MAIN = 'dist/cli/main.js'
/** How long a guest goes on whose disk is wrong, or gone: long enough to fall, if it does. */
const AFTER_FOUND_MS = 15_000

export interface DiskSetup {
  readonly queues: number
  /** The back end reads the trace of QEMU meanwhile. */
  readonly isTraced: boolean
}

export interface DiskSession {
  readonly run: GuestRun
  /** Exit code of the back end. */
  readonly code: number | null
  readonly report: {
    readonly findings: readonly { readonly rule: string }[]
    readonly counts: Readonly<Record<'requests' | 'hits' | 'misses' | 'invalidations', number>>
  }
  /** What guest and back end said, in the order in which it came. */
  readonly said: readonly string[]
  /** What is wrong with the disk afterwards. */
  readonly fault: string | undefined
  readonly messages: string
}

/** Boots a guest over `iommulator connect vhost-user`, as users do: two processes and a socket. */
export async function bootOverBackEnd(
  configuration: GuestConfiguration,
  { queues, isTraced }: DiskSetup,
): Promise<DiskSession> {
  const folder = mkdtempSync(join(tmpdir(), 'guest-disk-'))
  const at = (name: string) => join(folder, name)
  const [socket, disk, log] = [at('disk.sock'), at('disk.img'), at('messages.jsonl')]
  const zone = makeTestDisk(disk)
  const said: string[] = []
  const trace = isTraced ? at('qemu.trace') : undefined
  const args = ['connect', 'vhost-user', '--socket', socket, '--disk', disk, '--log', log]
  if (trace !== undefined) args.push('--trace', trace)
  const backEnd = spawn(process.execPath, [MAIN, ...args, '--queues', String(queues), '--once', '--json'])
  const ended = once(backEnd, 'close') as Promise<[number | null]>
  const lost = new AbortController()
  let out = ''
  let timer: NodeJS.Timeout | undefined
  try {
    backEnd.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text
    })
    backEnd.stderr.setEncoding('utf8').on('data', (text: string) => {
      said.push(
        ...text
          .trimEnd()
          .split('\n')
          .map((line) => `back end: ${line}`),
      )
      if (/FOUND stale|connection was closed/.test(text))
        timer ??= setTimeout(() => lost.abort(), AFTER_FOUND_MS)
    })
    while (!existsSync(socket)) {
      if (backEnd.exitCode !== null) throw new Error(`the back end ended: ${said.join('\n')}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    const run = await bootGuest(configuration, {
      disk: { by: 'vhost-user', socket },
      queues,
      zone,
      ...(trace !== undefined && { trace }),
      signal: lost.signal,
      onLine: (line) => said.push(`guest: ${line}`),
    })
    const [code] = await ended
    const report: DiskSession['report'] = JSON.parse(out)
    const { requests, hits, misses, invalidations } = report.counts
    const counts = `${requests} requests, ${hits} hits, ${misses} misses, ${invalidations} invalidations`
    process.stderr.write(`${configuration.name}: ${counts}\n`)
    return {
      run,
      code,
      report,
      said,
      fault: testDiskFault(disk),
      messages: readFileSync(log, 'utf8'),
    }
  } finally {
    clearTimeout(timer)
    backEnd.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
}
