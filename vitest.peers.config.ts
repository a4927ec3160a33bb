import { defineConfig } from 'vitest/config'

// Peers are machines: they run one at a time, and take their time.
export default defineConfig({
  test: {
    include: ['test/peers/*.peers.ts'],
    testTimeout: 300_000,
    hookTimeout: 300_000,
    fileParallelism: false,
  },
})
