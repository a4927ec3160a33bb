import { TCE_HCALL_R3 } from '../../../kernel/tce-hcalls.ts'
import { type AgentCommand, agentCommandOf } from '../../../reader/kernel-answers-line.ts'
import type { AgentSaid } from '../../replay/kernel-answers-said.ts'

/** Memory that a script may take of a host with 2 GiB. */
const MEMORY_BYTES_MAX = 1n << 30n
/** Bytes of a hardware table that it may ask for. */
const TABLE_BYTES_MAX = 1n << 27n
const TCE_BYTES = 8n
/** Entries of a table that are shown where one was touched, and where it begins. */
const ENTRIES_SHOWN = 8
const QUESTIONS_MAX = 64
/** Bytes of a DMA that are looked for. */
const PEEK_BYTES_MAX = 512n

const LIOBN_HCALLS: readonly bigint[] = Object.values(TCE_HCALL_R3)

interface Table {
  readonly number: number
  readonly liobn: bigint
  readonly pageShift: bigint
  readonly offset: bigint
}
interface Mapping {
  readonly iova: bigint
  readonly bytes: bigint
  readonly vaddr: bigint
}

const num = ({ args }: AgentCommand, name: string): bigint => (args[name] ?? 0n) as bigint

/**
 * What the commands of a script did so far, as far as questions at its end need it: which entries of tables were
 * touched, and where in memory a device wrote.
 */
export class KernelWatch {
  readonly #tables: Table[] = []
  readonly #slots: { readonly gpa: bigint; readonly bytes: bigint; readonly vaddr: bigint }[] = []
  readonly #mappings: Mapping[] = []
  readonly #touched = new Map<string, AgentCommand>()
  readonly #written = new Map<string, AgentCommand>()
  readonly #gone: { readonly vaddr: bigint; readonly bytes: bigint }[] = []
  #memoryBytes = 0n
  tables = 0

  /** Why a command needs more than the peer's host has; undefined where it does not. */
  tooMuch(command: AgentCommand): string | undefined {
    if (command.name === 'anon' && this.#memoryBytes + num(command, 'bytes') > MEMORY_BYTES_MAX) {
      return `more than ${MEMORY_BYTES_MAX >> 20n} MiB of memory: the host of the peer has 2 GiB`
    }
    if (command.name !== 'create') return undefined
    const shift = num(command, 'pageShift')
    const entries = shift < 64n ? num(command, 'bytes') >> shift : 0n
    return entries * TCE_BYTES > TABLE_BYTES_MAX
      ? `a table of more than ${TABLE_BYTES_MAX >> 20n} MiB: the host of the peer has 2 GiB`
      : undefined
  }

  see(command: AgentCommand, said: AgentSaid): void {
    const isDone = said.state === 'answered' && said.answer.value >= 0n
    switch (command.name) {
      case 'anon':
        if (isDone) this.#memoryBytes += num(command, 'bytes')
        break
      case 'unmapmem':
        if (isDone) this.#gone.push({ vaddr: num(command, 'vaddr'), bytes: num(command, 'bytes') })
        break
      case 'slot':
        if (isDone) {
          this.#slots.push({
            gpa: num(command, 'gpa'),
            bytes: num(command, 'bytes'),
            vaddr: num(command, 'vaddr'),
          })
        }
        break
      case 'tce64':
        if (isDone) this.#addTable(num(command, 'liobn'), num(command, 'pageShift'), num(command, 'offset'))
        break
      case 'tce32':
        if (isDone) this.#addTable(num(command, 'liobn'), 12n, 0n)
        break
      case 'tceunmap':
        this.#forget(Number(num(command, 'table')))
        break
      case 'map':
        if (isDone) {
          const [iova, bytes, vaddr] = [num(command, 'iova'), num(command, 'bytes'), num(command, 'vaddr')]
          this.#mappings.push({ iova, bytes, vaddr })
        }
        break
      case 'hcall':
        this.#hypercall(command)
        break
      case 'dma':
        if (command.args['direction'] === 'w') this.#deviceWrote(num(command, 'iova'), num(command, 'bytes'))
        break
      default:
    }
  }

  /** What is asked at the end of a script: locked_vm, entries of tables, memory that devices wrote. */
  questions(): AgentCommand[] {
    const isThere = (command: AgentCommand): boolean => {
      const [vaddr, bytes] = [num(command, 'vaddr'), num(command, 'bytes')]
      return !this.#gone.some((g) => vaddr < g.vaddr + g.bytes && g.vaddr < vaddr + bytes)
    }
    return [
      agentCommandOf('vmlck', {}),
      ...[...this.#touched.values()].slice(0, QUESTIONS_MAX),
      ...[...this.#written.values()].filter(isThere).slice(0, QUESTIONS_MAX),
    ]
  }

  #addTable(liobn: bigint, pageShift: bigint, offset: bigint): void {
    const number = this.tables++
    this.#tables.push({ number, liobn, pageShift, offset })
    this.#show(number, 0n)
  }

  #forget(table: number): void {
    for (const [key, command] of this.#touched) {
      if (num(command, 'table') === BigInt(table)) this.#touched.delete(key)
    }
  }

  #show(table: number, first: bigint): void {
    const command = agentCommandOf('tcedump', { table, first, entries: ENTRIES_SHOWN })
    this.#touched.set(`${table} ${first}`, command)
  }

  #hypercall(command: AgentCommand): void {
    const nr = num(command, 'nr')
    if (!LIOBN_HCALLS.includes(nr)) return
    const [liobn, ioba, tce] = [num(command, 'arg1'), num(command, 'arg2'), num(command, 'arg3')]
    const table = this.#tables.find((t) => t.liobn === liobn)
    if (table === undefined) return
    const page = ioba >> table.pageShift
    if (page >= table.offset) this.#show(table.number, page - table.offset)
    const gpa = tce & ~((1n << table.pageShift) - 1n)
    const slot = this.#slots.findLast((s) => gpa >= s.gpa && gpa < s.gpa + s.bytes)
    if (nr !== TCE_HCALL_R3.H_PUT_TCE || slot === undefined || (tce & 3n) === 0n) return
    this.#mappings.push({
      iova: page << table.pageShift,
      bytes: 1n << table.pageShift,
      vaddr: slot.vaddr + gpa - slot.gpa,
    })
  }

  #deviceWrote(iova: bigint, bytes: bigint): void {
    const to = this.#mappings.findLast((m) => iova >= m.iova && iova + bytes <= m.iova + m.bytes)
    if (to === undefined || bytes === 0n || bytes > PEEK_BYTES_MAX) return
    const vaddr = to.vaddr + iova - to.iova
    this.#written.set(`${vaddr}`, agentCommandOf('peek', { vaddr, bytes }))
  }
}
