#!/usr/bin/env node
// Everything that a fresh clone needs before its first run: dependencies from the lockfile, then the build.
// Runs before `npm start` and `npm test`; does nothing when both are up to date. Plain JavaScript, because it
// runs before there is a compiler.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const at = (...names) => join(root, ...names)

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 20 || (major === 20 && minor < 19)) {
  process.stderr.write(`iommulator needs Node 20.19 or later; this is ${process.versions.node}\n`)
  process.exit(4)
}

const run = (command, args, what) => {
  const done = spawnSync(command, args, {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    shell: process.platform === 'win32',
  })
  if (done.status === 0) return
  const said = `${done.stdout ?? ''}${done.stderr ?? ''}${done.error ?? ''}`
  process.stderr.write(`${what} failed: ${command} ${args.join(' ')}\n${said}\n`)
  process.exit(4)
}

const lock = readFileSync(at('package-lock.json'), 'utf8')
const stamp = at('node_modules', '.iommulator-lock')
if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== lock) {
  process.stderr.write('installing dependencies ...\n')
  // Not `npm ci`: it refuses a lockfile that lacks the packages of platforms which the registry at hand does not
  // carry. What the lockfile has is installed as it says, and it is not written.
  run(
    'npm',
    ['install', '--no-save', '--no-audit', '--no-fund', '--ignore-scripts'],
    'installing the dependencies',
  )
  writeFileSync(stamp, lock)
}

const newest = (path) =>
  statSync(path).isDirectory()
    ? Math.max(0, ...readdirSync(path).map((name) => newest(join(path, name))))
    : statSync(path).mtimeMs
const built = at('dist', '.built')
const sources = Math.max(newest(at('src')), newest(at('tsconfig.json')), newest(at('tsconfig.build.json')))
if (!existsSync(built) || statSync(built).mtimeMs < sources) {
  process.stderr.write('building ...\n')
  run(
    process.execPath,
    [at('node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.build.json'],
    'the build',
  )
  writeFileSync(built, '')
}
