import type { LineFamily } from './line-format.ts'
import { VTD_LINES } from './vtd-lines.ts'

/** Every family of lines that is read, in the order in which their templates are tried. */
export const LINE_FAMILIES: readonly LineFamily[] = [VTD_LINES]
