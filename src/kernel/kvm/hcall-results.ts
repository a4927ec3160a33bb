/** In place of a rule: what a call answers that the model cannot judge. */
export const UNMODELLED = -2
/** In place of a rule of real mode: it was not asked, or gave the last answer itself. */
export const NOT_ASKED = -1
/** What the kernel stops at, with erratum `B13`. */
export const NO_PAGE_BUG = 'kvmppc_rm_tce_put: a page of the table is not there'
/** Entries that one call may write here: the kernel has no such bound. */
export const PAGES_MAX = 2 ** 24
/** Entries behind the end of its tables that one call may walk (X14): each leaves records. */
export const BEHIND_MAX = 2 ** 20
