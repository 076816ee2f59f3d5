#include "store/store.h"

#include "store/store_write.h"
#include "store_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum {
    MAP_BYTES = 1 << 20,
    FULL_VALUE = 1500,  /* bytes of a record when the map is filled */
    FILE_MAX = 1 << 20, /* bytes of LMDB's file that are searched */
};

struct fixture {
    struct store_dir dir;
    struct metrics metrics;
    struct store *store;
    struct store_reader *reader;
};

static void open_store(struct fixture *f)
{
    assert_int_equal(store_open(&f->store, f->dir.path, MAP_BYTES), ERR_OK);
    assert_int_equal(store_reader_new(&f->reader, f->store, &f->metrics), ERR_OK);
}

static void close_store(struct fixture *f)
{
    store_reader_free(f->reader);
    store_close(f->store);
    f->reader = NULL;
    f->store = NULL;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    CHECK(f != NULL);
    store_dir_make(&f->dir);
    open_store(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    close_store(f);
    store_dir_remove(&f->dir);
    free(f);
    return 0;
}

static struct store_key key_of(uint32_t i)
{
    const struct span parts[] = {SPAN_LIT("a.example"), span_of(&i, sizeof i)};
    struct store_key key;

    store_key_make(&key, STORE_LIST, parts, 2);
    return key;
}

/* One ticket: a put, or a delete if value.data is NULL. */
static enum err change(struct fixture *f, uint32_t i, struct span value)
{
    struct store_key key = key_of(i);
    struct store_txn *txn = NULL;

    assert_int_equal(store_txn_begin(&txn, f->store, STORE_TXN_NESTED, &f->metrics), ERR_OK);
    assert_int_equal(store_txn_ticket_begin(txn), ERR_OK);
    if (value.data != NULL) {
        store_txn_put(txn, &key, value);
    } else {
        store_txn_delete(txn, &key);
    }
    enum err result = store_txn_ticket_end(txn, ERR_OK);
    assert_int_equal(store_txn_commit(txn), ERR_OK);
    return result;
}

static enum err get_is(struct fixture *f, uint32_t i, struct span want)
{
    struct store_key key = key_of(i);
    struct span got;

    assert_int_equal(store_reader_begin(f->reader), ERR_OK);
    enum err result = store_get(&got, f->reader, &key);
    if (result == ERR_OK) {
        assert_true(span_equal(got, want));
    }
    store_reader_end(f->reader);
    return result;
}

static void a_record_survives_a_restart(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(change(f, 1, SPAN_LIT("one")), ERR_OK);
    assert_int_equal(change(f, 2, span_of("", 0)), ERR_OK);
    close_store(f);
    open_store(f);
    assert_int_equal(get_is(f, 1, SPAN_LIT("one")), ERR_OK);
    assert_int_equal(get_is(f, 2, SPAN_LIT("")), ERR_OK);
    assert_int_equal(get_is(f, 3, SPAN_LIT("")), ERR_NOT_FOUND);
    assert_int_equal(change(f, 1, (struct span){0}), ERR_OK);
    assert_int_equal(change(f, 1, (struct span){0}), ERR_OK);
    assert_int_equal(get_is(f, 1, SPAN_LIT("")), ERR_NOT_FOUND);
}

static void keys_differ_by_kind_and_by_where_a_part_ends(void **state)
{
    const struct span a[] = {SPAN_LIT("ab"), SPAN_LIT("c")};
    const struct span b[] = {SPAN_LIT("a"), SPAN_LIT("bc")};
    struct store_key keys[3];

    (void)state;
    store_key_make(&keys[0], STORE_LIST, a, 2);
    store_key_make(&keys[1], STORE_LIST, b, 2);
    store_key_make(&keys[2], STORE_KEY, a, 2);
    assert_memory_not_equal(&keys[0], &keys[1], sizeof keys[0]);
    assert_memory_not_equal(&keys[0], &keys[2], sizeof keys[0]);
    assert_memory_equal(keys[0].bytes + 1, keys[2].bytes + 1, STORE_KEY_SIZE - 1);
}

static void a_reader_sees_one_state_until_it_ends(void **state)
{
    struct fixture *f = *state;
    struct store_key key = key_of(1);
    struct span got;

    assert_int_equal(store_reader_begin(f->reader), ERR_OK);
    assert_true(store_reader_is_open(f->reader));
    assert_int_equal(change(f, 1, SPAN_LIT("new")), ERR_OK);
    assert_int_equal(store_get(&got, f->reader, &key), ERR_NOT_FOUND);
    store_reader_end(f->reader);
    assert_false(store_reader_is_open(f->reader));
    assert_int_equal(get_is(f, 1, SPAN_LIT("new")), ERR_OK);
}

/* Replaces every place in LMDB's file that holds these bytes, while the store is closed. */
static void patch_file(const struct store_dir *dir, struct span from, struct span to)
{
    char *text = malloc(FILE_MAX);
    FILE *file = fopen(dir->data, "r+be");
    int n_patched = 0;

    CHECK(text != NULL && file != NULL && from.size == to.size);
    size_t size = fread(text, 1, FILE_MAX, file);
    for (size_t i = 0; i + from.size <= size; i++) {
        if (memcmp(text + i, from.data, from.size) == 0) {
            memcpy(text + i, to.data, to.size);
            n_patched++;
        }
    }
    assert_true(n_patched > 0);
    CHECK(fseek(file, 0, SEEK_SET) == 0);
    CHECK(fwrite(text, 1, size, file) == size && fclose(file) == 0);
    free(text);
}

static void a_record_whose_checksum_does_not_match_is_corrupt_and_counted(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(change(f, 1, SPAN_LIT("the bytes as written")), ERR_OK);
    assert_int_equal(change(f, 2, SPAN_LIT("a neighbour")), ERR_OK);
    close_store(f);
    patch_file(&f->dir, SPAN_LIT("bytes as written"), SPAN_LIT("bytes as wr1tten"));
    open_store(f);
    assert_int_equal(get_is(f, 1, SPAN_LIT("")), ERR_CORRUPT);
    assert_int_equal(atomic_load(&f->metrics.counters[COUNTER_store_corrupt_total]), 1);
    assert_int_equal(get_is(f, 2, SPAN_LIT("a neighbour")), ERR_OK);
    assert_int_equal(change(f, 1, SPAN_LIT("mended")), ERR_OK);
    assert_int_equal(get_is(f, 1, SPAN_LIT("mended")), ERR_OK);
}

struct sealed {
    uint8_t bytes[RECORD_CHECKSUM_SIZE + 1];
};

static struct sealed version_record(char version)
{
    struct sealed record;

    record_seal(record.bytes, span_of(&version, 1));
    record.bytes[RECORD_CHECKSUM_SIZE] = (uint8_t)version;
    return record;
}

static void an_unknown_schema_version_is_refused_and_left_as_it_is(void **state)
{
    struct fixture *f = *state;
    struct sealed known = version_record('0' + STORE_SCHEMA_VERSION);
    struct sealed unknown = version_record('9');
    struct sealed damaged = known;
    struct store *store = NULL;

    damaged.bytes[0] ^= 1;
    close_store(f);
    patch_file(&f->dir, span_of(&known, sizeof known), span_of(&unknown, sizeof unknown));
    assert_int_equal(store_open(&store, f->dir.path, MAP_BYTES), ERR_CONFIG);
    assert_int_equal(store_open(&store, f->dir.path, MAP_BYTES), ERR_CONFIG);
    patch_file(&f->dir, span_of(&unknown, sizeof unknown), span_of(&damaged, sizeof damaged));
    assert_int_equal(store_open(&store, f->dir.path, MAP_BYTES), ERR_CONFIG);
    assert_null(store);
    patch_file(&f->dir, span_of(&damaged, sizeof damaged), span_of(&known, sizeof known));
    open_store(f);
}

static void a_store_that_cannot_be_opened_is_an_error(void **state)
{
    struct store *store = NULL;

    (void)state;
    assert_int_equal(store_open(&store, "/proc/no/such/place", MAP_BYTES), ERR_IO);
    assert_null(store);
}

static void a_full_map_refuses_new_records_while_old_ones_settle(void **state)
{
    struct fixture *f = *state;
    static const char filler[FULL_VALUE] = "x";
    struct span value = span_of(filler, sizeof filler);
    uint32_t n = 0;

    while (n < MAP_BYTES / FULL_VALUE && change(f, n, value) == ERR_OK) {
        n++;
    }
    /* Pages are a half to all full of records, and 90 % of the pages are to be used. */
    assert_in_range(n, MAP_BYTES / FULL_VALUE / 3, MAP_BYTES / FULL_VALUE * 9 / 10);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(change(f, i, span_of(filler, FULL_VALUE - 1)), ERR_OK);
    }
    assert_int_equal(change(f, n, value), ERR_FULL);
    assert_int_equal(get_is(f, n, value), ERR_NOT_FOUND);
    for (uint32_t i = 0; i < n / 4; i++) {
        assert_int_equal(change(f, i, (struct span){0}), ERR_OK);
    }
    assert_int_equal(change(f, n, value), ERR_OK);
    assert_int_equal(get_is(f, n, value), ERR_OK);
    assert_false(store_failed(f->store));
}

static void a_ticket_is_kept_or_undone_as_a_whole(void **state)
{
    struct fixture *f = *state;
    struct store_key keys[] = {key_of(1), key_of(2)};
    struct store_txn *txn = NULL;
    struct span got;

    assert_int_equal(store_txn_begin(&txn, f->store, STORE_TXN_NESTED, &f->metrics), ERR_OK);
    assert_int_equal(store_txn_ticket_begin(txn), ERR_OK);
    store_txn_put(txn, &keys[0], SPAN_LIT("kept"));
    assert_int_equal(store_txn_get(&got, txn, &keys[0]), ERR_OK);
    assert_int_equal(store_txn_ticket_end(txn, ERR_OK), ERR_OK);
    assert_int_equal(store_txn_ticket_begin(txn), ERR_OK);
    store_txn_put(txn, &keys[0], SPAN_LIT("undone"));
    store_txn_put(txn, &keys[1], SPAN_LIT("undone"));
    assert_int_equal(store_txn_ticket_end(txn, ERR_CONFIG), ERR_CONFIG);
    assert_false(store_txn_is_spoilt(txn));
    assert_int_equal(store_txn_commit(txn), ERR_OK);
    assert_int_equal(get_is(f, 1, SPAN_LIT("kept")), ERR_OK);
    assert_int_equal(get_is(f, 2, SPAN_LIT("")), ERR_NOT_FOUND);
}

static void of_tickets_kept_together_one_that_fails_after_a_change_spoils_all(void **state)
{
    struct fixture *f = *state;
    struct store_key keys[] = {key_of(1), key_of(2)};
    struct store_txn *txn = NULL;
    struct span got;

    assert_int_equal(store_txn_begin(&txn, f->store, STORE_TXN_TOGETHER, &f->metrics), ERR_OK);
    assert_int_equal(store_txn_ticket_begin(txn), ERR_OK);
    store_txn_put(txn, &keys[0], SPAN_LIT("one"));
    assert_int_equal(store_txn_ticket_end(txn, ERR_OK), ERR_OK);
    assert_int_equal(store_txn_ticket_begin(txn), ERR_OK);
    assert_int_equal(store_txn_get(&got, txn, &keys[0]), ERR_OK);
    assert_int_equal(store_txn_ticket_end(txn, ERR_CONFIG), ERR_CONFIG); /* nothing to undo */
    assert_false(store_txn_is_spoilt(txn));
    assert_int_equal(store_txn_ticket_begin(txn), ERR_OK);
    store_txn_put(txn, &keys[1], SPAN_LIT("two"));
    assert_int_equal(store_txn_ticket_end(txn, ERR_CONFIG), ERR_CONFIG);
    assert_true(store_txn_is_spoilt(txn));
    store_txn_abort(txn);
    assert_int_equal(get_is(f, 1, SPAN_LIT("")), ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_record_survives_a_restart, setup, teardown),
        cmocka_unit_test(keys_differ_by_kind_and_by_where_a_part_ends),
        cmocka_unit_test_setup_teardown(a_reader_sees_one_state_until_it_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_record_whose_checksum_does_not_match_is_corrupt_and_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unknown_schema_version_is_refused_and_left_as_it_is,
                                        setup, teardown),
        cmocka_unit_test(a_store_that_cannot_be_opened_is_an_error),
        cmocka_unit_test_setup_teardown(a_full_map_refuses_new_records_while_old_ones_settle, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_ticket_is_kept_or_undone_as_a_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(
            of_tickets_kept_together_one_that_fails_after_a_change_spoils_all, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
