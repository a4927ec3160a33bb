/* Commands of the agent about vhost-net: its ioctls, the messages of its IOTLB, and the files that its queues use. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/vhost.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

#define FILES 8
/* Regions of a memory table, and those that a command can name. */
#define REGIONS 64
#define REGIONS_NAMED 4
/* A descriptor that no process has. */
#define NO_SUCH_FILE 1000
#define BYTES_MAX 4096
#define PATIENCE_MS 3000
/* Header of virtio 1.0 in front of a frame. */
#define HEADER_BYTES 12

static int files[FILES] = { [0 ... FILES - 1] = -1 };
/* Of a tap, a socket at the network's side of it. */
static int networks[FILES] = { [0 ... FILES - 1] = -1 };

static bool has_file(const struct call *c)
{
	return c->number[1] < FILES;
}

/* The file of the first word. */
static int file_of(const struct call *c)
{
	return files[c->number[1]];
}

/* The descriptor that a word stands for: none, bad, or a number of the agent's. -2 where it is no such word. */
static int file_in(const char *word)
{
	if (!strcmp(word, "none"))
		return -1;
	if (!strcmp(word, "bad"))
		return NO_SUCH_FILE;
	if (word[0] < '0' || word[0] >= '0' + FILES || word[1])
		return -2;
	return files[word[0] - '0'] < 0 ? NO_SUCH_FILE : files[word[0] - '0'];
}

/* Waits until no other thread of this process runs: the worker of a device is one. One that never rests is left. */
static void settle(void)
{
	bool busy = true;

	for (unsigned waited = 0; busy; waited++) {
		DIR *dir = opendir("/proc/self/task");
		struct dirent *entry;

		busy = false;
		while (dir && (entry = readdir(dir))) {
			char path[300], line[512], *state;
			FILE *file;

			if (entry->d_name[0] == '.' || atoi(entry->d_name) == getpid())
				continue;
			snprintf(path, sizeof path, "/proc/self/task/%s/stat", entry->d_name);
			file = fopen(path, "r");
			if (!file)
				continue;
			state = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
			if (state && (state[2] == 'R' || state[2] == 'D'))
				busy = true;
			fclose(file);
		}
		if (dir)
			closedir(dir);
		if (busy && waited == PATIENCE_MS) {
			say("# a worker does not rest\n");
			return;
		}
		if (busy)
			usleep(1000);
	}
}

/* Makes an ioctl that sets queues going, and answers when they rest. */
static void call_and_settle(const struct call *c, unsigned long request, void *about)
{
	long result = ioctl(file_of(c), request, about);
	int error = errno;

	settle();
	errno = error;
	plain(c, result);
}

/* Bytes that a word spells; -1 where it does not. */
static int bytes_in(const char *word, uint8_t *into)
{
	size_t digits = strlen(word);

	if (!strcmp(word, "-"))
		return 0;
	if (digits % 2 || digits / 2 > BYTES_MAX || strspn(word, "0123456789abcdef") != digits)
		return -1;
	for (size_t i = 0; i < digits / 2; i++) {
		unsigned byte;

		sscanf(word + 2 * i, "%2x", &byte);
		into[i] = byte;
	}
	return digits / 2;
}

/* ---- files ---- */

static void let_go(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Keeps a file, of a tap with its network, in place of one that is closed. */
static void keep(const struct call *c, int fd, int network)
{
	int error = errno;

	if (fd >= 0) {
		let_go(&files[c->number[1]]);
		let_go(&networks[c->number[1]]);
		files[c->number[1]] = fd;
		networks[c->number[1]] = network;
	}
	errno = error;
	plain(c, done(fd));
}

static void do_vhopen(const struct call *c)
{
	keep(c, open("/dev/vhost-net", O_RDWR | O_NONBLOCK), -1);
}

static void do_eventfd(const struct call *c)
{
	keep(c, eventfd(word_or(c, 2, 0), EFD_NONBLOCK), -1);
}

/* The network's side of an interface, which is set up; -1 where that fails. */
static int network_of(const char *name)
{
	struct ifreq about = { .ifr_flags = 0 };
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int network = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);

	strcpy(about.ifr_name, name);
	if (network >= 0 && ioctl(network, SIOCGIFFLAGS, &about) == 0) {
		about.ifr_flags |= IFF_UP;
		if (ioctl(network, SIOCSIFFLAGS, &about) == 0 && ioctl(network, SIOCGIFINDEX, &about) == 0) {
			address.sll_ifindex = about.ifr_ifindex;
			if (bind(network, (void *)&address, sizeof address) == 0)
				return network;
		}
	}
	if (network >= 0)
		close(network);
	return -1;
}

/* A tap of its own, with an interface that is up. */
static void do_tap(const struct call *c)
{
	struct ifreq about = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int header = HEADER_BYTES, network = -1, fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);

	if (fd >= 0 && ioctl(fd, TUNSETIFF, &about) == 0 && ioctl(fd, TUNSETVNETHDRSZ, &header) == 0)
		network = network_of(about.ifr_name);
	if (network < 0 && fd >= 0) {
		close(fd);
		fd = -1;
	}
	keep(c, fd, network);
}

static bool has_network(const struct call *c)
{
	return has_file(c) && networks[c->number[1]] >= 0;
}

/* The network brings a frame. */
static void do_deliver(const struct call *c)
{
	uint8_t data[BYTES_MAX];
	int bytes = bytes_in(c->text[2], data), error;
	ssize_t moved = send(networks[c->number[1]], data, bytes, 0);

	error = errno;
	settle();
	errno = error;
	plain(c, moved);
}

static bool has_network_and_bytes(const struct call *c)
{
	uint8_t data[BYTES_MAX];

	return has_network(c) && bytes_in(c->text[2], data) >= 0;
}

/* What left through the tap first. */
static void do_collect(const struct call *c)
{
	uint8_t data[BYTES_MAX];
	struct sockaddr_ll from;
	ssize_t moved;

	do {
		socklen_t length = sizeof from;

		moved = recvfrom(networks[c->number[1]], data, sizeof data, 0, (void *)&from, &length);
	} while (moved >= 0 && from.sll_pkttype == PACKET_OUTGOING);
	answer(c, moved);
	if (moved >= 0)
		say(" ");
	for (ssize_t i = 0; i < moved; i++)
		say("%02x", data[i]);
	end_line();
}

static void do_fileclose(const struct call *c)
{
	int *fd = &files[c->number[1]];

	plain(c, close(*fd));
	*fd = -1;
	let_go(&networks[c->number[1]]);
}

static void do_evsignal(const struct call *c)
{
	uint64_t one = 1;
	ssize_t moved = write(file_of(c), &one, sizeof one);
	int error = errno;

	settle();
	errno = error;
	plain(c, done(moved));
}

static void do_evcount(const struct call *c)
{
	uint64_t count = 0;
	ssize_t moved = read(file_of(c), &count, sizeof count);

	answer(c, done(moved));
	if (moved >= 0)
		say(" count=%lu", count);
	end_line();
}

/* ---- the device ---- */

static void get_features(const struct call *c, unsigned long request)
{
	uint64_t features = 0;

	answer(c, ioctl(file_of(c), request, &features));
	say(" features=0x%lx", features);
	end_line();
}

static void do_vhfeatures(const struct call *c)
{
	get_features(c, VHOST_GET_FEATURES);
}

static void do_vhbackendfeatures(const struct call *c)
{
	get_features(c, VHOST_GET_BACKEND_FEATURES);
}

static void do_vhsetfeatures(const struct call *c)
{
	uint64_t features = c->number[2];

	call_and_settle(c, VHOST_SET_FEATURES, &features);
}

static void do_vhsetbackendfeatures(const struct call *c)
{
	uint64_t features = c->number[2];

	call_and_settle(c, VHOST_SET_BACKEND_FEATURES, &features);
}

static void do_vhowner(const struct call *c)
{
	call_and_settle(c, VHOST_SET_OWNER, NULL);
}

static void do_vhreset(const struct call *c)
{
	call_and_settle(c, VHOST_RESET_OWNER, NULL);
}

/* A table whose regions are named; those that are counted and not named are zeros. */
static void do_vhmem(const struct call *c)
{
	static struct {
		struct vhost_memory head;
		struct vhost_memory_region regions[REGIONS];
	} table;

	memset(&table, 0, sizeof table);
	table.head.nregions = c->number[2];
	table.head.padding = c->number[3];
	for (unsigned i = 0; i < REGIONS_NAMED; i++) {
		table.regions[i].guest_phys_addr = word_or(c, 4 + 3 * i, 0);
		table.regions[i].memory_size = word_or(c, 5 + 3 * i, 0);
		table.regions[i].userspace_addr = word_or(c, 6 + 3 * i, 0);
	}
	call_and_settle(c, VHOST_SET_MEM_TABLE, &table);
}

/* ---- queues ---- */

static void set_state(const struct call *c, unsigned long request)
{
	struct vhost_vring_state state = { .index = c->number[2], .num = c->number[3] };

	call_and_settle(c, request, &state);
}

static void do_vhnum(const struct call *c)
{
	set_state(c, VHOST_SET_VRING_NUM);
}

static void do_vhbase(const struct call *c)
{
	set_state(c, VHOST_SET_VRING_BASE);
}

static void do_vhgetbase(const struct call *c)
{
	struct vhost_vring_state state = { .index = c->number[2] };

	answer(c, ioctl(file_of(c), VHOST_GET_VRING_BASE, &state));
	say(" num=%u", state.num);
	end_line();
}

static void do_vhaddr(const struct call *c)
{
	struct vhost_vring_addr address = {
		.index = c->number[2],
		.flags = c->number[3],
		.desc_user_addr = c->number[4],
		.used_user_addr = c->number[5],
		.avail_user_addr = c->number[6],
		.log_guest_addr = word_or(c, 7, 0),
	};

	call_and_settle(c, VHOST_SET_VRING_ADDR, &address);
}

static bool has_other_file(const struct call *c)
{
	return has_file(c) && file_in(c->text[3]) != -2;
}

static void set_file(const struct call *c, unsigned long request)
{
	struct vhost_vring_file file = { .index = c->number[2], .fd = file_in(c->text[3]) };

	call_and_settle(c, request, &file);
}

static void do_vhkick(const struct call *c)
{
	set_file(c, VHOST_SET_VRING_KICK);
}

static void do_vhcall(const struct call *c)
{
	set_file(c, VHOST_SET_VRING_CALL);
}

static void do_vherr(const struct call *c)
{
	set_file(c, VHOST_SET_VRING_ERR);
}

static void do_vhbackend(const struct call *c)
{
	set_file(c, VHOST_NET_SET_BACKEND);
}

static void do_vhioctl(const struct call *c)
{
	call_and_settle(c, c->number[2], (void *)c->number[3]);
}

/* ---- messages ---- */

static void write_and_settle(const struct call *c, const void *from, size_t bytes)
{
	ssize_t moved = write(file_of(c), from, bytes);
	int error = errno;

	settle();
	errno = error;
	plain(c, moved);
}

static bool has_file_and_bytes(const struct call *c)
{
	uint8_t data[BYTES_MAX];

	return has_file(c) && bytes_in(c->text[2], data) >= 0;
}

static void do_vhwrite(const struct call *c)
{
	uint8_t data[BYTES_MAX];
	int bytes = bytes_in(c->text[2], data);

	write_and_settle(c, data, bytes);
}

static void do_vhmsg(const struct call *c)
{
	struct vhost_msg_v2 message = {
		.type = c->number[2],
		.asid = word_or(c, 8, 0),
		.iotlb = {
			.type = c->number[3],
			.iova = c->number[4],
			.size = c->number[5],
			.uaddr = c->number[6],
			.perm = c->number[7],
		},
	};

	write_and_settle(c, &message, sizeof message);
}

/* UPDATEs of ranges that follow each other: how many were taken. */
static void do_vhfill(const struct call *c)
{
	u64 iova = c->number[2], size = c->number[3], uaddr = c->number[4], count;

	for (count = 0; count < c->number[5]; count++) {
		struct vhost_msg_v2 message = {
			.type = VHOST_IOTLB_MSG_V2,
			.iotlb = {
				.type = VHOST_IOTLB_UPDATE,
				.iova = iova + count * size,
				.size = size,
				.uaddr = uaddr + count * size,
				.perm = VHOST_ACCESS_RW,
			},
		};

		if (write(file_of(c), &message, sizeof message) < 0)
			break;
	}
	settle();
	errno = 0;
	plain(c, count);
}

static bool has_file_and_room(const struct call *c)
{
	return has_file(c) && c->number[2] <= BYTES_MAX;
}

static void woken(int signal)
{
	(void)signal;
}

/* A read that waits ends after a second, with EINTR. */
static void do_vhread(const struct call *c)
{
	struct sigaction wakes = { .sa_handler = woken };
	bool waits = word_or(c, 3, 0);
	uint8_t data[BYTES_MAX];
	int fd = file_of(c), flags = fcntl(fd, F_GETFL);
	ssize_t moved;

	if (waits) {
		sigaction(SIGALRM, &wakes, NULL);
		fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
		alarm(1);
	}
	errno = 0;
	moved = read(fd, data, c->number[2]);
	answer(c, moved);
	if (waits) {
		alarm(0);
		fcntl(fd, F_SETFL, flags);
	}
	if (moved >= 0)
		say(" ");
	for (ssize_t i = 0; i < moved; i++)
		say("%02x", data[i]);
	end_line();
}

static void do_vhpoll(const struct call *c)
{
	struct pollfd about = { .fd = file_of(c), .events = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM };

	answer(c, done(poll(&about, 1, 0)));
	say(" events=0x%x", (unsigned)about.revents);
	end_line();
}

/* ---- the process ---- */

static bool has_bytes(const struct call *c)
{
	uint8_t data[BYTES_MAX];

	return bytes_in(c->text[2], data) >= 0;
}

static void do_bytes(const struct call *c)
{
	uint8_t data[BYTES_MAX];
	int bytes = bytes_in(c->text[2], data);

	memcpy((void *)c->number[1], data, bytes);
	plain(c, 0);
}

/* A child runs a command: what the call returns, without fields. */
static void do_forked(const struct call *c)
{
	char rest[512] = "", *said;
	int ends[2], status;
	FILE *from;
	pid_t child;

	fflush(stdout);
	if (pipe(ends) < 0 || (child = fork()) < 0) {
		plain(c, -1);
		return;
	}
	if (child == 0) {
		dup2(ends[1], 1);
		run_words(c, 1);
		fflush(stdout);
		_exit(0);
	}
	close(ends[1]);
	from = fdopen(ends[0], "r");
	while (from && fgets(rest, sizeof rest, from))
		;
	if (from)
		fclose(from);
	waitpid(child, &status, 0);
	settle();
	rest[strcspn(rest, "\n")] = 0;
	said = strstr(rest, " => ");
	if (said) {
		size_t value = strcspn(said += 4, " ");

		/* A negative value has its errno, a refusal its words. */
		if (said[0] == '-')
			value += 1 + strcspn(said + value + 1, " ");
		if (said[0] != '?')
			said[value] = 0;
	}
	say("%s => %s", c->line, said ? said : "? unknown command");
	end_line();
}

const struct command vhost_commands[] = {
	{ "vhopen", 1, 1, do_vhopen, has_file },
	{ "eventfd", 1, 2, do_eventfd, has_file },
	{ "tap", 1, 1, do_tap, has_file },
	{ "deliver", 2, 2, do_deliver, has_network_and_bytes },
	{ "collect", 1, 1, do_collect, has_network },
	{ "fileclose", 1, 1, do_fileclose, has_file },
	{ "evsignal", 1, 1, do_evsignal, has_file },
	{ "evcount", 1, 1, do_evcount, has_file },
	{ "vhfeatures", 1, 1, do_vhfeatures, has_file },
	{ "vhsetfeatures", 2, 2, do_vhsetfeatures, has_file },
	{ "vhbackendfeatures", 1, 1, do_vhbackendfeatures, has_file },
	{ "vhsetbackendfeatures", 2, 2, do_vhsetbackendfeatures, has_file },
	{ "vhowner", 1, 1, do_vhowner, has_file },
	{ "vhreset", 1, 1, do_vhreset, has_file },
	{ "vhmem", 3, 15, do_vhmem, has_file },
	{ "vhnum", 3, 3, do_vhnum, has_file },
	{ "vhaddr", 6, 7, do_vhaddr, has_file },
	{ "vhbase", 3, 3, do_vhbase, has_file },
	{ "vhgetbase", 2, 2, do_vhgetbase, has_file },
	{ "vhkick", 3, 3, do_vhkick, has_other_file },
	{ "vhcall", 3, 3, do_vhcall, has_other_file },
	{ "vherr", 3, 3, do_vherr, has_other_file },
	{ "vhbackend", 3, 3, do_vhbackend, has_other_file },
	{ "vhioctl", 3, 3, do_vhioctl, has_file },
	{ "vhmsg", 7, 8, do_vhmsg, has_file },
	{ "vhwrite", 2, 2, do_vhwrite, has_file_and_bytes },
	{ "vhfill", 5, 5, do_vhfill, has_file },
	{ "vhread", 2, 3, do_vhread, has_file_and_room },
	{ "vhpoll", 1, 1, do_vhpoll, has_file },
	{ "bytes", 2, 2, do_bytes, has_bytes },
	{ "forked", 1, 15, do_forked, NULL },
	{ NULL, 0, 0, NULL, NULL },
};
