import { IommulatorError } from '../../bits/errors.ts'

/** What a call of the C library gives: its value, or -errno. */
export type Result = number

/**
 * The few calls of the C library that Node has no way to make: descriptors over a socket, shared memory, events.
 * Each answers what the C function answers, or -errno.
 */
export interface Libc {
  socket(domain: number, type: number, protocol: number): Result
  bind(fd: number, address: Uint8Array): Result
  listen(fd: number, backlog: number): Result
  connect(fd: number, address: Uint8Array): Result
  accept(fd: number, flags: number): Result
  socketpair(domain: number, type: number, fds: Int32Array): Result
  /** Bytes of a socket's option that is an int. */
  getsockopt(fd: number, level: number, option: number, value: Int32Array): Result
  /** `message` is the address of a struct msghdr. */
  recvmsg(fd: number, message: bigint, flags: number): Result
  sendmsg(fd: number, message: bigint, flags: number): Result
  send(fd: number, bytes: Uint8Array, flags: number): Result
  read(fd: number, into: Uint8Array): Result
  write(fd: number, from: Uint8Array): Result
  close(fd: number): Result
  fcntl(fd: number, command: number, value: number): Result
  fallocate(fd: number, mode: number, offset: number, bytes: number): Result
  eventfd(value: number, flags: number): Result
  memfd(name: string, flags: number): Result
  epollCreate(flags: number): Result
  epollCtl(epoll: number, operation: number, fd: number, event: Uint8Array): Result
  epollWait(epoll: number, events: Uint8Array, timeoutMs: number): Result
  /** The same on another thread. */
  epollWaitAsync(epoll: number, events: Uint8Array, timeoutMs: number): Promise<Result>
  /** An address, or -errno. */
  mmap(bytes: number, protection: number, flags: number, fd: number): bigint
  munmap(address: bigint, bytes: number): Result
  /** Memory at an address. Must not be touched after it is unmapped: not even by the one who holds it. */
  view(address: bigint, bytes: number): ArrayBuffer
}

/** Numbers of the calls above, the same on every architecture of Linux that Node runs on. */
export const C = {
  AF_UNIX: 1,
  SOCK_STREAM: 1,
  SOCK_DGRAM: 2,
  SOCK_NONBLOCK: 0x800,
  SOCK_CLOEXEC: 0x8_0000,
  SOL_SOCKET: 1,
  SO_TYPE: 3,
  SO_DOMAIN: 39,
  SCM_RIGHTS: 1,
  MSG_CTRUNC: 8,
  MSG_DONTWAIT: 0x40,
  MSG_NOSIGNAL: 0x4000,
  MSG_CMSG_CLOEXEC: 0x4000_0000,
  F_SETFL: 4,
  O_RDWR: 2,
  O_NONBLOCK: 0x800,
  FALLOC_FL_KEEP_SIZE: 1,
  FALLOC_FL_PUNCH_HOLE: 2,
  EFD_CLOEXEC: 0x8_0000,
  EFD_NONBLOCK: 0x800,
  MFD_CLOEXEC: 1,
  EPOLL_CLOEXEC: 0x8_0000,
  EPOLL_CTL_ADD: 1,
  EPOLL_CTL_DEL: 2,
  EPOLL_CTL_MOD: 3,
  EPOLLIN: 1,
  PROT_READ: 1,
  PROT_WRITE: 2,
  MAP_SHARED: 1,
  MAP_PRIVATE: 2,
  MAP_ANONYMOUS: 0x20,
  EINTR: 4,
  EAGAIN: 11,
} as const

/** Why calls fail, for messages. */
const ERRNO_WORDS: Readonly<Record<number, string>> = {
  1: 'EPERM',
  2: 'ENOENT',
  4: 'EINTR',
  9: 'EBADF',
  11: 'EAGAIN',
  12: 'ENOMEM',
  13: 'EACCES',
  17: 'EEXIST',
  19: 'ENODEV',
  20: 'ENOTDIR',
  22: 'EINVAL',
  24: 'EMFILE',
  28: 'ENOSPC',
  32: 'EPIPE',
  40: 'ELOOP',
  88: 'ENOTSOCK',
  98: 'EADDRINUSE',
  104: 'ECONNRESET',
  111: 'ECONNREFUSED',
}

/** The name of the errno in a result below 0. */
export const errnoName = (result: number | bigint): string =>
  ERRNO_WORDS[-Number(result)] ?? `errno ${-Number(result)}`

/** Machines on which the numbers above, and the layout of epoll events, are known. */
const ARCHITECTURES: readonly string[] = ['x64', 'arm64', 'riscv64', 'loong64']

/**
 * Bytes of a struct epoll_event, and where its word of user data stands: packed on x86-64 only.
 * (Linux include/uapi/linux/eventpoll.h)
 */
export const EPOLL_EVENT: { readonly bytes: number; readonly dataAt: number } =
  process.arch === 'x64' ? { bytes: 12, dataAt: 4 } : { bytes: 16, dataAt: 8 }

const HOW_TO =
  'install it with "npm install koffi@3.3.4"; it is an optional dependency with binaries for most platforms'

/** The library that calls C functions. @throws IommulatorError ERR_PEER where it is missing */
async function loadKoffi() {
  try {
    return (await import('koffi')).default
  } catch (error) {
    const { message } = error as Error
    const first = message.split('\n')[0] ?? ''
    throw new IommulatorError('ERR_PEER', `koffi cannot be loaded: ${HOW_TO} (${first})`, {}, error)
  }
}

let loaded: Promise<Libc> | undefined

/**
 * The C library of this process.
 *
 * @throws IommulatorError ERR_PEER where this is no Linux that it knows, or koffi has no binary for it
 */
export function loadLibc(): Promise<Libc> {
  loaded ??= bindLibc()
  return loaded
}

async function bindLibc(): Promise<Libc> {
  const { platform, arch } = process
  if (platform !== 'linux' || !ARCHITECTURES.includes(arch)) {
    const where = `sockets that carry file descriptors need Linux on ${ARCHITECTURES.join(', ')}`
    throw new IommulatorError('ERR_PEER', `${where}; this is ${platform} on ${arch}`)
  }
  const koffi = await loadKoffi()
  const c = koffi.load(null)
  const func = <A extends readonly unknown[]>(text: string): ((...args: A) => number) => {
    const call = c.func(text)
    // Errno is read at once: the next call of any kind may change it.
    return (...args) => {
      const value = Number(call(...args))
      return value < 0 ? -koffi.errno() : value
    }
  }
  const socket = func<[number, number, number]>('int socket(int, int, int)')
  const bind = func<[number, Uint8Array, number]>('int bind(int, const void *, uint32_t)')
  const connect = func<[number, Uint8Array, number]>('int connect(int, const void *, uint32_t)')
  const listen = func<[number, number]>('int listen(int, int)')
  const accept = func<[number, null, null, number]>('int accept4(int, void *, void *, int)')
  const pair = func<[number, number, number, Int32Array]>('int socketpair(int, int, int, void *)')
  const option = func<[number, number, number, Int32Array, Uint32Array]>(
    'int getsockopt(int, int, int, void *, void *)',
  )
  const recvmsg = func<[number, bigint, number]>('int64_t recvmsg(int, void *, int)')
  const sendmsg = func<[number, bigint, number]>('int64_t sendmsg(int, void *, int)')
  const send = func<[number, Uint8Array, number, number]>('int64_t send(int, const void *, size_t, int)')
  const read = func<[number, Uint8Array, number]>('int64_t read(int, void *, size_t)')
  const write = func<[number, Uint8Array, number]>('int64_t write(int, const void *, size_t)')
  const munmap = func<[bigint, number]>('int munmap(void *, size_t)')
  const epollCtl = func<[number, number, number, Uint8Array]>('int epoll_ctl(int, int, int, void *)')
  const epollWait = func<[number, Uint8Array, number, number]>('int epoll_wait(int, void *, int, int)')
  const rawEpollWait = c.func('int epoll_wait(int, void *, int, int)')
  const rawMmap = c.func('void *mmap(void *, size_t, int, int, int, int64_t)')
  return {
    socket,
    bind: (fd, address) => bind(fd, address, address.length),
    connect: (fd, address) => connect(fd, address, address.length),
    listen,
    accept: (fd, flags) => accept(fd, null, null, flags),
    socketpair: (domain, type, fds) => pair(domain, type, 0, fds),
    getsockopt: (fd, level, name, value) => option(fd, level, name, value, Uint32Array.of(4)),
    recvmsg,
    sendmsg,
    send: (fd, bytes, flags) => send(fd, bytes, bytes.length, flags),
    read: (fd, into) => read(fd, into, into.length),
    write: (fd, from) => write(fd, from, from.length),
    close: func('int close(int)'),
    fcntl: func('int fcntl(int, int, int)'),
    fallocate: func('int fallocate(int, int, int64_t, int64_t)'),
    eventfd: func('int eventfd(unsigned int, int)'),
    memfd: func('int memfd_create(const char *, unsigned int)'),
    epollCreate: func('int epoll_create1(int)'),
    epollCtl,
    epollWait: (epoll, events, timeoutMs) =>
      epollWait(epoll, events, Math.floor(events.length / EPOLL_EVENT.bytes), timeoutMs),
    epollWaitAsync: (epoll, events, timeoutMs) =>
      new Promise((done, failed) => {
        const most = Math.floor(events.length / EPOLL_EVENT.bytes)
        // Errno belongs to a thread, and is not to be had from that one: -1 is all that is known.
        rawEpollWait.async(epoll, events, most, timeoutMs, (error: Error | null, value: number) =>
          error === null ? done(value) : failed(error),
        )
      }),
    mmap: (bytes, protection, flags, fd) => {
      const address: unknown = rawMmap(null, bytes, protection, flags, fd, 0)
      const at = typeof address === 'bigint' ? address : koffi.address(address)
      return BigInt.asIntN(64, at) === -1n ? -BigInt(koffi.errno()) : at
    },
    munmap: (address, bytes) => munmap(address, bytes),
    view: (address, bytes) => koffi.view(address, bytes),
  }
}
