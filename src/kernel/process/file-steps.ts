import { work } from '../steps.ts'
import type { OpenFiles } from './open-files.ts'
import type { Processes } from './processes.ts'

/** The steps of open, dup and close. */
export function defineFileSteps({ tasks }: Processes, files: OpenFiles): void {
  tasks.define('sys_open', {
    doc: 'open: a descriptor is found, then the file, and both are put together',
    run: (task, [path, isCloseOnExec]) => {
      const fd = files.freeFd(task.process)
      if (fd === undefined) return [work('return', 'too-many-files')]
      const device = files.deviceAt(String(path))
      if (device === undefined) return [work('return', 'no-such-file')]
      const file = files.make(device)
      files.install(task.process, fd, file, Number(isCloseOnExec) === 1)
      return [work('return', 'done', 'fd', fd, 'file', file)]
    },
  })
  tasks.define('sys_dup', {
    doc: 'dup: the file gets another descriptor',
    run: (task, [from]) => {
      const file = files.at(task.process, Number(from))
      if (file === undefined) return [work('return', 'bad-fd')]
      const fd = files.freeFd(task.process)
      if (fd === undefined) return [work('return', 'too-many-files')]
      files.get(file, 'dup')
      files.install(task.process, fd, file, false)
      return [work('return', 'done', 'fd', fd)]
    },
  })
  tasks.define('sys_close', {
    doc: 'close: the descriptor is free, and its file has one reference fewer',
    run: (task, [fd]) => {
      const file = files.takeAway(task.process, Number(fd))
      if (file === undefined) return [work('return', 'bad-fd')]
      return [work('fput', file, 'close'), work('return', 'done')]
    },
  })
  tasks.define('sys_ioctl', {
    doc: 'ioctl: the file is found',
    run: (task, [fd, request, argument]) => {
      const file = files.at(task.process, Number(fd))
      if (file === undefined) return [work('return', 'bad-fd')]
      return [work('ioctl', file, String(request), Number(argument))]
    },
  })
}
