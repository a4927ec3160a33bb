/** Pseudonyms of one kind, at most; later ones share the last. */
const NAMES_MAX = 100_000

const QUOTED = /"[^"]*"/g
/** Addresses and table entries; numbers below 0x10000 are codes, PASIDs and the first pages of an address space. */
const PREFIXED = /\b0x[0-9a-fA-F]{5,16}\b/g
/** In words of the log itself: digits without 0x as well. */
const BARE = /\b(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{8,16}\b/g
const BARE_IN_LOG = /\b(?:0x)?[0-9a-fA-F]{5,16}\b/g
/** Also longer ones, as those of InfiniBand and names of Fibre Channel ports. */
const MAC = /(?<![\w:-])[0-9a-fA-F]{2}(?:(?::[0-9a-fA-F]{2}){5,19}|(?:-[0-9a-fA-F]{2}){5,19})(?![\w-]|:\w)/g
/** What may be an IPv6 address: `isIpv6` tells. */
const COLONS = /(?<!\w)[0-9a-fA-F]{0,4}:[0-9a-fA-F:]{1,40}(?:(?:\.\d{1,3}){3})?(?!\w)/g
const UUID = /\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b/g
const IPV4 = /\b\d{1,3}(?:\.\d{1,3}){3}\b/g
const SERIAL = /\b(serial(?: ?(?:number|no\.?))?|S\/N|SN|WWN|wwid|uuid)([ :=#]{1,3})([^\s,;"']{3,80})/gi
const SPECIAL = /[\\^$.*+?()[\]{}|/]/g

const GROUP = /^[0-9a-fA-F]{1,4}$/
const IPV6_GROUPS = 8

/** Eight groups, or fewer around one `::`; so no bus:device.function, no time of day and no pair of PCI ids is one. */
function isIpv6(text: string): boolean {
  const sides = text.split('::')
  const groups = sides.flatMap((side) => (side === '' ? [] : side.split(':')))
  const last = groups.at(-1) ?? ''
  const hasIpv4 = last.includes('.')
  if (!(hasIpv4 ? groups.slice(0, -1) : groups).every((group) => GROUP.test(group))) return false
  const count = groups.length + (hasIpv4 ? 1 : 0)
  return sides.length === 2 ? count > 0 && count < IPV6_GROUPS : sides.length === 1 && count === IPV6_GROUPS
}

/** Fields of JSON that hold no address, though they are written as one. */
const PUBLIC_FIELDS: ReadonlySet<string> = new Set(['cap', 'ecap', 'schema'])

/**
 * Replaces what tells of one machine: addresses, serial numbers, MAC and IP addresses, names of hosts. The same one gets
 * the same pseudonym; devices (bus:device.function), reasons, counts and times stay.
 *
 * @example new Redactor(['box']).text('box wrote 0x9c000000') // 'host#1 wrote addr#1'
 */
export class Redactor {
  readonly #names = new Map<string, string>()
  readonly #counts = new Map<string, number>()
  #hosts: RegExp | undefined

  constructor(hosts: readonly string[] = []) {
    this.hide(hosts)
  }

  /** Names of hosts that are replaced from now on: all that are known. */
  hide(hosts: readonly string[]): void {
    const words = hosts.filter((host) => host !== '').map((host) => host.replace(SPECIAL, '\\$&'))
    this.#hosts =
      words.length === 0 ? undefined : new RegExp(`(?<![\\w.-])(?:${words.join('|')})(?![\\w-])`, 'g')
  }

  text(text: string): string {
    let out = text.replace(
      SERIAL,
      (_, name: string, gap: string, value: string) => name + gap + this.#of('id', value),
    )
    out = out
      .replace(UUID, (found) => this.#of('id', found))
      .replace(MAC, (found) => this.#of('mac', found.toLowerCase().replaceAll('-', ':')))
    if (out.includes(':')) out = out.replace(COLONS, (found) => this.#ipv6(found))
    out = out.replace(IPV4, (found) => this.#of('ip', found))
    if (this.#hosts !== undefined) out = out.replace(this.#hosts, (found) => this.#of('host', found))
    out = out.replace(QUOTED, (quoted) => quoted.replace(BARE_IN_LOG, (found) => this.#address(found)))
    return out
      .replace(PREFIXED, (found) => this.#address(found))
      .replace(BARE, (found) => this.#address(found))
  }

  /** All texts of a value, below their names. */
  json(value: unknown, name = ''): unknown {
    if (typeof value === 'string') return PUBLIC_FIELDS.has(name) ? value : this.text(value)
    if (Array.isArray(value)) return value.map((item) => this.json(item, name))
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.json(item, key)]))
  }

  /** A colon may stand before and behind an address: it is not of it. */
  #ipv6(found: string): string {
    const before = found.startsWith(':') && !found.startsWith('::') ? ':' : ''
    const behind = found.endsWith(':') && !found.endsWith('::') ? ':' : ''
    const address = found.slice(before.length, found.length - behind.length)
    return isIpv6(address) ? before + this.#of('ip', address.toLowerCase()) + behind : found
  }

  /** The same number has one pseudonym, however it is written. */
  #address(text: string): string {
    return this.#of(
      'addr',
      text
        .toLowerCase()
        .replace(/^0x/, '')
        .replace(/^0+(?=.)/, ''),
    )
  }

  #of(kind: string, text: string): string {
    const key = `${kind} ${text}`
    const known = this.#names.get(key)
    if (known !== undefined) return known
    const count = Math.min(NAMES_MAX, (this.#counts.get(kind) ?? 0) + 1)
    this.#counts.set(kind, count)
    const name = `${kind}#${count}`
    if (count < NAMES_MAX) this.#names.set(key, name)
    return name
  }
}
