// Loaded into QEMU in front of its libraries (LD_PRELOAD): functions of the machine that can be told to send PCI Express
// messages that no device of QEMU sends by itself: requests for translations, and page requests. It calls what QEMU's
// program has for its own devices, in QEMU's main loop; whatever is behind that is QEMU's own unit.
//
//   gcc -O1 -Wall -Wextra -shared -fPIC -o endpoints.so endpoints.c -ldl -lpthread
//
// It takes a command a line on file descriptor 3, and answers each with one line, OK or FAIL first:
//
//   attach ID                               PASID, PRI and ATS capabilities at 0x240, 0x220 and 0x200
//   listen ID PASID                         responses for this PASID are kept for `responses`
//   page ID PASID ADDRESS GROUP FLAGS       OK RESULT; flags: 1 read, 2 write, 4 execute, 8 privileged, 16 last
//   translate ID PASID ADDRESS FLAGS        OK RESULT ADDRESS MASK RIGHTS of the page; flags: 1 no write, 4 execute,
//                                           8 privileged
//   responses                               OK, then ID:PASID:GROUP:CODE of each since the last time
//
// In any other program it does nothing.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define CHANNEL 3
#define LISTENERS 64
#define ATS_AT 0x200
#define PRI_AT 0x220
#define PASID_AT 0x240
#define PRI_REQUESTS 512
#define PASID_BITS 20

typedef struct Device Device;

// As QEMU 11 declares them in include/exec/memory.h and include/hw/pci/pci.h.
struct translation {
  void *space;
  uint64_t iova, address, mask;
  uint32_t rights, pasid;
};
struct response {
  uint32_t code;
  uint16_t group;
};
struct notifier {
  void (*notify)(struct notifier *, struct response *);
};

static int (*find_device)(const char *, Device **);
static void (*init_ats)(Device *, uint16_t, bool);
static void (*init_pri)(Device *, uint16_t, uint32_t, bool);
static void (*init_pasid)(Device *, uint16_t, uint8_t, bool, bool);
static int (*register_notifier)(Device *, uint32_t, struct notifier *);
static int (*request_page)(Device *, uint32_t, bool, bool, uint64_t, bool, uint16_t, bool, bool);
static ssize_t (*request_translation)(Device *, uint32_t, bool, bool, uint64_t, size_t, bool, struct translation *,
                                      size_t, uint32_t *);
static void *(*main_loop)(void);
static void (*run_in)(void *, void (*)(void *), void *, const char *);

static const struct {
  const char *name;
  void *into;
} symbols[] = {
    {"pci_qdev_find_device", &find_device},
    {"pcie_ats_init", &init_ats},
    {"pcie_pri_init", &init_pri},
    {"pcie_pasid_init", &init_pasid},
    {"pci_pri_register_notifier", &register_notifier},
    {"pci_pri_request_page", &request_page},
    {"pci_ats_request_translation", &request_translation},
    {"qemu_get_aio_context", &main_loop},
    {"aio_bh_schedule_oneshot_full", &run_in},
};

// The notifier comes first: QEMU hands back its address.
static struct listener {
  struct notifier notifier;
  char id[16];
  uint32_t pasid;
} listeners[LISTENERS];
static int listening;

static char responses[8192];

static void heard(struct notifier *notifier, struct response *response) {
  struct listener *from = (struct listener *)notifier;
  size_t used = strlen(responses);
  snprintf(responses + used, sizeof responses - used, " %s:%u:%u:%u", from->id, from->pasid, response->group,
           response->code);
}

static void answer(const char *line, char *out, size_t bytes) {
  char command[16] = "", id[16] = "";
  uint64_t number[4] = {0};
  int read = 0;
  Device *device = NULL;
  int words = sscanf(line, "%15s %15s%n", command, id, &read);
  for (int i = 0; i < 4; i++) {
    char *end;
    number[i] = strtoull(line + read, &end, 0);
    read = end - line;
  }
  if (!strcmp(command, "responses")) {
    snprintf(out, bytes, "OK%s", responses);
    responses[0] = 0;
    return;
  }
  if (words < 2 || find_device(id, &device) || device == NULL) {
    snprintf(out, bytes, "FAIL no device is called \"%s\"", id);
    return;
  }
  uint32_t pasid = number[0];
  unsigned flags = number[3];
  if (!strcmp(command, "attach")) {
    init_ats(device, ATS_AT, true);
    init_pri(device, PRI_AT, PRI_REQUESTS, true);
    init_pasid(device, PASID_AT, PASID_BITS, true, true);
    snprintf(out, bytes, "OK");
  } else if (!strcmp(command, "listen") && listening < LISTENERS) {
    struct listener *listener = &listeners[listening++];
    listener->notifier.notify = heard;
    snprintf(listener->id, sizeof listener->id, "%s", id);
    listener->pasid = pasid;
    int failed = register_notifier(device, pasid, &listener->notifier);
    snprintf(out, bytes, failed ? "FAIL no listener: %d" : "OK", failed);
  } else if (!strcmp(command, "page")) {
    int result = request_page(device, pasid, flags & 8, flags & 4, number[1], flags & 16, number[2], flags & 1, flags & 2);
    snprintf(out, bytes, "OK %d", result);
  } else if (!strcmp(command, "translate")) {
    struct translation found = {0};
    uint32_t errors;
    flags = number[2];
    ssize_t count = request_translation(device, pasid, flags & 8, flags & 4, number[1], 1, flags & 1, &found, 1, &errors);
    snprintf(out, bytes, "OK %zd %#llx %#llx %u", count, (unsigned long long)found.address,
             (unsigned long long)found.mask, found.rights);
  } else snprintf(out, bytes, "FAIL no command is called \"%s\"", command);
}

static sem_t done;

// In QEMU's main loop, which holds its lock: a thread of ours would have to wait for that, for seconds where much else runs.
static void run(void *line) {
  static char out[8400];
  answer(line, out, sizeof out - 1);
  strcat(out, "\n");
  for (size_t sent = 0, bytes = strlen(out); sent < bytes;) {
    ssize_t count = write(CHANNEL, out + sent, bytes - sent);
    if (count <= 0) break;
    sent += count;
  }
  sem_post(&done);
}

static void *serve(void *unused) {
  static char line[256];
  FILE *in = fdopen(CHANNEL, "r");
  if (in == NULL) return unused;
  // Whoever sends a command knows that the machine is complete.
  while (fgets(line, sizeof line, in)) {
    run_in(main_loop(), run, line, "endpoints");
    while (sem_wait(&done)) continue;
  }
  return unused;
}

__attribute__((constructor)) static void start(void) {
  for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
    void *found = dlsym(RTLD_DEFAULT, symbols[i].name);
    if (found == NULL) return;
    *(void **)symbols[i].into = found;
  }
  unsetenv("LD_PRELOAD");
  sem_init(&done, 0, 0);
  pthread_t thread;
  pthread_create(&thread, NULL, serve, NULL);
}
