import type { Register } from '../bits/register-bank.ts'
import { bit, bits, word } from '../bits/word.ts'

const SOURCE = 'QEMU 7.2 docs/specs/edu.txt, hw/misc/edu.c'

export const EDU_ID = word('EDU_ID', 32, SOURCE, {
  EDU: bits(15, 0, 'ro', 'Always 0x00ed.'),
  MINOR: bits(23, 16, 'ro', 'Minor version.'),
  MAJOR: bits(31, 24, 'ro', 'Major version.'),
})

export const EDU_LIVENESS = word('EDU_LIVENESS', 32, SOURCE, {
  VALUE: bits(31, 0, 'rw', 'Holds the complement of what was written.'),
})

export const EDU_FACTORIAL = word('EDU_FACTORIAL', 32, SOURCE, {
  VALUE: bits(31, 0, 'rw', 'Takes n; holds n! mod 2^32 once the computation is over.'),
})

export const EDU_STATUS = word('EDU_STATUS', 32, SOURCE, {
  COMPUTING: bit(0, 'ro', 'The factorial is not there yet.'),
  IRQFACT: bit(7, 'rw', 'Raise an interrupt when it is.'),
})

export const EDU_IRQ_STATUS = word('EDU_IRQ_STATUS', 32, SOURCE, {
  FACTORIAL: bit(0, 'ro', 'A factorial is ready.'),
  DMA: bit(8, 'ro', 'A DMA request is over.'),
  OTHER_HIGH: bits(31, 9, 'ro', 'As raised by software.'),
  OTHER_LOW: bits(7, 1, 'ro', 'As raised by software.'),
})

export const EDU_IRQ_RAISE = word('EDU_IRQ_RAISE', 32, SOURCE, {
  VALUE: bits(31, 0, 'wo', 'Bits that the interrupt status gains.'),
})

export const EDU_IRQ_ACK = word('EDU_IRQ_ACK', 32, SOURCE, {
  VALUE: bits(31, 0, 'wo', 'Bits that the interrupt status loses.'),
})

export const EDU_DMA_SRC = word('EDU_DMA_SRC', 64, SOURCE, {
  ADDRESS: bits(63, 0, 'rw', 'From where: a bus address, or 0x40000 and more in the buffer.'),
})

export const EDU_DMA_DST = word('EDU_DMA_DST', 64, SOURCE, {
  ADDRESS: bits(63, 0, 'rw', 'To where: a bus address, or 0x40000 and more in the buffer.'),
})

export const EDU_DMA_COUNT = word('EDU_DMA_COUNT', 64, SOURCE, {
  BYTES: bits(63, 0, 'rw', 'How many bytes.'),
})

export const EDU_DMA_CMD = word('EDU_DMA_CMD', 64, SOURCE, {
  RUN: bit(0, 'rw', 'Starts the engine; 1 while it runs, and writes to the four registers are then lost.'),
  TO_MEMORY: bit(1, 'rw', '0: from memory to the buffer. 1: from the buffer to memory.'),
  IRQ: bit(2, 'rw', 'Raise an interrupt at the end.'),
  REST: bits(63, 3, 'rw', 'Kept, without a meaning.'),
})

/** The registers of the edu device by the names of its documentation. */
export const EDU_REGISTERS = Object.freeze({
  ID: { offset: 0x00, word: EDU_ID, reset: 0x0100_00edn },
  LIVENESS: { offset: 0x04, word: EDU_LIVENESS },
  FACTORIAL: { offset: 0x08, word: EDU_FACTORIAL },
  STATUS: { offset: 0x20, word: EDU_STATUS },
  IRQ_STATUS: { offset: 0x24, word: EDU_IRQ_STATUS },
  IRQ_RAISE: { offset: 0x60, word: EDU_IRQ_RAISE },
  IRQ_ACK: { offset: 0x64, word: EDU_IRQ_ACK },
  DMA_SRC: { offset: 0x80, word: EDU_DMA_SRC },
  DMA_DST: { offset: 0x88, word: EDU_DMA_DST },
  DMA_COUNT: { offset: 0x90, word: EDU_DMA_COUNT },
  DMA_CMD: { offset: 0x98, word: EDU_DMA_CMD },
} satisfies Record<string, Register>)
export type EduRegister = keyof typeof EDU_REGISTERS

/** All words of the device, for decoders and the reference. */
export const EDU_WORDS = Object.freeze(Object.values(EDU_REGISTERS).map((r) => r.word))

/** Where the buffer lies in the addresses of the DMA registers, and how many bytes it has. */
export const EDU_BUFFER_START = 0x4_0000
export const EDU_BUFFER_BYTES = 4096
/** From this offset on registers take accesses of 4 or 8 bytes, below of 4 only. */
export const EDU_WIDE_OFFSET = 0x80
export const EDU_BAR_BYTES = 0x10_0000
