import { type Document, visit, type YAMLError } from 'yaml'

/** A stretch of a text, half-open. */
export interface Span {
  readonly start: number
  readonly end: number
}
export interface Fault extends Span {
  readonly message: string
}

export const TOO_DEEP = 'nested too deeply'

/** Errors that are looked at: the others follow from the first ones. */
const ERRORS_MOST = 200
const MESSAGE_CHARS = 120

/** What is said instead of the words of the YAML library, where those do not help. */
const WORDS: Readonly<Record<string, string>> = {
  TAB_AS_INDENT: 'a tab cannot indent: use blanks',
  MULTIPLE_DOCS: 'a second document begins here: a file holds one scenario',
  RESOURCE_EXHAUSTION: TOO_DEEP,
  NON_STRING_KEY: 'a key must be a word',
  BLOCK_AS_IMPLICIT_KEY: 'a second "key: value" on the line: a text with ": " in it needs quotes',
  TAG_RESOLVE_FAILED: 'tags (!name) are not used in scenarios',
  MULTILINE_IMPLICIT_KEY: 'a key needs a colon and a blank after it, on its own line',
}

/**
 * Errors and warnings of a parsed document, in the order of the text, in words for whoever wrote it. What the library
 * says after a bracket that is never closed is about brackets and quotes only: the rest follows from it.
 */
export function* syntaxFaults(doc: Document): Generator<Fault> {
  const inOrder = [...doc.errors, ...doc.warnings].sort((a, b) => a.pos[0] - b.pos[0])
  let isOpen = false
  for (const error of inOrder.slice(0, ERRORS_MOST)) {
    const bracket = openBracket(error, doc)
    isOpen ||= bracket !== undefined
    const fault = bracket ?? openQuote(error, doc)
    if (fault !== undefined || !isOpen) yield fault ?? inWords(error)
  }
}

function inWords({ code, message, pos: [start, end] }: YAMLError): Fault {
  const [line = ''] = message.split('\n')
  return { start, end, message: WORDS[code] ?? `not YAML: ${line.slice(0, MESSAGE_CHARS)}` }
}

// The library points at where it gave up; what a person has to mend is where the quote or bracket begins.

function openQuote({ code, message, pos }: YAMLError, doc: Document): Fault | undefined {
  if (code !== 'MISSING_CHAR' || !message.includes('quote')) return undefined
  let start = pos[0]
  visit(doc, {
    Scalar(_key, { type, range }) {
      if (type?.startsWith('QUOTE') === true && range != null && range[1] >= pos[0]) start = range[0]
    },
  })
  return { start, end: start + 1, message: 'the quote that begins here is never closed' }
}

function openBracket({ message, pos }: YAMLError, doc: Document): Fault | undefined {
  if (!message.startsWith('Flow ')) return undefined
  let start = pos[0]
  visit(doc, {
    Collection(_key, { flow, range }) {
      if (flow === true && range != null && range[0] < pos[0] && range[1] >= pos[0]) start = range[0]
    },
  })
  const words = 'the bracket that begins here is never closed, or its lines are not indented enough'
  return { start, end: start + 1, message: words }
}
