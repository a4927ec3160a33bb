/*
 * The agent of `iommulator connect kernel`: first and only program of the initramfs of an emulated POWER host.
 *
 * It prepares the host (file systems, modules, devices for VFIO), says who it is, and then takes scripts from the
 * console. Each script runs in a process of its own: one command a line, one answer a line, in the format that
 * src/reader/kernel-answers-format.ts declares: `COMMAND => VALUE [ERRNO] [FIELDS]`. Commands about KVM are in kvm.c,
 * those about vhost in vhost.c.
 *
 *   host to agent:  script NAME, the commands, end     or: poweroff
 *   agent to host:  ORACLE script NAME, the answers, ORACLE script end rc=N
 *
 * Built by setup.sh: powerpc64le, little-endian, static.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "agent.h"

#define MARK "ORACLE "
#define CONTAINERS 8
#define GROUPS 16
/* One script with its commands; the host sends no longer one. */
#define SCRIPT_BYTES_MAX (1u << 20)
/* Lines of the kernel's log that are shown for one script. */
#define MESSAGES_MAX 8

/* ---- what a script's process keeps ---- */

static int containers[CONTAINERS], groups[GROUPS], current, device = -1;
/* Registers of the device; NULL before any was mapped. */
static volatile uint8_t *bar;

void say(const char *format, ...)
{
	va_list values;

	va_start(values, format);
	vprintf(format, values);
	va_end(values);
}

/* A word that may be left out. */
u64 word_or(const struct call *c, unsigned at, u64 otherwise)
{
	return c->words > at ? c->number[at] : otherwise;
}

/* Begins an answer: the command, what a system call returned, and the name of errno where that is negative. */
void answer(const struct call *c, long value)
{
	int error = errno;

	say("%s => %ld", c->line, value);
	if (value < 0) {
		const char *name = strerrorname_np(error);

		say(" %s", name ? name : "?");
	}
}

void end_line(void)
{
	putchar('\n');
	fflush(stdout);
}

void plain(const struct call *c, long value)
{
	answer(c, value);
	end_line();
}

/* 0 or -1, for calls whose number is of no interest. */
long done(int fd)
{
	return fd < 0 ? -1 : 0;
}

static void refuse(const struct call *c)
{
	say("%s => ? unknown command", c->line);
	end_line();
}

/* ---- containers, groups, devices ---- */

int container(void)
{
	return containers[current];
}

static bool has_slot(const struct call *c)
{
	return c->number[1] < CONTAINERS;
}

bool has_group(const struct call *c)
{
	return c->number[1] < GROUPS;
}

int group_file(const struct call *c)
{
	return groups[c->number[1]];
}

static void do_open(const struct call *c)
{
	current = c->number[1];
	containers[current] = open("/dev/vfio/vfio", O_RDWR);
	plain(c, done(containers[current]));
}

static void do_use(const struct call *c)
{
	current = c->number[1];
	plain(c, 0);
}

static void do_close(const struct call *c)
{
	int *fd = &containers[c->number[1]];

	plain(c, close(*fd));
	*fd = -1;
}

static void do_ext(const struct call *c)
{
	plain(c, ioctl(container(), VFIO_CHECK_EXTENSION, c->number[1]));
}

static void do_version(const struct call *c)
{
	plain(c, ioctl(container(), VFIO_GET_API_VERSION));
}

static void do_group(const struct call *c)
{
	char path[32];
	int *fd = &groups[c->number[1]];

	snprintf(path, sizeof path, "/dev/vfio/%u", (unsigned)c->number[1]);
	*fd = open(path, O_RDWR);
	plain(c, done(*fd));
}

static void do_groupstatus(const struct call *c)
{
	struct vfio_group_status status = { .argsz = sizeof status };

	answer(c, ioctl(groups[c->number[1]], VFIO_GROUP_GET_STATUS, &status));
	say(" flags=0x%x", status.flags);
	end_line();
}

static void do_attach(const struct call *c)
{
	int fd = container();

	plain(c, ioctl(groups[c->number[1]], VFIO_GROUP_SET_CONTAINER, &fd));
}

static void do_detach(const struct call *c)
{
	plain(c, ioctl(groups[c->number[1]], VFIO_GROUP_UNSET_CONTAINER));
}

static void do_groupclose(const struct call *c)
{
	int *fd = &groups[c->number[1]];

	plain(c, close(*fd));
	*fd = -1;
}

/* Opens a device, lets it master the bus, and maps its first region. */
static void do_device(const struct call *c)
{
	struct vfio_region_info region = { .argsz = sizeof region, .index = VFIO_PCI_BAR0_REGION_INDEX };
	struct vfio_region_info config = { .argsz = sizeof config, .index = VFIO_PCI_CONFIG_REGION_INDEX };
	uint16_t command = 0x6; /* memory space, bus master; configuration space is little-endian */
	void *at;

	device = ioctl(groups[c->number[1]], VFIO_GROUP_GET_DEVICE_FD, c->text[2]);
	if (device < 0) {
		plain(c, -1);
		return;
	}
	ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region);
	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config) == 0 &&
	    pwrite(device, &command, sizeof command, config.offset + 4) != sizeof command)
		say("# the command register was not written\n");
	at = mmap(NULL, region.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, region.offset);
	bar = at;
	answer(c, 0);
	say(" bar size 0x%llx mapped %s", (unsigned long long)region.size, at == MAP_FAILED ? "no" : "yes");
	end_line();
}

static void do_devclose(const struct call *c)
{
	plain(c, close(device));
	device = -1;
}

/* The edu device of QEMU: its buffer, and its DMA registers, which are big-endian here. */
#define EDU_BUFFER 0x40000
enum { EDU_SOURCE = 0x80, EDU_TARGET = 0x88, EDU_COUNT = 0x90, EDU_COMMAND = 0x98 };
enum { EDU_RUN = 1, EDU_TO_MEMORY = 2 };
#define EDU_PATIENCE_MS 500

static void edu_write(unsigned at, u64 value)
{
	*(volatile u64 *)(bar + at) = __builtin_bswap64(value);
}

static u64 edu_read(unsigned at)
{
	return __builtin_bswap64(*(volatile u64 *)(bar + at));
}

static void do_dma(const struct call *c)
{
	bool to_memory = c->text[1][0] == 'w';
	u64 in_buffer = EDU_BUFFER + word_or(c, 4, 0);
	int waited = 0;

	edu_write(EDU_SOURCE, to_memory ? in_buffer : c->number[2]);
	edu_write(EDU_TARGET, to_memory ? c->number[2] : in_buffer);
	edu_write(EDU_COUNT, c->number[3]);
	__sync_synchronize();
	edu_write(EDU_COMMAND, EDU_RUN | (to_memory ? EDU_TO_MEMORY : 0));
	while ((edu_read(EDU_COMMAND) & EDU_RUN) && waited++ < EDU_PATIENCE_MS)
		usleep(1000);
	errno = 0;
	plain(c, edu_read(EDU_COMMAND) & EDU_RUN ? -1 : 0);
}

/* ---- the container's driver ---- */

static void do_iommu(const struct call *c)
{
	plain(c, ioctl(container(), VFIO_SET_IOMMU, c->number[1]));
}

static void do_enable(const struct call *c)
{
	plain(c, ioctl(container(), VFIO_IOMMU_ENABLE));
}

static void do_disable(const struct call *c)
{
	plain(c, ioctl(container(), VFIO_IOMMU_DISABLE));
}

static void do_info(const struct call *c)
{
	struct vfio_iommu_spapr_tce_info info = { .argsz = word_or(c, 1, sizeof info) };

	answer(c, ioctl(container(), VFIO_IOMMU_SPAPR_TCE_GET_INFO, &info));
	say(" flags=0x%x dma32=0x%x+0x%x pgsizes=0x%llx maxwin=%u levels=%u", info.flags,
	    info.dma32_window_start, info.dma32_window_size, (unsigned long long)info.ddw.pgsizes,
	    info.ddw.max_dynamic_windows_supported, info.ddw.levels);
	end_line();
}

static void memory_call(const struct call *c, unsigned long request)
{
	struct vfio_iommu_spapr_register_memory memory = {
		.argsz = sizeof memory,
		.flags = word_or(c, 3, 0),
		.vaddr = c->number[1],
		.size = c->number[2],
	};

	plain(c, ioctl(container(), request, &memory));
}

static void do_register(const struct call *c)
{
	memory_call(c, VFIO_IOMMU_SPAPR_REGISTER_MEMORY);
}

static void do_unregister(const struct call *c)
{
	memory_call(c, VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY);
}

static void do_create(const struct call *c)
{
	struct vfio_iommu_spapr_tce_create window = {
		.argsz = sizeof window,
		.flags = word_or(c, 4, 0),
		.page_shift = c->number[1],
		.window_size = c->number[2],
		.levels = c->number[3],
	};

	answer(c, ioctl(container(), VFIO_IOMMU_SPAPR_TCE_CREATE, &window));
	say(" start=0x%llx", (unsigned long long)window.start_addr);
	end_line();
}

static void do_remove(const struct call *c)
{
	struct vfio_iommu_spapr_tce_remove window = { .argsz = sizeof window, .start_addr = c->number[1] };

	plain(c, ioctl(container(), VFIO_IOMMU_SPAPR_TCE_REMOVE, &window));
}

static void do_map(const struct call *c)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof map,
		.flags = word_or(c, 4, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE),
		.vaddr = c->number[2],
		.iova = c->number[1],
		.size = c->number[3],
	};

	plain(c, ioctl(container(), VFIO_IOMMU_MAP_DMA, &map));
}

static void do_unmap(const struct call *c)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof unmap,
		.flags = word_or(c, 3, 0),
		.iova = c->number[1],
		.size = c->number[2],
	};

	answer(c, ioctl(container(), VFIO_IOMMU_UNMAP_DMA, &unmap));
	say(" size=0x%llx", (unsigned long long)unmap.size);
	end_line();
}

static void do_ioctl(const struct call *c)
{
	plain(c, ioctl(container(), _IO(VFIO_TYPE, c->number[1]), c->number[2]));
}

static void do_eeh(const struct call *c)
{
	struct vfio_eeh_pe_op operation = {
		.argsz = sizeof operation,
		.op = c->number[1],
		.err = {
			.type = word_or(c, 2, 0),
			.func = word_or(c, 3, 0),
			.addr = word_or(c, 4, 0),
			.mask = word_or(c, 5, 0),
		},
	};

	plain(c, ioctl(container(), VFIO_EEH_PE_OP, &operation));
}

/* ---- the process ---- */

static void do_anon(const struct call *c)
{
	void *at = mmap((void *)c->number[1], c->number[2], PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	bool failed = at == MAP_FAILED;

	if (!failed && c->words > 3)
		memset(at, c->number[3], c->number[2]);
	plain(c, failed ? -1 : 0);
}

static void do_unmapmem(const struct call *c)
{
	plain(c, munmap((void *)c->number[1], c->number[2]));
}

/* A line of /proc/self/status in KiB; -1 where there is none. */
static long status_kib(const char *name)
{
	char line[256];
	long value = -1;
	FILE *file = fopen("/proc/self/status", "r");

	if (!file)
		return -1;
	while (fgets(line, sizeof line, file))
		if (!strncmp(line, name, strlen(name)))
			value = atol(line + strlen(name));
	fclose(file);
	return value;
}

static void do_vmlck(const struct call *c)
{
	answer(c, 0);
	say(" VmLck=%ldkB VmPin=%ldkB", status_kib("VmLck:"), status_kib("VmPin:"));
	end_line();
}

static void do_rlimit(const struct call *c)
{
	struct rlimit limit = { .rlim_cur = c->number[1], .rlim_max = c->number[1] };

	plain(c, setrlimit(RLIMIT_MEMLOCK, &limit));
}

static void do_dropcap(const struct call *c)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0) {
		plain(c, -1);
		return;
	}
	data[0].effective &= ~(1u << CAP_IPC_LOCK);
	data[0].permitted &= ~(1u << CAP_IPC_LOCK);
	plain(c, syscall(SYS_capset, &header, data));
}

static void do_poke(const struct call *c)
{
	memset((void *)c->number[1], c->number[2], c->number[3]);
	plain(c, 0);
}

static void do_peek(const struct call *c)
{
	const volatile uint8_t *from = (const uint8_t *)c->number[1];

	say("%s => 0 ", c->line);
	for (u64 i = 0; i < c->number[2]; i++)
		say("%02x", from[i]);
	end_line();
}

/* ---- the table of commands ---- */

static const struct command commands[] = {
	{ "open", 1, 1, do_open, has_slot },
	{ "use", 1, 1, do_use, has_slot },
	{ "close", 1, 1, do_close, has_slot },
	{ "ext", 1, 1, do_ext, NULL },
	{ "version", 0, 0, do_version, NULL },
	{ "group", 1, 1, do_group, has_group },
	{ "groupstatus", 1, 1, do_groupstatus, has_group },
	{ "attach", 1, 1, do_attach, has_group },
	{ "detach", 1, 1, do_detach, has_group },
	{ "groupclose", 1, 1, do_groupclose, has_group },
	{ "iommu", 1, 1, do_iommu, NULL },
	{ "enable", 0, 0, do_enable, NULL },
	{ "disable", 0, 0, do_disable, NULL },
	{ "info", 0, 1, do_info, NULL },
	{ "register", 2, 3, do_register, NULL },
	{ "unregister", 2, 3, do_unregister, NULL },
	{ "create", 3, 4, do_create, NULL },
	{ "remove", 1, 1, do_remove, NULL },
	{ "map", 3, 4, do_map, NULL },
	{ "unmap", 2, 3, do_unmap, NULL },
	{ "ioctl", 2, 2, do_ioctl, NULL },
	{ "eeh", 1, 5, do_eeh, NULL },
	{ "device", 2, 2, do_device, has_group },
	{ "devclose", 0, 0, do_devclose, NULL },
	{ "dma", 3, 4, do_dma, NULL },
	{ "anon", 2, 3, do_anon, NULL },
	{ "unmapmem", 2, 2, do_unmapmem, NULL },
	{ "vmlck", 0, 0, do_vmlck, NULL },
	{ "rlimit", 1, 1, do_rlimit, NULL },
	{ "dropcap", 0, 0, do_dropcap, NULL },
	{ "poke", 3, 3, do_poke, NULL },
	{ "peek", 2, 2, do_peek, NULL },
};

static const struct command *command_named(const char *name)
{
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	for (const struct command *c = kvm_commands; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	for (const struct command *c = vhost_commands; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

static void run_call(const struct call *c)
{
	const struct command *command = command_named(c->text[0]);

	if (!command || c->words - 1 < command->least || c->words - 1 > command->most ||
	    (command->fits && !command->fits(c)) || (command->run == do_dma && !bar)) {
		refuse(c);
		return;
	}
	errno = 0;
	command->run(c);
}

void run_words(const struct call *c, unsigned from)
{
	struct call rest = { .line = "", .words = c->words - from };

	for (unsigned i = 0; i < rest.words; i++) {
		rest.text[i] = c->text[from + i];
		rest.number[i] = c->number[from + i];
	}
	run_call(&rest);
}

/* Runs one line; false where it ends the script. */
static bool run_line(const char *line)
{
	char copy[strlen(line) + 1], *rest;
	struct call c = { .line = line };

	strcpy(copy, line);
	for (char *word = strtok_r(copy, " ", &rest); word && c.words < WORDS_MAX; word = strtok_r(NULL, " ", &rest)) {
		c.text[c.words] = word;
		c.number[c.words++] = strtoul(word, NULL, 0);
	}
	if (c.words == 0 || c.text[0][0] == '#') {
		puts(line);
		fflush(stdout);
		return true;
	}
	if (!strcmp(c.text[0], "quit"))
		return false;
	run_call(&c);
	return true;
}

/* ---- the host: what happens once, and between scripts ---- */

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Calls a function for each name of a folder, in order. */
static void for_names(const char *folder, void (*use)(const char *folder, const char *name))
{
	char *names[256];
	size_t count = 0;
	DIR *dir = opendir(folder);
	struct dirent *entry;

	while (dir && count < 256 && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			names[count++] = strdup(entry->d_name);
	if (dir)
		closedir(dir);
	qsort(names, count, sizeof *names, compare_names);
	for (size_t i = 0; i < count; i++) {
		use(folder, names[i]);
		free(names[i]);
	}
}

static void load_module(const char *folder, const char *name)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	fd = open(path, O_RDONLY);
	if (syscall(SYS_finit_module, fd, "", 0) < 0)
		say("# module %s: %s\n", name, strerrorname_np(errno));
	close(fd);
}

/* The first line of a file below a folder; empty where there is none. */
static void read_line(char *into, size_t bytes, const char *folder, const char *name, const char *file)
{
	char path[PATH_MAX];
	FILE *from;

	snprintf(path, sizeof path, "%s/%s/%s", folder, name, file);
	into[0] = 0;
	from = fopen(path, "r");
	if (!from)
		return;
	if (!fgets(into, bytes, from))
		into[0] = 0;
	into[strcspn(into, "\n")] = 0;
	fclose(from);
}

static void show_device(const char *folder, const char *name)
{
	char vendor[16], id[16], path[PATH_MAX], group[PATH_MAX];
	ssize_t length;

	read_line(vendor, sizeof vendor, folder, name, "vendor");
	read_line(id, sizeof id, folder, name, "device");
	snprintf(path, sizeof path, "%s/%s/iommu_group", folder, name);
	length = readlink(path, group, sizeof group - 1);
	group[length < 0 ? 0 : length] = 0;
	say(MARK "pci %s %s:%s group=%s\n", name, vendor, id, length < 0 ? "" : strrchr(group, '/') + 1);
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		say("# %s: %s\n", path, strerrorname_np(errno));
	close(fd);
}

/* Resets of a device's bus take 5 s, and tell nothing: an edu device has nothing to reset. */
static void skip_resets(const char *folder, const char *name)
{
	char vendor[16], path[PATH_MAX];

	read_line(vendor, sizeof vendor, folder, name, "vendor");
	snprintf(path, sizeof path, "%s/%s/reset_method", folder, name);
	if (!strcmp(vendor, "0x1234"))
		write_text(path, "\n");
}

static double uptime(void)
{
	double seconds = 0;
	FILE *file = fopen("/proc/uptime", "r");

	if (!file)
		return 0;
	if (fscanf(file, "%lf", &seconds) != 1)
		seconds = 0;
	fclose(file);
	return seconds;
}

/* What the kernel said since the last time, its warnings and worse: at most a few lines. */
static void show_messages(int kmsg)
{
	char record[8192];
	int shown = 0;

	for (;;) {
		ssize_t length = read(kmsg, record, sizeof record - 1);
		unsigned priority;
		u64 sequence, microseconds;
		char *text;

		if (length < 0 && errno == EPIPE)
			continue; /* some were lost */
		if (length <= 0)
			return;
		record[length] = 0;
		if (sscanf(record, "%u,%lu,%lu", &priority, &sequence, &microseconds) != 3 || (priority & 7) > 4)
			continue;
		text = strchr(record, ';');
		if (!text || shown++ >= MESSAGES_MAX)
			continue;
		text++;
		text[strcspn(text, "\n")] = 0;
		say("[%5lu.%06lu] %s\n", microseconds / 1000000, microseconds % 1000000, text);
	}
}

static void run_script(const char *name, char *lines, int kmsg)
{
	int status = 0;
	pid_t child;

	say(MARK "script %s\n", name);
	fflush(stdout);
	child = fork();
	if (child == 0) {
		for (char *line = lines; *line;) {
			char *end = strchr(line, '\n');

			*end = 0;
			if (!run_line(line))
				break;
			line = end + 1;
		}
		exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		status = 0xff00;
	show_messages(kmsg);
	say(MARK "script end rc=%d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	fflush(stdout);
}

/* Takes scripts from the console until it is told to end. */
static void serve(int kmsg)
{
	static char script[SCRIPT_BYTES_MAX], line[4096];
	char name[64] = "";
	size_t used = 0;

	while (fgets(line, sizeof line, stdin)) {
		size_t length = strcspn(line, "\r\n");

		line[length] = 0;
		if (!name[0] && !strcmp(line, "poweroff"))
			return;
		if (!strncmp(line, "script ", 7)) {
			snprintf(name, sizeof name, "%.60s", line + 7);
			used = 0;
		} else if (name[0] && !strcmp(line, "end")) {
			script[used] = 0;
			run_script(name, script, kmsg);
			name[0] = 0;
		} else if (name[0] && used + length + 2 <= sizeof script) {
			memcpy(script + used, line, length);
			used += length;
			script[used++] = '\n';
		}
	}
}

int main(void)
{
	struct termios terminal;
	struct utsname system;
	int console, kmsg;

	mount("none", "/dev", "devtmpfs", 0, NULL);
	mount("none", "/proc", "proc", 0, NULL);
	mount("none", "/sys", "sysfs", 0, NULL);
	console = open("/dev/hvc0", O_RDWR);
	for (int fd = 0; fd < 3; fd++)
		dup2(console, fd);
	if (console > 2)
		close(console);
	if (tcgetattr(0, &terminal) == 0) {
		cfmakeraw(&terminal);
		tcsetattr(0, TCSANOW, &terminal);
	}
	/* Messages come from /dev/kmsg, between scripts, and never into an answer. */
	klogctl(8, NULL, 1);
	for (int i = 0; i < CONTAINERS; i++)
		containers[i] = -1;
	for (int i = 0; i < GROUPS; i++)
		groups[i] = -1;

	uname(&system);
	say(MARK "kernel %s up %.2f\n", system.release, uptime());
	/* Interfaces of scripts send what a script says, and nothing of their own. */
	write_text("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
	for_names("/modules", load_module);
	for_names("/sys/bus/pci/devices", show_device);
	for_names("/sys/bus/pci/devices", skip_resets);
	write_text("/sys/bus/pci/drivers/vfio-pci/new_id", "1234 11e8");
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	lseek(kmsg, 0, SEEK_END);
	say(MARK "live\n");
	fflush(stdout);
	serve(kmsg);
	say(MARK "end up %.2f\n", uptime());
	fflush(stdout);
	tcdrain(1);
	reboot(RB_POWER_OFF);
	return 0;
}
