import type { Duplex } from 'node:stream'
import { IommulatorError } from '../bits/errors.ts'
import { hex } from '../bits/u64.ts'
import {
  VTD_HEARD_PASIDS,
  type VtdEndpointName,
  type VtdRequestStep,
  vtdHeardText,
  vtdRightsText,
  vtdTranslationsText,
} from '../machine/lockstep/vtd-request-step.ts'
import { Qtest } from './qtest.ts'

const NO_PASID = 0xffff_ffff
const PAGE_FLAGS = { r: 1, w: 2, x: 4, p: 8, l: 16 } as const
const TRANSLATION_FLAGS = { n: 1, x: 4, p: 8 } as const
/** What QEMU answers to a page request: it has stored it, or has no place for it (ENOSPC). Others are refusals. */
const ENDS: Readonly<Record<string, string>> = { '0': 'queued', '-28': 'dropped' }
const READ_AND_WRITE = 3
/**
 * One translation: where to, the mask of its page, and bits that allow. Behind a page that ends where addresses end QEMU
 * says that there is no room for others (-12, ENOMEM).
 */
const TRANSLATION = /^(?:1|-12) (0|0x[0-9a-f]+) (0|0x[0-9a-f]+) (\d+)$/
const PAGE_BYTES = 4096n

const bitsOf = (flags: string, of: Readonly<Record<string, number>>): number =>
  [...flags].reduce((bits, flag) => bits | (of[flag] ?? 0), 0)

/**
 * Devices of a QEMU that are told to send PCI Express messages by the library that it was started with
 * (`peers/vtd/endpoints.c`): a command a line, and an answer a line.
 *
 * QEMU takes these beside its qtest commands: who wants an order waits for one before it gives the next.
 */
export class VtdEndpoints {
  readonly #line: Qtest

  constructor(channel: Duplex, answerMs: number) {
    this.#line = new Qtest({ input: channel, output: channel, answerMs })
  }

  /** The other side is gone. */
  close(why: string): void {
    this.#line.close(why)
  }

  /** Gives a device the capabilities for PASIDs, page requests and translation requests. */
  async attach(device: VtdEndpointName): Promise<void> {
    await this.#line.command(`attach ${device}`)
  }

  /** From here on it hears responses. The capabilities have to be switched on. */
  async listen(device: VtdEndpointName): Promise<void> {
    for (const pasid of VTD_HEARD_PASIDS) await this.#line.command(`listen ${device} ${pasid}`)
  }

  /** What came of a request, as the answer of the step says it. */
  ask(step: VtdRequestStep): Promise<string> {
    const { device, pasid = NO_PASID, address } = step
    const head = `${device} ${hex(pasid)}`
    return step.kind === 'pri'
      ? this.#page(`page ${head} ${hex(address)} ${step.group} ${bitsOf(step.flags, PAGE_FLAGS)}`)
      : this.#translations(`translate ${head}`, step)
  }

  /** The responses that came since the last time. */
  async heard(): Promise<string> {
    const text = await this.#line.command('responses')
    return vtdHeardText(text === '' ? [] : text.trim().split(' '))
  }

  async #page(command: string): Promise<string> {
    return `end=${ENDS[await this.#line.command(command)] ?? 'refused'}`
  }

  /** One page after the other: what QEMU says of a stretch depends on how far it came where nothing is mapped. */
  async #translations(head: string, step: Extract<VtdRequestStep, { kind: 'ats' }>): Promise<string> {
    const flags = bitsOf(step.flags, TRANSLATION_FLAGS)
    const found: string[] = []
    const end = step.address + BigInt(step.bytes)
    for (let at = step.address; at < end; ) {
      const command = `${head} ${hex(at)} ${flags}`
      const answer = await this.#line.command(command)
      const [, to, mask, rights] = TRANSLATION.exec(answer) ?? []
      if (to === undefined || mask === undefined) {
        const what = `the peer answered ${JSON.stringify(answer)} to ${command}`
        throw new IommulatorError('ERR_PEER', what)
      }
      const allowed = Number(rights) & READ_AND_WRITE
      const bytes = allowed === 0 ? PAGE_BYTES : BigInt(mask) + 1n
      found.push(vtdRightsText(BigInt(to), bytes, allowed))
      at = (at & -bytes) + bytes
    }
    return vtdTranslationsText(found)
  }
}
