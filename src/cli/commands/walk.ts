import { resolveProfile } from '../../bits/errata.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { hiOf, loOf, parseU64 } from '../../bits/u64.ts'
import { featuresOf } from '../../hw/vtd/capabilities.ts'
import { ADDRESS_TYPE, NO_PASID, newRequest, PERM, type VtdRequest } from '../../hw/vtd/ports.ts'
import { EVERY_FEATURE, type TableFeatures } from '../../hw/vtd/tables/features.ts'
import { ERRATA } from '../../machine/registry.ts'
import type { Dump } from '../../machine/walk/dump-memory.ts'
import { walkTables } from '../../machine/walk/table-walk.ts'
import { walkJson, walkText } from '../../machine/walk/walk-text.ts'
import type { Command, Invocation } from '../command.ts'
import { EXIT } from '../exit.ts'
import { jsonText } from '../json-text.ts'
import { openDump } from '../memory-dump.ts'
import { PROFILE_NAMES } from '../profiles.ts'

const PAGE_SHIFT = 12n
const PASID_BITS = 20
const SOURCE_BITS = 16
/** Bits 11:10 of a root table address: the mode. */
const TTM_SHIFT = 10n
const TTM_MASK = 3n
/** Widest addresses of memory that there are. */
const HOST_BITS_MAX = 52
const HOST_BITS_MIN = 32
/** Registers of a dump. (VT-d manual, Register Descriptions) */
const REGISTER = { CAP: 0x08, ECAP: 0x10, RTADDR: 0x20 } as const

const ACCESS: Readonly<Record<string, number>> = {
  read: PERM.READ,
  write: PERM.WRITE,
  'read-write': PERM.READ | PERM.WRITE,
  execute: PERM.EXECUTE,
}
const REQUESTS: Readonly<Record<string, number>> = {
  untranslated: ADDRESS_TYPE.UNTRANSLATED,
  translation: ADDRESS_TYPE.TRANSLATION_REQUEST,
  translated: ADDRESS_TYPE.TRANSLATED,
}

const wrong = (option: string, text: string, why: string): IommulatorError =>
  new IommulatorError('ERR_NUMBER', `${option} ${text}: ${why}`)

function numberOf(options: Invocation['options'], option: string, bits = 64): bigint | undefined {
  const text = options[option]
  if (typeof text !== 'string') return undefined
  try {
    return parseU64(text, bits)
  } catch (error) {
    throw wrong(`--${option}`, text, (error as Error).message)
  }
}

const BDF = /^(?:[0-9a-f]{4}:)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-9a-f])$/i

/** `00:03.0`, or the source-id as a number. */
function sourceOf(text: string): number {
  const match = BDF.exec(text)
  if (match === null) {
    if (text.includes(':')) throw wrong('--source', text, 'no device in the form of 00:03.0')
    return Number(numberOf({ source: text }, 'source', SOURCE_BITS))
  }
  const [bus, device, fn] = [match[1], match[2], match[3]].map((t) => Number.parseInt(t as string, 16))
  if ((device as number) > 31) throw wrong('--source', text, 'a bus has 32 devices')
  if ((fn as number) > 7) throw wrong('--source', text, 'a device has 8 functions')
  return ((bus as number) << 8) | ((device as number) << 3) | (fn as number)
}

function requestOf(options: Invocation['options']): VtdRequest {
  const { source, iova } = options
  if (typeof source !== 'string') throw wrong('--source', 'is missing', 'say which device, as in 00:03.0')
  if (typeof iova !== 'string') throw wrong('--iova', 'is missing', 'say which address')
  const address = numberOf(options, 'iova') as bigint
  const pasid = numberOf(options, 'pasid', PASID_BITS)
  return {
    ...newRequest(),
    source: sourceOf(source),
    pasid: pasid === undefined ? NO_PASID : Number(pasid),
    hi: hiOf(address),
    lo: loOf(address),
    need: ACCESS[(options['access'] as string | undefined) ?? 'read'] as number,
    addressType: REQUESTS[(options['request'] as string | undefined) ?? 'untranslated'] as number,
    isPrivileged: options['privileged'] === true,
  }
}

/** What the unit can do: as the options say, or the registers of the dump, or anything. */
function featuresFor(options: Invocation['options'], { registers }: Dump): TableFeatures {
  const cap = numberOf(options, 'cap') ?? registers.get(REGISTER.CAP)
  const ecap = numberOf(options, 'ecap') ?? registers.get(REGISTER.ECAP)
  const haw = numberOf(options, 'haw')
  if (haw !== undefined && (haw < HOST_BITS_MIN || haw > HOST_BITS_MAX)) {
    throw wrong('--haw', `${haw}`, `${HOST_BITS_MIN} to ${HOST_BITS_MAX} bits`)
  }
  if ((cap === undefined) !== (ecap === undefined)) {
    throw wrong('--cap', 'and --ecap', 'give both, or none')
  }
  const known = cap === undefined || ecap === undefined ? EVERY_FEATURE : featuresOf(cap, ecap, HOST_BITS_MAX)
  // No unit takes wider addresses of memory than of devices.
  const hostAddressBits = Math.max(HOST_BITS_MIN, Math.min(HOST_BITS_MAX, known.maxAddressBits))
  return { ...known, hostAddressBits: haw === undefined ? hostAddressBits : Number(haw) }
}

function rootOf(options: Invocation['options'], { registers }: Dump): bigint {
  const root = numberOf(options, 'root') ?? registers.get(REGISTER.RTADDR)
  if (root !== undefined) return root
  throw wrong('--root', 'is missing', 'the dump does not say where the root table is')
}

export const walkCommand: Command = {
  name: 'walk',
  summary: 'walk VT-d tables in a dump of memory for one address',
  positionals: [],
  options: [
    { flags: '--mem <dump>', doc: 'memory from address 0 on (raw, gzip, xz), or its tables as JSON' },
    { flags: '--root <address>', doc: 'root table address register: the table, and the mode in bits 11:10' },
    { flags: '--source <bdf>', doc: 'device: 00:03.0, or its source-id' },
    { flags: '--iova <address>', doc: 'address that the device sends' },
    { flags: '--pasid <pasid>', doc: 'PASID of the request (none)' },
    { flags: '--access <what>', doc: 'what it does (read)', choices: Object.keys(ACCESS) },
    { flags: '--request <kind>', doc: 'kind of request (untranslated)', choices: Object.keys(REQUESTS) },
    { flags: '--privileged', doc: 'the request has privilege' },
    { flags: '--cap <value>', doc: 'capability register (that of the dump, or a unit that can do all)' },
    { flags: '--ecap <value>', doc: 'extended capability register' },
    { flags: '--haw <bits>', doc: 'width of memory addresses (that of device addresses, at most 52)' },
    {
      flags: '--profile <profile>',
      doc: 'whose unit it is: its deviations are on (intended)',
      offer: () => PROFILE_NAMES,
    },
    { flags: '--json', doc: 'print one JSON object' },
  ],
  examples: [
    ['iommulator walk --mem ram.img --root 0x271e000 --source 00:03.0 --iova 0x1000', 'an image'],
    ['iommulator walk --mem x.tables.json.xz --source 0x18 --iova 0x1000', 'tables alone'],
  ],
  async run({ options }, io) {
    const path = options['mem']
    if (typeof path !== 'string') throw wrong('--mem', 'is missing', 'give a dump of memory')
    const request = requestOf(options)
    const profile = resolveProfile(ERRATA, (options['profile'] as string | undefined) ?? 'intended')
    const dump = await openDump(path, io.stdin)
    try {
      const root = rootOf(options, dump)
      const walk = {
        memory: dump.memory,
        features: featuresFor(options, dump),
        has: profile.has,
        root: Number(root >> PAGE_SHIFT),
        ttm: Number((root >> TTM_SHIFT) & TTM_MASK),
        request,
      }
      const result = walkTables(walk)
      io.out(options['json'] === true ? jsonText(walkJson(walk, result)) : walkText(walk, result))
      return result.answer.fault === 0 ? EXIT.CLEAN : EXIT.FINDINGS
    } finally {
      dump.close()
    }
  },
}
