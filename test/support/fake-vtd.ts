import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * The program text of a q35 machine that speaks qtest, with a unit whose registers keep what is written and devices
 * that are ready at once. `extra` sees every line first, and answers it where it returns a text. A command for its devices
 * (file descriptor 3) is answered by what `told` returns for it, or by OK.
 */
export const fakeVtdMachine = (extra: string, id = '0x11e81234', told?: string): string =>
  `${told === undefined ? '' : channelOf(told)}
   const memory = new Map()
   const say = (text) => process.stdout.write(text + '\\n')
   const read = (at, bytes) => Uint8Array.from({ length: bytes }, (_, i) => memory.get(at + i) ?? 0)
   const write = (at, bytes) => bytes.forEach((byte, i) => memory.set(at + i, byte))
   const word = (value, bytes) => {
     const data = Buffer.alloc(8)
     data.writeBigUInt64LE(BigInt(value))
     return data.subarray(0, bytes)
   }
   const number = (at, bytes) => '0x' + Buffer.concat([read(at, bytes), Buffer.alloc(8)]).readBigUInt64LE().toString(16)
   const base = 0xd0000000
   const widths = { writew: 2, writel: 4, writeq: 8 }
   const transfer = (bar) => {
     const register = (at) => Number(Buffer.from(read(bar + at, 8)).readBigUInt64LE())
     const [from, to, bytes] = [register(0x80), register(0x88), register(0x90)]
     const place = (at) => (at >= 0x40000 && at < 0x41000 ? bar + at : at)
     write(place(to), read(place(from), bytes))
     write(bar + 0x98, word(0, 8))
   }
   require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
     const [name, a, b, text] = line.split(' ')
     const at = Number(a)
     const answer = ((name, a, b, text) => { ${extra} })(name, at, b, text)
     if (answer !== undefined) return answer === '' ? undefined : say(answer)
     if (name === 'inl') return say('OK ${id}')
     if (name === 'b64read') return say('OK ' + Buffer.from(read(at, Number(b))).toString('base64'))
     if (name === 'readl' || name === 'readq') return say('OK ' + number(at, name === 'readl' ? 4 : 8))
     if (name === 'b64write') write(at, Buffer.from(text, 'base64'))
     else if (name in widths) write(at, word(b, widths[name]))
     else if (name !== 'outl') return say('FAIL Unknown command ' + name)
     if (name === 'writeq' && at >= base && at % 0x100000 === 0x98) transfer(at - 0x98)
     say('OK')
   })`

const channelOf = (told: string): string =>
  `const channel = new (require('net').Socket)({ fd: 3 })
   require('readline').createInterface({ input: channel }).on('line', (line) => {
     const answer = ((name, device, pasid, a, b, c) => { ${told} })(...line.split(' '))
     if (answer !== '') channel.write((answer ?? 'OK') + '\\n')
   })`

/** A program in place of QEMU that says which one it is, and then is such a machine. */
export function installVtd(folder: string, version: string, extra = '', told?: string): string {
  const path = join(folder, 'fake-qemu')
  const source = `if (process.argv[2] === '--version') console.log('QEMU emulator version ${version}')\nelse {${fakeVtdMachine(extra, undefined, told)}}\n`
  writeFileSync(path, `#!${process.execPath}\n${source}`, { mode: 0o755 })
  return path
}
