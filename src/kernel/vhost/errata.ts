import { declareErrata, type Profile } from '../../bits/errata.ts'

const CORE = 'drivers/vhost/vhost.c'

/** Where vhost of some kernels does not do what its interface promises, and where the interface changed. */
export const VHOST_ERRATA = declareErrata([
  {
    id: 'vhost-late-wake',
    title: 'an UPDATE does not wake who waits for its last byte',
    kind: 'defect',
    family: 'linux',
    versions: [
      { since: '4.8', until: '4.9.127' },
      { since: '4.10', until: '4.14.70' },
      { since: '4.15', until: '4.18.8' },
    ],
    wrong:
      'A queue that waits for the last byte of the range of an UPDATE is not woken: it hangs until the driver kicks it.',
    right: 'An UPDATE wakes every queue that waits for one of its bytes.',
    source: `Linux v4.18 ${CORE}, vhost_iotlb_notify_vq; since 6b1e6cc7855b (v4.8), fixed by "vhost: correctly check the iova range when waking virtqueue" (August 2018)`,
    evidence: 'source',
    scenario: 'scenarios/errata/vhost-late-wake.yaml',
  },
  {
    id: 'vhost-stale-metadata',
    title: 'a queue goes on with the rings that it remembers',
    kind: 'defect',
    family: 'linux',
    versions: [
      { since: '4.11', until: '5.10.265' },
      { since: '5.11', until: '5.15.216' },
      { since: '5.16', until: '6.1.183' },
      { since: '6.2', until: '6.6.152' },
      { since: '6.7', until: '6.12.104' },
      { since: '6.13', until: '6.18.45' },
      { since: '6.19', until: '7.1.9' },
    ],
    wrong:
      'VHOST_SET_VRING_NUM and VHOST_SET_VRING_ADDR leave the pointers to the maps that held the rings: the new rings are reached through the old maps, at addresses that those do not have.',
    right: 'Both calls make the queue forget: its rings are looked up anew before it runs.',
    source: `CVE-2026-74580; Linux v6.1.182 and v6.1.192 ${CORE}, vhost_vring_set_num_addr, vhost_vq_meta_fetch; since f88949138058 (v4.11). Run on Linux 6.1.176 and 6.1.192 (amd64): descriptors moved to an unmapped address, kicked; a miss comes with the second only`,
    evidence: 'run',
    scenario: 'scenarios/errata/vhost-stale-metadata.yaml',
    finding: 'stale-metadata',
  },
  {
    id: 'vhost-empty-update',
    title: 'an UPDATE of nothing maps everything',
    kind: 'defect',
    family: 'linux',
    versions: [
      { since: '5.7', until: '5.15.29' },
      { since: '5.16', until: '5.16.15' },
    ],
    wrong:
      'An UPDATE of 0 bytes at bus address 0 is taken: its map has all addresses and a size of 0. A queue whose rings begin at 0 spins for ever, and so does who ends its thread.',
    right: 'The message is refused, and a map of all addresses becomes two.',
    source: `Linux v5.16 ${CORE}, vhost_chr_write_iter; iotlb.c; since 0bbe30668d89 (v5.7), fixed by e2ae38cf3d91 (v5.17; stable 5.15.29, 5.16.15)`,
    evidence: 'source',
    scenario: 'scenarios/errata/vhost-empty-update.yaml',
    finding: 'stopped',
  },
  {
    id: 'vhost-empty-invalidate',
    title: 'an INVALIDATE of nothing is refused',
    kind: 'change',
    family: 'linux',
    versions: [
      { since: '5.15.29', until: '5.15.138' },
      { since: '5.16.15', until: '6.1.61' },
      { since: '6.2', until: '6.5.10' },
    ],
    wrong: 'An INVALIDATE of 0 bytes is answered with EINVAL, at bus address 0 as well.',
    right:
      'It is taken: at bus address 0 it drops every map (QEMU says so where a vIOMMU forgets everything), elsewhere those that reach from before the address to behind it.',
    source: `Linux v6.1 ${CORE}, vhost_chr_write_iter; since e2ae38cf3d91 (v5.17; stable 5.15.29, 5.16.15), changed back by ca50ec377c2e (v6.6; stable 5.15.138, 6.1.61, 6.5.10)`,
    evidence: 'source',
    scenario: 'scenarios/errata/vhost-empty-invalidate.yaml',
  },
  {
    id: 'vhost-keeps-messages',
    title: 'messages outlive the backend',
    kind: 'change',
    family: 'linux',
    versions: [{ since: '4.8', until: '6.1.11' }],
    wrong: 'Misses that nobody has read stay where a backend is taken away.',
    right: 'VHOST_NET_SET_BACKEND with -1 drops all messages of the device.',
    source:
      'Linux v6.1 drivers/vhost/net.c, vhost_net_set_backend; changed by 9526f9a2b762 (v6.2; stable 6.1.11)',
    evidence: 'source',
    scenario: 'scenarios/errata/vhost-keeps-messages.yaml',
  },
  {
    id: 'vhost-no-ring-reset',
    title: 'vhost-net does not offer VIRTIO_F_RING_RESET',
    kind: 'change',
    family: 'linux',
    versions: [{ since: '4.8', until: '6.3' }],
    wrong: 'Bit 40 is not offered, and features with it are refused.',
    right: 'Bit 40 is offered; nothing else comes of it.',
    source:
      'Linux v6.1.192 and v6.12.95 drivers/vhost/net.c, VHOST_NET_FEATURES; since 313389be06ff (v6.3); answers of Linux 6.12.95 (recordings/kernel-vhost)',
    evidence: 'run',
    scenario: 'scenarios/errata/vhost-no-ring-reset.yaml',
  },
  {
    id: 'vhost-no-buffer-count',
    title: 'a received frame does not say how many buffers it has',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '4.8', until: '6.14' }],
    wrong:
      'Without VIRTIO_NET_F_MRG_RXBUF num_buffers stays what the driver has left there, also with VIRTIO_F_VERSION_1.',
    right: 'num_buffers is 1, as virtio 1.0 has it.',
    source:
      'Linux v6.12.95 drivers/vhost/net.c, handle_rx; fixed by "vhost/net: Set num_buffers for virtio 1.0" (v6.14); answers of Linux 6.12.95 (recordings/kernel-vhost)',
    evidence: 'run',
    scenario: 'scenarios/errata/vhost-no-buffer-count.yaml',
  },
])

/** The errata of a profile, each read once. */
export interface VhostErrata {
  readonly wakesLate: boolean
  readonly keepsMetadata: boolean
  readonly takesEmptyUpdate: boolean
  readonly refusesEmptyInvalidate: boolean
  readonly keepsMessages: boolean
  readonly lacksRingReset: boolean
  readonly leavesBufferCount: boolean
}

export const vhostErrata = (profile: Profile): VhostErrata => ({
  wakesLate: profile.has('vhost-late-wake'),
  keepsMetadata: profile.has('vhost-stale-metadata'),
  takesEmptyUpdate: profile.has('vhost-empty-update'),
  refusesEmptyInvalidate: profile.has('vhost-empty-invalidate'),
  keepsMessages: profile.has('vhost-keeps-messages'),
  lacksRingReset: profile.has('vhost-no-ring-reset'),
  leavesBufferCount: profile.has('vhost-no-buffer-count'),
})
