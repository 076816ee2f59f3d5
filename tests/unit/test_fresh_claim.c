/* A claim that is fresh against a pushed list: from the decoding of the transaction to its verdict
 * nothing is allocated outside the request's arena, nothing read from the homeserver, nothing
 * written. Every malloc of our code goes through the wrappers here (see CMakeLists.txt). */
#include "inbound/steps.h"
#include "proto/dlh.h"
#include "store_dir.h"

#include "net_rig.h"

#include <stdatomic.h>

/* NOLINTBEGIN(readability-identifier-naming,bugprone-reserved-identifier): the linker's names */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static _Thread_local size_t n_allocations; /* of this thread */

void *__wrap_malloc(size_t size)
{
    n_allocations++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    n_allocations++;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    n_allocations++;
    return __real_realloc(old, size);
}
/* NOLINTEND(readability-identifier-naming,bugprone-reserved-identifier) */

enum { MAP_BYTES = 8 << 20, QUEUE_MAX = 1 << 20, N_USERS = 20 };

#define SERVER SPAN_LIT("a.example")

struct fixture {
    struct store_dir dir;
    struct metrics metrics, journal_metrics;
    struct store *store;
    struct journal *journal;
    struct list_marks *marks;
    struct loop *loop;
    struct lists *lists;
    struct hosted_server server;
    struct inbound inbound;
    struct writer body;
};

static void on_stored(void *arg, enum err result)
{
    atomic_store((atomic_int *)arg, result == ERR_OK ? 1 : 2);
}

/* A pushed list of three devices; returns its hash. */
static struct dlh push_list(struct fixture *f, struct span user_id)
{
    struct device_entry devices[] = {{.device_id = SPAN_LIT("ONE"), .counts = true},
                                     {.device_id = SPAN_LIT("TWO"), .counts = true},
                                     {.device_id = SPAN_LIT("THREE"), .counts = true}};
    const struct device_list_answer answer = {.user_id = user_id,
                                              .has_stream_id = true,
                                              .stream_id = 7,
                                              .devices = devices,
                                              .n_devices = 3};
    struct list_update update;
    struct arena arena;
    atomic_int outcome = 0;

    arena_init(&arena, MEGABYTE);
    CHECK(list_update_from_answer(&update, &arena, &answer));
    update.server = SERVER;
    update.source = LIST_SOURCE_PUSH;
    update.started_ms = update.finished_ms = clock_ms();
    assert_int_equal(lists_submit_update(f->lists, &update, on_stored, &outcome), ERR_OK);
    while (atomic_load(&outcome) == 0) {
        usleep(1000);
    }
    assert_int_equal(atomic_load(&outcome), 1);
    arena_fini(&arena);
    return update.hash;
}

/* One EDU with a message to each of N_USERS, and a true claim about each. */
static void write_transaction(struct fixture *f)
{
    struct writer claims;
    char user[64];

    writer_init(&claims, MEGABYTE);
    writer_bytes(&f->body, SPAN_LIT("{\"edus\":[{\"content\":{\"messages\":{"));
    for (int i = 0; i < N_USERS; i++) {
        int n = snprintf(user, sizeof user, "@user%02d:a.example", i);
        struct dlh hash = push_list(f, span_of(user, (size_t)n));
        const char *comma = i > 0 ? "," : "";
        writer_bytes(&f->body, span_str(comma));
        writer_json_string(&f->body, span_str(user));
        writer_bytes(&f->body, SPAN_LIT(":{\"ONE\":{\"body\":\"x\"}}"));
        writer_bytes(&claims, span_str(comma));
        writer_json_string(&claims, span_str(user));
        writer_bytes(&claims, SPAN_LIT(":{\"hash\":\""));
        dlh_write(&claims, &hash);
        writer_bytes(&claims, SPAN_LIT("\"}"));
    }
    writer_bytes(&f->body, SPAN_LIT("},\"io.freshet.device_lists\":{"));
    writer_bytes(&f->body, writer_span(&claims));
    writer_bytes(&f->body,
                 SPAN_LIT("},\"message_id\":\"m\",\"sender\":\"@bob:b.example\",\"type\":\"t\"},"
                          "\"edu_type\":\"m.direct_to_device\"}],\"origin\":\"b.example\","
                          "\"origin_server_ts\":1,\"pdus\":[]}"));
    CHECK(!f->body.failed && !claims.failed);
    writer_fini(&claims);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    CHECK(f != NULL);
    store_dir_make(&f->dir);
    metrics_init(&f->metrics);
    metrics_init(&f->journal_metrics);
    writer_init(&f->body, MEGABYTE);
    assert_int_equal(store_open(&f->store, f->dir.path, MAP_BYTES), ERR_OK);
    assert_int_equal(journal_start(&f->journal, f->store, &f->journal_metrics, QUEUE_MAX), ERR_OK);
    f->marks = list_marks_new();
    assert_int_equal(lists_new(&f->lists, f->store, f->journal, f->marks, &f->metrics), ERR_OK);
    assert_int_equal(loop_new(&f->loop), ERR_OK);
    f->server = (struct hosted_server){.name = SERVER};
    f->inbound.parts = (struct inbound_parts){
        .loop = f->loop, .metrics = &f->metrics, .lists = f->lists}; /* no reader: none is asked */
    const struct budget_limits limits = budget_limits_for(BUDGET_PROCESS_MIN, 1, 1);
    f->inbound.budgets = budgets_new(f->loop, &f->metrics, &limits);
    write_transaction(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    budgets_free(f->inbound.budgets);
    loop_free(f->loop);
    lists_free(f->lists);
    journal_stop(f->journal);
    list_marks_free(f->marks);
    store_close(f->store);
    store_dir_remove(&f->dir);
    writer_fini(&f->body);
    free(f);
    return 0;
}

static void run_step(struct exchange *ex, const char *name)
{
    const struct step *step = transaction_steps;

    while (strcmp(step->name, name) != 0) {
        step++;
    }
    assert_int_equal(step->run(ex), STEP_NEXT);
}

static uint64_t n_written(const struct fixture *f)
{
    return atomic_load(&f->journal_metrics.counters[COUNTER_journal_records_total]) +
           atomic_load(&f->journal_metrics.counters[COUNTER_journal_commits_total]);
}

/* Judges the transaction; how often memory was asked for that is not its own. */
static size_t judge(struct fixture *f)
{
    struct exchange ex = {.inbound = &f->inbound,
                          .server = &f->server,
                          .origin = SPAN_LIT("b.example"),
                          .body = f->body,
                          .body_is_whole = true,
                          .whole_us = clock_monotonic_us()};
    size_t n_verdicts;

    arena_init(&ex.arena, EXCHANGE_ARENA_MAX);
    arena_init(&ex.document, EXCHANGE_ARENA_MAX);
    size_t before = n_allocations;
    run_step(&ex, "decode");
    run_step(&ex, "batch");
    run_step(&ex, "judge");
    size_t in_all = n_allocations - before;
    size_t its_own = ex.arena.n_mallocs + ex.document.n_mallocs;
    const struct judgement *verdicts = judging_verdicts(&ex, &n_verdicts);
    assert_true(its_own > 0); /* so the wrappers see what there is */
    assert_int_equal(n_verdicts, N_USERS);
    for (size_t i = 0; i < n_verdicts; i++) {
        assert_int_equal(verdicts[i].verdict, VERDICT_FRESH);
    }
    assert_true(judging_is_done(&ex));
    judging_fini(&ex);
    exchange_forget_document(&ex);
    arena_fini(&ex.arena);
    return in_all - its_own;
}

static void a_fresh_claim_costs_no_write_and_no_memory_of_its_own(void **state)
{
    struct fixture *f = *state;
    uint64_t written = n_written(f);

    assert_int_equal(judge(f), N_USERS); /* what each list looked like is kept */
    assert_int_equal(judge(f), 0);
    assert_int_equal(n_written(f), written);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_fresh_claim_costs_no_write_and_no_memory_of_its_own,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
