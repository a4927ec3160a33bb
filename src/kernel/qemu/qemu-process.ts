import type { Answer, Value } from '../../bits/answer.ts'
import { Held } from '../../bits/held.ts'
import type { Journal } from '../../bits/state.ts'
import type { Life } from '../../hw/life.ts'
import type { Stage } from '../../trace/stage.ts'
import type { HostCalls } from '../ports.ts'

type Args = Readonly<Record<string, Value>>

/** What strerror says of the codes that the calls of a VMM answer (glibc). */
const ERROR_TEXTS: Readonly<Record<string, string>> = {
  EPERM: 'Operation not permitted',
  ENOENT: 'No such file or directory',
  ESRCH: 'No such process',
  EIO: 'Input/output error',
  ENXIO: 'No such device or address',
  EBADF: 'Bad file descriptor',
  ENOMEM: 'Cannot allocate memory',
  EFAULT: 'Bad address',
  EBUSY: 'Device or resource busy',
  EEXIST: 'File exists',
  ENODEV: 'No such device',
  EINVAL: 'Invalid argument',
  EMFILE: 'Too many open files',
  ENOTTY: 'Inappropriate ioctl for device',
  ENOSPC: 'No space left on device',
}

/** What is printed for the errno that a call has set. */
export const errorText = ({ code }: Answer): string => ERROR_TEXTS[code] ?? code

/** Whether a call has answered 0, or a descriptor or address. */
export const isOk = ({ state, code }: Answer): boolean => state === 'done' && code === 'OK'

/** What QEMU's own memory keeps of the VM and of what KVM can do; descriptors are -1 where there is none. */
interface KvmState {
  readonly vm: number
  readonly device: number
  readonly hasTables: boolean
  readonly has64: boolean
  readonly hasMultiTce: boolean
  readonly hasVfio: boolean
}

export const NO_FD = -1
const NO_KVM: KvmState = {
  vm: NO_FD,
  device: NO_FD,
  hasTables: false,
  has64: false,
  hasMultiTce: false,
  hasVfio: false,
}

const NEW = 0
const RUNNING = 1
const ENDED = 2

export interface QemuProcessParts {
  readonly stage: Stage
  readonly journal: Journal
  readonly life: Life
  /** Name of the process. */
  readonly name: string
  readonly call: HostCalls
}

/** The process in which QEMU runs a guest: its system calls, what it prints, and how it ends. */
export class QemuProcess {
  readonly name: string
  readonly life: Life
  readonly stage: Stage
  readonly journal: Journal
  readonly #call: HostCalls
  readonly #phase: Held<number>
  readonly #kvm: Held<KvmState>
  #printed: string[] = []
  /** Whether the last call came back, with an answer that is known. */
  #isAnswered = true
  #unknown: string | undefined

  constructor({ stage, journal, life, name, call }: QemuProcessParts) {
    this.name = name
    this.life = life
    life.onDeath = () => this.end()
    this.stage = stage
    this.journal = journal
    this.#call = call
    this.#phase = new Held(journal, 'qemu phase', NEW, (n) => n)
    this.#kvm = new Held<KvmState>(journal, 'qemu kvm', NO_KVM, (k) =>
      [k.vm, k.device, k.hasTables, k.has64, k.hasMultiTce, k.hasVfio].reduce<number>(
        (n, x) => n * 31 + Number(x) + 2,
        0,
      ),
    )
  }

  get isNew(): boolean {
    return this.#phase.value === NEW
  }

  get isRunning(): boolean {
    return this.#phase.value === RUNNING
  }

  get hasEnded(): boolean {
    return this.#phase.value === ENDED
  }

  begin(): void {
    this.#phase.set(RUNNING)
  }

  /** The process is gone; nothing that it held needs to be given back. */
  ended(): void {
    this.#phase.set(ENDED)
  }

  get kvm(): KvmState {
    return this.#kvm.value
  }

  setKvm(change: Partial<KvmState>): void {
    this.#kvm.set({ ...this.kvm, ...change })
  }

  /** A system call by verb and name. */
  system(...[verb, call, args]: Parameters<HostCalls>): Answer {
    return this.#ask(verb, call, args)
  }

  ioctl(call: string, args: Args): Answer {
    return this.#ask('ioctl', call, args)
  }

  proc(call: string, args: Args): Answer {
    return this.#ask('proc', call, args)
  }

  /** What QEMU does next depends on something that the model does not know. */
  doNotKnow(what: string): void {
    const { log, cause, line } = this.stage
    log.emit('unmodelled', cause < 0 ? null : cause, { what, line })
  }

  /** error_report, or a line on stderr: not of a call that did not come back, or whose answer is not known. */
  print(text: string): void {
    if (!this.#isAnswered || this.life.isDead) return
    this.#printed.push(text)
    const { log, cause } = this.stage
    log.emit('warning', cause < 0 ? null : cause, { layer: 'qemu', text })
  }

  /** What was printed since it was asked last, and what the model could not say of a call that was made since then. */
  takeOutput(): { readonly printed: readonly string[]; readonly unknown: string | undefined } {
    const output = { printed: this.#printed, unknown: this.#unknown }
    this.#printed = []
    this.#unknown = undefined
    return output
  }

  #ask(...[verb, call, args]: Parameters<HostCalls>): Answer {
    const answer = this.#call(verb, call, args)
    this.#isAnswered = answer.state === 'done'
    if (answer.state === 'unmodelled') this.#unknown ??= answer.rule
    return answer
  }

  /** hw_error: QEMU prints why, and aborts. */
  abort(why: string): void {
    this.print(`qemu: hardware error: ${why}`)
    this.crash(why)
  }

  /** abort(): the process dies in the middle of what it did, and the kernel closes its files. */
  crash(why: string): void {
    this.life.die(why)
  }

  /** The process ends, and the kernel closes its files. */
  end(): void {
    this.proc('exit', {})
  }
}
