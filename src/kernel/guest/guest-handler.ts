import { type Answer, answerOf, type CallHandler, unmodelled, type Value } from '../../bits/answer.ts'
import { type CallDecl, type RuleOf, rulesOf } from '../../bits/call.ts'
import { hiOf, loOf } from '../../bits/u64.ts'
import type { GuestKernel } from './guest-kernel.ts'

/** Arguments as a handler gets them: complete and in range. */
export class Args {
  readonly #values: Readonly<Record<string, Value>>

  constructor(values: Readonly<Record<string, Value>>) {
    this.#values = values
  }

  has(name: string): boolean {
    return this.#values[name] !== undefined
  }

  big(name: string): bigint {
    return BigInt((this.#values[name] as bigint | number | undefined) ?? 0)
  }

  number(name: string): number {
    return Number(this.big(name))
  }

  text(name: string): string {
    return (this.#values[name] as string | undefined) ?? ''
  }

  /** Items of a scatter list. */
  list(name: string): readonly { readonly address: bigint; readonly bytes: number }[] {
    const items = (this.#values[name] as readonly Readonly<Record<string, Value>>[] | undefined) ?? []
    return items.map((item) => ({
      address: BigInt(item['address'] as bigint),
      bytes: Number(item['bytes'] as bigint),
    }))
  }

  /** The numbers among them, in order, for the record of the call. */
  get words(): bigint[] {
    return Object.values(this.#values)
      .filter((v) => typeof v === 'bigint' || typeof v === 'number')
      .map((v) => BigInt(v))
  }
}

/** How a handler ends: the rule that decided, what the caller gets, and what of it the kernel was free to choose. */
export interface Reply<R extends string> {
  readonly rule: R
  readonly outputs?: Readonly<Record<string, Value>>
  readonly free?: readonly string[]
}

type Body<D extends CallDecl> = (args: Args) => Reply<RuleOf<D>>

/** A handler of one call of the guest kernel, with the records of its beginning and end. */
export function guestHandler<D extends CallDecl>(kernel: GuestKernel, decl: D, body: Body<D>): CallHandler {
  const { stage } = kernel.options
  const tags = stage.tag(decl)
  const rules = rulesOf(decl)
  return {
    decl,
    run(values): Answer {
      const args = new Args(values)
      const [a = 0n, b = 0n, c = 0n, d = 0n] = args.words
      const before = stage.enter(tags, loOf(a), hiOf(a), loOf(b), hiOf(b), loOf(c), hiOf(c), loOf(d), hiOf(d))
      kernel.log.begin()
      const isEarly = !kernel.isBooted && rules['kernel-not-booted' as RuleOf<D>] !== undefined
      const reply: Reply<RuleOf<D>> = isEarly ? { rule: 'kernel-not-booted' as RuleOf<D> } : body(args)
      const out = BigInt((reply.outputs?.['handle'] ?? reply.outputs?.['gpa'] ?? 0n) as bigint)
      const index = stage.leave(tags, before, rules[reply.rule], loOf(out), hiOf(out))
      const { unknown, lines } = kernel.log
      if (unknown !== '') return unmodelled(unknown)
      const { outputs = {}, free = [] } = reply
      return answerOf(decl, index, { outputs, free, warnings: [...lines] })
    },
  }
}
