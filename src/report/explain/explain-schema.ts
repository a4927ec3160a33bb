import { EXPLAIN_SCHEMA } from './explain-json.ts'

const text = { type: 'string' }
const count = { type: 'integer', minimum: 0 }
const lineNumber = { type: 'integer', minimum: 1 }
const texts = { type: 'array', items: text }
const address = { type: 'string', pattern: '^(?:0x[0-9a-f]{1,16}|addr#[0-9]+)$' }
const time = { type: ['integer', 'null'], description: 'Microseconds since the kernel started.' }

const object = (properties: object, more: object = {}): object => ({
  type: 'object',
  properties,
  required: Object.keys(properties),
  ...more,
})

const reason = object({ line: { type: ['integer', 'null'] }, text })
const reasons = { type: 'array', items: reason }

/** What a family adds under names of its own: plain values. */
const FAMILY_FIELDS = { type: ['string', 'number', 'boolean', 'null'] }

const fault = object(
  {
    family: text,
    isModelled: {
      type: 'boolean',
      description: 'Whether the model knows the hardware, or lines are decoded only.',
    },
    kind: { type: 'string', description: 'dma, interrupt, queue, page-request, map, ...' },
    title: text,
    device: { type: ['string', 'null'], description: 'bus:device.function, as the log names it.' },
    times: { ...lineNumber, description: 'How often the log tells of it.' },
    firstLine: lineNumber,
    lastLine: lineNumber,
    firstUs: time,
    lastUs: time,
    addresses: { type: 'array', items: object({ first: address, last: address }) },
    isEveryAddress: {
      type: 'boolean',
      description: 'False where there were so many that only the lowest and the highest are told.',
    },
    says: {
      type: 'array',
      items: object({ label: text, text }),
      description: 'What the text output says, with its labels.',
    },
    because: { ...reasons, description: 'Lines before it, or of a trace of the same boot, that made it so.' },
    about: { ...reasons, description: 'What the log says of the device and its addresses anywhere.' },
    checks: { ...texts, description: 'What to look at next, the likeliest first.' },
  },
  { additionalProperties: FAMILY_FIELDS },
)

/** The JSON Schema of what `iommulator explain --json` prints. */
export const explainJsonSchema = (): object => ({
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'A kernel log, explained',
  description: 'What iommulator explain --json prints.',
  ...object(
    {
      schema: { const: EXPLAIN_SCHEMA },
      log: object({
        lines: count,
        understood: count,
        unknown: { ...count, description: 'All lines but the understood ones.' },
        tooLong: count,
        bytes: count,
        repeated: { ...count, description: 'Lines that stand in the log twice: counted once in faults.' },
        unexplained: {
          type: 'array',
          items: object({ family: text, lines: count, firstLine: lineNumber, example: text }),
          description: 'Lines that look like those of a family, and that no template takes.',
        },
      }),
      faults: { type: 'array', items: fault },
      moreFaults: { ...count, description: 'Faults of more kinds than are kept.' },
      suppressed: {
        type: 'array',
        items: object({ family: text, line: lineNumber, lines: count }),
        description: 'Messages that the kernel did not print, because there were too many.',
      },
      notes: {
        type: 'array',
        items: object({ family: text, text, firstLine: { type: 'integer', minimum: 0 }, times: lineNumber }),
      },
      machine: {
        type: 'array',
        items: object({ family: text, line: lineNumber, text }, { additionalProperties: FAMILY_FIELDS }),
      },
    },
    { additionalProperties: false },
  ),
})
