import { describe, expect, it } from 'vitest'
import { DETECT_BYTES, detectLogFormat, LOG_FORMATS } from '../../src/reader/detect.ts'
import { answers, bytesOf, recording } from '../log-rows.ts'

describe('which format a log is', () => {
  it.each(['ppc-32bit', 'vh-ppc-ddw', 'qtest-ppc'])('recording %s is a QEMU trace', async (name) => {
    const { format } = detectLogFormat((await recording(name)).subarray(0, DETECT_BYTES))
    expect(format.id).toBe('qemu-trace')
    expect(LOG_FORMATS).toContain(format)
  })

  it('recording kernel-6.12-64k is a transcript of kernel answers', async () => {
    const { format, reason } = detectLogFormat((await answers()).subarray(0, DETECT_BYTES))
    expect([format.id, reason]).toEqual(['kernel-answers', 'line 54 is the command open with its answer'])
  })

  it('a known event speaks louder than a command, a command louder than names that look like events', () => {
    const command = 'map 0x0 0x0 0x0 => -1 EPERM\n'
    const event = 'spapr_iommu_ddw_remove liobn=0x80000000\n'
    expect(detectLogFormat(bytesOf(command + event)).format.id).toBe('qemu-trace')
    expect(detectLogFormat(bytesOf(`vtd_a \nvtd_b \nvtd_c \n${command}`)).format.id).toBe('kernel-answers')
  })

  it('a known event within console output decides', () => {
    const log = 'SLOF\n[    0.0] Linux\nspapr_iommu_ddw_remove liobn=0x80000000\n'
    expect(detectLogFormat(bytesOf(log)).reason).toBe('line 3 is a spapr_iommu_ddw_remove')
  })

  it('lines that begin with other event names do, too', () => {
    const log = 'virtio_mmio_read \n\n\nhello\nvirtio_notify vdev 0x1 vq 0x2\n'
    expect(detectLogFormat(bytesOf(log)).reason).toBe(
      'its lines begin with event names, though none of the first 5 is one that is modelled',
    )
  })

  const refused: readonly (readonly [what: string, log: string, why: string])[] = [
    ['nothing', '', 'the log is empty'],
    ['text', 'It was a dark night.\nhello world\n', 'line 1 is "It was a dark night."'],
    [
      'words that are no event names',
      'hello world\ngood morning\n',
      'none of the first 2 lines begins with an event',
    ],
    ['bytes', '\x7fELF\x02\x01', 'tried\n  QEMU trace log: none of the first 1 lines'],
    ['UTF-16', '\xff\xfes\0p\0a\0', 'it is UTF-16 text'],
    ['UTF-16, big-endian', '\xfe\xff\0s\0p', 'it is UTF-16 text'],
    ["QEMU's binary trace", `${'\xff'.repeat(8)}\xb4\x29\xa4\x0c`, "binary trace of QEMU's simple back end"],
    ['a command alone', 'open 0\n', 'answers: none of the first 1 lines is a command with its answer'],
    ['a very long line', 'a'.repeat(10_000), 'none of the first 1 lines'],
  ]
  it.each(refused)('%s: ERR_LOG_FORMAT', (_what, log, why) => {
    const code = 'ERR_LOG_FORMAT'
    expect(() => detectLogFormat(bytesOf(log))).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(why) }),
    )
  })
})
