import { defineConfig } from 'vitest/config'

// Guests boot one at a time: a machine of two cores has one for QEMU and one for the back end.
export default defineConfig({
  test: {
    include: ['test/guests/*.guests.ts'],
    testTimeout: 300_000,
    hookTimeout: 60_000,
    fileParallelism: false,
  },
})
