import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PEER_HEAD } from './lockstep.ts'

const QEMU = 'qemu-system-ppc64'

/** A program in place of QEMU in a folder that is the whole PATH. */
const install = (folder: string, source: string): void =>
  writeFileSync(join(folder, QEMU), `#!${process.execPath}\n${source}`, { mode: 0o755 })

/**
 * A kernel peer in place of the real one: it knows the transcripts of some scripts.
 *
 * @param folder the PATH, and the cache that its files are looked for in
 */
export function installKernel(folder: string, transcripts: Readonly<Record<string, string>>): void {
  const cache = join(folder, 'iommulator', 'kernel-peer')
  mkdirSync(cache, { recursive: true })
  for (const file of ['vmlinux', 'initrd.gz']) writeFileSync(join(cache, file), '')
  const source = `
    const transcripts = ${JSON.stringify(transcripts)}
    process.stdout.write(${JSON.stringify(`${PEER_HEAD}ORACLE live\n`)})
    let name = ''
    require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
      if (line === 'poweroff') process.exit(0)
      if (line.startsWith('script ')) name = line.slice(7)
      if (line === 'end') process.stdout.write(transcripts[name] ?? \`ORACLE script \${name}\\nORACLE script end rc=1\\n\`)
    })`
  install(folder, source)
}

/**
 * The program text of a machine with a mailbox that speaks qtest: hypercalls answer their second argument, RTAS calls
 * 0. `extra` sees every line first, and answers it where it returns a text.
 */
export const mailboxMachine = (extra: string, id = '0x11e81234'): string =>
  `const memory = Buffer.alloc(256 << 20)
   let batches = 0n
   const say = (text) => process.stdout.write(text + '\\n')
   const runBatch = (count) => {
     for (let i = 0; i < count; i++) {
       const at = 0x101000 + i * 128
       const r3 = memory.readBigUInt64BE(at)
       if (r3 !== 0xf000n) {
         memory.writeBigInt64BE(BigInt.asIntN(64, memory.readBigUInt64BE(at + 16)), at + 0x40)
         memory.writeBigUInt64BE(memory.readBigUInt64BE(at + 8), at + 0x48)
         continue
       }
       const args = Number(memory.readBigUInt64BE(at + 8))
       const out = args + 12 + memory.readUInt32BE(args + 4) * 4
       memory.writeUInt32BE(0, out)
       if (memory.readUInt32BE(args) === 0x2016) memory.writeUInt32BE(${id}, out + 4)
     }
     memory.writeBigUInt64BE(++batches, 0x100008)
   }
   require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
     const [name, a, b, text] = line.split(' ')
     const answer = ((name, a, b, text) => { ${extra} })(name, Number(a), b, text)
     if (answer !== undefined) return answer === '' ? undefined : say(answer)
     if (Number(a) > memory.length) return say(name === 'readq' ? 'OK 0x0' : 'OK')
     if (name === 'b64write') Buffer.from(text, 'base64').copy(memory, Number(a))
     else if (name === 'b64read') return say('OK ' + memory.subarray(Number(a), Number(a) + Number(b)).toString('base64'))
     else if (name === 'memset') memory.fill(0, Number(a), Number(a) + Number(b))
     else if (name === 'readq') return say('OK 0x' + memory.readBigUInt64BE(Number(a)).toString(16))
     else if (name === 'writeq' && Number(a) === 0x100000) runBatch(Number(b))
     else return say('FAIL Unknown command ' + name)
     say('OK')
   })`

/** Such a machine in place of QEMU's pseries. */
export function installPseries(folder: string): void {
  const cache = join(folder, 'iommulator', 'pseries-peer')
  mkdirSync(cache, { recursive: true })
  writeFileSync(join(cache, 'mailbox.bin'), '')
  install(folder, mailboxMachine(''))
}
