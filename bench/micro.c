/* What each stage of an inbound transaction costs by itself, on the bodies that load sends. */
#include "bench/micro_request.h"
#include "bench/tool.h"

#include "lists/judge.h"
#include "lists/lists.h"
#include "proto/batch.h"
#include "proto/canonical.h"
#include "proto/check.h"
#include "proto/verdict.h"
#include "proto/xmatrix.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <sodium.h>

enum {
    ROUNDS = 7,
    ARENA_MAX = 64 << 20,
    MAP_BYTES = 64 << 20,
    QUEUE_MAX = 8 << 20,
    JUDGEMENTS_MAX = 100, /* EDUs of a transaction, each for another user */
    N_COMMITS = 1000,
    BLOCK_NS = 20000, /* between two looks at the clock, whose own cost then does not count */
    NO_CPU = 4096,
    PATH_SIZE = 512,
};

/* What the stages hand on to each other. */
struct results {
    const struct json_value *root;
    struct xmatrix xmatrix;
    struct transaction transaction;
    struct batches batches;
    struct device_list lists[JUDGEMENTS_MAX];
    struct judgement judgements[JUDGEMENTS_MAX];
};

struct micro {
    struct arena *arena;
    struct results results;
    struct writer message, reply;
    struct micro_request request;
    EVP_PKEY *key;
    EVP_MD_CTX *verifier;
    struct device_list_answer answer; /* of user 0 */
    struct list_update update;
    struct store *store;
    struct journal *journal;
    struct list_marks *marks;
    struct lists *lists;
    struct metrics metrics, journal_metrics;
    int counter; /* of instructions; -1: the kernel has none for us */
};

/* ---- the stages: each does its work once and aborts if it does not come out as it should */

static void run_canonical_check(struct micro *m)
{
    CHECK(canonical_check(m->request.body) == CANONICAL_YES);
}

static void run_parse(struct micro *m)
{
    CHECK(json_parse(&m->results.root, m->arena, m->request.body) == JSON_OK);
}

static void run_xmatrix(struct micro *m)
{
    CHECK(xmatrix_parse(&m->results.xmatrix, m->arena, m->request.authorization) == REJECT_NONE);
}

static void run_signed_bytes(struct micro *m)
{
    const struct xmatrix_request request = {.method = SPAN_LIT("PUT"),
                                            .uri = m->request.path,
                                            .origin = m->request.origin,
                                            .destination = MICRO_SERVER,
                                            .content = m->request.body};

    writer_reset(&m->message);
    xmatrix_signed_bytes(&m->message, &request);
    CHECK(!m->message.failed);
}

static void run_verify(struct micro *m)
{
    CHECK(ed25519_verify(m->request.public_key, m->results.xmatrix.signature,
                         writer_span(&m->message)));
}

/* With the key at hand, which makes it as cheap as it can be. */
static void run_verify_openssl(struct micro *m)
{
    CHECK(EVP_DigestVerifyInit(m->verifier, NULL, NULL, NULL, m->key) == 1 &&
          EVP_DigestVerify(m->verifier, m->results.xmatrix.signature, ED25519_SIGNATURE_SIZE,
                           (const uint8_t *)m->message.data, m->message.size) == 1);
    EVP_MD_CTX_reset(m->verifier);
}

static void run_verify_libsodium(struct micro *m)
{
    CHECK(crypto_sign_verify_detached(m->results.xmatrix.signature,
                                      (const uint8_t *)m->message.data, m->message.size,
                                      m->request.public_key) == 0);
}

static void run_decode(struct micro *m)
{
    CHECK(transaction_decode(&m->results.transaction, m->arena, m->results.root,
                             m->request.origin) == REJECT_NONE);
}

static void run_batch(struct micro *m)
{
    CHECK(batches_build(&m->results.batches, m->arena, &m->results.transaction, MICRO_SERVER) &&
          m->results.batches.n > 0 && m->results.batches.n <= JUDGEMENTS_MAX);
}

static void run_list_hash(struct micro *m)
{
    struct dlh hash;
    struct dlh_sum sum;

    CHECK(device_list_answer_hash(&hash, &sum, &m->answer));
}

static void run_lookups(struct micro *m)
{
    for (uint32_t i = 0; i < m->results.batches.n; i++) {
        CHECK(lists_get(&m->results.lists[i], m->lists, m->arena, MICRO_SERVER,
                        m->results.batches.batches[i].user_id) == ERR_OK);
    }
}

/* The same from memory, as for those asked for again. */
static void run_glances(struct micro *m)
{
    struct list_glance glance;
    uint32_t n_seen = 0;

    for (uint32_t i = 0; i < m->results.batches.n; i++) {
        n_seen +=
            lists_glance(&glance, m->lists, MICRO_SERVER, m->results.batches.batches[i].user_id);
    }
    CHECK(n_seen + 3 >= m->results.batches.n); /* a few may have had to make room for each other */
}

static void run_judge(struct micro *m)
{
    for (uint32_t i = 0; i < m->results.batches.n; i++) {
        const struct batch *batch = &m->results.batches.batches[i];
        struct judgement *judgement = &m->results.judgements[i];
        enum judge_need need;

        *judgement = (struct judgement){.user_id = batch->user_id, .offer = batch->offers};
        judgement->verdict =
            judge_cached(&need, &m->results.lists[i], &batch->offers[0].claim, 0, 0);
        CHECK(need == JUDGE_DONE && judgement->verdict == VERDICT_FRESH);
    }
}

static void run_reply(struct micro *m)
{
    writer_reset(&m->reply);
    CHECK(reply_encode(&m->reply, SPAN_LIT("{\"pdus\":{}}"), m->results.judgements,
                       m->results.batches.n));
}

static void on_stored(void *arg, enum err result)
{
    CHECK(result == ERR_OK);
    atomic_fetch_add((atomic_uint *)arg, 1);
}

static void store_update(struct micro *m, const struct list_update *update, unsigned times)
{
    const struct timespec pause = {.tv_nsec = 10000};
    atomic_uint n_done = 0;

    for (unsigned i = 0; i < times; i++) {
        CHECK(lists_submit_update(m->lists, update, on_stored, &n_done) == ERR_OK);
    }
    while (atomic_load(&n_done) < times) {
        nanosleep(&pause, NULL);
    }
}

struct stage {
    const char *name;
    void (*run)(struct micro *m);
};

/* In the order in which they need each other. */
static const struct stage stages[] = {
    {"canonical check", run_canonical_check},
    {"parse JSON", run_parse},
    {"parse X-Matrix", run_xmatrix},
    {"signed bytes", run_signed_bytes},
    {"verify", run_verify},
    {"verify, OpenSSL", run_verify_openssl},
    {"verify, libsodium", run_verify_libsodium},
    {"decode transaction", run_decode},
    {"batch", run_batch},
    {"hash a list", run_list_hash},
    {"look up lists", run_lookups},
    {"glance at lists", run_glances},
    {"judge claims", run_judge},
    {"write the reply", run_reply},
};

enum { N_STAGES = sizeof stages / sizeof stages[0] };

/* ---- measuring */

struct sample {
    double ns;
    uint64_t n;
    uint64_t instructions; /* of all n */
};

static uint64_t count_instructions(const struct micro *m)
{
    uint64_t n = 0;

    return m->counter >= 0 && read(m->counter, &n, sizeof n) == (ssize_t)sizeof n ? n : 0;
}

static void run_block(struct micro *m, const struct stage *stage, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        stage->run(m);
        arena_reset(m->arena);
    }
}

/* Works in the arena given, and leaves the results of the stages as they were. */
static struct sample measure_stage(struct micro *m, const struct stage *stage,
                                   struct arena *scratch, uint64_t round_ns)
{
    struct results *kept = malloc(sizeof *kept);
    struct arena *arena = m->arena;
    uint64_t n_block = 1;
    uint64_t n = 0;

    CHECK(kept != NULL);
    *kept = m->results;
    m->arena = scratch;
    uint64_t instructions = count_instructions(m);
    uint64_t start = now_ns();
    uint64_t now = start;
    while (now - start < round_ns) {
        run_block(m, stage, n_block);
        n += n_block;
        uint64_t then = now_ns();
        n_block = then - now < BLOCK_NS ? n_block * 2 : n_block;
        now = then;
    }
    const struct sample sample = {(double)(now - start) / (double)n, n,
                                  count_instructions(m) - instructions};
    m->arena = arena;
    m->results = *kept;
    free(kept);
    return sample;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof values[0], compare);
    return values[n / 2];
}

/* ---- reporting */

struct printer {
    bool json;
    bool has_rows;
};

static void print_row(struct printer *p, const char *shape, const char *stage, double ns,
                      double least_ns, double instructions)
{
    if (p->json) {
        printf("%s{\"shape\":\"%s\",\"stage\":\"%s\",\"ns\":%.1f,\"least_ns\":%.1f,"
               "\"instructions\":%.0f}",
               p->has_rows ? "," : "{\"stages\":[", shape, stage, ns, least_ns, instructions);
        p->has_rows = true;
        return;
    }
    if (!p->has_rows) {
        printf("%-7s %-20s %12s %12s %13s\n", "shape", "stage", "median, ns", "least, ns",
               "instructions");
    }
    p->has_rows = true;
    printf("%-7s %-20s %12.0f %12.0f", shape, stage, ns, least_ns);
    if (instructions > 0) {
        printf(" %13.0f", instructions);
    }
    printf("\n");
}

static void print_stage(struct printer *p, const char *shape, const char *stage,
                        const struct sample *samples)
{
    double ns[ROUNDS];
    uint64_t instructions = 0;
    uint64_t n = 0;

    for (int round = 0; round < ROUNDS; round++) {
        ns[round] = samples[round].ns;
        instructions += samples[round].instructions;
        n += samples[round].n;
    }
    double middle = median(ns, ROUNDS);
    print_row(p, shape, stage, middle, ns[0], (double)instructions / (double)n);
}

/* ---- what is measured */

static void prepare(struct micro *m, unsigned shape)
{
    micro_request_init(&m->request, shape);
    m->key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, m->request.public_key,
                                         ED25519_KEY_SIZE);
    CHECK(m->key != NULL);
    for (size_t i = 0; i < N_STAGES; i++) {
        stages[i].run(m);
    }
}

/* Round-robin: a slow spell of the machine meets all stages alike. */
static void measure_shape(struct micro *m, struct printer *p, const char *name, unsigned shape,
                          uint64_t round_ns)
{
    struct sample samples[N_STAGES][ROUNDS];
    struct arena lasting;
    struct arena scratch;

    arena_init(&lasting, ARENA_MAX);
    arena_init(&scratch, ARENA_MAX);
    m->arena = &lasting;
    prepare(m, shape);
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < N_STAGES; i++) {
            samples[i][round] = measure_stage(m, &stages[i], &scratch, round_ns);
        }
    }
    for (size_t i = 0; i < N_STAGES; i++) {
        print_stage(p, name, stages[i].name, samples[i]);
    }
    EVP_PKEY_free(m->key);
    micro_request_fini(&m->request);
    arena_fini(&scratch);
    arena_fini(&lasting);
}

/* One write with fdatasync, the floor of a commit. */
static double flush_ns(const char *folder)
{
    static const char page[4096];
    char path[PATH_SIZE];
    double ns[51];
    const size_t n = sizeof ns / sizeof ns[0];

    snprintf(path, sizeof path, "%s/flush", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        die_of_errno(path);
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t start = now_ns();
        CHECK(pwrite(fd, page, sizeof page, 0) == (ssize_t)sizeof page && fdatasync(fd) == 0);
        ns[i] = (double)(now_ns() - start);
    }
    close(fd);
    unlink(path);
    return median(ns, n);
}

static void measure_store(struct micro *m, struct printer *p, const char *folder)
{
    double alone[ROUNDS];
    double together[ROUNDS];

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t start = now_ns();
        store_update(m, &m->update, 1);
        alone[round] = (double)(now_ns() - start);
        start = now_ns();
        store_update(m, &m->update, N_COMMITS);
        together[round] = (double)(now_ns() - start) / N_COMMITS;
    }
    double middle = median(alone, ROUNDS);
    print_row(p, "store", "one list", middle, alone[0], 0);
    middle = median(together, ROUNDS);
    print_row(p, "store", "each of 1,000 lists", middle, together[0], 0);
    middle = flush_ns(folder);
    print_row(p, "store", "write, fdatasync", middle, middle, 0);
}

/* ---- start and end */

static void store_list(struct micro *m, struct arena *arena, uint32_t user)
{
    const struct json_value *root;
    struct writer text;

    writer_init(&text, ARENA_MAX);
    micro_write_list(&text, user);
    struct span kept = arena_copy(arena, writer_span(&text));
    writer_fini(&text);
    CHECK(kept.data != NULL && json_parse(&root, arena, kept) == JSON_OK &&
          device_list_answer_decode(&m->answer, arena, root) &&
          list_update_from_answer(&m->update, arena, &m->answer));
    m->update.server = MICRO_SERVER;
    m->update.source = LIST_SOURCE_PUSH;
    CHECK(lists_submit_update(m->lists, &m->update, NULL, NULL) == ERR_OK);
}

/* User 0's stays in the arena, for the stages that want one list. */
static void open_store(struct micro *m, struct arena *arena, const char *folder)
{
    metrics_init(&m->metrics);
    metrics_init(&m->journal_metrics);
    m->marks = list_marks_new();
    CHECK(store_open(&m->store, folder, MAP_BYTES) == ERR_OK &&
          journal_start(&m->journal, m->store, &m->journal_metrics, QUEUE_MAX) == ERR_OK &&
          lists_new(&m->lists, m->store, m->journal, m->marks, &m->metrics) == ERR_OK);
    for (uint32_t user = MICRO_N_USERS; user > 0; user--) {
        arena_reset(arena);
        store_list(m, arena, user - 1);
    }
    store_update(m, &m->update, 1); /* behind all the others */
}

static void close_store(struct micro *m, const char *folder)
{
    static const char *const names[] = {"data.mdb", "lock.mdb"};
    char path[PATH_SIZE];

    lists_free(m->lists);
    journal_stop(m->journal);
    list_marks_free(m->marks);
    store_close(m->store);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
}

static int open_counter(void)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_HARDWARE,
                                   .size = sizeof attr,
                                   .config = PERF_COUNT_HW_INSTRUCTIONS,
                                   .exclude_kernel = 1,
                                   .exclude_hv = 1};

    return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0UL);
}

struct choice {
    const char *shape; /* NULL: all */
    uint64_t round_ns;
    bool json;
};

static bool is_chosen(const struct choice *choice, const char *shape)
{
    return choice->shape == NULL || strcmp(choice->shape, shape) == 0;
}

static void measure_shapes(struct micro *m, struct printer *p, const struct choice *choice)
{
    unsigned n_chosen = 0;

    for (unsigned shape = 0; shape < MICRO_N_SHAPES; shape++) {
        if (is_chosen(choice, micro_shape_name(shape))) {
            measure_shape(m, p, micro_shape_name(shape), shape, choice->round_ns);
            n_chosen++;
        }
    }
    if (n_chosen == 0) {
        die("no such shape: %s", choice->shape);
    }
}

static void measure_all(const char *folder, const struct choice *choice)
{
    struct micro *m = calloc(1, sizeof *m);
    struct printer printer = {.json = choice->json};
    struct arena of_store;

    CHECK(m != NULL);
    arena_init(&of_store, ARENA_MAX);
    writer_init(&m->message, ARENA_MAX);
    writer_init(&m->reply, ARENA_MAX);
    m->verifier = EVP_MD_CTX_new();
    m->counter = open_counter();
    CHECK(m->verifier != NULL);
    open_store(m, &of_store, folder);
    measure_shapes(m, &printer, choice);
    measure_store(m, &printer, folder);
    if (choice->json) {
        printf("]}\n");
    }
    close_store(m, folder);
    EVP_MD_CTX_free(m->verifier);
    writer_fini(&m->message);
    writer_fini(&m->reply);
    arena_fini(&of_store);
    free(m);
}

int main(int argc, char **argv)
{
    const char *parent = "/tmp";
    uint64_t cpu = NO_CPU;
    uint64_t round_ms = 60;
    struct choice choice = {.shape = NULL};
    char folder[PATH_SIZE - 16];
    const struct option_row rows[] = {
        {"folder",
         OPTION_TEXT,
         {.text = &parent},
         0,
         0,
         "for a store, on the disk to measure (/tmp)"},
        {"round-ms", OPTION_NUMBER, {.number = &round_ms}, 1, 60000, "of each stage, 7 times (60)"},
        {"shape", OPTION_TEXT, {.text = &choice.shape}, 0, 0, "edu2k, edu100 or full (all)"},
        {"cpu", OPTION_NUMBER, {.number = &cpu}, 0, NO_CPU - 1, "core to stay on (none)"},
        {"json", OPTION_FLAG, {.flag = &choice.json}, 0, 0, "one object instead of a table"},
    };

    options_read(rows, sizeof rows / sizeof rows[0],
                 "What each stage of an inbound transaction costs by itself.", argc, argv);
    if (cpu != NO_CPU) {
        pin_to_cpu(cpu);
    }
    int size = snprintf(folder, sizeof folder, "%s/freshet-micro-XXXXXX", parent);
    if (size < 0 || (size_t)size >= sizeof folder || mkdtemp(folder) == NULL) {
        die_of_errno(parent);
    }
    CHECK(sodium_init() >= 0);
    choice.round_ns = round_ms * 1000000;
    measure_all(folder, &choice);
    rmdir(folder);
    return 0;
}
