import { readdirSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { messageOf, wordPayload } from '../../src/peer/vhost-user/codec.ts'
import type { Message } from '../../src/peer/vhost-user/descriptors.ts'
import type { Fault } from '../../src/peer/vhost-user/faults.ts'
import { C, type Libc, loadLibc } from '../../src/peer/vhost-user/libc.ts'
import { MessageStream } from '../../src/peer/vhost-user/message-stream.ts'
import { Poller } from '../../src/peer/vhost-user/poller.ts'
import { sendWith, until } from '../support/vhost-front-end.ts'

let why = ''
const libc = await loadLibc().catch((error: Error) => {
  why = ` (skipped: ${error.message})`
  return undefined
})

describe.skipIf(libc === undefined)(`messages on a stream socket${why}`, () => {
  const c = libc as Libc
  let poller: Poller
  let running: Promise<void>
  let ours = -1
  let messages: Message[]
  let ends: (Fault | undefined)[]
  let before = 0
  const opened = (): number => readdirSync('/proc/self/fd').length

  const listen = (calls: Libc = c): MessageStream => {
    const fds = new Int32Array(2)
    c.socketpair(C.AF_UNIX, C.SOCK_STREAM | C.SOCK_CLOEXEC, fds)
    ours = fds[0] as number
    const stream = new MessageStream(calls, poller, fds[1] as number, {
      takesReplies: false,
      onMessage: (message) => messages.push(message),
      onEnd: (fault) => ends.push(fault),
    })
    expect(stream.listen()).toBe(true)
    return stream
  }

  beforeEach(() => {
    before = opened()
    messages = []
    ends = []
    poller = new Poller(c)
    running = poller.run()
  })
  afterEach(async () => {
    poller.stop()
    await running
    poller.close()
    c.close(ours)
    expect(opened()).toBe(before)
  })

  it('come whole, however they are cut', async () => {
    const stream = listen()
    const bytes = messageOf(2, 1, wordPayload(0x1234n))
    for (const byte of bytes) {
      sendWith(c, ours, Uint8Array.of(byte), [])
      await new Promise((resolve) => setImmediate(resolve))
    }
    await until('a message is there', () => messages.length === 1)
    expect(messages).toEqual([
      { header: { request: 2, flags: 1, payloadBytes: 8 }, payload: wordPayload(0x1234n), fds: [] },
    ])
    stream.close()
  })

  it('come one by one where several were sent at once', async () => {
    const stream = listen()
    const three = [1, 3, 15].map((request) => messageOf(request, 1, new Uint8Array(0)))
    sendWith(c, ours, Uint8Array.from(three.flatMap((m) => [...m])), [])
    await until('all are there', () => messages.length === 3)
    expect(messages.map(({ header }) => header.request)).toEqual([1, 3, 15])
    stream.close()
  })

  it('have the descriptors that were sent with them, whichever part carried them', async () => {
    const stream = listen()
    const bytes = messageOf(2, 1, wordPayload(0))
    sendWith(c, ours, bytes.subarray(0, 12), [0])
    sendWith(c, ours, bytes.subarray(12), [0, 0])
    sendWith(c, ours, bytes, [0])
    await until('both are there', () => messages.length === 2)
    expect(messages.map(({ fds }) => fds.length)).toEqual([3, 1])
    for (const { fds } of messages) for (const fd of fds) expect(c.close(fd)).toBe(0)
    stream.close()
  })

  it('end with the connection', async () => {
    listen()
    c.close(ours)
    ours = -1
    await until('the end is seen', () => ends.length === 1)
    expect(ends).toEqual([undefined])
  })

  it('that are not complete give their descriptors back', async () => {
    const stream = listen()
    sendWith(c, ours, messageOf(2, 1, wordPayload(0)).subarray(0, 13), [0, 0])
    await new Promise((resolve) => setTimeout(resolve, 20))
    stream.close()
    expect(messages).toEqual([])
  })

  it('of which descriptors were lost are refused', async () => {
    const MSG_FLAGS_AT = 48
    listen({
      ...c,
      recvmsg: (fd, address, flags) => {
        const got = c.recvmsg(fd, address, flags)
        // As the kernel says it when a process has no descriptors left.
        const header = new DataView(c.view(address, MSG_FLAGS_AT + 4))
        header.setUint32(MSG_FLAGS_AT, header.getUint32(MSG_FLAGS_AT, true) | C.MSG_CTRUNC, true)
        return got
      },
    })
    sendWith(c, ours, messageOf(2, 1, wordPayload(0)), [0])
    await until('the end is seen', () => ends.length === 1)
    expect(ends.map((fault) => fault?.rule)).toEqual(['descriptors-lost'])
  })

  it('are not sent where nobody listens any more', async () => {
    const stream = listen()
    expect(stream.send(wordPayload(1))).toBe(true)
    stream.close()
    expect(stream.send(wordPayload(1))).toBe(false)
  })
})
