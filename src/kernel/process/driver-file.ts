import type { RuleOf } from '../../bits/call.ts'
import { ERRNO_CODES } from '../../bits/codes.ts'
import type { BindPort } from '../process-port.ts'
import { type Task, type Tasks, type Work, work } from '../steps.ts'
import type { FileBind, OpenFiles } from './open-files.ts'
import type { SYS_IOCTL } from './sys-calls.ts'

type IoctlRule = RuleOf<typeof SYS_IOCTL>

const { EINVAL, ENOMEM, ENOSPC, EBUSY, ENODEV, EOPNOTSUPP, EOVERFLOW } = ERRNO_CODES
const RULES: ReadonlyMap<number, IoctlRule> = new Map([
  [0, 'done'],
  [EINVAL, 'refused-invalid'],
  [ENOMEM, 'refused-no-memory'],
  [ENOSPC, 'refused-no-pasid'],
  [EBUSY, 'refused-busy'],
  [ENODEV, 'refused-no-device'],
  [EOPNOTSUPP, 'refused-unsupported'],
  [EOVERFLOW, 'refused-overflow'],
])

function ruleOf(errno: number): IoctlRule {
  const rule = RULES.get(errno)
  if (rule === undefined) throw new Error(`model bug: a bind is refused with ${errno}`)
  return rule
}

/**
 * The driver of a device that processes can bind themselves to, as its file shows it: what the file holds is unbound when
 * the last reference of the file goes. Whoever drives the IOMMU does the binding.
 */
export class DriverFiles {
  /** Who binds; undefined where the unit is in no mode that could. */
  binder: BindPort | undefined
  readonly #files: OpenFiles

  constructor(tasks: Tasks, files: OpenFiles) {
    this.#files = files
    tasks.define('ioctl_bound', {
      doc: 'the driver notes in the file what was bound, and the process gets its PASID',
      run: (task, [file]) => {
        const name = String(file)
        const value = Number(task.value)
        if (value < 0) return [work('return', ruleOf(value))]
        const { device, binds } = files.stateOf(name)
        files.setBinds(name, [...binds, { device, pasid: value }])
        return [work('return', 'done', 'pasid', value)]
      },
    })
    tasks.define('ioctl_unbound', {
      doc: 'the driver notes in the file what was unbound',
      run: (task, [file, pasid]) => {
        const name = String(file)
        const errno = Number(task.value)
        if (errno === 0) {
          const { binds } = files.stateOf(name)
          const at = binds.findIndex((b) => b.pasid === Number(pasid))
          if (at >= 0) files.setBinds(name, binds.toSpliced(at, 1))
        }
        return [work('return', ruleOf(errno))]
      },
    })
    tasks.define('ioctl', {
      doc: 'the driver of a device is asked to bind its caller, or to unbind a PASID',
      run: (task, [file, request, argument]) => {
        const name = String(file)
        const { device } = files.stateOf(name)
        const { binder } = this
        if (binder === undefined) return [work('return', 'unknown-request')]
        const number = Number(argument)
        return request === 'bind'
          ? [...binder.bind(task, device, number), work('ioctl_bound', name)]
          : [...binder.unbind(task, device, number), work('ioctl_unbound', name, number)]
      },
    })
    tasks.define('driver_release', {
      doc: 'the driver unbinds what a file held that is released, the oldest first',
      run: (task, [file]) => {
        const name = String(file)
        const [first, ...rest] = files.stateOf(name).binds
        if (first === undefined) return undefined
        files.setBinds(name, rest)
        return [...this.#unbind(task, first), work('driver_release', name)]
      },
    })
  }

  /** Work of the driver whose file nobody holds any more. */
  release(file: string): readonly Work[] {
    return this.#files.stateOf(file).binds.length === 0 ? [] : [work('driver_release', file)]
  }

  #unbind(task: Task, { device, pasid }: FileBind): readonly Work[] {
    return this.binder?.unbind(task, device, pasid) ?? []
  }
}
