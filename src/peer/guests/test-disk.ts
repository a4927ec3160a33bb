import { createHash } from 'node:crypto'
import { closeSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs'
import { Prng } from '../../bits/prng.ts'

const MEBIBYTE = 2 ** 20
/** A file system of 64 MiB and two zones of 1 MiB behind it. */
export const TEST_DISK_BYTES = 66 * MEBIBYTE
const READ_ZONE = TEST_DISK_BYTES - 2 * MEBIBYTE
const WRITTEN_ZONE = TEST_DISK_BYTES - MEBIBYTE

/** What the host writes into the first zone: the guest must read just that. */
function readZone(): Buffer {
  const prng = new Prng(2026)
  const bytes = Buffer.alloc(MEBIBYTE)
  for (let at = 0; at < MEBIBYTE; at += 4) bytes.writeInt32LE(prng.int32(), at)
  return bytes
}

/** The seed in the initramfs (peers/guests/setup.sh), which the guest writes into the second zone. */
export function guestSeed(): Buffer {
  const bytes = Buffer.alloc(MEBIBYTE)
  let state = 2026
  for (let at = 0; at < MEBIBYTE; at += 8) {
    // A product below 2^46.
    state = (state * 16807) % 0x7fff_ffff
    bytes.write(state.toString(16).padStart(8, '0'), at, 'latin1')
  }
  return bytes
}

/**
 * Makes an empty disk for the test of `peers/guests/init.sh`, but for the zone that the guest must find.
 *
 * @returns SHA-256 of that zone, in hexadecimal digits: `guest.zone` of the kernel's command line
 */
export function makeTestDisk(path: string): string {
  const zone = readZone()
  const file = openSync(path, 'w')
  try {
    ftruncateSync(file, TEST_DISK_BYTES)
    writeSync(file, zone, 0, MEBIBYTE, READ_ZONE)
  } finally {
    closeSync(file)
  }
  return createHash('sha256').update(zone).digest('hex')
}

/**
 * Looks at the zones of a disk whose guest has ended: one as the host made it, and one with the guest's seed.
 *
 * @returns the first byte that is another one, in words; undefined where all are right
 */
export function testDiskFault(path: string): string | undefined {
  const file = openSync(path, 'r')
  try {
    for (const [from, wanted] of [
      [READ_ZONE, readZone()],
      [WRITTEN_ZONE, guestSeed()],
    ] as const) {
      const found = Buffer.alloc(MEBIBYTE)
      readSync(file, found, 0, MEBIBYTE, from)
      if (found.equals(wanted)) continue
      const at = wanted.findIndex((byte, i) => byte !== found[i])
      return `byte ${from + at} of the disk is ${found[at]}, not ${wanted[at]}`
    }
    return undefined
  } finally {
    closeSync(file)
  }
}
