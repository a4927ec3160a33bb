import {
  type Args,
  type CallTranslation,
  commandOf,
  ofContainer,
  ofGroup,
  one,
  type Translated,
  type Translation,
  u64,
} from './kernel-step.ts'

function openDevice({ own, devices }: Translation, args: Args): Translated {
  const group = own.groupOf(u64(args, 'fd'))
  if (typeof group === 'string') return group
  const name = devices.address(args['name'] as string)
  if (name === '') return 'the agent cannot pass a name without characters'
  const whenDone = () => {
    own.bar = name
  }
  return one(commandOf('device', { group, name }), { made: { kind: 'device', name }, whenDone })
}

/** How the agent makes ioctls of VFIO. */
export const VFIO_STEPS: Readonly<Record<string, CallTranslation>> = {
  'ioctl VFIO_GET_API_VERSION': ofContainer('version', {}),
  'ioctl VFIO_CHECK_EXTENSION': ofContainer('ext', { extension: 'extension' }),
  'ioctl VFIO_SET_IOMMU': ofContainer('iommu', { type: 'type' }, { locks: true }),
  'ioctl VFIO_GROUP_GET_STATUS': ofGroup('groupstatus', { outputs: { flags: 'flags' } }),
  'ioctl VFIO_GROUP_SET_CONTAINER': {
    carries: ['fd', 'container'],
    locks: true,
    to: ({ own }, args) => {
      const group = own.groupOf(u64(args, 'fd'))
      if (typeof group === 'string') return group
      const use = own.use(u64(args, 'container'))
      return typeof use === 'string' ? use : { commands: [...use, commandOf('attach', { group })] }
    },
  },
  'ioctl VFIO_GROUP_UNSET_CONTAINER': ofGroup('detach', { locks: true }),
  'ioctl VFIO_GROUP_GET_DEVICE_FD': { carries: ['fd', 'name'], to: openDevice },
  'ioctl VFIO_IOMMU_ENABLE': ofContainer('enable', {}, { locks: true }),
  'ioctl VFIO_IOMMU_DISABLE': ofContainer('disable', {}, { locks: true }),
  'ioctl VFIO_IOMMU_SPAPR_TCE_GET_INFO': ofContainer(
    'info',
    { argsz: 'argsz' },
    {
      outputs: {
        flags: 'flags',
        dma32_start: 'dma32Start',
        dma32_bytes: 'dma32Bytes',
        pgsizes: 'pageSizes',
        max_windows: 'windows',
        levels: 'levels',
      },
    },
  ),
  'ioctl VFIO_IOMMU_SPAPR_REGISTER_MEMORY': ofContainer(
    'register',
    { vaddr: 'vaddr', bytes: 'bytes', flags: 'flags' },
    { locks: true },
  ),
  'ioctl VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY': ofContainer(
    'unregister',
    { vaddr: 'vaddr', bytes: 'bytes', flags: 'flags' },
    { locks: true },
  ),
  'ioctl VFIO_IOMMU_SPAPR_TCE_CREATE': ofContainer(
    'create',
    { page_shift: 'pageShift', window_bytes: 'bytes', levels: 'levels', flags: 'flags' },
    { locks: true, outputs: { start_addr: 'start' } },
  ),
  'ioctl VFIO_IOMMU_SPAPR_TCE_REMOVE': ofContainer('remove', { start_addr: 'start' }, { locks: true }),
  'ioctl VFIO_IOMMU_MAP_DMA': ofContainer(
    'map',
    { iova: 'iova', vaddr: 'vaddr', bytes: 'bytes', flags: 'flags' },
    { locks: true },
  ),
  'ioctl VFIO_IOMMU_UNMAP_DMA': ofContainer(
    'unmap',
    { iova: 'iova', bytes: 'bytes', flags: 'flags' },
    { locks: true, outputs: { bytes: 'unmappedBytes' } },
  ),
  'ioctl VFIO_EEH_PE_OP': ofContainer('eeh', { op: 'op' }),
}
