/*
 * What a VT-d unit costs that keeps its IOTLB in a hash of GLib, the way emulators in C do: heap entries under heap
 * keys, found by page, level, device and PASID, all of them gone when 1024 are reached; context entries by device.
 *
 *   vtd-glib NAME OPERATIONS LOG2PAGES    prints { "ns", "sum", "operations" } as JSON
 *
 * Patterns, tables and what pages lead to are those of vtd-stand.ts, so that both sides must reach the same sum. Left out:
 * locks, traces, notifiers, and faults beyond being told apart.
 */
#define _GNU_SOURCE
#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define OUT_OF_LINE __attribute__((noinline))
#define WARM_UP 2
#define TIMED 7
#define PATTERN (1 << 20)
#define PATTERN_SEED 0x2545f491u
#define FIRST_PAGE (1ull << 20)
#define ENTRIES_MAX 1024
#define LEVELS 4
#define SOURCE 0x18
#define DOMAIN 1
#define PERM 3

struct key {
    uint64_t page;
    uint32_t pasid;
    uint16_t source;
    uint8_t level;
};

struct entry {
    uint64_t page;
    uint64_t target;
    uint32_t domain;
    uint32_t perm;
};

struct context {
    uint32_t generation;
    uint32_t domain;
    uint64_t top;
};

static GHashTable *iotlb;
static struct context contexts[256];
static uint32_t generation = 1;
static uint8_t *ram;
static uint64_t ram_bytes, next_table;
static uint32_t *pattern, *order;
static long mask, page_count, mapped;

static double cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* xorshift32, as in patterns.ts. */
static uint32_t next_random(uint32_t *state)
{
    uint32_t x = *state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return *state = x;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(uint32_t (*pass)(long operations), long operations)
{
    double ns[TIMED];
    uint32_t first = pass(operations);
    volatile uint32_t sink = first;
    for (int i = 1; i < WARM_UP; i++)
        sink += pass(operations);
    for (int i = 0; i < TIMED; i++) {
        double from = cpu_ns();
        sink += pass(operations);
        ns[i] = (cpu_ns() - from) / (double)operations;
    }
    qsort(ns, TIMED, sizeof ns[0], ascending);
    printf("{\"ns\":%.4f,\"sum\":%d,\"operations\":%ld}\n", ns[TIMED / 2], (int32_t)first, operations);
}

static guint hash_of(gconstpointer p)
{
    const struct key *k = p;
    uint64_t h = k->page | (uint64_t)k->level << 54;
    return (guint)(h ^ h >> 32) * 0x9e3779b1u ^ (guint)k->source << 7 ^ k->pasid;
}

static gboolean is_same(gconstpointer a, gconstpointer b)
{
    const struct key *x = a, *y = b;
    return x->page == y->page && x->level == y->level && x->source == y->source && x->pasid == y->pasid;
}

static int load(uint64_t address, uint64_t *out)
{
    if (address + 8 > ram_bytes)
        return 0;
    memcpy(out, ram + address, 8);
    return 1;
}

static uint64_t target_of(uint64_t index)
{
    return (((uint32_t)index * 40503u + 11) & (uint32_t)(mapped - 1)) + 0x100000;
}

static void map_page(uint64_t index)
{
    uint64_t page = FIRST_PAGE + index, table = contexts[SOURCE].top;
    for (int level = LEVELS; level > 1; level--) {
        uint64_t at = table + (page >> 9 * (level - 1) & 511) * 8, entry = 0;
        load(at, &entry);
        if (entry == 0) {
            entry = next_table | PERM;
            next_table += 4096;
            memcpy(ram + at, &entry, 8);
        }
        table = entry & ~0xfffull;
    }
    uint64_t leaf = target_of(index) << 12 | PERM;
    memcpy(ram + table + (page & 511) * 8, &leaf, 8);
}

/* The page that a page leads to, by the tables; 0 where it may not. */
static OUT_OF_LINE uint64_t walk(const struct context *c, uint64_t page, uint32_t need, struct entry *out)
{
    uint64_t table = c->top, perm = PERM;
    if (page >> 36 != 0)
        return 0;
    for (int level = LEVELS;; level--) {
        uint64_t entry;
        if (!load(table + (page >> 9 * (level - 1) & 511) * 8, &entry))
            return 0;
        perm &= entry;
        if ((need & ~perm) != 0)
            return 0;
        if ((entry & 0x000fc00000000800ull) != 0)
            return 0;
        table = entry & 0x000ffffffffff000ull;
        if (level == 1 || (entry & 0x80) != 0)
            break;
    }
    if (table >> 20 == 0xfee)
        return 0;
    out->page = page;
    out->target = table >> 12;
    out->perm = (uint32_t)perm;
    out->domain = c->domain;
    return 1;
}

static struct entry *look_up(uint16_t source, uint64_t page)
{
    struct key k = { page, 0, source, 0 };
    for (int level = 1; level <= 3; level++) {
        k.level = (uint8_t)level;
        k.page = page & ~0ull << 9 * (level - 1);
        struct entry *found = g_hash_table_lookup(iotlb, &k);
        if (found != NULL)
            return found;
    }
    return NULL;
}

static void keep(uint16_t source, const struct entry *what)
{
    if (g_hash_table_size(iotlb) >= ENTRIES_MAX)
        g_hash_table_remove_all(iotlb);
    struct key *k = g_new(struct key, 1);
    struct entry *e = g_new(struct entry, 1);
    *k = (struct key){ what->page, 0, source, 1 };
    *e = *what;
    g_hash_table_replace(iotlb, k, e);
}

static OUT_OF_LINE uint64_t translate(uint16_t source, uint64_t page, uint32_t need)
{
    struct entry *found = look_up(source, page);
    if (found != NULL)
        return (need & ~found->perm) == 0 ? found->target : ~0ull;
    struct context *c = &contexts[source & 0xff];
    struct entry made;
    if (c->generation != generation || !walk(c, page, need, &made))
        return ~0ull;
    keep(source, &made);
    return made.target;
}

static uint32_t translate_pass(long operations)
{
    uint32_t sum = 0;
    for (long i = 0; i < operations; i++)
        sum += (uint32_t)translate(SOURCE, FIRST_PAGE + pattern[i & mask], 1);
    return sum;
}

/* Each page once, in random order, after everything was forgotten; again and again. */
static uint32_t once_pass(long operations)
{
    uint32_t sum = 0;
    for (long done = 0; done + page_count <= operations; done += page_count) {
        g_hash_table_remove_all(iotlb);
        for (long i = 0; i < page_count; i++)
            sum += (uint32_t)translate(SOURCE, FIRST_PAGE + order[i], 1);
    }
    return sum;
}

/* All entries go, and as many are kept again: without a bound. */
static uint32_t refill_pass(long operations)
{
    (void)operations;
    g_hash_table_remove_all(iotlb);
    for (long i = 0; i < page_count; i++) {
        struct key *k = g_new(struct key, 1);
        struct entry *e = g_new(struct entry, 1);
        uint64_t page = FIRST_PAGE + order[i];
        *k = (struct key){ page, 0, SOURCE, 1 };
        *e = (struct entry){ page, page, DOMAIN, PERM };
        g_hash_table_replace(iotlb, k, e);
    }
    return g_hash_table_size(iotlb);
}

static uint32_t walk_pass(long operations)
{
    uint32_t sum = 0;
    struct entry made;
    for (long i = 0; i < operations; i++) {
        walk(&contexts[SOURCE], FIRST_PAGE + pattern[i & mask], 1, &made);
        sum += (uint32_t)made.target;
    }
    return sum;
}

static uint64_t gone;

static gboolean is_gone(gpointer key, gpointer value, gpointer user)
{
    const struct entry *e = value;
    (void)key;
    (void)user;
    return e->domain == DOMAIN && e->page == gone;
}

/* One of 1024 cached pages is forgotten, and comes back. */
static uint32_t forget_pass(long operations)
{
    uint32_t sum = 0;
    for (long i = 0; i < operations; i++) {
        gone = FIRST_PAGE + (pattern[i & mask] & (ENTRIES_MAX - 1));
        sum += g_hash_table_foreach_remove(iotlb, is_gone, NULL);
        struct entry again = { gone, gone, DOMAIN, PERM };
        keep(SOURCE, &again);
    }
    return sum;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: vtd-glib NAME OPERATIONS LOG2PAGES\n");
        return 2;
    }
    const char *name = argv[1];
    long operations = strtol(argv[2], NULL, 0), pages = 1l << strtol(argv[3], NULL, 0);
    if (strcmp(name, "once") == 0 && operations < pages)
        pages = operations;
    ram_bytes = ((uint64_t)pages / 512 + 64) * 4096 * 2;
    if (posix_memalign((void **)&ram, 4096, ram_bytes) != 0)
        return 1;
    memset(ram, 0, ram_bytes);
    mapped = pages;
    contexts[SOURCE] = (struct context){ generation, DOMAIN, 0x1000 };
    next_table = 0x2000;
    for (long i = 0; i < pages; i++)
        map_page((uint64_t)i);
    iotlb = g_hash_table_new_full(hash_of, is_same, g_free, g_free);
    long places = operations < PATTERN ? operations : PATTERN;
    uint32_t state = PATTERN_SEED;
    mask = places - 1;
    pattern = g_new(uint32_t, places);
    for (long i = 0; i < places; i++)
        pattern[i] = next_random(&state) % (uint32_t)pages;
    page_count = pages;
    order = g_new(uint32_t, page_count);
    state = PATTERN_SEED;
    for (long i = 0; i < page_count; i++)
        order[i] = (uint32_t)i;
    for (long i = page_count - 1; i > 0; i--) {
        uint32_t other = next_random(&state) % (uint32_t)(i + 1), was = order[i];
        order[i] = order[other];
        order[other] = was;
    }
    if (strcmp(name, "once") == 0)
        measure(once_pass, operations / page_count * page_count);
    else if (strcmp(name, "refill") == 0)
        measure(refill_pass, page_count);
    else if (strcmp(name, "translate") == 0)
        measure(translate_pass, operations);
    else if (strcmp(name, "walk") == 0)
        measure(walk_pass, operations);
    else if (strcmp(name, "forget") == 0) {
        for (uint64_t i = 0; i < ENTRIES_MAX; i++) {
            struct entry e = { FIRST_PAGE + i, FIRST_PAGE + i, DOMAIN, PERM };
            keep(SOURCE, &e);
        }
        measure(forget_pass, operations);
    } else {
        fprintf(stderr, "vtd-glib: nothing is called %s\n", name);
        return 2;
    }
    return 0;
}
