import { logEvent } from './log-format.ts'

const DEVICE = '{bus:x8}:{slot:x8}.{fn:x8}'
const PAGE = 'sid 0x{sid:x32} iova 0x{iova:x64} slpte 0x{slpte:x64} domain 0x{domain:x32}'
const CONTEXT = 'bus 0x{bus:x32} devfn 0x{devfn:x32} high 0x{hi:x64} low 0x{lo:x64}'
const REGISTER = 'addr 0x{offset:x64} size 0x{bytes:x64}'
const MSI = 'addr 0x{address:x64}, data 0x{data:x64}'
const REMAPPED_MSI = 'addr 0x{remappedAddress:x64}, data 0x{remappedData:x64}'
const MSI_EXAMPLE = 'addr 0xfee00000, data 0x0'
const SKIPPED = 'Page walk skip iova 0x{iova:x64} - 0x{next:x64}'

/** hw/i386/intel_iommu.c: invalidations and their queue. */
const INVALIDATION = [
  logEvent('vtd_inv_desc', 'invalidate desc type {kind:text} high 0x{hi:x64} low 0x{lo:x64}', {
    doc: 'A descriptor of the invalidation queue is carried out. The kinds are context-cache, iotlb, device, iec, wait; a device-TLB one (device) has no further line.',
    example: 'vtd_inv_desc invalidate desc type iotlb high 0x0 low 0x300e2',
  }),
  logEvent('vtd_inv_desc_cc_domain', 'context invalidate domain 0x{domain:x32}', {
    doc: 'Context entries of a domain are forgotten; QEMU forgets all.',
    example: 'vtd_inv_desc_cc_domain context invalidate domain 0x3',
  }),
  logEvent('vtd_inv_desc_cc_global', 'context invalidate globally', {
    doc: 'All context entries are forgotten, and the address spaces of all devices looked at again.',
    example: 'vtd_inv_desc_cc_global context invalidate globally',
  }),
  logEvent('vtd_inv_desc_cc_device', `context invalidate device ${DEVICE}`, {
    doc: 'The context entry of a device that has been seen is forgotten.',
    example: 'vtd_inv_desc_cc_device context invalidate device 00:01.00',
  }),
  logEvent('vtd_inv_desc_cc_devices', 'context invalidate devices sid 0x{sid:x32} fmask 0x{fmask:x32}', {
    doc: 'Context entries of a device, or of several functions of it, are to be forgotten; a vtd_inv_desc_cc_device follows for each that has been seen.',
    example: 'vtd_inv_desc_cc_devices context invalidate devices sid 0x8 fmask 0x0',
  }),
  logEvent('vtd_inv_desc_iotlb_global', 'iotlb invalidate global', {
    doc: 'The IOTLB is emptied. Page tables of devices with notifiers are walked, and what is gone since the last walk is unmapped.',
    example: 'vtd_inv_desc_iotlb_global iotlb invalidate global',
  }),
  logEvent('vtd_inv_desc_iotlb_domain', 'iotlb invalidate whole domain 0x{domain:x32}', {
    doc: 'The IOTLB forgets a domain. Page tables of its devices with notifiers are walked, and what is gone since the last walk is unmapped: listeners do not hear of pages that came and went in between.',
    example: 'vtd_inv_desc_iotlb_domain iotlb invalidate whole domain 0x3',
  }),
  logEvent(
    'vtd_inv_desc_iotlb_pages',
    'iotlb invalidate domain 0x{domain:x32} addr 0x{iova:x64} mask 0x{order:x32}',
    {
      doc: 'The IOTLB forgets 2^order pages of 4 KiB of a domain; listeners that want UNMAP are told of them. What is printed as mask is the order.',
      example: 'vtd_inv_desc_iotlb_pages iotlb invalidate domain 0x5 addr 0xffeb9000 mask 0x0',
    },
  ),
  logEvent(
    'vtd_inv_desc_iotlb_pasid_pages',
    'iotlb invalidate domain 0x{domain:x32} addr 0x{iova:x64} mask 0x{order:x32} pasid 0x{pasid:x32}',
    {
      doc: 'The same for pages of one PASID. Declared in QEMU 7.2 and never printed by it.',
      example: 'vtd_inv_desc_iotlb_pasid_pages iotlb invalidate domain 0x5 addr 0x10000 mask 0x0 pasid 0x1',
    },
  ),
  logEvent('vtd_inv_desc_iotlb_pasid', 'iotlb invalidate domain 0x{domain:x32} pasid 0x{pasid:x32}', {
    doc: 'The IOTLB forgets a PASID of a domain. Declared in QEMU 7.2 and never printed by it.',
    example: 'vtd_inv_desc_iotlb_pasid iotlb invalidate domain 0x5 pasid 0x1',
  }),
  logEvent('vtd_inv_desc_pasid_cache_gsi', '', {
    doc: 'All PASID entries are forgotten. Printed since QEMU 11.',
    example: 'vtd_inv_desc_pasid_cache_gsi ',
  }),
  logEvent('vtd_inv_desc_pasid_cache_dsi', 'Domain selective PC invalidation domain 0x{domain:x32}', {
    doc: 'PASID entries of a domain are forgotten. Printed since QEMU 11.',
    example: 'vtd_inv_desc_pasid_cache_dsi Domain selective PC invalidation domain 0x1',
  }),
  logEvent(
    'vtd_inv_desc_pasid_cache_psi',
    'PASID selective PC invalidation domain 0x{domain:x32} pasid 0x{pasid:x32}',
    {
      doc: 'The entry of a PASID of a domain is forgotten. Printed since QEMU 11.',
      example: 'vtd_inv_desc_pasid_cache_psi PASID selective PC invalidation domain 0x1 pasid 0x5',
    },
  ),
  logEvent('vtd_pasid_cache_reset', '', {
    doc: 'What the unit remembers of PASID entries for devices of the host is dropped. Printed since QEMU 11.',
    example: 'vtd_pasid_cache_reset ',
  }),
  logEvent('vtd_pasid_cache_devsi', `Dev selective PC invalidation dev: ${DEVICE}`, {
    doc: 'The same for one device. Printed since QEMU 11.',
    example: 'vtd_pasid_cache_devsi Dev selective PC invalidation dev: 00:04.00',
  }),
  logEvent('vtd_inv_desc_wait_sw', 'wait invalidate status write addr 0x{address:x64} data 0x{data:x32}', {
    doc: 'All descriptors before this wait are done; the status is written next. Listeners have been told by then.',
    example: 'vtd_inv_desc_wait_sw wait invalidate status write addr 0x11c64c4 data 0x2',
  }),
  logEvent('vtd_inv_desc_wait_irq', '{message:text}', {
    doc: 'A wait asks for an interrupt: one is raised, or masked, or pending already.',
    example: 'vtd_inv_desc_wait_irq One pending, skip current',
  }),
  logEvent('vtd_inv_desc_wait_write_fail', 'write fail for wait desc hi 0x{hi:x64} lo 0x{lo:x64}', {
    doc: 'The status of a wait could not be written: its address is no memory.',
    example: 'vtd_inv_desc_wait_write_fail write fail for wait desc hi 0xf0000000 lo 0x200000025',
  }),
  logEvent('vtd_inv_desc_iec', 'granularity 0x{granularity:x32} index 0x{index:x32} mask 0x{order:x32}', {
    doc: 'Entries of the interrupt remapping table are forgotten: all (granularity 0), or 2^order from an index on.',
    example: 'vtd_inv_desc_iec granularity 0x1 index 0xb mask 0x0',
  }),
  logEvent('vtd_inv_qi_enable', 'enabled {on:d32}', {
    doc: 'Software switches the invalidation queue on or off.',
    example: 'vtd_inv_qi_enable enabled 1',
  }),
  logEvent('vtd_inv_qi_setup', 'addr 0x{address:x64} size {entries:d32}', {
    doc: 'The invalidation queue is on: where it is, and its descriptors.',
    example: 'vtd_inv_qi_setup addr 0x11bd000 size 256',
  }),
  logEvent('vtd_inv_qi_head', 'read head {head:d32}', {
    doc: 'The next descriptor is read.',
    example: 'vtd_inv_qi_head read head 0',
  }),
  logEvent('vtd_inv_qi_tail', 'write tail {tail:d32}', {
    doc: 'Software wrote the tail of the queue.',
    example: 'vtd_inv_qi_tail write tail 2',
  }),
  logEvent('vtd_inv_qi_fetch', '', {
    doc: 'The queue is worked on until it is empty, or an error stops it.',
    example: 'vtd_inv_qi_fetch ',
  }),
] as const

/** hw/i386/intel_iommu.c: caches and walks. */
const TRANSLATION = [
  logEvent('vtd_context_cache_reset', '', {
    doc: 'The context cache is emptied.',
    example: 'vtd_context_cache_reset ',
  }),
  logEvent('vtd_re_not_present', 'Root entry bus {busNumber:u32} not present', {
    doc: 'A device has no root entry.',
    example: 'vtd_re_not_present Root entry bus 0 not present',
  }),
  logEvent('vtd_ce_not_present', 'Context entry bus {busNumber:u32} devfn {devfnNumber:u32} not present', {
    doc: 'A device has no context entry.',
    example: 'vtd_ce_not_present Context entry bus 0 devfn 8 not present',
  }),
  logEvent('vtd_iotlb_page_hit', `IOTLB page hit ${PAGE}`, {
    doc: 'A translation is in the IOTLB. Its permissions are not looked at here.',
    example: 'vtd_iotlb_page_hit IOTLB page hit sid 0x100 iova 0xffffb404 slpte 0x1c77c003 domain 0x5',
  }),
  logEvent('vtd_iotlb_page_update', `IOTLB page update ${PAGE}`, {
    doc: 'A translation that was walked goes into the IOTLB: bit 0 of the entry allows reads, bit 1 writes.',
    example: 'vtd_iotlb_page_update IOTLB page update sid 0x100 iova 0xfffff240 slpte 0x1c775003 domain 0x5',
  }),
  logEvent('vtd_iotlb_cc_hit', `IOTLB context hit ${CONTEXT} gen {generation:u32}`, {
    doc: 'The context entry of a device is in the cache. Bits [23:8] of the high half are the domain.',
    example: 'vtd_iotlb_cc_hit IOTLB context hit bus 0x1 devfn 0x0 high 0x502 low 0x2755005 gen 1',
  }),
  logEvent(
    'vtd_iotlb_cc_update',
    `IOTLB context update ${CONTEXT} gen {generationBefore:u32} -> gen {generation:u32}`,
    {
      doc: 'The context entry of a device was read and goes into the cache. Bits [23:8] of the high half are the domain, bits [3:2] of the low half the kind of translation.',
      example:
        'vtd_iotlb_cc_update IOTLB context update bus 0x1 devfn 0x0 high 0x502 low 0x2755005 gen 0 -> gen 1',
    },
  ),
  logEvent('vtd_iotlb_reset', 'IOTLB reset (reason: {message:text})', {
    doc: 'The IOTLB was full and is emptied.',
    example: 'vtd_iotlb_reset IOTLB reset (reason: iotlb exceeds size limit)',
  }),
  logEvent('vtd_fault_disabled', 'Fault processing disabled for context entry', {
    doc: 'A fault is not reported: the context entry says so (FPD).',
    example: 'vtd_fault_disabled Fault processing disabled for context entry',
  }),
  logEvent(
    'vtd_replay_ce_valid',
    `{message:text}: replay valid context device ${DEVICE} domain 0x{domain:x32} hi 0x{hi:x64} lo 0x{lo:x64}`,
    {
      doc: 'A listener that wants MAP asks for all mappings of a device, whose context entry is present.',
      example:
        'vtd_replay_ce_valid legacy mode: replay valid context device 00:03.00 domain 0x3 hi 0x301 lo 0x2724001',
    },
  ),
  logEvent('vtd_replay_ce_invalid', `replay invalid context device ${DEVICE}`, {
    doc: 'The same for a device that has no context entry.',
    example: 'vtd_replay_ce_invalid replay invalid context device 00:03.00',
  }),
  logEvent(
    'vtd_page_walk_level',
    'walk (base=0x{tableAddress:x64}, level={level:u32}) iova range 0x{iova:x64} - 0x{next:x64}',
    {
      doc: 'Page tables are walked for a listener: one table begins.',
      example: 'vtd_page_walk_level walk (base=0x2724000, level=3) iova range 0x0 - 0x8000000000',
    },
  ),
  logEvent(
    'vtd_page_walk_one',
    'domain 0x{domain:x32} iova 0x{iova:x64} -> gpa 0x{gpa:x64} mask 0x{mask:x64} perm {perm:d32}',
    {
      doc: 'A walk found what the tree of its device did not have, and changes the tree: mapped, or gone (perm 0). Listeners that asked for such changes are told.',
      example: 'vtd_page_walk_one domain 0x3 iova 0xfffff000 -> gpa 0x195a8000 mask 0xfff perm 3',
    },
  ),
  logEvent('vtd_page_walk_one_skip_map', 'iova 0x{iova:x64} mask 0x{mask:x64} translated 0x{gpa:x64}', {
    doc: 'A walk found a mapping that the tree of its device has already: nobody is told.',
    example: 'vtd_page_walk_one_skip_map iova 0xfffff000 mask 0xfff translated 0x195a8000',
  }),
  logEvent('vtd_page_walk_one_skip_unmap', 'iova 0x{iova:x64} mask 0x{mask:x64}', {
    doc: 'A walk found nothing mapped where the tree of its device has nothing either: nobody is told, not even one who used a translation in between.',
    example: 'vtd_page_walk_one_skip_unmap iova 0xffff8000 mask 0xfff',
  }),
  logEvent('vtd_page_walk_skip_read', `${SKIPPED} due to unable to read`, {
    doc: 'A table entry could not be read; the walk goes on behind it.',
    example: 'vtd_page_walk_skip_read Page walk skip iova 0x0 - 0x40000000 due to unable to read',
  }),
  logEvent('vtd_page_walk_skip_reserve', `${SKIPPED} due to rsrv set`, {
    doc: 'A table entry has reserved bits; the walk goes on behind it.',
    example: 'vtd_page_walk_skip_reserve Page walk skip iova 0x0 - 0x40000000 due to rsrv set',
  }),
  logEvent(
    'vtd_switch_address_space',
    'Device {bus:x8}:{slot:x8}.{function:x32} switching address space (iommu enabled={on:d32})',
    {
      doc: 'A device is behind the IOMMU from now on, or reaches memory directly.',
      example: 'vtd_switch_address_space Device 00:01.0 switching address space (iommu enabled=1)',
    },
  ),
  logEvent(
    'vtd_as_unmap_whole',
    'Device {bus:x8}:{slot:x8}.{function:x32} start 0x{start:x64} size 0x{bytes:x64}',
    {
      doc: 'A listener is told that a whole range of a device is unmapped.',
      example: 'vtd_as_unmap_whole Device 00:01.0 start 0x0 size 0x80000000',
    },
  ),
  logEvent('vtd_translate_pt', 'source id 0x{sid:x32}, iova 0x{iova:x64}', {
    doc: 'A device is passed through: the bus address is the guest physical address.',
    example: 'vtd_translate_pt source id 0x20, iova 0x12000',
  }),
  logEvent('vtd_pt_enable_fast_path', 'sid 0x{sid:x32} {on:d32}', {
    doc: 'A device that is passed through reaches memory directly from now on, or could not be made to.',
    example: 'vtd_pt_enable_fast_path sid 0x20 1',
  }),
  logEvent('vtd_dmar_translate', `dev ${DEVICE} iova 0x{iova:x64} -> gpa 0x{gpa:x64} mask 0x{mask:x64}`, {
    doc: 'A DMA, or the miss of a vhost device, was translated. The bus address is that of the page.',
    example: 'vtd_dmar_translate dev 01:00.00 iova 0xfffff000 -> gpa 0x1c775000 mask 0xfff',
  }),
  logEvent('vtd_dmar_fault', 'sid 0x{sid:x32} fault {fault:d32} addr 0x{iova:x64} write {write:d32}', {
    doc: 'A translation failed, by the fault reason that is printed in decimal. Faults that are not recorded print it as well.',
    example: 'vtd_dmar_fault sid 0x20 fault 6 addr 0x10000 write 0',
  }),
] as const

/** hw/i386/intel_iommu.c: registers, interrupts, faults. */
const UNIT = [
  logEvent('vtd_irq_generate', 'addr 0x{address:x64} data 0x{data:x64}', {
    doc: 'The unit raises an interrupt of its own.',
    example: 'vtd_irq_generate addr 0xfee01004 data 0x21',
  }),
  logEvent('vtd_reg_read', REGISTER, {
    doc: 'Software read a register.',
    example: 'vtd_reg_read addr 0x8 size 0x8',
  }),
  logEvent('vtd_reg_write', `${REGISTER} value 0x{value:x64}`, {
    doc: 'Software wrote a register; the lines that follow say what came of it.',
    example: 'vtd_reg_write addr 0x88 size 0x4 value 0x0',
  }),
  logEvent('vtd_reg_dmar_root', 'addr 0x{address:x64} scalable {scalable:d32}', {
    doc: 'The root table is taken over.',
    example: 'vtd_reg_dmar_root addr 0x26fe000 scalable 0',
  }),
  logEvent('vtd_reg_ir_root', 'addr 0x{address:x64} size 0x{tableEntries:x32}', {
    doc: 'The interrupt remapping table is taken over.',
    example: 'vtd_reg_ir_root addr 0x1200000 size 0x10000',
  }),
  logEvent('vtd_reg_write_gcmd', 'status 0x{status:x32} value 0x{command:x32}', {
    doc: 'Software wrote the global command register; status is the global status before.',
    example: 'vtd_reg_write_gcmd status 0x0 value 0x4000000',
  }),
  logEvent('vtd_reg_write_fectl', 'value 0x{command:x32}', {
    doc: 'Software wrote the fault event control register.',
    example: 'vtd_reg_write_fectl value 0x0',
  }),
  logEvent('vtd_reg_write_iectl', 'value 0x{command:x32}', {
    doc: 'Software wrote the invalidation event control register.',
    example: 'vtd_reg_write_iectl value 0x0',
  }),
  logEvent('vtd_reg_ics_clear_ip', '', {
    doc: 'Software cleared the invalidation completion: its pending interrupt goes.',
    example: 'vtd_reg_ics_clear_ip ',
  }),
  logEvent('vtd_dmar_enable', 'enable {on:d32}', {
    doc: 'Software switches DMA remapping on or off.',
    example: 'vtd_dmar_enable enable 1',
  }),
  logEvent('vtd_ir_enable', 'enable {on:d32}', {
    doc: 'Software switches interrupt remapping on or off.',
    example: 'vtd_ir_enable enable 1',
  }),
  logEvent('vtd_ir_irte_get', 'index {irte:d32} low 0x{lo:x64} high 0x{hi:x64}', {
    doc: 'An entry of the interrupt remapping table was read. QEMU prints the two halves swapped.',
    example: 'vtd_ir_irte_get index 1 low 0x4ff00 high 0x1000030000d',
  }),
  logEvent(
    'vtd_ir_remap',
    'index {irte:d32} trigger {trigger:d32} vector {vectorNumber:d32} deliver {delivery:d32} dest 0x{destination:x32} mode {mode:d32}',
    {
      doc: 'An interrupt was remapped by an entry of the table.',
      example: 'vtd_ir_remap index 1 trigger 0 vector 48 deliver 0 dest 0x1 mode 1',
    },
  ),
  logEvent('vtd_ir_remap_type', '{message:text}', {
    doc: 'Where the interrupt came from: IOAPIC or MSI.',
    example: 'vtd_ir_remap_type IOAPIC',
  }),
  logEvent('vtd_ir_remap_msi', `(${MSI}) -> (${REMAPPED_MSI})`, {
    doc: 'The write of an interrupt, before and after it was remapped.',
    example: `vtd_ir_remap_msi (${MSI_EXAMPLE}) -> (${MSI_EXAMPLE})`,
  }),
  logEvent('vtd_ir_remap_msi_req', 'addr 0x{address:x64} data 0x{data:x64}', {
    doc: 'A device writes an interrupt.',
    example: 'vtd_ir_remap_msi_req addr 0xfee00000 data 0x0',
  }),
  logEvent('vtd_fsts_ppf', 'FSTS PPF bit set to {on:d32}', {
    doc: 'The unit has a fault pending, or no more.',
    example: 'vtd_fsts_ppf FSTS PPF bit set to 1',
  }),
  logEvent('vtd_fsts_clear_ip', '', {
    doc: 'Software cleared the fault status: the pending fault interrupt goes.',
    example: 'vtd_fsts_clear_ip ',
  }),
  logEvent('vtd_frr_new', 'index {record:d32} high 0x{hi:x64} low 0x{lo:x64}', {
    doc: 'A fault recording register is written.',
    example: 'vtd_frr_new index 0 high 0x4000070680000020 low 0x10000',
  }),
  logEvent('vtd_warn_invalid_qi_tail', 'tail 0x{tail:x32}', {
    doc: 'Software wrote a tail beyond the queue.',
    example: 'vtd_warn_invalid_qi_tail tail 0x1ff',
  }),
  logEvent(
    'vtd_warn_ir_vector',
    'sid 0x{sid:x32} index {irte:d32} vec {vectorNumber:d32} (should be: {expected:d32})',
    {
      doc: 'An interrupt carries another vector than its table entry. Comes with nearly every one of the I/O APIC.',
      example: 'vtd_warn_ir_vector sid 0xffff index 1 vec 2 (should be: 48)',
    },
  ),
  logEvent(
    'vtd_warn_ir_trigger',
    'sid 0x{sid:x32} index {irte:d32} trigger {trigger:d32} (should be: {expected:d32})',
    {
      doc: 'An interrupt has another trigger mode than its table entry.',
      example: 'vtd_warn_ir_trigger sid 0xffff index 22 trigger 1 (should be: 0)',
    },
  ),
  logEvent('vtd_reset_exit', '', {
    doc: 'The unit has been reset.',
    example: 'vtd_reset_exit ',
  }),
] as const

/** What QEMU prints of its intel-iommu device (hw/i386/trace-events): 7.2 and 10.0 the same, 11.1 a few events more. */
export const VTD_EVENTS = [...INVALIDATION, ...TRANSLATION, ...UNIT] as const

/** What the fields of these events mean, as far as no other event has them. */
export const VTD_FIELD_DOCS = {
  busNumber: 'Number of the bus, in decimal.',
  command: 'What software wrote.',
  delivery: 'Delivery mode of the interrupt.',
  destination: 'Destination of the interrupt.',
  devfn: 'Device and function: slot << 3 | function.',
  devfnNumber: 'Device and function, in decimal.',
  domain: 'Domain number.',
  expected: 'What the table entry says.',
  fault: 'Fault reason, in decimal.',
  fmask: 'How many low bits of the function do not count.',
  fn: 'Function of the device.',
  generation: 'Generation of the context cache.',
  generationBefore: 'Generation that the entry had.',
  gpa: 'Guest physical address of the page.',
  granularity: '0 for everything, 1 for a range.',
  head: 'Descriptor that is read, by its index.',
  hi: 'High 64 bits.',
  index: 'First entry of the range.',
  iova: 'Bus address.',
  irte: 'Entry of the interrupt remapping table.',
  kind: 'Kind of the descriptor.',
  level: 'Level of the table: 1 holds pages.',
  lo: 'Low 64 bits.',
  mode: 'Destination mode: 1 logical.',
  next: 'Bus address behind the range.',
  offset: 'Offset of the register.',
  on: '1 for on, 0 for off.',
  order: 'log2 of how many pages or entries.',
  pasid: 'PASID.',
  record: 'Number of the fault recording register.',
  remappedAddress: 'Address after remapping.',
  remappedData: 'Data after remapping.',
  scalable: '1 for scalable mode.',
  sid: 'Source: bus << 8 | slot << 3 | function.',
  slot: 'Slot of the device.',
  slpte: 'Second-level page table entry.',
  status: 'Global status before.',
  tableAddress: 'Guest physical address of the table.',
  tableEntries: 'Entries of the table.',
  tail: 'Descriptor behind the last one, by its index.',
  trigger: 'Trigger mode: 1 level.',
  value: 'What was written.',
  vectorNumber: 'Interrupt vector.',
  write: '1 where the device wrote memory.',
} as const
