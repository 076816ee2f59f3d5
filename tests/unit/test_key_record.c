#include "inbound/key_record.h"

#include "proto/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { DAY_MS = 24 * 3600 * 1000, WEEK_MS = 7 * DAY_MS };

#define NOW_MS INT64_C(1700000000000)
#define SERVER SPAN_LIT("b.example:8448")
#define ID_85                                                                                      \
    "iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii"
#define LONG_ID ID_85 ID_85 ID_85

struct keys {
    struct verify_key keys[KEY_DOCUMENT_KEYS_MAX];
    char ids[KEY_DOCUMENT_KEYS_MAX][24];
};

static struct key_document document_of(struct keys *keys, uint32_t n, int64_t valid_until_ts)
{
    for (uint32_t i = 0; i < n; i++) {
        snprintf(keys->ids[i], sizeof keys->ids[i], "ed25519:%u", i);
        keys->keys[i].key_id = span_str(keys->ids[i]);
        memset(keys->keys[i].key, (int)i, sizeof keys->keys[i].key);
        keys->keys[i].is_banned = i % 3 == 1;
    }
    return (struct key_document){
        .server_name = SERVER, .valid_until_ts = valid_until_ts, .keys = keys->keys, .n_keys = n};
}

static void a_key_is_valid_to_the_documents_end_and_no_longer_than_the_cap(void **state)
{
    static const struct {
        const char *name;
        int64_t valid_until_ts;
        int64_t until_ms; /* 0: none is valid */
    } rows[] = {
        {"a day", NOW_MS + DAY_MS, NOW_MS + DAY_MS},
        {"a week and a little", NOW_MS + WEEK_MS + 1, NOW_MS + WEEK_MS},
        {"for ever", INT64_C(9007199254740991), NOW_MS + WEEK_MS},
        {"to this moment", NOW_MS, NOW_MS},
        {"to the one before", NOW_MS - 1, 0},
        {"to long ago", 0, 0},
        {"to a time before 1970", -INT64_C(9007199254740991), 0},
    };
    struct keys keys;
    struct key_record record;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct key_document document = document_of(&keys, 1, rows[i].valid_until_ts);
        bool is_valid = key_record_from_document(&record, &document, NOW_MS, WEEK_MS);
        if (is_valid != (rows[i].until_ms != 0) ||
            (is_valid && record.keys[0].valid_until_ms != rows[i].until_ms)) {
            fail_msg("row failed: %s", rows[i].name);
        }
    }
}

static void a_key_is_found_by_its_id_until_it_ends(void **state)
{
    struct keys keys;
    struct key_document document = document_of(&keys, 2, NOW_MS + DAY_MS);
    struct key_record record;

    (void)state;
    assert_true(key_record_from_document(&record, &document, NOW_MS, WEEK_MS));
    assert_ptr_equal(key_record_find(&record, SPAN_LIT("ed25519:1"), NOW_MS), &record.keys[1]);
    assert_non_null(key_record_find(&record, SPAN_LIT("ed25519:1"), NOW_MS + DAY_MS));
    assert_null(key_record_find(&record, SPAN_LIT("ed25519:1"), NOW_MS + DAY_MS + 1));
    assert_null(key_record_find(&record, SPAN_LIT("ed25519:2"), NOW_MS));
    assert_null(key_record_find(&record, SPAN_LIT(""), NOW_MS));
}

static void a_key_with_an_id_too_long_to_keep_is_left_out(void **state)
{
    struct keys keys;
    struct key_document document = document_of(&keys, 2, NOW_MS + DAY_MS);
    struct key_record record;

    (void)state;
    keys.keys[0].key_id = SPAN_LIT(LONG_ID);
    assert_true(key_record_from_document(&record, &document, NOW_MS, WEEK_MS));
    assert_int_equal(record.n_keys, 2);
    keys.keys[0].key_id = SPAN_LIT(LONG_ID "i");
    assert_true(key_record_from_document(&record, &document, NOW_MS, WEEK_MS));
    assert_int_equal(record.n_keys, 1);
    assert_true(span_equal(record.keys[0].key_id, SPAN_LIT("ed25519:1")));
    document.n_keys = 1;
    assert_false(key_record_from_document(&record, &document, NOW_MS, WEEK_MS));
}

static void encode(struct writer *w, struct keys *keys, uint32_t n_keys)
{
    struct key_document document = document_of(keys, n_keys, NOW_MS + DAY_MS);
    struct key_record record;

    writer_init(w, KEY_RECORD_MAX);
    CHECK(key_record_from_document(&record, &document, NOW_MS, WEEK_MS));
    key_record_encode(w, &record);
    assert_false(w->failed);
}

static void what_was_encoded_decodes_to_the_same(void **state)
{
    struct key_record record;
    struct keys keys;
    struct writer w;

    (void)state;
    for (uint32_t n = 1; n <= KEY_DOCUMENT_KEYS_MAX; n++) {
        encode(&w, &keys, n);
        assert_true(key_record_decode(&record, writer_span(&w)));
        assert_true(span_equal(record.server, SERVER));
        assert_int_equal(record.n_keys, n);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(span_equal(record.keys[i].key_id, keys.keys[i].key_id));
            assert_memory_equal(record.keys[i].key, keys.keys[i].key, ED25519_KEY_SIZE);
            assert_int_equal(record.keys[i].valid_until_ms, NOW_MS + DAY_MS);
            assert_int_equal(record.keys[i].is_banned, i % 3 == 1);
        }
        writer_fini(&w);
    }
}

static void the_longest_record_fits(void **state)
{
    static const struct key_record_key longest = {.key_id = SPAN_INIT(LONG_ID)};
    struct key_record record = {.server = SPAN_LIT(LONG_ID), .n_keys = KEY_DOCUMENT_KEYS_MAX};
    struct key_record again;
    struct writer w;

    (void)state;
    for (uint32_t i = 0; i < record.n_keys; i++) {
        record.keys[i] = longest;
    }
    writer_init(&w, KEY_RECORD_MAX);
    key_record_encode(&w, &record);
    assert_false(w.failed);
    assert_int_equal(w.size, KEY_RECORD_MAX);
    assert_true(key_record_decode(&again, writer_span(&w)));
    writer_fini(&w);
}

static void a_record_that_is_cut_or_longer_is_none(void **state)
{
    struct key_record record;
    struct keys keys;
    struct writer w;

    (void)state;
    encode(&w, &keys, 2);
    for (size_t size = 0; size < w.size; size++) {
        if (key_record_decode(&record, span_of(w.data, size))) {
            fail_msg("%zu bytes of %zu decode", size, w.size);
        }
    }
    w.max++;
    writer_char(&w, 'x');
    assert_false(key_record_decode(&record, writer_span(&w)));
    assert_false(key_record_decode(&record, (struct span){0}));
    writer_fini(&w);
}

static void what_is_never_written_is_refused(void **state)
{
    enum { AT_VERSION = 0, AT_NAME = 2, AT_N_KEYS = 16, AT_BAN = AT_N_KEYS + 51 };
    static const struct {
        const char *name;
        size_t at;
        char byte;
    } rows[] = {
        {"another version", AT_VERSION, 2},
        {"a name that is none", AT_NAME, ' '},
        {"an empty name", 1, 0},
        {"no keys", AT_N_KEYS, 0},
        {"fewer keys", AT_N_KEYS, 1},
        {"more keys", AT_N_KEYS, 3},
        {"too many keys", AT_N_KEYS, 33},
        {"an empty id", AT_N_KEYS + 1, 0},
        {"an id to the end", AT_N_KEYS + 1, -1},
        {"a ban that is neither", AT_BAN, 2},
        {"another that is neither", AT_BAN, -1},
    };
    struct key_record record;
    struct keys keys;
    struct writer w;

    (void)state;
    encode(&w, &keys, 2);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char before = w.data[rows[i].at];
        assert_int_not_equal(before, rows[i].byte);
        w.data[rows[i].at] = rows[i].byte;
        if (key_record_decode(&record, writer_span(&w))) {
            fail_msg("row failed: %s", rows[i].name);
        }
        w.data[rows[i].at] = before;
    }
    assert_true(key_record_decode(&record, writer_span(&w)));
    writer_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_valid_to_the_documents_end_and_no_longer_than_the_cap),
        cmocka_unit_test(a_key_is_found_by_its_id_until_it_ends),
        cmocka_unit_test(a_key_with_an_id_too_long_to_keep_is_left_out),
        cmocka_unit_test(what_was_encoded_decodes_to_the_same),
        cmocka_unit_test(the_longest_record_fits),
        cmocka_unit_test(a_record_that_is_cut_or_longer_is_none),
        cmocka_unit_test(what_is_never_written_is_refused),
    };

    return cmocka_run_group_tests_name("key_record", tests, NULL, NULL);
}
