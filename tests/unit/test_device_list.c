#include "lists/device_list.h"

#include "lists_build.h"

#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { ARENA_CAP = 1 << 20, NONE = DEVICE_LIST_NO_POSITION };

static int setup(void **state)
{
    static struct arena arena;

    arena_init(&arena, ARENA_CAP);
    *state = &arena;
    return 0;
}

static int teardown(void **state)
{
    arena_fini(*state);
    return 0;
}

static bool is_hash(const struct dlh *hash, const char *device)
{
    struct dlh want = hash_of(device);

    return memcmp(hash, &want, sizeof want) == 0;
}

static struct device_list apply_ok(struct arena *arena, const struct device_list *old,
                                   const char *device, int64_t position)
{
    struct list_update update = update_of(arena, device, position, 1000 + position);
    struct device_list next;

    assert_int_equal(device_list_apply(&next, old, &update), LIST_STORED);
    return next;
}

struct row {
    const char *name;
    int64_t old_position, old_started_ms;
    bool old_pushed;
    enum list_source source;
    const char *device; /* the old list has "A" */
    int64_t position, started_ms;
    enum list_applied want;
};

static const struct row rows[] = {
    {"a later position is stored", 5, 100, false, LIST_SOURCE_READ, "B", 6, 200, LIST_STORED},
    {"a lower position is a lagging reader's", 5, 100, false, LIST_SOURCE_READ, "B", 4, 200,
     LIST_KEPT},
    {"the same position, read later, is stored", 5, 100, false, LIST_SOURCE_READ, "B", 5, 200,
     LIST_STORED},
    {"the same position, read earlier, is not", 5, 100, false, LIST_SOURCE_READ, "B", 5, 99,
     LIST_KEPT},
    {"a later position counts though its read began earlier", 5, 100, false, LIST_SOURCE_READ, "B",
     6, 50, LIST_STORED},
    {"without positions the later read is stored", NONE, 100, false, LIST_SOURCE_READ, "B", NONE,
     200, LIST_STORED},
    {"without positions the earlier read is not", NONE, 100, false, LIST_SOURCE_READ, "B", NONE, 99,
     LIST_KEPT},
    {"a read does not replace a pushed list", 5, 100, true, LIST_SOURCE_READ, "B", 9, 200,
     LIST_KEPT},
    {"a push replaces a pushed list", 5, 100, true, LIST_SOURCE_PUSH, "B", NONE, 200, LIST_STORED},
    {"a push replaces a read whatever its position", 5, 100, false, LIST_SOURCE_PUSH, "B", 1, 200,
     LIST_STORED},
};

static void an_update_is_stored_only_if_it_is_newer(void **state)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *row = &rows[i];
        struct list_update first = update_of(*state, "A", row->old_position, row->old_started_ms);
        struct list_update second = update_of(*state, row->device, row->position, row->started_ms);
        struct device_list old;
        struct device_list next;
        first.source = row->old_pushed ? LIST_SOURCE_PUSH : LIST_SOURCE_READ;
        second.source = row->source;
        assert_int_equal(device_list_apply(&old, NULL, &first), LIST_STORED);
        enum list_applied got = device_list_apply(&next, &old, &second);
        if (got != row->want) {
            print_error("row failed: %s\n", row->name);
        }
        assert_int_equal(got, row->want);
        assert_true(is_hash(&next.current, got == LIST_STORED ? row->device : "A"));
        assert_int_equal(next.pushed,
                         got == LIST_STORED ? row->source == LIST_SOURCE_PUSH : row->old_pushed);
        assert_int_equal(next.n_history, got == LIST_STORED ? 1 : 0);
    }
}

static void a_change_puts_the_old_list_into_the_history(void **state)
{
    struct device_list a = apply_ok(*state, NULL, "A", 10);
    struct device_list same = apply_ok(*state, &a, "A", 15);
    struct device_list b = apply_ok(*state, &same, "B", 20);

    assert_int_equal(same.n_history, 0);
    assert_int_equal(same.first_position, 10);
    assert_int_equal(same.position, 15);
    assert_int_equal(same.changed_ms, a.changed_ms);
    assert_int_equal(same.read_started_ms, 1015);
    assert_int_equal(b.n_history, 1);
    assert_true(is_hash(&b.history[0].hash, "A"));
    assert_int_equal(b.history[0].last_true, 15);
    assert_int_equal(b.history[0].first_replaced, 20);
    assert_int_equal(b.history[0].when_ms, 1025);
    assert_int_equal(b.first_position, 20);
    assert_int_equal(b.changed_ms, 1025);
}

static void the_history_keeps_the_newest_sixteen(void **state)
{
    struct device_list list = apply_ok(*state, NULL, "D0", 0);
    char device[16];

    for (int i = 1; i <= 20; i++) {
        snprintf(device, sizeof device, "D%d", i);
        struct device_list next = apply_ok(*state, &list, device, i);
        list = next;
    }
    assert_int_equal(list.n_history, DEVICE_LIST_HISTORY_MAX);
    assert_true(is_hash(&list.history[0].hash, "D19"));
    assert_true(is_hash(&list.history[DEVICE_LIST_HISTORY_MAX - 1].hash, "D4"));
}

static void a_record_decodes_to_what_was_encoded_and_no_prefix_does(void **state)
{
    struct device_list a = apply_ok(*state, NULL, "A", 10);
    struct device_list b = apply_ok(*state, &a, "B", 20);
    struct device_list got;
    struct device_hash device;
    struct writer w;

    writer_init(&w, DEVICE_LIST_RECORD_MAX);
    b.pushed = true;
    device_list_encode(&w, &b);
    assert_false(w.failed);
    struct span record = writer_span(&w);
    assert_true(device_list_decode(&got, record));
    assert_true(span_equal(got.server, LISTS_SERVER) && span_equal(got.user_id, LISTS_USER));
    assert_true(got.pushed && is_hash(&got.current, "B"));
    assert_int_equal(got.position, 20);
    assert_int_equal(got.first_position, 20);
    assert_int_equal(got.read_started_ms, b.read_started_ms);
    assert_int_equal(got.changed_ms, b.changed_ms);
    assert_int_equal(got.sum.n, 1);
    assert_int_equal(got.n_history, 1);
    assert_memory_equal(&got.history[0], &b.history[0], sizeof got.history[0]);
    assert_true(device_list_next_device(&device, &got.devices));
    assert_true(span_equal(device.device_id, SPAN_LIT("B")));
    assert_false(device_list_next_device(&device, &got.devices));
    for (size_t size = 0; size < record.size; size++) {
        assert_false(device_list_decode(&got, span_of(record.data, size)));
    }
    writer_char(&w, 0);
    assert_false(device_list_decode(&got, writer_span(&w)));
    writer_fini(&w);
}

static void a_record_whose_devices_do_not_make_its_hash_is_refused(void **state)
{
    struct device_list list = apply_ok(*state, NULL, "A", 10);
    struct device_list got;
    struct writer w;

    writer_init(&w, DEVICE_LIST_RECORD_MAX);
    list.current = hash_of("B");
    device_list_encode(&w, &list);
    assert_false(device_list_decode(&got, writer_span(&w)));
    writer_reset(&w);
    list.current = hash_of("A");
    device_list_encode(&w, &list);
    assert_true(device_list_decode(&got, writer_span(&w)));
    w.data[0] = 2; /* another version of the record */
    assert_false(device_list_decode(&got, writer_span(&w)));
    writer_fini(&w);
}

static void devices_without_keys_do_not_enter_and_too_many_have_no_hash(void **state)
{
    enum { N = DLH_DEVICES_MAX + 1 };
    static struct device_entry entries[N];
    static char ids[N][8];
    struct device_list_answer answer = {.user_id = LISTS_USER, .devices = entries, .n_devices = N};
    struct list_update update;

    for (size_t i = 0; i < N; i++) {
        int size = snprintf(ids[i], sizeof ids[i], "%zu", i);
        entries[i] =
            (struct device_entry){.device_id = span_of(ids[i], (size_t)size), .counts = true};
    }
    assert_false(list_update_from_answer(&update, *state, &answer));
    entries[0].counts = false;
    assert_true(list_update_from_answer(&update, *state, &answer));
    assert_int_equal(update.sum.n, DLH_DEVICES_MAX);
    assert_int_equal(update.position, NONE);
    struct arena small;
    arena_init(&small, 1024);
    assert_false(list_update_from_answer(&update, &small, &answer));
    arena_fini(&small);
}

static void the_empty_list_is_a_list(void **state)
{
    struct device_list_answer answer = {
        .user_id = LISTS_USER, .has_stream_id = true, .stream_id = 3};
    struct list_update update;
    struct device_list list;
    struct device_list got;
    struct writer w;

    assert_true(list_update_from_answer(&update, *state, &answer));
    assert_int_equal(device_list_apply(&list, NULL, &update), LIST_STORED);
    writer_init(&w, DEVICE_LIST_RECORD_MAX);
    device_list_encode(&w, &list);
    assert_true(device_list_decode(&got, writer_span(&w)));
    assert_int_equal(got.sum.n, 0);
    writer_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_update_is_stored_only_if_it_is_newer),
        cmocka_unit_test(a_change_puts_the_old_list_into_the_history),
        cmocka_unit_test(the_history_keeps_the_newest_sixteen),
        cmocka_unit_test(a_record_decodes_to_what_was_encoded_and_no_prefix_does),
        cmocka_unit_test(a_record_whose_devices_do_not_make_its_hash_is_refused),
        cmocka_unit_test(devices_without_keys_do_not_enter_and_too_many_have_no_hash),
        cmocka_unit_test(the_empty_list_is_a_list),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
