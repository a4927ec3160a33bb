import { StringDecoder } from 'node:string_decoder'
import { PeerProcess } from '../peer-process.ts'
import { endsWithUs, type PeerProgram } from '../programs.ts'
import { GUEST_MACHINES, type GuestConfiguration } from './configurations.ts'
import { findGuestFiles, type GuestFiles } from './guest-files.ts'

/** A whole test takes half a minute; a machine that is busy with other things takes longer. */
const LIMIT_MS = 240_000
/** A guest that panics says some kilobytes; one that says more than this is ended. */
const CONSOLE_CHARACTERS_MAX = 4 * 2 ** 20

/** Who serves the disk: a vhost-user back end that listens on a socket, or QEMU itself. */
export type GuestDisk =
  | { readonly by: 'vhost-user'; readonly socket: string }
  | { readonly by: 'qemu'; readonly file: string }

export interface GuestOptions {
  readonly disk: GuestDisk
  /** What `peers/guests/init.sh` does: `test` where it is left out. */
  readonly run?: 'test' | 'bench'
  /** SHA-256 of the zone that the guest must find (`makeTestDisk`). */
  readonly zone?: string
  /** Whether the disk is behind the vIOMMU; it is where this is left out. */
  readonly isTranslated?: boolean
  /** Queues of the disk, and processors of the guest: 1 where it is left out. */
  readonly queues?: number
  /** QEMU's trace goes there. */
  readonly trace?: string
  readonly limitMs?: number
  /** Ends the guest: one whose disk is gone would wait for it. */
  readonly signal?: AbortSignal
  /** Each line of the console, without its end, as it comes. */
  readonly onLine?: (line: string) => void
  /** Instead of QEMU, for tests: a program whose standard output is the console. */
  readonly program?: PeerProgram
  /** Files of the guest; those that the set-up script made where they are left out. */
  readonly files?: GuestFiles
}

/** What a disk test of `peers/guests/init.sh` found right. */
export interface GuestDiskTest {
  readonly files: number
  readonly bytes: number
  /** Of the checksums of all files that were there at the end. */
  readonly sha256: string
}

export interface GuestRun {
  /**
   * `done`: the guest did what it was to do, and switched its machine off; `panicked`: its kernel gave up;
   * `lost`: QEMU ended in between, was ended, or the time was over.
   */
  readonly ending: 'done' | 'panicked' | 'lost'
  /** How QEMU ended, in words. */
  readonly why: string
  /** All that stood on the console, without carriage returns. */
  readonly transcript: string
  /** What stands behind `GUEST` on the console, line by line. */
  readonly marks: readonly string[]
  /** The disk test that passed; undefined where none did. */
  readonly passed: GuestDiskTest | undefined
}

/** QEMU's command line for a guest. */
export function guestArguments(
  configuration: GuestConfiguration,
  { kernel, initrd }: Pick<GuestFiles, 'kernel' | 'initrd'>,
  { disk, run, zone, isTranslated = true, queues = 1, trace }: GuestOptions,
): string[] {
  const machine = GUEST_MACHINES[configuration.architecture]
  const words = [
    `console=${machine.console}`,
    'quiet',
    'panic=-1',
    'oops=panic',
    ...machine.kernelArguments,
    ...configuration.kernelArguments,
  ]
  if (run !== undefined) words.push(`guest.run=${run}`)
  if (zone !== undefined) words.push(`guest.zone=${zone}`)
  const device = [
    ...(disk.by === 'qemu' ? ['virtio-blk-pci', 'drive=d0'] : ['vhost-user-blk-pci', 'chardev=c0']),
    ...configuration.diskProperties,
    `iommu_platform=${isTranslated ? 'on' : 'off'}`,
    'disable-legacy=on',
    `num-queues=${queues}`,
  ]
  return [
    ...machine.machineArguments,
    ...['-accel', 'tcg', '-m', machine.memory, '-smp', String(queues)],
    // Shared, so that the back end can map it.
    ...['-object', `memory-backend-memfd,id=m0,size=${machine.memory},share=on`],
    ...['-nodefaults', '-display', 'none', '-monitor', 'none', '-no-reboot'],
    ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
    ...['-kernel', kernel, '-initrd', initrd, '-append', words.join(' ')],
    ...configuration.machineArguments,
    ...(disk.by === 'qemu'
      ? ['-drive', `file=${quoted(disk.file)},if=none,id=d0,format=raw`]
      : ['-chardev', `socket,id=c0,path=${quoted(disk.socket)}`]),
    ...['-device', device.join(',')],
    ...(trace === undefined
      ? []
      : [...machine.traceEvents.flatMap((events) => ['-trace', `enable=${events}`]), '-D', trace]),
  ]
}

/** A comma ends a value in QEMU's options; two are one. */
const quoted = (path: string): string => path.replaceAll(',', ',,')

const PASSED = /^disk test passed (\d+) files (\d+) bytes sha256 ([0-9a-f]{64})$/
const MARK = /^(?:.*[^\w])?GUEST (.*)$/
const DONE = /^end up /
const FAILED = /^disk test failed: /
const PANIC = /Kernel panic - not syncing/

/**
 * Boots a guest, and waits until it has done what it was to do: test the disk, or measure it. The guest switches its
 * machine off, or panics; where it does neither in time, it is ended.
 *
 * @throws IommulatorError ERR_PEER where something that it is started from is missing
 * @example
 * const run = await bootGuest(configuration, { disk: { by: 'vhost-user', socket: 'disk.sock' } })
 * run.passed // { files: 117, bytes: 45559704, sha256: '...' }
 */
export async function bootGuest(configuration: GuestConfiguration, options: GuestOptions): Promise<GuestRun> {
  const { limitMs = LIMIT_MS, signal, onLine } = options
  const program = options.program ?? programOf(configuration, options)
  const guest = new PeerProcess(program)
  const decoder = new StringDecoder('latin1')
  let text = ''
  let lineFrom = 0
  const take = (piece: string) => {
    text += piece.replaceAll('\r', '')
    for (let end = text.indexOf('\n', lineFrom); end >= 0; end = text.indexOf('\n', lineFrom)) {
      onLine?.(text.slice(lineFrom, end))
      lineFrom = end + 1
    }
  }
  let ended: string | undefined
  const end = (why: string) => {
    ended ??= why
    void guest.kill()
  }
  const timer = setTimeout(() => end(`it was not done within ${limitMs / 1000} s`), limitMs)
  const abort = () => end('it was ended')
  signal?.addEventListener('abort', abort)
  if (signal?.aborted === true) abort()
  guest.output.on('data', (piece: Buffer) => {
    take(decoder.write(piece))
    if (text.length > CONSOLE_CHARACTERS_MAX) end('it said too much')
  })
  const said = await new Promise<string>((resolve) => {
    guest.onEnd = resolve
  })
  clearTimeout(timer)
  signal?.removeEventListener('abort', abort)
  await guest.kill()
  return runOf(text, ended ?? said)
}

function runOf(transcript: string, why: string): GuestRun {
  const marks = transcript.split('\n').flatMap((line) => MARK.exec(line)?.[1] ?? [])
  const found = marks.map((mark) => PASSED.exec(mark)).find((match) => match !== null)
  const isDone = marks.some((mark) => DONE.test(mark))
  return {
    ending: isDone ? 'done' : PANIC.test(transcript) ? 'panicked' : 'lost',
    why,
    transcript,
    marks,
    passed:
      found === undefined || !isDone
        ? undefined
        : { files: Number(found[1]), bytes: Number(found[2]), sha256: found[3] as string },
  }
}

/** Why a disk test did not pass, in the guest's words. */
export const diskTestFault = ({ marks }: GuestRun): string | undefined =>
  marks.find((mark) => FAILED.test(mark))

const programOf = (configuration: GuestConfiguration, options: GuestOptions): PeerProgram => {
  const files = options.files ?? findGuestFiles(configuration.architecture)
  return endsWithUs(files.setpriv, {
    command: files.qemu,
    args: guestArguments(configuration, files, options),
  })
}
