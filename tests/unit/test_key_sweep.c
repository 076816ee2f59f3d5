#include "inbound/key_sweep.h"

#include "inbound/key_record.h"
#include "net_rig.h"
#include "store_dir.h"

#include <stdatomic.h>

enum {
    MAP_BYTES = 32 << 20,
    QUEUE_MAX = 4 << 20,
    N_SERVERS = 2 * KEY_SWEEP_RECORDS + 100, /* more than one commit looks at */
    ROUND_MS = 30,
    NEXT_MS = 1,
};

struct fixture {
    struct store_dir dir;
    struct metrics metrics, journal_metrics;
    struct store *store;
    struct store_reader *reader;
    struct journal *journal;
    struct loop *loop;
    int64_t now_ms;
};

/* Puts the record of a server, whose keys end at those times, or other bytes under its key. */
struct put {
    struct ticket ticket;
    struct store_key key;
    struct writer bytes;
    atomic_bool is_done;
};

static enum err apply_put(struct store_txn *txn, void *arg)
{
    const struct put *put = arg;

    store_txn_put(txn, &put->key, writer_span(&put->bytes));
    return ERR_OK;
}

static void on_put(void *arg, enum err result)
{
    assert_int_equal(result, ERR_OK);
    atomic_store(&((struct put *)arg)->is_done, true);
}

static struct store_key key_of(enum store_kind kind, int number)
{
    char name[32];
    int n = snprintf(name, sizeof name, "s%d.example", number);
    struct span part = span_of(name, (size_t)n);
    struct store_key key;

    store_key_make(&key, kind, &part, 1);
    return key;
}

static void put(struct fixture *f, enum store_kind kind, int number, const int64_t *ends,
                uint32_t n)
{
    struct put *put = calloc(1, sizeof *put);
    struct key_record record = {.server = SPAN_LIT("s.example"), .n_keys = n};

    CHECK(put != NULL);
    for (uint32_t i = 0; i < n; i++) {
        record.keys[i] =
            (struct key_record_key){.key_id = SPAN_LIT("ed25519:1"), .valid_until_ms = ends[i]};
    }
    writer_init(&put->bytes, KEY_RECORD_MAX);
    if (n > 0) {
        key_record_encode(&put->bytes, &record);
    } else {
        writer_bytes(&put->bytes, SPAN_LIT("not a record"));
    }
    put->key = key_of(kind, number);
    put->ticket = (struct ticket){.bytes = 1, .apply = apply_put, .done = on_put, .arg = put};
    assert_int_equal(journal_submit(f->journal, &put->ticket), ERR_OK);
    while (!atomic_load(&put->is_done)) {
        usleep(100);
    }
    writer_fini(&put->bytes);
    free(put);
}

static bool is_there(struct fixture *f, enum store_kind kind, int number)
{
    struct store_key key = key_of(kind, number);
    struct span value;

    assert_int_equal(store_reader_begin(f->reader), ERR_OK);
    enum err result = store_get(&value, f->reader, &key);
    store_reader_end(f->reader);
    assert_true(result == ERR_OK || result == ERR_NOT_FOUND);
    return result == ERR_OK;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    CHECK(f != NULL);
    f->now_ms = clock_ms();
    store_dir_make(&f->dir);
    assert_int_equal(store_open(&f->store, f->dir.path, MAP_BYTES), ERR_OK);
    assert_int_equal(store_reader_new(&f->reader, f->store, &f->metrics), ERR_OK);
    assert_int_equal(journal_start(&f->journal, f->store, &f->journal_metrics, QUEUE_MAX), ERR_OK);
    assert_int_equal(loop_new(&f->loop), ERR_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (f->journal != NULL) {
        journal_stop(f->journal);
    }
    store_reader_free(f->reader);
    store_close(f->store);
    store_dir_remove(&f->dir);
    loop_free(f->loop);
    free(f);
    return 0;
}

static void what_has_ended_goes_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    const int64_t ended[] = {f->now_ms - 1000, 0};
    const int64_t half[] = {f->now_ms - 1000, f->now_ms + 1000000};
    const int64_t valid[] = {f->now_ms + 1000000};

    put(f, STORE_KEY, 1, ended, 2);
    put(f, STORE_KEY, 2, half, 2);
    put(f, STORE_KEY, 3, valid, 1);
    put(f, STORE_KEY, 4, NULL, 0);
    put(f, STORE_LIST, 5, ended, 1); /* of another kind: whatever it says */
    put(f, STORE_META, 6, ended, 1);
    struct key_sweep *sweep = key_sweep_new(f->loop, f->journal, ROUND_MS, NEXT_MS);
    RUN_UNTIL(f->loop, !is_there(f, STORE_KEY, 1) && !is_there(f, STORE_KEY, 4));
    run_for(f->loop, UINT64_C(3) * ROUND_MS);
    assert_true(is_there(f, STORE_KEY, 2) && is_there(f, STORE_KEY, 3));
    assert_true(is_there(f, STORE_LIST, 5) && is_there(f, STORE_META, 6));
    put(f, STORE_KEY, 1, ended, 1); /* the next round finds it */
    RUN_UNTIL(f->loop, !is_there(f, STORE_KEY, 1));
    journal_stop(TAKE(f->journal));
    key_sweep_free(sweep);
}

static bool any_is_there(struct fixture *f)
{
    for (int i = 0; i < N_SERVERS; i++) {
        if (is_there(f, STORE_KEY, i)) {
            return true;
        }
    }
    return false;
}

static void a_round_takes_as_many_commits_as_it_needs(void **state)
{
    struct fixture *f = *state;
    const int64_t ended[] = {f->now_ms - 1};

    for (int i = 0; i < N_SERVERS; i++) {
        put(f, STORE_KEY, i, ended, 1);
    }
    struct key_sweep *sweep = key_sweep_new(f->loop, f->journal, ROUND_MS, NEXT_MS);
    RUN_UNTIL(f->loop, !any_is_there(f));
    journal_stop(TAKE(f->journal));
    key_sweep_free(sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_has_ended_goes_and_nothing_else, setup, teardown),
        cmocka_unit_test_setup_teardown(a_round_takes_as_many_commits_as_it_needs, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
