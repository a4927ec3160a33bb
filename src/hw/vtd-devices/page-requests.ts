import { Held } from '../../bits/held.ts'
import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { PAGE_RESPONSE } from '../../trace/event-codes.ts'
import type { PageRequest, PageResponse } from '../vtd/ports.ts'
import type { PageRequestEnd, VtdUnitPort } from './unit-port.ts'

/** Indices of groups have 9 bits. */
export const GROUPS = 512

// Cells of the state.
const ON = 0
const FAILED = 1
const UNEXPECTED = 2
const CREDITS = 3
const NEXT_GROUP = 4
const CELLS = 5

/** A group of page requests that a response is missing for; with its last one sent, `isWhole`. */
interface Group<A> {
  readonly group: number
  readonly pasid: number
  readonly requests: number
  /** What is tried again with the response. */
  readonly access: A | undefined
}

/** What a response, or a reset, means to accesses that waited. */
export interface Ended<A> {
  readonly again: readonly A[]
  readonly failed: readonly A[]
}

export interface PageRequestOptions {
  readonly name: string
  readonly source: number
  /** Page requests that may wait for a response at most. */
  readonly most: number
}

/**
 * The page requests of a device: credits, groups and the status of the interface. (PCI Express Base Specification, Page
 * Request Services)
 */
export class PageRequests<A> {
  readonly #options: PageRequestOptions
  readonly #unit: VtdUnitPort
  readonly #state: Cells
  readonly #groups: Held<readonly Group<A>[]>

  constructor(options: PageRequestOptions, unit: VtdUnitPort, journal: Journal) {
    const { name, most } = options
    this.#options = options
    this.#unit = unit
    this.#state = new Cells(journal, keyOf('page requests', name), CELLS)
    this.#groups = new Held<readonly Group<A>[]>(journal, `page requests of ${name}`, [], (groups) =>
      keyOf(...groups.flatMap((g) => [g.group, g.pasid, g.requests, g.access === undefined ? 0 : 1])),
    )
    this.#state.set(CREDITS, most)
  }

  get isOn(): boolean {
    return this.#state.get(ON) !== 0
  }

  /** RF: a response said failure. */
  get hasFailed(): boolean {
    return this.#state.get(FAILED) !== 0
  }

  /** UPRGI: a response came for a group that did not wait for one. */
  get hasUnexpected(): boolean {
    return this.#state.get(UNEXPECTED) !== 0
  }

  get groups(): number {
    return this.#groups.value.length
  }

  /** Accesses that wait. */
  get accesses(): number {
    return this.#groups.value.filter((g) => g.access !== undefined).length
  }

  /** Switches the interface on, with a clear status. */
  enable(requests = this.#options.most): void {
    this.#state.set(ON, 1)
    this.#state.set(FAILED, 0)
    this.#state.set(UNEXPECTED, 0)
    this.#state.set(CREDITS, Math.min(requests, this.#options.most))
  }

  disable(): void {
    this.#state.set(ON, 0)
  }

  /** Forgets what it has asked for. */
  reset(): Ended<A> {
    const failed = this.#accesses(this.#groups.value)
    this.#groups.set([])
    this.#state.set(FAILED, 0)
    this.#state.set(UNEXPECTED, 0)
    return { again: [], failed }
  }

  /** Whether so many more requests may wait. */
  hasCredits(requests: number): boolean {
    const waiting = this.#groups.value.reduce((n, g) => n + g.requests, 0)
    return waiting + requests <= this.#state.get(CREDITS)
  }

  /** An index that no group has that waits. There is one while there are credits. */
  nextGroup(): number {
    let group = this.#state.get(NEXT_GROUP)
    while (this.#groups.value.some((g) => g.group === group)) group = (group + 1) % GROUPS
    this.#state.set(NEXT_GROUP, (group + 1) % GROUPS)
    return group
  }

  /** Sends one request. The unit may answer it with a failure at once: the interface is off then. */
  send(request: PageRequest, access?: A): { readonly end: PageRequestEnd; readonly ended: Ended<A> } {
    const { group, pasid, isRead, isWrite, isLast } = request
    // A stop marker asks for no response.
    const isMarker = isLast && !isRead && !isWrite
    const end = this.#unit.pageRequest(request)
    if (end === 'queued' && !isMarker) {
      const groups = this.#groups.value
      const known = groups.find((g) => g.group === group && g.pasid === pasid)
      const joined = { group, pasid, requests: (known?.requests ?? 0) + 1, access: access ?? known?.access }
      this.#groups.set([...groups.filter((g) => g !== known), joined])
    }
    return { end, ended: end === 'refused' ? this.#fail() : { again: [], failed: [] } }
  }

  /** A response arrives. */
  respond({ group, pasid, code }: PageResponse): Ended<A> {
    const groups = this.#groups.value
    const named = groups.find((g) => g.group === group && g.pasid === pasid)
    if (named === undefined) {
      this.#state.set(UNEXPECTED, 1)
      return { again: [], failed: [] }
    }
    if (code !== PAGE_RESPONSE.SUCCESS && code !== PAGE_RESPONSE.INVALID) return this.#fail()
    this.#groups.set(groups.filter((g) => g !== named))
    const accesses = this.#accesses([named])
    return code === PAGE_RESPONSE.SUCCESS ? { again: accesses, failed: [] } : { again: [], failed: accesses }
  }

  /** A response of failure switches the interface off, and ends all that waits. */
  #fail(): Ended<A> {
    const failed = this.#accesses(this.#groups.value)
    this.#groups.set([])
    this.#state.set(ON, 0)
    this.#state.set(FAILED, 1)
    return { again: [], failed }
  }

  #accesses(groups: readonly Group<A>[]): A[] {
    return groups.flatMap((g) => (g.access === undefined ? [] : [g.access]))
  }
}
