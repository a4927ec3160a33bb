import { answerOf, type CallHandler, dead } from '../bits/answer.ts'
import { rulesOf } from '../bits/call.ts'
import type { Life } from '../hw/life.ts'
import { FileTable, type FileTarget } from '../kernel/files.ts'
import { virtioHandlers } from '../kernel/guest/virtio-handlers.ts'
import type { HostCalls } from '../kernel/ports.ts'
import type { RamRegion } from '../kernel/qemu/vhost-update.ts'
import { OPEN } from '../kernel/vfio/calls.ts'
import { vhostHandlers } from '../kernel/vhost/handlers.ts'
import { Vhost } from '../kernel/vhost/vhost.ts'
import type { Process, ProcessTable } from '../memory/process.ts'
import type { Machine } from './machine.ts'
import { VirtioDevices } from './virtio-wiring.ts'

/** The process that is QEMU. */
export const QEMU = 'qemu'
const OPENED = rulesOf(OPEN).done

interface VirtioBelow {
  /** Whether a device of the machine has vhost of the kernel. */
  readonly hasVhost: boolean
  /** Maps that an IOTLB of vhost keeps; as Linux has it if left out. */
  readonly iotlbEntries?: number
  readonly life: Life
  readonly processes: ProcessTable
  readonly ram: readonly RamRegion[]
}

interface QemuVirtio {
  readonly virtio: VirtioDevices
  readonly handlers: readonly CallHandler[]
  /** error_report. */
  readonly print: (text: string) => void
  /** What was printed since it was asked last. */
  readonly takePrinted: () => readonly string[]
}

/**
 * QEMU's virtio devices, and their drivers in the guest. Of the kernel below, vhost is there for them, and only where the
 * machine has such a device.
 */
export function createVirtio(
  machine: Machine,
  { life, processes, ram, hasVhost, iotlbEntries }: VirtioBelow,
): QemuVirtio {
  const { stage, journal, profile } = machine
  const files = new FileTable(journal)
  const causeOf = () => (stage.cause < 0 ? null : stage.cause)
  let printed: string[] = []
  const takePrinted = (): readonly string[] => {
    const lines = printed
    printed = []
    return lines
  }
  const call: HostCalls = (verb, name, args) => {
    if (verb !== 'proc') return machine.callFromInside(verb, name, { process: QEMU, ...args })
    const target = files.targetAt(args['path'] as string) as FileTarget
    return answerOf(OPEN, OPENED, { outputs: { fd: BigInt(files.open(QEMU, target).fd) } })
  }
  const print = (text: string): void => {
    printed.push(text)
    stage.log.emit('warning', causeOf(), { layer: QEMU, text })
  }
  const below = { processes, files, profile, ...(iotlbEntries !== undefined && { iotlbEntries }) }
  const vhost = new Vhost(below)
  const virtio = new VirtioDevices({
    machine,
    profile,
    process: QEMU,
    files,
    call,
    mm: (processes.get(QEMU) as Process).mm,
    ram,
    print,
    takePrinted,
    vhost,
    onUnknown: (what) => stage.log.emit('unmodelled', causeOf(), { what, line: stage.line }),
  })
  const ioctls = hasVhost ? vhostHandlers(vhost) : []
  const drivers = virtioHandlers({
    stage,
    life,
    drivers: virtio.drivers,
    absent: () => undefined,
    finish: (answer) => {
      const warnings = [...answer.warnings, ...takePrinted()]
      return life.isDead ? dead(life.why) : { ...answer, warnings }
    },
  })
  return { virtio, handlers: [...ioctls, ...drivers], print, takePrinted }
}
