/* Device lists of millions of users in one store: their size, looking them up at random, and what
 * one change costs. */
#include "bench/tool.h"

#include "lists/lists.h"
#include "proto/check.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    N_DEVICES = 5,
    FIRST_USERS = 1000, /* the first row's; each next has ten times as many */
    ROUNDS = 5,
    N_UPDATES = 1000, /* of one round */
    ARENA_MAX = 1 << 20,
    MAP_BYTES_LOG2 = 34,
    QUEUE_MAX = 64 << 20,
    NAME_SIZE = 48,
    PATH_SIZE = 512,
    NO_CPU = 4096,
};

#define SERVER SPAN_LIT("a.example")

struct bench {
    struct store *store;
    struct journal *journal;
    struct list_marks *marks;
    struct lists *lists;
    struct metrics metrics, journal_metrics;
    struct arena arena;
    uint64_t n_users;
    uint64_t n_submitted;
    uint64_t n_lookups; /* of one round */
    atomic_uint_least64_t n_done;
    uint64_t random; /* xorshift64: Marsaglia, "Xorshift RNGs", 2003 */
    char data_file[PATH_SIZE];
};

static uint64_t next_random(struct bench *b)
{
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    return b->random;
}

static struct span user_name(char out[NAME_SIZE], uint64_t user)
{
    int size = snprintf(out, NAME_SIZE, "@user-%08" PRIu64 ":a.example", user);

    return span_of(out, (size_t)size);
}

/* The list of a user in its version-th state, read at that position. */
static struct list_update update_of(struct bench *b, char name[NAME_SIZE], uint64_t user,
                                    int64_t version)
{
    static const char *const ids[N_DEVICES] = {"QWERTYUIOP", "ASDFGHJKLZ", "XCVBNMQWER",
                                               "TYUIOPASDF", "GHJKLZXCVB"};
    struct device_entry devices[N_DEVICES];
    struct list_update update;

    memset(devices, 0, sizeof devices);
    for (size_t i = 0; i < N_DEVICES; i++) {
        devices[i].device_id = span_str(ids[i]);
        devices[i].counts = true;
        memcpy(devices[i].ed25519, &user, sizeof user);
        memcpy(devices[i].curve25519, &version, sizeof version);
    }
    const struct device_list_answer answer = {.user_id = user_name(name, user),
                                              .has_stream_id = true,
                                              .stream_id = version,
                                              .devices = devices,
                                              .n_devices = N_DEVICES};
    arena_reset(&b->arena);
    CHECK(list_update_from_answer(&update, &b->arena, &answer));
    update.server = SERVER;
    update.source = LIST_SOURCE_READ;
    update.started_ms = update.finished_ms = version;
    return update;
}

static void on_done(void *arg, enum err result)
{
    CHECK(result == ERR_OK);
    atomic_fetch_add((atomic_uint_least64_t *)arg, 1);
}

static void pause_ms(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void submit(struct bench *b, uint64_t user, int64_t version)
{
    char name[NAME_SIZE];
    struct list_update update = update_of(b, name, user, version);
    enum err result;

    while ((result = lists_submit_update(b->lists, &update, on_done, &b->n_done)) == ERR_FULL) {
        pause_ms();
    }
    CHECK(result == ERR_OK);
    b->n_submitted++;
}

static void wait_stored(struct bench *b)
{
    while (atomic_load(&b->n_done) < b->n_submitted) {
        nanosleep(&(struct timespec){.tv_nsec = 10000}, NULL);
    }
}

static double fill_to(struct bench *b, uint64_t n_users)
{
    uint64_t start = now_ns();
    uint64_t n = n_users - b->n_users;

    while (b->n_users < n_users) {
        submit(b, b->n_users++, 1);
    }
    wait_stored(b);
    return (double)n * 1e9 / (double)(now_ns() - start);
}

/* ns for one, of many at random. */
static double look_up(struct bench *b, uint64_t n)
{
    char name[NAME_SIZE];
    struct device_list list;
    uint64_t start = now_ns();

    for (uint64_t i = 0; i < n; i++) {
        struct span user = user_name(name, next_random(b) % b->n_users);
        arena_reset(&b->arena);
        CHECK(lists_get(&list, b->lists, &b->arena, SERVER, user) == ERR_OK &&
              list.sum.n == N_DEVICES);
    }
    return (double)(now_ns() - start) / (double)n;
}

/* What look_up does beside looking up. */
static double make_names(struct bench *b, uint64_t n)
{
    char name[NAME_SIZE];
    uint64_t start = now_ns();

    for (uint64_t i = 0; i < n; i++) {
        struct span user = user_name(name, next_random(b) % b->n_users);
        CHECK(user.size < NAME_SIZE);
    }
    return (double)(now_ns() - start) / (double)n;
}

/* us for one of many that are committed together. */
static double change(struct bench *b, int64_t version)
{
    uint64_t start = now_ns();

    for (size_t i = 0; i < N_UPDATES; i++) {
        submit(b, next_random(b) % b->n_users, version);
    }
    wait_stored(b);
    return (double)(now_ns() - start) / 1000 / N_UPDATES;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double values[ROUNDS])
{
    qsort(values, ROUNDS, sizeof values[0], compare);
    return values[ROUNDS / 2];
}

static double bytes_on_disk(const struct bench *b)
{
    struct stat status;

    if (stat(b->data_file, &status) != 0) {
        die_of_errno(b->data_file);
    }
    return (double)status.st_blocks * 512;
}

static void print_row(struct bench *b, double stored_per_s)
{
    double bytes = bytes_on_disk(b) / (double)b->n_users;
    double lookups[ROUNDS];
    double changes[ROUNDS];

    (void)look_up(b, b->n_lookups); /* so that the cache is warm */
    for (int round = 0; round < ROUNDS; round++) {
        lookups[round] = look_up(b, b->n_lookups) - make_names(b, b->n_lookups);
    }
    for (int round = 0; round < ROUNDS; round++) {
        changes[round] = change(b, 2 + round + (int64_t)(b->n_users / FIRST_USERS) * ROUNDS);
    }
    double lookup = median(lookups);
    printf("%12" PRIu64 " %14.0f %12.0f %10.0f %12.0f %14.1f\n", b->n_users, bytes, stored_per_s,
           lookup, 1e9 / lookup, median(changes));
    fflush(stdout);
}

static void run(struct bench *b, const char *folder, uint64_t n_users)
{
    snprintf(b->data_file, sizeof b->data_file, "%s/data.mdb", folder);
    metrics_init(&b->metrics);
    metrics_init(&b->journal_metrics);
    arena_init(&b->arena, ARENA_MAX);
    b->random = 88172645463325252;
    b->marks = list_marks_new();
    CHECK(store_open(&b->store, folder, (size_t)1 << MAP_BYTES_LOG2) == ERR_OK &&
          journal_start(&b->journal, b->store, &b->journal_metrics, QUEUE_MAX) == ERR_OK &&
          lists_new(&b->lists, b->store, b->journal, b->marks, &b->metrics) == ERR_OK);
    printf("%12s %14s %12s %10s %12s %14s\n", "users", "bytes each", "stored/s", "lookup, ns",
           "lookups/s", "change, us");
    for (uint64_t n = FIRST_USERS; b->n_users < n_users; n *= 10) {
        double stored_per_s = fill_to(b, n < n_users ? n : n_users);
        print_row(b, stored_per_s);
    }
    lists_free(b->lists);
    journal_stop(b->journal);
    list_marks_free(b->marks);
    store_close(b->store);
    arena_fini(&b->arena);
}

static void remove_store(const char *folder)
{
    static const char *const names[] = {"data.mdb", "lock.mdb"};
    char path[PATH_SIZE];

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

int main(int argc, char **argv)
{
    const char *parent = "/tmp";
    uint64_t cpu = NO_CPU;
    uint64_t n_users = 10000000;
    uint64_t n_lookups = 2000000;
    char folder[PATH_SIZE - 16];
    const struct option_row rows[] = {
        {"users",
         OPTION_NUMBER,
         {.number = &n_users},
         FIRST_USERS,
         30000000,
         "in the last row (10000000)"},
        {"lookups",
         OPTION_NUMBER,
         {.number = &n_lookups},
         1,
         1000000000,
         "of each of 6 rounds (2000000)"},
        {"folder",
         OPTION_TEXT,
         {.text = &parent},
         0,
         0,
         "for the store, on the disk to measure; some 500 bytes a user"},
        {"cpu",
         OPTION_NUMBER,
         {.number = &cpu},
         0,
         NO_CPU - 1,
         "core to stay on; the journal's thread as well (none)"},
    };

    options_read(rows, sizeof rows / sizeof rows[0],
                 "Device lists of many users: their size, lookups at random, changes.", argc, argv);
    if (cpu != NO_CPU) {
        pin_to_cpu(cpu);
    }
    int size = snprintf(folder, sizeof folder, "%s/freshet-lists-XXXXXX", parent);
    if (size < 0 || (size_t)size >= sizeof folder || mkdtemp(folder) == NULL) {
        die_of_errno(parent);
    }
    struct bench *b = calloc(1, sizeof *b);
    CHECK(b != NULL);
    b->n_lookups = n_lookups;
    run(b, folder, n_users);
    free(b);
    remove_store(folder);
    return 0;
}
