import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { Answer, Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import { CODE_FAMILIES } from '../../src/bits/codes.ts'
import * as core from '../../src/kernel/vfio/calls.ts'
import * as spapr from '../../src/kernel/vfio/spapr-calls.ts'
import { makeVfio, type VfioWorld } from '../support/vfio.ts'

const NO_FD = 0xffff_ffffn

/** The program that ran the commands: its descriptors by the numbers that the commands use. */
class Agent {
  readonly #world: VfioWorld
  readonly #containers = new Map<string, bigint>()
  readonly #groups = new Map<string, bigint>()
  #container = NO_FD
  #device = NO_FD

  constructor(profile: string) {
    this.#world = makeVfio({ profile, frames: 4096, pages: 1n })
    this.#world.qemu.allow({ memlockBytes: 0n, hasIpcLock: true })
    this.#world.qemu.mm.munmap(0x1_0000_0000n, 0x1_0000n)
  }

  /** What the program prints for a command. */
  run(line: string): string {
    const [verb = '', ...words] = line.split(' ')
    return `${line} => ${this.#answer(verb, words)}`.trimEnd()
  }

  #answer(verb: string, words: readonly string[]): string {
    const n = (i: number): bigint => BigInt(words[i] ?? 0)
    const fd = this.#container
    const group = this.#groups.get(words[0] ?? '') ?? NO_FD
    switch (verb) {
      case 'open':
        this.#container = this.#world.container()
        this.#containers.set(words[0] ?? '', this.#container)
        return '0'
      case 'group':
        this.#groups.set(words[0] ?? '', this.#world.group(Number(n(0))))
        return '0'
      case 'close':
        return this.#plain(core.CLOSE, { fd: this.#containers.get(words[0] ?? '') ?? NO_FD })
      case 'groupclose':
        return this.#plain(core.CLOSE, { fd: group })
      case 'devclose':
        return this.#plain(core.CLOSE, { fd: this.#device })
      case 'version':
        return this.#plain(core.VFIO_GET_API_VERSION, { fd })
      case 'ext':
        return this.#plain(core.VFIO_CHECK_EXTENSION, { fd, extension: n(0) })
      case 'iommu':
        return this.#plain(core.VFIO_SET_IOMMU, { fd, type: n(0) })
      case 'attach':
        return this.#plain(core.VFIO_GROUP_SET_CONTAINER, { fd: group, container: fd })
      case 'detach':
        return this.#plain(core.VFIO_GROUP_UNSET_CONTAINER, { fd: group })
      case 'groupstatus':
        return this.#shown(core.VFIO_GROUP_GET_STATUS, { fd: group }, (o) => `flags=${o('flags')}`)
      case 'enable':
        return this.#plain(spapr.VFIO_IOMMU_ENABLE, { fd })
      case 'disable':
        return this.#plain(spapr.VFIO_IOMMU_DISABLE, { fd })
      case 'info':
        return this.#shown(
          spapr.VFIO_IOMMU_SPAPR_TCE_GET_INFO,
          { fd, argsz: words.length > 0 ? n(0) : 32n },
          (o, d) =>
            `flags=${o('flags')} dma32=${o('dma32_start')}+${o('dma32_bytes')} pgsizes=${o('pgsizes')} ` +
            `maxwin=${d('max_windows')} levels=${d('levels')}`,
        )
      case 'register':
      case 'unregister': {
        const decl =
          verb === 'register'
            ? spapr.VFIO_IOMMU_SPAPR_REGISTER_MEMORY
            : spapr.VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY
        return this.#plain(decl, { fd, vaddr: n(0), bytes: n(1), flags: n(2) })
      }
      case 'map': {
        const flags = words.length > 3 ? n(3) : 3n
        return this.#plain(spapr.VFIO_IOMMU_MAP_DMA, { fd, iova: n(0), vaddr: n(1), bytes: n(2), flags })
      }
      case 'unmap':
        return this.#shown(
          spapr.VFIO_IOMMU_UNMAP_DMA,
          { fd, iova: n(0), bytes: n(1), flags: n(2) },
          (o) => `size=${o('bytes')}`,
        )
      case 'create':
        return this.#shown(
          spapr.VFIO_IOMMU_SPAPR_TCE_CREATE,
          { fd, page_shift: n(0), window_bytes: n(1), levels: n(2), flags: n(3) },
          (o) => `start=${o('start_addr')}`,
        )
      case 'remove':
        return this.#plain(spapr.VFIO_IOMMU_SPAPR_TCE_REMOVE, { fd, start_addr: n(0) })
      case 'anon':
        this.#world.mmap(n(0), n(1))
        return '0'
      case 'vmlck':
        return `0 VmLck=${this.#world.qemu.mm.locked.pages * 64n}kB VmPin=0kB`
      default:
        throw new Error(`the agent does not know ${verb}`)
    }
  }

  #plain(decl: CallDecl, args: Record<string, Value>): string {
    return returned(this.#world.call(decl, args))
  }

  #shown(
    decl: CallDecl,
    args: Record<string, Value>,
    show: (hex: (name: string) => string, decimal: (name: string) => string) => string,
  ): string {
    const answer = this.#world.call(decl, args)
    const of = (name: string) => answer.outputs[name] as bigint
    return `${returned(answer)} ${show(
      (name) => `0x${of(name).toString(16)}`,
      (name) => `${of(name)}`,
    )}`
  }
}

/** A return value as the program prints it. */
function returned({ state, code }: Answer): string {
  if (state !== 'done') return state
  const number = (CODE_FAMILIES.errno as Readonly<Record<string, number>>)[code] ?? 0
  return number < 0 ? `-1 ${code}` : `${number}`
}

/** What the program prints for all lines of a recording. */
function rerun(recorded: string, profile: string): string {
  const agent = new Agent(profile)
  return recorded.replace(/^([a-z][^\n]*?) => .*$/gm, (_line, command: string) => agent.run(command))
}

/** A container without a driver knows no ioctl of one. */
const FIRST_INFO_REFUSED = 'info => -1 EINVAL flags=0x0 dma32=0x0+0x0 pgsizes=0x0 maxwin=0 levels=0'
/** Memory that is mapped is not unregistered (X1), and tables that could not be made are not paid for (X10). */
const INTENDED = [
  'unregister 0x100000000 0x1000000 => -1 EBUSY',
  'unregister 0x100000000 0x1000000 => -1 EBUSY',
  'vmlck => 0 VmLck=16384kB VmPin=0kB',
  'vmlck => 0 VmLck=16384kB VmPin=0kB',
  'register 0x100000000 0x1000000 => -1 EBUSY',
  'vmlck => 0 VmLck=16384kB VmPin=0kB',
  'vmlck => 0 VmLck=16384kB VmPin=0kB',
  'vmlck => 0 VmLck=16384kB VmPin=0kB',
  'vmlck => 0 VmLck=0kB VmPin=0kB',
  'vmlck => 0 VmLck=0kB VmPin=0kB',
]

/** The lines that a profile prints otherwise than they were recorded. */
function otherwise(recorded: string, profile: string): string[] {
  const lines = recorded.split('\n')
  return rerun(recorded, profile)
    .split('\n')
    .filter((line, i) => line !== lines[i])
}

describe.each(['vfio-v2', 'vfio-v1'])('%s: commands that ran on Linux 6.12.95', (name) => {
  const recorded = readFileSync(`test/golden/${name}.answers.txt`, 'utf8')

  it('have the answers of the kernel', () => {
    expect(rerun(recorded, 'linux-6.12.95')).toBe(recorded)
  })

  it('have the same answers before Linux 6.4, but for v1 over dynamic windows', () => {
    const changed = otherwise(recorded, 'linux-6.1')
    if (name === 'vfio-v2') expect(changed).toEqual([])
    else expect(changed.slice(0, 2)).toEqual(['iommu 2 => -1 EPERM', FIRST_INFO_REFUSED])
  })

  it('have others only where the kernel has defects', () => {
    expect(otherwise(recorded, 'intended')).toEqual(name === 'vfio-v2' ? INTENDED : [])
  })
})
