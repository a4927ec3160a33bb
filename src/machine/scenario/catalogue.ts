import type { CallDecl } from '../../bits/call.ts'
import type { Erratum } from '../../bits/errata.ts'

/** What a scenario may name: the registries, so that nothing here knows a call or a rule by name. */
export interface Catalogue {
  readonly calls: readonly CallDecl[]
  readonly rules: readonly { readonly id: string }[]
  readonly errata: readonly Erratum[]
}
