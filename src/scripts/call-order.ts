import type { CallDecl } from '../bits/call.ts'
import { anchorsOf } from './markdown.ts'

/** Calls as the reference lists them: verb by verb. */
export const callsByVerb = (calls: readonly CallDecl[]): CallDecl[] =>
  [...new Set(calls.map(({ verb }) => verb))].flatMap((verb) => calls.filter((c) => c.verb === verb))

/** The address of each call in a page with a heading for every one of these, in this order. */
export function callAnchors(calls: readonly CallDecl[]): ReadonlyMap<CallDecl, string> {
  const anchors = anchorsOf(calls.map(({ name }) => name))
  return new Map(calls.map((decl, i) => [decl, anchors[i] ?? '']))
}
