import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type BlockStore, SECTOR_BYTES } from '../../src/hw/virtio/block-store.ts'
import { bootGuest, diskTestFault } from '../../src/peer/guests/boot-guest.ts'
import { GUEST_CONFIGURATIONS, type GuestConfiguration } from '../../src/peer/guests/configurations.ts'
import { findGuestFiles } from '../../src/peer/guests/guest-files.ts'
import { makeTestDisk, TEST_DISK_BYTES } from '../../src/peer/guests/test-disk.ts'
import { blkDevice } from '../../src/peer/vhost-user/blk-device.ts'
import { FileStore } from '../../src/peer/vhost-user/file-store.ts'
import { loadLibc } from '../../src/peer/vhost-user/libc.ts'
import { Recorder } from '../../src/peer/vhost-user/recorder.ts'
import { VhostUserServer } from '../../src/peer/vhost-user/server.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { bootOverBackEnd } from './served-disk.ts'

/** What each guest finds on its disk, whatever its architecture (peers/guests/init.sh). */
const PASSED = {
  files: 117,
  bytes: 45559704,
  sha256: 'ca4fd14a28d30a62709b3fd4a94da0cf873f1d33abc6dede705c369c029cb940',
}
/** What a guest, or its back end, says when it falls. */
const FALLS = /panic|Oops|BUG:|general protection|connection was closed/
/** The one that boots with two processors and two queues. */
const WITH_QUEUES = 'amd64-caching-mode'

const named = (name: string): GuestConfiguration =>
  GUEST_CONFIGURATIONS.find((one) => one.name === name) ?? expect.fail(name)

/** Why there is no such guest here; undefined where there is. */
async function whyNot({ architecture }: GuestConfiguration): Promise<string | undefined> {
  try {
    findGuestFiles(architecture)
    await loadLibc()
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

/** Whether the QEMU that is here has the defect that a guest shows. */
function hasDefect({ architecture, defect }: GuestConfiguration): boolean {
  const { stdout } = spawnSync(findGuestFiles(architecture).qemu, ['--version'], { encoding: 'utf8' })
  return defect?.qemu.test(/version (\S+)/.exec(stdout)?.[1] ?? '') === true
}

const reasons = new Map<string, string>()
for (const configuration of GUEST_CONFIGURATIONS) {
  const why = await whyNot(configuration)
  if (why !== undefined) reasons.set(configuration.architecture, why)
}
for (const [architecture, why] of reasons)
  process.stderr.write(`${architecture} guests are skipped: ${why}\n`)

describe.each(GUEST_CONFIGURATIONS)('$name', (configuration) => {
  const { name, architecture } = configuration
  const isMissing = reasons.has(architecture)
  const queues = name === WITH_QUEUES ? 2 : 1
  const isDefective = !isMissing && hasDefect(configuration)

  it.skipIf(isMissing || isDefective)(`works on its disk: ${configuration.title}`, async () => {
    const { run, code, report, said, fault, messages } = await bootOverBackEnd(configuration, {
      queues,
      isTraced: false,
    })
    const last = said.slice(-60).join('\n')
    expect([run.ending, diskTestFault(run)], last).toEqual(['done', undefined])
    expect(run.passed).toEqual(PASSED)
    expect(fault).toBeUndefined()
    expect(messages).toContain('"msg":"IOTLB_MISS"')
    expect(report.findings).toEqual([])
    expect(code, last).toBe(0)
  })

  it.runIf(isDefective).each([
    ["found with QEMU's trace", true],
    ['warned of before it falls, without a trace', false],
  ])(`is %s: ${configuration.title}`, async (_how, isTraced) => {
    const { report, said, code } = await bootOverBackEnd(configuration, { queues, isTraced })
    const last = said.slice(-60).join('\n')
    const warned = said.findIndex((line) => /^back end: FOUND stale-iotlb/.test(line))
    const fell = said.findIndex((line) => FALLS.test(line))
    expect(warned, last).toBeGreaterThanOrEqual(0)
    // A trace is read five times a second.
    if (fell >= 0 && !isTraced) expect(warned, last).toBeLessThan(fell)
    expect(report.findings.map(({ rule }) => rule)).toContain('stale-iotlb')
    expect(code, last).toBe(1)
  })
})

/** A disk that reads one byte wrongly, once: the first time that a sector of the zone is read. */
function faulty(store: BlockStore): BlockStore {
  const sector = (TEST_DISK_BYTES - 2 ** 20 - 1000 * SECTOR_BYTES) / SECTOR_BYTES
  let isWrong = false
  return {
    sectors: store.sectors,
    read(first, sectors, segments) {
      const isRead = store.read(first, sectors, segments)
      if (!isWrong && first <= sector && sector < first + sectors) {
        isWrong = true
        const at = (sector - first) * SECTOR_BYTES + 77
        const byte = new Uint8Array(1)
        segments.read(at, byte, 0, 1)
        segments.write(
          at,
          byte.map((b) => b ^ 0x10),
          0,
          1,
        )
      }
      return isRead
    },
    write: (first, sectors, segments) => store.write(first, sectors, segments),
    flush: () => store.flush(),
    discard: (first, sectors) => store.discard(first, sectors),
    writeZeroes: (first, sectors, mayUnmap) => store.writeZeroes(first, sectors, mayUnmap),
  }
}

describe('a back end that reads one bit wrongly, once', () => {
  it.skipIf(reasons.has('amd64'))('fails the test of the guest', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'guest-fault-'))
    const [socket, disk] = [join(folder, 'disk.sock'), join(folder, 'disk.img')]
    const zone = makeTestDisk(disk)
    const store = FileStore.open(await loadLibc(), disk, false)
    const recorder = new Recorder({ log: new RecordLog(), device: 'disk', owner: 'guest' })
    const server = await VhostUserServer.listen({
      socket,
      isOnce: true,
      makeDevice: () => blkDevice({ store: faulty(store) }),
      watcher: { onConnect: () => recorder, onEnd: () => undefined },
    })
    const served = server.run()
    try {
      const run = await bootGuest(named('amd64-strict'), { disk: { by: 'vhost-user', socket }, zone })
      expect([run.ending, run.passed]).toEqual(['done', undefined])
      expect(diskTestFault(run)).toMatch(/^disk test failed: the first zone differs: /)
    } finally {
      server.stop()
      await served
      store.close()
      rmSync(folder, { recursive: true, force: true })
    }
  })
})
