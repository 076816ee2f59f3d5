#include "store/journal.h"

#include "store_dir.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum {
    MAP_BYTES = 8 << 20,
    QUEUE_MAX = 64 * 1024, /* bytes */
    N_JOBS = 500,
    VALUE_SIZE = 4000, /* bytes: so that a commit grows the file */
};

struct fixture {
    struct store_dir dir;
    struct metrics reader_metrics;
    struct metrics metrics;
    struct store *store;
    struct journal *journal;
};

/* One ticket that puts one record. */
struct job {
    struct ticket ticket;
    struct store_key key;
    enum err outcome;      /* what its apply returns */
    pthread_mutex_t *gate; /* if not NULL, apply passes through it */
    atomic_int applied;
    atomic_int done;
    enum err result;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    CHECK(f != NULL);
    store_dir_make(&f->dir);
    assert_int_equal(store_open(&f->store, f->dir.path, MAP_BYTES), ERR_OK);
    assert_int_equal(journal_start(&f->journal, f->store, &f->metrics, QUEUE_MAX), ERR_OK);
    *state = f;
    return 0;
}

static void stop(struct fixture *f)
{
    journal_stop(f->journal);
    f->journal = NULL;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    stop(f);
    store_close(f->store);
    store_dir_remove(&f->dir);
    free(f);
    return 0;
}

static enum err apply(struct store_txn *txn, void *arg)
{
    static const char value[VALUE_SIZE] = "value";
    struct job *job = arg;

    atomic_fetch_add(&job->applied, 1);
    if (job->gate != NULL) {
        CHECK(pthread_mutex_lock(job->gate) == 0);
        CHECK(pthread_mutex_unlock(job->gate) == 0);
    }
    store_txn_put(txn, &job->key, span_of(value, sizeof value));
    return job->outcome;
}

static void done(void *arg, enum err result)
{
    struct job *job = arg;

    job->result = result;
    atomic_fetch_add(&job->done, 1);
}

static void job_init(struct job *job, uint32_t id, size_t bytes)
{
    struct span part = span_of(&id, sizeof id);

    *job = (struct job){.ticket = {.bytes = bytes, .apply = apply, .done = done, .arg = job}};
    store_key_make(&job->key, STORE_LIST, &part, 1);
}

/* With the journal stopped. */
static bool is_stored(struct fixture *f, const struct job *job)
{
    struct store_reader *reader = NULL;
    struct span value;

    assert_int_equal(store_reader_new(&reader, f->store, &f->reader_metrics), ERR_OK);
    assert_int_equal(store_reader_begin(reader), ERR_OK);
    enum err result = store_get(&value, reader, &job->key);
    store_reader_free(reader);
    return result == ERR_OK;
}

static uint64_t counted(const struct fixture *f, enum counter counter)
{
    return atomic_load(&f->metrics.counters[counter]);
}

static void all_that_was_queued_is_committed_and_completed_at_stop(void **state)
{
    struct fixture *f = *state;
    static struct job jobs[N_JOBS];

    for (uint32_t i = 0; i < N_JOBS; i++) {
        job_init(&jobs[i], i, 1);
        assert_int_equal(journal_submit(f->journal, &jobs[i].ticket), ERR_OK);
    }
    stop(f);
    for (size_t i = 0; i < N_JOBS; i++) {
        assert_int_equal(atomic_load(&jobs[i].applied), 1);
        assert_int_equal(atomic_load(&jobs[i].done), 1);
        assert_int_equal(jobs[i].result, ERR_OK);
        assert_true(is_stored(f, &jobs[i]));
    }
    assert_int_equal(counted(f, COUNTER_journal_records_total), N_JOBS);
    assert_in_range(counted(f, COUNTER_journal_commits_total), 1, N_JOBS);
    assert_int_equal(atomic_load(&f->metrics.gauges[GAUGE_journal_bytes]), 0);
}

static void over_the_byte_cap_a_ticket_is_not_taken(void **state)
{
    struct fixture *f = *state;
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    struct job first;
    struct job second;
    struct job refused;

    job_init(&first, 1, QUEUE_MAX / 2);
    job_init(&second, 2, QUEUE_MAX / 2);
    job_init(&refused, 3, 1);
    first.gate = &gate;
    CHECK(pthread_mutex_lock(&gate) == 0);
    assert_int_equal(journal_submit(f->journal, &first.ticket), ERR_OK);
    assert_int_equal(journal_submit(f->journal, &second.ticket), ERR_OK);
    assert_int_equal(journal_submit(f->journal, &refused.ticket), ERR_FULL);
    CHECK(pthread_mutex_unlock(&gate) == 0);
    stop(f);
    assert_int_equal(first.result, ERR_OK);
    assert_int_equal(atomic_load(&second.done), 1);
    assert_int_equal(atomic_load(&refused.done), 0);
    assert_false(is_stored(f, &refused));
    assert_int_equal(counted(f, COUNTER_journal_refused_total), 1);
}

static void a_ticket_that_fails_takes_no_other_with_it(void **state)
{
    struct fixture *f = *state;
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    struct job jobs[4];

    for (uint32_t i = 0; i < 4; i++) {
        job_init(&jobs[i], i, 1);
    }
    jobs[0].gate = &gate; /* so that the other three are one sweep */
    jobs[2].outcome = ERR_CONFIG;
    CHECK(pthread_mutex_lock(&gate) == 0);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(journal_submit(f->journal, &jobs[i].ticket), ERR_OK);
    }
    CHECK(pthread_mutex_unlock(&gate) == 0);
    stop(f);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(jobs[i].result, i == 2 ? ERR_CONFIG : ERR_OK);
        assert_int_equal(is_stored(f, &jobs[i]), i != 2);
    }
}

/* Waits for a job's done, which the journal calls soon. */
static void wait_done(struct job *job)
{
    while (atomic_load(&job->done) == 0) {
        usleep(1000);
    }
}

static void a_disk_that_takes_no_more_closes_the_store_for_good(void **state)
{
    struct fixture *f = *state;
    struct rlimit old;
    struct job before;
    struct job failing;
    struct job after;

    job_init(&before, 1, 1);
    job_init(&failing, 2, 1);
    job_init(&after, 3, 1);
    assert_int_equal(journal_submit(f->journal, &before.ticket), ERR_OK);
    wait_done(&before);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    struct rlimit small = {.rlim_cur = 4096, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(journal_submit(f->journal, &failing.ticket), ERR_OK);
    wait_done(&failing);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(failing.result, ERR_IO);
    assert_true(store_failed(f->store));
    assert_int_equal(journal_submit(f->journal, &after.ticket), ERR_IO);
    stop(f);
    assert_int_equal(atomic_load(&f->metrics.gauges[GAUGE_store_failed]), 1);
    assert_int_equal(atomic_load(&after.done), 0);
    assert_true(is_stored(f, &before));
    assert_false(is_stored(f, &failing));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_that_was_queued_is_committed_and_completed_at_stop,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(over_the_byte_cap_a_ticket_is_not_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(a_ticket_that_fails_takes_no_other_with_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_disk_that_takes_no_more_closes_the_store_for_good, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
