import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { hexDigits } from '../bits/byte-text.ts'
import { IommulatorError } from '../bits/errors.ts'
import { hex } from '../bits/u64.ts'
import { VTD_ENDPOINT_NAMES, type VtdEndpointName } from '../machine/lockstep/vtd-request-step.ts'
import {
  VTD_AREAS,
  VTD_REGISTER_BYTES,
  type VtdArea,
  VtdWatch,
  vtdLooks,
} from '../machine/lockstep/vtd-state.ts'
import {
  VTD_BRIDGE_SLOT,
  VTD_DEVICE_NAMES,
  VTD_DEVICES,
  VTD_RAM_BYTES,
  type VtdDeviceName,
  type VtdPlaces,
  type VtdScript,
  type VtdStep,
} from '../machine/lockstep/vtd-step.ts'
import { vtdDeviceArgument } from '../machine/lockstep/vtd-unit-options.ts'
import { PeerProcess } from './peer-process.ts'
import { endsWithUs, type PeerProgram } from './programs.ts'
import { Qtest } from './qtest.ts'
import { VtdEndpoints } from './vtd-endpoints.ts'
import type { VtdFiles } from './vtd-files.ts'

/** Looks at a device that does not get ready. */
const LOOKS_MAX = 200_000
/** Where QEMU has the unit of a q35. */
const UNIT = 0xfed9_0000
/** The least that a firmware may have; its last 16 bytes are where the processor begins. */
const FIRMWARE_BYTES = 0x1_0000
/** cli; hlt; and back to it. */
const HALT = [0xfa, 0xf4, 0xeb, 0xfd] as const
const HALT_AT = 0xfff0

const EDU_ID = 0x11e8_1234
const EDU = { source: 0x80, target: 0x88, count: 0x90, command: 0x98, buffer: 0x4_0000n } as const
/** Where registers of devices are put: those on the first bus, and those behind the bridge. */
const BARS = 0xd000_0000
const BAR_BYTES = 0x10_0000
const BRIDGE_DEVFN = VTD_BRIDGE_SLOT << 3
/** A window that forwards nothing: it ends before it begins. */
const NO_WINDOW = 0x0000_fff0
const CONFIG = { id: 0x00, command: 0x04, bar: 0x10, buses: 0x18, window: 0x20 } as const
const MEMORY_AND_MASTER = 6
const CONFIG_ADDRESS = 0xcf8
const CONFIG_DATA = 0xcfc

const deviceArgument = (name: string, source: number): string => {
  const [slot, fn] = [(source >> 3) & 0x1f, source & 7]
  const bus = source >> 8 === 0 ? '' : ',bus=bridge'
  const place = `addr=${slot.toString(16)}.${fn}${bus},multifunction=on`
  return isEndpoint(name) ? `e1000e,id=${name},${place},romfile=` : `edu,${place},dma_mask=0xffffffffffffffff`
}
const isEndpoint = (name: string): name is VtdEndpointName =>
  (VTD_ENDPOINT_NAMES as readonly string[]).includes(name)

/** Extended capabilities of endpoints, where the library puts them, and what switches them on. */
const ATS_CONTROL = { at: 0x206, on: 0x8000 } as const
const PRI_CONTROL = { at: 0x224, on: 1 } as const
const PRI_ALLOCATION = { at: 0x22c, requests: 512 } as const
const PASID_CONTROL = { at: 0x246, on: 7 } as const
/** Where the chipset shows all of configuration space, and the register of the host bridge that says so. */
const WIDE_CONFIG = 0xb000_0000
const WIDE_CONFIG_REGISTER = 0x60
/** Registers behind whose writes responses may have come: GCMD, FSTS, IQT. */
const MAY_RESPOND: readonly number[] = [0x18, 0x34, 0x88]

/** What a machine is made of. */
type VtdParts = Pick<VtdScript, 'unit' | 'devices'>

const machineArguments = (
  { unit, devices = VTD_DEVICES }: VtdParts,
  version: string,
  firmware: string,
): string[] => [
  ...['-M', 'q35', '-m', `${VTD_RAM_BYTES >> 20}M`, '-bios', firmware],
  // Time jumps while the processor waits, so the device's 100 ms for a request cost nothing.
  ...['-accel', 'tcg', '-icount', 'shift=0,sleep=off', '-nodefaults', '-display', 'none', '-net', 'none'],
  ...['-serial', 'none', '-monitor', 'none', '-chardev', 'stdio,id=qtest,signal=off'],
  ...['-qtest', 'chardev:qtest', '-qtest-log', 'none'],
  ...['-device', vtdDeviceArgument(unit, version)],
  ...['-device', `pcie-root-port,id=bridge,chassis=1,slot=1,addr=${(BRIDGE_DEVFN >> 3).toString(16)}.0`],
  ...Object.entries(devices).flatMap(([name, source]) => ['-device', deviceArgument(name, source)]),
]

const barOf = (device: VtdDeviceName): number => BARS + VTD_DEVICE_NAMES.indexOf(device) * BAR_BYTES

/** A q35 with a VT-d unit and devices, without a guest: it lives for one script. */
export class VtdMachine {
  readonly #process: PeerProcess
  readonly #qtest: Qtest
  readonly #folder: string | undefined
  readonly #watch = new VtdWatch()
  readonly #endpoints: VtdEndpoints | undefined
  /** What was sent last has been answered. */
  #idle: Promise<unknown> = Promise.resolve()

  private constructor(program: PeerProgram, answerMs: number, folder: string | undefined) {
    this.#folder = folder
    this.#process = new PeerProcess(program)
    const { input, output, channel } = this.#process
    this.#qtest = new Qtest({ input, output, answerMs })
    this.#endpoints = channel && new VtdEndpoints(channel, answerMs)
    this.#process.onEnd = (why) => {
      this.#qtest.close(why)
      this.#endpoints?.close(why)
    }
  }

  /**
   * Starts the machine and sets up its devices.
   *
   * @param program instead of QEMU, for tests: a program that speaks qtest
   * @throws IommulatorError ERR_PEER where it does not start
   */
  static async start(
    files: VtdFiles,
    parts: VtdParts,
    answerMs: number,
    program?: PeerProgram,
  ): Promise<VtdMachine> {
    const folder = mkdtempSync(join(tmpdir(), 'iommulator-vtd-'))
    const firmware = join(folder, 'halt.bin')
    const image = new Uint8Array(FIRMWARE_BYTES).fill(HALT[1])
    image.set(HALT, HALT_AT)
    writeFileSync(firmware, image)
    const args = machineArguments(parts, files.version, firmware)
    const { endpoints, setpriv, qemu } = files
    const isTold = Object.keys(parts.devices ?? {}).some(isEndpoint)
    const told = isTold && endpoints !== undefined && { env: { LD_PRELOAD: endpoints }, hasChannel: true }
    const started = program ?? endsWithUs(setpriv, { command: qemu, args, ...told })
    const machine = new VtdMachine(started, answerMs, folder)
    try {
      await machine.#setUpDevices(parts.devices ?? VTD_DEVICES)
    } catch (error) {
      await machine.stop()
      throw error
    }
    return machine
  }

  /** Ends it: it holds nothing that would be lost. */
  async stop(): Promise<void> {
    await this.#process.kill()
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true })
  }

  async run({ steps }: VtdScript): Promise<readonly (string | undefined)[]> {
    // What is read behind a step is waited for at the end only: QEMU answers in order.
    const answers: (Promise<() => string> | undefined)[] = []
    const later = (answer: Promise<() => string>): void => {
      this.#idle = answer.catch(() => undefined)
      answers.push(answer)
    }
    for (const step of steps) {
      let said = ''
      if (step.kind === 'dma') await this.#dma(step)
      else if (step.kind === 'reg') {
        this.#write(step)
        const endpoints = MAY_RESPOND.includes(step.offset) ? this.#endpoints : undefined
        if (endpoints !== undefined) said = await this.#heard(endpoints)
      } else if (step.kind === 'pri' || step.kind === 'ats') {
        await this.#idle
        said = `${await this.#endpoints?.ask(step)} `
      }
      if (step.kind === 'word') {
        this.#words(step.gpa, step.words)
        answers.push(Promise.resolve(() => ''))
      } else if (step.kind === 'look') later(this.#look(step))
      else if (step.kind === 'peek') later(this.#peek(step))
      else later(this.#state(step, said))
    }
    const all: (string | undefined)[] = []
    // In the order of the steps: an answer says what has changed since the one before.
    for (const [i, answer] of answers.entries()) {
      const step = steps[i] as VtdStep
      const text = (await answer)?.()
      if (step.kind === 'word') this.#watch.wrote(step.gpa, step.words)
      all.push(step.kind === 'word' ? undefined : text)
    }
    return all
  }

  /** Nobody waits for it: who waits for a later command sees that the peer is lost. */
  #ignore(answer: Promise<unknown>): void {
    this.#idle = answer.catch(() => undefined)
  }

  #words(gpa: number, words: readonly bigint[]): void {
    const view = new DataView(new ArrayBuffer(words.length * 8))
    for (const [i, word] of words.entries()) view.setBigUint64(i * 8, word, true)
    this.#ignore(this.#qtest.write(gpa, new Uint8Array(view.buffer)))
  }

  #write({ offset, widthBytes, value }: Extract<VtdStep, { kind: 'reg' }>): void {
    const name = widthBytes === 4 ? 'writel' : 'writeq'
    this.#ignore(this.#qtest.command(`${name} ${hex(UNIT + offset)} ${hex(value)}`))
  }

  /** The responses that devices got because of a write. */
  async #heard(endpoints: VtdEndpoints): Promise<string> {
    await this.#idle
    return endpoints.heard()
  }

  async #look({ offset, widthBytes }: Extract<VtdStep, { kind: 'look' }>): Promise<() => string> {
    const bytes = await this.#qtest.command(`${widthBytes === 4 ? 'readl' : 'readq'} ${hex(UNIT + offset)}`)
    return () => hex(BigInt(bytes))
  }

  async #peek({ gpa, bytes }: Extract<VtdStep, { kind: 'peek' }>): Promise<() => string> {
    const data = await this.#qtest.read(gpa, bytes)
    return () => hexDigits(data)
  }

  async #state(step: VtdStep, said: string): Promise<() => string> {
    const registers = this.#qtest.read(UNIT, VTD_REGISTER_BYTES)
    registers.catch(() => undefined)
    const looks = vtdLooks(step).map((name) => {
      const { gpa, bytes } = VTD_AREAS[name]
      const read = this.#qtest.read(gpa, bytes)
      read.catch(() => undefined)
      return { name, read }
    })
    const seen = await registers
    const memory: Partial<Record<VtdArea, Uint8Array>> = {}
    for (const { name, read } of looks) memory[name] = await read
    return () => `${said}${this.#watch.changes(seen, memory)}`
  }

  async #dma({ device, direction, iova, bytes, at = 0 }: Extract<VtdStep, { kind: 'dma' }>): Promise<void> {
    const bar = barOf(device)
    const inBuffer = EDU.buffer + BigInt(at)
    const toMemory = direction === 'write'
    const set = (register: number, value: bigint): void => {
      this.#ignore(this.#qtest.writeWord(bar + register, value))
    }
    set(EDU.source, toMemory ? inBuffer : iova)
    set(EDU.target, toMemory ? iova : inBuffer)
    set(EDU.count, BigInt(bytes))
    set(EDU.command, toMemory ? 3n : 1n)
    for (let look = 0; look < LOOKS_MAX; look++) {
      if (((await this.#qtest.readWord(bar + EDU.command)) & 1n) === 0n) return
    }
    this.#qtest.close('the edu device does not get ready')
    throw new IommulatorError('ERR_PEER', 'the peer is lost: the edu device does not get ready')
  }

  async #setUpDevices(places: VtdPlaces): Promise<void> {
    const devices = VTD_DEVICE_NAMES.flatMap((device) => {
      const source = places[device]
      return source === undefined ? [] : [{ device, source }]
    })
    const behind = devices.find(({ source }) => source >> 8 !== 0)
    // The bridge forwards one bus, and the memory of what is behind it.
    const base = behind === undefined ? undefined : (barOf(behind.device) >>> 16) & 0xfff0
    const window = base === undefined ? NO_WINDOW : ((base << 16) | base) >>> 0
    await this.#config(BRIDGE_DEVFN, CONFIG.buses, 0x0001_0100)
    await this.#config(BRIDGE_DEVFN, CONFIG.window, window)
    await this.#config(BRIDGE_DEVFN, CONFIG.command, MEMORY_AND_MASTER)
    for (const { device, source } of devices) {
      await this.#config(source, CONFIG.id)
      const id = await this.#qtest.command(`inl ${hex(CONFIG_DATA)}`)
      if (Number(id) !== EDU_ID) {
        throw new IommulatorError('ERR_PEER', `the peer has no ${device}: its id reads ${id}`)
      }
      await this.#config(source, CONFIG.bar, barOf(device))
      await this.#config(source, CONFIG.command, MEMORY_AND_MASTER)
    }
    if (this.#endpoints !== undefined) await this.#setUpEndpoints(places, this.#endpoints)
  }

  /** Capabilities of PCI Express, which are on where configuration space is wide only. */
  async #setUpEndpoints(places: VtdPlaces, endpoints: VtdEndpoints): Promise<void> {
    await this.#config(0, WIDE_CONFIG_REGISTER, WIDE_CONFIG + 1)
    for (const device of VTD_ENDPOINT_NAMES) {
      const source = places[device]
      if (source === undefined) continue
      await endpoints.attach(device)
      const at = WIDE_CONFIG + source * 0x1000
      const write = (name: 'writew' | 'writel', offset: number, value: number) =>
        this.#qtest.command(`${name} ${hex(at + offset)} ${hex(value)}`)
      await this.#config(source, CONFIG.command, MEMORY_AND_MASTER)
      await write('writew', PASID_CONTROL.at, PASID_CONTROL.on)
      await write('writel', PRI_ALLOCATION.at, PRI_ALLOCATION.requests)
      await write('writew', PRI_CONTROL.at, PRI_CONTROL.on)
      await write('writew', ATS_CONTROL.at, ATS_CONTROL.on)
      await endpoints.listen(device)
    }
  }

  /** Selects a word of configuration space, and writes it where there is a value. */
  async #config(source: number, register: number, value?: number): Promise<void> {
    const address = (0x8000_0000 | (source << 8) | register) >>> 0
    await this.#qtest.command(`outl ${hex(CONFIG_ADDRESS)} ${hex(address)}`)
    if (value !== undefined) await this.#qtest.command(`outl ${hex(CONFIG_DATA)} ${hex(value)}`)
  }
}
