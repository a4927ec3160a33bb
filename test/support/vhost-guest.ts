import type { Answer, Value } from '../../src/bits/answer.ts'
import type { VhostRemedy } from '../../src/kernel/vhost-remedy.ts'
import type { PowernvInput } from '../../src/machine/powernv/description.ts'
import type { GuestInput } from '../../src/machine/powernv/guest-description.ts'
import type { MachineEvent } from '../../src/trace/event.ts'
import { GUEST_UA, LIOBN, makeVmm } from './vmm.ts'

type Args = Readonly<Record<string, Value>>

export interface VhostGuestOptions {
  readonly remedy?: VhostRemedy
  readonly guest?: GuestInput
  readonly host?: Partial<PowernvInput>
}

/** A guest of Linux 6.12.95 with KVM, and a network device that vhost serves; started, not ready. */
export function vhostGuest({ remedy, guest = {}, host = {} }: VhostGuestOptions = {}) {
  const world = makeVmm(
    {
      phbs: [{ ddw: false, virtio: [{ name: 'net0', kind: 'net' }] }],
      ...(remedy && { vhostRemedy: remedy }),
      ...guest,
    },
    { profile: 'linux-6.12.95', ...host },
  )
  world.vmm('start')
  const { perform, during, judge } = world
  const virtio = (call: string, args: Args = {}) => perform('virtio', call, { device: 'net0', ...args })
  /** Messages to and from vhost that a step leaves, as `UPDATE 0x10000 0x1000 0x100700000 3`. */
  const messagesOf = (step: () => unknown): string[] =>
    during(['vhost.message'], step).map((e) => messageText(e as Message))
  return {
    ...world,
    virtio,
    messagesOf,
    /** Bytes that the device writes, and reads. */
    deviceWrites: (iova: bigint, data: string, device = 'net0'): Answer =>
      perform('dma', 'write', { device, iova, data }),
    deviceReads: (iova: bigint, bytes: bigint, device = 'net0'): Answer =>
      perform('dma', 'read', { device, iova, bytes }),
    memoryAt: (gpa: bigint, bytes: bigint) =>
      perform('mem', 'read', { space: 'ua', address: GUEST_UA + gpa, bytes }).outputs['data'],
    found: (): string[] => {
      judge.finish()
      return judge.findings.map(({ rule }) => rule)
    },
  }
}

type Message = Extract<MachineEvent, { kind: 'vhost.message' }>
const TYPES = ['', 'MISS', 'UPDATE', 'INVALIDATE']

function messageText({ type, iova, bytes, ua, perm }: Message): string {
  const hex = (n: bigint) => `0x${n.toString(16)}`
  const name = TYPES[type] ?? `type ${type}`
  if (name === 'MISS') return `MISS ${hex(iova)} ${perm}`
  return name === 'UPDATE'
    ? `UPDATE ${hex(iova)} ${hex(bytes)} ${hex(ua)} ${perm}`
    : `${name} ${hex(iova)} ${hex(bytes)}`
}

export { GUEST_UA, LIOBN }
