/* Commands of the agent about KVM: a VM, its TCE tables, KVM's VFIO device, and hypercalls of a guest. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"

#define TABLES 8
#define HOST_PAGE 0x10000ul
/* Where the guest's program lies: in a slot of its own, far above the memory that scripts give to the guest. */
#define PROGRAM (1ul << 40)
#define PROGRAM_SLOT 30000
/* A hypercall that no kernel knows: with it the guest asks the agent what to call next. */
#define ASK 0x7f0
/* What a call returns that the kernel left to user space. */
#define NOT_ANSWERED 9999

static int kvm = -1, vm = -1, vcpu = -1, vfio = -1;
static struct kvm_run *run;
static size_t run_bytes;
static uint8_t *ram;

static struct table {
	int fd;
	u64 entries;
	/* As the mapping shows them. */
	volatile u64 *tces;
	size_t bytes;
} tables[TABLES] = { [0 ... TABLES - 1] = { .fd = -1 } };
static unsigned table_count;

/*
 * The guest asks (r3 = ASK), makes the call that the agent put into its registers, hands back what that left in r3
 * and r4, and asks again. Instructions of a little-endian guest.
 */
#define LI(to, value) (0x38000000u | (to) << 21 | (value))
#define MR(to, from) (0x7c000378u | (from) << 21 | (to) << 16 | (from) << 11)
#define SC_1 0x44000022u
#define BRANCH_BACK(bytes) (0x48000000u | (0x04000000u - (bytes)))

static const uint32_t program[] = {
	LI(3, ASK), SC_1, SC_1, MR(5, 4), MR(4, 3), BRANCH_BACK(20),
};

/* Lets the guest run to its next hypercall that user space gets: 0 and its number, or why it stopped otherwise. */
static long run_guest(u64 *nr)
{
	*nr = -1;
	for (;;) {
		long result = ioctl(vcpu, KVM_RUN, 0);

		if (result < 0 && errno == EINTR)
			continue;
		if (result < 0)
			return result;
		if (run->exit_reason == KVM_EXIT_INTR)
			continue;
		if (run->exit_reason != KVM_EXIT_PAPR_HCALL)
			return run->exit_reason;
		*nr = run->papr_hcall.nr;
		return 0;
	}
}

static void do_kvm(const struct call *c)
{
	kvm = open("/dev/kvm", O_RDWR);
	plain(c, done(kvm));
}

static void do_kvmcap(const struct call *c)
{
	plain(c, ioctl(kvm, KVM_CHECK_EXTENSION, c->number[1]));
}

static void do_vmcap(const struct call *c)
{
	plain(c, ioctl(vm, KVM_CHECK_EXTENSION, c->number[1]));
}

static void do_vm(const struct call *c)
{
	vm = ioctl(kvm, KVM_CREATE_VM, c->number[1]);
	plain(c, done(vm));
}

static void do_radix(const struct call *c)
{
	struct kvm_ppc_mmuv3_cfg mmu = {
		.flags = KVM_PPC_MMUV3_RADIX | KVM_PPC_MMUV3_GTSE,
		.process_table = 1ul << 63,
	};

	plain(c, ioctl(vm, KVM_PPC_CONFIGURE_V3_MMU, &mmu));
}

static void do_hcall_enable(const struct call *c)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_PPC_ENABLE_HCALL,
		.args = { c->number[1], c->number[2] },
	};

	plain(c, ioctl(vm, KVM_ENABLE_CAP, &cap));
}

static void do_ram(const struct call *c)
{
	struct kvm_userspace_memory_region slot = { .memory_size = c->number[1] };
	void *at = (void *)word_or(c, 2, 0);

	if (c->words < 3)
		at = mmap(NULL, c->number[1], PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ram = at;
	slot.userspace_addr = (u64)at;
	answer(c, ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot));
	say(" at 0x%lx", (u64)at);
	end_line();
}

static void do_slot(const struct call *c)
{
	struct kvm_userspace_memory_region slot = {
		.slot = c->number[1],
		.flags = word_or(c, 5, 0),
		.guest_phys_addr = c->number[2],
		.memory_size = c->number[3],
		.userspace_addr = c->number[4],
	};

	plain(c, ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot));
}

static void close_vcpu(void)
{
	if (run)
		munmap(run, run_bytes);
	run = NULL;
	if (vcpu >= 0)
		close(vcpu);
	vcpu = -1;
}

/* Makes a guest: what it runs lies in memory of its own. A guest that was there goes. */
static void do_vcpu(const struct call *c)
{
	struct kvm_enable_cap papr = { .cap = KVM_CAP_PPC_PAPR };
	struct kvm_userspace_memory_region slot = {
		.slot = PROGRAM_SLOT,
		.guest_phys_addr = PROGRAM,
		.memory_size = HOST_PAGE,
	};
	struct kvm_regs registers;
	long result;
	void *at;
	u64 nr = -1;
	int made = ioctl(vm, KVM_CREATE_VCPU, 0);

	if (made < 0) {
		plain(c, -1);
		return;
	}
	close_vcpu();
	vcpu = made;
	run_bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	at = mmap(NULL, HOST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memcpy(at, program, sizeof program);
	slot.userspace_addr = (u64)at;
	result = ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot);
	if (!result)
		result = ioctl(vcpu, KVM_GET_REGS, &registers);
	if (!result) {
		registers.pc = PROGRAM;
		registers.msr = 1ul << 63 | 1; /* 64 bits, little-endian */
		result = ioctl(vcpu, KVM_SET_REGS, &registers);
	}
	if (!result)
		result = ioctl(vcpu, KVM_ENABLE_CAP, &papr);
	if (!result)
		result = run_guest(&nr);
	answer(c, result);
	say(" first exit nr=0x%lx", nr);
	end_line();
}

/* Closes a file, and forgets its number. */
static void close_file(const struct call *c, int *fd)
{
	plain(c, close(*fd));
	*fd = -1;
}

static void do_vmclose(const struct call *c)
{
	close_file(c, &vm);
}

static void do_vcpuclose(const struct call *c)
{
	close_vcpu();
	plain(c, 0);
}

static bool has_room(const struct call *c)
{
	(void)c;
	return table_count < TABLES;
}

static bool has_table(const struct call *c)
{
	return c->number[1] < table_count;
}

/* Keeps a table, and maps it. */
static struct table *keep(int fd, u64 entries)
{
	u64 bytes = (entries * sizeof(u64) + HOST_PAGE - 1) & ~(HOST_PAGE - 1);
	struct table *table = &tables[table_count++];

	table->fd = fd;
	table->entries = entries;
	table->bytes = bytes;
	table->tces = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return table;
}

static void do_tce64(const struct call *c)
{
	struct kvm_create_spapr_tce_64 about = {
		.liobn = c->number[1],
		.page_shift = c->number[2],
		.flags = word_or(c, 5, 0),
		.offset = c->number[3],
		.size = c->number[4],
	};
	int fd = ioctl(vm, KVM_CREATE_SPAPR_TCE_64, &about);
	struct table *table;

	if (fd < 0) {
		plain(c, -1);
		return;
	}
	table = keep(fd, about.size);
	answer(c, 0);
	say(" table %u mmap %s", table_count - 1, table->tces == MAP_FAILED ? "failed" : "ok");
	end_line();
}

static void do_tce32(const struct call *c)
{
	struct kvm_create_spapr_tce about = { .liobn = c->number[1], .window_size = c->number[2] };
	int fd = ioctl(vm, KVM_CREATE_SPAPR_TCE, &about);

	if (fd < 0) {
		plain(c, -1);
		return;
	}
	keep(fd, c->number[2] >> 12);
	answer(c, 0);
	say(" table %u", table_count - 1);
	end_line();
}

static void do_tceclose(const struct call *c)
{
	close_file(c, &tables[c->number[1]].fd);
}

static bool has_mapped_table(const struct call *c)
{
	return has_table(c) && tables[c->number[1]].tces && tables[c->number[1]].tces != MAP_FAILED;
}

static void do_tceunmap(const struct call *c)
{
	struct table *table = &tables[c->number[1]];

	plain(c, munmap((void *)table->tces, table->bytes));
	table->tces = NULL;
}

static bool has_entry(const struct call *c)
{
	return has_mapped_table(c) && c->number[2] < tables[c->number[1]].entries;
}

static void do_tcepoke(const struct call *c)
{
	tables[c->number[1]].tces[c->number[2]] = c->number[3];
	plain(c, 0);
}

static void do_tcedump(const struct call *c)
{
	const struct table *table = &tables[c->number[1]];

	say("%s => 0", c->line);
	for (u64 i = c->number[2]; i - c->number[2] < c->number[3] && i < table->entries; i++)
		say(" 0x%lx", table->tces[i]);
	end_line();
}

static void do_vfiodev(const struct call *c)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_VFIO };
	long result = ioctl(vm, KVM_CREATE_DEVICE, &device);

	vfio = result < 0 ? -1 : (int)device.fd;
	plain(c, result);
}

static void do_vfioclose(const struct call *c)
{
	close_file(c, &vfio);
}

static void set_group(const struct call *c, u64 what, void *value)
{
	struct kvm_device_attr attribute = { .group = KVM_DEV_VFIO_GROUP, .attr = what, .addr = (u64)value };

	plain(c, ioctl(vfio, KVM_SET_DEVICE_ATTR, &attribute));
}

static void do_vfioadd(const struct call *c)
{
	int32_t fd = group_file(c);

	set_group(c, KVM_DEV_VFIO_GROUP_ADD, &fd);
}

static void do_vfiodel(const struct call *c)
{
	int32_t fd = group_file(c);

	set_group(c, KVM_DEV_VFIO_GROUP_DEL, &fd);
}

static bool has_group_and_table(const struct call *c)
{
	return has_group(c) && c->number[2] < TABLES;
}

static void do_vfiotce(const struct call *c)
{
	struct kvm_vfio_spapr_tce link = { .groupfd = group_file(c), .tablefd = tables[c->number[2]].fd };

	set_group(c, KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE, &link);
}

/* ---- any ioctl ---- */

/* The file that a word names; -2 where it names none. */
static int file_named(const char *name)
{
	if (!strcmp(name, "container"))
		return container();
	if (!strcmp(name, "kvm"))
		return kvm;
	if (!strcmp(name, "vm"))
		return vm;
	if (!strcmp(name, "vcpu"))
		return vcpu;
	if (!strcmp(name, "vfio"))
		return vfio;
	return strcmp(name, "tce") ? -2 : tables[0].fd;
}

static bool has_file(const struct call *c)
{
	return file_named(c->text[1]) != -2;
}

static void do_rawioctl(const struct call *c)
{
	u64 cmd = c->number[2];
	long result = ioctl(file_named(c->text[1]), cmd, c->number[3]);

	/* A file that it made is of no interest. */
	if (result > 0 && (cmd == KVM_CREATE_VM || cmd == KVM_CREATE_VCPU || cmd == KVM_CREATE_SPAPR_TCE ||
			   cmd == KVM_CREATE_SPAPR_TCE_64))
		result = close(result);
	plain(c, result);
}

/* ---- the guest ---- */

static bool has_ram(const struct call *c)
{
	(void)c;
	return ram != NULL;
}

static bool has_guest(const struct call *c)
{
	(void)c;
	return run != NULL;
}

static void do_gpoke64(const struct call *c)
{
	u64 word = __builtin_bswap64(c->number[2]);

	memcpy(ram + c->number[1], &word, sizeof word);
	plain(c, 0);
}

static void do_hcall(const struct call *c)
{
	u64 wanted = c->number[1], nr, arguments[4];
	long result;

	/* The guest has asked: these become r3 and the registers behind it. */
	run->papr_hcall.ret = wanted;
	for (unsigned i = 0; i < 9; i++)
		run->papr_hcall.args[i] = word_or(c, i + 2, 0);
	result = run_guest(&nr);
	if (result) {
		answer(c, result);
		say(" exit reason (fault)");
	} else if (nr == wanted) {
		memcpy(arguments, run->papr_hcall.args, sizeof arguments);
		answer(c, 0);
		say(" EXIT-TO-USER nr=0x%lx args 0x%lx 0x%lx 0x%lx 0x%lx", nr, arguments[0], arguments[1], arguments[2],
		    arguments[3]);
		run->papr_hcall.ret = NOT_ANSWERED;
		run_guest(&nr);
	} else if (nr == ASK) {
		/* A hypercall has no errno. */
		errno = 0;
		answer(c, (long)run->papr_hcall.args[0]);
		say(" r4=0x%lx", (u64)run->papr_hcall.args[1]);
	} else {
		answer(c, result);
		say(" odd exit nr=0x%lx", nr);
	}
	end_line();
}

const struct command kvm_commands[] = {
	{ "kvm", 0, 0, do_kvm, NULL },
	{ "kvmcap", 1, 1, do_kvmcap, NULL },
	{ "vmcap", 1, 1, do_vmcap, NULL },
	{ "vm", 1, 1, do_vm, NULL },
	{ "radix", 0, 0, do_radix, NULL },
	{ "hcall_enable", 2, 2, do_hcall_enable, NULL },
	{ "ram", 1, 2, do_ram, NULL },
	{ "slot", 4, 5, do_slot, NULL },
	{ "vcpu", 0, 0, do_vcpu, NULL },
	{ "vmclose", 0, 0, do_vmclose, NULL },
	{ "vcpuclose", 0, 0, do_vcpuclose, has_guest },
	{ "tce64", 4, 5, do_tce64, has_room },
	{ "tce32", 2, 2, do_tce32, has_room },
	{ "tceclose", 1, 1, do_tceclose, has_table },
	{ "tceunmap", 1, 1, do_tceunmap, has_mapped_table },
	{ "tcepoke", 3, 3, do_tcepoke, has_entry },
	{ "tcedump", 3, 3, do_tcedump, has_mapped_table },
	{ "vfiodev", 0, 0, do_vfiodev, NULL },
	{ "vfioclose", 0, 0, do_vfioclose, NULL },
	{ "vfioadd", 1, 1, do_vfioadd, has_group },
	{ "vfiodel", 1, 1, do_vfiodel, has_group },
	{ "vfiotce", 2, 2, do_vfiotce, has_group_and_table },
	{ "rawioctl", 3, 3, do_rawioctl, has_file },
	{ "gpoke64", 2, 2, do_gpoke64, has_ram },
	{ "hcall", 1, 10, do_hcall, has_guest },
	{ NULL, 0, 0, NULL, NULL },
};
