/**
 * `npm run bench:guests -- [--guest NAME] [--rounds N]`: what a real guest's disk does over the back end, and over QEMU's
 * own virtio-blk, with its addresses behind the vIOMMU and past it. The guest measures. The method is in README.md.
 */
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { bootGuest } from '../src/peer/guests/boot-guest.ts'
import { GUEST_CONFIGURATIONS, type GuestConfiguration } from '../src/peer/guests/configurations.ts'
import { findGuestFiles, type GuestFiles } from '../src/peer/guests/guest-files.ts'
import { makeTestDisk } from '../src/peer/guests/test-disk.ts'
import { factLines, machineFacts } from './facts.ts'
import { packageRoot } from './floors.ts'
import { DISK_SIDES, type DiskFigure, type DiskSide, diskFigures, diskTable } from './guest-figures.ts'

const { values } = parseArgs({
  options: {
    guest: { type: 'string', default: 'amd64-strict' },
    rounds: { type: 'string', default: '3' },
  },
})
const out = (line: string) => process.stdout.write(`${line}\n`)
const MAIN = join(packageRoot(), 'build-bench', 'src', 'cli', 'main.js')

/** Serves the disk by a process of its own, as users do; gives what ends it. */
async function serve(socket: string, disk: string): Promise<() => Promise<void>> {
  const args = [MAIN, 'connect', 'vhost-user', '--socket', socket, '--disk', disk]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  let said = ''
  await new Promise<void>((resolve, reject) => {
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (said.includes(socket)) resolve()
    })
    child.once('exit', () => reject(new Error(`the back end ended: ${said}`)))
  })
  return async () => {
    child.kill('SIGTERM')
    await ended
  }
}

async function measured(
  configuration: GuestConfiguration,
  { by, isTranslated }: DiskSide,
): Promise<DiskFigure[]> {
  const folder = mkdtempSync(join(tmpdir(), 'guest-disk-'))
  const [file, socket] = [join(folder, 'disk.img'), join(folder, 'disk.sock')]
  makeTestDisk(file)
  const end = by === 'vhost-user' ? await serve(socket, file) : undefined
  try {
    const disk = by === 'vhost-user' ? ({ by, socket } as const) : ({ by, file } as const)
    const run = await bootGuest(configuration, { disk, run: 'bench', isTranslated })
    if (!run.marks.includes('bench done'))
      throw new Error(`${by}: ${run.ending}, ${run.why}\n${run.marks.join('\n')}`)
    return diskFigures(run.marks)
  } finally {
    await end?.()
    rmSync(folder, { recursive: true, force: true })
  }
}

function filesOf({ architecture }: GuestConfiguration): GuestFiles {
  try {
    return findGuestFiles(architecture)
  } catch (error) {
    const [what] = (error as Error).message.split(';')
    process.stderr.write(`${what}; get everything that is needed with: sudo sh peers/guests/setup.sh\n`)
    process.exit(4)
  }
}

const configuration = GUEST_CONFIGURATIONS.find(({ name }) => name === values.guest)
if (configuration === undefined) {
  throw new Error(`no guest ${values.guest}: ${GUEST_CONFIGURATIONS.map(({ name }) => name).join(', ')}`)
}
const { qemu } = filesOf(configuration)
// No floor is compiled here.
for (const line of factLines(machineFacts(''))) if (!line.startsWith('compiler')) out(line)
out(`qemu      ${spawnSync(qemu, ['--version'], { encoding: 'utf8' }).stdout.split('\n')[0]}`)
out(`guest     ${configuration.name}: ${configuration.title}\n`)

const rounds: DiskFigure[][][] = []
for (let round = 0; round < Number(values.rounds); round++) {
  const sides: DiskFigure[][] = []
  // Every other round the other way, so that what drifts meets both sides.
  const order = [...DISK_SIDES.keys()]
  for (const side of round % 2 === 0 ? order : order.reverse()) {
    const { by, isTranslated } = DISK_SIDES[side] as DiskSide
    process.stderr.write(`round ${round + 1}: ${by}, ${isTranslated ? 'with' : 'without'} the vIOMMU\n`)
    sides[side] = await measured(configuration, { by, isTranslated })
  }
  rounds.push(sides)
}
for (const line of diskTable(rounds)) out(line)
