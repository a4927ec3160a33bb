import { IommulatorError } from '../../bits/errors.ts'
import { floorLog2 } from '../../bits/u64.ts'
import { fit } from '../../machine/fit/fit.ts'
import {
  type FitRequest,
  fewestLevels,
  PHB_PAGE_SHIFTS,
  type PhbName,
} from '../../machine/fit/fit-request.ts'
import { fitJson, fitText } from '../../machine/fit/fit-text.ts'
import { readNumber } from '../../machine/schema/number-text.ts'
import type { TableRequest } from '../../table/ioda-geometry.ts'
import type { Command, Invocation } from '../command.ts'
import { EXIT } from '../exit.ts'
import { jsonText } from '../json-text.ts'

/** Sizes stay exact numbers, and what is charged for them as well. */
const BYTES_MAX = 2n ** 52n
const GROUPS_MAX = 4096n
const HOST_PAGES: Readonly<Record<string, 12 | 16>> = { '4K': 12, '64K': 16 }
const HUGE_PAGES: Readonly<Record<string, number>> = { '2M': 21, '16M': 24, '1G': 30 }

const wrong = (option: string, text: string, why: string): IommulatorError =>
  new IommulatorError('ERR_NUMBER', `${option} ${text}: ${why}`)

function number(option: string, text: string, most: bigint): bigint {
  const value = readNumber(text.trim(), true)
  if (value === undefined) throw wrong(option, text, 'this is no size; write 64K, 16G or 0x400000000')
  if (value > most) throw wrong(option, text, `at most ${most}`)
  return value
}

function pageShiftOf(option: string, text: string): number {
  const bytes = number(option, text, BYTES_MAX)
  if (bytes === 0n || (bytes & (bytes - 1n)) !== 0n) throw wrong(option, text, 'a page is a power of two')
  return floorLog2(bytes)
}

/** SIZE, SIZE:PAGE or SIZE:PAGE:LEVELS; what is missing comes from --page and --levels. */
function windowOf(text: string, options: Invocation['options'], hostPageShift: number): TableRequest {
  const [bytes = '', ownPage, ownLevels, ...more] = text.split(':')
  const [page, levels] = [ownPage ?? options['page'], ownLevels ?? options['levels']]
  const of = (own: string | undefined, option: string): string =>
    own === undefined ? option : `--window ${text}:`
  if (more.length > 0) throw wrong('--window', text, 'write SIZE, SIZE:PAGE or SIZE:PAGE:LEVELS')
  const windowBytes = number('--window', bytes, BYTES_MAX)
  const pageShift = typeof page === 'string' ? pageShiftOf(of(ownPage, '--page'), page) : hostPageShift
  const given =
    typeof levels === 'string' ? Number(number(of(ownLevels, '--levels'), levels, 2n ** 32n - 1n)) : undefined
  return { windowBytes, pageShift, levels: given ?? fewestLevels(pageShift, windowBytes, hostPageShift) ?? 1 }
}

function requestOf(options: Invocation['options']): FitRequest {
  const text = (name: string): string | undefined => options[name] as string | undefined
  for (const option of ['page', 'levels']) {
    const value = text(option)
    if (value === undefined || options['window'] !== undefined) continue
    throw wrong(`--${option}`, value, 'it says how windows are made, and there is no --window')
  }
  const ram = text('ram')
  if (ram === undefined) throw wrong('--ram', 'is missing', 'say how much memory the machine has')
  const ramBytes = number('--ram', ram, BYTES_MAX)
  if (ramBytes === 0n) throw wrong('--ram', ram, 'a machine has memory')
  const hostPageShift = HOST_PAGES[text('hostPage') ?? '64K'] ?? 16
  const groups = number('--groups', text('groups') ?? '1', GROUPS_MAX)
  if (groups === 0n) throw wrong('--groups', '0', 'a container without a group does nothing')
  const memlock = text('memlock')
  const huge = text('huge')
  return {
    version: text('vfio') === 'v1' ? 'v1' : 'v2',
    phb: (text('phb') ?? 'phb4') as PhbName,
    ramBytes: Number(ramBytes),
    hostPageShift,
    hugeShift: huge === undefined ? undefined : HUGE_PAGES[huge],
    windows: ((options['window'] ?? []) as readonly string[]).map((w) => windowOf(w, options, hostPageShift)),
    keepsDefault: options['withoutDefault'] !== true,
    groups: Number(groups),
    memlockBytes:
      memlock === undefined || memlock === 'unlimited'
        ? undefined
        : Number(number('--memlock', memlock, BYTES_MAX)),
    hasIpcLock: options['capIpcLock'] === true,
  }
}

export const fitCommand: Command = {
  name: 'fit',
  summary: 'say whether a VM fits a POWER host, with the sums',
  positionals: [],
  options: [
    { flags: '--ram <size>', doc: 'memory of the VM' },
    { flags: '--vfio <version>', doc: 'kind of SPAPR container (v2)', choices: ['v1', 'v2'] },
    { flags: '--host-page <size>', doc: 'system page of the host (64K)', choices: Object.keys(HOST_PAGES) },
    { flags: '--huge <size>', doc: 'hugetlb pages that back all memory', choices: Object.keys(HUGE_PAGES) },
    { flags: '--window <size...>', doc: 'a window to make: SIZE, SIZE:PAGE or SIZE:PAGE:LEVELS; repeatable' },
    { flags: '--page <size>', doc: "IOMMU page of the windows (the host's page)" },
    { flags: '--levels <n>', doc: 'levels of their tables (the fewest that will do)' },
    { flags: '--without-default', doc: 'the default window is removed before it is used' },
    { flags: '--groups <n>', doc: 'IOMMU groups that are passed through (1)' },
    { flags: '--phb <phb>', doc: 'kind of the host bridges (phb4)', choices: Object.keys(PHB_PAGE_SHIFTS) },
    { flags: '--memlock <size>', doc: 'RLIMIT_MEMLOCK, or unlimited' },
    { flags: '--cap-ipc-lock', doc: 'the process has CAP_IPC_LOCK' },
    { flags: '--json', doc: 'print one JSON object' },
  ],
  examples: [
    ['iommulator fit --ram 16G --memlock 16G', 'the memory alone'],
    ['iommulator fit --ram 64G --huge 1G --window 64G:1G', 'a direct window of large pages'],
    ['iommulator fit --ram 2G --vfio v1 --groups 3', 'three groups, in a container each'],
  ],
  async run({ options }, io) {
    const result = fit(requestOf(options))
    io.out(options['json'] === true ? jsonText(fitJson(result)) : fitText(result, io.paint))
    return result.fits ? EXIT.CLEAN : EXIT.FINDINGS
  },
}
