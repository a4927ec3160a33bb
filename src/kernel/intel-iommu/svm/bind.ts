import { type Task, type Work, type WorkArg, work } from '../../steps.ts'
import type { PasidDevice } from '../vtd-driver.ts'
import type { Svm } from './bindings.ts'
import { recordBind, recordObject, type SvmCore, unitOf } from './core.ts'
import { flushAll, type SvmNotifiers } from './notifier.ts'

/** Guards all binds and unbinds. */
const MUTEX = 'pasid_mutex'
const LOCK = work('lock', MUTEX)
const UNLOCK = work('unlock', MUTEX)

/** What is to be bound. (Linux v4.9 include/linux/intel-svm.h) */
export interface BindRequest {
  readonly device: string
  /** A PASID is wanted; else the device is only prepared for having one. */
  readonly wantsPasid: boolean
  /** SVM_FLAG_PRIVATE_PASID */
  readonly isPrivate: boolean
  /** SVM_FLAG_SUPERVISOR_MODE */
  readonly isKernel: boolean
  /** What the device's driver is called back with. */
  readonly ops: string
}

/** A request, and whose address space it is about, as arguments of steps. */
const argsOf = ({ device, wantsPasid, isPrivate, isKernel, ops }: BindRequest, mm: string): WorkArg[] => [
  device,
  wantsPasid ? 1 : 0,
  isPrivate ? 1 : 0,
  isKernel ? 1 : 0,
  ops,
  mm,
]

const requestOf = (args: readonly WorkArg[]): BindRequest & { readonly mm: string } => ({
  device: String(args[0]),
  wantsPasid: args[1] === 1,
  isPrivate: args[2] === 1,
  isKernel: args[3] === 1,
  ops: String(args[4]),
  mm: String(args[5]),
})

/**
 * Binding of address spaces to devices, in the steps that others can come between. The last step leaves in the value of
 * the task the PASID, or the rule by which the call ends. (Linux v4.9 drivers/iommu/intel-svm.c, intel_svm_bind_mm,
 * intel_svm_unbind_mm)
 */
export class SvmBinder {
  readonly #core: SvmCore
  readonly #notifiers: SvmNotifiers

  constructor(core: SvmCore, notifiers: SvmNotifiers) {
    this.#core = core
    this.#notifiers = notifiers
    const { tasks, processes } = core
    tasks.define('svm bind', {
      doc: 'bind: looks at the flags, and takes the address space of the caller',
      run: (task, args) => this.#begin(task, requestOf(args)),
    })
    tasks.define('svm find', {
      doc: 'bind: looks for a PASID that the address space has',
      run: (_task, args) => this.#find(requestOf(args)),
    })
    tasks.define('svm enable', {
      doc: 'bind: lets requests of the device have a PASID, and hands one out',
      run: (_task, args) => this.#enable(requestOf(args), Number(args[6])),
    })
    tasks.define('svm publish', {
      doc: 'bind: registers for changes of the address space, and points the entry of the PASID to it',
      run: (_task, args) => this.#publish(requestOf(args), Number(args[6])),
    })
    tasks.define('svm add device', {
      doc: 'bind: the device is one of those that are flushed from now on',
      run: (_task, args) => this.#add(requestOf(args), Number(args[6])),
    })
    tasks.define('svm unbind', {
      doc: 'unbind: finds the device, which is used once less',
      run: (_task, [device, pasid]) => this.#unbind(String(device), Number(pasid)),
    })
    tasks.define('svm remove', {
      doc: 'unbind: without devices the entry goes, the PASID is given back, changes are heard no more',
      run: (_task, [device, serial]) => this.#remove(String(device), Number(serial)),
    })
    tasks.define('svm free', {
      doc: 'unbind: what the kernel knew of the PASID is poisoned and freed',
      run: (_task, [serial, pasid]) => {
        core.bindings.free(Number(serial))
        recordObject(core, 'intel_svm', { pasid: Number(pasid), device: '', state: 0 })
        return undefined
      },
    })
    tasks.define('mmput', {
      doc: 'the kernel gives an address space back that it had taken',
      run: (_task, [mm]) => processes.mm(String(mm))?.put(),
    })
    tasks.define('svm value', {
      doc: 'the call returns',
      run: (task, [value]) => {
        task.value = value as WorkArg
        return undefined
      },
    })
  }

  /** Work that binds; the value of the task is the PASID then, or a rule of SVM_BIND. */
  bind(request: BindRequest): readonly Work[] {
    return [work('svm bind', ...argsOf(request, ''))]
  }

  /** Work that unbinds; the value of the task is a rule of SVM_UNBIND. */
  unbind(device: string, pasid: number): readonly Work[] {
    return [LOCK, work('svm unbind', device, pasid)]
  }

  #begin(task: Task, request: BindRequest): readonly Work[] {
    const { driver, tables, processes } = this.#core
    const { device, wantsPasid, isKernel } = request
    const { features } = driver.core.registers
    const known = driver.device(device)
    if (known === undefined) return [work('svm value', 'no-unit')]
    if (tables.table === 0) return [work('svm value', 'no-tables')]
    if ((known.capabilities?.pasids ?? 0) === 0) return [work('svm value', 'no-pasids')]
    if (isKernel && !features.hasSupervisor) return [work('svm value', 'no-supervisor')]
    let mm = ''
    if (!isKernel && wantsPasid) {
      const current = processes.mmOf(task.process)
      if (current?.get() !== true) {
        driver.core.life.die('kernel BUG in intel_svm_bind_mm: the caller has no address space')
        return []
      }
      mm = current.name
    }
    return [LOCK, work('svm find', ...argsOf(request, mm))]
  }

  #find(request: BindRequest & { readonly mm: string }): readonly Work[] {
    const { bindings, say, driver } = this.#core
    const { device, wantsPasid, isPrivate, ops, mm } = request
    const isShared = wantsPasid && !isPrivate
    const svm = isShared ? bindings.all.find((s) => s.mm === mm && !s.isPrivate) : undefined
    if (svm !== undefined) {
      if (svm.pasid >= (driver.device(device)?.capabilities?.pasids ?? 0)) {
        say(`${device}: Limited PASID width. Cannot use existing PASID ${svm.pasid}`)
        return this.#leave(request, 'pasid-too-wide')
      }
      const bound = svm.devices.find((d) => d.device === device)
      if (bound !== undefined) {
        if (bound.ops !== ops) return this.#leave(request, 'other-ops')
        const users = bound.users + 1
        bindings.setDevices(
          svm,
          svm.devices.map((d) => (d === bound ? { ...d, users } : d)),
        )
        recordBind(this.#core, svm, device, users)
        return this.#leave(request, svm.pasid)
      }
    }
    return [work('svm enable', ...argsOf(request, mm), svm?.serial ?? 0)]
  }

  #enable(request: BindRequest & { readonly mm: string }, serial: number): readonly Work[] {
    const { driver, bindings, quirks } = this.#core
    const { device, wantsPasid, mm, isPrivate } = request
    recordObject(this.#core, 'intel_svm_dev', { pasid: 0, device, state: 1 })
    const free = () => recordObject(this.#core, 'intel_svm_dev', { pasid: 0, device, state: 0 })
    const target = this.#prepare(device)
    if (target === undefined || !wantsPasid) {
      free()
      return this.#leave(request, target === undefined ? 'no-domain' : 'prepared')
    }
    if (serial !== 0) return [work('svm add device', ...argsOf(request, mm), serial)]
    const { isCachingMode } = driver.core.registers.features
    const most = Math.min(driver.device(device)?.capabilities?.pasids ?? 0, this.#core.tables.pasids)
    // The end is exclusive, and the driver leaves another one out.
    const start = isCachingMode && !quirks.takesPasid0 ? 1 : 0
    const svm = bindings.add(start, most - 1, mm, isPrivate)
    if (svm === undefined) {
      if (!quirks.leaksDevice) free()
      return this.#leave(request, 'no-pasid-left')
    }
    const { pasid } = svm
    recordObject(this.#core, 'intel_svm', { pasid, device: '', state: 1 })
    this.#recordPasid(svm, 1)
    return [work('svm publish', ...argsOf(request, mm), svm.serial)]
  }

  #publish(request: BindRequest & { readonly mm: string }, serial: number): readonly Work[] {
    const { bindings, processes, tables, driver, flushes, quirks } = this.#core
    const svm = bindings.bySerial(serial)
    if (svm === undefined) throw new Error('model bug: a PASID went while it was bound')
    const mm = processes.mm(svm.mm)
    if (mm !== undefined && mm.register(this.#notifiers.of(svm)) !== 0) {
      bindings.free(svm.serial)
      this.#recordPasid(svm, 0)
      recordObject(this.#core, 'intel_svm', { pasid: svm.pasid, device: '', state: 0 })
      recordObject(this.#core, 'intel_svm_dev', { pasid: 0, device: request.device, state: 0 })
      return this.#leave(request, 'no-notifier')
    }
    tables.set(svm.pasid, { pgd: mm?.pgd ?? processes.kernel.pgd, mm: svm.mm })
    const target = this.#prepare(request.device)
    if (driver.core.registers.features.isCachingMode && !quirks.takesPasid0 && target !== undefined) {
      // What was not present is known to a caching unit as PASID 0.
      flushes.entry(target, 0)
    }
    return [work('svm add device', ...argsOf(request, svm.mm), serial)]
  }

  #add(request: BindRequest & { readonly mm: string }, serial: number): readonly Work[] {
    const { bindings, quirks } = this.#core
    const { device, ops } = request
    const svm = bindings.bySerial(serial)
    const target = this.#prepare(device)
    if (svm === undefined || target === undefined)
      throw new Error('model bug: a device went while it was bound')
    const isNew = svm.devices.length === 0
    bindings.setDevices(svm, [...svm.devices, { device, users: 1, ops, target }])
    recordBind(this.#core, svm, device, 1)
    const keepsUsers = quirks.holdsUsers && isNew
    return this.#leave(keepsUsers ? { mm: '' } : request, svm.pasid)
  }

  /** What a device is for flushes, once its entries let it have PASIDs. */
  #prepare(name: string): PasidDevice | undefined {
    const { driver, tables } = this.#core
    const device = driver.device(name)
    const { table, states, sizeCode } = tables
    return device && driver.enablePasids(device, { table, states, sizeCode })
  }

  #unbind(device: string, pasid: number): readonly Work[] {
    const { bindings, tables, driver } = this.#core
    if (driver.device(device) === undefined) return this.#leave(undefined, 'no-unit')
    if (tables.table === 0) return this.#leave(undefined, 'no-tables')
    const svm = bindings.find(pasid)
    if (svm === undefined) return this.#leave(undefined, 'pasid-unknown')
    const bound = svm.devices.find((d) => d.device === device)
    if (bound === undefined) return this.#leave(undefined, 'not-bound')
    const users = bound.users - 1
    recordBind(this.#core, svm, device, users)
    if (users > 0) {
      bindings.setDevices(
        svm,
        svm.devices.map((d) => (d === bound ? { ...d, users } : d)),
      )
      return this.#leave(undefined, 'still-bound')
    }
    bindings.setDevices(
      svm,
      svm.devices.filter((d) => d !== bound),
    )
    return [...flushAll(svm, bound.target), work('svm remove', device, svm.serial)]
  }

  #remove(device: string, serial: number): readonly Work[] {
    const { bindings, tables, quirks, processes } = this.#core
    const svm = bindings.bySerial(serial)
    recordObject(this.#core, 'intel_svm_dev', { pasid: svm?.pasid ?? 0, device, state: 0 })
    if (svm === undefined || svm.devices.length > 0) return this.#leave(undefined, 'done')
    if (!quirks.leavesEntry) tables.clear(svm.pasid, svm.mm)
    const mm = svm.mm === '' ? undefined : processes.mm(svm.mm)
    const released = mm?.unregister(this.#notifiers.of(svm)) ?? []
    bindings.unlist(svm)
    this.#recordPasid(svm, 0)
    return [
      ...released,
      ...(quirks.holdsUsers && svm.mm !== '' ? [work('mmput', svm.mm)] : []),
      work('svm free', svm.serial, svm.pasid),
      ...this.#leave(undefined, 'done'),
    ]
  }

  /** The lock is given back, then the address space; the caller gets a PASID or a rule. */
  #leave(request: { readonly mm: string } | undefined, value: string | number): readonly Work[] {
    const mm = request?.mm ?? ''
    return [UNLOCK, ...(mm === '' ? [] : [work('mmput', mm)]), work('svm value', value)]
  }

  #recordPasid({ pasid, mm }: Svm, state: 0 | 1): void {
    const { log, cause } = this.#core.driver.core.stage
    log.emit('svm.pasid', cause, { unit: unitOf(this.#core), pasid, mm, state })
  }
}
