/** In place of a rule: what a call answers that the model cannot judge. */
export const UNMODELLED = -2
/** In place of a rule of real mode: it was not asked, or gave the last answer itself. */
export const NOT_ASKED = -1
