import { parseScenario } from '../../src/cli/yaml-scenario.ts'
import { CATALOGUE } from '../../src/machine/registry.ts'
import type { Scenario } from '../../src/machine/scenario/scenario.ts'

/** A process P with two pages, bound to the device a by a driver of the kernel. */
export const BY_KERNEL = '  - { by: { process: P }, svm: bind, args: { device: a }, expect: OK }'

/**
 * A scenario of Linux 4.x with a process P of two pages at 0x1000000 and a device a.
 *
 * @param steps how it is bound, and what comes before the lanes: YAML, as in a file
 * @param lanes what stands below `concurrent`
 */
export const processScenario = (profile: string, steps: string, lanes: string): Scenario =>
  parseScenario(
    `
version: 1
title: a process exits while its device works
machine:
  kind: x86
  profile: "${profile}"
  ram: 16 MiB
  devices:
    - { name: a, kind: endpoint, bus: 3, slot: 2 }
  processes:
    - { name: P }
steps:
  - { iommu: attach, args: { device: a, domain: 3 }, expect: OK }
  - by: { process: P }
    sys: mmap
    args: { address: 0x1000000, bytes: 8 KiB, read: true, write: true }
    expect: OK
${steps}
concurrent:
${lanes}
`,
    'orders.yaml',
    CATALOGUE,
  )
