import { describe, expect, it } from 'vitest'
import { bytesOf } from '../../src/bits/byte-text.ts'
import { CLOSE } from '../../src/kernel/vfio/calls.ts'
import * as calls from '../../src/kernel/vhost/calls.ts'
import * as messages from '../../src/kernel/vhost/message-calls.ts'
import { PROC_EXIT, PROC_FORK } from '../../src/memory/proc-calls.ts'
import { eventsOf } from '../support/host.ts'
import { UA } from '../support/vfio.ts'
import { BEHIND_IOTLB, IOVA, MODERN, owned, running, withRing } from '../support/vhost.ts'

const FRAME = Uint8Array.from({ length: 60 }, (_, i) => i)
const digits = (bytes: Uint8Array) => `hex:${[...bytes].map((b) => b.toString(16).padStart(2, '0')).join('')}`
/** A buffer in a page of its own, and the pages of the rings. */
const BUFFER = 0x2_0000n
const PAGE = 0x1000n

type World = ReturnType<typeof withRing>
const states = (world: World) =>
  eventsOf(world, 'vhost.queue').map((e) => ('state' in e && 'code' in e ? `${e.state} ${e.code}` : ''))
const deliver = (world: World, frame = FRAME) =>
  world.call(messages.TAP_DELIVER, { fd: world.tap, data: digits(frame) })

describe('a queue that transmits', () => {
  it('stops with a miss, goes on when an UPDATE comes, and the frame leaves', () => {
    const world = running()
    const { send, kick, read, update, collect, queueOf, signals, callFd, ring } = world
    const head = send(FRAME, BUFFER)
    expect(kick().rule).toBe('done')
    expect(queueOf().states.value).toBe('waits')
    expect(read()).toMatchObject({ type: 1n, iova: IOVA + BUFFER, bytes: 0n, perm: 1n })
    expect(collect()).toBeUndefined()
    update(IOVA + BUFFER, PAGE, UA + BUFFER)
    expect(collect()).toBe(digits(FRAME))
    expect(ring.reap()).toEqual({ head, written: 0 })
    expect([signals(callFd), signals(world.errFd)]).toEqual([1, 0])
    expect(states(world)).toEqual(['runs 0', 'waits -11', 'woken 0', 'runs 0'])
    expect(eventsOf(world, 'iotlb.miss')).toMatchObject([
      { iotlb: 1, queue: 1, iova: IOVA + BUFFER, access: 1 },
    ])
  })

  it('asks again with every try: misses are not counted together', () => {
    const world = running()
    world.send(FRAME, BUFFER)
    for (let i = 0; i < 3; i++) world.kick()
    expect(world.device.messages.readable).toHaveLength(3)
    // An UPDATE that comes before anybody has read them wakes nobody.
    world.update(IOVA + BUFFER, PAGE, UA + BUFFER)
    expect([world.collect(), world.device.messages.readable.length]).toEqual([undefined, 3])
    world.kick()
    expect(world.collect()).toBe(digits(FRAME))
  })

  it('fails where a map does not allow it, without a miss, until it is kicked again', () => {
    const world = running()
    world.update(IOVA + BUFFER, PAGE, UA + BUFFER, 2n)
    world.send(FRAME, BUFFER)
    world.kick()
    expect(states(world)).toEqual(['runs 0', 'failed -1'])
    expect([world.device.messages.readable, world.signals(world.errFd), world.queueOf().ring.base]).toEqual([
      [],
      1,
      0,
    ])
    expect(eventsOf(world, 'iotlb.refuse')).toMatchObject([
      { iotlb: 1, queue: 1, iova: IOVA + BUFFER, access: 1, code: -1 },
    ])
    world.invalidate(IOVA + BUFFER, PAGE)
    world.update(IOVA + BUFFER, PAGE, UA + BUFFER, 1n)
    expect(world.collect()).toBeUndefined()
    world.kick()
    expect(world.collect()).toBe(digits(FRAME))
  })

  it('says nothing where a map does not allow a ring, and asks for nothing', () => {
    const world = withRing()
    world.update(IOVA, 0x1_0000n, UA, 1n)
    world.setBackend()
    expect(states(world)).toEqual(['runs 0', 'failed -1'])
    expect([world.device.messages.readable, world.signals(world.errFd)]).toEqual([[], 0])
  })

  it('runs without an IOTLB at addresses of the guest, and fails where its memory table has none', () => {
    const world = running({ features: MODERN })
    world.send(FRAME, BUFFER)
    world.kick()
    expect(world.collect()).toBe(digits(FRAME))
    world.ring.add([{ address: 1n << 40n, bytes: 60, isWritten: false }])
    world.ring.publish()
    world.kick()
    expect(states(world)).toEqual(['runs 0', 'failed -14'])
    expect(eventsOf(world, 'iotlb.use', 'iotlb.miss', 'iotlb.refuse')).toEqual([])
  })

  it('drops what a tap does not take, and gives the buffer back', () => {
    const world = running({ features: MODERN })
    for (const bytes of [12, 12 + 13, 12 + 14]) {
      world.qemu.mm.write(UA + BUFFER, new Uint8Array(bytes).fill(9))
      world.ring.add([{ address: BUFFER, bytes, isWritten: false }])
    }
    world.ring.publish()
    world.kick()
    expect(world.collect()).toBe(digits(new Uint8Array(14).fill(9)))
    expect([world.collect(), world.queueOf().ring.usedIndex]).toEqual([undefined, 3])
  })

  it('stands at a frame without its whole header, and says nothing', () => {
    const world = running({ features: MODERN })
    world.ring.add([{ address: BUFFER, bytes: 11, isWritten: false }])
    world.ring.publish()
    world.kick()
    world.kick()
    expect([world.queueOf().ring.base, world.queueOf().ring.usedIndex, world.signals(world.errFd)]).toEqual([
      0, 0, 0,
    ])
    expect(states(world).at(-1)).toBe('failed -14')
    expect(eventsOf(world, 'unmodelled')[0]).toMatchObject({
      what: 'a worker that takes a frame without its whole header, over and over',
    })
  })

  // As seen on Linux 6.1.192: base, used index, and signals of an error.
  it('stands at a chain outside of its ring, and takes what it has counted before an index jumps', () => {
    const world = running({ features: MODERN })
    const { mm } = world.qemu
    const put = (at: bigint, value: number) => mm.write(world.addresses.avail + at, Uint8Array.of(value, 0))
    const seen = () => [world.queueOf().ring.base, world.queueOf().ring.usedIndex, world.signals(world.errFd)]
    put(4n, 9)
    put(2n, 1)
    world.kick()
    expect(seen()).toEqual([0, 0, 1])
    mm.write(world.addresses.desc, Uint8Array.of(0, 0, 2, 0, 0, 0, 0, 0, 72, ...new Uint8Array(7)))
    put(4n, 0)
    put(2n, 20)
    world.kick()
    expect(seen()).toEqual([1, 1, 1])
  })

  it('says twice what is wrong in a table: who reads the table, and who reads the ring (run on 6.12.95)', () => {
    const world = running({ features: MODERN | (1n << 28n) })
    const { qemu, ring, kick, signals, errFd } = world
    const failsWith = (descriptor: string) => {
      qemu.mm.write(UA + BUFFER, Buffer.from(descriptor, 'hex'))
      kick()
      return signals(errFd)
    }
    ring.add([{ address: BUFFER, bytes: 16, isWritten: false }])
    ring.publish()
    // The descriptor of the ring becomes one of a table.
    qemu.mm.write(BigInt(world.places.descriptors) + 12n, Uint8Array.of(4, 0))
    expect(failsWith('00000100000000002000000004000000')).toBe(2)
    expect(failsWith('00000080000000002000000000000000')).toBe(2)
    qemu.mm.write(BigInt(world.places.descriptors) + 12n, Uint8Array.of(0, 0))
    qemu.mm.write(BigInt(world.places.descriptors), Uint8Array.of(0, 0, 0, 0x80))
    expect(failsWith('')).toBe(1)
  })

  it('takes a chain that the device has to write, and gives it back to nobody', () => {
    for (const features of [MODERN, MODERN | (1n << 27n)]) {
      const world = running({ features })
      world.offer(BUFFER, 64)
      world.kick()
      expect([world.queueOf().ring.base, world.queueOf().ring.usedIndex]).toEqual([1, 0])
      expect([states(world).at(-1), world.signals(world.errFd)]).toEqual(['failed -14', 1])
    }
  })

  it('has a header of its own where that was negotiated: a frame behind it must be there', () => {
    const world = running({ features: MODERN | (1n << 27n) })
    world.ring.add([{ address: BUFFER, bytes: 12, isWritten: false }])
    world.ring.publish()
    world.kick()
    expect(states(world).at(-1)).toBe('failed -14')
  })

  it('signals the driver unless it wants no interrupts', () => {
    const world = running({ features: MODERN })
    world.ring.disableCalls()
    world.send(FRAME, BUFFER)
    world.kick()
    expect(world.signals(world.callFd)).toBe(0)
    world.ring.enableCalls()
    world.send(FRAME, BUFFER)
    world.kick()
    expect(world.signals(world.callFd)).toBe(1)
  })

  it('with event indices is told when the driver has passed where it was', () => {
    const world = running({ features: MODERN | (1n << 29n) })
    world.ring.add([{ address: BUFFER, bytes: 72, isWritten: false }])
    expect(world.ring.publish()).toBe(true)
    world.kick()
    expect([world.queueOf().ring.usedIndex, world.signals(world.callFd)]).toEqual([1, 1])
  })

  it('does not know headers of 10 bytes', () => {
    const world = running({ features: 0n })
    expect(eventsOf(world, 'unmodelled')).toMatchObject([
      { what: 'frames of vhost-net behind a header of 10 bytes' },
    ])
  })

  it('does not know frames of more than 64 KiB', () => {
    const world = running({ features: MODERN })
    world.ring.add([{ address: 0x10_0000n, bytes: 0x2_0000, isWritten: false }])
    world.ring.publish()
    world.kick()
    expect(eventsOf(world, 'unmodelled')).toMatchObject([{ what: 'a frame of more than 64 KiB' }])
  })

  it('with a buffer that its owner has not mapped does what the model does not know', () => {
    const world = running()
    world.update(IOVA + BUFFER, PAGE, UA + (1n << 40n), 1n)
    world.send(FRAME, BUFFER)
    world.kick()
    expect(eventsOf(world, 'unmodelled')).toHaveLength(1)
    expect(world.collect()).toBeUndefined()
  })
})

describe('a queue that receives', () => {
  const receiving = (features = BEHIND_IOTLB, profile = 'intended') =>
    running({ queue: 0, features, profile })

  it('waits for frames and buffers, and puts one into the other', () => {
    const world = receiving()
    world.update(IOVA + BUFFER, PAGE, UA + BUFFER, 2n)
    expect(deliver(world).rule).toBe('done')
    // Nothing is available: the driver is asked to say so.
    expect(world.ring.publish()).toBe(false)
    world.qemu.mm.write(UA + BUFFER, new Uint8Array(12).fill(9))
    const head = world.offer(BUFFER, 128)
    world.kick()
    expect(world.ring.reap()).toEqual({ head, written: 72 })
    const data = new Uint8Array(72)
    world.qemu.mm.read(UA + BUFFER, data)
    expect([...data]).toEqual([...new Uint8Array(10), 1, 0, ...FRAME])
    expect(world.signals(world.callFd)).toBe(1)
    // And now that it has one, a frame finds it at once.
    world.offer(BUFFER, 128)
    world.kick()
    deliver(world)
    expect(world.queueOf().ring.usedIndex).toBe(2)
  })

  it('does not count the buffers in kernels before 6.14', () => {
    const world = receiving(BEHIND_IOTLB, 'vhost-no-buffer-count')
    world.update(IOVA + BUFFER, PAGE, UA + BUFFER, 2n)
    world.qemu.mm.write(UA + BUFFER, new Uint8Array(12).fill(9))
    world.offer(BUFFER, 128)
    world.kick()
    deliver(world)
    const data = new Uint8Array(72)
    world.qemu.mm.read(UA + BUFFER, data)
    expect([...data]).toEqual([...new Uint8Array(10), 9, 9, ...FRAME])
  })

  it('counts the buffers where frames may lie in several', () => {
    const world = receiving(MODERN | (1n << 15n), 'vhost-no-buffer-count')
    world.offer(BUFFER, 128)
    world.kick()
    deliver(world)
    const data = new Uint8Array(14)
    world.qemu.mm.read(UA + BUFFER, data)
    expect([...data]).toEqual([...new Uint8Array(10), 1, 0, 0, 1])
  })

  it('keeps the frame while a translation is missing', () => {
    const world = receiving()
    world.offer(BUFFER, 128)
    world.kick()
    deliver(world)
    expect([world.queueOf().states.value, world.read()['perm']]).toEqual(['waits', 2n])
    world.update(IOVA + BUFFER, PAGE, UA + BUFFER, 2n)
    expect(world.queueOf().ring.usedIndex).toBe(1)
  })

  it('loses a frame that does not fit into a buffer, and keeps the buffer', () => {
    const world = receiving(MODERN)
    world.offer(BUFFER, 40)
    world.kick()
    deliver(world)
    deliver(world, FRAME.subarray(0, 28))
    expect([world.queueOf().ring.base, world.ring.reap()]).toEqual([1, { head: 0, written: 40 }])
  })

  it('does not know frames in several buffers, nor buffers without room for a header', () => {
    const mergeable = receiving(MODERN | (1n << 15n))
    mergeable.offer(BUFFER, 40)
    mergeable.kick()
    deliver(mergeable)
    expect(eventsOf(mergeable, 'unmodelled')).toMatchObject([
      { what: 'a frame that lies in several buffers' },
    ])
    const short = receiving(MODERN)
    short.offer(BUFFER, 5)
    short.kick()
    deliver(short)
    expect(eventsOf(short, 'unmodelled')).toHaveLength(1)
  })

  it('fails with a buffer that it is to read, which it has taken', () => {
    const world = receiving(MODERN)
    world.ring.add([{ address: BUFFER, bytes: 128, isWritten: false }])
    world.ring.publish()
    world.kick()
    deliver(world)
    expect([states(world).at(-1), world.queueOf().ring.base]).toEqual(['failed -22', 1])
  })

  it('frames that came before the backend start it', () => {
    const world = withRing({ queue: 0, features: MODERN })
    deliver(world)
    world.offer(BUFFER, 128)
    world.setBackend()
    expect(world.queueOf().ring.usedIndex).toBe(1)
  })

  it('looks for its rings with every frame while they are missing, and is left alone without a buffer', () => {
    const world = receiving()
    world.invalidate(0n, 0n)
    world.update(world.addresses.used, 0x100n, UA + world.addresses.used - IOVA)
    deliver(world)
    deliver(world)
    expect(world.device.messages.readable.map((n) => n.message.iova)).toEqual([IOVA, IOVA])
    const idle = receiving(MODERN)
    deliver(idle)
    expect(idle.queueOf().ring.base).toBe(0)
    idle.offer(BUFFER, 128)
    // The queue found no buffer: the next frame waits for a kick.
    deliver(idle)
    expect(idle.queueOf().ring.usedIndex).toBe(0)
    idle.kick()
    expect(idle.queueOf().ring.usedIndex).toBe(1)
  })
})

describe('what is remembered of rings', () => {
  const parts = (world: World) => eventsOf(world, 'iotlb.use').map((e) => ('part' in e ? e.part : -1))

  it('is looked up once, and again after each UPDATE and INVALIDATE', () => {
    const world = running()
    const { length } = parts(world)
    world.kick()
    expect(parts(world).slice(length)).toEqual([5, 6, 7])
    world.update(IOVA + BUFFER, PAGE, UA + BUFFER)
    world.kick()
    world.kick()
    expect(parts(world).slice(length + 3)).toEqual([1, 2, 3, 5, 6, 7])
    world.invalidate(IOVA + BUFFER, PAGE)
    world.kick()
    expect(parts(world).slice(length + 9)).toEqual([1, 2, 3])
  })

  it('a ring that lies in two maps is not remembered', () => {
    const world = withRing()
    const { desc, used } = world.addresses
    world.update(desc, 0x20n, UA)
    world.update(desc + 0x20n, used + 0x1000n - desc, UA + 0x20n)
    world.setBackend()
    const { length } = parts(world)
    world.kick()
    expect(parts(world).slice(length)).toEqual([1, 1, 6, 7])
  })

  it.each([
    ['VHOST_SET_VRING_ADDR', calls.VHOST_SET_VRING_ADDR, { flags: 2n }],
    ['VHOST_SET_VRING_NUM', calls.VHOST_SET_VRING_NUM, { num: 3n }],
  ] as const)('goes with %s, even where that is refused', (_name, decl, more) => {
    for (const [profile, expected] of [
      ['linux-6.1.183', [1, 2, 3]],
      ['linux-6.1.182', [5, 6, 7]],
      ['linux-6.12.95', [5, 6, 7]],
    ] as const) {
      const world = running({ profile })
      expect(world.call(decl, { fd: world.fd, index: 1n, ...more }).code).not.toBe('OK')
      const { length } = parts(world)
      world.kick()
      expect(parts(world).slice(length)).toEqual(expected)
    }
  })

  it('goes with an UPDATE that passes 2^64, and with a new IOTLB', () => {
    const world = running()
    world.update((1n << 64n) - 1n, PAGE, UA)
    const { length } = parts(world)
    world.kick()
    expect(parts(world).slice(length)).toEqual([1, 2, 3])
    world.call(calls.VHOST_SET_FEATURES, { fd: world.fd, features: BEHIND_IOTLB })
    world.kick()
    expect(world.device.messages.readable.map((n) => n.message.iova)).toEqual([IOVA])
  })

  it('leads out of its map where a kernel keeps it: the address is not looked at', () => {
    const world = running({ profile: 'linux-6.1' })
    world.qemu.mm.write(UA + 0x10_0000n, Uint8Array.of(0xff))
    world.call(calls.VHOST_SET_VRING_ADDR, {
      fd: world.fd,
      index: 1n,
      ...world.addresses,
      desc: IOVA + 0x10_0000n,
    })
    world.kick()
    expect(eventsOf(world, 'iotlb.use').at(-3)).toMatchObject({
      part: 5,
      iova: IOVA + 0x10_0000n,
      ua: UA + 0x10_0000n,
      bytes: 64,
    })
    world.call(calls.VHOST_SET_VRING_ADDR, { fd: world.fd, index: 1n, ...world.addresses, desc: 1n << 60n })
    world.kick()
    // Far outside of user space nothing can be read.
    expect(states(world).at(-1)).toBe('failed -14')
  })
})

describe('waking', () => {
  const waiting = (profile?: string) => {
    const world = running(profile === undefined ? {} : { profile })
    world.send(FRAME, BUFFER + PAGE - 1n)
    world.kick()
    world.read()
    return world
  }

  it.each([
    ['the page that ends with the byte', BUFFER, PAGE, true],
    ['the byte alone', BUFFER + PAGE - 1n, 1n, true],
    ['the page behind it', BUFFER + PAGE, PAGE, false],
    ['all before it', 0n, BUFFER + PAGE - 1n, false],
  ])('an UPDATE of %s', (_what, gpa, bytes, wakes) => {
    const world = waiting()
    world.update(IOVA + gpa, bytes, UA + gpa)
    expect(world.device.messages.pending).toHaveLength(wakes ? 0 : 1)
    // Who is woken misses the next byte.
    expect(world.device.messages.readable).toHaveLength(wakes ? 1 : 0)
  })

  it('kernels before 4.18.8 do not compare with the last byte', () => {
    const world = waiting('linux-4.18')
    world.update(IOVA + BUFFER, PAGE, UA + BUFFER)
    expect([world.device.messages.pending.length, world.queueOf().states.value]).toEqual([1, 'waits'])
    world.update(IOVA + BUFFER, PAGE + 1n, UA + BUFFER)
    expect(world.device.messages.pending).toEqual([])
  })

  it('an INVALIDATE wakes nobody, and a message that comes to a stopped queue is in vain', () => {
    const world = waiting()
    world.invalidate(0n, 0n)
    expect(world.device.messages.pending).toHaveLength(1)
    const kept = waiting('linux-6.1')
    kept.setBackend(0xffff_ffffn)
    kept.update(IOVA + BUFFER, PAGE, UA + BUFFER)
    expect([kept.queueOf().states.value, kept.device.messages.pending]).toEqual(['stopped', []])
  })

  it('messages go with the backend', () => {
    const world = waiting()
    world.kick()
    world.setBackend(0xffff_ffffn)
    expect([world.device.messages.readable, world.device.messages.pending]).toEqual([[], []])
  })

  it('who answers from the inside is asked between two runs', () => {
    const world = running()
    const { device, qemu, send, kick, collect } = world
    let asked = 0
    device.onReadable = () => {
      for (let miss = device.read(); miss !== null; miss = device.read()) {
        asked++
        const iova = miss.iova & ~0xfffn
        device.write({ version: 2, type: 2, iova, bytes: 0x1000n, ua: iova - IOVA + UA, perm: 3 }, qemu)
      }
    }
    send(FRAME, BUFFER + PAGE - 20n)
    kick()
    expect([asked, collect()]).toEqual([2, digits(FRAME)])
    // And one who does not answer is not asked for ever.
    device.onReadable = () => {
      asked++
    }
    send(FRAME, BUFFER + 0x1_0000n)
    kick()
    expect(asked).toBe(3)
  })
})

describe('the life of a device', () => {
  it('an INVALIDATE from the inside drops maps as one of user space does', () => {
    const world = running()
    world.device.invalidate(0n, 0n)
    expect(world.device.tables.iotlb?.count).toBe(0)
    expect(eventsOf(world, 'iotlb.drop')).toMatchObject([{ iova: 0n, last: (1n << 64n) - 1n, maps: 1 }])
    const plain = owned()
    plain.device.invalidate(0n, 0n)
    expect(eventsOf(plain, 'iotlb.drop')).toEqual([])
  })

  it('a file that its owner has handed on works in memory that the model does not keep', () => {
    const world = running()
    world.call(PROC_FORK, { child: 'child' })
    world.call(PROC_EXIT, { process: 'qemu' })
    world.processes.actor = 'child'
    world.kick()
    expect(eventsOf(world, 'unmodelled')).toHaveLength(1)
    expect(world.call(CLOSE, { fd: world.fd }).rule).toBe('done')
    expect(eventsOf(world, 'vhost.queue').at(-1)).toMatchObject({ state: 'stopped' })
  })

  it('a map of all addresses has a worker spin that looks for a ring at 0, and cuts a buffer short', () => {
    const everything = (world: World) => world.update(0n, 0n, UA)
    const world = withRing({ profile: 'linux-5.15' })
    everything(world)
    expect([...world.device.tables.iotlb!.entries()]).toMatchObject([{ start: 0n, last: (1n << 64n) - 1n }])
    world.call(calls.VHOST_SET_VRING_ADDR, { fd: world.fd, index: 1n, avail: 0x100n, used: 0x1000n })
    expect([world.setBackend().rule, world.bugs.length]).toEqual(['done', 1])
    const buffer = withRing({ profile: 'linux-5.15' })
    everything(buffer)
    buffer.call(calls.VHOST_SET_VRING_ADDR, {
      fd: buffer.fd,
      index: 1n,
      desc: 0x10n,
      avail: 0x100n,
      used: 0x1000n,
    })
    buffer.setBackend()
    // Descriptor 0, which is at 0x10 now: a buffer at 0.
    const descriptor = new Uint8Array(16)
    descriptor[8] = 72
    buffer.qemu.mm.write(UA + 0x10n, descriptor)
    buffer.qemu.mm.write(UA + 0x102n, Uint8Array.of(1))
    buffer.kick()
    expect([states(buffer).at(-1), buffer.bugs]).toEqual(['failed -105', []])
  })

  it('is taken back as a whole', () => {
    const world = withRing({ journal: true })
    const { journal, update, send, kick, setBackend, read, device, call, fd } = world
    const mark = journal.mark()
    const before = journal.hash
    update(IOVA, 0x1_0000n, UA)
    setBackend()
    send(FRAME, BUFFER)
    kick()
    read()
    kick()
    update(IOVA + BUFFER, PAGE, UA + BUFFER)
    call(calls.VHOST_SET_FEATURES, { fd, features: BEHIND_IOTLB })
    call(calls.VHOST_RESET_OWNER, { fd })
    call(CLOSE, { fd })
    expect(journal.hash).not.toBe(before)
    journal.rollback(mark)
    expect(journal.hash).toBe(before)
    expect([device.tables.iotlb?.count, device.messages.pending, device.queues[1]?.isActive]).toEqual([
      0,
      [],
      false,
    ])
    update(IOVA, 0x1_0000n, UA)
    setBackend()
    send(FRAME, BUFFER)
    kick()
    expect(bytesOf(digits(FRAME))).toEqual(FRAME)
    expect(device.messages.readable).toHaveLength(1)
  })
})
