/*
 * What the same work costs in plain C on this machine: the floors that the cases of this folder are held to.
 *
 *   floors NAME OPERATIONS [NUMBER ...]   prints { "ns", "sum", "operations" } as JSON
 *   floors run COMMAND [ARGUMENT ...]     runs a process; prints its wall time, CPU time and peak memory
 *
 * Every loop consumes its results in a 32-bit sum. The patterns come from the same generator as those of the
 * TypeScript side, so that both sides must reach the same sum for the same work. Functions that stand for a
 * call across a module border are kept out of line. Two passes warm up, seven are timed, the median counts.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OUT_OF_LINE __attribute__((noinline))
#define WARM_UP 2
#define TIMED 7
#define LIST_ENTRIES 512

static double clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Zeroed, and touched before it is timed. */
static void *aligned_memory(size_t alignment, size_t bytes)
{
    void *p = NULL;
    if (posix_memalign(&p, alignment, bytes) != 0) {
        fprintf(stderr, "floors: no memory\n");
        exit(1);
    }
    memset(p, 0, bytes);
    return p;
}

static void *memory(size_t bytes)
{
    return aligned_memory(64, bytes);
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

/* Runs passes of `operations` each and prints the cost of one; the sum is that of the first pass. */
static void measure(uint32_t (*pass)(long operations), long operations)
{
    double ns[TIMED];
    uint32_t first = pass(operations);
    volatile uint32_t sink = first;
    for (int i = 1; i < WARM_UP; i++)
        sink += pass(operations);
    for (int i = 0; i < TIMED; i++) {
        double from = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        sink += pass(operations);
        ns[i] = (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - from) / (double)operations;
    }
    qsort(ns, TIMED, sizeof ns[0], ascending);
    printf("{\"ns\":%.4f,\"sum\":%d,\"operations\":%ld}\n", ns[TIMED / 2], (int32_t)first, operations);
}

/* ---- chase: each load needs the one before it ---------------------------------------------------------- */

static uint32_t *links;

static uint32_t chase_pass(long operations)
{
    uint32_t at = 0;
    for (long i = 0; i < operations; i++)
        at = links[at];
    return at;
}

static void chase(long operations, long bytes)
{
    uint32_t count = (uint32_t)(bytes / 4), state = 1;
    links = memory((size_t)bytes);
    for (uint32_t i = 0; i < count; i++)
        links[i] = i;
    /* One cycle through all of them. */
    for (uint32_t i = count - 1; i > 0; i--) {
        uint32_t j = next_random(&state) % i, keep = links[i];
        links[i] = links[j];
        links[j] = keep;
    }
    measure(chase_pass, operations);
}

/* ---- windows and their tables -------------------------------------------------------------------------- */

#define PAGE_SHIFT 16
#define BUS_OFFSET (1ull << 59)
#define PATTERN (1 << 20)
#define PATTERN_SEED 0x2545f491u
#define TABLE_SEED 7u
#define PERM 3ull

struct window {
    uint32_t liobn;
    uint32_t shift;
    uint64_t bus;
    uint64_t entries;
    uint64_t *table;
};

static struct window windows[2];
static uint64_t *addresses; /* the access pattern */
static long pattern_mask;

/* The page that entry `index` maps, as in patterns.ts. */
static uint64_t page_of(uint64_t index)
{
    return (index * 40503u + 11u) & 0xfffffu;
}

static void make_windows(long log2_entries)
{
    for (int i = 0; i < 2; i++) {
        struct window *w = &windows[i];
        w->liobn = 0x80000000u + (uint32_t)i;
        w->shift = i == 0 ? 12 : PAGE_SHIFT;
        w->bus = i == 0 ? 0 : BUS_OFFSET;
        w->entries = i == 0 ? 1024 : 1ull << log2_entries;
        w->table = memory(w->entries * 8);
    }
    for (uint64_t i = 0; i < windows[1].entries; i++)
        windows[1].table[i] = page_of(i) << PAGE_SHIFT | PERM;
}

/* Bus addresses inside the second window: sequential (0) or random (1). */
static void make_addresses(long operations, int random)
{
    uint32_t state = PATTERN_SEED;
    uint64_t mask = windows[1].entries - 1;
    long count = operations < PATTERN ? operations : PATTERN;
    addresses = memory((size_t)count * 8);
    for (long i = 0; i < count; i++) {
        uint64_t entry = (random ? next_random(&state) : (uint32_t)i) & mask;
        addresses[i] = BUS_OFFSET + (entry << PAGE_SHIFT) + (next_random(&state) & 0xfff8u);
    }
    pattern_mask = count - 1;
}

/* A bus with two tables, one of them closed, as a host bridge has them; the later one wins. */
struct bus {
    struct window *tables[2];
};

static struct bus bus = { { NULL, &windows[1] } };

struct translation {
    const struct window *window;
    uint64_t gpa;
    uint64_t entry;
    uint32_t perm;
};

static OUT_OF_LINE int translate(const struct bus *on, uint64_t address, struct translation *out)
{
    for (int i = 1; i >= 0; i--) {
        const struct window *w = on->tables[i];
        if (w == NULL)
            continue;
        uint64_t entry = (address - w->bus) >> w->shift;
        if (entry >= w->entries)
            continue;
        uint64_t tce = w->table[entry];
        out->window = w;
        out->gpa = tce & ~((1ull << w->shift) - 1);
        out->entry = entry;
        out->perm = (uint32_t)tce & 3;
        return 1;
    }
    out->window = NULL;
    return 0;
}

static uint32_t tce_pass(long operations)
{
    struct translation t = { 0 };
    uint32_t sum = 0;
    for (long i = 0; i < operations; i++) {
        if (translate(&bus, addresses[i & pattern_mask], &t))
            sum += (uint32_t)t.gpa + (uint32_t)t.entry + t.perm;
    }
    return sum;
}

static void tce(long operations, long log2_entries, long random)
{
    make_windows(log2_entries);
    make_addresses(operations, (int)random);
    measure(tce_pass, operations);
}

/* ---- hypercalls: the checks of QEMU's emulated path and the table, no records, nobody listening ---------- */

enum { H_SUCCESS = 0, H_PARAMETER = -4 };

static struct window *find_window(uint64_t liobn)
{
    for (int i = 0; i < 2; i++)
        if (windows[i].liobn == liobn)
            return &windows[i];
    return NULL;
}

static inline int put_entry(struct window *w, uint64_t ioba, uint64_t value)
{
    uint64_t entry = (ioba - w->bus) >> w->shift;
    if (entry >= w->entries)
        return H_PARAMETER;
    w->table[entry] = value;
    return H_SUCCESS;
}

static OUT_OF_LINE long h_put_tce(uint64_t liobn, uint64_t ioba, uint64_t value)
{
    struct window *w = find_window(liobn);
    if (w == NULL)
        return H_PARAMETER;
    ioba &= ~((1ull << w->shift) - 1);
    return put_entry(w, ioba, value);
}

static uint8_t *list_page; /* 512 big-endian entries in guest memory */

static OUT_OF_LINE int load_be64(uint64_t at, uint64_t *out)
{
    if (at + 8 > LIST_ENTRIES * 8)
        return 0;
    uint64_t raw;
    memcpy(&raw, list_page + at, 8);
    *out = __builtin_bswap64(raw);
    return 1;
}

static OUT_OF_LINE long h_put_tce_indirect(uint64_t liobn, uint64_t ioba, uint64_t list, uint64_t npages)
{
    struct window *w = find_window(liobn);
    if (w == NULL || (list & 0xfff) != 0 || npages > LIST_ENTRIES)
        return H_PARAMETER;
    uint64_t page = 1ull << w->shift;
    ioba &= ~(page - 1);
    for (uint64_t i = 0; i < npages; i++, ioba += page) {
        uint64_t value;
        if (!load_be64(list + i * 8, &value))
            return H_PARAMETER;
        long ret = put_entry(w, ioba, value);
        if (ret != H_SUCCESS)
            return ret;
    }
    return H_SUCCESS;
}

static OUT_OF_LINE long h_stuff_tce(uint64_t liobn, uint64_t ioba, uint64_t value, uint64_t npages)
{
    struct window *w = find_window(liobn);
    if (w == NULL || npages > LIST_ENTRIES)
        return H_PARAMETER;
    uint64_t page = 1ull << w->shift;
    ioba &= ~(page - 1);
    for (uint64_t i = 0; i < npages; i++, ioba += page) {
        long ret = put_entry(w, ioba, value);
        if (ret != H_SUCCESS)
            return ret;
    }
    return H_SUCCESS;
}

static uint32_t put_pass(long operations)
{
    uint32_t sum = 0;
    for (long i = 0; i < operations; i++) {
        uint64_t ioba = addresses[i & pattern_mask];
        sum += (uint32_t)h_put_tce(0x80000001u, ioba, page_of((uint64_t)i) << PAGE_SHIFT | PERM) + 1;
    }
    return sum;
}

/* Where the 512 entries of call `i` begin, as in hcalls.ts. */
static uint64_t run_at(long i)
{
    return BUS_OFFSET + (((uint64_t)i * LIST_ENTRIES & (windows[1].entries - 1)) << PAGE_SHIFT);
}

static uint32_t indirect_pass(long operations)
{
    uint32_t sum = 0;
    for (long i = 0; i < operations / LIST_ENTRIES; i++)
        sum += (uint32_t)h_put_tce_indirect(0x80000001u, run_at(i), 0, LIST_ENTRIES) + 1;
    return sum;
}

static uint32_t stuff_pass(long operations)
{
    uint32_t sum = 0;
    for (long i = 0; i < operations / LIST_ENTRIES; i++)
        sum += (uint32_t)h_stuff_tce(0x80000001u, run_at(i), i & 1 ? PERM : 0, LIST_ENTRIES) + 1;
    return sum;
}

static void hcall(uint32_t (*pass)(long), long operations, long log2_entries)
{
    make_windows(log2_entries);
    make_addresses(operations, 1);
    list_page = memory(LIST_ENTRIES * 8);
    for (uint64_t i = 0; i < LIST_ENTRIES; i++) {
        uint64_t raw = __builtin_bswap64(page_of(i) << PAGE_SHIFT | PERM);
        memcpy(list_page + i * 8, &raw, 8);
    }
    measure(pass, operations);
}

/* ---- entries written in bulk: the bare loop, for the speed of memory ------------------------------------- */

static uint32_t bulk_pass(long operations)
{
    struct window *w = &windows[1];
    uint64_t mask = w->entries - 1;
    for (long i = 0; i < operations; i++)
        w->table[(uint64_t)i & mask] = (uint64_t)i << PAGE_SHIFT | PERM;
    return (uint32_t)w->table[(uint64_t)(operations - 1) & mask];
}

static void bulk(long operations, long log2_entries)
{
    make_windows(log2_entries);
    measure(bulk_pass, operations);
}

/* ---- a bitmap with four pools and a large one, next fit -------------------------------------------------- */

#define POOLS 4
#define LARGE 4
#define FAIL (~0ul)

static uint64_t *bitmap;
static unsigned long starts[POOLS + 1], ends[POOLS + 1], hints[POOLS + 1];
static atomic_int pool_lock[POOLS + 1];
static unsigned long slots_total;
static int takes_locks;
static unsigned long run_pages;
static uint32_t *live, *victims;
static uint32_t live_count;

static unsigned long next_bit(unsigned long from, unsigned long end, uint64_t flip)
{
    if (from >= end)
        return end;
    unsigned long w = from >> 6, last = (end - 1) >> 6;
    uint64_t word = (bitmap[w] ^ flip) & (~0ull << (from & 63));
    while (word == 0 && w < last)
        word = bitmap[++w] ^ flip;
    if (word == 0)
        return end;
    unsigned long at = (w << 6) + (unsigned long)__builtin_ctzll(word);
    return at < end ? at : end;
}

static unsigned long free_area(unsigned long from, unsigned long end, unsigned long count)
{
    for (;;) {
        unsigned long at = next_bit(from, end, ~0ull), stop = at + count;
        if (at >= end || stop > end)
            return FAIL;
        unsigned long used = next_bit(at, stop, 0);
        if (used == stop)
            return at;
        from = used + 1;
    }
}

static void set_bits(unsigned long from, unsigned long count, int on)
{
    for (unsigned long end = from + count; from < end;) {
        unsigned long stop = (from | 63) + 1 < end ? (from | 63) + 1 : end;
        uint64_t ones = stop - from == 64 ? ~0ull : ((1ull << (stop - from)) - 1) << (from & 63);
        if (on)
            bitmap[from >> 6] |= ones;
        else
            bitmap[from >> 6] &= ~ones;
        from = stop;
    }
}

static void take_lock(int pool)
{
    if (takes_locks)
        while (atomic_exchange_explicit(&pool_lock[pool], 1, memory_order_acquire) != 0)
            ;
}

static void give_lock(int pool)
{
    if (takes_locks)
        atomic_store_explicit(&pool_lock[pool], 0, memory_order_release);
}

static OUT_OF_LINE unsigned long range_alloc(unsigned long count, uint32_t cpu)
{
    int number = (int)((cpu * 0x61c88647u) >> 30) & (POOLS - 1);
    int pool = count > 15 ? LARGE : number;
    take_lock(pool);
    for (int pass = 0;; pass++) {
        unsigned long start = hints[pool] < ends[pool] ? hints[pool] : starts[pool];
        unsigned long slot = free_area(start, ends[pool] - 1, count);
        if (slot != FAIL) {
            set_bits(slot, count, 1);
            hints[pool] = count > 15 ? slot + count : (slot + count + 15) & ~15ul;
            give_lock(pool);
            return slot;
        }
        int before = pool;
        if (pass > 0 && pass <= POOLS)
            pool = number = (number + 1) & (POOLS - 1);
        else if (pass == POOLS + 1)
            pool = LARGE;
        else if (pass > 0) {
            give_lock(pool);
            return FAIL;
        }
        if (pool != before) {
            give_lock(before);
            take_lock(pool);
        }
        hints[pool] = starts[pool];
    }
}

static OUT_OF_LINE void range_free(unsigned long slot, unsigned long count)
{
    unsigned long pool_entries = ends[0];
    int pool = slot >= starts[LARGE] ? LARGE : (int)(slot / pool_entries);
    take_lock(pool);
    set_bits(slot, count, 0);
    give_lock(pool);
}

static uint32_t alloc_pass(long operations)
{
    uint32_t sum = 0;
    for (long i = 0; i < operations; i++) {
        uint32_t at = victims[i & pattern_mask];
        range_free(live[at], run_pages);
        uint32_t slot = (uint32_t)range_alloc(run_pages, (uint32_t)i & 7);
        live[at] = slot;
        sum += slot;
    }
    return sum;
}

static void make_victims(long operations, uint32_t below)
{
    uint32_t state = PATTERN_SEED;
    long count = operations < PATTERN ? operations : PATTERN;
    victims = memory((size_t)count * 4);
    for (long i = 0; i < count; i++)
        victims[i] = next_random(&state) % below;
    pattern_mask = count - 1;
}

static void alloc(long operations, long log2_slots, long pages, long percent, long locks)
{
    slots_total = 1ul << log2_slots;
    run_pages = (unsigned long)pages;
    takes_locks = (int)locks;
    bitmap = memory(slots_total / 8);
    unsigned long pool_entries = slots_total * 3 / 4 / POOLS;
    for (int i = 0; i <= POOLS; i++) {
        starts[i] = hints[i] = (unsigned long)i * pool_entries;
        ends[i] = i == LARGE ? slots_total : starts[i] + pool_entries;
    }
    /* The pools are full to a percentage; the order of what is live is that of its making. */
    live_count = (uint32_t)(slots_total * 3 / 4 * (unsigned long)percent / 100 / run_pages);
    live = memory((size_t)live_count * 4);
    for (uint32_t i = 0; i < live_count; i++)
        live[i] = (uint32_t)range_alloc(run_pages, i & 7);
    make_victims(operations, live_count);
    /* Random frees until the holes lie anywhere. */
    for (uint32_t done = 0; done < 2 * live_count; done += (uint32_t)operations)
        alloc_pass(operations);
    measure(alloc_pass, operations);
}

/* ---- records into a ring of structs ------------------------------------------------------------------------ */

#define RING (1 << 16)

struct record {
    double tick;
    int32_t kind, cause;
    int32_t slot[12];
};

static struct record *ring;
static long ring_used;

static OUT_OF_LINE long append(int kind, int cause, const int32_t slot[12])
{
    struct record *r = &ring[ring_used & (RING - 1)];
    r->tick = 1;
    r->kind = kind;
    r->cause = cause;
    memcpy(r->slot, slot, sizeof r->slot);
    return ring_used++;
}

static uint32_t append_pass(long operations)
{
    uint32_t sum = 0;
    int32_t slot[12] = { 0 };
    for (long i = 0; i < operations; i++) {
        for (int s = 0; s < 12; s++)
            slot[s] = (int32_t)i;
        sum += (uint32_t)append((int)(i & 7), (int)i, slot) & 0xff;
    }
    return sum;
}

static void append_records(long operations)
{
    ring = memory(sizeof(struct record) * RING);
    measure(append_pass, operations);
}

/* ---- hardware tables: levels of big-endian words, and a mirror with the user addresses ------------------- */

#define GUEST_PAGES (1 << 14)
#define GUEST_UA 0x100000000ull
#define ENTRY_PERM 3ull

struct tree {
    uint64_t *root;
    int levels, shift;
};

static struct tree tces, view;

static uint64_t *new_level(int shift)
{
    return aligned_memory(4096, 8ul << shift);
}

/* The slot of an entry; NULL where a level is missing and none is made. */
static inline uint64_t *slot_of(const struct tree *t, uint64_t entry, int makes)
{
    uint64_t mask = (1ull << t->shift) - 1;
    uint64_t *level = t->root;
    for (int n = t->levels - 1; n > 0; n--) {
        uint64_t *at = &level[(entry >> (n * t->shift)) & mask];
        if (*at == 0) {
            if (!makes)
                return NULL;
            *at = __builtin_bswap64((uint64_t)(uintptr_t)new_level(t->shift) | ENTRY_PERM);
        }
        level = (uint64_t *)(uintptr_t)(__builtin_bswap64(*at) & ~0xfffull);
    }
    return &level[entry & mask];
}

/* Memory that is registered: sorted by user address. */
struct region {
    uint64_t ua, pages, *hpas;
    _Atomic uint64_t mapped;
};

static struct region *regions;
static long region_count;

static inline struct region *find_region(uint64_t ua)
{
    long low = 0, high = region_count;
    while (low < high) {
        long middle = (low + high) >> 1;
        if (regions[middle].ua + (regions[middle].pages << PAGE_SHIFT) <= ua)
            low = middle + 1;
        else
            high = middle;
    }
    return low < region_count && regions[low].ua <= ua ? &regions[low] : NULL;
}

static OUT_OF_LINE int map_pages(uint64_t entry, uint64_t ua, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++, ua += 1ull << PAGE_SHIFT) {
        uint64_t *user = slot_of(&view, entry + i, 1);
        struct region *r = find_region(ua);
        if (user == NULL || r == NULL)
            return -1;
        atomic_fetch_add(&r->mapped, 1);
        uint64_t hpa = r->hpas[(ua - r->ua) >> PAGE_SHIFT];
        _Atomic uint64_t *slot = (_Atomic uint64_t *)slot_of(&tces, entry + i, 1);
        uint64_t old = atomic_exchange(slot, __builtin_bswap64(hpa | ENTRY_PERM));
        if (old != 0)
            return -1;
        *user = __builtin_bswap64(ua);
    }
    return 0;
}

static OUT_OF_LINE int unmap_pages(uint64_t entry, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t *user = slot_of(&view, entry + i, 0);
        if (user == NULL)
            continue;
        _Atomic uint64_t *slot = (_Atomic uint64_t *)slot_of(&tces, entry + i, 0);
        if (atomic_exchange(slot, 0) == 0)
            continue;
        struct region *r = find_region(__builtin_bswap64(*user));
        if (r == NULL)
            return -1;
        atomic_fetch_sub(&r->mapped, 1);
        *user = 0;
    }
    return 0;
}

static uint64_t ua_of(uint64_t entry)
{
    return GUEST_UA + ((entry & (GUEST_PAGES - 1)) << PAGE_SHIFT);
}

/* A table of so many entries in so many levels, and a guest of 1 GiB in so many regions. */
static void make_tables(long log2_entries, long levels, long count)
{
    int shift = (int)((log2_entries + levels - 1) / levels);
    tces = (struct tree){ new_level(shift), (int)levels, shift };
    view = (struct tree){ new_level(shift), (int)levels, shift };
    region_count = count;
    regions = memory((size_t)count * sizeof *regions);
    uint64_t pages = GUEST_PAGES / (uint64_t)count;
    for (long i = 0; i < count; i++) {
        regions[i].ua = GUEST_UA + (uint64_t)i * (pages << PAGE_SHIFT);
        regions[i].pages = pages;
        regions[i].hpas = memory(pages * 8);
        regions[i].mapped = 1;
        for (uint64_t p = 0; p < pages; p++)
            regions[i].hpas[p] = ((uint64_t)i * pages + p + 64) << PAGE_SHIFT;
    }
}

static uint64_t call_pages, call_places;

static uint32_t vfio_map_pass(long operations)
{
    uint32_t sum = 0;
    for (long i = 0; i < operations / (long)call_pages; i++) {
        uint64_t entry = (uint64_t)i % call_places * call_pages;
        sum += (uint32_t)(map_pages(entry, ua_of(entry), call_pages) + 1) + (uint32_t)regions[0].mapped;
        sum += (uint32_t)(unmap_pages(entry, call_pages) + 1) + (uint32_t)regions[0].mapped;
    }
    return sum;
}

static void vfio_map(long operations, long log2_entries, long levels, long pages)
{
    make_tables(log2_entries, levels, 1);
    call_pages = (uint64_t)pages;
    call_places = GUEST_PAGES / call_pages < 1024 ? GUEST_PAGES / call_pages : 1024;
    measure(vfio_map_pass, operations < pages ? pages : operations);
}

/* ---- guest pages: so many entries are put, then cleared ---------------------------------------------------- */

static uint32_t put_clear_pass(long operations)
{
    uint32_t sum = 0;
    for (long i = 0; i < operations / 2 / (long)call_pages; i++) {
        uint64_t entry = ((uint64_t)i & (call_places - 1)) * call_pages;
        sum += (uint32_t)(map_pages(entry, ua_of(entry), call_pages) + 1) + (uint32_t)regions[0].mapped;
        sum += (uint32_t)(unmap_pages(entry, call_pages) + 1) + (uint32_t)regions[0].mapped;
    }
    return sum;
}

static void put_clear(long operations, long log2_entries, long levels, long count, long places)
{
    make_tables(log2_entries, levels, 1);
    call_pages = (uint64_t)count;
    call_places = (uint64_t)places;
    measure(put_clear_pass, operations < 2 * count ? 2 * count : operations);
}

/* ---- many live entries: one of them goes and comes again --------------------------------------------------- */

#define DATA_PAGES 512

static void make_live(uint64_t live)
{
    for (uint64_t entry = 0; entry < live; entry++)
        map_pages(entry, ua_of(entry & (DATA_PAGES - 1)), 1);
}

/* Random entries of all that are live, or of `few` that are spread over them. */
static void make_entries(long operations, uint32_t live, uint32_t few)
{
    make_victims(operations, few == 0 ? live : few);
    for (long i = 0; few != 0 && i <= pattern_mask; i++)
        victims[i] *= live / few;
}

static uint32_t remap_pass(long operations)
{
    uint32_t sum = 0;
    for (long i = 0; i < operations; i++) {
        uint64_t entry = victims[i & pattern_mask];
        unmap_pages(entry, 1);
        sum += (uint32_t)regions[0].mapped;
        if (map_pages(entry, ua_of(entry & (DATA_PAGES - 1)), 1) == 0)
            sum += (uint32_t)regions[0].mapped;
    }
    return sum;
}

static void remap(long operations, long log2_entries, long levels, long live, long few)
{
    make_tables(log2_entries, levels, 1);
    make_live((uint64_t)live);
    make_entries(operations, (uint32_t)live, (uint32_t)few);
    measure(remap_pass, operations);
}

/* ---- DMA: a cache of TCEs (a hash with chains, the oldest entry makes room), else a walk; then the data ---- */

struct cached {
    uint64_t page, tce;
    uint32_t chain, older, newer;
};

static struct cached *cache;
static uint32_t *cache_buckets, cache_shift, cache_used, cache_max, cache_newest, cache_oldest;
static uint8_t *data_pages;

static inline uint32_t bucket_of(uint64_t page)
{
    return (uint32_t)((page * 0x9e3779b97f4a7c15ull) >> (64 - cache_shift));
}

static void leave_order(uint32_t row)
{
    uint32_t older = cache[row].older, newer = cache[row].newer;
    if (newer != 0)
        cache[newer].older = older;
    else
        cache_newest = older;
    if (older != 0)
        cache[older].newer = newer;
    else
        cache_oldest = newer;
}

static void join_order(uint32_t row)
{
    cache[row].older = cache_newest;
    cache[row].newer = 0;
    if (cache_newest != 0)
        cache[cache_newest].newer = row;
    else
        cache_oldest = row;
    cache_newest = row;
}

static uint32_t fill_row(uint64_t page, uint64_t tce)
{
    uint32_t row;
    if (cache_max != 0 && cache_used == cache_max) {
        row = cache_oldest;
        leave_order(row);
        uint32_t *at = &cache_buckets[bucket_of(cache[row].page)];
        while (*at != row)
            at = &cache[*at].chain;
        *at = cache[row].chain;
    } else
        row = ++cache_used;
    uint32_t bucket = bucket_of(page);
    cache[row].page = page;
    cache[row].tce = tce;
    cache[row].chain = cache_buckets[bucket];
    cache_buckets[bucket] = row;
    if (cache_max != 0)
        join_order(row);
    return row;
}

static OUT_OF_LINE int dma_read(uint64_t address, uint8_t *into)
{
    uint64_t page = (address - BUS_OFFSET) >> PAGE_SHIFT;
    uint32_t row = cache_buckets[bucket_of(page)];
    while (row != 0 && cache[row].page != page)
        row = cache[row].chain;
    if (row == 0) {
        uint64_t *slot = slot_of(&tces, page, 0);
        if (slot == NULL || (__builtin_bswap64(*slot) & ENTRY_PERM) == 0)
            return 1;
        row = fill_row(page, __builtin_bswap64(*slot));
    } else if (cache_max != 0 && cache_newest != row) {
        leave_order(row);
        join_order(row);
    }
    uint64_t tce = cache[row].tce;
    if ((tce & 1) == 0)
        return 1;
    uint64_t hpa = (tce & ~0xffffull) | (address & 0xffff);
    memcpy(into, data_pages + (hpa - (64ull << PAGE_SHIFT)), 8);
    return 0;
}

static uint64_t place_in(uint64_t page)
{
    return page * 0x48 & 0xff8;
}

static uint32_t hw_dma_one(uint64_t entry)
{
    uint8_t bytes[8];
    int code = dma_read(BUS_OFFSET + (entry << PAGE_SHIFT) + place_in(entry & (DATA_PAGES - 1)), bytes);
    return (uint32_t)code + bytes[3];
}

static uint32_t hw_dma_pass(long operations)
{
    uint32_t sum = 0;
    for (long i = 0; i < operations; i++)
        sum += hw_dma_one(victims[i & pattern_mask]);
    return sum;
}

static void hw_dma(long operations, const long *n)
{
    long log2_entries = n[0], levels = n[1], live = n[3], few = n[4];
    cache_max = (uint32_t)n[2];
    make_tables(log2_entries, levels, 1);
    make_live((uint64_t)live);
    uint32_t rows = cache_max == 0 ? (uint32_t)live : cache_max;
    for (cache_shift = 6; 1ul << cache_shift < rows;)
        cache_shift++;
    cache = memory((rows + 1) * sizeof *cache);
    cache_buckets = memory(4ul << cache_shift);
    data_pages = memory((size_t)DATA_PAGES << PAGE_SHIFT);
    for (uint64_t page = 0; page < DATA_PAGES; page++) {
        uint64_t word = __builtin_bswap64(page << 32 | (uint32_t)~page);
        memcpy(data_pages + (page << PAGE_SHIFT) + place_in(page), &word, 8);
    }
    for (uint64_t entry = 0; entry < (uint64_t)live; entry++)
        hw_dma_one(entry);
    make_entries(operations, (uint32_t)live, (uint32_t)few);
    measure(hw_dma_pass, operations);
}

/* ---- a registration: a page table is walked, each page counted, an array filled --------------------------- */

static uint32_t *page_leaves[64];
static _Atomic uint32_t *pins;
static uint64_t register_pages;

static OUT_OF_LINE uint32_t *register_memory(uint64_t count)
{
    uint32_t *frames = malloc(count * 4);
    for (uint64_t i = 0; i < count; i++) {
        uint32_t frame = page_leaves[i >> 10][i & 1023] >> 3;
        atomic_fetch_add(&pins[frame], 1);
        frames[i] = frame;
    }
    return frames;
}

static OUT_OF_LINE void unregister_memory(uint32_t *frames, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        atomic_fetch_sub(&pins[frames[i]], 1);
    free(frames);
}

static uint32_t register_pass(long operations)
{
    uint32_t sum = 0;
    for (long i = 0; i < operations / (long)register_pages; i++) {
        uint32_t *frames = register_memory(register_pages);
        sum += frames != NULL;
        unregister_memory(frames, register_pages);
        sum += 1;
    }
    return sum;
}

static void registration(long operations, long pages)
{
    register_pages = (uint64_t)pages;
    pins = memory((size_t)(pages + 64) * 4);
    for (long i = 0; i < pages; i++) {
        if ((i & 1023) == 0)
            page_leaves[i >> 10] = memory(4096);
        page_leaves[i >> 10][i & 1023] = (uint32_t)(i + 64) << 3 | 7;
    }
    measure(register_pass, operations < pages ? pages : operations);
}

/* ---- whole processes -------------------------------------------------------------------------------------- */

/* The output of the process goes through a pipe that is read to its end, as `| cat >/dev/null` would. */
static int run(char **argv)
{
    int ends[2];
    if (pipe(ends) != 0)
        return 1;
    double from = clock_ns(CLOCK_MONOTONIC);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        execvp(argv[0], argv);
        fprintf(stderr, "floors: %s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    close(ends[1]);
    static char buffer[1 << 16], head[4096];
    long out_bytes = 0, head_bytes = 0;
    for (;;) {
        ssize_t n = read(ends[0], buffer, sizeof buffer);
        if (n <= 0)
            break;
        if (head_bytes < (long)sizeof head - 1) {
            long room = (long)sizeof head - 1 - head_bytes;
            long part = n < room ? n : room;
            memcpy(head + head_bytes, buffer, (size_t)part);
            head_bytes += part;
        }
        out_bytes += n;
    }
    int status = 0;
    struct rusage used;
    if (wait4(pid, &status, 0, &used) < 0)
        return 1;
    double wall = clock_ns(CLOCK_MONOTONIC) - from;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e9 +
                 (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e3;
    printf("{\"wallNs\":%.0f,\"cpuNs\":%.0f,\"peakKib\":%ld,\"outBytes\":%ld,\"code\":%d}\n", wall, cpu,
           used.ru_maxrss, out_bytes, code);
    fwrite(head, 1, (size_t)head_bytes, stdout);
    return 0;
}

static long number(int argc, char **argv, int at)
{
    return at < argc ? strtol(argv[at], NULL, 0) : 0;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: floors NAME OPERATIONS [NUMBER ...] | floors run COMMAND [ARGUMENT ...]\n");
        return 2;
    }
    const char *name = argv[1];
    if (strcmp(name, "run") == 0)
        return run(argv + 2);
    long operations = number(argc, argv, 2);
    long a = number(argc, argv, 3), b = number(argc, argv, 4), c = number(argc, argv, 5), d = number(argc, argv, 6);
    if (strcmp(name, "chase") == 0)
        chase(operations, a);
    else if (strcmp(name, "tce") == 0)
        tce(operations, a, b);
    else if (strcmp(name, "put") == 0)
        hcall(put_pass, operations, a);
    else if (strcmp(name, "indirect") == 0)
        hcall(indirect_pass, operations, a);
    else if (strcmp(name, "stuff") == 0)
        hcall(stuff_pass, operations, a);
    else if (strcmp(name, "bulk") == 0)
        bulk(operations, a);
    else if (strcmp(name, "alloc") == 0)
        alloc(operations, a, b, c, d);
    else if (strcmp(name, "append") == 0)
        append_records(operations);
    else if (strcmp(name, "vfio-map") == 0)
        vfio_map(operations, a, b, c);
    else if (strcmp(name, "put-clear") == 0)
        put_clear(operations, a, b, c, d);
    else if (strcmp(name, "remap") == 0)
        remap(operations, a, b, c, d);
    else if (strcmp(name, "hw-dma") == 0)
        hw_dma(operations, (const long[]){ a, b, c, d, number(argc, argv, 7) });
    else if (strcmp(name, "register") == 0)
        registration(operations, a);
    else {
        fprintf(stderr, "floors: no floor is called %s\n", name);
        return 2;
    }
    return 0;
}
